//! What the peer knows: which operations must be streamed, and what it must learn first.
//!
//! In a synchronised stream an object becomes known by `Bind`, with any of its names. During a resynchronisation the
//! peer's tree is equal only where the walk (`resync/source.rs`) has been:
//! * a directory is brought level (`SyncDir`, its ancestors first) before an operation that names an entry of it;
//! * a change of an object that the peer has not been told of is not streamed: the walk will find its result.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, Stat, fstat, readlinkat};
use rustix::io::Errno;

use super::incremental::{Incremental, Level};
use super::inode::{Inode, Key, Name, key_of};
use super::metadata::{meta_of, plain_meta};
use super::{Core, Found};
use crate::op::{Op, Place, Seq, SyncEntry};
use crate::stream::primary::{Aborted, Mode, Stream, Ticket};

/// Entries of one `SyncDir`; more come in several.
const ENTRIES: usize = 4096;

/// How far the present resynchronisation is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Of its stream. The walk of an earlier one may still be about to end, and must not take what is not its own.
    epoch: u64,
    /// Directories whose listing the peer has.
    listed: HashSet<Key>,
    /// Objects with several names: the peer must recognise them at each.
    pinned: Vec<Arc<Inode>>,
    /// Objects that got a place where the walk may have been already, before it came to them.
    moved: Vec<Arc<Inode>>,
    /// Only what the journals have is compared.
    incremental: Option<Incremental>,
}

impl Progress {
    pub(super) fn incremental(incremental: Incremental) -> Self {
        Self { incremental: Some(incremental), ..Self::default() }
    }

    /// How a directory may differ that is about to be level, and which objects got or lost names.
    pub(super) fn take_level(&mut self, directory: Key) -> (Level, Arc<HashSet<Key>>) {
        match &mut self.incremental {
            Some(known) => (known.dirty.remove(&directory).unwrap_or_else(Level::whole), Arc::clone(&known.placed)),
            None => (Level::whole(), Arc::default()),
        }
    }

    /// It could not be made level.
    pub(super) fn put_level(&mut self, directory: Key, level: Level) {
        if let Some(incremental) = &mut self.incremental {
            incremental.dirty.insert(directory, level);
        }
    }

    pub(super) fn found(&mut self, inode: &Arc<Inode>) {
        if let Some(incremental) = &mut self.incremental {
            incremental.found(inode);
        }
    }

    pub(super) fn level_later(&mut self, directory: &Arc<Inode>, name: Option<&[u8]>) {
        if let Some(incremental) = &mut self.incremental {
            incremental.level_later(directory, name);
        }
    }

    pub(super) fn take_todo(&mut self, epoch: u64) -> Vec<Arc<Inode>> {
        if self.epoch != epoch {
            return Vec::new();
        }
        self.incremental.as_mut().map(|incremental| std::mem::take(&mut incremental.todo)).unwrap_or_default()
    }
}

/// An entry of a directory.
pub struct Child {
    pub name: Vec<u8>,
    pub inode: Arc<Inode>,
    pub stat: Stat,
}

/// A directory as it was listed for the peer.
pub struct Listing {
    pub children: Vec<Child>,
    /// The `SyncDir`s of these children and how many each has; empty when the peer had the listing already.
    pub parts: Vec<(Seq, usize)>,
}

impl From<Aborted> for Errno {
    fn from(_: Aborted) -> Self {
        Self::IO
    }
}

impl Core {
    /// Begin a stream: nobody uses the old one any more when this returns.
    pub fn begin_stream(&self, name: String, mode: Mode) -> Result<(), Errno> {
        let _names = self.names.write();
        self.begin_held(name, mode, Progress::default())
    }

    /// The same, while the namespace is held exclusively.
    pub(super) fn begin_held(&self, name: String, mode: Mode, progress: Progress) -> Result<(), Errno> {
        let before = std::mem::replace(&mut *self.progress.lock(), progress);
        drop(before);
        self.stream.begin(name, mode);
        let epoch = self.stream.epoch();
        self.progress.lock().epoch = epoch;
        for root in self.table.roots() {
            self.stream.submit(&Op::BindRoot { oid: root.oid, volume: root.volume })?;
            root.bound.store(epoch, Ordering::Release);
        }
        Ok(())
    }

    /// The peer has everything: forget what only the resynchronisation needed.
    pub fn end_progress(&self, epoch: u64) {
        let finished = {
            let _names = self.names.write();
            let mut progress = self.progress.lock();
            if progress.epoch != epoch {
                return;
            }
            std::mem::take(&mut *progress)
        };
        drop(finished);
        self.send_forgotten();
    }

    /// Whether a change of this object is to be streamed; the peer then knows it. The namespace is held.
    pub(super) fn streams(&self, inode: &Arc<Inode>) -> Result<bool, Errno> {
        if inode.orphan.load(Ordering::Acquire) {
            return Ok(false);
        }
        let epoch = self.stream.epoch();
        match self.stream.mode() {
            Mode::Aborted => Err(Errno::IO),
            Mode::Detached => Ok(false),
            _ if inode.is_bound(epoch) => Ok(true),
            Mode::Mirrored => self.bind(inode, epoch).map(|()| true),
            Mode::Syncing => match inode.name_where(|name| self.is_listed(&name.parent, epoch)) {
                Some(name) => self.bind_at(inode, &name, epoch).map(|()| true),
                None => {
                    if self.is_incremental() {
                        self.compare_later(inode);
                    }
                    Ok(false)
                }
            },
        }
    }

