//! What an incremental resynchronisation has to compare: the union of both journals, on this node's objects.
//!
//! Everything else is equal already. So an operation on an object that lies nowhere below a directory of the plan is
//! streamed at once, as if the peer were in sync; a directory of the plan is brought level (`SyncDir`) first. The plan
//! and the stream begin in one moment, under the namespace lock, and what was marked before it is in the plan.
//!
//! `docs/replication.md` says why nothing is missed.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;

use super::bind::Progress;
use super::inode::{Inode, Key, key_of};
use super::{Core, FileHandle};
use crate::journal::Journal;
use crate::journal::changes::{
    Change, Entry, components, directories_with, entries, may_be_new, open_directory, place_of, placed,
};
use crate::journal::heat::{Ranges, SMALL, united};

/// A file to compare; `None`: all of it.
pub type FilePart = (Arc<Inode>, Option<Ranges>);

/// What is to be compared.
#[derive(Debug, Default)]
pub struct Plan {
    /// Directories that are to be brought level, those above others first.
    pub directories: Vec<Arc<Inode>>,
    pub files: Vec<FilePart>,
}

/// How a directory may differ.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// In everything, and everything below.
    pub whole: bool,
    /// In what the journal's file cannot tell from the rest.
    loaded: bool,
    names: HashSet<Vec<u8>>,
    /// The names that the peer has, and which of them differ, if the peer's journal has the directory.
    theirs: Option<HashMap<Vec<u8>, bool>>,
}

/// What is left to do.
#[derive(Debug, Default)]
pub(super) struct Incremental {
    /// Directories that are not level yet.
    pub dirty: HashMap<Key, Level>,
    /// Objects that got or lost a name.
    pub placed: Arc<HashSet<Key>>,
    /// Files to compare whole, directories to bring level: found since the plan was made.
    pub todo: Vec<Arc<Inode>>,
}

impl Level {
    /// Nothing is known to be level.
    pub fn whole() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// Whether the entry has to be told to the peer, and compared.
    fn differs(
        &self,
        journal: &Journal,
        placed: &HashSet<Key>,
        directory: &OwnedFd,
        name: &[u8],
        stat: &Stat,
    ) -> Result<bool, Errno> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let known = self.theirs.as_ref().map(|theirs| theirs.get(name).copied());
        Ok(self.whole
            || self.names.contains(name)
            || placed.contains(&key_of(stat))
            || !matches!(kind, FileType::RegularFile | FileType::Directory)
            || (stat.st_nlink > 1 && kind != FileType::Directory)
            || known.is_some_and(|known| known != Some(false))
            || (self.loaded && may_be_new(journal, directory.as_fd(), name, stat).map_err(errno)?))
    }
}

/// The plan while it is made.
struct Draft<'a> {
    core: &'a Core,
    journal: &'a Journal,
    dirty: HashMap<Key, (Arc<Inode>, Level)>,
    files: HashMap<Key, FilePart>,
    placed: HashSet<Key>,
}

impl Core {
    /// Begin a stream to a peer that is brought level by the two journals. No lock is held.
    pub fn begin_incremental(&self, name: String, theirs: &[Change]) -> Result<Plan, Errno> {
        let journal = Arc::clone(self.journal().filter(|journal| journal.is_active()).ok_or(Errno::STALE)?);
        let _names = self.names.write();
        let mut draft = Draft {
            core: self,
            journal: &journal,
            dirty: HashMap::new(),
            files: HashMap::new(),
            placed: HashSet::new(),
        };
        draft.mine()?;
        draft.theirs(theirs)?;
        draft.further_names()?;
        let Draft { dirty, files, placed, .. } = draft;
        let mut directories: Vec<_> = dirty.values().map(|(inode, _)| (depth(inode), Arc::clone(inode))).collect();
        directories.sort_by_key(|(depth, _)| *depth);
        let incremental = Incremental {
            dirty: dirty.into_iter().map(|(key, (_, level))| (key, level)).collect(),
            placed: Arc::new(placed),
            todo: Vec::new(),
        };
        self.begin_held(name, crate::stream::primary::Mode::Syncing, Progress::incremental(incremental))?;
        Ok(Plan {
            directories: directories.into_iter().map(|(_, inode)| inode).collect(),
            files: files.into_values().collect(),
        })
    }

    /// Entries of a directory that is brought level: those to be told to the peer, and the names of the others.
    /// The namespace is held exclusively.
    pub(super) fn split_entries(
        &self,
        directory: &Arc<Inode>,
    ) -> Result<(Vec<super::bind::Child>, Vec<Vec<u8>>), Errno> {
        let (level, placed) = self.progress.lock().take_level(directory.key);
        let split = self.split_by(directory, &level, &placed);
        if split.is_err() {
            self.progress.lock().put_level(directory.key, level);
        }
        split
    }

