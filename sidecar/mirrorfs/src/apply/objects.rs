//! The secondary's objects: which inode each id of the stream names.
//!
//! An object is remembered by its file handle; open descriptors are a bounded cache over that. Only what cannot be
//! reached by a handle stays open: a file without a name that the primary still has open, and everything on a file
//! system without handles.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat};
use rustix::io::Errno;

use super::ApplyError;
use super::attributes::opens_fully;
use crate::fs::FileHandle;
use crate::op::Oid;
use crate::stream::secondary::Volume;

/// Most descriptors that the cache holds; past it the older half is closed.
const CACHED: usize = 1024;

/// What an inode is, independent of its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    Handle {
        volume: usize,
        handle: FileHandle,
    },
    /// On a file system without handles; unambiguous while the object is pinned.
    Inode {
        device: u64,
        inode: u64,
    },
}

/// One inode that the stream refers to.
#[derive(Debug)]
pub struct Object {
    pub volume: usize,
    pub kind: FileType,
    pub identity: Identity,
    /// Keeps an inode without a name (or without a handle) alive.
    pinned: Option<Arc<OwnedFd>>,
    /// During a resynchronisation that keeps what only this node had: the contents may still be of that kind.
    pub pristine: bool,
}

/// A directory entry that was opened with `O_PATH`, to see what it is.
#[derive(Debug)]
pub struct Child {
    pub fd: Arc<OwnedFd>,
    pub stat: Stat,
    pub kind: FileType,
    pub identity: Identity,
}

#[derive(Debug)]
struct Root {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

/// All objects of one stream.
#[derive(Debug)]
pub struct Objects {
    roots: Vec<Root>,
    objects: HashMap<Oid, Object>,
    /// Which object each inode is, as far as a resynchronisation has to know.
    by_identity: Option<HashMap<Identity, Oid>>,
    open: HashMap<Oid, (Arc<OwnedFd>, u64)>,
    clock: u64,
}

impl Objects {
    /// Open the volumes. `syncing`: remember identities until [`Self::synced`].
    pub fn new(volumes: &[Volume], syncing: bool) -> Result<Self, ApplyError> {
        let mut roots = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = open(&volume.backing, flags, Mode::empty())
                .map_err(|error| ApplyError::new(format!("open volume {}", volume.name), error.into()))?;
            let path = path_of(&fd).map_err(|error| ApplyError::new(format!("find volume {}", volume.name), error))?;
            roots.push(Root { fd: Arc::new(fd), path });
        }
        Ok(Self {
            roots,
            objects: HashMap::new(),
            by_identity: syncing.then(HashMap::new),
            open: HashMap::new(),
            clock: 0,
        })
    }

    /// The trees are equal: identities need not be known any more.
    pub fn synced(&mut self) {
        self.by_identity = None;
    }

    pub fn is_syncing(&self) -> bool {
        self.by_identity.is_some()
    }

    pub fn roots(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.roots.iter().map(|root| &root.fd)
    }

    pub fn get(&self, oid: Oid) -> Result<&Object, ApplyError> {
        self.objects.get(&oid).ok_or_else(|| ApplyError::unknown(oid))
    }

    pub fn find(&self, oid: Oid) -> Option<&Object> {
        self.objects.get(&oid)
    }

    pub fn get_mut(&mut self, oid: Oid) -> Option<&mut Object> {
        self.objects.get_mut(&oid)
    }

    /// The object that this inode is bound to, during a resynchronisation.
    pub fn bound_to(&self, identity: &Identity) -> Option<Oid> {
        self.by_identity.as_ref()?.get(identity).copied()
    }

    /// Bind the root of a volume.
    pub fn insert_root(&mut self, oid: Oid, volume: u32) -> Result<(), ApplyError> {
        let index = volume as usize;
        let root = self.roots.get(index).ok_or_else(|| {
            ApplyError::new(format!("bind the root of volume {volume}"), io::Error::other("no such volume"))
        })?;
        let fd = root.fd.clone();
        let stat = fstat(&*fd).map_err(|error| ApplyError::new("read a volume's root", error.into()))?;
        let identity = identify(&fd, index, &stat).map_err(|error| ApplyError::new("identify a root", error))?;
        self.insert(oid, index, Child { fd, stat, kind: FileType::Directory, identity }, false);
        Ok(())
    }

    /// Bind an object that was opened as a directory's entry.
    pub fn insert(&mut self, oid: Oid, volume: usize, child: Child, pristine: bool) {
        let Child { fd, kind, identity, .. } = child;
        let pinned = matches!(identity, Identity::Inode { .. }).then_some(fd);
        if let Some(known) = &mut self.by_identity {
            known.insert(identity.clone(), oid);
        }
        self.open.remove(&oid);
        self.objects.insert(oid, Object { volume, kind, identity, pinned, pristine });
    }

