//! The engine's state as the sidecar sees it.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::record::Verdict;
use crate::resync::source::Counters;
use crate::resync::verify::VerifyStatus;
use crate::stream::primary::Latency;
use crate::stream::secondary::ResyncKind;

/// What the node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    Idle,
    Primary,
    Secondary,
}

/// How far a resynchronisation is. The totals are 0 until they are known, and never less than what is done after that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProgressStatus {
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_sent: u64,
    /// At the mean speed until now; `None` while that cannot be told.
    pub seconds_left: Option<f64>,
}

impl From<&Counters> for ProgressStatus {
    fn from(counters: &Counters) -> Self {
        // What the application adds is done as well, but was not counted.
        let total = |done: u64, total: u64| if total == 0 { 0 } else { total.max(done) };
        let (bytes_done, files_done) =
            (counters.bytes_done.load(Ordering::Relaxed), counters.files_done.load(Ordering::Relaxed));
        Self {
            bytes_done,
            bytes_total: total(bytes_done, counters.bytes_total.load(Ordering::Relaxed)),
            files_done,
            files_total: total(files_done, counters.files_total.load(Ordering::Relaxed)),
            bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
            seconds_left: counters.left().map(|left| left.as_secs_f64()),
        }
    }
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CountersStatus {
    pub requests: u64,
    /// Put into the stream since this node became primary.
    pub bytes: u64,
    pub inodes: u64,
    pub window_bytes: u64,
    pub window_ops: u64,
    pub durable: u64,
    pub quarantined: u64,
    /// How long operations waited for the peer, since this node became primary.
    pub latency: Latency,
}

/// `Engine.status()` as JSON. Times in milliseconds unless they end in `_ns`.
#[derive(Clone, Debug, Serialize)]
pub struct EngineStatus {
    pub mode: ModeName,
    /// There is a session with the peer.
    pub connected: bool,
    /// Primary: the peer has everything that was acknowledged. Secondary: this node has, and may be promoted.
    pub in_sync: bool,
    pub syncing: bool,
    /// The record says that the peer is outdated.
    pub alone: bool,
    /// End of the lease, `CLOCK_BOOTTIME`.
    pub lease_ns: u64,
    /// Primary: when the record said so durably, and when the first change was acknowledged; `CLOCK_BOOTTIME`, 0: not yet.
    pub recorded_ns: u64,
    pub first_change_ns: u64,
    pub stream: Option<String>,
    /// Last operation submitted, acknowledged by the peer, applied from the peer.
    pub seq: u64,
    pub acked: u64,
    pub applied: u64,
    /// Age of the oldest operation that waits for the peer.
    pub oldest_wait_ms: f64,
    /// Since anything but counters changed.
    pub since_change_ms: f64,
    /// Since the last connection ended; `None` while connected, or before the first.
    pub disconnected_ms: Option<f64>,
    /// The last connection ended because the other side's kernel closed it (its process ended).
    pub closed_by_peer: bool,
    /// Since anything arrived from the peer, while connected.
    pub heard_ms: Option<f64>,
    pub progress: Option<ProgressStatus>,
    /// What the present or last resynchronisation compares, and (on the primary) why so.
    pub resync_kind: Option<ResyncKind>,
    pub resync_reason: Option<String>,
    /// This node's journal is kept.
    pub journal: bool,
    pub peer_generation: Option<String>,
    pub verdict: Option<Verdict>,
    /// This node's own disk or record fails.
    pub error: Option<String>,
    /// Why there is no session, or the last one ended.
    pub link_error: Option<String>,
    /// The secondary could not apply an operation: its copy counts for nothing until it has been synchronised again.
    pub dropped: Option<String>,
    /// Folder that received what only this node had.
    pub quarantine: Option<String>,
    /// The present or last verification since this node became primary.
    pub verify: Option<VerifyStatus>,
    pub counters: CountersStatus,
}
