//! One request: decode it, call the file system, encode the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::abi::{self, opcode, setattr};
use super::channel::{Answer, Request};
use super::reply::{self, Entries, Requests, attr_out, entry_out};
use crate::fs::{Caller, Change, Core, Found, Inode, New, NewTime};
use crate::op::Time;

/// Answers the requests for one volume.
pub struct Dispatcher {
    core: Arc<Core>,
    volume: u32,
    pub requests: Requests,
}

/// A request's arguments, taken from the front.
struct Arguments<'a> {
    /// The first structure, if it came apart from what follows it.
    fixed: Option<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> Arguments<'a> {
    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Errno> {
        if let Some(fixed) = self.fixed.take() {
            return T::read_from_prefix(fixed).map(|(value, _)| value).map_err(|_| Errno::INVAL);
        }
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| Errno::INVAL)?;
        self.rest = rest;
        Ok(value)
    }

    fn name(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(Errno::INVAL)?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Ok(name)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Errno::INVAL)?;
        self.rest = rest;
        Ok(bytes)
    }
}

impl Dispatcher {
    pub fn new(core: Arc<Core>, volume: u32) -> Self {
        Self { core, volume, requests: Requests::default() }
    }

    /// Answer one request; what is long goes into `room`.
    pub fn answer(&self, request: &Request<'_>, room: &mut [u8]) -> Answer {
        self.requests.count();
        let mut arguments = Arguments { fixed: request.fixed, rest: request.rest };
        let answered = catch_unwind(AssertUnwindSafe(|| self.handle(&request.header, &mut arguments, room)));
        answered.unwrap_or(Err(Errno::IO)).unwrap_or_else(Answer::Error)
    }

    /// The inode that the kernel means; its root is our volume's.
    fn inode(&self, nodeid: u64) -> Result<Arc<Inode>, Errno> {
        if nodeid == 1 {
            Ok(Arc::clone(&self.core.table().roots()[self.volume as usize]))
        } else {
            self.core.table().get(nodeid)
        }
    }

    fn handle(&self, header: &abi::InHeader, a: &mut Arguments<'_>, room: &mut [u8]) -> Result<Answer, Errno> {
        let core = &*self.core;
        // What names no inode comes first.
        match header.opcode {
            opcode::DESTROY | opcode::RELEASE | opcode::RELEASEDIR => return Ok(Answer::Empty),
            // ENOSYS: do not send these again; nothing here can be interrupted half-way.
            opcode::INTERRUPT => return Err(Errno::NOSYS),
            opcode::FORGET => {
                core.forget(header.nodeid, a.take::<abi::ForgetIn>()?.nlookup);
                core.send_forgotten();
                return Ok(Answer::Silence);
            }
            opcode::BATCH_FORGET => {
                for _ in 0..a.take::<abi::BatchForgetIn>()?.count {
                    let one: abi::ForgetOne = a.take()?;
                    core.forget(one.nodeid, one.nlookup);
                }
                core.send_forgotten();
                return Ok(Answer::Silence);
            }
            _ => {}
        }
        let inode = self.inode(header.nodeid)?;
        match header.opcode {
            opcode::LOOKUP => match core.lookup(&inode, a.name()?) {
                Ok(found) => Ok(Answer::of(&entry_out(&found))),
                Err(Errno::NOENT) => Ok(Answer::of(&reply::absent())),
                Err(errno) => Err(errno),
            },
            opcode::GETATTR => Ok(Answer::of(&attr_out(&core.stat(&inode)?))),
            opcode::SETATTR => {
                let change = change_of(&a.take()?);
                Ok(Answer::of(&attr_out(&core.set_attributes(&inode, change)?)))
            }
            opcode::READLINK => Ok(Answer::Bytes(core.readlink(&inode)?)),
            opcode::STATFS => self.statfs(),
            opcode::READ => {
                let args: abi::ReadIn = a.take()?;
                let size = (args.size as usize).min(room.len());
                Ok(Answer::Room(core.read(&inode, args.offset, &mut room[..size])?))
            }
            opcode::WRITE => {
                let args: abi::ReadIn = a.take()?;
                let data = a.bytes(args.size as usize)?;
                let clear = args.read_flags & abi::WRITE_KILL_SUIDGID != 0;
                let written = core.write(&inode, args.offset, data, clear)?;
                Ok(Answer::of(&abi::WriteOut { size: written as u32, padding: 0 }))
            }
            opcode::FSYNC | opcode::FSYNCDIR => {
                let args: abi::FsyncIn = a.take()?;
                core.fsync(&inode, args.fsync_flags & abi::FSYNC_FDATASYNC != 0)?;
                Ok(Answer::Empty)
            }
            opcode::FLUSH if core.waits_at_close() => core.flush(&inode).map(|()| Answer::Empty),
            opcode::FALLOCATE => {
                let args: abi::FallocateIn = a.take()?;
                core.allocate(&inode, args.mode, args.offset, args.length)?;
                Ok(Answer::Empty)
            }
            opcode::LSEEK => {
                let args: abi::LseekIn = a.take()?;
                let target = match args.whence as i32 {
                    libc::SEEK_DATA => SeekFrom::Data(args.offset),
                    libc::SEEK_HOLE => SeekFrom::Hole(args.offset),
                    _ => return Err(Errno::INVAL),
                };
                Ok(Answer::of(&abi::LseekOut { offset: core.seek(&inode, target)? }))
            }
            opcode::READDIR => self.readdir(&inode, &a.take()?, room),
            opcode::READDIRPLUS => self.readdirplus(&inode, &a.take()?, room),
            opcode::GETXATTR | opcode::LISTXATTR | opcode::SETXATTR | opcode::REMOVEXATTR => {
                self.xattr(header.opcode, &inode, a)
            }
            _ => self.change_directory(header, &inode, a),
        }
    }

