//! Operations on attributes and extended attributes.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags, chmodat,
    chownat, fstat, ftruncate, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use super::Core;
use super::inode::{Inode, proc_path};
use super::metadata::{PRIVATE, mtime_of, xattr_names, xattr_value};
use crate::op::{Op, Time};
use crate::stream::primary::Ticket;

/// A time to be set.
#[derive(Clone, Copy, Debug)]
pub enum NewTime {
    Now,
    At(Time),
}

/// What `setattr` is to change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<NewTime>,
    pub mtime: Option<NewTime>,
    /// The caller may not keep set-user-ID and set-group-ID bits.
    pub clear_special: bool,
}

impl Core {
    /// Change attributes; returns them as they are then.
    pub fn set_attributes(&self, inode: &Arc<Inode>, change: Change) -> Result<Stat, Errno> {
        self.change(|| {
            let _names = self.names.read();
            let _order = inode.order.lock();
            match change.size {
                Some(size) => self.mark_resize(inode, size)?,
                None => self.mark_attributes(inode)?,
            }
            let streams = self.streams(inode)?;
            let path = inode.path()?;
            let mut ticket = Ticket::NONE;
            let oid = inode.oid;
            if let Some(mode) = change.mode {
                chmodat(CWD, proc_path(&*path), Mode::from_bits_retain(mode & 0o7777), AtFlags::empty())?;
                if streams {
                    let op = || Ok(self.stream.submit(&Op::Chmod { oid, mode: fstat(&*path)?.st_mode })?);
                    ticket = self.done_here(op)?;
                }
            }
            if change.uid.is_some() || change.gid.is_some() {
                let (owner, group) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
                chownat(&*path, "", owner, group, AtFlags::EMPTY_PATH)?;
                if streams {
                    ticket = self.done_here(|| {
                        let Stat { st_uid: uid, st_gid: gid, st_mode: mode, .. } = fstat(&*path)?;
                        Ok(self.stream.submit(&Op::Chown { oid, uid, gid, mode })?)
                    })?;
                }
            }
            if let Some(size) = change.size {
                ftruncate(&*inode.data()?, size).inspect_err(|_| self.tell_time(inode, path.as_fd(), streams))?;
                if streams {
                    let op = || {
                        let mtime = mtime_of(&fstat(&*path)?);
                        Ok(self.stream.submit(&Op::Truncate { oid, size, mtime })?)
                    };
                    ticket = self.done_here(op)?;
                }
            }
            if change.clear_special {
                let cleared = self.clear_special(inode, &fstat(&*path)?, streams)?;
                if cleared != Ticket::NONE {
                    ticket = cleared;
                }
            }
            if change.atime.is_some() || change.mtime.is_some() {
                let times =
                    Timestamps { last_access: timespec(change.atime), last_modification: timespec(change.mtime) };
                utimensat(CWD, proc_path(&*path), &times, AtFlags::empty())?;
                if streams && change.mtime.is_some() {
                    let op = || Ok(self.stream.submit(&Op::Mtime { oid, mtime: mtime_of(&fstat(&*path)?) })?);
                    ticket = self.done_here(op)?;
                }
            }
            inode.touched(ticket.seq);
            Ok((fstat(&*path)?, ticket))
        })
    }

    /// Take set-user-ID and (where it means that) set-group-ID from a file that somebody else changed.
    pub(super) fn clear_special(&self, inode: &Arc<Inode>, stat: &Stat, streams: bool) -> Result<Ticket, Errno> {
        let mut mode = stat.st_mode & !libc::S_ISUID;
        if mode & libc::S_IXGRP != 0 {
            mode &= !libc::S_ISGID;
        }
        if inode.kind != FileType::RegularFile || mode == stat.st_mode {
            return Ok(Ticket::NONE);
        }
        let path = inode.path()?;
        chmodat(CWD, proc_path(&*path), Mode::from_bits_retain(mode & 0o7777), AtFlags::empty())?;
        if streams { Ok(self.stream.submit(&Op::Chmod { oid: inode.oid, mode })?) } else { Ok(Ticket::NONE) }
    }

    /// Names of extended attributes, each followed by NUL.
    pub fn list_xattrs(&self, inode: &Arc<Inode>) -> Result<Vec<u8>, Errno> {
        let mut list = Vec::new();
        for name in xattr_names(&*inode.path()?)? {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(list)
    }

    pub fn get_xattr(&self, inode: &Arc<Inode>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        xattr_value(&*inode.path()?, name)
    }

    /// `flags` as `setxattr(2)`; `clear_group`: setting this access ACL takes the set-group-ID bit away.
    pub fn set_xattr(
        &self,
        inode: &Arc<Inode>,
        name: &[u8],
        value: &[u8],
        flags: u32,
        clear_group: bool,
    ) -> Result<(), Errno> {
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.change_xattr(
            inode,
            name,
            clear_group,
            |path| setxattr(path, name, value, flags),
            |oid, mode| Op::SetXattr { oid, name: name.to_vec(), value: value.to_vec(), mode },
        )
    }

    pub fn remove_xattr(&self, inode: &Arc<Inode>, name: &[u8]) -> Result<(), Errno> {
        self.change_xattr(
            inode,
            name,
            false,
            |path| removexattr(path, name),
            |oid, mode| Op::RemoveXattr { oid, name: name.to_vec(), mode },
        )
    }

    fn change_xattr<'a>(
        &self,
        inode: &Arc<Inode>,
        name: &[u8],
        clear_group: bool,
        local: impl FnOnce(&str) -> Result<(), Errno>,
        op: impl FnOnce(u64, u32) -> Op<'a>,
    ) -> Result<(), Errno> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::PERM);
        }
        self.change(|| {
            let _names = self.names.read();
            let _order = inode.order.lock();
            self.mark_attributes(inode)?;
            let streams = self.streams(inode)?;
            let path = inode.path()?;
            let place = proc_path(path.as_fd());
            local(&place)?;
            self.done_here(|| {
                let mut mode = fstat(&*path)?.st_mode;
                if clear_group && mode & libc::S_ISGID != 0 {
                    mode &= !libc::S_ISGID;
                    chmodat(CWD, &place, Mode::from_bits_retain(mode & 0o7777), AtFlags::empty())?;
                }
                let ticket = if streams { self.stream.submit(&op(inode.oid, mode))? } else { Ticket::NONE };
                inode.touched(ticket.seq);
                Ok(((), ticket))
            })
        })
    }
}

fn timespec(time: Option<NewTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(NewTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(NewTime::At(time)) => Timespec { tv_sec: time.sec, tv_nsec: i64::from(time.nsec) },
    }
}
