//! The secondary's end of the stream: listens, agrees with the primary how to go on, applies operations in order,
//! acknowledges them.
//!
//! One session at a time: a primary that proves itself takes over from an older connection, which may be half dead.
//! What is known of a stream (objects, position) outlives its connection, so that a cut connection is resumed.

mod opening;
mod session;

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind, set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, shutdown, socket_with};
use serde::Serialize;

use crate::apply::Applier;
use crate::apply::flush::DiskPool;
use crate::journal::Journal;
use crate::lease::boottime_ns;
use crate::op::Seq;
use crate::record::{RecordError, Store, Verdict, new_generation};
use crate::wire::handshake::Identity;

/// Connections that may be in the handshake at once; more are closed at once.
const MAX_CONNECTIONS: usize = 8;

/// One volume's backing directory.
#[derive(Clone, Debug)]
pub struct Volume {
    pub name: String,
    pub backing: PathBuf,
}

/// What a secondary needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub identity: Identity,
    pub volumes: Vec<Volume>,
    pub quarantine_dir: PathBuf,
    /// Keep what only this node had when a split brain is resolved against it.
    pub quarantine: bool,
    /// Addresses to listen on, one per link. One that is not on this node yet is fine (`IP_FREEBIND`).
    pub listen: Vec<SocketAddr>,
    /// A connection on which nothing arrives for so long is dead.
    pub peer_timeout: Duration,
    /// Threads that flush files (`fsync`) beside the one that applies operations.
    pub threads: usize,
}

/// What the secondary does at the moment. Getting it never blocks on disk or network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    pub connected: bool,
    /// The tree is equal to the primary's as of `applied`: this node may be promoted.
    pub in_sync: bool,
    pub syncing: bool,
    /// What the present or last resynchronisation compares.
    pub resync: Option<ResyncKind>,
    pub stream: Option<String>,
    pub applied: u64,
    pub durable: u64,
    /// The primary's generation as of the last session.
    pub peer_generation: Option<String>,
    /// This node's data compared with the primary's, as of the last session.
    pub verdict: Option<Verdict>,
    /// The last refusal or broken connection.
    pub error: Option<String>,
    /// An operation could not be applied: not promotable until a full resynchronisation.
    pub failed: Option<String>,
    /// Folder that received what only this node had, and how many files and directories went there.
    pub quarantine: Option<String>,
    pub quarantined: u64,
    /// Milliseconds since anything arrived from the primary, while connected.
    pub heard_ms: Option<u64>,
    /// Milliseconds since the connection broke.
    pub disconnected_ms: Option<u64>,
    /// It broke because the primary's kernel ended it (its process is gone).
    pub closed_by_peer: bool,
}

/// What a resynchronisation compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResyncKind {
    /// Everything.
    Full,
    /// What either node's journal has.
    Incremental,
}

/// The end of a secondary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    pub promotable: bool,
    /// Why not, or why.
    pub why: String,
    pub token: Option<String>,
}

/// Why a secondary cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("listen address {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
}

/// A stream that this node can go on with.
struct Stream {
    id: String,
    applier: Applier,
    applied: Seq,
    /// Everything up to here is on stable storage. Set by flushes that end while operations go on.
    durable: Arc<AtomicU64>,
    in_sync: bool,
    /// The record still has the token of the last hand-over.
    has_token: bool,
}

/// Work that waits for the disk, apart from applying.
struct Pools {
    flushes: DiskPool,
    sums: DiskPool,
}

/// What all threads of a secondary share.
struct Shared {
    config: Config,
    store: Arc<Store>,
    journal: Option<Arc<Journal>>,
    changed: Arc<dyn Fn() + Send + Sync>,
    instance: String,
    stopping: AtomicBool,
    /// Held by the session that runs.
    stream: Mutex<Option<Stream>>,
    /// The open connections, and which of them has the session.
    connections: Mutex<HashMap<u64, TcpStream>>,
    active: AtomicU64,
    next_connection: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Gone once stopped.
    pools: Mutex<Option<Pools>>,
    /// Everything of the status but the positions.
    status: Mutex<Status>,
    disconnected: Mutex<Option<Instant>>,
    /// When the last frame arrived (`CLOCK_BOOTTIME`, nanoseconds).
    heard: AtomicU64,
    applied: AtomicU64,
    durable: Mutex<Arc<AtomicU64>>,
    quarantined: Arc<AtomicU64>,
    /// Set when the disk failed; no operation is applied any more in this stream.
    broken: AtomicBool,
}

impl Shared {
    fn change_status(&self, change: impl FnOnce(&mut Status)) {
        let differs = {
            let mut status = self.status.lock();
            let before = status.clone();
            change(&mut status);
            before != *status
        };
        if differs {
            (self.changed)();
        }
    }

    /// This node's copy is no faithful one any more.
    fn fail(&self, reason: &str) {
        self.broken.store(true, Ordering::SeqCst);
        self.change_status(|status| {
            status.in_sync = false;
            status.failed.get_or_insert_with(|| reason.to_owned());
        });
    }
}

