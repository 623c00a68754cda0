//! A node as primary: mounts, stream, link, and their end.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{CWD, Mode as FileMode, OFlags, openat, syncfs};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::EngineError;
use super::config::EngineConfig;
use super::events::Events;
use super::link::{Link, LinkConfig};
use crate::authority::Authority;
use crate::fs::Core;
use crate::fuse::session::Session;
use crate::journal::Journal;
use crate::lease::Lease;
use crate::marker;
use crate::op::Op;
use crate::record::{RecordError, Store, new_generation};
use crate::stream::primary::{Mode, Outcome, Stream, Ticket, Window};
use crate::wire::Message;

/// Part of the process's file descriptors that may hold inodes open.
const DESCRIPTOR_SHARE: u64 = 4;

/// How a primary ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// The peer has everything on stable storage.
    pub clean: bool,
    /// In both records, then.
    pub token: Option<String>,
}

/// See the module's documentation.
pub struct Primary {
    pub stream: Arc<Stream>,
    pub core: Arc<Core>,
    pub link: Arc<Link>,
    sessions: Mutex<Vec<Session>>,
    mountpoints: Vec<PathBuf>,
    lease: Arc<Lease>,
    store: Arc<Store>,
}

impl Primary {
    /// Mount the volumes and look for the peer.
    pub fn start(
        config: &EngineConfig,
        store: &Arc<Store>,
        journal: &Arc<Journal>,
        lease: &Arc<Lease>,
        events: &Arc<Events>,
        alone: bool,
        on_error: Box<dyn Fn(String) + Send + Sync>,
    ) -> Result<Self, EngineError> {
        let record = store.get().ok_or(EngineError::NoRecord)?;
        if !record.consistent && !alone {
            return Err(EngineError::Inconsistent);
        }
        let mut roots = Vec::new();
        for volume in &config.volumes {
            marker::check(&volume.backing, &config.uid)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(CWD, &volume.backing, flags, FileMode::empty())
                .map_err(|error| EngineError::volume(&volume.backing, error))?;
            roots.push(root);
        }
        lease.open();
        let settled = Arc::clone(events);
        let on_settled = Box::new(move || settled.notify());
        let authority = Arc::new(Authority::new(Arc::clone(lease), Arc::clone(store), on_error, on_settled));
        authority.assume(alone)?;
        if journal.is_active() && store.get().is_some_and(|record| record.journal.is_none()) {
            journal.lose("files in the middle of a resynchronisation were taken as they were")?;
        }
        let window = Window { bytes: config.window_bytes, ops: config.window_ops };
        let notify = Arc::clone(events);
        let stream = Arc::new(Stream::new(window, Box::new(move || notify.notify())));
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1024) / DESCRIPTOR_SHARE;
        let core = Core::new(roots, descriptors as usize, Arc::clone(&stream), authority, config.durability())
            .map_err(|error| EngineError::volume(&config.volumes[0].backing, error))?;
        let core = Arc::new(core);
        core.keep_journal(Arc::clone(journal));
        if !alone {
            core.begin_stream(new_generation()?, Mode::Mirrored).map_err(|_| EngineError::Ended)?;
        }
        let mut sessions = Vec::new();
        for (index, volume) in (0..).zip(&config.volumes) {
            let session = Session::mount(Arc::clone(&core), index, &volume.mountpoint, config.threads, config.io_uring);
            sessions.push(session.map_err(|error| EngineError::Mount {
                mountpoint: volume.mountpoint.display().to_string(),
                source: error,
            })?);
        }
        let link_config = LinkConfig {
            identity: config.identity()?,
            addresses: config.peer_addresses()?,
            volumes: config.volumes.iter().map(|volume| volume.name.clone()).collect(),
            connect_timeout: config.connect_timeout(),
            peer_timeout: config.peer_timeout(),
            resync_rate: config.resync_rate,
            cooling: config.journal_cooling(),
        };
        let token = record.token.filter(|_| !alone);
        let link = Arc::new(Link::new(link_config, Arc::clone(&core), Arc::clone(store), Arc::clone(events), token));
        link.start().map_err(EngineError::Thread)?;
        Ok(Self {
            stream,
            core,
            link,
            sessions: Mutex::new(sessions),
            mountpoints: config.volumes.iter().map(|volume| volume.mountpoint.clone()).collect(),
            lease: Arc::clone(lease),
            store: Arc::clone(store),
        })
    }

    /// At once: what waits fails, the mounts are gone, nothing touches the volumes any more.
    pub fn abort(&self) {
        self.lease.close();
        self.stream.abort();
        self.unmount();
        self.link.stop();
    }

    /// Whether nothing of the mounts is under way any more.
    fn unmount_before(&self, deadline: Instant) -> bool {
        let sessions = self.sessions.lock();
        let ended = sessions.iter().all(|session| session.end_before(deadline) == Ok(true));
        if !ended {
            // What still waits, for the peer or for a lease, never will have happened.
            self.lease.close();
            self.stream.abort();
        }
        ended
    }

    fn unmount(&self) {
        for session in std::mem::take(&mut *self.sessions.lock()) {
            // A mount that cannot be detached is cleared at the next start; its threads have ended all the same.
            let _ = session.end();
        }
    }

    /// The application has stopped: bring everything to both disks, unmount, agree on a token.
    pub fn stop(&self, timeout: Duration) -> Result<Ended, EngineError> {
        let deadline = Instant::now() + timeout;
        self.write_back(deadline);
        let shared = self.link.in_sync() && self.stream.status().connected;
        let ended = self.unmount_before(deadline);
        let token = if shared && ended { self.flush_both(deadline)? } else { None };
        if token.is_none() {
            self.flush_here()?;
        }
        if self.stream.status().connected {
            self.stream.send(&Message::Bye { reason: "the primary has stopped".to_owned() });
        }
        self.abort();
        Ok(Ended { clean: token.is_some(), token })
    }

    /// Pages that the application changed through memory maps reach us. Beyond the deadline they do not.
    fn write_back(&self, deadline: Instant) {
        let mountpoints = self.mountpoints.clone();
        let writer = thread::spawn(move || {
            for mountpoint in mountpoints {
                // A mount that is gone has nothing to write back.
                if let Ok(root) = openat(CWD, &mountpoint, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty()) {
                    let _ = syncfs(root);
                }
            }
        });
        while !writer.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn flush_here(&self) -> Result<(), EngineError> {
        for root in self.core.table().roots() {
            let flushed = syncfs(self.core.table().root_fd(root.volume));
            flushed.inspect_err(|_| self.store.distrust_cache()).map_err(EngineError::Flush)?;
        }
        Ok(())
    }

    /// Both disks have everything, and both records the same token, or `None`.
    fn flush_both(&self, deadline: Instant) -> Result<Option<String>, EngineError> {
        let Ok(ticket) = self.stream.submit(&Op::SyncAll) else { return Ok(None) };
        if ticket == Ticket::NONE {
            return Ok(None);
        }
        self.stream.push();
        self.flush_here()?;
        if self.stream.wait_before(ticket, deadline) != Some(Outcome::Acknowledged) {
            return Ok(None);
        }
        let token = new_generation()?;
        let left = deadline.saturating_duration_since(Instant::now());
        let sent = self.stream.send(&Message::Token { seq: ticket.seq, token: token.clone() });
        if !sent || !self.stream.token_kept(&token, left) {
            return Ok(None);
        }
        let keep = token.clone();
        self.store.update(|record| {
            record.token = Some(keep);
            Ok::<(), RecordError>(())
        })?;
        Ok(Some(token))
    }

    /// Requests answered, over all mounts.
    pub fn requests(&self) -> usize {
        self.sessions.lock().iter().map(Session::requests).sum()
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.abort();
    }
}