    /// Whether a change of this directory's entries is to be streamed; the peer then has it as it is now.
    /// The namespace is held exclusively.
    pub(super) fn prepare_directory(&self, directory: &Arc<Inode>) -> Result<bool, Errno> {
        let epoch = self.stream.epoch();
        match self.stream.mode() {
            Mode::Aborted => Err(Errno::IO),
            Mode::Detached => Ok(false),
            Mode::Mirrored => self.bind(directory, epoch).map(|()| true),
            Mode::Syncing => {
                if !self.is_listed(directory, epoch) {
                    if let Some(name) = directory.name() {
                        self.prepare_directory(&name.parent)?;
                    }
                    // In an incremental one it may have been level but for those above it.
                    if !self.is_listed(directory, epoch) {
                        self.list_for_peer(directory)?;
                    }
                }
                self.bind(directory, epoch).map(|()| true)
            }
        }
    }

    /// An object that the stream creates: the peer will have all of it.
    pub(super) fn made(&self, inode: &Arc<Inode>) {
        let epoch = self.stream.epoch();
        inode.bound.store(epoch, Ordering::Release);
        if self.stream.mode() == Mode::Syncing {
            inode.synced.store(epoch, Ordering::Release);
            inode.seen.store(epoch, Ordering::Release);
            if inode.kind == FileType::Directory {
                self.progress.lock().listed.insert(inode.key);
            }
        }
    }

    /// The object has a further name.
    pub(super) fn pin(&self, inode: &Arc<Inode>) {
        if self.stream.mode() == Mode::Syncing {
            self.progress.lock().pinned.push(Arc::clone(inode));
        }
    }

    /// The object is at another place, or at a further one. The walk goes by directories: it must not miss what was
    /// moved from where it has not been to where it has been. The namespace is held exclusively.
    pub(super) fn moved(&self, inode: &Arc<Inode>) {
        let epoch = self.stream.epoch();
        // What the walk does not go through comes along as it is; contents are compared where it is cheap.
        if self.is_incremental() && inode.kind != FileType::RegularFile {
            return;
        }
        if self.stream.mode() == Mode::Syncing && inode.seen.swap(epoch, Ordering::AcqRel) != epoch {
            self.progress.lock().moved.push(Arc::clone(inode));
        }
    }

    /// What was moved before the walk came to it.
    pub fn take_moved(&self, epoch: u64) -> Vec<Arc<Inode>> {
        let mut progress = self.progress.lock();
        if progress.epoch == epoch { std::mem::take(&mut progress.moved) } else { Vec::new() }
    }

    /// The directory is gone.
    pub(super) fn unlist(&self, directory: Key) {
        let mut progress = self.progress.lock();
        progress.listed.remove(&directory);
        if let Some(incremental) = &mut progress.incremental {
            incremental.dirty.remove(&directory);
        }
    }

    pub(super) fn is_incremental(&self) -> bool {
        self.progress.lock().incremental.is_some()
    }

    pub(super) fn is_listed(&self, directory: &Inode, epoch: u64) -> bool {
        if directory.synced.load(Ordering::Acquire) == epoch {
            return true;
        }
        {
            let progress = self.progress.lock();
            if progress.listed.contains(&directory.key) {
                return true;
            }
            match &progress.incremental {
                Some(incremental) if !incremental.dirty.contains_key(&directory.key) => {}
                _ => return false,
            }
        }
        // Level from the beginning, if all above it is.
        directory.is_root() || directory.name_where(|name| self.is_listed(&name.parent, epoch)).is_some()
    }

    fn bind(&self, inode: &Arc<Inode>, epoch: u64) -> Result<(), Errno> {
        if inode.is_bound(epoch) {
            return Ok(());
        }
        let name = match inode.name() {
            Some(name) => name,
            None => self.search(inode)?,
        };
        self.bind_at(inode, &name, epoch)
    }

    fn bind_at(&self, inode: &Arc<Inode>, name: &Name, epoch: u64) -> Result<(), Errno> {
        self.bind(&name.parent, epoch)?;
        let at = Place { parent: name.parent.oid, name: name.name.to_vec() };
        self.stream.submit(&Op::Bind { oid: inode.oid, at })?;
        inode.bound.store(epoch, Ordering::Release);
        Ok(())
    }

    /// A name of an object whose known names are all gone though others are left. Rare: the object was opened before
    /// the stream began, by a name that was then removed.
    fn search(&self, inode: &Arc<Inode>) -> Result<Name, Errno> {
        let mut directories = vec![Arc::clone(&self.table.roots()[inode.volume as usize])];
        while let Some(directory) = directories.pop() {
            for found in self.children(&directory)? {
                if Arc::ptr_eq(&found.inode, inode) {
                    return inode.name().ok_or(Errno::STALE);
                }
                if found.inode.kind == FileType::Directory {
                    directories.push(found.inode);
                }
            }
        }
        Err(Errno::STALE)
    }

