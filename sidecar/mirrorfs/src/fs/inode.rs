//! Inodes that the kernel or the stream knows of, and their descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FileType, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use super::handle::FileHandle;
use super::table::Shared;
use crate::op::{Oid, Seq};

/// Identity of a living inode on this node: device and inode number.
pub type Key = (u64, u64);

/// A name that is known to lead to an inode. The parent lives as long as a child's name needs it.
#[derive(Clone, Debug)]
pub struct Name {
    pub parent: Arc<Inode>,
    pub name: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Descriptors {
    /// `O_PATH`, for everything by name or attribute.
    path: Option<Arc<OwnedFd>>,
    /// `O_RDWR`, for the contents of regular files.
    data: Option<Arc<OwnedFd>>,
    listed: bool,
}

/// One inode. Its [`Oid`] is never used for another, as long as this process lives.
#[derive(Debug)]
pub struct Inode {
    pub oid: Oid,
    pub volume: u32,
    pub kind: FileType,
    pub key: Key,
    /// Held while the inode's contents or attributes change, from before the local system call until the operation has
    /// its place in the stream: one order on both nodes.
    pub order: Mutex<()>,
    /// Stream epoch in which the peer learned the oid.
    pub bound: AtomicU64,
    /// Epoch of the resynchronisation that has already treated this directory's listing or this file's contents.
    pub synced: AtomicU64,
    /// Epoch of the resynchronisation whose walk has come to it, or is sure to.
    pub seen: AtomicU64,
    /// How often ranges were collapsed or inserted: a comparison that runs meanwhile starts again.
    pub shifts: AtomicU32,
    /// No name leads to it any more, and none ever will: what happens to it is this node's own business.
    pub orphan: AtomicBool,
    /// Its last operation, for `close` in durability `commit`.
    pub last: AtomicU64,
    /// Era of the journal in which this small file is hot by its directory.
    pub hot: AtomicU64,
    /// Era in which everything about this directory and what is directly in it, or about this file, is hot already.
    pub covered: AtomicU64,
    names: Mutex<Vec<Name>>,
    handle: OnceLock<Option<FileHandle>>,
    descriptors: Mutex<Descriptors>,
    used: AtomicBool,
    shared: Arc<Shared>,
}

impl Inode {
    /// `path`: an `O_PATH` descriptor of the inode.
    pub(super) fn new(oid: Oid, volume: u32, stat: &Stat, path: OwnedFd, shared: Arc<Shared>) -> Self {
        Self {
            oid,
            volume,
            kind: FileType::from_raw_mode(stat.st_mode),
            key: key_of(stat),
            order: Mutex::new(()),
            bound: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            shifts: AtomicU32::new(0),
            orphan: AtomicBool::new(false),
            last: AtomicU64::new(0),
            hot: AtomicU64::new(0),
            covered: AtomicU64::new(0),
            names: Mutex::new(Vec::new()),
            handle: OnceLock::new(),
            descriptors: Mutex::new(Descriptors { path: Some(Arc::new(path)), data: None, listed: false }),
            used: AtomicBool::new(false),
            shared,
        }
    }

