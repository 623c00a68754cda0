//! One module's files on this node: record, stream, and (as primary) the mounts.
//!
//! At any time the engine is idle, primary or secondary. Orders that take time exclude each other; `abort_primary`,
//! `renew_lease`, `fence` and `status` never wait for another order.

mod base;
pub mod config;
mod dial;
mod events;
mod link;
mod primary;
mod status;
mod verify;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

pub use config::{ConfigError, EngineConfig};
pub use events::Events;
pub use link::{Link, LinkConfig, LinkState};
pub use primary::Ended;
use primary::Primary;
use status::{CountersStatus, EngineStatus, ModeName, ProgressStatus};

use crate::adoption::{self, AdoptionError};
use crate::fuse::mount;
use crate::journal::Journal;
use crate::lease::Lease;
use crate::marker::{self, MarkerError};
use crate::record::{LastRole, NO_GENERATION, Record, RecordError, Store};
use crate::stream::primary::Mode as StreamMode;
use crate::stream::secondary::{self, Secondary, StartError, Stopped};

/// Why an order could not be carried out; the text names what and the mend.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Marker(#[from] MarkerError),
    #[error(transparent)]
    Secondary(#[from] StartError),
    #[error(
        "state directory {path} is in use by another sidecar: wait until that has ended (the pod of a deleted module may \
         still be terminating)"
    )]
    InUse { path: String },
    #[error("state directory {path}: {source}")]
    State { path: String, source: std::io::Error },
    #[error("volume {path}: {source}")]
    Volume { path: String, source: Errno },
    #[error("mount at {mountpoint}: {source}")]
    Mount { mountpoint: String, source: std::io::Error },
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
    #[error("create an eventfd: {0}")]
    Events(Errno),
    #[error("flush the volumes: {0}")]
    Flush(Errno),
    #[error(
        "this node has no generation record: initialise the module here, or let it synchronise from the other node"
    )]
    NoRecord,
    #[error(
        "this node's files are in the middle of a resynchronisation: let it be completed from the other node, or start \
         alone (force-primary) to take them as they are"
    )]
    Inconsistent,
    #[error("the engine is {is}, the order needs it {needed}")]
    WrongMode { is: &'static str, needed: &'static str },
    #[error("the other node is not in sync: verify once it is")]
    NotInSync,
    #[error("node {peer} runs a version of twinhull that cannot verify: update it, then order it again")]
    PeerCannotVerify { peer: String },
    #[error("a verification is running already: wait for its end, or stop it")]
    Verifying,
    #[error("the mount ends")]
    Ended,
}

impl From<AdoptionError> for EngineError {
    fn from(error: AdoptionError) -> Self {
        match error {
            AdoptionError::Record(error) => error.into(),
            AdoptionError::Marker(error) => error.into(),
        }
    }
}

impl EngineError {
    /// UID of the other module that this node's data belong to, when that is what is wrong.
    pub fn foreign_module(&self) -> Option<&str> {
        match self {
            Self::Record(RecordError::ForeignModule { found, .. })
            | Self::Marker(MarkerError::Foreign { found, .. }) => Some(found),
            _ => None,
        }
    }

    fn volume(path: &Path, source: Errno) -> Self {
        Self::Volume { path: path.display().to_string(), source }
    }
}

enum Mode {
    Idle,
    Primary(Arc<Primary>),
    Secondary(Arc<Mutex<Option<Secondary>>>),
}

impl Mode {
    fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Primary(_) => "primary",
            Self::Secondary(_) => "secondary",
        }
    }
}

#[derive(Serialize)]
struct RecordView<'a> {
    fresh: bool,
    has_data: bool,
    module: &'a str,
    node: &'a str,
    generation: &'a str,
    history: &'a [String],
    alone: bool,
    consistent: bool,
    last_role: LastRole,
    token: Option<&'a str>,
    adopted: Option<&'a str>,
}

/// See the module's documentation. All methods are thread-safe.
pub struct Engine {
    config: EngineConfig,
    /// Nobody else uses the state directory while this is held: neither another process nor another module's.
    lock: Mutex<Option<File>>,
    /// The deleted module whose data were taken over when the engine was opened.
    adopted: Option<String>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    lease: Arc<Lease>,
    events: Arc<Events>,
    /// Held for a moment only.
    mode: Mutex<Mode>,
    /// Held by an order that takes time.
    order: Mutex<()>,
    error: Arc<Mutex<Option<String>>>,
    /// Remembered for a primary that starts later.
    discard: Mutex<Option<String>>,
}

