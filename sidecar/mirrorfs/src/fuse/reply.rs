//! Answers to the kernel.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FileType, Stat};
use zerocopy::{Immutable, IntoBytes};

use super::abi::{Attr, AttrOut, Dirent, EntryOut};
use crate::fs::Found;

/// Nobody else changes the tree, so what the kernel knows of it stays true; in seconds.
pub const VALID: u64 = 24 * 3600;

/// Attributes for the kernel.
pub fn attr(stat: &Stat) -> Attr {
    Attr {
        ino: stat.st_ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: stat.st_atime as u64,
        mtime: stat.st_mtime as u64,
        ctime: stat.st_ctime as u64,
        atimensec: stat.st_atime_nsec as u32,
        mtimensec: stat.st_mtime_nsec as u32,
        ctimensec: stat.st_ctime_nsec as u32,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        // The 32-bit encoding of the kernel is the low half of the C library's.
        rdev: stat.st_rdev as u32,
        blksize: stat.st_blksize as u32,
        flags: 0,
    }
}

pub fn attr_out(stat: &Stat) -> AttrOut {
    AttrOut { attr_valid: VALID, attr_valid_nsec: 0, dummy: 0, attr: attr(stat) }
}

pub fn entry_out(found: &Found) -> EntryOut {
    EntryOut {
        nodeid: found.inode.oid,
        generation: 0,
        entry_valid: VALID,
        attr_valid: VALID,
        entry_valid_nsec: 0,
        attr_valid_nsec: 0,
        attr: attr(&found.stat),
    }
}

/// "No such name", to be remembered by the kernel.
pub fn absent() -> EntryOut {
    EntryOut { entry_valid: VALID, ..EntryOut::default() }
}

/// Directory entries in a buffer that ends where the kernel's does.
pub struct Entries<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> Entries<'a> {
    pub fn new(room: &'a mut [u8], limit: usize) -> Self {
        let end = limit.min(room.len());
        Self { buffer: &mut room[..end], length: 0 }
    }

    /// Bytes of all entries.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether an entry of this name still fits, with `extra` bytes before it.
    pub fn fits(&self, name: &[u8], extra: usize) -> bool {
        self.length + extra + (size_of::<Dirent>() + name.len()).next_multiple_of(8) <= self.buffer.len()
    }

    /// Append an entry that fits; `before` is what `readdirplus` puts in front of it.
    pub fn push(&mut self, before: &(impl IntoBytes + Immutable), ino: u64, next: u64, kind: FileType, name: &[u8]) {
        let dirent = Dirent {
            ino,
            off: next,
            namelen: u32::try_from(name.len()).unwrap_or(0),
            // Directory entries carry the type bits of st_mode.
            kind: kind.as_raw_mode() >> 12,
        };
        self.append(before.as_bytes());
        self.append(dirent.as_bytes());
        self.append(name);
        self.append(&[0; 8][..self.length.next_multiple_of(8) - self.length]);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.buffer[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

/// Counts of requests, for the status.
#[derive(Debug, Default)]
pub struct Requests {
    pub total: AtomicUsize,
}

impl Requests {
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }
}
