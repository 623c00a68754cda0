//! What the journal must know before a change is made.
//!
//! Everything here is called before the local system call, under the locks that order the change (the namespace at
//! least shared), so that an era, which ends under the exclusive lock, has all of a change or nothing of it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fstat, openat, setxattr, statat};
use rustix::io::Errno;

use super::inode::{Inode, proc_path};
use super::{Core, FileHandle};
use crate::journal::Journal;
use crate::journal::entry::Era;
use crate::journal::heat::SMALL;
use crate::record::RecordError;

/// On directories made since the trees were equal: everything below may be new.
pub const STAMP: &str = "trusted.twinhull.new";

/// A directory and a name in it.
type At<'a> = (&'a Arc<Inode>, &'a [u8]);

impl Core {
    /// The journal, while it is kept, and its era.
    fn marking(&self) -> Option<(&Journal, Era)> {
        let journal = self.journal().filter(|journal| journal.is_active())?;
        Some((journal.as_ref(), journal.era()))
    }

    /// A record that cannot be written is this node's failure.
    fn marked(&self, result: Result<(), RecordError>) -> Result<(), Errno> {
        result.map_err(|_| {
            self.authority.disk_failed(Errno::IO);
            Errno::IO
        })
    }

    /// What cannot be marked ends the journal.
    fn marked_or_lost(
        &self,
        journal: &Journal,
        mark: impl FnOnce() -> Result<Result<(), RecordError>, Errno>,
    ) -> Result<(), Errno> {
        match mark() {
            Ok(result) => self.marked(result),
            Err(error) => self.marked(journal.lose(&format!("a change could not be marked: {error}"))),
        }
    }

