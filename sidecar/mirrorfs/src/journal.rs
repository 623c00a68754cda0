//! The change journal and activity log: which parts of the trees may differ between the two nodes.
//!
//! The primary marks a region *before* it changes it, and the mark is durable when the change begins: that is what
//! finds, after a power cut, writes that reached this disk and not the peer. A region is a directory (its entries, its
//! attributes, its small files), a segment of a large file, or an object that got or lost a name. Once hot a region
//! costs nothing until it cools; regions cool by eras: an era ends, both nodes flush everything, its regions are
//! forgotten. Alone, nothing cools.
//!
//! The secondary marks nothing: whatever it applied since its last flush is hot in the primary's journal.
//!
//! What the file says is coarse; while the process lives, memory knows names and 64 KiB pieces exactly. After a restart
//! a hot directory counts as changed in all its small files.
//!
//! A journal is of use together with the peer's, and if both have a *base* in common: a moment at which the trees were
//! equal, since when both have been marking (`record.rs` keeps the bases). What cannot be marked, for whatever reason,
//! ends the journal, durably and before the change; then the next comparison is one of everything, and says why.

pub mod changes;
pub mod entry;
pub mod heat;
pub mod log;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::fs::FileHandle;
use crate::record::{JournalTie, RecordError, Store, new_generation};
use entry::{Entry, Era};
use heat::{Heat, SEGMENT, Snapshot};
use log::{Log, LogError};

/// Bytes of the file: some 80,000 regions.
pub const CAPACITY: u64 = 8 << 20;
/// A file that is so full is written anew, or cooled before its time.
const CROWDED: f64 = 0.5;
/// Segments that are marked beyond the one that is written, at the end of a growing file.
const AHEAD: u64 = 8;
/// Segments of one mark: 1 TiB.
const MOST_SEGMENTS: u64 = 1 << 18;

/// The journal of this node. All methods are thread-safe. Marks are made while nobody can end the era.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    capacity: u64,
    store: Arc<Store>,
    active: AtomicBool,
    era: AtomicU64,
    oldest: AtomicU64,
    id: Mutex<String>,
    heat: Mutex<Heat>,
    log: Mutex<Option<Log>>,
    lost: Mutex<Option<String>>,
}

impl Journal {
    /// Read the journal that the record names. One that cannot be used is ended, and put aside.
    pub fn open(state_dir: &Path, capacity: u64, store: Arc<Store>) -> Result<Self, RecordError> {
        let path = state_dir.join("journal");
        let lost = fs::read_to_string(path.with_extension("lost")).ok();
        let journal = Self {
            path,
            capacity,
            store,
            active: AtomicBool::new(false),
            era: AtomicU64::new(1),
            oldest: AtomicU64::new(1),
            id: Mutex::default(),
            heat: Mutex::default(),
            log: Mutex::default(),
            lost: Mutex::new(lost),
        };
        let Some(tie) = journal.store.get().and_then(|record| record.journal) else { return Ok(journal) };
        match Log::open(&journal.path, &tie.id) {
            Ok((log, payloads)) => {
                let entries: Option<Vec<_>> = payloads.iter().map(|payload| Entry::from_bytes(payload)).collect();
                match entries {
                    Some(entries) => journal.load(tie.id, log, &entries),
                    None => journal.set_aside("journal is damaged: a record has no meaning")?,
                }
            }
            Err(error) => journal.set_aside(&error.to_string())?,
        }
        Ok(journal)
    }

    fn load(&self, id: String, log: Log, entries: &[Entry]) {
        let mut heat = self.heat.lock();
        let (mut latest, mut oldest) = (0, 1);
        for entry in entries {
            heat.load(entry);
            latest = latest.max(entry.era());
            if let Entry::Cooled { era } = entry {
                oldest = oldest.max(era + 1);
            }
        }
        drop(heat);
        self.era.store(latest + 1, Ordering::Release);
        self.oldest.store(oldest, Ordering::Release);
        *self.id.lock() = id;
        *self.log.lock() = Some(log);
        self.active.store(true, Ordering::Release);
    }

