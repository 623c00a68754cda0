//! Operations on contents: read, write, allocate, flush.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, FileType, SeekFrom, Stat, fallocate, fdatasync, fstat, fsync, ftruncate, seek};
use rustix::io::{Errno, pread, pwrite};

use super::inode::Inode;
use super::metadata::mtime_of;
use super::{Core, Durability};
use crate::op::Op;
use crate::stream::primary::Ticket;

/// Bytes per operation when a whole file is sent.
const CHUNK: usize = 1 << 20;

impl Core {
    /// Read into `buffer` as much as there is.
    pub fn read(&self, inode: &Arc<Inode>, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match inode.data() {
            Ok(fd) => read_at(fd.as_fd(), offset, buffer),
            // Immutable, or on a file system that became read-only: it can still be read.
            Err(Errno::PERM | Errno::ACCESS | Errno::ROFS) => read_at(inode.readable()?.as_fd(), offset, buffer),
            Err(error) => Err(error),
        }
    }

    /// Write `data`. `clear_special`: the writer may not keep set-user-ID and set-group-ID bits.
    /// Returns how much was written; less than all only when the disk is full.
    pub fn write(&self, inode: &Arc<Inode>, offset: u64, data: &[u8], clear_special: bool) -> Result<usize, Errno> {
        self.change(|| {
            let _names = self.names.read();
            let _order = inode.order.lock();
            let fd = inode.data()?;
            self.mark_contents(inode, offset, offset.saturating_add(data.len() as u64))?;
            let streams = self.streams(inode)?;
            let written =
                write_at(fd.as_fd(), offset, data).inspect_err(|_| self.tell_time(inode, fd.as_fd(), streams))?;
            self.done_here(|| {
                let stat = fstat(&*fd)?;
                let mut ticket = if clear_special { self.clear_special(inode, &stat, streams)? } else { Ticket::NONE };
                if streams {
                    ticket = self.stream.submit(&Op::Write {
                        oid: inode.oid,
                        offset,
                        data: Cow::Borrowed(&data[..written]),
                        mtime: mtime_of(&stat),
                    })?;
                    inode.touched(ticket.seq);
                }
                Ok((written, ticket))
            })
        })
    }

