//! What a primary must have before it changes its files and before it acknowledges: the lease, and a record that
//! already says what the change makes true.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::lease::{Lease, boottime_ns};
use crate::record::{LastRole, RecordError, Store};

/// Why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the mount ends")]
    Closed,
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// See the module's documentation. All methods are thread-safe.
pub struct Authority {
    lease: Arc<Lease>,
    store: Arc<Store>,
    /// The next change must first be made durable in the record.
    pending: AtomicBool,
    settling: Mutex<()>,
    /// This node's disk failed since it became primary.
    failing: AtomicBool,
    recorded_ns: AtomicU64,
    first_change_ns: AtomicU64,
    on_error: Box<dyn Fn(String) + Send + Sync>,
    on_settled: Box<dyn Fn() + Send + Sync>,
}

impl Authority {
    /// `on_error` learns of a record that cannot be written: this node's disk fails. `on_settled` is called when a
    /// change of the files has changed the record.
    pub fn new(
        lease: Arc<Lease>,
        store: Arc<Store>,
        on_error: Box<dyn Fn(String) + Send + Sync>,
        on_settled: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            lease,
            store,
            pending: AtomicBool::new(false),
            settling: Mutex::new(()),
            failing: AtomicBool::new(false),
            recorded_ns: AtomicU64::new(0),
            first_change_ns: AtomicU64::new(0),
            on_error,
            on_settled,
        }
    }

    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// When the record said durably that this node is primary (`CLOCK_BOOTTIME`; 0: not yet).
    pub fn recorded_ns(&self) -> u64 {
        self.recorded_ns.load(Ordering::Relaxed)
    }

    /// When the first change since then was acknowledged to the application (`CLOCK_BOOTTIME`; 0: none was).
    pub fn first_change_ns(&self) -> u64 {
        self.first_change_ns.load(Ordering::Relaxed)
    }

    /// This node's disk fails.
    pub fn disk_failed(&self, error: rustix::io::Errno) {
        self.failing.store(true, Ordering::Release);
        (self.on_error)(format!("this node's disk fails: {error}"));
    }

    /// A flush failed: this node's disk lacks what was acknowledged, whatever its cache still has.
    pub fn flush_failed(&self, error: rustix::io::Errno) {
        self.store.distrust_cache();
        self.disk_failed(error);
    }

    /// See [`Self::disk_failed`].
    pub fn is_disk_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Become primary. `alone`: the peer is outdated, durably, when this returns.
    pub fn assume(&self, alone: bool) -> Result<(), RecordError> {
        let _held = self.settling.lock();
        let record = self.store.update(|record| {
            if !record.consistent {
                // Half-synchronised files that the administrator takes as they are: nobody else has these.
                record.begin_generation()?;
                record.consistent = true;
                record.journal = None;
            }
            record.alone |= alone;
            record.last_role = LastRole::Primary;
            Ok(())
        })?;
        self.pending.store(record.token.is_some() || (record.alone && !record.unshared), Ordering::Release);
        self.recorded_ns.store(boottime_ns(), Ordering::Relaxed);
        Ok(())
    }

    /// The peer is outdated from now on (durable when this returns); the next change begins a new generation.
    pub fn go_alone(&self) -> Result<(), RecordError> {
        let _held = self.settling.lock();
        let record = self.store.update(|record| {
            record.alone = true;
            Ok(())
        })?;
        if !record.unshared {
            self.pending.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The peer has everything up to now, and waits are for its acknowledgements: it counts again.
    pub fn share(&self) -> Result<crate::op::Lineage, RecordError> {
        let _held = self.settling.lock();
        let record = self.store.update(|record| {
            record.alone = false;
            record.unshared = false;
            record.token = None;
            Ok(())
        })?;
        self.pending.store(false, Ordering::Release);
        Ok(record.lineage())
    }

    /// Before a local change: the lease holds, and the record allows it.
    pub fn before_change(&self) -> Result<(), Refused> {
        self.lease.wait().map_err(|_| Refused::Closed)?;
        self.settle()
    }

    /// Before an acknowledgement: the record says what is true now, and the lease still holds.
    pub fn before_acknowledgement(&self) -> Result<(), Refused> {
        self.settle()?;
        self.lease.wait().map_err(|_| Refused::Closed)?;
        if self.first_change_ns.load(Ordering::Relaxed) == 0 {
            self.first_change_ns.store(boottime_ns(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Make durable what the next change, or one that was made already, requires.
    pub fn settle(&self) -> Result<(), Refused> {
        if !self.pending.load(Ordering::Acquire) {
            return Ok(());
        }
        let _held = self.settling.lock();
        if !self.pending.load(Ordering::Acquire) {
            return Ok(());
        }
        let result = self.store.update(|record| {
            record.token = None;
            if record.alone && !record.unshared { record.begin_generation() } else { Ok(()) }
        });
        match result {
            Ok(_) => {
                self.pending.store(false, Ordering::Release);
                (self.on_settled)();
                Ok(())
            }
            Err(error) => {
                (self.on_error)(error.to_string());
                Err(error.into())
            }
        }
    }
}
