//! Operations of the replication stream.
//!
//! An operation says what the primary's file system did, in terms of *object ids*: an `Oid` is a number that the
//! primary gives to an inode for the life of one stream. It is never an inode number and never a path, so a rename,
//! a delete-and-recreate or an unlinked open file cannot make an operation hit the wrong file. The secondary learns
//! an id from the operation that creates the object, from [`Op::Bind`] or from [`Op::SyncDir`].
//!
//! Operations carry results, not intentions: the size that a truncate gave, the modification time that a write
//! left behind, the bytes that were written. Applying one twice gives the same tree (collapse and insert range
//! excepted, which is why sequence numbers make every operation apply once).

use std::borrow::Cow;

/// Identity of an object within one stream. `0` is never used.
pub type Oid = u64;
/// Position in the stream; the first operation of a stream is 1.
pub type Seq = u64;

/// A time stamp as `utimensat(2)` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Time {
    pub sec: i64,
    pub nsec: u32,
}

/// A directory entry's place: parent directory and raw name (any bytes but `/` and NUL, at most 255).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub parent: Oid,
    pub name: Vec<u8>,
}

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything `M3` compares, apart from contents and names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    /// File type and permission bits, as `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Device number of a character or block device, else 0.
    pub rdev: u64,
    /// Extended attributes (ACLs included: they are `system.posix_acl_*`), sorted by name.
    pub xattrs: Xattrs,
}

/// One entry of a directory as the primary has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncEntry {
    pub name: Vec<u8>,
    pub oid: Oid,
    pub meta: Meta,
    /// Target of a symbolic link, else empty.
    pub target: Vec<u8>,
    /// Size of a regular file in bytes, else 0.
    pub size: u64,
}

/// What one block of a file holds, so that equal blocks need not cross the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSum {
    /// Not allocated (`SEEK_HOLE`), or past the end of the file.
    Hole,
    /// BLAKE3 of the block's bytes, first 16 of them; a last partial block is hashed as long as it is.
    Data([u8; 16]),
}

/// The generation that a tree belongs to and the ones before it, newest first (see `record.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Lineage {
    pub generation: String,
    pub history: Vec<String>,
}

/// One operation. `dir_mtime` is the parent's modification time after the operation.
///
/// The bulk data of a write are borrowed where they lie: the primary's FUSE buffer when it encodes, the received
/// frame when the secondary decodes, so that a 1 MiB write is copied once on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    // ---- objects
    /// From now on `oid` names the object at `at` (which exists there already).
    Bind {
        oid: Oid,
        at: Place,
    },
    /// `oid` is the root directory of volume number `volume`.
    BindRoot {
        oid: Oid,
        volume: u32,
    },
    /// `oid` will not be used again in this stream. During a resynchronisation an object with more than one link is
    /// not forgotten before `SyncDone`, or its other names could not be recognised as the same object.
    Forget {
        oid: Oid,
    },
    // ---- namespace
    /// Regular file, FIFO, socket, device (`mode` says which).
    Create {
        oid: Oid,
        at: Place,
        meta: Meta,
        dir_mtime: Time,
    },
    Mkdir {
        oid: Oid,
        at: Place,
        meta: Meta,
        dir_mtime: Time,
    },
    Symlink {
        oid: Oid,
        at: Place,
        target: Vec<u8>,
        meta: Meta,
        dir_mtime: Time,
    },
    /// An unnamed file (`O_TMPFILE`); it exists until `Forget` unless `Link` names it.
    Tmpfile {
        oid: Oid,
        parent: Oid,
        meta: Meta,
    },
    Link {
        oid: Oid,
        at: Place,
        dir_mtime: Time,
    },
    /// `keep` is the object when the secondary must keep it alive without a name: the primary has it open still, or
    /// (during a resynchronisation) has other names of it that the secondary may not have yet. Else 0.
    Unlink {
        at: Place,
        keep: Oid,
        dir_mtime: Time,
    },
    Rmdir {
        at: Place,
        dir_mtime: Time,
    },
    /// `flags` as `renameat2(2)`; `keep` as in `Unlink`, for a replaced target.
    Rename {
        from: Place,
        to: Place,
        flags: u32,
        keep: Oid,
        from_mtime: Time,
        to_mtime: Time,
    },
    // ---- contents and attributes
    Write {
        oid: Oid,
        offset: u64,
        data: Cow<'a, [u8]>,
        mtime: Time,
    },
    Truncate {
        oid: Oid,
        size: u64,
        mtime: Time,
    },
    /// `mode` as `fallocate(2)`.
    Fallocate {
        oid: Oid,
        mode: u32,
        offset: u64,
        len: u64,
        mtime: Time,
    },
    Chmod {
        oid: Oid,
        mode: u32,
    },
    Chown {
        oid: Oid,
        uid: u32,
        gid: u32,
        mode: u32,
    },
    Mtime {
        oid: Oid,
        mtime: Time,
    },
    SetXattr {
        oid: Oid,
        name: Vec<u8>,
        value: Vec<u8>,
        mode: u32,
    },
    RemoveXattr {
        oid: Oid,
        name: Vec<u8>,
        mode: u32,
    },
    // ---- durability
    /// Acknowledged apart from the order, when the object is on stable storage.
    Fsync {
        oid: Oid,
        data_only: bool,
    },
    /// `syncfs` of all volumes; acknowledged when done.
    SyncAll,
    // ---- resynchronisation (ordered with everything else)
    /// The directory holds exactly these entries. What is missing is made (empty), what is too much is removed,
    /// every entry is bound to its id; an entry whose id is bound already elsewhere is a hard link to it.
    /// A large directory comes in several of these under one namespace lock: `more` is set in all but the last, and
    /// what is too much is removed with the last. Entries that are not regular files or directories are complete
    /// with it (target, device number, attributes); the attributes of a directory are set by its own `SyncDir`.
    SyncDir {
        oid: Oid,
        meta: Meta,
        entries: Vec<SyncEntry>,
        more: bool,
    },
    /// In an incremental resynchronisation, before the directory's `SyncDir`: it has these entries too, and they are
    /// level already. One that is not there is an error.
    SyncKept {
        oid: Oid,
        names: Vec<Vec<u8>>,
    },
    /// The file has this size; contents follow by `SyncBlock` / `SyncHole`.
    SyncSize {
        oid: Oid,
        size: u64,
    },
    SyncBlock {
        oid: Oid,
        offset: u64,
        data: Cow<'a, [u8]>,
    },
    SyncHole {
        oid: Oid,
        offset: u64,
        len: u64,
    },
    /// Allocated, but never written: reads as zeros.
    SyncPrealloc {
        oid: Oid,
        offset: u64,
        len: u64,
    },
    /// Contents are complete; set the attributes.
    SyncMeta {
        oid: Oid,
        meta: Meta,
    },
    /// The trees are equal as of this position: flush all volumes, then record (lineage, consistent), then acknowledge.
    SyncDone {
        lineage: Lineage,
    },
    // ---- verification: what the primary has at this position of the order. The secondary looks at its own and takes
    // ---- down what differs (`Finding`); nothing is changed.
    /// A comparison begins; what an earlier one found is forgotten.
    CheckBegin {
        run: u64,
    },
    /// The directory has these entries, each with its file type (`S_IFMT` bits); with `more` set, others follow.
    CheckDir {
        oid: Oid,
        entries: Vec<(Vec<u8>, u32)>,
        more: bool,
    },
    /// The object has these attributes, size (regular files), target (symbolic links) and number of names (0 for
    /// directories).
    CheckMeta {
        oid: Oid,
        meta: Meta,
        size: u64,
        target: Vec<u8>,
        links: u32,
    },
    /// Sums of this part of a file in blocks of `CHECK_BLOCK` bytes; none at all when it reads as zeros.
    CheckBlocks {
        oid: Oid,
        offset: u64,
        len: u64,
        sums: Vec<ContentSum>,
    },
}

