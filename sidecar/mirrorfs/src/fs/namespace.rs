//! Operations that change directories.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, chownat, fstat, linkat, mkdirat, mknodat, openat,
    readlinkat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::umask;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::inode::{Inode, key_of, proc_path};
use super::metadata::{meta_of, mtime_of};
use super::{Core, Found};
use crate::op::{Oid, Op, Place, Time};
use crate::stream::primary::{Mode as StreamMode, Ticket};

/// On whose behalf an object is made.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub enum New<'a> {
    /// A regular file; the new inode keeps a descriptor for reading and writing.
    File {
        mode: u32,
    },
    Directory {
        mode: u32,
    },
    /// FIFO, socket, device or (by `mknod(2)`) regular file.
    Special {
        mode: u32,
        rdev: u64,
    },
    Symlink {
        target: &'a [u8],
    },
}

impl Core {
    /// Make an object; the kernel gets a reference to it.
    ///
    /// # Errors
    /// `EEXIST` and what the backing file system answers.
    pub fn make(&self, parent: &Arc<Inode>, name: &[u8], caller: Caller, new: New<'_>) -> Result<Found, Errno> {
        self.change(|| {
            let _names = self.names.write();
            let streams = self.prepare_directory(parent)?;
            let directory = parent.path()?;
            self.mark_entry(parent, name)?;
            let data = create(directory.as_fd(), name, caller, new)?;
            let (path, stat) = match finish(directory.as_fd(), name, caller) {
                Ok(finished) => finished,
                Err(error) => {
                    // An operation never half-succeeds.
                    let is_directory = matches!(new, New::Directory { .. });
                    let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                    self.done_here(|| unlinkat(&*directory, name, flags))?;
                    self.tell_time(parent, directory.as_fd(), streams);
                    return Err(error);
                }
            };
            self.done_here(|| {
                let meta = if streams { Some(meta_of(&path, &stat)?) } else { None };
                let inode = self.table.intern(parent.volume, &stat, path);
                inode.add_name(parent, name);
                self.mark_made(parent, &inode)?;
                if let Some(data) = data {
                    inode.keep_data(Arc::new(data));
                }
                let Some(meta) = meta else {
                    self.table.remember(&inode);
                    return Ok((Found { inode, stat }, Ticket::NONE));
                };
                let (oid, at, dir_mtime) = (inode.oid, place(parent, name), mtime(directory.as_fd())?);
                let ticket = self.stream.submit(&match new {
                    New::File { .. } | New::Special { .. } => Op::Create { oid, at, meta, dir_mtime },
                    New::Directory { .. } => Op::Mkdir { oid, at, meta, dir_mtime },
                    New::Symlink { target } => Op::Symlink { oid, at, target: target.to_vec(), meta, dir_mtime },
                })?;
                self.table.remember(&inode);
                self.made(&inode);
                Ok((Found { inode, stat }, ticket))
            })
        })
    }

    /// An unnamed file (`O_TMPFILE`); the kernel gets a reference to it.
    pub fn make_tmpfile(&self, parent: &Arc<Inode>, caller: Caller, mode: u32) -> Result<Found, Errno> {
        self.change(|| {
            let _names = self.names.write();
            let streams = self.prepare_directory(parent)?;
            let directory = parent.path()?;
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let data = with_umask(caller.umask, || openat(&*directory, ".", flags, permissions(mode)))?;
            give_to(directory.as_fd(), data.as_fd(), caller)?;
            let path = openat(rustix::fs::CWD, proc_path(&data), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let stat = fstat(&path)?;
            let inode = self.table.intern(parent.volume, &stat, path);
            inode.keep_data(Arc::new(data));
            self.table.remember(&inode);
            if !streams {
                return Ok((Found { inode, stat }, Ticket::NONE));
            }
            let meta = meta_of(&*inode.path()?, &stat)?;
            let ticket = self.stream.submit(&Op::Tmpfile { oid: inode.oid, parent: parent.oid, meta })?;
            self.made(&inode);
            Ok((Found { inode, stat }, ticket))
        })
    }

    /// Give the object a further name; the kernel gets a further reference to it.
    pub fn link(&self, inode: &Arc<Inode>, parent: &Arc<Inode>, name: &[u8]) -> Result<Found, Errno> {
        self.change(|| {
            let _names = self.names.write();
            let streams = self.prepare_directory(parent)?;
            let (path, directory) = (inode.path()?, parent.path()?);
            // During a resynchronisation the walk may not have come to the object: then the peer gets all of it below.
            let known = streams && self.streams_object(inode)?;
            self.mark_entry(parent, name)?;
            self.mark_placed(inode, &fstat(&*path)?)?;
            linkat(&*path, "", &*directory, name, AtFlags::EMPTY_PATH)?;
            inode.add_name(parent, name);
            self.done_here(|| {
                let stat = fstat(&*path)?;
                let ticket = if streams {
                    let (oid, at, dir_mtime) = (inode.oid, place(parent, name), mtime(directory.as_fd())?);
                    let ticket = if known {
                        self.stream.submit(&Op::Link { oid, at, dir_mtime })?
                    } else {
                        self.create_for_peer(inode, at, &stat, dir_mtime)?
                    };
                    self.pin(inode);
                    // The walk compares its contents, wherever it has been already.
                    self.moved(inode);
                    ticket
                } else {
                    Ticket::NONE
                };
                self.table.remember(inode);
                Ok((Found { inode: Arc::clone(inode), stat }, ticket))
            })
        })
    }

    /// The peer does not know the object that gets a name: it makes one. The contents follow, by the walk if there is one.
    fn create_for_peer(&self, inode: &Arc<Inode>, at: Place, stat: &Stat, dir_mtime: Time) -> Result<Ticket, Errno> {
        let path = inode.path()?;
        let (oid, meta) = (inode.oid, meta_of(&*path, stat)?);
        let ticket = if inode.kind == FileType::Symlink {
            let target = readlinkat(&*path, "", Vec::new())?.into_bytes();
            self.stream.submit(&Op::Symlink { oid, at, target, meta, dir_mtime })?
        } else {
            self.stream.submit(&Op::Create { oid, at, meta, dir_mtime })?
        };
        inode.bound.store(self.stream.epoch(), std::sync::atomic::Ordering::Release);
        if inode.kind != FileType::RegularFile || self.stream.mode() == StreamMode::Syncing {
            return Ok(ticket);
        }
        self.send_contents(inode)
    }

    /// As `streams`, for an object that may have no name (an unnamed file whose name is being made).
    fn streams_object(&self, inode: &Arc<Inode>) -> Result<bool, Errno> {
        let unnamed = inode.name().is_none() && self.stream.mode() == StreamMode::Mirrored;
        if unnamed && fstat(&*inode.path()?)?.st_nlink == 0 {
            return Ok(inode.is_bound(self.stream.epoch()));
        }
        self.streams(inode)
    }

    pub fn unlink(&self, parent: &Arc<Inode>, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, AtFlags::empty())
    }