    /// `mode` as `fallocate(2)`.
    pub fn allocate(&self, inode: &Arc<Inode>, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let flags = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        self.change(|| {
            let _names = self.names.read();
            let _order = inode.order.lock();
            let fd = inode.data()?;
            let shifts = flags.intersects(FallocateFlags::COLLAPSE_RANGE | FallocateFlags::INSERT_RANGE);
            let before = fstat(&*fd)?;
            let end = offset.saturating_add(len);
            let end = if shifts { end.saturating_add(before.st_size as u64) } else { end };
            self.mark_contents(inode, offset, end)?;
            let streams = self.streams(inode)?;
            if let Err(error) = fallocate(&*fd, flags, offset, len) {
                if matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::IO) {
                    self.undo_allocation(inode, fd.as_fd(), flags, &before, streams);
                } else {
                    self.tell_time(inode, fd.as_fd(), streams);
                }
                return Err(error);
            }
            if shifts {
                inode.shifts.fetch_add(1, Ordering::Release);
            }
            if !streams {
                return Ok(((), Ticket::NONE));
            }
            self.done_here(|| {
                let mtime = mtime_of(&fstat(&*fd)?);
                let ticket = self.stream.submit(&Op::Fallocate { oid: inode.oid, mode, offset, len, mtime })?;
                inode.touched(ticket.seq);
                Ok(((), ticket))
            })
        })
    }

    /// There was no room, and a part of it may have been done. The inode's order is held.
    fn undo_allocation(
        &self,
        inode: &Arc<Inode>,
        fd: BorrowedFd<'_>,
        flags: FallocateFlags,
        before: &Stat,
        streams: bool,
    ) {
        let size = before.st_size as u64;
        let undone = fstat(fd).and_then(|now| match () {
            // A part of the range may have been zeroed or moved.
            () if !(flags - FallocateFlags::KEEP_SIZE).is_empty() => Err(Errno::NOSPC),
            () if (now.st_size, now.st_blocks) == (before.st_size, before.st_blocks) => Ok(false),
            // What was reserved beyond the end goes, here and there; what lies within it reads as zeros, as before.
            () => ftruncate(fd, size).map(|()| true),
        });
        let told = undone.and_then(|truncated| {
            if truncated && streams {
                let mtime = mtime_of(&fstat(fd)?);
                self.stream.submit(&Op::Truncate { oid: inode.oid, size, mtime })?;
            } else {
                self.tell_time(inode, fd, streams);
            }
            Ok(())
        });
        if let Err(error) = told
            && streams
        {
            self.diverge(error, "a part of a file was changed by an operation that failed");
        }
    }

    /// A change of contents was refused; the file system may have set the time of modification all the same.
    pub(super) fn tell_time(&self, inode: &Arc<Inode>, fd: BorrowedFd<'_>, streams: bool) {
        if !streams {
            return;
        }
        let told = fstat(fd).and_then(|stat| {
            Ok(self.stream.submit(&Op::Mtime { oid: inode.oid, mtime: mtime_of(&stat) }).map(drop)?)
        });
        if let Err(error) = told {
            self.diverge(error, "a file whose change failed cannot be looked at");
        }
    }

    /// Flush to stable storage, on both nodes at once.
    pub fn fsync(&self, inode: &Arc<Inode>, data_only: bool) -> Result<(), Errno> {
        self.authority.before_change().map_err(|_| Errno::IO)?;
        let ticket = {
            let _names = self.names.read();
            let _order = inode.order.lock();
            // While the peer is being synchronised it counts for nothing yet.
            if self.stream.mode() == crate::stream::primary::Mode::Syncing || !self.streams(inode)? {
                Ticket::NONE
            } else {
                self.stream.submit(&Op::Fsync { oid: inode.oid, data_only })?
            }
        };
        self.stream.push();
        let local = match inode.kind {
            FileType::RegularFile => inode.data().and_then(|fd| if data_only { fdatasync(&*fd) } else { fsync(&*fd) }),
            _ => inode.readable().and_then(fsync),
        };
        let local = local.inspect_err(|&error| self.watch_flush(error));
        self.confirm(ticket)?;
        local
    }

    /// Whether closing a descriptor waits for the peer.
    pub fn waits_at_close(&self) -> bool {
        self.durability == Durability::Commit
    }

    /// A descriptor is closed: in durability `commit` the peer must have what was written.
    pub fn flush(&self, inode: &Arc<Inode>) -> Result<(), Errno> {
        if self.durability == Durability::Commit {
            self.confirm(self.stream.ticket(inode.last.load(Ordering::Acquire)))?;
        }
        Ok(())
    }

    /// `SEEK_DATA` and `SEEK_HOLE`.
    pub fn seek(&self, inode: &Arc<Inode>, target: SeekFrom) -> Result<u64, Errno> {
        // A descriptor of its own: the position is shared by all users of the inode's.
        seek(inode.readable()?, target)
    }

    /// Stream all contents of a regular file that the peer has as an empty one. The namespace is held exclusively.
    pub(super) fn send_contents(&self, inode: &Arc<Inode>) -> Result<Ticket, Errno> {
        let _order = inode.order.lock();
        let fd = inode.data()?;
        let stat = fstat(&*fd)?;
        let (oid, mtime) = (inode.oid, mtime_of(&stat));
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            let length = read_at(fd.as_fd(), offset, &mut buffer)?;
            if length == 0 {
                break;
            }
            let data = Cow::Borrowed(&buffer[..length]);
            self.stream.submit(&Op::Write { oid, offset, data, mtime })?;
            offset += length as u64;
        }
        Ok(self.stream.submit(&Op::Mtime { oid, mtime })?)
    }
}

/// Read until the buffer is full or the file ends.
pub fn read_at(fd: BorrowedFd<'_>, mut offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match pread(fd, &mut buffer[done..], offset) {
            Ok(0) => break,
            Ok(count) => {
                done += count;
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Write everything, or as much as goes before an error.
fn write_at(fd: BorrowedFd<'_>, offset: u64, data: &[u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < data.len() {
        match pwrite(fd, &data[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}