/// A running secondary. Dropping it stops it.
pub struct Secondary {
    shared: Arc<Shared>,
    listeners: Vec<Arc<TcpListener>>,
    addresses: Vec<SocketAddr>,
    acceptors: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Secondary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secondary").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Secondary {
    /// Listen and serve in threads of its own. `changed` is called (from any of them) whenever [`Self::status`]
    /// changed in anything but positions; it must not call back into the secondary's `stop`.
    ///
    /// Without a `journal` every resynchronisation is one of everything.
    pub fn start(
        config: Config,
        store: Arc<Store>,
        journal: Option<Arc<Journal>>,
        changed: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, StartError> {
        let mut listeners = Vec::with_capacity(config.listen.len());
        let mut addresses = Vec::with_capacity(config.listen.len());
        for &address in &config.listen {
            let listener = listen_on(address).map_err(|source| StartError::Listen { address, source })?;
            addresses.push(listener.local_addr().map_err(|source| StartError::Listen { address, source })?);
            listeners.push(Arc::new(listener));
        }
        let shared = Arc::new(Shared {
            instance: new_generation()?,
            stopping: AtomicBool::new(false),
            stream: Mutex::new(None),
            connections: Mutex::new(HashMap::new()),
            active: AtomicU64::new(0),
            next_connection: AtomicU64::new(1),
            threads: Mutex::new(Vec::new()),
            pools: Mutex::new(Some(Pools {
                flushes: DiskPool::start("flush", config.threads).map_err(StartError::Thread)?,
                sums: DiskPool::start("sums", 1).map_err(StartError::Thread)?,
            })),
            status: Mutex::new(Status::default()),
            disconnected: Mutex::new(None),
            heard: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            durable: Mutex::new(Arc::new(AtomicU64::new(0))),
            quarantined: Arc::new(AtomicU64::new(0)),
            broken: AtomicBool::new(false),
            config,
            store,
            journal,
            changed,
        });
        let mut secondary = Self { shared, listeners, addresses, acceptors: Vec::new() };
        for listener in &secondary.listeners {
            let (listener, shared) = (listener.clone(), secondary.shared.clone());
            let acceptor = Builder::new().name("accept".to_owned()).spawn(move || accept(&listener, &shared));
            secondary.acceptors.push(acceptor.map_err(StartError::Thread)?);
        }
        Ok(secondary)
    }

    /// The addresses that it listens on (with the port that the kernel chose, where the configured one is 0).
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn status(&self) -> Status {
        let mut status = self.shared.status.lock().clone();
        status.applied = self.shared.applied.load(Ordering::Relaxed);
        status.durable = self.shared.durable.lock().load(Ordering::Relaxed);
        status.quarantined = self.shared.quarantined.load(Ordering::Relaxed);
        let heard = self.shared.heard.load(Ordering::Relaxed);
        let silent = boottime_ns().saturating_sub(heard) / 1_000_000;
        status.heard_ms = (status.connected && heard != 0).then_some(silent);
        let since = self.shared.disconnected.lock().map(|since| since.elapsed().as_millis());
        status.disconnected_ms = since.map(|elapsed| u64::try_from(elapsed).unwrap_or(u64::MAX));
        status
    }

    /// When this returns, no operation is applied or acknowledged any more.
    pub fn stop(mut self) -> Stopped {
        self.halt();
        let token = self.shared.store.get().and_then(|record| record.token);
        let stream = self.shared.stream.lock();
        let failed = self.shared.status.lock().failed.clone();
        let (promotable, why) = match (&*stream, failed) {
            (_, Some(failed)) => (false, format!("an operation could not be applied: {failed}")),
            (Some(stream), None) if stream.in_sync => (true, format!("in sync up to operation {}", stream.applied)),
            _ if token.is_some() => (true, "handed over cleanly".to_owned()),
            (Some(_), None) => (false, "in the middle of a resynchronisation".to_owned()),
            (None, None) => (false, "the primary has not connected since this node started".to_owned()),
        };
        Stopped { promotable, why, token }
    }

    fn halt(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for listener in &self.listeners {
            // Wakes accept(2); a listener that is shut down already is no error for us.
            let _ = shutdown(&**listener, rustix::net::Shutdown::Both);
        }
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
        for connection in self.shared.connections.lock().values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut *self.shared.threads.lock());
        for thread in threads {
            let _ = thread.join();
        }
        // Waits for the flushes that have begun; their answers reach nobody.
        let pools = self.shared.pools.lock().take();
        drop(pools);
    }
}

impl Drop for Secondary {
    fn drop(&mut self) {
        self.halt();
    }
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    // A link that is down has no address now, and must not keep the other links from being served.
    if address.is_ipv4() {
        set_ip_freebind(&socket, true)?;
    } else {
        set_ipv6_freebind(&socket, true)?;
        set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, 16)?;
    Ok(TcpListener::from(socket))
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stopping.load(Ordering::SeqCst) {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(_) if shared.stopping.load(Ordering::SeqCst) => return,
            Err(error) => {
                // Out of descriptors, a connection reset in the queue: both pass.
                shared.change_status(|status| status.error = Some(format!("accept a connection: {error}")));
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        shared.threads.lock().retain(|thread| !thread.is_finished());
        let Ok(copy) = socket.try_clone() else { continue };
        let id = shared.next_connection.fetch_add(1, Ordering::Relaxed);
        {
            let mut connections = shared.connections.lock();
            if connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            connections.insert(id, copy);
        }
        let inner = shared.clone();
        let spawned = Builder::new().name("apply".to_owned()).spawn(move || {
            session::run(&inner, id, socket);
            inner.connections.lock().remove(&id);
        });
        match spawned {
            Ok(thread) => shared.threads.lock().push(thread),
            Err(_) => drop(shared.connections.lock().remove(&id)),
        }
    }
}
