//! What the journal knows of hot regions: in memory exactly, as read from the file more coarsely.

use std::collections::HashMap;

use super::entry::{Entry, Era};
use crate::fs::FileHandle;

/// Files up to here are one region with all others of their directory; larger ones are hot by segments.
pub const SMALL: u64 = 1 << 20;
/// Bytes that one record of a large file covers.
pub const SEGMENT: u64 = 4 << 20;
/// Bytes that one bit of a segment in memory stands for.
pub const PIECE: u64 = SEGMENT / 64;
/// Names kept in memory; with more, whole directories count as changed.
const MOST_NAMES: usize = 500_000;

/// Byte ranges of a file, in order, apart from each other.
pub type Ranges = Vec<(u64, u64)>;

/// A directory: its entries, its attributes, and its small files.
#[derive(Clone, Debug, Default)]
struct Directory {
    /// Of the latest record in the file.
    logged: Era,
    /// In which entries or attributes changed last.
    listing: Era,
    /// In which something changed that only the file remembers.
    whole: Era,
    /// Entries that came, went, or whose contents or attributes changed.
    names: HashMap<Box<[u8]>, Era>,
}

/// A large file, where it had its name when it became hot.
#[derive(Clone, Debug)]
struct Large {
    parent: FileHandle,
    name: Box<[u8]>,
    latest: Era,
    segments: HashMap<u64, Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    logged: Era,
    bits: u64,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    era: Era,
    /// It has, or had, several names: some may be in directories that are not hot.
    several: bool,
}

#[derive(Debug, Default)]
struct Volume {
    directories: HashMap<FileHandle, Directory>,
    files: HashMap<FileHandle, Large>,
    placed: HashMap<FileHandle, Placed>,
}

/// A hot directory, for a comparison.
#[derive(Clone, Debug)]
pub struct HotDirectory {
    pub volume: u32,
    pub directory: FileHandle,
    /// Its entries or attributes changed, not only contents of its files.
    pub listing: bool,
    /// Which entries is not known.
    pub whole: bool,
    pub names: Vec<Box<[u8]>>,
}

/// A hot large file.
#[derive(Clone, Debug)]
pub struct HotFile {
    pub volume: u32,
    pub file: FileHandle,
    pub parent: FileHandle,
    pub name: Box<[u8]>,
    pub ranges: Ranges,
}

/// An object that got or lost a name.
#[derive(Clone, Debug)]
pub struct HotObject {
    pub volume: u32,
    pub object: FileHandle,
    pub several: bool,
}

/// Everything that is hot.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub directories: Vec<HotDirectory>,
    pub files: Vec<HotFile>,
    pub placed: Vec<HotObject>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Heat {
    volumes: HashMap<u32, Volume>,
    names: usize,
}

impl Heat {
    /// Note a directory; whether the file must have a record of it first.
    pub fn directory(
        &mut self,
        era: Era,
        volume: u32,
        directory: &FileHandle,
        name: Option<&[u8]>,
        listing: bool,
    ) -> bool {
        let volume = self.volumes.entry(volume).or_default();
        let Some(hot) = volume.directories.get_mut(directory) else { return true };
        if hot.logged < era {
            return true;
        }
        hot.note(era, name, listing, &mut self.names);
        false
    }

    /// The same, once the file has the record.
    pub fn directory_logged(
        &mut self,
        era: Era,
        volume: u32,
        directory: &FileHandle,
        name: Option<&[u8]>,
        listing: bool,
    ) {
        let volume = self.volumes.entry(volume).or_default();
        let hot = volume.directories.entry(directory.clone()).or_default();
        hot.logged = hot.logged.max(era);
        hot.note(era, name, listing, &mut self.names);
        if self.names > MOST_NAMES {
            self.forget_names();
        }
    }

    fn forget_names(&mut self) {
        for hot in self.volumes.values_mut().flat_map(|volume| volume.directories.values_mut()) {
            if let Some(latest) = hot.names.values().max() {
                hot.whole = hot.whole.max(*latest);
            }
            hot.names = HashMap::new();
        }
        self.names = 0;
    }

    /// Note a part of a large file; the segments that the file must have records of first.
    pub fn file(&mut self, era: Era, volume: u32, file: &FileHandle, range: (u64, u64)) -> Option<(u64, u64)> {
        let (first, end) = (range.0 / SEGMENT, range.1.div_ceil(SEGMENT));
        let Some(hot) = self.volumes.entry(volume).or_default().files.get_mut(file) else {
            return Some((first, end - first));
        };
        let missing = |segment: &u64| hot.segments.get(segment).is_none_or(|known| known.logged < era);
        if hot.latest < era || (first..end).any(|segment| missing(&segment)) {
            return Some((first, end - first));
        }
        for segment in first..end {
            if let Some(known) = hot.segments.get_mut(&segment) {
                known.bits |= bits(segment, range);
            }
        }
        None
    }