    fn set_aside(&self, why: &str) -> Result<(), RecordError> {
        self.lose(why)?;
        // For whoever wants to know what was wrong with it. It may not be there at all.
        let _ = fs::rename(&self.path, self.path.with_extension("unusable"));
        Ok(())
    }

    /// Changes must be marked.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// The present era.
    pub fn era(&self) -> Era {
        self.era.load(Ordering::Acquire)
    }

    /// Why there is no journal, if there was one.
    pub fn lost(&self) -> Option<String> {
        self.lost.lock().clone()
    }

    /// What an extended attribute holds that marks a new directory as hot in the present era.
    pub fn stamp(&self) -> String {
        format!("{}:{}", self.id.lock(), self.era())
    }

    /// Whether such a mark is of an era that has not cooled.
    pub fn is_hot_stamp(&self, stamp: &[u8]) -> bool {
        let Some((id, era)) = std::str::from_utf8(stamp).ok().and_then(|stamp| stamp.split_once(':')) else {
            return false;
        };
        id == *self.id.lock() && era.parse::<Era>().is_ok_and(|era| era >= self.oldest.load(Ordering::Acquire))
    }

    /// Everything that is hot.
    pub fn snapshot(&self) -> Snapshot {
        self.heat.lock().snapshot()
    }

    /// From now on nothing is known of what changes: durable when this returns.
    pub fn lose(&self, why: &str) -> Result<(), RecordError> {
        if self.store.get().is_some() {
            self.store.update(|record| {
                record.journal = None;
                Ok(())
            })?;
        }
        self.active.store(false, Ordering::Release);
        *self.heat.lock() = Heat::default();
        *self.log.lock() = None;
        *self.lost.lock() = Some(why.to_owned());
        // Only for the status after a restart.
        let _ = fs::write(self.path.with_extension("lost"), why);
        Ok(())
    }

    // ---- marks

    /// A directory's entry `name` (`None`: only its attributes), or with `listing` false a small file's contents there.
    pub fn mark_directory(
        &self,
        volume: u32,
        directory: &FileHandle,
        name: Option<&[u8]>,
        listing: bool,
    ) -> Result<(), RecordError> {
        let era = self.era();
        if self.heat.lock().directory(era, volume, directory, name, listing) {
            self.append(&Entry::Directory { era, volume, directory: directory.clone() })?;
            self.heat.lock().directory_logged(era, volume, directory, name, listing);
        }
        Ok(())
    }

    /// A part of a large file (an empty one: its attributes). `growing`: it lies at the file's end.
    pub fn mark_file(
        &self,
        volume: u32,
        file: &FileHandle,
        place: (&FileHandle, &[u8]),
        range: (u64, u64),
        growing: bool,
    ) -> Result<(), RecordError> {
        let era = self.era();
        let Some((first, mut count)) = self.heat.lock().file(era, volume, file, range) else { return Ok(()) };
        if growing {
            count += (range.1 / SEGMENT).min(AHEAD);
        }
        if count > MOST_SEGMENTS {
            return self.lose("a change reached over more of a file than the journal can hold");
        }
        let (parent, name) = (place.0.clone(), place.1.into());
        let entry = Entry::Large { era, volume, file: file.clone(), parent, name, first, count };
        self.append(&entry)?;
        self.heat.lock().file_logged(&entry, range);
        Ok(())
    }

    /// An object gets or loses a name. `several`: it has others, or had.
    pub fn mark_placed(&self, volume: u32, object: &FileHandle, several: bool) -> Result<(), RecordError> {
        let era = self.era();
        if self.heat.lock().placed(era, volume, object, several) {
            self.append(&Entry::Placed { era, volume, object: object.clone(), several })?;
            self.heat.lock().placed_logged(era, volume, object, several);
        }
        Ok(())
    }

