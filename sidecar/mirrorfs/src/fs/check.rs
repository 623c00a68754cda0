//! What a verification asks of the primary's file system: what is there at a position of the order.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, fstat, readlinkat};
use rustix::io::Errno;

use super::Core;
use super::bind::Child;
use super::inode::Inode;
use super::metadata::meta_of;
use crate::op::Op;
use crate::stream::primary::{Mode, Stream, Ticket};

/// Entries of one `CheckDir`; more come in several.
const ENTRIES: usize = 4096;

impl Core {
    /// As [`Self::in_order`], with what only holds while the peer of this epoch's stream is level: what is submitted
    /// to one that is being brought level would be compared with what it lacks still.
    ///
    /// # Errors
    /// `ECANCELED` when the stream is another, or goes nowhere.
    pub fn in_check<T>(
        &self,
        inode: &Arc<Inode>,
        epoch: u64,
        body: impl FnOnce(&Stream) -> Result<T, Errno>,
    ) -> Result<Option<T>, Errno> {
        // A stream begins under the exclusive lock of the namespace, which is held shared here.
        self.in_order(inode, |stream| {
            if stream.mode() == Mode::Mirrored && stream.epoch() == epoch { body(stream) } else { Err(Errno::CANCELED) }
        })
    }

    /// Tell the peer which entries the directory has; `None` when it is gone.
    pub fn check_entries(&self, directory: &Arc<Inode>, epoch: u64) -> Result<Option<(Vec<Child>, Ticket)>, Errno> {
        self.in_check(directory, epoch, |stream| {
            let children = self.children(directory)?;
            let mut rest = children.as_slice();
            loop {
                let (part, after) = rest.split_at(rest.len().min(ENTRIES));
                rest = after;
                let entries = part.iter().map(|child| (child.name.clone(), child.stat.st_mode & 0o170_000)).collect();
                let more = !rest.is_empty();
                let ticket = stream.submit(&Op::CheckDir { oid: directory.oid, entries, more })?;
                if !more {
                    return Ok((children, ticket));
                }
            }
        })
    }

    /// Tell the peer the object's attributes; `None` when it is gone. Returns the size of a regular file, else 0.
    pub fn check_attributes(&self, inode: &Arc<Inode>, epoch: u64) -> Result<Option<(u64, Ticket)>, Errno> {
        if inode.orphan.load(Ordering::Acquire) {
            return Ok(None);
        }
        self.in_check(inode, epoch, |stream| {
            let path = inode.path()?;
            let stat = fstat(&*path)?;
            let size = if inode.kind == FileType::RegularFile { stat.st_size as u64 } else { 0 };
            let target = match inode.kind {
                FileType::Symlink => readlinkat(path.as_fd(), "", Vec::new())?.into_bytes(),
                _ => Vec::new(),
            };
            let links = match inode.kind {
                FileType::Directory => 0,
                _ => u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            };
            let meta = meta_of(&*path, &stat)?;
            let ticket = stream.submit(&Op::CheckMeta { oid: inode.oid, meta, size, target, links })?;
            Ok((size, ticket))
        })
    }
}