    /// The same, once the file has records of `first .. first + count`.
    pub fn file_logged(&mut self, entry: &Entry, range: (u64, u64)) {
        let Entry::Large { era, volume, file, parent, name, first, count } = entry else { return };
        let hot = self.volumes.entry(*volume).or_default().files.entry(file.clone()).or_insert_with(|| Large {
            parent: parent.clone(),
            name: name.clone(),
            latest: *era,
            segments: HashMap::new(),
        });
        (hot.parent, hot.name) = (parent.clone(), name.clone());
        hot.latest = hot.latest.max(*era);
        for segment in *first..first + count {
            let known = hot.segments.entry(segment).or_insert(Segment { logged: 0, bits: 0 });
            known.logged = known.logged.max(*era);
            known.bits |= bits(segment, range);
        }
    }

    /// Whether the file must have a record of this object first.
    pub fn placed(&self, era: Era, volume: u32, object: &FileHandle, several: bool) -> bool {
        let known = self.volumes.get(&volume).and_then(|volume| volume.placed.get(object));
        known.is_none_or(|known| known.era < era || (several && !known.several))
    }

    pub fn placed_logged(&mut self, era: Era, volume: u32, object: &FileHandle, several: bool) {
        let placed = &mut self.volumes.entry(volume).or_default().placed;
        let known = placed.entry(object.clone()).or_insert(Placed { era, several });
        known.era = known.era.max(era);
        known.several |= several;
    }

    /// A record that was read from the file.
    pub fn load(&mut self, entry: &Entry) {
        match entry {
            Entry::Directory { era, volume, directory } => {
                let hot = self.volumes.entry(*volume).or_default().directories.entry(directory.clone()).or_default();
                hot.logged = hot.logged.max(*era);
                hot.whole = hot.whole.max(*era);
                hot.listing = hot.listing.max(*era);
            }
            Entry::Large { .. } => self.file_logged(entry, (0, u64::MAX)),
            Entry::Placed { era, volume, object, several } => self.placed_logged(*era, *volume, object, *several),
            Entry::Cooled { era } => self.cool(*era),
        }
    }

    /// Everything up to `era` is equal and durable on both nodes.
    pub fn cool(&mut self, era: Era) {
        self.names = 0;
        for volume in self.volumes.values_mut() {
            volume.directories.retain(|_, hot| {
                hot.names.retain(|_, latest| *latest > era);
                hot.logged > era
            });
            for hot in volume.directories.values_mut() {
                self.names += hot.names.len();
                hot.whole = if hot.whole > era { hot.whole } else { 0 };
                hot.listing = if hot.listing > era { hot.listing } else { 0 };
            }
            volume.files.retain(|_, hot| {
                hot.segments.retain(|_, segment| segment.logged > era);
                hot.latest > era
            });
            volume.placed.retain(|_, placed| placed.era > era);
        }
    }

    /// Records that say the same as all that were appended so far.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (&volume, hot) in &self.volumes {
            for (directory, hot) in &hot.directories {
                entries.push(Entry::Directory { era: hot.logged, volume, directory: directory.clone() });
            }
            for (file, hot) in &hot.files {
                let large = |era, first, count| Entry::Large {
                    era,
                    volume,
                    file: file.clone(),
                    parent: hot.parent.clone(),
                    name: hot.name.clone(),
                    first,
                    count,
                };
                entries.push(large(hot.latest, 0, 0));
                let mut segments: Vec<_> =
                    hot.segments.iter().map(|(&segment, known)| (segment, known.logged)).collect();
                segments.sort_unstable();
                let mut rest = segments.as_slice();
                while let Some(&(first, era)) = rest.first() {
                    let run = (0..).zip(rest).take_while(|&(at, &known)| known == (first + at, era)).count();
                    entries.push(large(era, first, run as u64));
                    rest = &rest[run..];
                }
            }
            for (object, hot) in &hot.placed {
                entries.push(Entry::Placed { era: hot.era, volume, object: object.clone(), several: hot.several });
            }
        }
        entries
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (&volume, hot) in &self.volumes {
            for (directory, hot) in &hot.directories {
                snapshot.directories.push(HotDirectory {
                    volume,
                    directory: directory.clone(),
                    listing: hot.listing > 0,
                    whole: hot.whole > 0,
                    names: hot.names.keys().cloned().collect(),
                });
            }
            for (file, hot) in &hot.files {
                let mut ranges = Ranges::new();
                for (&segment, known) in &hot.segments {
                    for bit in (0..64).filter(|bit| known.bits & (1 << bit) != 0) {
                        let start = segment.saturating_mul(SEGMENT).saturating_add(bit * PIECE);
                        ranges.push((start, start.saturating_add(PIECE)));
                    }
                }
                snapshot.files.push(HotFile {
                    volume,
                    file: file.clone(),
                    parent: hot.parent.clone(),
                    name: hot.name.clone(),
                    ranges: united(ranges),
                });
            }
            for (object, hot) in &hot.placed {
                snapshot.placed.push(HotObject { volume, object: object.clone(), several: hot.several });
            }
        }
        snapshot
    }

    pub fn is_empty(&self) -> bool {
        self.volumes.values().all(|hot| hot.directories.is_empty() && hot.files.is_empty() && hot.placed.is_empty())
    }
}

