//! The secondary's file system side: operations of the stream become system calls on the backing directories.
//!
//! Everything goes through descriptors of the objects and their parent directories, never through paths, and names
//! never follow symbolic links. One thread applies operations, in order; only flushes run beside it (`flush.rs`).

pub mod attributes;
mod check;
pub mod flush;
pub mod objects;
pub(crate) mod operations;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use attributes::opens_fully;
use check::Findings;
use objects::Objects;

use crate::op::{Lineage, Oid, Op};
use crate::resync::quarantine::Quarantine;
use crate::resync::target::Listing;
use crate::stream::secondary::Volume;

/// An operation that could not be applied. The secondary is then no faithful copy any more.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct ApplyError {
    what: String,
    source: io::Error,
}

impl ApplyError {
    pub fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), source }
    }

    pub fn unknown(oid: Oid) -> Self {
        Self::new(format!("object {oid}"), io::Error::from(io::ErrorKind::NotFound))
    }
}

/// What is left to do once an operation is applied.
#[derive(Debug)]
pub enum Effect {
    Done,
    /// Bring this file to stable storage.
    Flush {
        file: Arc<OwnedFd>,
        data_only: bool,
    },
    /// Bring all volumes to stable storage.
    FlushAll,
    /// Tell the primary what a directory's entries were before.
    DirState(Vec<u64>),
    /// The trees are equal.
    Synced(Lineage),
}

/// Applies one stream to the volumes.
#[derive(Debug)]
pub struct Applier {
    pub(crate) objects: Objects,
    /// Set during a resynchronisation that must not lose what only this node had.
    pub(crate) quarantine: Option<Quarantine>,
    /// A directory whose `SyncDir` came with `more`.
    pub(crate) listing: Option<Listing>,
    /// What the present verification found here. Outlives the connection, as all of this does.
    pub(crate) findings: Findings,
}

impl Applier {
    /// `syncing`: the stream starts with a full resynchronisation.
    pub fn new(volumes: &[Volume], syncing: bool, quarantine: Option<Quarantine>) -> Result<Self, ApplyError> {
        Ok(Self { objects: Objects::new(volumes, syncing)?, quarantine, listing: None, findings: Findings::default() })
    }

    /// Carry out one operation.
    ///
    /// # Errors
    /// Whatever the file system says (disk full, I/O error), or an operation that does not fit the tree.
    pub fn apply(&mut self, op: &Op<'_>) -> Result<Effect, ApplyError> {
        if let Op::SyncDir { oid, meta, entries, more } = op {
            return self.sync_directory(*oid, meta, entries, *more).map(Effect::DirState);
        }
        if let Op::SyncKept { oid, names } = op {
            return self.keep_entries(*oid, names).map(|()| Effect::Done);
        }
        if self.check(op) {
            return Ok(Effect::Done);
        }
        Ok(match op {
            Op::Fsync { oid, data_only } => self.flush(*oid, *data_only)?,
            Op::SyncAll => Effect::FlushAll,
            Op::SyncDone { lineage } => {
                self.objects.synced();
                self.quarantine = None;
                Effect::Synced(lineage.clone())
            }
            other => {
                self.change(other)?;
                Effect::Done
            }
        })
    }

    /// How to bring one object to stable storage. A symbolic link or a device node cannot be flushed by itself.
    pub fn flush(&mut self, oid: Oid, data_only: bool) -> Result<Effect, ApplyError> {
        if !opens_fully(self.objects.get(oid)?.kind) {
            return Ok(Effect::FlushAll);
        }
        Ok(Effect::Flush { file: self.objects.open(oid)?, data_only })
    }

    /// The volumes' root directories.
    pub fn roots(&self) -> Vec<Arc<OwnedFd>> {
        self.objects.roots().cloned().collect()
    }

    /// An object's descriptor and volume, for reading.
    pub fn file(&mut self, oid: Oid) -> Result<Arc<OwnedFd>, ApplyError> {
        self.objects.open(oid)
    }
}