    pub fn rmdir(&self, parent: &Arc<Inode>, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, AtFlags::REMOVEDIR)
    }

    fn remove(&self, parent: &Arc<Inode>, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
        self.change(|| {
            let _names = self.names.write();
            let streams = self.prepare_directory(parent)?;
            let directory = parent.path()?;
            let victim = self.before_removal(directory.as_fd(), name, streams)?;
            let keep = self.keep(victim.as_ref());
            self.mark_entry(parent, name)?;
            self.mark_removed(parent, name)?;
            unlinkat(&*directory, name, flags)?;
            self.after_removal(parent, name, victim);
            if !streams {
                return Ok(((), Ticket::NONE));
            }
            self.done_here(|| {
                let (at, dir_mtime) = (place(parent, name), mtime(directory.as_fd())?);
                let ticket = self.stream.submit(&if flags.contains(AtFlags::REMOVEDIR) {
                    Op::Rmdir { at, dir_mtime }
                } else {
                    Op::Unlink { at, keep, dir_mtime }
                })?;
                Ok(((), ticket))
            })
        })
    }

    /// `flags` as `renameat2(2)`; whiteouts are refused.
    pub fn rename(
        &self,
        parent: &Arc<Inode>,
        name: &[u8],
        new_parent: &Arc<Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::INVAL);
        }
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        self.change(|| {
            let _names = self.names.write();
            // Both, also when the first answers no.
            let streams = self.prepare_directory(parent)? & self.prepare_directory(new_parent)?;
            let (from, to) = (parent.path()?, new_parent.path()?);
            let moved = self.known_at(from.as_fd(), name)?;
            let victim = if exchange {
                self.known_at(to.as_fd(), new_name)?.map(|inode| Victim { inode, last: false })
            } else {
                match self.before_removal(to.as_fd(), new_name, streams) {
                    Err(Errno::NOENT) => None,
                    other => other?,
                }
            };
            let keep = if exchange { 0 } else { self.keep(victim.as_ref()) };
            self.mark_rename((parent, name), (new_parent, new_name), exchange)?;
            renameat_with(&*from, name, &*to, new_name, flags)?;
            let same = victim.as_ref().zip(moved.as_ref()).is_some_and(|(v, m)| Arc::ptr_eq(&v.inode, m));
            // Two names of one file: rename(2) then does nothing.
            if !same {
                if exchange {
                    if let Some(Victim { inode, .. }) = victim {
                        self.moved(&inode);
                        inode.remove_name(new_parent, new_name);
                        inode.add_name(parent, name);
                    }
                } else {
                    self.after_removal(new_parent, new_name, victim);
                }
                if let Some(inode) = moved {
                    self.moved(&inode);
                    inode.remove_name(parent, name);
                    inode.add_name(new_parent, new_name);
                }
            }
            if !streams {
                return Ok(((), Ticket::NONE));
            }
            self.done_here(|| {
                let ticket = self.stream.submit(&Op::Rename {
                    from: place(parent, name),
                    to: place(new_parent, new_name),
                    flags: flags.bits(),
                    keep,
                    from_mtime: mtime(from.as_fd())?,
                    to_mtime: mtime(to.as_fd())?,
                })?;
                Ok(((), ticket))
            })
        })
    }

    fn known_at(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Arc<Inode>>, Errno> {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(self.table.find(key_of(&stat)))
    }

    /// A name is about to lead nowhere. `None`: nobody knows the object.
    fn before_removal(&self, directory: BorrowedFd<'_>, name: &[u8], streams: bool) -> Result<Option<Victim>, Errno> {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let Some(inode) = self.table.find(key_of(&stat)) else { return Ok(None) };
        // From now on it may have no name to open it by.
        inode.path()?;
        let last = is_last_link(&stat);
        if streams && !last {
            // This name may be the only one we know; the peer must not depend on it.
            self.streams(&inode)?;
        }
        Ok(Some(Victim { inode, last }))
    }

    /// What a removal's `keep` is: an object that has other names, which the walk has perhaps not shown to the peer.
    fn keep(&self, victim: Option<&Victim>) -> Oid {
        let Some(Victim { inode, last: false }) = victim else { return 0 };
        if self.stream.mode() != StreamMode::Syncing || !inode.is_bound(self.stream.epoch()) {
            return 0;
        }
        self.pin(inode);
        inode.oid
    }

    fn after_removal(&self, parent: &Arc<Inode>, name: &[u8], victim: Option<Victim>) {
        let Some(Victim { inode, last }) = victim else { return };
        inode.remove_name(parent, name);
        if last {
            self.table.orphan(&inode);
            self.unlist(inode.key);
        }
    }
}

