//! The primary's link to its peer: keeps a session going, and moves the ownership of the data with it.
//!
//! One thread dials, agrees on how to begin, and then only watches the connection (for its end, and to send a sign of
//! life when nothing else is sent). A full resynchronisation runs in a second thread.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::dial::{Dialled, Own, Plan, dial_any, plan, verdict};
use super::events::Events;
use crate::fs::{Core, Plan as CorePlan};
use crate::journal::changes::Change;
use crate::op::Op;
use crate::record::{RecordError, Store, Verdict, new_generation};
use crate::resync::source::{Counters, Source, SourceError};
use crate::resync::verify::VerifyStatus;
use crate::stream::primary::{Connection, Mode, Outcome, Stream, Why};
use crate::stream::secondary::ResyncKind;
use crate::wire::handshake::{Begin, BeginKind, HandshakeError, Identity, RefusalCode, begin};
use crate::wire::{Message, encode_message};

/// Pause between two attempts to reach the peer.
const RETRY: Duration = Duration::from_millis(200);

/// The same, after the peer or this node failed to carry out what was agreed: a disk is full or broken.
const RETRY_FAILED: Duration = Duration::from_secs(5);

/// A peer that is being synchronised and has applied nothing for so long is given up.
const STALLED: Duration = Duration::from_secs(30);

/// What the link needs to know.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    pub identity: Identity,
    pub addresses: Vec<std::net::SocketAddr>,
    pub volumes: Vec<String>,
    pub connect_timeout: Duration,
    pub peer_timeout: Duration,
    pub resync_rate: u64,
    /// Between two flushes of both nodes after which the journal cools.
    pub cooling: Duration,
}

/// What changes as sessions come and go.
#[derive(Clone, Debug, Default)]
pub struct LinkState {
    pub peer_generation: Option<String>,
    /// See `State::knows`; of the peer that answered last.
    pub peer_knows: Vec<String>,
    pub verdict: Option<Verdict>,
    /// Why there is no session, or the last one ended.
    pub error: Option<String>,
    /// The peer could not apply an operation; until it has been synchronised again.
    pub dropped: Option<String>,
    pub progress: Option<Arc<Counters>>,
    /// What the present or last resynchronisation compares, and why so.
    pub resync: Option<(ResyncKind, String)>,
    token: Option<String>,
    discard: Option<String>,
    full: bool,
    /// Before the next attempt.
    pause: Duration,
}

/// See the module's documentation.
pub struct Link {
    pub(super) config: LinkConfig,
    pub(super) core: Arc<Core>,
    pub(super) store: Arc<Store>,
    pub(super) events: Arc<Events>,
    pub(super) state: Mutex<LinkState>,
    /// Whoever moves between "alone" and "shared" holds it, from the durable record to the stream's mode.
    ownership: Mutex<()>,
    /// Epoch of the stream whose peer is (or was last) in sync; 0: none.
    synced: AtomicU64,
    pub(super) stopping: AtomicBool,
    /// The socket of the handshake that is under way.
    dialling: Mutex<Option<TcpStream>>,
    pub(super) wake: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) verify: Mutex<VerifyStatus>,
    pub(super) verify_stop: AtomicBool,
}

impl Link {
    /// `token`: both nodes' records had it when this node became primary, and nothing was changed since.
    pub fn new(
        config: LinkConfig,
        core: Arc<Core>,
        store: Arc<Store>,
        events: Arc<Events>,
        token: Option<String>,
    ) -> Self {
        Self {
            core,
            store,
            events,
            state: Mutex::new(LinkState { token, pause: RETRY, ..LinkState::default() }),
            ownership: Mutex::new(()),
            synced: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            dialling: Mutex::new(None),
            wake: Condvar::new(),
            config,
            threads: Mutex::new(Vec::new()),
            verify: Mutex::default(),
            verify_stop: AtomicBool::new(false),
        }
    }

