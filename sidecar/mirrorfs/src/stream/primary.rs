//! The primary's end of the stream: one order of all operations, a bounded window of those that the peer has not
//! acknowledged, and the waits for acknowledgements.
//!
//! There is no thread between an operation and the network. Whoever queued an operation sends everything that is
//! queued, unless somebody does already ([`Stream::push`]); whoever waits for an acknowledgement reads the connection,
//! unless somebody does already ([`Stream::wait`]). So a lone operation crosses no other thread on this node.

mod connection;
mod latency;
mod state;
mod waiting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use connection::write_frames;
pub use connection::{Connection, Why};
pub use latency::{BOUNDS_US, Latency};
pub use state::StreamStatus;
use state::{Inner, Queued};

use crate::op::{Op, Seq};
use crate::wire::{Message, encode_message, encode_op, seal};

/// Bounds on what is kept until the peer has acknowledged it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub bytes: usize,
    pub ops: usize,
}

/// What happens to operations at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They go nowhere: this node is alone.
    Detached,
    /// They go to a peer that is being synchronised and cannot be promoted: nobody waits for it.
    Syncing,
    /// They go to the peer, and count when it has acknowledged them.
    Mirrored,
    /// The mount ends: they fail.
    Aborted,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// Nobody needs to acknowledge it (any more).
    Released,
    Aborted,
}

/// An operation's position, and whether its acknowledgement is for having been flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub seq: Seq,
    flush: bool,
    epoch: u64,
}

impl Ticket {
    /// The operation went nowhere.
    pub const NONE: Self = Self { seq: 0, flush: false, epoch: 0 };

    /// The same, to be waited for even while the peer is being synchronised. `epoch` is the stream's.
    pub fn awaited(self, epoch: u64) -> Self {
        if self == Self::NONE { self } else { Self { epoch, ..self } }
    }
}

/// The stream. All methods are thread-safe.
pub struct Stream {
    window: Window,
    inner: Mutex<Inner>,
    changed: Condvar,
    epoch: AtomicU64,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl Stream {
    /// A detached stream. `notify` is called after connection or mode changed.
    pub fn new(window: Window, notify: Box<dyn Fn() + Send + Sync>) -> Self {
        let now = Instant::now();
        let inner = Inner {
            mode: Mode::Detached,
            diverged: false,
            epoch: 0,
            name: String::new(),
            last: 0,
            acked: 0,
            durable: 0,
            queue: VecDeque::new(),
            unsent: 0,
            bytes: 0,
            total: 0,
            latency: Latency::default(),
            flushing: BTreeMap::new(),
            connection: None,
            repeat: Vec::new(),
            answers: HashMap::new(),
            directories: BTreeMap::new(),
            token_kept: None,
            failed: None,
            lost: None,
            last_sent: now,
            last_received: now,
        };
        Self { window, inner: Mutex::new(inner), changed: Condvar::new(), epoch: AtomicU64::new(0), notify }
    }

    /// Number of the present stream within this process; what the peer learned in an earlier one it has forgotten.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn mode(&self) -> Mode {
        self.inner.lock().mode
    }

    /// Operations count when the peer has acknowledged them, and it can: it has not failed to apply one.
    pub fn is_mirrored(&self) -> bool {
        let inner = self.inner.lock();
        inner.mode == Mode::Mirrored && inner.failed.is_none()
    }

    // ---- life

    /// Begin a new stream with the operations that `first` submits. The caller holds the namespace exclusively, so
    /// that no operation straddles the two streams.
    pub fn begin(&self, name: String, mode: Mode) {
        let mut inner = self.inner.lock();
        if inner.mode == Mode::Aborted {
            return;
        }
        inner.clear();
        inner.diverged = false;
        inner.mode = mode;
        inner.name = name;
        inner.epoch += 1;
        (inner.last, inner.acked, inner.durable) = (0, 0, 0);
        self.epoch.store(inner.epoch, Ordering::Release);
        drop(inner);
        self.announce();
    }

    /// Operations go nowhere from now on; those that wait are released. Returns whether some were not acknowledged.
    pub fn detach(&self, reason: &str) -> bool {
        self.end(Mode::Detached, Why::Ended(reason.to_owned()))
    }

