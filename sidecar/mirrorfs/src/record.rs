//! The generation record: what this node knows, durably, about whose data it holds.
//!
//! A *generation* is a random name for "the module's data since somebody last ran alone". Both nodes share it while
//! they are in sync; a primary that writes without its peer takes a new one and keeps the old ones as its history.
//! Which side has newer data, and whether both ran alone (split brain), follows from these names by [`compare`],
//! never from clocks or file times.
//!
//! On disk: `record.json` in the state directory, one JSON object with a format version and the CRC32C of the
//! record, replaced as `durable.rs` says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::durable::replace;
use crate::op::Lineage;

/// Version of the file's format that this program writes and reads.
pub const FORMAT: u32 = 2;
/// Generations that the history keeps; a peer that missed more than these counts as diverged.
pub const HISTORY: usize = 64;
/// The generation of a node whose first synchronisation has begun and not ended: it holds no generation yet.
pub const NO_GENERATION: &str = "00000000000000000000000000000000";

/// What may be wrong with a record; the text names the file and the mend.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("generation record {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "generation record {path} is damaged ({why}): restore it from a copy, or remove it together with this node's \
         volumes so that they are synchronised again from the other node"
    )]
    Damaged { path: String, why: String },
    #[error(
        "generation record {path} has format {found}, this program knows formats up to {FORMAT}: run the newer twinhull \
         that wrote it"
    )]
    Newer { path: String, found: u32 },
    #[error(
        "generation record {path} belongs to module {found}, this is module {expected}: give the module its own base \
         directory"
    )]
    ForeignModule { path: String, found: String, expected: String },
    #[error(
        "generation record {path} belongs to node {found}, this is node {expected}: the directory was copied from the \
         other node; remove it, or correct the node's name"
    )]
    ForeignNode { path: String, found: String, expected: String },
    #[error("generation record {path} does not exist: initialise the module or synchronise from the other node first")]
    Missing { path: String },
    #[error("generation record {path} exists already")]
    Exists { path: String },
    #[error("the kernel gives no random bytes: {0}")]
    Random(String),
}

/// The role that a node had last, as far as its data are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastRole {
    #[default]
    None,
    Primary,
    Secondary,
}

/// Which change journal is this node's, and since when it holds every difference (`journal.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JournalTie {
    /// Of the journal's file.
    pub id: String,
    /// Moments (named by the stream in which they were) at which both trees were equal: what differs from a peer that
    /// has one of them too is in the two journals.
    pub bases: Vec<String>,
}

/// What one node knows durably. See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// UID of the module.
    pub module: String,
    /// Name of the node that this record belongs to.
    pub node: String,
    /// 128 random bits in hexadecimal, or [`NO_GENERATION`].
    pub generation: String,
    /// Earlier generations, newest first, at most [`HISTORY`].
    pub history: Vec<String>,
    /// The peer is outdated: this node may acknowledge without it, and may start alone after a reboot.
    pub alone: bool,
    /// The generation began on this node and no peer ever had it: what is written alone needs no further one.
    #[serde(default)]
    pub unshared: bool,
    /// The volumes hold a prefix of the primary's operations, not a mixture in the middle of a resynchronisation.
    pub consistent: bool,
    pub last_role: LastRole,
    /// Set on both nodes by a clean hand-over: equal tokens mean equal trees.
    pub token: Option<String>,
    /// The administrator allowed that this node's own generation is overwritten, and that has begun: the name of the
    /// quarantine folder that receives what only this node had.
    #[serde(default)]
    pub discarding: Option<String>,
    /// `None`: nothing is known of what changed, a peer is compared in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalTie>,
    /// A flush failed: the page cache may hold what the disk lacks. Until this node has been brought level by what its
    /// disk has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cache_suspect: bool,
}

impl Record {
    /// The first record of a module whose data are this node's.
    pub fn initial(module: &str, node: &str) -> Result<Self, RecordError> {
        Ok(Self {
            module: module.to_owned(),
            node: node.to_owned(),
            generation: new_generation()?,
            consistent: true,
            unshared: true,
            ..Self::default()
        })
    }

    /// The record of a node without data of its own, at the start of its first synchronisation.
    pub fn empty(module: &str, node: &str) -> Self {
        Self {
            module: module.to_owned(),
            node: node.to_owned(),
            generation: NO_GENERATION.to_owned(),
            last_role: LastRole::Secondary,
            ..Self::default()
        }
    }

    /// A moment since which both nodes' journals have all that differs.
    pub fn common_base(&self, peer: &Self) -> Option<&str> {
        let (mine, theirs) = (self.journal.as_ref()?, peer.journal.as_ref()?);
        mine.bases.iter().find(|base| theirs.bases.contains(base)).map(String::as_str)
    }

    /// Generation and history, as `SyncDone` carries them.
    pub fn lineage(&self) -> Lineage {
        Lineage { generation: self.generation.clone(), history: self.history.clone() }
    }

    /// This node writes without its peer: its data get a new name, the old one becomes history.
    pub fn begin_generation(&mut self) -> Result<(), RecordError> {
        let old = std::mem::replace(&mut self.generation, new_generation()?);
        self.unshared = true;
        if old != NO_GENERATION {
            self.history.insert(0, old);
            self.history.truncate(HISTORY);
        }
        // That the old generation might be overwritten says nothing about what is written from now on.
        self.discarding = None;
        Ok(())
    }
}

/// 128 random bits in hexadecimal: a generation, a token, a stream's or an instance's name.
pub fn new_generation() -> Result<String, RecordError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| RecordError::Random(error.to_string()))?;
    Ok(hex(&bytes))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How this node's data relate to the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nobody wrote alone since both were in sync.
    Same,
    /// The peer went on from this node's data.
    Behind,
    /// This node went on from the peer's data.
    Ahead,
    /// Both went on alone (split brain), or nothing in common is known any more.
    Diverged,
    /// Two different modules.
    Unrelated,
    /// One of them (or both) has no record yet.
    Fresh,
}

