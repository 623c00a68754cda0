//! Attributes of an open file of any type: owner, mode, extended attributes, modification time.
//!
//! Regular files and directories are open for real; everything else (symbolic links, FIFOs, sockets, devices) is open
//! with `O_PATH` only, and reached through `/proc/self/fd` where a system call takes no such descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fchmod, fgetxattr,
    flistxattr, fremovexattr, fsetxattr, fstat, futimens, getxattr, listxattr, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use crate::op::{Meta, Time, Xattrs};

const PERMISSIONS: u32 = 0o7777;
/// Our own attributes on the backing directories.
pub const OWN_XATTRS: &[u8] = b"trusted.twinhull.";
/// Labels that the node's own security modules give; they mean nothing on the other node.
const NODE_XATTRS: [&[u8]; 4] = [b"security.selinux", b"security.apparmor", b"security.ima", b"security.evm"];

/// Does this extended attribute belong to the module's data?
pub fn is_replicated(name: &[u8]) -> bool {
    !name.starts_with(OWN_XATTRS) && !NODE_XATTRS.contains(&name)
}

/// Is a file of this type opened for reading and writing (a directory for reading), not only with `O_PATH`?
pub fn opens_fully(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory)
}

/// An open file and its type.
#[derive(Clone, Copy, Debug)]
pub struct Inode<'a> {
    pub fd: BorrowedFd<'a>,
    pub kind: FileType,
}

impl<'a> Inode<'a> {
    pub fn new(fd: &'a impl AsFd, kind: FileType) -> Self {
        Self { fd: fd.as_fd(), kind }
    }

    fn proc_path(self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    pub fn set_mtime(self, mtime: Time) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.sec, tv_nsec: mtime.nsec.into() },
        };
        if opens_fully(self.kind) {
            futimens(self.fd, &times)?;
        } else {
            utimensat(self.fd, "", &times, AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }

    /// Symbolic links have no mode of their own.
    pub fn set_mode(self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        match self.kind {
            FileType::Symlink => {}
            kind if opens_fully(kind) => fchmod(self.fd, mode)?,
            _ => chmod(self.proc_path(), mode)?,
        }
        Ok(())
    }

    pub fn set_owner(self, uid: u32, gid: u32) -> io::Result<()> {
        Ok(chownat(self.fd, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?)
    }

    pub fn set_xattr(self, name: &[u8], value: &[u8]) -> io::Result<()> {
        if opens_fully(self.kind) {
            fsetxattr(self.fd, name, value, XattrFlags::empty())?;
        } else {
            setxattr(self.proc_path(), name, value, XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Removing what is not there is no error.
    pub fn remove_xattr(self, name: &[u8]) -> io::Result<()> {
        let result =
            if opens_fully(self.kind) { fremovexattr(self.fd, name) } else { removexattr(self.proc_path(), name) };
        match result {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The replicated extended attributes, sorted by name.
    pub fn xattrs(self) -> io::Result<Xattrs> {
        let names = match grow(|buffer| {
            if opens_fully(self.kind) { flistxattr(self.fd, buffer) } else { listxattr(self.proc_path(), buffer) }
        }) {
            Ok(names) => names,
            // A file system without extended attributes.
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut xattrs = Vec::new();
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty() && is_replicated(name)) {
            let value = grow(|buffer| {
                if opens_fully(self.kind) {
                    fgetxattr(self.fd, name, buffer)
                } else {
                    getxattr(self.proc_path(), name, buffer)
                }
            });
            match value {
                Ok(value) => xattrs.push((name.to_vec(), value)),
                // Removed meanwhile.
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
        xattrs.sort();
        Ok(xattrs)
    }

    /// Everything that [`Meta`] holds.
    pub fn meta(self) -> io::Result<Meta> {
        let stat = fstat(self.fd)?;
        Ok(Meta {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time { sec: stat.st_mtime, nsec: stat.st_mtime_nsec as u32 },
            rdev: if self.kind.is_char_device() || self.kind.is_block_device() { stat.st_rdev } else { 0 },
            xattrs: self.xattrs()?,
        })
    }

    /// Make the attributes equal to `meta`, changing only what differs. Order matters: chown clears set-user-ID bits
    /// and capabilities, an ACL changes the mode.
    pub fn set_meta(self, meta: &Meta) -> io::Result<()> {
        let stat = fstat(self.fd)?;
        if (stat.st_uid, stat.st_gid) != (meta.uid, meta.gid) {
            self.set_owner(meta.uid, meta.gid)?;
        }
        let current = self.xattrs()?;
        let wanted = || meta.xattrs.iter().filter(|(name, _)| is_replicated(name));
        if !current.iter().eq(wanted()) {
            for (name, _) in current.iter().filter(|(name, _)| !wanted().any(|(wanted, _)| wanted == name)) {
                self.remove_xattr(name)?;
            }
            for (name, value) in wanted().filter(|xattr| !current.contains(xattr)) {
                self.set_xattr(name, value)?;
            }
        }
        let stat = fstat(self.fd)?;
        if (stat.st_mode ^ meta.mode) & PERMISSIONS != 0 {
            self.set_mode(meta.mode)?;
        }
        if (stat.st_mtime, stat.st_mtime_nsec as u32) != (meta.mtime.sec, meta.mtime.nsec) {
            self.set_mtime(meta.mtime)?;
        }
        Ok(())
    }
}

/// Call with ever larger buffers until the answer fits.
fn grow(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}