    /// Operations fail from now on, also those that wait.
    pub fn abort(&self) {
        self.end(Mode::Aborted, Why::Ended("the mount ends".to_owned()));
    }

    fn end(&self, mode: Mode, why: Why) -> bool {
        let mut inner = self.inner.lock();
        if inner.mode == Mode::Aborted {
            return false;
        }
        let pending = inner.mode == Mode::Mirrored && !inner.queue.is_empty();
        inner.mode = mode;
        inner.disconnect(&why);
        inner.clear();
        drop(inner);
        self.announce();
        pending
    }

    /// Acknowledgements count from now on: the peer has caught up.
    pub fn expect_acknowledgements(&self, epoch: u64) {
        let mut inner = self.inner.lock();
        if inner.mode == Mode::Syncing && inner.epoch == epoch {
            inner.mode = Mode::Mirrored;
            // Nobody asks any more what the peer's directories held.
            inner.directories.clear();
        }
    }

    /// Use this connection, to a peer that has applied everything up to `applied`. False when the stream is not the
    /// one that was agreed on any more.
    pub fn connect(&self, name: &str, connection: Arc<Connection>, applied: Seq) -> bool {
        let mut inner = self.inner.lock();
        if inner.name != name || inner.diverged || matches!(inner.mode, Mode::Detached | Mode::Aborted) {
            return false;
        }
        inner.disconnect(&Why::Ended("replaced by a new connection".to_owned()));
        inner.acknowledge(applied);
        inner.repeat = inner.flushing.values().map(|queued| Arc::clone(&queued.frame)).collect();
        inner.unsent = inner.queue.len();
        inner.connection = Some(connection);
        inner.lost = None;
        inner.last_received = Instant::now();
        drop(inner);
        self.announce();
        self.push();
        true
    }