impl Engine {
    /// Read configuration and record, adopt what the configuration names, clear mounts that an earlier process left.
    pub fn open(document: &str) -> Result<Self, EngineError> {
        let config = EngineConfig::parse(document)?;
        let lock = lock(&config.state_dir)?;
        let mut adopted = None;
        if let Some(old) = &config.adopt {
            let backings: Vec<_> = config.volumes.iter().map(|volume| volume.backing.as_path()).collect();
            if adoption::adopt(&config.state_dir, &backings, &config.node, old, &config.uid)? {
                adopted = Some(old.clone());
            }
        }
        let store = Arc::new(Store::open(&config.state_dir, &config.uid, &config.node)?);
        let journal = Arc::new(Journal::open(&config.state_dir, config.journal_bytes, Arc::clone(&store))?);
        raise_descriptor_limit();
        for volume in &config.volumes {
            mount::clear_stale(&volume.mountpoint)
                .map_err(|source| EngineError::Mount { mountpoint: volume.mountpoint.display().to_string(), source })?;
            fs::create_dir_all(&volume.backing).map_err(|error| {
                EngineError::volume(&volume.backing, Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })?;
            // Now: a node whose disk is full must be able to mount. What fails here the mount will tell.
            let _ = fs::create_dir_all(&volume.mountpoint);
            // A record without the marker: the disk is not there. During a first synchronisation it may not be set yet.
            if store.get().is_some_and(|record| record.generation != NO_GENERATION) {
                marker::check(&volume.backing, &config.uid)?;
            }
        }
        Ok(Self {
            config,
            lock: Mutex::new(Some(lock)),
            adopted,
            store,
            journal,
            lease: Arc::default(),
            events: Arc::new(Events::new().map_err(EngineError::Events)?),
            mode: Mutex::new(Mode::Idle),
            order: Mutex::new(()),
            error: Arc::default(),
            discard: Mutex::new(None),
        })
    }

    /// The record, as JSON.
    pub fn record(&self) -> Result<String, EngineError> {
        let mut has_data = false;
        for volume in &self.config.volumes {
            has_data |= marker::has_data(&volume.backing).map_err(|error| {
                EngineError::volume(&volume.backing, Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })?;
        }
        let record = self.store.get();
        let fresh = record.is_none();
        let record = record.unwrap_or_else(|| Record {
            module: self.config.uid.clone(),
            node: self.config.node.clone(),
            ..Record::default()
        });
        Ok(json(&RecordView {
            fresh,
            has_data,
            module: &record.module,
            node: &record.node,
            generation: &record.generation,
            history: &record.history,
            alone: record.alone,
            consistent: record.consistent,
            last_role: record.last_role,
            token: record.token.as_deref(),
            adopted: self.adopted.as_deref(),
        }))
    }

    /// This node's files are the module's data.
    pub fn initialise(&self) -> Result<(), EngineError> {
        let _order = self.order.lock();
        self.expect_idle()?;
        if self.store.get().is_none() {
            for volume in &self.config.volumes {
                marker::set(&volume.backing, &self.config.uid)?;
            }
        }
        self.store.create(Record::initial(&self.config.uid, &self.config.node)?)?;
        self.events.notify();
        Ok(())
    }

    pub fn start_primary(&self, alone: bool) -> Result<(), EngineError> {
        let _order = self.order.lock();
        self.expect_idle()?;
        *self.error.lock() = None;
        let (error, events) = (Arc::clone(&self.error), Arc::clone(&self.events));
        let on_error = Box::new(move |text| {
            if error.lock().replace(text).is_none() {
                events.notify();
            }
        });
        let primary =
            Primary::start(&self.config, &self.store, &self.journal, &self.lease, &self.events, alone, on_error)?;
        if let Some(generation) = self.discard.lock().clone() {
            primary.link.allow_discard(generation);
        }
        *self.mode.lock() = Mode::Primary(Arc::new(primary));
        self.events.notify();
        Ok(())
    }

    pub fn go_alone(&self) -> Result<(), EngineError> {
        self.primary()?.link.go_alone("this node goes on alone")?;
        self.events.notify();
        Ok(())
    }

    pub fn stop_primary(&self, timeout: Duration) -> Result<Ended, EngineError> {
        let _order = self.order.lock();
        let ended = self.primary()?.stop(timeout);
        if ended.is_err() {
            self.abort_primary();
        }
        self.become_idle();
        ended
    }

    /// At once, whatever else is going on. Not an error when there is no primary.
    pub fn abort_primary(&self) {
        if let Ok(primary) = self.primary() {
            primary.abort();
            self.become_idle();
        }
    }

    pub fn start_secondary(&self) -> Result<(), EngineError> {
        let _order = self.order.lock();
        if matches!(*self.mode.lock(), Mode::Secondary(_)) {
            return Ok(());
        }
        self.expect_idle()?;
        let config = secondary::Config {
            identity: self.config.identity()?,
            volumes: self
                .config
                .volumes
                .iter()
                .map(|volume| secondary::Volume { name: volume.name.clone(), backing: volume.backing.clone() })
                .collect(),
            quarantine_dir: self.config.quarantine_dir.clone(),
            quarantine: self.config.quarantine,
            listen: self.config.listen_addresses()?,
            peer_timeout: self.config.peer_timeout(),
            threads: self.config.threads,
        };
        let events = Arc::clone(&self.events);
        let secondary = Secondary::start(
            config,
            Arc::clone(&self.store),
            Some(Arc::clone(&self.journal)),
            Arc::new(move || events.notify()),
        )?;
        *self.mode.lock() = Mode::Secondary(Arc::new(Mutex::new(Some(secondary))));
        self.events.notify();
        Ok(())
    }

    pub fn stop_secondary(&self) -> Result<Stopped, EngineError> {
        let _order = self.order.lock();
        let Mode::Secondary(holder) = std::mem::replace(&mut *self.mode.lock(), Mode::Idle) else {
            return Err(EngineError::WrongMode { is: self.mode.lock().name(), needed: "secondary" });
        };
        let secondary = holder.lock().take();
        let stopped = secondary.map(Secondary::stop);
        self.events.notify();
        stopped.ok_or(EngineError::WrongMode { is: "idle", needed: "secondary" })
    }

    /// Never blocks for long.
    pub fn renew_lease(&self, until_ns: u64) {
        self.lease.renew(until_ns);
    }

    /// Never blocks.
    pub fn fence(&self) {
        self.lease.fence();
    }

    pub fn resync(&self) -> Result<(), EngineError> {
        self.primary()?.link.resync();
        Ok(())
    }

    /// Begin to compare both trees; `repair`: the secondary gets the primary's where they differ. The status says how far.
    pub fn verify(&self, repair: bool) -> Result<(), EngineError> {
        self.primary()?.link.verify(repair)
    }

    /// Not an error when none is running.
    pub fn stop_verify(&self) -> Result<(), EngineError> {
        self.primary()?.link.stop_verify();
        Ok(())
    }

    pub fn allow_discard(&self, peer_generation: String) -> Result<(), EngineError> {
        *self.discard.lock() = Some(peer_generation.clone());
        if let Ok(primary) = self.primary() {
            primary.link.allow_discard(peer_generation);
        }
        Ok(())
    }

    /// An eventfd, readable when the status changed.
    pub fn event_fd(&self) -> i32 {
        self.events.raw_fd()
    }

    /// End whatever runs.
    pub fn close(&self) {
        self.abort_primary();
        // Not being secondary is what is wanted.
        let _ = self.stop_secondary();
        self.lock.lock().take();
    }

    /// The state, as JSON.
    pub fn status(&self) -> String {
        let record = self.store.get().unwrap_or_default();
        let mut status = EngineStatus {
            mode: ModeName::Idle,
            connected: false,
            in_sync: false,
            syncing: false,
            alone: record.alone,
            lease_ns: self.lease.until(),
            recorded_ns: 0,
            first_change_ns: 0,
            stream: None,
            seq: 0,
            acked: 0,
            applied: 0,
            oldest_wait_ms: 0.0,
            since_change_ms: self.events.since_ms(),
            disconnected_ms: None,
            closed_by_peer: false,
            heard_ms: None,
            progress: None,
            resync_kind: None,
            resync_reason: None,
            journal: self.journal.is_active(),
            peer_generation: None,
            verdict: None,
            error: self.error.lock().clone(),
            link_error: None,
            dropped: None,
            quarantine: None,
            verify: None,
            counters: CountersStatus::default(),
        };
        let (primary, secondary) = match &*self.mode.lock() {
            Mode::Idle => (None, None),
            Mode::Primary(primary) => (Some(Arc::clone(primary)), None),
            Mode::Secondary(holder) => (None, Some(Arc::clone(holder))),
        };
        if let Some(primary) = primary {
            describe_primary(&mut status, &primary);
        }
        // The holder is only ever locked for a moment; being stopped it holds none.
        if let Some(state) = secondary.and_then(|holder| holder.lock().as_ref().map(Secondary::status)) {
            describe_secondary(&mut status, state);
        }
        json(&status)
    }

    fn primary(&self) -> Result<Arc<Primary>, EngineError> {
        match &*self.mode.lock() {
            Mode::Primary(primary) => Ok(Arc::clone(primary)),
            other => Err(EngineError::WrongMode { is: other.name(), needed: "primary" }),
        }
    }

    fn expect_idle(&self) -> Result<(), EngineError> {
        match &*self.mode.lock() {
            Mode::Idle => Ok(()),
            other => Err(EngineError::WrongMode { is: other.name(), needed: "idle" }),
        }
    }

    fn become_idle(&self) {
        let ended = std::mem::replace(&mut *self.mode.lock(), Mode::Idle);
        drop(ended);
        self.events.notify();
    }
}

/// Take the state directory (made when missing) for this process; closing the file gives it back.
fn lock(state_dir: &Path) -> Result<File, EngineError> {
    let path = || state_dir.display().to_string();
    let opened = fs::create_dir_all(state_dir).and_then(|()| File::create(state_dir.join("lock")));
    let file = opened.map_err(|source| EngineError::State { path: path(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(EngineError::InUse { path: path() }),
        Err(error) => Err(EngineError::State { path: path(), source: error.into() }),
    }
}

fn describe_primary(status: &mut EngineStatus, primary: &Primary) {
    let (stream, link) = (primary.stream.status(), primary.link.state());
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    status.mode = ModeName::Primary;
    let authority = primary.core.authority();
    (status.recorded_ns, status.first_change_ns) = (authority.recorded_ns(), authority.first_change_ns());
    status.connected = stream.connected;
    status.in_sync = primary.link.in_sync();
    status.syncing = stream.connected && !status.in_sync;
    status.stream = (stream.mode != StreamMode::Detached).then_some(stream.name);
    (status.seq, status.acked) = (stream.last, stream.acked);
    status.oldest_wait_ms = ms(stream.oldest_wait);
    status.disconnected_ms = stream.disconnected.filter(|_| !stream.connected).map(ms);
    status.closed_by_peer = stream.closed_by_peer && !stream.connected;
    status.heard_ms = stream.connected.then(|| ms(stream.silent));
    status.progress = link.progress.as_deref().map(ProgressStatus::from);
    if let Some((kind, why)) = link.resync {
        (status.resync_kind, status.resync_reason) = (Some(kind), Some(why));
    }
    (status.peer_generation, status.verdict) = (link.peer_generation, link.verdict);
    status.link_error = if stream.connected { None } else { link.error.or(stream.lost) };
    status.dropped = link.dropped.or(stream.failed);
    status.verify = primary.link.verify_status();
    status.counters = CountersStatus {
        requests: primary.requests() as u64,
        bytes: stream.total,
        latency: stream.latency,
        inodes: primary.core.table().len() as u64,
        window_bytes: stream.window_bytes as u64,
        window_ops: stream.window_ops as u64,
        durable: stream.durable,
        quarantined: 0,
    };
}

fn describe_secondary(status: &mut EngineStatus, state: secondary::Status) {
    status.mode = ModeName::Secondary;
    status.connected = state.connected;
    status.in_sync = state.in_sync;
    status.syncing = state.syncing;
    status.resync_kind = state.resync;
    status.stream = state.stream;
    status.applied = state.applied;
    status.heard_ms = state.heard_ms.map(|ms| ms as f64);
    status.disconnected_ms = state.disconnected_ms.map(|ms| ms as f64);
    status.closed_by_peer = state.closed_by_peer && !state.connected;
    (status.peer_generation, status.verdict) = (state.peer_generation, state.verdict);
    status.link_error = state.error;
    status.dropped = state.failed;
    status.quarantine = state.quarantine;
    status.counters.durable = state.durable;
    status.counters.quarantined = state.quarantined;
}

fn json(value: &impl Serialize) -> String {
    // Plain structures of numbers and strings: it cannot fail; an empty object would be refused by every reader.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// Open as many descriptors as the process may.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without it fewer inodes are kept open, that is all.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