/// First 16 bytes of BLAKE3 of what reading a block gives; all zero when it reads as zeros, allocated or not.
pub type ContentSum = [u8; 16];

/// Bytes in a block that a verification compares.
pub const CHECK_BLOCK: u64 = 4 << 10;
/// Most bytes that one `CheckBlocks` with sums covers: the order of operations on the file stands still meanwhile.
pub const CHECK_RANGE: u64 = 256 << 10;

/// In what an object differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Difference {
    /// Contents, from an offset on.
    Content = 1,
    Size = 2,
    /// Mode, owner, modification time, extended attributes.
    Attributes = 3,
    /// Target of a symbolic link, device number, number of names.
    Object = 4,
    /// The secondary has no such entry.
    Missing = 5,
    /// The secondary has an entry that the primary has not.
    Surplus = 6,
    /// The entry is of another type.
    Type = 7,
    /// One of the nodes cannot read it.
    Unreadable = 8,
}

impl Difference {
    pub fn from_byte(byte: u8) -> Option<Self> {
        let all = [
            Self::Content,
            Self::Size,
            Self::Attributes,
            Self::Object,
            Self::Missing,
            Self::Surplus,
            Self::Type,
            Self::Unreadable,
        ];
        all.into_iter().find(|difference| *difference as u8 == byte)
    }
}

/// A difference that a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub oid: Oid,
    pub what: Difference,
    /// Of `Content`; else 0.
    pub offset: u64,
    pub len: u64,
    /// The entry of directory `oid`, of what concerns an entry; else empty.
    pub name: Vec<u8>,
    /// For people.
    pub detail: String,
}

impl Op<'_> {
    /// Does it change a tree (names, contents, attributes), rather than only talk about objects or flush them?
    pub fn changes_tree(&self) -> bool {
        !matches!(
            self,
            Self::Bind { .. }
                | Self::BindRoot { .. }
                | Self::Forget { .. }
                | Self::Fsync { .. }
                | Self::SyncAll
                | Self::SyncDone { .. }
                | Self::CheckBegin { .. }
                | Self::CheckDir { .. }
                | Self::CheckMeta { .. }
                | Self::CheckBlocks { .. }
        )
    }
}