    /// The connection, if there is one.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.inner.lock().connection.clone()
    }

    /// The connection is of no use any more. Unacknowledged operations wait for the next one, unless the peer was
    /// being synchronised: then the stream ends, and the next connection starts anew.
    pub fn lose(&self, connection: &Arc<Connection>, why: Why) {
        let mut inner = self.inner.lock();
        if !inner.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return;
        }
        inner.disconnect(&why);
        if inner.mode == Mode::Syncing {
            inner.mode = Mode::Detached;
            inner.clear();
        }
        drop(inner);
        self.announce();
    }

    /// This node's files have something that the stream will never have: whatever the peer acknowledges, it must be
    /// compared before it counts as level again. Whoever waits goes on waiting until that has begun.
    pub fn diverge(&self, reason: &str) {
        let mut inner = self.inner.lock();
        if matches!(inner.mode, Mode::Detached | Mode::Aborted) {
            return;
        }
        inner.diverged = true;
        inner.disconnect(&Why::Ended(reason.to_owned()));
        if inner.mode == Mode::Syncing {
            inner.mode = Mode::Detached;
            inner.clear();
        }
        drop(inner);
        self.announce();
    }

    fn announce(&self) {
        self.changed.notify_all();
        (self.notify)();
    }

    // ---- operations

    /// Give the operation its place in the order. Call [`Self::push`] after the locks that define the order are free.
    ///
    /// Blocks while the window is full. Returns [`Ticket::NONE`] when operations go nowhere.
    ///
    /// # Errors
    /// `Aborted` when the mount ends.
    pub fn submit(&self, op: &Op<'_>) -> Result<Ticket, Aborted> {
        let flush = matches!(op, Op::Fsync { .. } | Op::SyncAll);
        {
            let inner = self.inner.lock();
            match inner.mode {
                Mode::Aborted => return Err(Aborted),
                Mode::Detached => return Ok(Ticket::NONE),
                Mode::Syncing | Mode::Mirrored => {}
            }
        }
        let mut frame = Vec::new();
        encode_op(&mut frame, op);
        let mut inner = self.inner.lock();
        let epoch = inner.epoch;
        while inner.is_full(self.window, frame.len()) {
            if inner.unsent > 0 && inner.connection.is_some() {
                drop(inner);
                self.push();
                inner = self.inner.lock();
                if inner.unsent == 0 {
                    continue;
                }
            }
            inner = self.await_change(inner);
            match inner.mode {
                Mode::Aborted => return Err(Aborted),
                Mode::Detached => return Ok(Ticket::NONE),
                Mode::Syncing | Mode::Mirrored if inner.epoch != epoch => return Ok(Ticket::NONE),
                Mode::Syncing | Mode::Mirrored => {}
            }
        }
        match inner.mode {
            Mode::Aborted => return Err(Aborted),
            Mode::Detached => return Ok(Ticket::NONE),
            Mode::Syncing | Mode::Mirrored => {}
        }
        inner.last += 1;
        let seq = inner.last;
        seal(&mut frame, seq);
        inner.bytes += frame.len();
        inner.total += frame.len() as u64;
        inner.queue.push_back(Queued { seq, frame: Arc::new(frame), flush, since: Instant::now() });
        inner.unsent += 1;
        let epoch = if inner.mode == Mode::Mirrored { inner.epoch } else { 0 };
        Ok(Ticket { seq, flush, epoch })
    }

    /// Send what is queued, unless somebody does already.
    pub fn push(&self) {
        loop {
            let Some(connection) = self.connection() else { return };
            let Some(mut writer) = connection.writer.try_lock() else { return };
            loop {
                let batch = self.inner.lock().take_batch(&connection);
                if batch.is_empty() {
                    break;
                }
                if let Err(error) = write_frames(&mut writer, &batch) {
                    drop(writer);
                    self.lose(&connection, Why::Sending(error));
                    return;
                }
            }
            drop(writer);
            // Somebody may have queued more, and found the writer taken, just before it was free.
            let inner = self.inner.lock();
            if inner.unsent == 0 || !inner.uses(&connection) {
                return;
            }
        }
    }

    /// Send a message between operations.
    pub fn send(&self, message: &Message) -> bool {
        let Some(connection) = self.connection() else { return false };
        let mut frame = Vec::new();
        encode_message(&mut frame, message);
        let result = connection.writer.lock().write_all(&frame);
        match result {
            Ok(()) => {
                self.inner.lock().last_sent = Instant::now();
                self.push();
                true
            }
            Err(error) => {
                self.lose(&connection, Why::Sending(error));
                false
            }
        }
    }

    /// Whether the stream of this epoch is still that of a peer being synchronised.
    pub fn is_syncing(&self, epoch: u64) -> bool {
        let inner = self.inner.lock();
        inner.epoch == epoch && inner.mode == Mode::Syncing
    }

    /// Does not block.
    pub fn status(&self) -> StreamStatus {
        let inner = self.inner.lock();
        let waiting = inner.mode == Mode::Mirrored;
        let oldest = inner.queue.front().into_iter().chain(inner.flushing.values().next());
        let oldest = oldest.map(|queued| queued.since.elapsed()).max().unwrap_or_default();
        StreamStatus {
            mode: inner.mode,
            name: inner.name.clone(),
            last: inner.last,
            acked: inner.acked,
            durable: inner.durable,
            connected: inner.connection.is_some(),
            total: inner.total,
            latency: inner.latency,
            window_bytes: inner.bytes,
            window_ops: inner.queue.len(),
            oldest,
            oldest_wait: if waiting { oldest } else { Duration::ZERO },
            failed: inner.failed.clone(),
            lost: inner.lost.as_ref().map(|lost| lost.reason.clone()),
            closed_by_peer: inner.lost.as_ref().is_some_and(|lost| lost.closed_by_peer),
            silent: inner.last_received.elapsed(),
            disconnected: inner.lost.as_ref().map(|lost| lost.at.elapsed()),
        }
    }

    /// Whether something unimportant may be submitted without anyone waiting for it.
    pub fn has_room(&self) -> bool {
        let inner = self.inner.lock();
        inner.queue.len() < self.window.ops / 2 && (inner.connection.is_some() || inner.mode == Mode::Detached)
    }

    /// Name of the stream that waits for acknowledgements, and the positions from which a peer can go on with it.
    pub fn resumable(&self) -> Option<(String, RangeInclusive<Seq>)> {
        let inner = self.inner.lock();
        (inner.mode == Mode::Mirrored && !inner.diverged).then(|| (inner.name.clone(), inner.acked..=inner.last))
    }

    /// A failure of the peer counts until it has been synchronised again.
    pub fn clear_failure(&self) {
        self.inner.lock().failed = None;
    }
}

/// The mount ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted;
