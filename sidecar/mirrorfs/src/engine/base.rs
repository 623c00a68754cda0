//! The primary's part in the journal's life: the moments since which it has all that differs, and its cooling.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::link::Link;
use crate::journal::entry::Era;
use crate::op::Op;
use crate::record::{Record, RecordError};
use crate::stream::primary::{Outcome, Ticket};

impl Link {
    /// Why this node's journal is of no use; `None`: it is.
    pub(super) fn journal_problem(&self, record: &Record) -> Option<String> {
        let journal = self.core.journal();
        if journal.is_some_and(|journal| journal.is_active()) && record.journal.is_some() {
            return None;
        }
        let lost = journal.and_then(|journal| journal.lost());
        Some(match lost {
            Some(why) => format!("this node has no journal: {why}"),
            None => "this node has no journal".to_owned(),
        })
    }

    /// Before the peer learns that the trees are equal: what changes from now on is marked, what changed before is on
    /// this node's disk, and the record says that the journal goes back to the present stream, too. Returns the era that
    /// cools once the peer has everything on its disk.
    pub(super) fn prepare_base(&self, epoch: u64) -> Result<Option<Era>, RecordError> {
        let Some(journal) = self.core.journal() else { return Ok(None) };
        let name = self.stream().status().name;
        let going = journal.is_active() && self.store.get().is_some_and(|record| record.journal.is_some());
        let tie = if going { None } else { journal.renew(&name)? };
        if tie.is_some() {
            journal.activate();
        }
        let ended = self.core.end_era();
        if let Err(error) = self.core.flush_volumes() {
            self.core.authority().flush_failed(error);
            journal.lose(&format!("this node's volumes could not be flushed: {error}"))?;
            return Ok(None);
        }
        if !journal.is_active() || self.stream().epoch() != epoch {
            return Ok(None);
        }
        self.store.update(|record| {
            match (&mut record.journal, tie) {
                (_, Some(tie)) => record.journal = Some(tie),
                (Some(known), None) => known.bases.insert(0, name),
                (None, None) => {}
            }
            Ok(())
        })?;
        Ok(ended)
    }

    /// The peer has everything on its disk, and knows it: earlier moments are of no use any more.
    pub(super) fn settle_base(&self, ended: Era) -> Result<(), RecordError> {
        let Some(journal) = self.core.journal().filter(|journal| journal.is_active()) else { return Ok(()) };
        self.store.update(|record| {
            if let Some(known) = &mut record.journal {
                known.bases.truncate(1);
            }
            Ok(())
        })?;
        journal.cool(ended)
    }

    pub(super) fn cool_regularly(&self) {
        let mut last = Instant::now();
        while !self.stopping.load(Ordering::Acquire) {
            {
                let mut state = self.state.lock();
                if !self.stopping.load(Ordering::Acquire) {
                    self.wake.wait_for(&mut state, Duration::from_millis(500));
                }
            }
            let Some(journal) = self.core.journal() else { return };
            let due = last.elapsed() >= self.config.cooling || journal.is_crowded();
            if due && journal.is_warm() && self.in_sync() {
                last = Instant::now();
                if let Err(error) = self.cool() {
                    self.state.lock().error = Some(error.to_string());
                }
            }
        }
    }

    /// Both nodes flush; what was hot before is cold when both have.
    pub fn cool(&self) -> Result<(), RecordError> {
        let Some(journal) = self.core.journal() else { return Ok(()) };
        let stream = self.stream();
        let epoch = stream.epoch();
        let Some(ended) = self.core.end_era() else { return Ok(()) };
        let Ok(flush) = stream.submit(&Op::SyncAll) else { return Ok(()) };
        stream.push();
        if flush == Ticket::NONE {
            return Ok(());
        }
        if let Err(error) = self.core.flush_volumes() {
            self.core.authority().flush_failed(error);
            return Ok(());
        }
        let flushed = stream.wait(flush) == Outcome::Acknowledged;
        if flushed && self.in_sync() && stream.epoch() == epoch { journal.cool(ended) } else { Ok(()) }
    }
}