struct Victim {
    inode: Arc<Inode>,
    /// It was the object's last name.
    last: bool,
}

fn is_last_link(stat: &Stat) -> bool {
    stat.st_nlink <= 1 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn place(parent: &Inode, name: &[u8]) -> Place {
    Place { parent: parent.oid, name: name.to_vec() }
}

fn mtime(fd: BorrowedFd<'_>) -> Result<Time, Errno> {
    Ok(mtime_of(&fstat(fd)?))
}

fn permissions(mode: u32) -> Mode {
    Mode::from_bits_retain(mode & 0o7777)
}

/// Make the object; a regular file's descriptor for reading and writing.
fn create(directory: BorrowedFd<'_>, name: &[u8], caller: Caller, new: New<'_>) -> Result<Option<OwnedFd>, Errno> {
    match new {
        New::File { mode } => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return with_umask(caller.umask, || openat(directory, name, flags, permissions(mode))).map(Some);
        }
        New::Directory { mode } => with_umask(caller.umask, || mkdirat(directory, name, permissions(mode)))?,
        New::Special { mode, rdev } => {
            let kind = FileType::from_raw_mode(mode);
            with_umask(caller.umask, || mknodat(directory, name, kind, permissions(mode), rdev))?;
        }
        New::Symlink { target } => symlinkat(target, directory, name)?,
    }
    Ok(None)
}

/// Make the new object the caller's; its `O_PATH` descriptor and attributes.
fn finish(directory: BorrowedFd<'_>, name: &[u8], caller: Caller) -> Result<(OwnedFd, Stat), Errno> {
    let path = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    give_to(directory, path.as_fd(), caller)?;
    let stat = fstat(&path)?;
    Ok((path, stat))
}

/// Make the new object the caller's. In a directory with the set-group-ID bit it keeps the directory's group.
fn give_to(directory: BorrowedFd<'_>, object: BorrowedFd<'_>, caller: Caller) -> Result<(), Errno> {
    let inherits = fstat(directory)?.st_mode & libc::S_ISGID != 0;
    let stat = fstat(object)?;
    let gid = if inherits { stat.st_gid } else { caller.gid };
    if (stat.st_uid, stat.st_gid) == (caller.uid, gid) {
        return Ok(());
    }
    let (owner, group) = (Some(Uid::from_raw(caller.uid)), Some(Gid::from_raw(gid)));
    chownat(object, "", owner, group, AtFlags::EMPTY_PATH)?;
    // chown(2) takes these bits away from what can be executed.
    let special = stat.st_mode & (libc::S_ISUID | libc::S_ISGID);
    if special != 0 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        rustix::fs::chmodat(rustix::fs::CWD, proc_path(object), permissions(stat.st_mode), AtFlags::empty())?;
    }
    Ok(())
}

thread_local! {
    static OWN_UMASK: Cell<bool> = const { Cell::new(false) };
}

/// Make something under this file mode creation mask. The kernel applies it, or the directory's default ACL instead.
fn with_umask<T>(mask: u32, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    if !OWN_UMASK.get() {
        // SAFETY: only the mask, root and working directory of this thread become its own; nothing in this process
        // relies on threads sharing them, and no descriptor is affected.
        unsafe { unshare_unsafe(UnshareFlags::FS) }?;
        OWN_UMASK.set(true);
    }
    umask(Mode::from_bits_retain(mask & 0o777));
    make()
}
