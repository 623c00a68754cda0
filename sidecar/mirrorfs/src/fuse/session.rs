//! A mounted volume and the threads that answer for it.
//!
//! Requests may block for the peer or for a disk, so there are always some threads left to take others. By `/dev/fuse`:
//! when the last idle thread takes a request, another is started, up to a bound; those beyond the usual number end when
//! they are idle again. By io_uring (`ring.rs`), where the kernel offers it: a fixed number for each CPU. The threads at
//! `/dev/fuse` are there in both cases: what nobody waits for comes that way, and all if the kernel refuses the rings.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::channel::Channel;
use super::device::Device;
use super::dispatch::Dispatcher;
use super::handshake::Offer;
use super::mount;
use super::ring::{Entry, Layout};
use crate::fs::Core;

/// Largest write and read.
const MAX_WRITE: usize = 1 << 20;
/// Threads at `/dev/fuse` at most; each may touch two buffers of a little more than [`MAX_WRITE`].
const MOST_THREADS: usize = 16;
const STACK: usize = 512 << 10;

struct Server {
    device: OwnedFd,
    dispatcher: Dispatcher,
    mountpoint: PathBuf,
    usual: usize,
    /// Threads at `/dev/fuse` that wait for a request; all of them.
    idle: AtomicUsize,
    readers: Mutex<usize>,
    /// All threads.
    running: Mutex<usize>,
    ended: Condvar,
}

/// A mounted volume. [`Session::end`] it; dropping it does the same.
pub struct Session {
    server: Arc<Server>,
}

/// Threads with an entry each, which wait to be let go. They end when this is dropped before.
struct Rings {
    layout: Layout,
    go: Vec<Sender<()>>,
}

impl Session {
    /// Mount volume number `volume` and serve it with (usually) `threads` threads at `/dev/fuse`, and through io_uring
    /// if `rings` and the kernel allow it.
    pub fn mount(core: Arc<Core>, volume: u32, mountpoint: &Path, threads: usize, rings: bool) -> io::Result<Self> {
        mount::clear_stale(mountpoint)?;
        let device = mount::attach(mountpoint, MAX_WRITE as u32)?;
        let server = Arc::new(Server {
            device,
            dispatcher: Dispatcher::new(core, volume),
            mountpoint: mountpoint.to_owned(),
            usual: threads.clamp(1, MOST_THREADS),
            idle: AtomicUsize::new(0),
            readers: Mutex::new(0),
            running: Mutex::new(0),
            ended: Condvar::new(),
        });
        let session = Self { server: Arc::clone(&server) };
        let device = server.device.as_fd();
        let offer = Offer::read(device)?;
        let rings = if rings && offer.has_rings() { server.prepare_rings() } else { None };
        offer.accept(device, rings.as_ref().map_or(MAX_WRITE, |rings| rings.layout.data), rings.is_some())?;
        for go in rings.iter().flat_map(|rings| &rings.go) {
            // A thread that has ended has told so above, or will not be missed: the kernel then does without rings.
            let _ = go.send(());
        }
        for _ in 0..server.usual {
            server.start_reader()?;
        }
        Ok(session)
    }

    /// Abort what the application still does with the mount, and wait until nothing touches the volume any more.
    /// Operations that wait for the peer must have been released before.
    pub fn end(&self) -> Result<(), Errno> {
        mount::detach(&self.server.mountpoint)?;
        let mut running = self.server.running.lock();
        while *running > 0 {
            self.server.ended.wait(&mut running);
        }
        Ok(())
    }

    /// As [`Self::end`], but do not wait longer than until `deadline`. Returns whether everything has ended; else it
    /// must be ended again once operations have been released.
    pub fn end_before(&self, deadline: Instant) -> Result<bool, Errno> {
        mount::detach(&self.server.mountpoint)?;
        let mut running = self.server.running.lock();
        while *running > 0 {
            if self.server.ended.wait_until(&mut running, deadline).timed_out() {
                break;
            }
        }
        Ok(*running == 0)
    }

    /// Requests answered so far.
    pub fn requests(&self) -> usize {
        self.server.dispatcher.requests.total.load(Ordering::Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nobody is left to tell of an error.
        let _ = self.end();
    }
}

impl Server {
    fn spawn(self: &Arc<Self>, name: &str, body: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
        let mut running = self.running.lock();
        let server = Arc::clone(self);
        thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
            body(&server);
            *server.running.lock() -= 1;
            server.ended.notify_all();
        })?;
        *running += 1;
        Ok(())
    }

    /// Answer one request.
    fn answer(&self, channel: &mut impl Channel, taken: impl FnOnce()) -> Result<(), Errno> {
        let (request, room) = channel.receive()?;
        taken();
        let unique = request.header.unique;
        let answer = self.dispatcher.answer(&request, room);
        channel.reply(unique, &answer);
        Ok(())
    }

    // ---- by /dev/fuse

    fn start_reader(self: &Arc<Self>) -> io::Result<()> {
        let mut readers = self.readers.lock();
        if *readers >= MOST_THREADS {
            return Ok(());
        }
        self.spawn("mirrorfs", |server| {
            server.read();
            *server.readers.lock() -= 1;
        })?;
        *readers += 1;
        self.idle.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn read(self: &Arc<Self>) {
        let mut device = Device::new(self.device.as_fd(), MAX_WRITE);
        let taken = || {
            if self.idle.fetch_sub(1, Ordering::AcqRel) == 1 {
                // That there cannot be another thread only means less concurrency.
                let _ = self.start_reader();
            }
        };
        while self.answer(&mut device, taken).is_ok() {
            if self.idle.fetch_add(1, Ordering::AcqRel) >= self.usual {
                break;
            }
        }
        self.idle.fetch_sub(1, Ordering::AcqRel);
    }

    // ---- by io_uring

    /// Start a thread for each entry. `None`: it must be done without.
    fn prepare_rings(self: &Arc<Self>) -> Option<Rings> {
        let layout = Layout::of_machine().ok()??;
        let (report, reports) = channel();
        let mut go = Vec::new();
        for queue in (0..layout.queues).flat_map(|queue| std::iter::repeat_n(queue, layout.entries)) {
            let (sender, receiver) = channel();
            go.push(sender);
            let report = report.clone();
            let body = move |server: &Arc<Self>| {
                let entry = Entry::new(server.device.as_fd(), queue, layout.data);
                // It is waited for below.
                let _ = report.send(entry.is_ok());
                drop(report);
                if let (Ok(entry), Ok(())) = (entry, receiver.recv()) {
                    server.serve_entry(entry);
                }
            };
            self.spawn("mirrorfs-ring", body).ok()?;
        }
        drop(report);
        let ready = reports.iter().filter(|&ready| ready).count();
        (ready == go.len()).then_some(Rings { layout, go })
    }

    fn serve_entry(&self, mut entry: Entry) {
        let error = loop {
            if let Err(error) = self.answer(&mut entry, || ()) {
                break error;
            }
        };
        let over = matches!(error, Errno::NOTCONN | Errno::CONNABORTED | Errno::NODEV);
        if entry.is_registered() && !over {
            // Requests that come this way would never be answered: the application must learn that the mount is gone.
            let _ = mount::detach(&self.mountpoint);
        }
    }
}
