//! The primary's orders to compare both trees.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::EngineError;
use super::link::Link;
use crate::resync::verify::{Verification, VerifyStatus};

impl Link {
    /// Begin a verification in a thread of its own.
    pub fn verify(self: &Arc<Self>, repair: bool) -> Result<(), EngineError> {
        if !self.in_sync() {
            return Err(EngineError::NotInSync);
        }
        {
            let mut status = self.verify.lock();
            if status.running {
                return Err(EngineError::Verifying);
            }
            *status = VerifyStatus { run: status.run + 1, running: true, repair, ..VerifyStatus::default() };
            self.verify_stop.store(self.stopping.load(Ordering::Acquire), Ordering::Release);
        }
        self.events.notify();
        let link = Arc::clone(self);
        self.spawn("verify", move || link.verify_all()).map_err(|error| {
            self.verify.lock().running = false;
            EngineError::Thread(error)
        })
    }

    /// End it early.
    pub fn stop_verify(&self) {
        self.verify_stop.store(true, Ordering::Release);
    }

    /// Of the present or last verification.
    pub fn verify_status(&self) -> Option<VerifyStatus> {
        let status = self.verify.lock();
        (status.run > 0).then(|| status.clone())
    }

    fn verify_all(self: Arc<Self>) {
        let (rate, volumes) = (self.config.resync_rate, &self.config.volumes);
        let result = Verification::new(&self.core, volumes, &self.verify, &self.verify_stop, rate).run();
        let resync = {
            let mut status = self.verify.lock();
            status.running = false;
            status.stopped = result.err().map(|error| error.to_string());
            status.resync
        };
        if resync {
            // Entries differ: only a comparison of everything makes them equal.
            self.resync();
        }
        self.events.notify();
    }
}
