//! Telling the control loop that something changed (`eventfd(2)`).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, write};

/// Readable when the status changed since it was last read.
#[derive(Debug)]
pub struct Events {
    fd: OwnedFd,
    changed: Mutex<Instant>,
}

impl Events {
    pub fn new() -> Result<Self, Errno> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { fd, changed: Mutex::new(Instant::now()) })
    }

    /// Something in the status changed. Never blocks.
    pub fn notify(&self) {
        *self.changed.lock() = Instant::now();
        // EAGAIN: the counter is at its maximum, so it is readable.
        let _ = write(self.fd.as_fd(), &1_u64.to_ne_bytes());
    }

    /// Milliseconds since the last change.
    pub fn since_ms(&self) -> f64 {
        self.changed.lock().elapsed().as_secs_f64() * 1000.0
    }

    pub fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}