    fn append(&self, entry: &Entry) -> Result<(), RecordError> {
        let result = {
            let mut log = self.log.lock();
            let Some(log) = &mut *log else { return Ok(()) };
            let payload = [entry.to_bytes()];
            match log.append(&payload, false) {
                Err(LogError::Full { .. }) => self.rewrite(log).and_then(|()| log.append(&payload, false)),
                other => other,
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(LogError::Full { .. }) => self.lose("more has changed than the journal can hold"),
            Err(error) => self.lose(&error.to_string()),
        }
    }

    /// Write the file anew with what is still hot.
    fn rewrite(&self, log: &mut Log) -> Result<(), LogError> {
        let mut entries = self.heat.lock().entries();
        let oldest = self.oldest.load(Ordering::Acquire);
        // Also keeps the eras growing over a restart.
        entries.insert(0, Entry::Cooled { era: oldest - 1 });
        let payloads: Vec<_> = entries.iter().map(Entry::to_bytes).collect();
        *log = Log::create(&self.path, &self.id.lock(), self.capacity, &payloads)?;
        if log.used() > 0.9 { Err(LogError::Full { path: String::new() }) } else { Ok(()) }
    }

    // ---- eras and bases

    /// The file fills.
    pub fn is_crowded(&self) -> bool {
        self.log.lock().as_ref().is_some_and(|log| log.used() > CROWDED)
    }

    /// Something is hot.
    pub fn is_warm(&self) -> bool {
        self.is_active() && !self.heat.lock().is_empty()
    }

    /// End the era, and return it. Nobody may be marking or changing anything.
    pub fn end_era(&self) -> Era {
        self.era.fetch_add(1, Ordering::AcqRel)
    }

    /// Everything up to `era` is equal and durable on both nodes.
    pub fn cool(&self, era: Era) -> Result<(), RecordError> {
        self.heat.lock().cool(era);
        self.oldest.fetch_max(era + 1, Ordering::AcqRel);
        let result = {
            let mut log = self.log.lock();
            let Some(log) = &mut *log else { return Ok(()) };
            // What is lost of this with the power is only that more is compared.
            match log.append(&[Entry::Cooled { era }.to_bytes()], true) {
                Ok(()) if log.used() <= CROWDED => Ok(()),
                Ok(()) | Err(LogError::Full { .. }) => self.rewrite(log),
                Err(error) => Err(error),
            }
        };
        result.or_else(|error| self.lose(&error.to_string()))
    }

    /// An empty journal, of use once the record names it with what this returns, and [`Self::activate`] was called.
    /// Not while this node marks.
    pub fn renew(&self, base: &str) -> Result<Option<JournalTie>, RecordError> {
        let id = new_generation()?;
        let known = self.log.lock().take().filter(|log| log.capacity() == self.capacity);
        let fresh = match known {
            Some(mut log) => log.renew(&id).map(|()| log),
            None => Log::create(&self.path, &id, self.capacity, &[]),
        };
        match fresh {
            Ok(log) => {
                self.active.store(false, Ordering::Release);
                *self.heat.lock() = Heat::default();
                *self.log.lock() = Some(log);
                *self.id.lock() = id.clone();
                *self.lost.lock() = None;
                // No era comes twice while the process lives: inodes remember in which they were marked.
                let era = self.era.fetch_add(1, Ordering::AcqRel) + 1;
                self.oldest.store(era, Ordering::Release);
                let _ = fs::remove_file(self.path.with_extension("lost"));
                Ok(Some(JournalTie { id, bases: vec![base.to_owned()] }))
            }
            Err(error) => {
                self.lose(&error.to_string())?;
                Ok(None)
            }
        }
    }

    /// Changes are marked from now on.
    pub fn activate(&self) {
        if self.log.lock().is_some() {
            self.active.store(true, Ordering::Release);
        }
    }
}