    /// An `O_PATH` descriptor.
    ///
    /// # Errors
    /// `ESTALE` when the inode vanished behind the mount.
    pub fn path(self: &Arc<Self>) -> Result<Arc<OwnedFd>, Errno> {
        self.used.store(true, Ordering::Relaxed);
        let mut descriptors = self.descriptors.lock();
        if let Some(fd) = &descriptors.path {
            return Ok(Arc::clone(fd));
        }
        let handle = self.handle.get().and_then(Option::as_ref).ok_or(Errno::STALE)?;
        let fd =
            Arc::new(handle.open(self.shared.root(self.volume), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?);
        descriptors.path = Some(Arc::clone(&fd));
        self.list(descriptors);
        Ok(fd)
    }

    /// A descriptor that reads and writes the contents of a regular file.
    pub fn data(self: &Arc<Self>) -> Result<Arc<OwnedFd>, Errno> {
        self.used.store(true, Ordering::Relaxed);
        if let Some(fd) = &self.descriptors.lock().data {
            return Ok(Arc::clone(fd));
        }
        let path = self.path()?;
        let fd = Arc::new(reopen(path.as_fd(), OFlags::RDWR | OFlags::NOATIME)?);
        self.keep_data(Arc::clone(&fd));
        Ok(fd)
    }

    /// Remember a read-write descriptor that somebody opened already.
    pub(super) fn keep_data(self: &Arc<Self>, fd: Arc<OwnedFd>) {
        let mut descriptors = self.descriptors.lock();
        if descriptors.data.is_none() {
            descriptors.data = Some(fd);
            self.list(descriptors);
        }
    }

    /// A descriptor that can be listed or flushed, for directories and what cannot be opened for writing.
    pub fn readable(self: &Arc<Self>) -> Result<OwnedFd, Errno> {
        let path = self.path()?;
        if self.kind == FileType::Directory {
            openat(&*path, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        } else {
            reopen(path.as_fd(), OFlags::RDONLY)
        }
    }

    /// Put the inode into the queue of those whose descriptors may be closed.
    pub(super) fn list_descriptors(self: &Arc<Self>) {
        self.list(self.descriptors.lock());
    }

    fn list(self: &Arc<Self>, mut descriptors: MutexGuard<'_, Descriptors>) {
        let first = !std::mem::replace(&mut descriptors.listed, true);
        // Closing other inodes' descriptors takes their locks: not while this one's is held.
        drop(descriptors);
        if first {
            self.shared.opened(Arc::downgrade(self));
        }
    }

    /// Close the descriptors unless they were used since the last time, or cannot be had again.
    /// Returns false when the inode stays in the queue.
    pub(super) fn evict(self: &Arc<Self>) -> bool {
        // Without a name its handle may be stale already: what is unlinked but open lives by its descriptor.
        if self.used.swap(false, Ordering::Relaxed) || self.orphan.load(Ordering::Relaxed) || self.name().is_none() {
            return false;
        }
        let mut descriptors = self.descriptors.lock();
        if let Some(path) = &descriptors.path {
            if self.handle.get_or_init(|| FileHandle::of(path.as_fd()).ok()).is_none() {
                return false;
            }
        }
        *descriptors = Descriptors::default();
        true
    }

    /// The inode's file handle.
    ///
    /// # Errors
    /// `EOPNOTSUPP` on a file system without handles.
    pub fn handle(self: &Arc<Self>) -> Result<&FileHandle, Errno> {
        if self.handle.get().is_none() {
            let path = self.path()?;
            self.handle.get_or_init(|| FileHandle::of(path.as_fd()).ok());
        }
        self.handle.get().and_then(Option::as_ref).ok_or(Errno::OPNOTSUPP)
    }

    /// `name` in `parent` leads here.
    pub fn add_name(&self, parent: &Arc<Inode>, name: &[u8]) {
        let mut names = self.names.lock();
        if !names.iter().any(|known| known.is(parent, name)) {
            names.push(Name { parent: Arc::clone(parent), name: name.into() });
        }
    }

    /// `name` in `parent` does not lead here any more.
    pub fn remove_name(&self, parent: &Arc<Inode>, name: &[u8]) {
        // The removed name may hold the last reference to its parent, whose end takes other locks: drop it outside.
        let removed = {
            let mut names = self.names.lock();
            names.iter().position(|known| known.is(parent, name)).map(|index| names.swap_remove(index))
        };
        drop(removed);
    }

    /// Some name of the inode.
    pub fn name(&self) -> Option<Name> {
        self.names.lock().first().cloned()
    }

    /// A name that meets the condition.
    pub fn name_where(&self, condition: impl Fn(&Name) -> bool) -> Option<Name> {
        self.names.lock().iter().find(|name| condition(name)).cloned()
    }

    /// Whether the peer knows it in the stream of this epoch.
    pub fn is_bound(&self, epoch: u64) -> bool {
        self.bound.load(Ordering::Acquire) == epoch
    }

    /// The root directory of a volume.
    pub fn is_root(&self) -> bool {
        self.shared.is_root(self.oid)
    }

    /// Remember its latest operation.
    pub fn touched(&self, seq: Seq) {
        self.last.fetch_max(seq, Ordering::AcqRel);
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.shared.dropped(self.oid, self.key, self.bound.load(Ordering::Acquire));
    }
}

impl Name {
    fn is(&self, parent: &Arc<Inode>, name: &[u8]) -> bool {
        Arc::ptr_eq(&self.parent, parent) && *self.name == *name
    }
}

/// A weak reference, as the queue of descriptors holds it.
pub(super) type WeakInode = Weak<Inode>;

/// Identity of what `stat` describes.
pub fn key_of(stat: &Stat) -> Key {
    (stat.st_dev, stat.st_ino)
}

/// Open what an `O_PATH` descriptor names once more, with other flags.
fn reopen(path: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(rustix::fs::CWD, proc_path(path), flags | OFlags::CLOEXEC, Mode::empty())
}

/// A path that leads to what the descriptor names, whatever its type (also a symbolic link itself).
pub fn proc_path(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