    fn split_by(
        &self,
        directory: &Arc<Inode>,
        level: &Level,
        placed: &HashSet<Key>,
    ) -> Result<(Vec<super::bind::Child>, Vec<Vec<u8>>), Errno> {
        let journal = self.journal().ok_or(Errno::STALE)?;
        let fd = directory.readable()?;
        let (mut told, mut kept) = (Vec::new(), Vec::new());
        for Entry { name, .. } in entries(fd.as_fd()).map_err(errno)? {
            let stat = statat(&fd, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            if stat.st_dev != directory.key.0 {
                // What is mounted inside the volume is not part of it.
                continue;
            }
            if !level.differs(journal, placed, &fd, &name, &stat)? {
                kept.push(name);
                continue;
            }
            let inode = self.child(directory, &name)?.inode;
            if level.theirs.as_ref().is_some_and(|theirs| !theirs.contains_key(&name)) {
                // The peer makes it now, and will not tell of it when this is interrupted and begun again.
                self.mark_missing(directory, &name, &inode, &stat)?;
            }
            told.push(super::bind::Child { name, inode, stat });
        }
        let mut progress = self.progress.lock();
        for child in &told {
            progress.found(&child.inode);
        }
        Ok((told, kept))
    }

    fn mark_missing(&self, directory: &Arc<Inode>, name: &[u8], inode: &Arc<Inode>, stat: &Stat) -> Result<(), Errno> {
        let Some(journal) = self.journal().filter(|journal| journal.is_active()) else { return Ok(()) };
        let failed = |_| Errno::IO;
        journal.mark_directory(directory.volume, directory.handle()?, Some(name), true).map_err(failed)?;
        if inode.kind == FileType::Directory || stat.st_size as u64 > SMALL {
            journal.mark_placed(inode.volume, inode.handle()?, false).map_err(failed)?;
        }
        Ok(())
    }

    /// A change was made of an object that the peer cannot be told of yet. The namespace is held.
    pub(super) fn compare_later(&self, inode: &Arc<Inode>) {
        match inode.kind {
            FileType::RegularFile => self.moved(inode),
            FileType::Directory => self.progress.lock().level_later(inode, None),
            _ => {
                if let Some(name) = inode.name() {
                    self.progress.lock().level_later(&name.parent, Some(&name.name));
                }
            }
        }
    }

    /// Directories and files that were found since the last call.
    pub fn take_todo(&self, epoch: u64) -> Vec<Arc<Inode>> {
        self.progress.lock().take_todo(epoch)
    }

    /// Bring this directory level, and those above it before. No lock is held.
    pub fn level(&self, directory: &Arc<Inode>) -> Result<(), Errno> {
        let _names = self.names.write();
        if directory.orphan.load(Ordering::Acquire) {
            return Ok(());
        }
        self.prepare_directory(directory).map(drop)
    }
}

impl Draft<'_> {
    fn root(&self, volume: u32) -> Result<&Arc<Inode>, Errno> {
        self.core.table().roots().get(volume as usize).ok_or(Errno::STALE)
    }

