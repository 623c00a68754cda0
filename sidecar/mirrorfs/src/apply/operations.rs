//! Each operation as system calls.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, fallocate, ftruncate, linkat, mkdirat, mknodat,
    openat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::{Errno, pwrite};

use super::attributes::Inode;
use super::{Applier, ApplyError};
use crate::op::{Meta, Oid, Op, Place, Time};
use crate::resync::copy::{copy_file, copy_special};

/// What a new object is made of.
pub(crate) enum New<'a> {
    /// Any type but a symbolic link; `Meta::mode` says which.
    Plain,
    Symlink(&'a [u8]),
}

impl Applier {
    pub(super) fn change(&mut self, op: &Op<'_>) -> Result<(), ApplyError> {
        match op {
            Op::Bind { oid, at } => self.bind(*oid, at),
            Op::BindRoot { oid, volume } => self.objects.insert_root(*oid, *volume),
            Op::Forget { oid } => {
                self.objects.remove(*oid);
                Ok(())
            }
            Op::Create { oid, at, meta, dir_mtime } | Op::Mkdir { oid, at, meta, dir_mtime } => {
                self.make_at(*oid, at, &New::Plain, meta, *dir_mtime)
            }
            Op::Symlink { oid, at, target, meta, dir_mtime } => {
                self.make_at(*oid, at, &New::Symlink(target), meta, *dir_mtime)
            }
            Op::Tmpfile { oid, parent, meta } => self.make_unnamed(*oid, *parent, meta),
            Op::Link { oid, at, dir_mtime } => self.link(*oid, at, *dir_mtime),
            Op::Unlink { at, keep, dir_mtime } => self.unlink(at, *keep, *dir_mtime),
            Op::Rmdir { at, dir_mtime } => {
                let directory = self.directory(at)?;
                let removed = match unlinkat(&*directory, &*at.name, AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => self.discard_unlisted(&directory, at),
                    other => other.map_err(io::Error::from),
                };
                removed.map_err(|e| self.at("rmdir", at, e))?;
                self.touch(at.parent, *dir_mtime)
            }
            Op::Rename { .. } => self.rename(op),
            _ => self.change_object(op),
        }
    }

    /// Operations on one object's contents or attributes.
    fn change_object(&mut self, op: &Op<'_>) -> Result<(), ApplyError> {
        let (oid, what) = match op {
            Op::Write { oid, .. } => (*oid, "write to"),
            Op::Truncate { oid, .. } => (*oid, "truncate"),
            Op::Fallocate { oid, .. } => (*oid, "fallocate"),
            Op::Chmod { oid, .. } => (*oid, "chmod"),
            Op::Chown { oid, .. } => (*oid, "chown"),
            Op::Mtime { oid, .. } => (*oid, "set the time of"),
            Op::SetXattr { oid, .. } | Op::RemoveXattr { oid, .. } => (*oid, "set an extended attribute of"),
            Op::SyncSize { oid, .. }
            | Op::SyncBlock { oid, .. }
            | Op::SyncHole { oid, .. }
            | Op::SyncPrealloc { oid, .. }
            | Op::SyncMeta { oid, .. } => (*oid, "synchronise"),
            _ => return Err(ApplyError::new("apply", io::Error::from(io::ErrorKind::Unsupported))),
        };
        let file = self.objects.open(oid)?;
        let kind = self.objects.get(oid)?.kind;
        if matches!(op, Op::Write { .. } | Op::Truncate { .. } | Op::Fallocate { .. }) {
            self.save_before_change(oid)?;
        }
        let inode = Inode::new(&*file, kind);
        let result = match op {
            Op::Write { offset, data, mtime, .. } => {
                write_all(&file, data, *offset).and_then(|()| inode.set_mtime(*mtime))
            }
            Op::Truncate { size, mtime, .. } => {
                ftruncate(&*file, *size).map_err(io::Error::from).and_then(|()| inode.set_mtime(*mtime))
            }
            Op::Fallocate { mode, offset, len, mtime, .. } => {
                fallocate(&*file, FallocateFlags::from_bits_retain(*mode), *offset, *len)
                    .map_err(io::Error::from)
                    .and_then(|()| inode.set_mtime(*mtime))
            }
            Op::Chmod { mode, .. } => inode.set_mode(*mode),
            Op::Chown { uid, gid, mode, .. } => inode.set_owner(*uid, *gid).and_then(|()| inode.set_mode(*mode)),
            Op::Mtime { mtime, .. } => inode.set_mtime(*mtime),
            Op::SetXattr { name, value, mode, .. } => {
                inode.set_xattr(name, value).and_then(|()| self.after_xattr(inode, name, *mode))
            }
            Op::RemoveXattr { name, mode, .. } => {
                inode.remove_xattr(name).and_then(|()| self.after_xattr(inode, name, *mode))
            }
            other => return self.sync_object(other, &file, kind),
        };
        result.map_err(|error| self.on(what, oid, &file, error))
    }

