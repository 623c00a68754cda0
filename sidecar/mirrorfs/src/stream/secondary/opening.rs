//! How a session begins: what this node has, whether the primary may go on from it, and the stream that results.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ResyncKind, Shared, Stream};
use crate::apply::Applier;
use crate::marker;
use crate::record::{LastRole, Record, Verdict, compare};
use crate::resync::quarantine::{Quarantine, folder_name};
use crate::wire::handshake::{Begin, BeginKind, Refusal, RefusalCode, State, may_overwrite};

impl Shared {
    /// What this node tells a primary that has proved itself.
    pub(super) fn state(&self, stream: Option<&Stream>) -> State {
        let has_data = self.config.volumes.iter().any(|volume| marker::has_data(&volume.backing).unwrap_or(false));
        let failed = self.status.lock().failed.clone();
        let usable = stream.filter(|_| failed.is_none());
        State {
            record: self.store.get(),
            has_data,
            instance: self.instance.clone(),
            stream: usable.map(|stream| stream.id.clone()),
            applied: usable.map_or(0, |stream| stream.applied),
            durable: usable.map_or(0, |stream| stream.durable.load(Ordering::Relaxed)),
            in_sync: usable.is_some_and(|stream| stream.in_sync),
            failed,
            journal_lost: self.journal.as_ref().and_then(|journal| journal.lost()),
            knows: State::all_known(),
        }
    }

    /// Agree to the primary's decision, or say why not. Everything that must be durable before the first operation is
    /// durable on return.
    pub(super) fn open_stream(&self, stream: &mut Option<Stream>, begin: &Begin) -> Result<(), Refusal> {
        let record = self.store.get();
        let verdict = compare(record.as_ref(), Some(&begin.record));
        self.change_status(|status| {
            status.verdict = Some(verdict);
            status.peer_generation = Some(begin.record.generation.clone());
        });
        let volumes: Vec<&str> = self.config.volumes.iter().map(|volume| volume.name.as_str()).collect();
        if begin.volumes != volumes {
            return Err(Refusal::new(
                RefusalCode::Volumes,
                format!("this node has volumes {volumes:?}, the primary has {:?}", begin.volumes),
            ));
        }
        if record.is_some() {
            self.check_markers()?;
        }
        match &begin.kind {
            BeginKind::Resume => match stream {
                Some(stream) if stream.id == begin.stream && self.status.lock().failed.is_none() => Ok(()),
                _ => Err(Refusal::new(RefusalCode::NotResumable, format!("stream {} is not here", begin.stream))),
            },
            BeginKind::Unchanged { token } => {
                let known = record.as_ref().and_then(|record| record.token.as_ref());
                if known != Some(token) || verdict != Verdict::Same {
                    return Err(Refusal::new(
                        RefusalCode::NotResumable,
                        "this node does not have that hand-over's token",
                    ));
                }
                self.become_secondary(|_| ())?;
                *stream = Some(self.new_stream(begin, None)?);
                Ok(())
            }
            BeginKind::Incremental { base } => {
                self.check_incremental(record.as_ref(), verdict, base)?;
                *stream = None;
                self.change_status(|status| (status.in_sync, status.stream) = (false, None));
                self.become_secondary(|record| (record.consistent, record.token) = (false, None))?;
                *stream = Some(self.new_stream(begin, Some(None))?);
                self.change_status(|status| status.resync = Some(ResyncKind::Incremental));
                Ok(())
            }
            BeginKind::Full { discard } => {
                *stream = None;
                self.change_status(|status| (status.in_sync, status.stream) = (false, None));
                let folder = self.prepare_full(record, verdict, begin, discard.as_deref())?;
                *stream = Some(self.new_stream(begin, Some(folder))?);
                self.change_status(|status| status.resync = Some(ResyncKind::Full));
                Ok(())
            }
        }
    }