    /// Bind an object that is open already, in the way [`Self::open`] would open it.
    pub fn insert_open(&mut self, oid: Oid, volume: usize, fd: OwnedFd) -> io::Result<Arc<OwnedFd>> {
        let stat = fstat(&fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let identity = identify(&fd, volume, &stat)?;
        let fd = Arc::new(fd);
        self.insert(oid, volume, Child { fd: fd.clone(), stat, kind, identity }, false);
        self.cache(oid, fd.clone());
        Ok(fd)
    }

    /// Keep the object alive without a name, until it is forgotten.
    pub fn pin(&mut self, oid: Oid) -> Result<(), ApplyError> {
        let fd = self.open(oid)?;
        if let Some(object) = self.objects.get_mut(&oid) {
            object.pinned = Some(fd);
        }
        Ok(())
    }

    pub fn remove(&mut self, oid: Oid) {
        self.open.remove(&oid);
        if let (Some(object), Some(known)) = (self.objects.remove(&oid), &mut self.by_identity)
            && known.get(&object.identity) == Some(&oid)
        {
            known.remove(&object.identity);
        }
    }

    /// The object's descriptor: reading and writing for a regular file, reading for a directory, else `O_PATH`.
    pub fn open(&mut self, oid: Oid) -> Result<Arc<OwnedFd>, ApplyError> {
        self.clock += 1;
        if let Some((fd, used)) = self.open.get_mut(&oid) {
            *used = self.clock;
            return Ok(fd.clone());
        }
        let object = self.get(oid)?;
        let flags = OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | match object.kind {
                FileType::RegularFile => OFlags::RDWR | OFlags::NOATIME | OFlags::NONBLOCK,
                FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME,
                _ => OFlags::PATH,
            };
        let opened = match (&object.pinned, &object.identity) {
            (Some(fd), _) if !opens_fully(object.kind) => Ok(fd.clone()),
            (Some(fd), _) => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                openat(CWD, path, flags - OFlags::NOFOLLOW, Mode::empty()).map(Arc::new).map_err(io::Error::from)
            }
            (None, Identity::Handle { volume, handle }) => {
                handle.open(self.roots[*volume].fd.as_fd(), flags).map(Arc::new).map_err(io::Error::from)
            }
            (None, Identity::Inode { .. }) => Err(Errno::STALE.into()),
        };
        let fd = opened.map_err(|error| ApplyError::new(format!("open object {oid}"), error))?;
        self.cache(oid, fd.clone());
        Ok(fd)
    }

    fn cache(&mut self, oid: Oid, fd: Arc<OwnedFd>) {
        if self.open.len() >= CACHED {
            let mut used: Vec<u64> = self.open.values().map(|entry| entry.1).collect();
            let middle = used.len() / 2;
            let median = *used.select_nth_unstable(middle).1;
            self.open.retain(|_, entry| entry.1 > median);
        }
        self.clock += 1;
        self.open.insert(oid, (fd, self.clock));
    }

    /// Look at a directory's entry; `None` if there is none.
    pub fn child(&self, directory: BorrowedFd<'_>, volume: usize, name: &[u8]) -> io::Result<Option<Child>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(directory, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = statat(&fd, "", AtFlags::EMPTY_PATH)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let identity = identify(&fd, volume, &stat)?;
        Ok(Some(Child { fd: Arc::new(fd), stat, kind, identity }))
    }

    /// Where the descriptor's file is now, relative to its volume's root, for messages and the quarantine.
    pub fn relative_path(&self, volume: usize, fd: &OwnedFd) -> PathBuf {
        let path = path_of(fd).unwrap_or_default();
        path.strip_prefix(&self.roots[volume].path).map_or(path.clone(), Path::to_path_buf)
    }

    /// Number of objects, for the status.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

fn identify(fd: &OwnedFd, volume: usize, stat: &Stat) -> io::Result<Identity> {
    match FileHandle::of(fd.as_fd()) {
        Ok(handle) => Ok(Identity::Handle { volume, handle }),
        Err(Errno::OPNOTSUPP) => Ok(Identity::Inode { device: stat.st_dev, inode: stat.st_ino }),
        Err(error) => Err(error.into()),
    }
}

fn path_of(fd: &OwnedFd) -> io::Result<PathBuf> {
    let link = readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(link.into_bytes())))
}