    /// An access ACL is also the mode; what the primary's came to is what counts.
    fn after_xattr(&self, inode: Inode<'_>, name: &[u8], mode: u32) -> io::Result<()> {
        if name.starts_with(b"system.posix_acl_") { inode.set_mode(mode) } else { Ok(()) }
    }

    fn bind(&mut self, oid: Oid, at: &Place) -> Result<(), ApplyError> {
        let directory = self.directory(at)?;
        let volume = self.objects.get(at.parent)?.volume;
        let child = self.objects.child(directory.as_fd(), volume, &at.name);
        let child = child.map_err(|e| self.at("bind", at, e))?;
        let child = child.ok_or_else(|| self.at("bind", at, Errno::NOENT))?;
        // In the middle of a resynchronisation that keeps what only this node had, nothing is known of its contents.
        let pristine = self.quarantine.is_some();
        self.objects.insert(oid, volume, child, pristine);
        Ok(())
    }

    fn make_at(&mut self, oid: Oid, at: &Place, new: &New<'_>, meta: &Meta, dir_mtime: Time) -> Result<(), ApplyError> {
        let directory = self.directory(at)?;
        let volume = self.objects.get(at.parent)?.volume;
        self.make(oid, &directory, volume, &at.name, new, meta).map_err(|e| self.at("create", at, e))?;
        self.touch(at.parent, dir_mtime)
    }

    /// Make a new object in a directory, with all its attributes, and bind it.
    pub(crate) fn make(
        &mut self,
        oid: Oid,
        directory: &OwnedFd,
        volume: usize,
        name: &[u8],
        new: &New<'_>,
        meta: &Meta,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(meta.mode);
        let mode = Mode::from_raw_mode(0o600);
        let fd = match (new, kind) {
            (New::Plain, FileType::RegularFile) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(directory, name, flags, mode)?
            }
            (New::Plain, FileType::Directory) => {
                mkdirat(directory, name, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(directory, name, flags, Mode::empty())?
            }
            (New::Symlink(target), _) => {
                symlinkat(*target, directory, name)?;
                openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?
            }
            (New::Plain, kind) => {
                mknodat(directory, name, kind, mode, meta.rdev)?;
                openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?
            }
        };
        Inode::new(&fd, kind).set_meta(meta)?;
        self.objects.insert_open(oid, volume, fd)?;
        Ok(())
    }

    fn make_unnamed(&mut self, oid: Oid, parent: Oid, meta: &Meta) -> Result<(), ApplyError> {
        let directory = self.objects.open(parent)?;
        let volume = self.objects.get(parent)?.volume;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let made =
            openat(&*directory, ".", flags, Mode::from_raw_mode(0o600)).map_err(io::Error::from).and_then(|fd| {
                Inode::new(&fd, FileType::RegularFile).set_meta(meta)?;
                self.objects.insert_open(oid, volume, fd)
            });
        made.map_err(|error| self.on("make an unnamed file in", parent, &directory, error))?;
        self.objects.pin(oid)
    }

    fn link(&mut self, oid: Oid, at: &Place, dir_mtime: Time) -> Result<(), ApplyError> {
        let directory = self.directory(at)?;
        self.link_object(oid, &directory, &at.name).map_err(|e| self.at("link", at, e))?;
        self.touch(at.parent, dir_mtime)
    }

