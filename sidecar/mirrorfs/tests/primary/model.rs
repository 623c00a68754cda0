//! Steps of a random history, and the plain directory that says what they ought to do.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags, chmodat, chownat, fallocate, ftruncate, linkat, mkdirat, mknodat, openat, removexattr, renameat_with,
    setxattr, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, pwrite, write};
use tempfile::TempDir;

/// A place of few: a name in the root, in a directory of it, or one deeper.
#[derive(Clone, Debug)]
pub struct At {
    pub directory: Vec<&'static str>,
    pub name: &'static str,
}

impl At {
    /// As a path below the root.
    pub fn path(&self) -> String {
        let mut parts = self.directory.clone();
        parts.push(self.name);
        parts.join("/")
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Step {
    Create(At),
    Mkdir(At),
    Symlink(At),
    Link(At, At),
    Unlink(At),
    Rmdir(At),
    Rename(At, At, u32),
    Write(At, u64, Vec<u8>),
    Truncate(At, u64),
    Punch(At, u64, u64),
    Chmod(At, u32),
    Xattr(At, Vec<u8>),
    RemoveXattr(At),
    Fifo(At),
    /// Of anything, also of a symbolic link itself.
    Chown(At, u32, u32),
    /// Modification time, in seconds and nanoseconds; of anything.
    Times(At, i64, i64),
    /// `O_APPEND`: where the file ends, whoever wrote last.
    Append(At, Vec<u8>),
    /// `fallocate(2)` with this mode.
    Allocate(At, FallocateFlags, u64, u64),
    /// Open a file that later steps write to, whatever its names become.
    Open(At),
    /// Write to what was opened last.
    WriteOpen(u64, Vec<u8>),
    /// Shorten or lengthen what was opened last; it may have no name any more.
    TruncateOpen(u64),
}

/// In whole blocks, as what moves ranges asks for.
const BLOCK: u64 = 4096;

/// Names, some of which serve as directories as well as files.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn at() -> impl Strategy<Value = At> {
    let name = || prop::sample::select(&NAMES[..]);
    (vec(prop::sample::select(&NAMES[3..]), 0..3), name()).prop_map(|(directory, name)| At { directory, name })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Large pieces make several blocks; a byte repeated says enough of where it came from.
    (any::<u8>(), prop_oneof![1..200_usize, 60_000..200_000_usize]).prop_map(|(byte, length)| vec![byte; length])
}

fn offset() -> impl Strategy<Value = u64> {
    // The last ones make a file a large one for the journal.
    prop_oneof![4 => 0..1000_u64, 4 => 0..400_000_u64, 1 => 900_000..6_000_000_u64]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => at().prop_map(Step::Create),
        4 => at().prop_map(Step::Mkdir),
        1 => at().prop_map(Step::Symlink),
        2 => (at(), at()).prop_map(|(from, to)| Step::Link(from, to)),
        2 => at().prop_map(Step::Unlink),
        1 => at().prop_map(Step::Rmdir),
        3 => (at(), at(), prop::sample::select(vec![0, 0, 0, 1, 2])).prop_map(|(a, b, flags)| Step::Rename(a, b, flags)),
        6 => (at(), offset(), bytes()).prop_map(|(at, offset, data)| Step::Write(at, offset, data)),
        2 => (at(), offset()).prop_map(|(at, size)| Step::Truncate(at, size)),
        1 => (at(), offset(), 1..100_000_u64).prop_map(|(at, offset, length)| Step::Punch(at, offset, length)),
        1 => (at(), prop::sample::select(vec![0o600, 0o644, 0o755, 0o6755])).prop_map(|(at, mode)| Step::Chmod(at, mode)),
        1 => (at(), vec(any::<u8>(), 0..50)).prop_map(|(at, value)| Step::Xattr(at, value)),
        1 => at().prop_map(Step::RemoveXattr),
        1 => at().prop_map(Step::Fifo),
        1 => (at(), 0..3_u32, 0..3_u32).prop_map(|(at, uid, gid)| Step::Chown(at, uid, gid)),
        1 => (at(), 0..2_000_000_000_i64, 0..1_000_000_000_i64).prop_map(|(at, sec, nsec)| Step::Times(at, sec, nsec)),
        2 => (at(), bytes()).prop_map(|(at, data)| Step::Append(at, data)),
        2 => (at(), prop::sample::select(allocations()), 0..100_u64, 1..20_u64)
            .prop_map(|(at, mode, first, count)| Step::Allocate(at, mode, first * BLOCK, count * BLOCK)),
        2 => at().prop_map(Step::Open),
        2 => (offset(), bytes()).prop_map(|(offset, data)| Step::WriteOpen(offset, data)),
        1 => offset().prop_map(Step::TruncateOpen),
    ]
}

