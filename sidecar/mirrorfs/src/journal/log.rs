//! The journal's file.
//!
//! ```text
//! offset 0     8   "TWHJRNL\n"
//!        8     u32 format
//!        12    32  id, as text; the generation record names it
//!        44    u64 length of the file
//!        52    u32 CRC32C of the 52 bytes before
//! offset 4096      records: u32 length of the payload, u32 CRC32C of it, payload; zeros to the end of the file
//! ```
//! The file has its full length from the beginning, so that appending changes no metadata: one `fdatasync` is one write.
//! An append is durable before anything relies on it; so one broken record with nothing after it is an append that a
//! power cut tore, and was never relied on. Everything else that does not fit is damage. So that damage to the last
//! record is not taken for a torn append, it is there twice: each append repeats what it appends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Version of the format that this program writes and reads.
pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"TWHJRNL\n";
const START: u64 = 4096;
const ID: usize = 32;
const HEADER: usize = 56;
/// Longest payload: two handles and a name.
const MOST: usize = 1024;

/// What may be wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("journal {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("journal {path} does not exist")]
    Missing { path: String },
    #[error("journal {path} is damaged: {why}")]
    Damaged { path: String, why: &'static str },
    #[error("journal {path} has format {found}, this program knows formats up to {FORMAT}")]
    Newer { path: String, found: u32 },
    #[error("journal {path} is not the one that the generation record names")]
    Foreign { path: String },
    #[error("journal {path} is full")]
    Full { path: String },
}

/// An open journal file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    end: u64,
    capacity: u64,
}

impl Log {
    /// A new file in the place of whatever is there; durable when this returns.
    pub fn create(path: &Path, id: &str, capacity: u64, payloads: &[Vec<u8>]) -> Result<Self, LogError> {
        let error = |source| LogError::Io { path: path.display().to_string(), source };
        let temporary = path.with_extension("new");
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&temporary).map_err(error)?;
        let mut bytes = vec![0; usize::try_from(capacity).unwrap_or(0).max(START as usize)];
        bytes[..HEADER].copy_from_slice(&header(id, capacity));
        let mut records = frames(payloads);
        records.extend(frames(&payloads[payloads.len().saturating_sub(1)..]));
        let end = START as usize + records.len();
        if end + 8 > bytes.len() {
            return Err(LogError::Full { path: path.display().to_string() });
        }
        bytes[START as usize..end].copy_from_slice(&records);
        file.write_all_at(&bytes, 0).map_err(error)?;
        file.sync_all().map_err(error)?;
        fs::rename(&temporary, path).map_err(error)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(error)?;
        Ok(Self { path: path.to_path_buf(), file, end: end as u64, capacity })
    }

    /// The file with this id, and the payloads in it.
    pub fn open(path: &Path, id: &str) -> Result<(Self, Vec<Vec<u8>>), LogError> {
        let name = || path.display().to_string();
        let error = |source| LogError::Io { path: name(), source };
        let damaged = |why| LogError::Damaged { path: name(), why };
        let file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(LogError::Missing { path: name() }),
            Err(source) => return Err(error(source)),
        };
        let bytes = fs::read(path).map_err(error)?;
        if bytes.len() < START as usize || bytes[..8] != *MAGIC {
            return Err(damaged("its beginning is not a journal's"));
        }
        let format = u32_at(&bytes, 8);
        if format > FORMAT {
            return Err(LogError::Newer { path: name(), found: format });
        }
        if u32_at(&bytes, 52) != crc32c::crc32c(&bytes[..52]) {
            return Err(damaged("its header does not match its checksum"));
        }
        let mut capacity = [0; 8];
        capacity.copy_from_slice(&bytes[44..52]);
        let capacity = u64::from_le_bytes(capacity);
        if capacity != bytes.len() as u64 {
            return Err(damaged("it is shorter or longer than its header says"));
        }
        if bytes[12..12 + ID] != padded(id) {
            return Err(LogError::Foreign { path: name() });
        }
        let (payloads, end) = records(&bytes).map_err(damaged)?;
        // What a torn append left would look like damage once something follows it.
        let torn = bytes[end..].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if torn > 0 {
            file.write_all_at(&vec![0; torn], end as u64).and_then(|()| file.sync_data()).map_err(error)?;
        }
        Ok((Self { path: path.to_path_buf(), file, end: end as u64, capacity }, payloads))
    }

    /// Begin anew under another id, in place: only what was used is written. With the power lost in between, the file
    /// has either id, and under the old one all its records.
    pub fn renew(&mut self, id: &str) -> Result<(), LogError> {
        let used = usize::try_from(self.end).unwrap_or(0).saturating_sub(START as usize);
        let written = self
            .file
            .write_all_at(&header(id, self.capacity), 0)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.file.write_all_at(&vec![0; used], START))
            .and_then(|()| self.file.sync_data());
        self.end = START;
        written.map_err(|source| LogError::Io { path: self.path.display().to_string(), source })
    }

    /// Append, and bring that to stable storage unless `lazy`.
    pub fn append(&mut self, payloads: &[Vec<u8>], lazy: bool) -> Result<(), LogError> {
        let bytes = frames(payloads).repeat(2);
        let end = self.end + bytes.len() as u64;
        if end + 8 > self.capacity {
            return Err(LogError::Full { path: self.path.display().to_string() });
        }
        let written = self.file.write_all_at(&bytes, self.end).and_then(|()| {
            self.end = end;
            if lazy { Ok(()) } else { self.file.sync_data() }
        });
        written.map_err(|source| LogError::Io { path: self.path.display().to_string(), source })
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Part of the file that is used.
    pub fn used(&self) -> f64 {
        self.end as f64 / self.capacity as f64
    }
}