    /// Give an object a further name.
    ///
    /// In the middle of a resynchronisation the object's names here may all be gone while the primary still has others
    /// (which come later). An inode without a name cannot get one any more: a copy takes its place.
    pub(crate) fn link_object(&mut self, oid: Oid, directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let file = self.objects.open(oid).map_err(io::Error::other)?;
        match linkat(&*file, "", directory, name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let (volume, kind) = {
            let object = self.objects.get(oid).map_err(io::Error::other)?;
            (object.volume, object.kind)
        };
        if kind == FileType::RegularFile {
            copy_file(&file, directory, name)?;
        } else {
            copy_special(&file, directory, name)?;
        }
        let child = self.objects.child(directory.as_fd(), volume, name)?.ok_or(Errno::NOENT)?;
        let pristine = self.objects.find(oid).is_some_and(|object| object.pristine);
        self.objects.insert(oid, volume, child, pristine);
        Ok(())
    }

    fn unlink(&mut self, at: &Place, keep: Oid, dir_mtime: Time) -> Result<(), ApplyError> {
        if keep != 0 {
            self.objects.pin(keep)?;
        }
        let directory = self.directory(at)?;
        self.save_before_removal(&directory, at)?;
        unlinkat(&*directory, &*at.name, AtFlags::empty()).map_err(|e| self.at("unlink", at, e))?;
        self.touch(at.parent, dir_mtime)
    }

    fn rename(&mut self, op: &Op<'_>) -> Result<(), ApplyError> {
        let Op::Rename { from, to, flags, keep, from_mtime, to_mtime } = op else { return Ok(()) };
        if *keep != 0 {
            self.objects.pin(*keep)?;
        }
        let source = self.directory(from)?;
        let target = self.directory(to)?;
        let flags = RenameFlags::from_bits_retain(*flags);
        if !flags.contains(RenameFlags::EXCHANGE) {
            self.save_before_removal(&target, to)?;
        }
        let rename = || renameat_with(&*source, &*from.name, &*target, &*to.name, flags);
        let renamed = match rename() {
            Err(Errno::NOTEMPTY | Errno::EXIST) if !flags.contains(RenameFlags::NOREPLACE) => {
                self.discard_unlisted(&target, to).and_then(|()| Ok(rename()?))
            }
            other => other.map_err(io::Error::from),
        };
        renamed.map_err(|e| self.at("rename to", to, e))?;
        self.touch(from.parent, *from_mtime)?;
        self.touch(to.parent, *to_mtime)
    }

    /// A directory that is empty on the primary is going, and is not empty here: in the middle of a resynchronisation
    /// its listing may not have come yet.
    fn discard_unlisted(&mut self, directory: &OwnedFd, at: &Place) -> io::Result<()> {
        if !self.objects.is_syncing() {
            return Err(Errno::NOTEMPTY.into());
        }
        let volume = self.objects.get(at.parent).map_err(io::Error::other)?.volume;
        self.discard(directory, volume, &at.name)
    }

    fn directory(&mut self, at: &Place) -> Result<Arc<OwnedFd>, ApplyError> {
        self.objects.open(at.parent)
    }

    fn touch(&mut self, directory: Oid, mtime: Time) -> Result<(), ApplyError> {
        let fd = self.objects.open(directory)?;
        Inode::new(&*fd, FileType::Directory)
            .set_mtime(mtime)
            .map_err(|error| self.on("set the time of", directory, &fd, error))
    }

    /// An error on a directory's entry.
    pub(crate) fn at(&self, what: &str, at: &Place, error: impl Into<io::Error>) -> ApplyError {
        let name = String::from_utf8_lossy(&at.name);
        ApplyError::new(format!("{what} {name:?} in object {}", at.parent), error.into())
    }

    /// An error on an object, with the path that it has now.
    pub(crate) fn on(&self, what: &str, oid: Oid, fd: &OwnedFd, error: impl Into<io::Error>) -> ApplyError {
        let path = self.objects.find(oid).map(|object| self.objects.relative_path(object.volume, fd));
        ApplyError::new(format!("{what} {:?}", path.unwrap_or_default()), error.into())
    }
}

/// `pwrite` until everything is written.
pub(crate) fn write_all(file: &OwnedFd, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match pwrite(file, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                data = &data[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