impl Verdict {
    /// The same relation seen from the peer.
    pub fn reversed(self) -> Self {
        match self {
            Self::Behind => Self::Ahead,
            Self::Ahead => Self::Behind,
            same => same,
        }
    }
}

/// Compare two records; `None` is a node without one.
pub fn compare(mine: Option<&Record>, peer: Option<&Record>) -> Verdict {
    let (Some(mine), Some(peer)) = (mine, peer) else {
        return Verdict::Fresh;
    };
    if mine.module != peer.module {
        return Verdict::Unrelated;
    }
    if mine.generation == peer.generation {
        return Verdict::Same;
    }
    if mine.generation == NO_GENERATION {
        return Verdict::Behind;
    }
    if peer.generation == NO_GENERATION {
        return Verdict::Ahead;
    }
    match (peer.history.contains(&mine.generation), mine.history.contains(&peer.generation)) {
        (true, false) => Verdict::Behind,
        (false, true) => Verdict::Ahead,
        _ => Verdict::Diverged,
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: u32,
    crc32c: String,
    record: Record,
}

/// The record's file, and the copy of it in memory. All methods are thread-safe; changes are durable when they return.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    current: Mutex<Option<Record>>,
    cache_suspect: AtomicBool,
}

impl Store {
    /// Read the record of `module` on `node` from `state_dir` (made when missing).
    ///
    /// # Errors
    /// A damaged, newer or foreign record, or an I/O error. No record at all is not an error.
    pub fn open(state_dir: &Path, module: &str, node: &str) -> Result<Self, RecordError> {
        let path = state_dir.join("record.json");
        let io = |source| RecordError::Io { path: path.display().to_string(), source };
        fs::create_dir_all(state_dir).map_err(io)?;
        let current = match fs::read(&path) {
            Ok(bytes) => Some(parse(&path, &bytes, module, node)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        let suspect = current.as_ref().is_some_and(|record| record.cache_suspect);
        Ok(Self { path, current: Mutex::new(current), cache_suspect: AtomicBool::new(suspect) })
    }

    /// The record as it is durable now; `None` on a fresh node. Does not touch the disk.
    pub fn get(&self) -> Option<Record> {
        self.current.lock().clone()
    }

    /// Write the first record.
    pub fn create(&self, record: Record) -> Result<Record, RecordError> {
        let mut current = self.current.lock();
        if current.is_some() {
            return Err(RecordError::Exists { path: self.path.display().to_string() });
        }
        self.write(&record)?;
        Ok(current.insert(record).clone())
    }

    /// Change the record and make that durable; nothing is written when nothing changed.
    /// On an error the record in memory and (as far as the disk allows) on disk is the old one.
    pub fn update(&self, change: impl FnOnce(&mut Record) -> Result<(), RecordError>) -> Result<Record, RecordError> {
        let mut current = self.current.lock();
        let Some(old) = current.as_ref() else {
            return Err(RecordError::Missing { path: self.path.display().to_string() });
        };
        let mut new = old.clone();
        change(&mut new)?;
        if new != *old {
            self.write(&new)?;
            *current = Some(new.clone());
        }
        Ok(new)
    }

    fn write(&self, record: &Record) -> Result<(), RecordError> {
        let io = |source| RecordError::Io { path: self.path.display().to_string(), source };
        let envelope = Envelope { format: FORMAT, crc32c: checksum(record).map_err(io)?, record: record.clone() };
        let bytes = serde_json::to_vec_pretty(&envelope).map_err(|error| io(error.into()))?;
        replace(&self.path, &bytes).map_err(io)
    }

    /// A flush failed on this node: its page cache may hold what its disk lacks, and will not write it again.
    pub fn distrust_cache(&self) {
        self.cache_suspect.store(true, Ordering::Release);
        // On this very disk, perhaps: then the process remembers at least.
        let _ = self.update(|record| {
            record.cache_suspect = true;
            Ok(())
        });
    }

    /// Whether a comparison must read the disk itself.
    pub fn is_cache_suspect(&self) -> bool {
        self.cache_suspect.load(Ordering::Acquire)
    }

    /// What could not be flushed has been compared with the peer's, from the disk, and everything is flushed. The record
    /// is to say so, too.
    pub fn trust_cache(&self) {
        self.cache_suspect.store(false, Ordering::Release);
    }
}

fn checksum(record: &Record) -> io::Result<String> {
    Ok(format!("{:08x}", crc32c::crc32c(&serde_json::to_vec(record)?)))
}

fn parse(path: &Path, bytes: &[u8], module: &str, node: &str) -> Result<Record, RecordError> {
    let path = path.display().to_string();
    let damaged = |why: String| RecordError::Damaged { path: path.clone(), why };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        None => return Err(damaged("it has no format number".to_owned())),
        Some(found) if found > u64::from(FORMAT) => {
            return Err(RecordError::Newer { path, found: u32::try_from(found).unwrap_or(u32::MAX) });
        }
        Some(_) => {}
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    let actual = checksum(&envelope.record).map_err(|error| damaged(error.to_string()))?;
    if actual != envelope.crc32c {
        return Err(damaged(format!("its checksum is {actual}, it says {}", envelope.crc32c)));
    }
    let record = envelope.record;
    if record.module != module {
        return Err(RecordError::ForeignModule { path, found: record.module, expected: module.to_owned() });
    }
    if record.node != node {
        return Err(RecordError::ForeignNode { path, found: record.node, expected: node.to_owned() });
    }
    Ok(record)
}
