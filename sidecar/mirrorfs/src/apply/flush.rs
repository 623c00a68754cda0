//! Flushes run in a few threads beside the one that applies operations, so that a slow disk does not hold up the
//! stream, and several files' flushes share the disk's queue.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use rustix::fs::{fdatasync, fsync, syncfs};

/// What to bring to stable storage.
#[derive(Debug)]
pub enum Target {
    File { file: Arc<OwnedFd>, data_only: bool },
    All(Vec<Arc<OwnedFd>>),
}

impl Target {
    /// Do it, here and now.
    pub fn flush(&self) -> io::Result<()> {
        match self {
            Self::File { file, data_only: true } => fdatasync(&**file)?,
            Self::File { file, data_only: false } => fsync(&**file)?,
            Self::All(roots) => {
                for root in roots {
                    syncfs(&**root)?;
                }
            }
        }
        Ok(())
    }
}

/// A piece of work that waits for the disk.
pub type Job = Box<dyn FnOnce() + Send>;

/// A few threads for such work. Dropping the pool lets queued jobs finish and waits for them.
pub struct DiskPool {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for DiskPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskPool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl DiskPool {
    /// `name`: of the threads, at most 12 characters.
    pub fn start(name: &str, threads: usize) -> io::Result<Self> {
        let (queue, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let mut pool = Self { queue: Some(queue), threads: Vec::with_capacity(threads) };
        for index in 0..threads.max(1) {
            let jobs = jobs.clone();
            pool.threads.push(Builder::new().name(format!("{name}-{index}")).spawn(move || work(&jobs))?);
        }
        Ok(pool)
    }

    pub fn run(&self, job: Job) {
        // The threads live as long as the queue: sending cannot fail before `drop`.
        if let Some(queue) = &self.queue {
            let _ = queue.send(job);
        }
    }
}

impl Drop for DiskPool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A job that panicked has been reported by the panic itself.
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: whoever has it takes the next job, the others queue for the lock.
        let job = jobs.lock().recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
