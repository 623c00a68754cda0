//! The primary's orders to compare both trees.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::EngineError;
use super::link::Link;
use crate::resync::verify::{Verification, VerifyStatus};
use crate::wire::handshake::VERIFY;

impl Link {
    /// Begin a verification in a thread of its own.
    pub fn verify(self: &Arc<Self>, repair: bool) -> Result<(), EngineError> {
        if !self.in_sync() {
            return Err(EngineError::NotInSync);
        }
        peer_can_verify(&self.state.lock().peer_knows, &self.config.identity.peer)?;
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

/// A peer that does not know the operations of a verification would end the connection at the first one.
fn peer_can_verify(knows: &[String], peer: &str) -> Result<(), EngineError> {
    if knows.iter().any(|name| name == VERIFY) {
        Ok(())
    } else {
        Err(EngineError::PeerCannotVerify { peer: peer.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::handshake::State;

    #[test]
    fn a_peer_of_an_earlier_version_is_not_asked_to_verify() -> Result<(), serde_json::Error> {
        let mut said = serde_json::to_value(State { knows: State::all_known(), ..State::default() })?;
        let now: State = serde_json::from_value(said.clone())?;
        assert!(peer_can_verify(&now.knows, "b").is_ok());
        // It says nothing of what it knows.
        if let Some(fields) = said.as_object_mut() {
            fields.remove("knows");
        }
        let earlier: State = serde_json::from_value(said)?;
        let refusal = peer_can_verify(&earlier.knows, "b").err().map(|error| error.to_string());
        assert_eq!(
            refusal.as_deref(),
            Some("node b runs a version of twinhull that cannot verify: update it, then order it again")
        );
        Ok(())
    }

    #[test]
    fn what_only_a_newer_peer_knows_does_not_matter() {
        assert!(peer_can_verify(&["telepathy".to_owned(), VERIFY.to_owned()], "b").is_ok());
    }
}
