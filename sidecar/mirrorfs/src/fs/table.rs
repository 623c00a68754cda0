//! The table of inodes, and the bounds on descriptors.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::inode::{Inode, Key, WeakInode, key_of};
use crate::op::Oid;

/// What inodes need of the table when their descriptors open or their life ends.
#[derive(Debug)]
pub struct Shared {
    roots: Vec<OwnedFd>,
    by_key: Mutex<HashMap<Key, Weak<Inode>>>,
    /// Objects that are gone, with the epoch in which the peer knew them.
    forgotten: Mutex<Vec<(Oid, u64)>>,
    open: Mutex<VecDeque<WeakInode>>,
    open_limit: usize,
}

impl Shared {
    /// A real descriptor of the volume's root directory.
    pub fn root(&self, volume: u32) -> BorrowedFd<'_> {
        self.roots[volume as usize].as_fd()
    }

    /// The first ids are the roots'.
    pub(super) fn is_root(&self, oid: Oid) -> bool {
        oid <= self.roots.len() as u64
    }

    /// An inode has descriptors; close others' when there are too many.
    pub(super) fn opened(&self, inode: WeakInode) {
        let mut open = self.open.lock();
        open.push_back(inode);
        let mut tries = 64;
        let mut alive = Vec::new();
        while open.len() > self.open_limit && tries > 0 {
            tries -= 1;
            let Some(oldest) = open.pop_front() else { break };
            if let Some(inode) = oldest.upgrade() {
                alive.push((inode, oldest));
            }
            if alive.len() == 8 {
                break;
            }
        }
        drop(open);
        for (inode, weak) in alive {
            if !inode.evict() {
                self.open.lock().push_back(weak);
            }
        }
    }

    pub(super) fn dropped(&self, oid: Oid, key: Key, bound: u64) {
        let mut by_key = self.by_key.lock();
        if by_key.get(&key).is_some_and(|weak| weak.strong_count() == 0) {
            by_key.remove(&key);
        }
        drop(by_key);
        if bound != 0 {
            self.forgotten.lock().push((oid, bound));
        }
    }
}

#[derive(Debug)]
struct Known {
    inode: Arc<Inode>,
    /// References that the kernel holds (`nlookup` of the FUSE protocol).
    lookups: u64,
}

/// All inodes of all volumes of the module.
#[derive(Debug)]
pub struct Table {
    shared: Arc<Shared>,
    by_oid: Mutex<HashMap<Oid, Known>>,
    roots: Vec<Arc<Inode>>,
    next: AtomicU64,
}

impl Table {
    /// `roots` are real descriptors of the volumes' backing directories, in order.
    pub fn new(roots: Vec<OwnedFd>, open_limit: usize) -> Result<Self, Errno> {
        let mut openings = Vec::new();
        for root in &roots {
            let path = openat(root, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            openings.push((fstat(&path)?, path));
        }
        let shared = Arc::new(Shared {
            roots,
            by_key: Mutex::default(),
            forgotten: Mutex::default(),
            open: Mutex::default(),
            open_limit,
        });
        let mut inodes = Vec::new();
        for (volume, (oid, (stat, path))) in (0..).zip((1..).zip(openings)) {
            let inode = Arc::new(Inode::new(oid, volume, &stat, path, Arc::clone(&shared)));
            shared.by_key.lock().insert(inode.key, Arc::downgrade(&inode));
            inodes.push(inode);
        }
        let next = AtomicU64::new(inodes.len() as u64 + 1);
        Ok(Self { shared, by_oid: Mutex::default(), roots: inodes, next })
    }

    /// Root directories, in order of the volumes.
    pub fn roots(&self) -> &[Arc<Inode>] {
        &self.roots
    }

    /// A real descriptor of the volume's root directory.
    pub fn root_fd(&self, volume: u32) -> BorrowedFd<'_> {
        self.shared.root(volume)
    }

    /// The inode that the kernel names.
    ///
    /// # Errors
    /// `ESTALE` for an id that the kernel does not hold.
    pub fn get(&self, oid: Oid) -> Result<Arc<Inode>, Errno> {
        if let Some(root) = usize::try_from(oid).ok().and_then(|oid| self.roots.get(oid.checked_sub(1)?)) {
            return Ok(Arc::clone(root));
        }
        self.by_oid.lock().get(&oid).map(|known| Arc::clone(&known.inode)).ok_or(Errno::STALE)
    }

    /// The living inode with this identity, if it is known.
    pub fn find(&self, key: Key) -> Option<Arc<Inode>> {
        self.shared.by_key.lock().get(&key).and_then(Weak::upgrade)
    }

    /// The inode that `path` (an `O_PATH` descriptor) opens, known from now on.
    pub fn intern(&self, volume: u32, stat: &Stat, path: OwnedFd) -> Arc<Inode> {
        let key = key_of(stat);
        // Declared before the guard, so that whatever falls to the ground here does so after the lock is free.
        let fresh;
        let mut by_key = self.shared.by_key.lock();
        if let Some(known) = by_key.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let oid = self.next.fetch_add(1, Ordering::Relaxed);
        fresh = Arc::new(Inode::new(oid, volume, stat, path, Arc::clone(&self.shared)));
        by_key.insert(key, Arc::downgrade(&fresh));
        drop(by_key);
        fresh.list_descriptors();
        fresh
    }

    /// The inode has no name any more: its number may be given to another.
    pub fn orphan(&self, inode: &Inode) {
        inode.orphan.store(true, Ordering::Release);
        self.shared.by_key.lock().remove(&inode.key);
    }

    /// The kernel got a reference.
    pub fn remember(&self, inode: &Arc<Inode>) {
        let mut by_oid = self.by_oid.lock();
        let known = by_oid.entry(inode.oid).or_insert_with(|| Known { inode: Arc::clone(inode), lookups: 0 });
        known.lookups += 1;
    }

    /// The kernel gave back `count` references.
    pub fn forget(&self, oid: Oid, count: u64) {
        let gone = {
            let mut by_oid = self.by_oid.lock();
            let Some(known) = by_oid.get_mut(&oid) else { return };
            known.lookups = known.lookups.saturating_sub(count);
            if known.lookups == 0 { by_oid.remove(&oid) } else { None }
        };
        drop(gone);
    }

    /// Take the list of objects that the peer need not know any more: (oid, epoch in which it was bound).
    pub fn take_forgotten(&self) -> Vec<(Oid, u64)> {
        std::mem::take(&mut *self.shared.forgotten.lock())
    }

    /// Number of inodes that the kernel holds.
    pub fn len(&self) -> usize {
        self.by_oid.lock().len()
    }

    /// Whether the kernel holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