    /// The durable steps before a full resynchronisation. Returns the name of the quarantine folder, if there is one.
    fn prepare_full(
        &self,
        record: Option<Record>,
        verdict: Verdict,
        begin: &Begin,
        discard: Option<&str>,
    ) -> Result<Option<String>, Refusal> {
        may_overwrite(&begin.record, &self.state(None), discard)?;
        let identity = &self.config.identity;
        let mut loses = matches!(verdict, Verdict::Ahead | Verdict::Diverged);
        let generation = match &record {
            Some(record) => record.generation.clone(),
            None => {
                for volume in &self.config.volumes {
                    std::fs::create_dir_all(&volume.backing)
                        .map_err(|error| disk(format!("make {}: {error}", volume.backing.display())))?;
                    // Data without a record: adopted from the other node by somebody's word, but not thrown away.
                    loses |= marker::has_data(&volume.backing).map_err(|error| disk(error.to_string()))?;
                    marker::set(&volume.backing, &identity.module)
                        .map_err(|error| Refusal::new(RefusalCode::Unmarked, error.to_string()))?;
                }
                let empty = Record::empty(&identity.module, &identity.node);
                self.store.create(empty).map_err(|error| disk(error.to_string()))?.generation
            }
        };
        if let Some(journal) = self.journal.as_ref().filter(|journal| journal.is_active()) {
            journal.lose("a full resynchronisation began and did not end").map_err(|error| disk(error.to_string()))?;
        }
        let begun = record.and_then(|record| record.discarding);
        let folder = begun.or_else(|| (loses && self.config.quarantine).then(|| folder_name(&generation)));
        let discarding = folder.clone().or_else(|| loses.then(String::new));
        self.become_secondary(|record| {
            record.consistent = false;
            record.token = None;
            record.discarding = discarding;
            // From here on the journal does not tell any more what differs.
            record.journal = None;
        })?;
        Ok(folder.filter(|folder| !folder.is_empty()))
    }

    /// Whether both journals together have all that differs.
    fn check_incremental(&self, record: Option<&Record>, verdict: Verdict, base: &String) -> Result<(), Refusal> {
        let kept = self.journal.as_ref().is_some_and(|journal| journal.is_active());
        let known = record.is_some_and(|record| {
            record.discarding.is_none() && record.journal.as_ref().is_some_and(|tie| tie.bases.contains(base))
        });
        if kept && known && matches!(verdict, Verdict::Same | Verdict::Behind) {
            return Ok(());
        }
        Err(Refusal::new(RefusalCode::NotResumable, "this node's journal does not go back to that synchronisation"))
    }

    fn become_secondary(&self, change: impl FnOnce(&mut Record)) -> Result<(), Refusal> {
        let updated = self.store.update(|record| {
            record.last_role = LastRole::Secondary;
            record.alone = false;
            change(record);
            Ok(())
        });
        updated.map(drop).map_err(|error| disk(error.to_string()))
    }

    /// `full`: starts with a full resynchronisation, with or without a quarantine folder.
    fn new_stream(&self, begin: &Begin, full: Option<Option<String>>) -> Result<Stream, Refusal> {
        let syncing = full.is_some();
        let folder = full.flatten().map(|folder| self.config.quarantine_dir.join(folder));
        let names = self.config.volumes.iter().map(|volume| volume.name.clone()).collect();
        let quarantine = folder.clone().map(|folder| Quarantine::new(folder, names, self.quarantined.clone()));
        let applier =
            Applier::new(&self.config.volumes, syncing, quarantine).map_err(|error| disk(error.to_string()))?;
        self.broken.store(false, Ordering::SeqCst);
        self.change_status(|status| {
            status.failed = None;
            status.stream = Some(begin.stream.clone());
            if let Some(folder) = folder {
                status.quarantine = Some(folder.display().to_string());
            }
        });
        let has_token = self.store.get().is_some_and(|record| record.token.is_some());
        let durable = Arc::new(AtomicU64::new(0));
        *self.durable.lock() = durable.clone();
        Ok(Stream { id: begin.stream.clone(), applier, applied: 0, durable, in_sync: !syncing, has_token })
    }

    fn check_markers(&self) -> Result<(), Refusal> {
        for volume in &self.config.volumes {
            marker::check(&volume.backing, &self.config.identity.module)
                .map_err(|error| Refusal::new(RefusalCode::Unmarked, error.to_string()))?;
        }
        Ok(())
    }
}

fn disk(text: String) -> Refusal {
    Refusal::new(RefusalCode::Disk, text)
}