impl Directory {
    fn note(&mut self, era: Era, name: Option<&[u8]>, listing: bool, names: &mut usize) {
        if listing {
            self.listing = era;
        }
        let Some(name) = name else { return };
        match self.names.get_mut(name) {
            Some(latest) => *latest = era,
            None => {
                self.names.insert(name.into(), era);
                *names += 1;
            }
        }
    }
}

/// The part of a segment that lies within the range.
fn bits(segment: u64, range: (u64, u64)) -> u64 {
    let start = segment.saturating_mul(SEGMENT);
    let first = range.0.saturating_sub(start) / PIECE;
    let end = range.1.saturating_sub(start).div_ceil(PIECE).min(64);
    if first >= end {
        return 0;
    }
    (u64::MAX >> (64 - (end - first))) << first
}

/// The same bytes, in order, neighbours as one.
pub fn united(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut result: Ranges = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match result.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => result.push((start, end)),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::entry::samples::{handle, large};
    use super::*;

    #[test]
    fn a_region_is_logged_once_in_each_era_and_cools_with_it() -> Result<(), &'static str> {
        let mut heat = Heat::default();
        let (directory, file) = (handle(1).ok_or("handle")?, handle(5).ok_or("handle")?);
        assert!(heat.directory(1, 0, &directory, Some(b"a"), true));
        heat.directory_logged(1, 0, &directory, Some(b"a"), true);
        assert!(!heat.directory(1, 0, &directory, Some(b"b"), false));
        assert!(heat.directory(2, 0, &directory, Some(b"b"), false));
        heat.directory_logged(2, 0, &directory, Some(b"b"), false);
        assert_eq!(heat.file(1, 0, &file, (SEGMENT - 1, SEGMENT + 1)), Some((0, 2)));
        heat.file_logged(&large(1, 0, 2).ok_or("large")?, (SEGMENT - 1, SEGMENT + 1));
        assert_eq!(heat.file(1, 0, &file, (0, 1)), None);
        assert_eq!(heat.file(2, 0, &file, (0, 1)), Some((0, 1)));
        let hot = heat.snapshot();
        assert_eq!(hot.files[0].ranges, [(0, PIECE), (SEGMENT - PIECE, SEGMENT + PIECE)]);
        assert!(hot.directories[0].listing && !hot.directories[0].whole);
        assert_eq!(hot.directories[0].names.len(), 2);
        heat.cool(1);
        let hot = heat.snapshot();
        assert!(hot.files.is_empty() && !hot.directories[0].listing);
        assert_eq!(hot.directories[0].names, [b"b"[..].into()]);
        heat.cool(2);
        assert!(heat.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_read_from_the_file_is_coarser_and_never_less() -> Result<(), &'static str> {
        let mut heat = Heat::default();
        let directory = handle(1).ok_or("handle")?;
        heat.directory_logged(3, 0, &directory, Some(b"a"), false);
        heat.file_logged(&large(3, 0, 3).ok_or("large")?, (0, 1));
        heat.placed_logged(4, 0, &directory, true);
        let mut again = Heat::default();
        for entry in heat.entries() {
            again.load(&entry);
        }
        let hot = again.snapshot();
        assert!(hot.directories[0].whole && hot.directories[0].listing);
        assert_eq!(hot.files[0].ranges, [(0, 3 * SEGMENT)]);
        assert!(hot.placed[0].several);
        assert!(!again.placed(4, 0, &directory, true) && again.placed(5, 0, &directory, false));
        Ok(())
    }

    #[test]
    fn bits_cover_the_range() {
        assert_eq!(bits(0, (0, 1)), 1);
        assert_eq!(bits(0, (0, u64::MAX)), u64::MAX);
        assert_eq!(bits(1, (0, u64::MAX)), u64::MAX);
        assert_eq!(bits(1, (0, SEGMENT)), 0);
        assert_eq!(bits(1, (SEGMENT + PIECE, SEGMENT + PIECE + 1)), 2);
        assert_eq!(bits(0, (5, 5)), 1);
    }
}