    fn change_directory(
        &self,
        header: &abi::InHeader,
        parent: &Arc<Inode>,
        a: &mut Arguments<'_>,
    ) -> Result<Answer, Errno> {
        let core = &*self.core;
        let caller = |umask| Caller { uid: header.uid, gid: header.gid, umask };
        let entry = |found: Found| Answer::of(&entry_out(&found));
        match header.opcode {
            opcode::SYMLINK => {
                let (name, target) = (a.name()?, a.name()?);
                core.make(parent, name, caller(0), New::Symlink { target }).map(entry)
            }
            opcode::MKNOD => {
                let abi::MknodIn { mode, rdev, umask, .. } = a.take()?;
                core.make(parent, a.name()?, caller(umask), New::Special { mode, rdev: u64::from(rdev) }).map(entry)
            }
            opcode::MKDIR => {
                let abi::MkdirIn { mode, umask } = a.take()?;
                core.make(parent, a.name()?, caller(umask), New::Directory { mode }).map(entry)
            }
            opcode::CREATE => {
                let args: abi::CreateIn = a.take()?;
                let found = self.create(parent, a.name()?, caller(args.umask), &args)?;
                Ok(opened(&found))
            }
            opcode::TMPFILE => {
                let args: abi::CreateIn = a.take()?;
                core.make_tmpfile(parent, caller(args.umask), args.mode).map(|found| opened(&found))
            }
            opcode::LINK => {
                let source = self.inode(a.take::<abi::LinkIn>()?.oldnodeid)?;
                core.link(&source, parent, a.name()?).map(entry)
            }
            opcode::UNLINK => core.unlink(parent, a.name()?).map(|()| Answer::Empty),
            opcode::RMDIR => core.rmdir(parent, a.name()?).map(|()| Answer::Empty),
            opcode::RENAME | opcode::RENAME2 => {
                let (newdir, flags) = if header.opcode == opcode::RENAME {
                    (a.take::<abi::RenameIn>()?.newdir, 0)
                } else {
                    let args: abi::Rename2In = a.take()?;
                    (args.newdir, args.flags)
                };
                let (name, new_name) = (a.name()?, a.name()?);
                core.rename(parent, name, &self.inode(newdir)?, new_name, flags).map(|()| Answer::Empty)
            }
            // What is not listed the kernel does without: open and release (nothing is kept for a descriptor), locks
            // (its own are enough for one mount), copy_file_range (by reading and writing), ioctl, poll.
            _ => Err(Errno::NOSYS),
        }
    }

    /// `open(2)` with `O_CREAT` of a name that the kernel believes is free.
    fn create(&self, parent: &Arc<Inode>, name: &[u8], caller: Caller, args: &abi::CreateIn) -> Result<Found, Errno> {
        loop {
            match self.core.make(parent, name, caller, New::File { mode: args.mode }) {
                Err(Errno::EXIST) if args.flags & libc::O_EXCL as u32 == 0 => {}
                other => return other,
            }
            match self.core.lookup(parent, name) {
                // Removed again meanwhile.
                Err(Errno::NOENT) => {}
                Ok(found) if args.flags & libc::O_TRUNC as u32 != 0 => {
                    let change = Change { size: Some(0), ..Change::default() };
                    let stat = self.core.set_attributes(&found.inode, change)?;
                    return Ok(Found { stat, ..found });
                }
                other => return other,
            }
        }
    }