    /// Start to look for the peer.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let link = Arc::clone(self);
        self.spawn("link", move || link.run())?;
        let link = Arc::clone(self);
        if self.core.journal().is_some() { self.spawn("journal", move || link.cool_regularly()) } else { Ok(()) }
    }

    pub(super) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = Builder::new().name(name.to_owned()).spawn(body)?;
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    /// End the session and the threads. The stream must have been aborted, or nothing waits for it.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.verify_stop.store(true, Ordering::Release);
        drop(self.state.lock());
        self.wake.notify_all();
        if let Some(socket) = self.dialling.lock().take() {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A panic there has been reported by the runtime; the link has ended either way.
            let _ = thread.join();
        }
    }

    pub fn state(&self) -> LinkState {
        self.state.lock().clone()
    }

    /// The peer has everything, as of the last acknowledgement.
    pub fn in_sync(&self) -> bool {
        self.stream().is_mirrored() && self.synced.load(Ordering::Acquire) == self.stream().epoch()
    }

    /// The peer with this generation may be overwritten.
    pub fn allow_discard(&self, generation: String) {
        self.state.lock().discard = Some(generation);
        self.wake.notify_all();
    }

    /// Begin a session anew with a comparison of everything.
    pub fn resync(&self) {
        self.state.lock().full = true;
        if let Some(connection) = self.stream().connection() {
            self.stream().lose(&connection, Why::Ended("a full resynchronisation was asked for".to_owned()));
        }
        self.wake.notify_all();
    }

    /// The peer is outdated from now on: durable when this returns, and nothing waits for it any more.
    pub fn go_alone(&self, reason: &str) -> Result<(), RecordError> {
        let _held = self.ownership.lock();
        self.go_alone_held(reason)
    }

    fn go_alone_held(&self, reason: &str) -> Result<(), RecordError> {
        let authority = self.core.authority();
        authority.go_alone()?;
        self.state.lock().token = None;
        if self.stream().detach(reason) {
            // Something was done that the peer may lack. Whoever waited for it does the same before going on; in
            // durability `commit` nobody does.
            authority.settle().map_err(|refused| match refused {
                crate::authority::Refused::Record(error) => error,
                crate::authority::Refused::Closed => RecordError::Random("the mount ends".to_owned()),
            })?;
        }
        Ok(())
    }

    pub(super) fn stream(&self) -> &Stream {
        self.core.stream()
    }

    fn run(self: Arc<Self>) {
        while !self.stopping.load(Ordering::Acquire) {
            let problem = self.session().err();
            let mut state = self.state.lock();
            if state.error != problem && problem.is_some() {
                state.error = problem;
                self.events.notify();
            }
            if !self.stopping.load(Ordering::Acquire) {
                let pause = std::mem::replace(&mut state.pause, RETRY);
                self.wake.wait_for(&mut state, pause);
            }
        }
    }

    /// One session, from dialling to its end. The error says why there was none.
    fn session(self: &Arc<Self>) -> Result<(), String> {
        let config = &self.config;
        let show = |socket: &TcpStream| *self.dialling.lock() = socket.try_clone().ok();
        let dialled = dial_any(&config.addresses, &config.identity, config.connect_timeout, config.peer_timeout, show)?;
        let record = self.store.get().ok_or("this node has no record")?;
        let peer = dialled.state.clone();
        let plan = {
            let mut state = self.state.lock();
            state.peer_generation = peer.record.as_ref().map(|record| record.generation.clone());
            state.peer_knows.clone_from(&peer.knows);
            state.verdict = Some(verdict(&record, &peer));
            let stream = self.stream().resumable();
            let journal = self.journal_problem(&record);
            let own = Own {
                record: &record,
                stream: stream.as_ref().map(|(name, positions)| (name.as_str(), positions.clone())),
                token: state.token.as_deref(),
                discard: state.discard.as_deref(),
                full: state.full,
                journal: journal.as_deref(),
                failing: self.core.authority().is_disk_failing(),
            };
            plan(&own, &peer)
        };
        self.events.notify();
        if self.stopping.load(Ordering::Acquire) {
            return Err("this node is no primary any more".to_owned());
        }
        let connection = match plan {
            Plan::Refuse(why) => return Err(why),
            Plan::Resume { applied } => self.resume(dialled, BeginKind::Resume, applied),
            Plan::Unchanged { token } => {
                let connection = self.resume(dialled, BeginKind::Unchanged { token }, 0)?;
                self.synced.store(self.stream().epoch(), Ordering::Release);
                self.state.lock().token = None;
                Ok(connection)
            }
            Plan::Incremental { base } => self.incremental(dialled, base),
            Plan::Full { discard, why } => self.full(dialled, discard, why),
        }?;
        *self.dialling.lock() = None;
        self.state.lock().error = None;
        self.events.notify();
        self.watch(&connection);
        Ok(())
    }

    /// Agree on how to begin.
    fn begin(
        &self,
        dialled: Dialled,
        kind: BeginKind,
        stream: String,
    ) -> Result<(Arc<Connection>, Vec<Change>), String> {
        let Dialled { socket, mut reader, .. } = dialled;
        let record = self.store.get().ok_or("this node has no record")?;
        let wanted = Begin { kind, stream, record, volumes: self.config.volumes.clone() };
        match begin(&mut reader, &mut &socket, &wanted) {
            Ok(changes) => {
                let connection = Connection::new(socket, reader).map_err(|error| error.to_string())?;
                Ok((Arc::new(connection), changes))
            }
            Err(error) => {
                if matches!(&error, HandshakeError::Refused(refusal) if refusal.code == RefusalCode::NotResumable) {
                    self.state.lock().full = true;
                }
                Err(error.to_string())
            }
        }
    }

    fn resume(&self, dialled: Dialled, kind: BeginKind, applied: u64) -> Result<Arc<Connection>, String> {
        let (name, _) = self.stream().resumable().ok_or("the stream ended meanwhile")?;
        let (connection, _) = self.begin(dialled, kind, name.clone())?;
        if self.stream().connect(&name, Arc::clone(&connection), applied) {
            Ok(connection)
        } else {
            Err("the stream ended meanwhile".to_owned())
        }
    }

    fn full(
        self: &Arc<Self>,
        dialled: Dialled,
        discard: Option<String>,
        why: String,
    ) -> Result<Arc<Connection>, String> {
        let text = |error: RecordError| error.to_string();
        let name = new_generation().map_err(text)?;
        // The peer gives up being promotable before this node counts it as outdated.
        let (connection, _) = self.begin(dialled, BeginKind::Full { discard }, name.clone())?;
        {
            let _held = self.ownership.lock();
            self.go_alone_held("the peer begins a full resynchronisation").map_err(text)?;
            self.core.begin_stream(name.clone(), Mode::Syncing).map_err(|error| error.to_string())?;
        }
        self.synchronise(&name, connection, (ResyncKind::Full, why), None)
    }

    fn incremental(self: &Arc<Self>, dialled: Dialled, base: String) -> Result<Arc<Connection>, String> {
        let text = |error: RecordError| error.to_string();
        let name = new_generation().map_err(text)?;
        let (connection, theirs) = self.begin(dialled, BeginKind::Incremental { base: base.clone() }, name.clone())?;
        let plan = {
            let _held = self.ownership.lock();
            self.go_alone_held("the peer begins a resynchronisation").map_err(text)?;
            let begun = self.sending_signs_of_life(&connection, || self.core.begin_incremental(name.clone(), &theirs));
            begun.map_err(|error| {
                self.state.lock().full = true;
                format!("the journal cannot be followed: {error}")
            })?
        };
        let why = format!("both journals go back to synchronisation {base}");
        self.synchronise(&name, connection, (ResyncKind::Incremental, why), Some(plan))
    }

    /// Do something that takes its time while the peer waits on a connection that nobody uses yet.
    fn sending_signs_of_life<T: Send>(&self, connection: &Connection, work: impl FnOnce() -> T + Send) -> T {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let alive = scope.spawn(|| {
                let mut frame = Vec::new();
                encode_message(&mut frame, &Message::Keepalive);
                loop {
                    thread::park_timeout(self.config.peer_timeout / 4);
                    // That it cannot be sent shows soon enough.
                    if done.load(Ordering::Acquire) || connection.socket().write_all(&frame).is_err() {
                        return;
                    }
                }
            });
            let result = work();
            done.store(true, Ordering::Release);
            alive.thread().unpark();
            result
        })
    }

    /// The peer has agreed to be brought level, and the stream has begun.
    fn synchronise(
        self: &Arc<Self>,
        name: &str,
        connection: Arc<Connection>,
        resync: (ResyncKind, String),
        plan: Option<CorePlan>,
    ) -> Result<Arc<Connection>, String> {
        let counters = Arc::new(Counters::default());
        if !self.stream().connect(name, Arc::clone(&connection), 0) {
            return Err("the stream ended meanwhile".to_owned());
        }
        self.stream().clear_failure();
        {
            let mut state = self.state.lock();
            state.full = false;
            state.dropped = None;
            state.progress = Some(Arc::clone(&counters));
            state.resync = Some(resync);
        }
        let link = Arc::clone(self);
        let epoch = self.stream().epoch();
        let source_connection = Arc::clone(&connection);
        self.spawn("resync", move || link.resynchronise(epoch, plan, &counters, &source_connection))
            .map_err(|e| e.to_string())?;
        Ok(connection)
    }

    /// The resynchronisation's own thread.
    fn resynchronise(
        &self,
        epoch: u64,
        plan: Option<CorePlan>,
        counters: &Arc<Counters>,
        connection: &Arc<Connection>,
    ) {
        let incremental = plan.is_some();
        let mut source = Source::new(&self.core, epoch, counters, self.config.resync_rate);
        let result = match plan {
            Some(plan) => source.run_incremental(plan),
            None => source.run(),
        };
        let result = result.and_then(|()| self.hand_share(epoch));
        {
            let mut state = self.state.lock();
            if state.progress.as_ref().is_some_and(|current| Arc::ptr_eq(current, counters)) {
                state.progress = None;
            }
            if let Err(error) = &result {
                // Why the connection ended the stream tells better.
                if !matches!(error, SourceError::Interrupted) {
                    state.error = Some(error.to_string());
                    state.pause = RETRY_FAILED;
                    state.full |= incremental;
                }
            }
        }
        match result {
            Ok(()) => {
                self.synced.store(epoch, Ordering::Release);
                let mut state = self.state.lock();
                state.discard = None;
                state.verdict = Some(Verdict::Same);
                state.peer_generation = self.store.get().map(|record| record.generation);
            }
            Err(error) => {
                self.stream().lose(connection, Why::Ended(error.to_string()));
            }
        }
        self.core.end_progress(epoch);
        self.events.notify();
    }

    /// The end of a resynchronisation: from now on the peer counts.
    fn hand_share(&self, epoch: u64) -> Result<(), SourceError> {
        let stream = self.stream();
        // Most of what the peer's disk lacks is written while nobody waits for it; the flush that SyncDone brings is short.
        let flush = stream.submit(&Op::SyncAll).map_err(|_| SourceError::Interrupted)?;
        stream.push();
        if stream.wait(flush.awaited(epoch)) != Outcome::Acknowledged {
            return Err(SourceError::Interrupted);
        }
        stream.expect_acknowledgements(epoch);
        if stream.wait(stream.last()) != Outcome::Acknowledged {
            return Err(SourceError::Interrupted);
        }
        let record = |error: RecordError| SourceError::Record(error.to_string());
        let cooling = self.prepare_base(epoch).map_err(record)?;
        let lineage = {
            let _held = self.ownership.lock();
            if stream.mode() != Mode::Mirrored || stream.epoch() != epoch {
                return Err(SourceError::Interrupted);
            }
            self.core.authority().share().map_err(|error| SourceError::Record(error.to_string()))?
        };
        let ticket = stream.submit(&Op::SyncDone { lineage }).map_err(|_| SourceError::Interrupted)?;
        stream.push();
        match stream.wait(ticket) {
            Outcome::Acknowledged if stream.epoch() == epoch => {
                if let Some(ended) = cooling {
                    self.settle_base(ended).map_err(record)?;
                }
                Ok(())
            }
            _ => Err(SourceError::Interrupted),
        }
    }

    /// Watch the connection until it ends.
    fn watch(&self, connection: &Arc<Connection>) {
        let stream = self.stream();
        let quiet = self.config.peer_timeout / 4;
        let pause = Timespec { tv_sec: quiet.as_secs() as i64, tv_nsec: i64::from(quiet.subsec_nanos()) };
        let current = || stream.connection().is_some_and(|other| Arc::ptr_eq(&other, connection));
        while current() && !self.stopping.load(Ordering::Acquire) {
            let mut fds = [PollFd::new(connection.socket(), PollFlags::RDHUP)];
            let ended = match poll(&mut fds, Some(&pause)) {
                Ok(_) => !fds[0].revents().is_empty(),
                Err(Errno::INTR) => false,
                Err(_) => true,
            };
            let mut fds = [PollFd::new(connection.socket(), PollFlags::IN)];
            let readable = ended || matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..));
            stream.tend(connection, quiet, readable);
            if ended && current() {
                // Somebody else may be reading the last messages; the socket is at its end for all.
                std::thread::yield_now();
            }
            let status = stream.status();
            if status.silent > self.config.peer_timeout {
                stream.lose(connection, Why::Silent);
            } else if status.mode == Mode::Syncing && status.oldest > STALLED {
                // Whoever changes something waits for room in the window meanwhile: not without end.
                stream.lose(connection, Why::Ended("the peer does not keep up with its resynchronisation".to_owned()));
            }
        }
        if let Some(failed) = stream.status().failed {
            let mut state = self.state.lock();
            state.dropped = Some(failed);
            state.pause = RETRY_FAILED;
        }
        // A peer that was not yet in sync when the connection ended counts for nothing: whoever waits goes on.
        if self.store.get().is_some_and(|record| record.alone) {
            let _held = self.ownership.lock();
            if self.store.get().is_some_and(|record| record.alone) && stream.connection().is_none() {
                // An error to write the record has been told by the authority; the stream then stays as it is.
                let _ = self.go_alone_held("the connection ended during the resynchronisation");
            }
        }
        self.events.notify();
    }
}
