//! The file system without FUSE: operations on the backing directories that stream what they did.
//!
//! Locks, in the order in which they are taken: [`Core`]'s namespace lock (exclusive for what changes directories,
//! shared for everything else that must agree with names), then one inode's `order`. Both are held from before the
//! local system call until the operation has its place in the stream, and never while waiting for the peer, except
//! that a full window blocks whoever submits.

mod attributes;
mod bind;
mod check;
mod content;
mod handle;
mod incremental;
mod inode;
mod listing;
mod marks;
mod metadata;
mod namespace;
mod table;
mod times;

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use rustix::fs::{AtFlags, Mode as FileMode, OFlags, Stat, StatVfs, fstat, fstatvfs, openat, statat, syncfs};
use rustix::io::Errno;

use crate::authority::Authority;
use crate::journal::Journal;
use crate::op::Oid;
use crate::stream::primary::{Mode, Outcome, Stream, Ticket};

pub use attributes::{Change, NewTime};
pub use bind::{Child, Listing, Progress};
pub use handle::FileHandle;
pub use incremental::{FilePart, Plan};
pub use inode::{Inode, Key, key_of};
pub use listing::Listed;
pub use marks::STAMP;
pub use metadata::{meta_of, mtime_of, read_xattrs};
pub use namespace::{Caller, New};
pub use table::Table;
pub use times::{ChangeTimes, Sample};

/// When an operation counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the peer has applied it.
    Write,
    /// At once; flushes and close wait for the peer.
    Commit,
}

/// A directory entry's inode and its attributes.
#[derive(Clone, Debug)]
pub struct Found {
    pub inode: Arc<Inode>,
    pub stat: Stat,
}

/// All volumes of the module, on the primary.
pub struct Core {
    table: Table,
    names: RwLock<()>,
    progress: Mutex<Progress>,
    stream: Arc<Stream>,
    authority: Arc<Authority>,
    durability: Durability,
    journal: OnceLock<Arc<Journal>>,
    times: ChangeTimes,
}

impl Core {
    /// `roots`: descriptors of the volumes' backing directories, in the order in which the stream counts them.
    pub fn new(
        roots: Vec<OwnedFd>,
        open_limit: usize,
        stream: Arc<Stream>,
        authority: Arc<Authority>,
        durability: Durability,
    ) -> Result<Self, Errno> {
        let table = Table::new(roots, open_limit)?;
        let (names, progress, journal) = (RwLock::new(()), Mutex::default(), OnceLock::new());
        Ok(Self { table, names, progress, stream, authority, durability, journal, times: ChangeTimes::default() })
    }

    /// Mark what changes. To be called before anything does.
    pub fn keep_journal(&self, journal: Arc<Journal>) {
        // Only the first counts; there is one in each state directory.
        let _ = self.journal.set(journal);
    }

    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.get()
    }

    /// Everything of all volumes to stable storage.
    pub fn flush_volumes(&self) -> Result<(), Errno> {
        self.table.roots().iter().try_for_each(|root| syncfs(self.table.root_fd(root.volume)))
    }

    /// End the journal's era; nothing is under way when this returns.
    pub fn end_era(&self) -> Option<crate::journal::entry::Era> {
        let _names = self.names.write();
        self.journal().map(|journal| journal.end_era())
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// How long changes take, from the request to what makes them count.
    pub fn times(&self) -> &ChangeTimes {
        &self.times
    }

    /// Carry out a change: `body` makes it locally and gives it its place in the stream, this waits for what makes it
    /// count.
    fn change<T>(&self, body: impl FnOnce() -> Result<(T, Ticket), Errno>) -> Result<T, Errno> {
        self.authority.before_change().map_err(|_| Errno::IO)?;
        let begun = Instant::now();
        let result = body().inspect_err(|&error| self.watch_disk(error));
        // Also after an error: something may have been done and streamed before it.
        self.stream.push();
        let (value, ticket) = result?;
        if self.durability == Durability::Write {
            self.confirm(ticket)?;
        } else {
            self.authority.before_acknowledgement().map_err(|_| Errno::IO)?;
        }
        self.times.add(begun.elapsed());
        Ok(value)
    }

    /// An error that tells of a failing disk concerns more than the operation that met it.
    fn watch_disk(&self, error: Errno) {
        let failing = matches!(error, Errno::IO | Errno::ROFS | Errno::UCLEAN | Errno::NODEV | Errno::NXIO);
        if failing && self.stream.mode() != Mode::Aborted {
            self.authority.disk_failed(error);
        }
    }

    /// What was written before could not be brought to stable storage, whatever the reason: full or not, this node's
    /// disk lacks what was acknowledged.
    fn watch_flush(&self, error: Errno) {
        // Of objects that cannot be flushed at all.
        if !matches!(error, Errno::INVAL | Errno::OPNOTSUPP) && self.stream.mode() != Mode::Aborted {
            self.authority.flush_failed(error);
        }
    }

    /// Something was changed here. What fails before it has its place in the stream leaves the peer without it: then
    /// the trees are not equal any more, and are compared.
    fn done_here<T>(&self, body: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        body().inspect_err(|&error| self.diverge(error, "a change was made and then could not be looked at"))
    }

    /// See [`Stream::diverge`]. A failing disk is told first: nobody is brought level by that.
    fn diverge(&self, error: Errno, what: &str) {
        self.watch_disk(error);
        self.stream.diverge(&format!("on this node {what}: {error}"));
    }

    /// Wait until the operation counts.
    fn confirm(&self, ticket: Ticket) -> Result<(), Errno> {
        if ticket != Ticket::NONE && self.stream.wait(ticket) == Outcome::Aborted {
            return Err(Errno::IO);
        }
        self.authority.before_acknowledgement().map_err(|_| Errno::IO)
    }

    // ---- what changes nothing

    /// Find a name. The kernel gets a reference to the inode.
    pub fn lookup(&self, parent: &Arc<Inode>, name: &[u8]) -> Result<Found, Errno> {
        let _names = self.names.read();
        let found = self.child(parent, name)?;
        self.table.remember(&found.inode);
        Ok(found)
    }

    /// Find a name. The namespace is held, shared or exclusively.
    fn child(&self, parent: &Arc<Inode>, name: &[u8]) -> Result<Found, Errno> {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        let directory = parent.path()?;
        let stat = statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != parent.key.0 {
            // Another file system mounted inside the backing directory is not part of the volume.
            return Err(Errno::XDEV);
        }
        if let Some(inode) = self.table.find(key_of(&stat)) {
            inode.add_name(parent, name);
            return Ok(Found { inode, stat });
        }
        let path = openat(&*directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, FileMode::empty())?;
        let stat = fstat(&path)?;
        let inode = self.table.intern(parent.volume, &stat, path);
        inode.add_name(parent, name);
        Ok(Found { inode, stat })
    }

    pub fn stat(&self, inode: &Arc<Inode>) -> Result<Stat, Errno> {
        fstat(&*inode.path()?)
    }

    pub fn statfs(&self, volume: u32) -> Result<StatVfs, Errno> {
        fstatvfs(self.table.root_fd(volume))
    }

    pub fn readlink(&self, inode: &Arc<Inode>) -> Result<Vec<u8>, Errno> {
        rustix::fs::readlinkat(&*inode.path()?, "", Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// The kernel gives back `count` references.
    pub fn forget(&self, oid: Oid, count: u64) {
        self.table.forget(oid, count);
    }
}