    /// All entries of a directory. The namespace is held.
    pub(super) fn children(&self, directory: &Arc<Inode>) -> Result<Vec<Child>, Errno> {
        let mut children = Vec::new();
        for name in self.entry_names(directory)? {
            match self.child(directory, &name) {
                Ok(Found { inode, stat }) => children.push(Child { name, inode, stat }),
                // What is mounted inside the volume is not part of it.
                Err(Errno::XDEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(children)
    }

    /// Call `body` while nothing changes the object or its names, if the peer knows it (or can be told of it); `None`
    /// when it is gone. What `body` submits has its place in the order.
    pub fn in_order<T>(
        &self,
        inode: &Arc<Inode>,
        body: impl FnOnce(&Stream) -> Result<T, Errno>,
    ) -> Result<Option<T>, Errno> {
        let result = {
            let _names = self.names.read();
            let _order = inode.order.lock();
            if self.streams(inode)? { body(&self.stream).map(Some) } else { Ok(None) }
        };
        self.stream.push();
        result
    }

    /// The walk has come to this directory: bring the peer's listing level, unless that has happened already. `None`
    /// when it is gone. No lock is held.
    pub fn list_for_walk(&self, directory: &Arc<Inode>) -> Result<Option<Listing>, Errno> {
        let _names = self.names.write();
        if directory.orphan.load(Ordering::Acquire) {
            return Ok(None);
        }
        if self.is_listed(directory, self.stream.epoch()) {
            let children = self.children(directory)?;
            self.see(&children);
            return Ok(Some(Listing { children, parts: Vec::new() }));
        }
        self.bind(directory, self.stream.epoch())?;
        let listing = self.list_for_peer(directory)?;
        self.see(&listing.children);
        Ok(Some(listing))
    }

    /// The walk goes on with these.
    fn see(&self, children: &[Child]) {
        let epoch = self.stream.epoch();
        for child in children {
            child.inode.seen.store(epoch, Ordering::Release);
        }
    }

    /// Tell the peer what the directory holds. The peer knows the directory; the namespace is held exclusively.
    fn list_for_peer(&self, directory: &Arc<Inode>) -> Result<Listing, Errno> {
        let epoch = self.stream.epoch();
        self.bind(directory, epoch)?;
        let path = directory.path()?;
        let meta = meta_of(&*path, &fstat(&*path)?)?;
        let (children, kept) = if self.is_incremental() {
            self.split_entries(directory)?
        } else {
            (self.children(directory)?, Vec::new())
        };
        for names in kept.chunks(ENTRIES) {
            self.stream.submit(&Op::SyncKept { oid: directory.oid, names: names.to_vec() })?;
        }
        let mut parts = Vec::new();
        let mut rest = children.as_slice();
        loop {
            let (part, after) = rest.split_at(rest.len().min(ENTRIES));
            rest = after;
            let entries = part.iter().map(entry_for_peer).collect::<Result<Vec<_>, Errno>>()?;
            let more = !rest.is_empty();
            let Ticket { seq, .. } =
                self.stream.submit(&Op::SyncDir { oid: directory.oid, meta: meta.clone(), entries, more })?;
            parts.push((seq, part.len()));
            if !more {
                break;
            }
        }
        for found in &children {
            found.inode.bound.store(epoch, Ordering::Release);
            if found.stat.st_nlink > 1 && found.inode.kind != FileType::Directory {
                self.pin(&found.inode);
            }
        }
        directory.synced.store(epoch, Ordering::Release);
        self.progress.lock().listed.insert(directory.key);
        Ok(Listing { children, parts })
    }

    /// Tell the peer which objects it need not know any more, if there is room for that.
    pub fn send_forgotten(&self) {
        if !self.stream.has_room() {
            return;
        }
        let _names = self.names.read();
        let epoch = self.stream.epoch();
        for (oid, bound) in self.table.take_forgotten() {
            // That it fails means that the stream ends; then nothing need be told.
            if bound == epoch && self.stream.submit(&Op::Forget { oid }).is_err() {
                return;
            }
        }
        self.stream.push();
    }
}

fn entry_for_peer(child: &Child) -> Result<SyncEntry, Errno> {
    let Child { name, inode, stat } = child;
    debug_assert_eq!(key_of(stat), inode.key);
    let (meta, target) = match inode.kind {
        // Their own SyncMeta or SyncDir brings the rest.
        FileType::RegularFile | FileType::Directory => (plain_meta(stat), Vec::new()),
        FileType::Symlink => {
            let path = inode.path()?;
            (meta_of(&*path, stat)?, readlinkat(path.as_fd(), "", Vec::new())?.into_bytes())
        }
        _ => (meta_of(&*inode.path()?, stat)?, Vec::new()),
    };
    let size = if inode.kind == FileType::RegularFile { stat.st_size as u64 } else { 0 };
    Ok(SyncEntry { name: name.clone(), oid: inode.oid, meta, target, size })
}