/// Those that reserve, those that empty, and those that move what is behind them.
fn allocations() -> Vec<FallocateFlags> {
    vec![
        FallocateFlags::empty(),
        FallocateFlags::KEEP_SIZE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
    ]
}

/// A random history.
pub fn steps(count: Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), count)
}

/// A plain directory.
pub struct Plain {
    root: TempDir,
    open: Mutex<HashMap<(), OwnedFd>>,
}

impl Plain {
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), open: Mutex::default() }
    }

    /// Nothing is open any more.
    pub fn close(&self) {
        self.open.lock().unwrap().clear();
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    fn open_regular(&self, at: &At) -> Result<OwnedFd, Errno> {
        let path = self.full(at);
        match FileType::from_raw_mode(statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
            FileType::RegularFile => openat(CWD, &path, OFlags::RDWR | OFlags::NOFOLLOW, Mode::empty()),
            // The mirror's steps refuse the same way: nothing but files is written to.
            _ => Err(Errno::INVAL),
        }
    }

    fn full(&self, at: &At) -> String {
        format!("{}/{}", self.path().display(), at.path())
    }

    /// What the step answers here.
    pub fn apply(&self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::Create(at) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                openat(CWD, self.full(at), flags, Mode::from_bits_retain(0o644)).map(drop)
            }
            Step::Mkdir(at) => mkdirat(CWD, self.full(at), Mode::from_bits_retain(0o755)),
            Step::Symlink(at) => symlinkat("somewhere", CWD, self.full(at)),
            Step::Link(from, to) => linkat(CWD, self.full(from), CWD, self.full(to), AtFlags::empty()),
            Step::Unlink(at) => unlinkat(CWD, self.full(at), AtFlags::empty()),
            Step::Rmdir(at) => unlinkat(CWD, self.full(at), AtFlags::REMOVEDIR),
            Step::Rename(from, to, flags) => {
                renameat_with(CWD, self.full(from), CWD, self.full(to), RenameFlags::from_bits_retain(*flags))
            }
            Step::Write(at, offset, data) => pwrite(self.open_regular(at)?, data, *offset).map(drop),
            Step::Truncate(at, size) => ftruncate(self.open_regular(at)?, *size),
            Step::Punch(at, offset, length) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(self.open_regular(at)?, flags, *offset, *length)
            }
            Step::Chmod(at, mode) => {
                self.open_regular(at)?;
                chmodat(CWD, self.full(at), Mode::from_bits_retain(*mode), AtFlags::empty())
            }
            Step::Xattr(at, value) => {
                self.open_regular(at)?;
                setxattr(self.full(at), "user.test", value, XattrFlags::empty())
            }
            Step::RemoveXattr(at) => {
                self.open_regular(at)?;
                removexattr(self.full(at), "user.test")
            }
            Step::Fifo(at) => mknodat(CWD, self.full(at), FileType::Fifo, Mode::from_bits_retain(0o640), 0),
            Step::Chown(at, uid, gid) => {
                let (uid, gid) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
                chownat(CWD, self.full(at), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
            Step::Times(at, sec, nsec) => {
                let times = Timestamps {
                    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                    last_modification: Timespec { tv_sec: *sec, tv_nsec: *nsec },
                };
                utimensat(CWD, self.full(at), &times, AtFlags::SYMLINK_NOFOLLOW)
            }
            Step::Append(at, data) => {
                self.open_regular(at)?;
                let file = openat(CWD, self.full(at), OFlags::WRONLY | OFlags::APPEND, Mode::empty())?;
                write(file, data).map(drop)
            }
            Step::Allocate(at, mode, offset, length) => fallocate(self.open_regular(at)?, *mode, *offset, *length),
            Step::TruncateOpen(size) => match self.open.lock().unwrap().get(&()) {
                Some(file) => ftruncate(file, *size),
                None => Err(Errno::BADF),
            },
            Step::Open(at) => {
                let file = self.open_regular(at)?;
                self.open.lock().unwrap().insert((), file);
                Ok(())
            }
            Step::WriteOpen(offset, data) => match self.open.lock().unwrap().get(&()) {
                Some(file) => pwrite(file, data, *offset).map(drop),
                None => Err(Errno::BADF),
            },
        }
    }
}