    fn statfs(&self) -> Result<Answer, Errno> {
        let s = self.core.statfs(self.volume)?;
        Ok(Answer::of(&abi::StatfsOut {
            blocks: s.f_blocks,
            bfree: s.f_bfree,
            bavail: s.f_bavail,
            files: s.f_files,
            ffree: s.f_ffree,
            bsize: s.f_bsize as u32,
            namelen: s.f_namemax as u32,
            frsize: s.f_frsize as u32,
            ..abi::StatfsOut::default()
        }))
    }

    fn readdir(&self, directory: &Arc<Inode>, args: &abi::ReadIn, room: &mut [u8]) -> Result<Answer, Errno> {
        let mut entries = Entries::new(room, args.size as usize);
        self.core.list(directory, args.offset, |entry| {
            let fits = entries.fits(entry.name, 0);
            if fits {
                entries.push(&[0_u8; 0], entry.ino, entry.next, entry.kind, entry.name);
            }
            Ok(fits)
        })?;
        Ok(Answer::Room(entries.len()))
    }

    fn readdirplus(&self, directory: &Arc<Inode>, args: &abi::ReadIn, room: &mut [u8]) -> Result<Answer, Errno> {
        let mut entries = Entries::new(room, args.size as usize);
        self.core.list(directory, args.offset, |entry| {
            if !entries.fits(entry.name, size_of::<abi::EntryOut>()) {
                return Ok(false);
            }
            if matches!(entry.name, b"." | b"..") {
                entries.push(&abi::EntryOut::default(), entry.ino, entry.next, entry.kind, entry.name);
            } else if let Some(found) = self.core.lookup_listed(directory, entry.name)? {
                entries.push(&entry_out(&found), entry.ino, entry.next, entry.kind, entry.name);
            }
            Ok(true)
        })?;
        Ok(Answer::Room(entries.len()))
    }

    fn xattr(&self, code: u32, inode: &Arc<Inode>, a: &mut Arguments<'_>) -> Result<Answer, Errno> {
        let core = &*self.core;
        match code {
            opcode::SETXATTR => {
                let args: abi::SetxattrIn = a.take()?;
                let name = a.name()?;
                let value = a.bytes(args.size as usize)?;
                let clear = args.setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0;
                core.set_xattr(inode, name, value, args.flags, clear).map(|()| Answer::Empty)
            }
            opcode::REMOVEXATTR => core.remove_xattr(inode, a.name()?).map(|()| Answer::Empty),
            _ => {
                let args: abi::GetxattrIn = a.take()?;
                let value =
                    if code == opcode::GETXATTR { core.get_xattr(inode, a.name()?)? } else { core.list_xattrs(inode)? };
                if args.size == 0 {
                    Ok(Answer::of(&abi::GetxattrIn { size: value.len() as u32, padding: 0 }))
                } else if value.len() > args.size as usize {
                    Err(Errno::RANGE)
                } else {
                    Ok(Answer::Bytes(value))
                }
            }
        }
    }
}

fn opened(found: &Found) -> Answer {
    let open = abi::OpenOut { fh: 0, open_flags: abi::FOPEN_KEEP_CACHE, backing_id: 0 };
    let mut bytes = entry_out(found).as_bytes().to_vec();
    bytes.extend_from_slice(open.as_bytes());
    Answer::Bytes(bytes)
}

fn change_of(args: &abi::SetattrIn) -> Change {
    let set = |flag: u32| args.valid & flag != 0;
    let time = |flag: u32, now: u32, sec: u64, nsec: u32| {
        set(flag).then(|| if set(now) { NewTime::Now } else { NewTime::At(Time { sec: sec as i64, nsec }) })
    };
    Change {
        mode: set(setattr::MODE).then_some(args.mode),
        uid: set(setattr::UID).then_some(args.uid),
        gid: set(setattr::GID).then_some(args.gid),
        size: set(setattr::SIZE).then_some(args.size),
        atime: time(setattr::ATIME, setattr::ATIME_NOW, args.atime, args.atimensec),
        mtime: time(setattr::MTIME, setattr::MTIME_NOW, args.mtime, args.mtimensec),
        clear_special: set(setattr::KILL_SUIDGID),
    }
}
