//! The stream's state: what is queued, what is acknowledged, what the peer answered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Why};
use super::latency::Latency;
use super::{Mode, Outcome, Ticket, Window};
use crate::op::Seq;
use crate::wire::Message;

/// Part of the window that is used during a resynchronisation.
const SYNCING_SHARE: usize = 8;

/// An operation that the peer has not acknowledged.
pub(super) struct Queued {
    pub seq: Seq,
    pub frame: Arc<Vec<u8>>,
    pub flush: bool,
    pub since: Instant,
}

/// The end of the last connection.
pub(super) struct Lost {
    pub reason: String,
    pub closed_by_peer: bool,
    pub at: Instant,
}

/// Everything that one lock protects.
pub(super) struct Inner {
    pub mode: Mode,
    /// This node's files have what the stream has not: it cannot be resumed.
    pub diverged: bool,
    pub epoch: u64,
    pub name: String,
    pub last: Seq,
    pub acked: Seq,
    pub durable: Seq,
    /// Not acknowledged, in order; `unsent` of them, at the end, have not been sent on this connection.
    pub queue: VecDeque<Queued>,
    pub unsent: usize,
    pub bytes: usize,
    /// Bytes of all operations since this node became primary.
    pub total: u64,
    pub latency: Latency,
    /// Applied by the peer, not flushed there yet.
    pub flushing: BTreeMap<Seq, Queued>,
    pub connection: Option<Arc<Connection>>,
    /// Frames to be sent again before anything else, after a resumption.
    pub repeat: Vec<Arc<Vec<u8>>>,
    pub answers: HashMap<u64, Message>,
    pub directories: BTreeMap<Seq, Vec<u64>>,
    pub token_kept: Option<String>,
    pub failed: Option<String>,
    pub lost: Option<Lost>,
    pub last_sent: Instant,
    pub last_received: Instant,
}

/// What [`Stream::status`] tells.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    pub mode: Mode,
    pub name: String,
    pub last: Seq,
    pub acked: Seq,
    pub durable: Seq,
    pub connected: bool,
    /// Bytes of all operations since this node became primary.
    pub total: u64,
    pub latency: Latency,
    pub window_bytes: usize,
    pub window_ops: usize,
    /// Age of the oldest operation that is not acknowledged; the same, if somebody waits for that.
    pub oldest: Duration,
    pub oldest_wait: Duration,
    pub failed: Option<String>,
    /// Why the last connection ended.
    pub lost: Option<String>,
    /// It ended because the other side's kernel closed it.
    pub closed_by_peer: bool,
    /// Since anything was received.
    pub silent: Duration,
    /// Since the last connection ended.
    pub disconnected: Option<Duration>,
}

impl Inner {
    /// While the peer is being synchronised nobody waits for it but the walk, whose questions are answered after what
    /// is queued: so less may be queued then.
    pub fn is_full(&self, window: Window, more: usize) -> bool {
        let share = if self.mode == Mode::Syncing { SYNCING_SHARE } else { 1 };
        !self.queue.is_empty() && (self.bytes + more > window.bytes / share || self.queue.len() >= window.ops / share)
    }

    pub fn uses(&self, connection: &Arc<Connection>) -> bool {
        self.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    pub fn disconnect(&mut self, why: &Why) {
        if let Some(connection) = self.connection.take() {
            connection.shutdown();
            let closed_by_peer = matches!(why, Why::Closed);
            self.lost = Some(Lost { reason: why.to_string(), closed_by_peer, at: Instant::now() });
        }
        self.unsent = 0;
        self.repeat.clear();
        self.answers.clear();
        self.directories.clear();
        self.token_kept = None;
    }

    pub fn clear(&mut self) {
        self.queue.clear();
        self.flushing.clear();
        self.repeat.clear();
        self.unsent = 0;
        self.bytes = 0;
    }

    pub fn acknowledge(&mut self, applied: Seq) {
        while self.queue.front().is_some_and(|queued| queued.seq <= applied) {
            let Some(queued) = self.queue.pop_front() else { break };
            self.bytes -= queued.frame.len();
            // While the peer is being synchronised nobody waits for it.
            if self.mode == Mode::Mirrored {
                self.latency.add(queued.since.elapsed());
            }
            if queued.flush {
                self.flushing.insert(queued.seq, queued);
            }
        }
        self.unsent = self.unsent.min(self.queue.len());
        self.acked = self.acked.max(applied.min(self.last));
    }

    pub fn flushed(&mut self, seq: Seq) {
        // A flush may be answered before its acknowledgement, never instead of it.
        if self.flushing.remove(&seq).is_none() {
            if let Some(queued) = self.queue.iter_mut().find(|queued| queued.seq == seq) {
                queued.flush = false;
            }
        }
    }

    pub fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        match self.mode {
            Mode::Aborted => Some(Outcome::Aborted),
            Mode::Detached => Some(Outcome::Released),
            Mode::Syncing | Mode::Mirrored if ticket.epoch != self.epoch => Some(Outcome::Released),
            Mode::Syncing | Mode::Mirrored => {
                let done = self.acked >= ticket.seq && (!ticket.flush || !self.flushing.contains_key(&ticket.seq));
                done.then_some(Outcome::Acknowledged)
            }
        }
    }

    pub fn gone(&self, epoch: u64) -> bool {
        self.connection.is_none() || self.epoch != epoch || matches!(self.mode, Mode::Detached | Mode::Aborted)
    }

    /// Frames to send next; they count as sent.
    pub fn take_batch(&mut self, connection: &Arc<Connection>) -> Vec<Arc<Vec<u8>>> {
        const FRAMES: usize = 64;
        if !self.uses(connection) {
            return Vec::new();
        }
        let mut batch = std::mem::take(&mut self.repeat);
        let first = self.queue.len() - self.unsent;
        let taken = self.unsent.min(FRAMES);
        batch.extend(self.queue.iter().skip(first).take(taken).map(|queued| Arc::clone(&queued.frame)));
        self.unsent -= taken;
        if !batch.is_empty() {
            self.last_sent = Instant::now();
        }
        batch
    }
}
