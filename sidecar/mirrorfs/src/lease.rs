//! The write lease (R5): until when this node may acknowledge.
//!
//! The control loop renews it; nothing that changes data is acknowledged past its end, whoever froze in between. An
//! operation that finds it ended waits: for the next renewal, or for the end of the mount.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine sleeps.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The mount ends; nothing will be acknowledged any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// See the module's documentation. All methods are thread-safe.
#[derive(Debug, Default)]
pub struct Lease {
    until: AtomicU64,
    closed: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Lease {
    /// The end of the lease, in nanoseconds of `CLOCK_BOOTTIME`; 0: none.
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// May be acknowledged at `now`?
    pub fn covers(&self, now: u64) -> bool {
        now < self.until()
    }

    /// Extend the lease. Never moves it backwards, never blocks for long.
    pub fn renew(&self, until: u64) {
        let before = self.until.fetch_max(until, Ordering::AcqRel);
        if before < until {
            let _held = self.lock.lock();
            self.changed.notify_all();
        }
    }

    /// End the lease at once. A later [`Self::renew`] begins a new one.
    pub fn fence(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Serve (again), with what was renewed meanwhile.
    pub fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }

    /// Nothing waits for this lease any more, and nothing gets it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.until.store(0, Ordering::Release);
        let _held = self.lock.lock();
        self.changed.notify_all();
    }

    /// Wait until the lease covers the present moment.
    pub fn wait(&self) -> Result<(), Closed> {
        if !self.closed.load(Ordering::Acquire) && self.covers(boottime_ns()) {
            return Ok(());
        }
        let mut held = self.lock.lock();
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(Closed);
            }
            if self.covers(boottime_ns()) {
                return Ok(());
            }
            self.changed.wait(&mut held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_lease_never_moves_backwards_and_ends() {
        let lease = Lease::default();
        assert!(!lease.covers(1));
        lease.renew(100);
        lease.renew(50);
        assert!(lease.covers(99));
        assert!(!lease.covers(100));
        lease.fence();
        assert!(!lease.covers(1));
    }

    #[test]
    fn whoever_waits_goes_on_at_the_next_renewal_or_fails_at_the_end() {
        let lease = Arc::new(Lease::default());
        let waiting = {
            let lease = Arc::clone(&lease);
            std::thread::spawn(move || (lease.wait(), lease.wait()))
        };
        std::thread::sleep(Duration::from_millis(20));
        lease.renew(boottime_ns() + 1_000_000_000);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(waiting.join().ok(), Some((Ok(()), Ok(()))));
        lease.close();
        assert_eq!(lease.wait(), Err(Closed));
    }
}