fn header(id: &str, capacity: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..12 + ID].copy_from_slice(&padded(id));
    bytes[44..52].copy_from_slice(&capacity.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..52]);
    bytes[52..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn padded(id: &str) -> [u8; ID] {
    let mut field = [0; ID];
    let length = id.len().min(ID);
    field[..length].copy_from_slice(&id.as_bytes()[..length]);
    field
}

fn frames(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        bytes.extend_from_slice(payload);
    }
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The payload of the record that begins at `at`.
fn record_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = u32_at(bytes.get(at..at + 8)?, 0) as usize;
    if length == 0 || length > MOST {
        return None;
    }
    let payload = bytes.get(at + 8..at + 8 + length)?;
    (crc32c::crc32c(payload) == u32_at(bytes, at + 4)).then_some(payload)
}

/// The records, and where they end.
fn records(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, usize), &'static str> {
    let mut at = START as usize;
    let mut payloads = Vec::new();
    while let Some(payload) = record_at(bytes, at) {
        payloads.push(payload.to_vec());
        at += 8 + payload.len();
    }
    let rest = &bytes[at.min(bytes.len())..];
    let Some(last) = rest.iter().rposition(|&byte| byte != 0) else { return Ok((payloads, at)) };
    if last >= 8 + MOST {
        return Err("a record in the middle does not match its checksum");
    }
    if (1..=last).any(|skipped| record_at(rest, skipped).is_some()) {
        return Err("a record in the middle does not match its checksum");
    }
    Ok((payloads, at))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const CAPACITY: u64 = 64 << 10;

    fn lab() -> Result<(TempDir, PathBuf), LogError> {
        let directory = tempfile::tempdir().map_err(|source| LogError::Io { path: String::new(), source })?;
        let path = directory.path().join("journal");
        Ok((directory, path))
    }

    fn payloads(count: u8) -> Vec<Vec<u8>> {
        (1..=count).map(|number| vec![number; 40 + number as usize]).collect()
    }

    fn twice(payloads: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        payloads.into_iter().flat_map(|payload| [payload.clone(), payload]).collect()
    }

    fn with(change: impl FnOnce(&Path, &mut Vec<u8>)) -> Result<Result<Vec<Vec<u8>>, LogError>, LogError> {
        let (_directory, path) = lab()?;
        let mut log = Log::create(&path, "me", CAPACITY, &[])?;
        for payload in payloads(5) {
            log.append(&[payload], false)?;
        }
        drop(log);
        let mut bytes = fs::read(&path).unwrap_or_default();
        change(&path, &mut bytes);
        let _ = fs::write(&path, bytes);
        Ok(Log::open(&path, "me").map(|(_, payloads)| payloads))
    }

    #[test]
    fn what_was_appended_is_read_again() -> Result<(), LogError> {
        assert_eq!(with(|_, _| ())??, twice(payloads(5)));
        Ok(())
    }

    #[test]
    fn a_torn_append_is_dropped_and_what_follows_it_is_kept() -> Result<(), LogError> {
        let torn = |_: &Path, bytes: &mut Vec<u8>| {
            let (_, end) = records(bytes).unwrap_or_default();
            bytes[end - 3] ^= 1;
        };
        let all = twice(payloads(5));
        assert_eq!(with(torn)??, all[..9]);
        let (_directory, path) = lab()?;
        Log::create(&path, "me", CAPACITY, &payloads(2))?;
        let mut bytes = fs::read(&path).unwrap_or_default();
        torn(&path, &mut bytes);
        let _ = fs::write(&path, &bytes);
        let (mut log, _) = Log::open(&path, "me")?;
        log.append(&payloads(1), false)?;
        assert_eq!(Log::open(&path, "me")?.1, [payloads(2), twice(payloads(1))].concat());
        Ok(())
    }

    #[test]
    fn damage_is_told_from_a_torn_append() -> Result<(), LogError> {
        let last = START as usize + 8 * (8 + 43) + 40;
        for flipped in [last, START as usize + 20, START as usize + 4, START as usize, 60 << 10, 14, 46] {
            let read = with(|_, bytes| bytes[flipped] ^= 8)?;
            assert!(matches!(read, Err(LogError::Damaged { .. })), "{flipped}: {read:?}");
        }
        let cut = with(|_, bytes| bytes.truncate(START as usize + 100))?;
        assert!(matches!(cut, Err(LogError::Damaged { .. })), "{cut:?}");
        Ok(())
    }

    #[test]
    fn a_newer_foreign_or_missing_file_is_refused() -> Result<(), LogError> {
        let newer = with(|_, bytes| bytes[8] = 9)?;
        assert!(matches!(newer, Err(LogError::Newer { found: 9, .. })), "{newer:?}");
        let (_directory, path) = lab()?;
        assert!(matches!(Log::open(&path, "me"), Err(LogError::Missing { .. })));
        Log::create(&path, "you", CAPACITY, &[])?;
        assert!(matches!(Log::open(&path, "me"), Err(LogError::Foreign { .. })));
        Ok(())
    }

    #[test]
    fn a_renewed_file_is_empty_and_no_longer_the_old_one() -> Result<(), LogError> {
        let (_directory, path) = lab()?;
        let mut log = Log::create(&path, "me", CAPACITY, &payloads(3))?;
        log.append(&payloads(2), false)?;
        log.renew("again")?;
        assert!(matches!(Log::open(&path, "me"), Err(LogError::Foreign { .. })));
        assert_eq!(Log::open(&path, "again")?.1, Vec::<Vec<u8>>::new());
        log.append(&payloads(1), false)?;
        assert_eq!(Log::open(&path, "again")?.1, twice(payloads(1)));
        Ok(())
    }

    #[test]
    fn a_full_file_says_so_and_stays_as_it_is() -> Result<(), LogError> {
        let (_directory, path) = lab()?;
        let mut log = Log::create(&path, "me", CAPACITY, &[])?;
        let mut count = 0;
        while log.append(&[vec![7; 1000]], true).is_ok() {
            count += 1;
        }
        assert!(log.used() > 0.9);
        assert_eq!(Log::open(&path, "me")?.1.len(), 2 * count);
        Ok(())
    }
}