    /// What is at this path now, if anything.
    fn find(&self, volume: u32, path: &[u8]) -> Result<Option<Arc<Inode>>, Errno> {
        let mut inode = Arc::clone(self.root(volume)?);
        for name in components(path) {
            if inode.kind != FileType::Directory {
                return Ok(None);
            }
            inode = match self.core.child(&inode, name) {
                Ok(found) => found.inode,
                Err(Errno::NOENT | Errno::XDEV) => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(Some(inode))
    }

    fn directory(&self, volume: u32, handle: &FileHandle) -> Result<Option<Arc<Inode>>, Errno> {
        match place_of(self.core.table().root_fd(volume), handle).map_err(errno)? {
            Some(path) => Ok(self.find(volume, &path)?.filter(|inode| inode.kind == FileType::Directory)),
            None => Ok(None),
        }
    }

    fn level(&mut self, inode: &Arc<Inode>) -> &mut Level {
        &mut self.dirty.entry(inode.key).or_insert_with(|| (Arc::clone(inode), Level::default())).1
    }

    fn file(&mut self, inode: &Arc<Inode>, ranges: Option<Ranges>) {
        let part = self.files.entry(inode.key).or_insert_with(|| (Arc::clone(inode), Some(Ranges::new())));
        part.1 = match (part.1.take(), ranges) {
            (Some(known), Some(more)) => Some(united([known, more].concat())),
            _ => None,
        };
    }

    fn mine(&mut self) -> Result<(), Errno> {
        let snapshot = self.journal.snapshot();
        for volume in 0..self.core.table().roots().len() as u32 {
            let hot = snapshot.placed.iter().filter(|hot| hot.volume == volume);
            let (placed, several) = placed(self.core.table().root_fd(volume), hot).map_err(errno)?;
            let device = self.root(volume)?.key.0;
            self.placed.extend(placed.into_iter().map(|inode| (device, inode)));
            self.search(volume, &several)?;
        }
        for hot in &snapshot.directories {
            let Some(inode) = self.directory(hot.volume, &hot.directory)? else { continue };
            if hot.listing || hot.whole {
                let level = self.level(&inode);
                level.loaded |= hot.whole;
                level.names.extend(hot.names.iter().map(|name| name.to_vec()));
                continue;
            }
            for name in &hot.names {
                match self.core.child(&inode, name) {
                    Ok(found) if found.inode.kind == FileType::RegularFile => self.file(&found.inode, None),
                    Ok(_) => drop(self.level(&inode).names.insert(name.to_vec())),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        for hot in &snapshot.files {
            let Some(parent) = self.directory(hot.volume, &hot.parent)? else { continue };
            match self.core.child(&parent, &hot.name) {
                // Another one has the name now: then the directory is hot, and this one is too, where it is.
                Ok(found) if *found.inode.handle()? != hot.file => {}
                Ok(found) => self.file(&found.inode, Some(hot.ranges.clone())),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn theirs(&mut self, changes: &[Change]) -> Result<(), Errno> {
        for change in changes {
            match change {
                Change::Directory { volume, path, names } => {
                    let found = self.find(*volume, path)?;
                    // Another kind of object, or nothing: then a directory above differs.
                    if let Some(inode) = found.filter(|inode| inode.kind == FileType::Directory) {
                        self.level(&inode).theirs.get_or_insert_default().extend(names.iter().cloned());
                    }
                }
                Change::File { volume, path, ranges } => {
                    let found = self.find(*volume, path)?;
                    if let Some(inode) = found.filter(|inode| inode.kind == FileType::RegularFile) {
                        self.file(&inode, Some(united(ranges.clone())));
                    }
                }
            }
        }
        Ok(())
    }

    /// Every directory that has a name of one of these inodes.
    fn search(&mut self, volume: u32, inodes: &HashSet<u64>) -> Result<(), Errno> {
        if inodes.is_empty() {
            return Ok(());
        }
        for path in directories_with(self.core.table().root_fd(volume), inodes).map_err(errno)? {
            if let Some(inode) = self.find(volume, &path)? {
                self.level(&inode);
            }
        }
        Ok(())
    }

    /// The peer learns of a file by one of its names; if one is told, all must be. So wherever a directory that is told
    /// has files with several names, the directories of the others are told too.
    fn further_names(&mut self) -> Result<(), Errno> {
        let mut known: HashSet<Key> = HashSet::new();
        let mut told: HashSet<Key> = HashSet::new();
        loop {
            let mut several: HashMap<u32, HashSet<u64>> = HashMap::new();
            let fresh: Vec<_> = self.dirty.values().filter(|(inode, _)| !told.contains(&inode.key)).cloned().collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for (inode, level) in fresh {
                told.insert(inode.key);
                let mut found = Vec::new();
                self.linked(&inode.readable()?, &level, &mut found)?;
                let new = found.into_iter().filter(|key| known.insert(*key)).map(|(_, number)| number);
                several.entry(inode.volume).or_default().extend(new);
            }
            for (volume, inodes) in several {
                self.search(volume, &inodes)?;
            }
        }
    }

    /// Files with several names in a directory, and in everything that is told with it.
    fn linked(&self, directory: &OwnedFd, level: &Level, found: &mut Vec<Key>) -> Result<(), Errno> {
        for Entry { name, .. } in entries(directory.as_fd()).map_err(errno)? {
            let stat = statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                if stat.st_nlink > 1 {
                    found.push(key_of(&stat));
                }
            } else if level.differs(self.journal, &self.placed, directory, &name, &stat)? {
                if let Some(inner) = open_directory(directory.as_fd(), &name).map_err(errno)? {
                    self.linked(&inner, &Level::whole(), found)?;
                }
            }
        }
        Ok(())
    }
}

impl Incremental {
    /// An object that is told to the peer: what it holds has to be compared.
    pub(super) fn found(&mut self, inode: &Arc<Inode>) {
        match inode.kind {
            FileType::Directory => self.dirty.entry(inode.key).or_default().whole = true,
            FileType::RegularFile => {}
            _ => return,
        }
        self.todo.push(Arc::clone(inode));
    }

    pub(super) fn level_later(&mut self, directory: &Arc<Inode>, name: Option<&[u8]>) {
        let level = self.dirty.entry(directory.key).or_default();
        level.names.extend(name.map(<[u8]>::to_vec));
        self.todo.push(Arc::clone(directory));
    }
}

fn depth(inode: &Arc<Inode>) -> usize {
    let mut depth = 0;
    let mut at = inode.name();
    while let Some(name) = at {
        depth += 1;
        at = name.parent.name();
    }
    depth
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