    /// The entry `name` comes, goes, or becomes another one.
    pub(super) fn mark_entry(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<(), Errno> {
        let Some((journal, era)) = self.marking() else { return Ok(()) };
        if directory.covered.load(Ordering::Relaxed) == era {
            return Ok(());
        }
        self.marked_or_lost(journal, || {
            Ok(journal.mark_directory(directory.volume, directory.handle()?, Some(name), true))
        })
    }

    /// The object was just made, in a directory that is marked.
    pub(super) fn mark_made(&self, parent: &Arc<Inode>, inode: &Arc<Inode>) -> Result<(), Errno> {
        let Some((journal, era)) = self.marking() else { return Ok(()) };
        inode.hot.store(era, Ordering::Relaxed);
        let covered = parent.covered.load(Ordering::Relaxed) == era;
        if inode.kind == FileType::Directory && !covered {
            // On the disk no later than anything in the directory: the file system keeps the order of its metadata.
            self.marked_or_lost(journal, || {
                let place = proc_path(&*inode.path()?);
                setxattr(place, STAMP, journal.stamp().as_bytes(), XattrFlags::empty())?;
                Ok(Ok(()))
            })?;
        }
        if covered || inode.kind == FileType::Directory {
            inode.covered.store(era, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The object gets a further name, in a directory that is marked.
    pub(super) fn mark_placed(&self, inode: &Arc<Inode>, stat: &Stat) -> Result<(), Errno> {
        let Some((journal, _)) = self.marking() else { return Ok(()) };
        self.mark_object(journal, inode, stat, stat.st_nlink > 0)
    }

    /// A large file, a directory, or an object with several names, is at another place.
    fn mark_object(&self, journal: &Journal, inode: &Arc<Inode>, stat: &Stat, several: bool) -> Result<(), Errno> {
        let several = several && inode.kind != FileType::Directory;
        // What it was covered by is not there any more.
        inode.covered.store(0, Ordering::Relaxed);
        inode.hot.store(0, Ordering::Relaxed);
        let small = inode.kind != FileType::Directory && stat.st_size as u64 <= SMALL;
        if small && !several {
            return Ok(());
        }
        self.marked_or_lost(journal, || Ok(journal.mark_placed(inode.volume, inode.handle()?, several)))
    }

    /// A name goes: if the object has others, they count.
    pub(super) fn mark_removed(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<(), Errno> {
        let Some((journal, _)) = self.marking() else { return Ok(()) };
        let at = directory.path()?;
        let stat = match statat(&*at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if stat.st_nlink <= 1 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.marked_or_lost(journal, || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let object = FileHandle::of(openat(&*at, name, flags, Mode::empty())?.as_fd())?;
            Ok(journal.mark_placed(directory.volume, &object, true))
        })
    }

    pub(super) fn mark_rename(&self, from: At<'_>, to: At<'_>, exchange: bool) -> Result<(), Errno> {
        let Some((journal, _)) = self.marking() else { return Ok(()) };
        self.mark_entry(from.0, from.1)?;
        self.mark_entry(to.0, to.1)?;
        self.mark_moved(journal, from)?;
        if exchange { self.mark_moved(journal, to) } else { self.mark_removed(to.0, to.1) }
    }

    fn mark_moved(&self, journal: &Journal, (directory, name): At<'_>) -> Result<(), Errno> {
        let found = self.child(directory, name)?;
        self.mark_object(journal, &found.inode, &found.stat, found.stat.st_nlink > 1)
    }

    /// Attributes change, or extended attributes.
    pub(super) fn mark_attributes(&self, inode: &Arc<Inode>) -> Result<(), Errno> {
        let Some((journal, era)) = self.marking() else { return Ok(()) };
        match inode.kind {
            FileType::RegularFile => self.mark_contents(inode, 0, 0),
            FileType::Directory if inode.covered.load(Ordering::Relaxed) == era => Ok(()),
            FileType::Directory => {
                self.marked_or_lost(journal, || Ok(journal.mark_directory(inode.volume, inode.handle()?, None, true)))
            }
            // Complete with its directory's listing.
            _ => match inode.name() {
                Some(name) => self.mark_entry(&name.parent, &name.name),
                None => self.mark_nameless(journal, inode, era),
            },
        }
    }

    /// A regular file gets this size.
    pub(super) fn mark_resize(&self, inode: &Arc<Inode>, size: u64) -> Result<(), Errno> {
        if self.marking().is_none() || inode.kind != FileType::RegularFile {
            return Ok(());
        }
        let now = fstat(&*inode.path()?)?.st_size as u64;
        // What it gains are holes, wherever the size is set.
        self.mark_range(inode, (size.min(now), now), size.max(now))
    }

    /// The bytes `start..end` of a regular file change, and its attributes.
    pub(super) fn mark_contents(&self, inode: &Arc<Inode>, start: u64, end: u64) -> Result<(), Errno> {
        self.mark_range(inode, (start, end), end)
    }

    /// `reach`: where the file ends at least, before or afterwards.
    fn mark_range(&self, inode: &Arc<Inode>, (start, end): (u64, u64), reach: u64) -> Result<(), Errno> {
        let Some((journal, era)) = self.marking() else { return Ok(()) };
        let hot = inode.hot.load(Ordering::Relaxed) == era;
        if (hot && reach <= SMALL)
            || inode.covered.load(Ordering::Relaxed) == era
            || inode.orphan.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let Some(name) = inode.name() else { return self.mark_nameless(journal, inode, era) };
        if name.parent.covered.load(Ordering::Relaxed) == era {
            inode.covered.store(era, Ordering::Relaxed);
            return Ok(());
        }
        let size = fstat(&*inode.path()?)?.st_size as u64;
        if size.max(reach) <= SMALL {
            self.marked_or_lost(journal, || {
                let parent = name.parent.handle()?;
                Ok(journal.mark_directory(inode.volume, parent, Some(&name.name), false))
            })?;
            inode.hot.store(era, Ordering::Relaxed);
            return Ok(());
        }
        // What a small file's mark stood for, the large one's must: its contents, and that it may be new in its directory.
        let grows = size <= SMALL;
        let start = if hot || grows { 0 } else { start };
        self.marked_or_lost(journal, || {
            let (file, parent) = (inode.handle()?, name.parent.handle()?);
            if grows && let Err(error) = journal.mark_placed(inode.volume, file, false) {
                return Ok(Err(error));
            }
            Ok(journal.mark_file(inode.volume, file, (parent, &name.name), (start, end), end > size))
        })
    }

    /// The names that are known of an object are gone, and it may have others.
    fn mark_nameless(&self, journal: &Journal, inode: &Arc<Inode>, era: Era) -> Result<(), Errno> {
        if inode.hot.load(Ordering::Relaxed) == era || fstat(&*inode.path()?)?.st_nlink == 0 {
            return Ok(());
        }
        self.marked_or_lost(journal, || Ok(journal.mark_placed(inode.volume, inode.handle()?, true)))?;
        inode.hot.store(era, Ordering::Relaxed);
        Ok(())
    }
}
