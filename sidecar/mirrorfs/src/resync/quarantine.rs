//! The quarantine folder: what only the losing side of a split brain had is moved or copied here, never dropped.
//!
//! Layout: `<quarantine_dir>/<time>-<generation>/<volume>/<path in the volume>`; where a path is taken already, the
//! volume's folder gets a number (`<volume>.1`). Files and directories that the winner does not have are moved whole;
//! files that it has with other contents are copied before their first change (sharing blocks where the file system can).
//! A copy is on stable storage before what it was made of changes or goes.
//!
//! `<folder>/manifest.jsonl` has a line of JSON for each file, link, FIFO, socket and device in the folder ([`Kept`]).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, fsync, mkdirat, openat, renameat_with, syncfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copy::{copy_file, copy_tree, remove_tree};
use crate::record::hex;

/// Alternatives tried when a place is taken.
const ALTERNATIVES: u32 = 1000;

/// Larger files get no digest: to read them would hold the resynchronisation up.
const DIGESTED: u64 = 64 << 20;

/// The manifest's name in the folder.
pub const MANIFEST: &str = "manifest.jsonl";

/// Why something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The winner has nothing of this kind at its place.
    Absent,
    /// The winner has, or made, other contents.
    Differs,
}

/// A line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Below the folder, beginning with the volume.
    pub path: String,
    /// The path in hexadecimal, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    pub size: u64,
    /// Modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, i64),
    /// BLAKE3 of a regular file's contents, in hexadecimal; of none larger than 64 MiB.
    pub digest: Option<String>,
    pub reason: Reason,
    /// The generation that lost.
    pub generation: String,
}

/// Receives what a resynchronisation takes away.
#[derive(Debug)]
pub struct Quarantine {
    generation: String,
    folder: PathBuf,
    volumes: Vec<String>,
    taken: Arc<AtomicU64>,
}

impl Quarantine {
    /// `folder`: named by [`folder_name`]. `taken` counts the files and directories that were moved or copied.
    pub fn new(folder: PathBuf, volumes: Vec<String>, taken: Arc<AtomicU64>) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let generation = name.rsplit_once('-').map_or("", |(_, generation)| generation).to_owned();
        Self { generation, folder, volumes, taken }
    }

    /// Move an entry of `directory` (which is at `place` in the volume) here.
    pub fn take(&mut self, volume: usize, directory: &OwnedFd, place: &Path, name: &[u8]) -> io::Result<()> {
        let put = |target: &OwnedFd| match renameat_with(directory, name, target, name, RenameFlags::NOREPLACE) {
            Err(Errno::XDEV) => {
                copy_tree(directory, name, target, name)?;
                syncfs(target)?;
                remove_tree(directory, name)
            }
            other => Ok(other?),
        };
        self.put(volume, &place.join(OsStr::from_bytes(name)), Reason::Absent, put)
    }

    /// Copy a regular file (which is at `path` in the volume) here.
    pub fn save(&mut self, volume: usize, file: &OwnedFd, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        self.put(volume, path, Reason::Differs, |target| {
            copy_file(file, target, name)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fsync(openat(target, name, flags, Mode::empty())?)?;
            Ok(fsync(target)?)
        })
    }

    /// Call `put` with the folder that corresponds to the one that `path` is in, and again with the next alternative
    /// while the place is taken.
    fn put(
        &self,
        volume: usize,
        path: &Path,
        reason: Reason,
        put: impl Fn(&OwnedFd) -> io::Result<()>,
    ) -> io::Result<()> {
        let volume = self.volumes.get(volume).map_or("", String::as_str);
        let place = path.parent().unwrap_or(Path::new(""));
        let mut result = Err(io::ErrorKind::AlreadyExists.into());
        for alternative in 0..ALTERNATIVES {
            let volume = if alternative == 0 { volume.to_owned() } else { format!("{volume}.{alternative}") };
            let target = Path::new(&volume).join(place);
            result = make_directories(&self.folder, &target).and_then(|target| put(&target));
            match &result {
                Ok(()) => {
                    let kept = target.join(path.file_name().unwrap_or_default());
                    self.note(&kept, reason)?;
                    break;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {}
                _ => break,
            }
        }
        if result.is_ok() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Tell the manifest of what came to `kept` (below the folder), and of all in it.
    fn note(&self, kept: &Path, reason: Reason) -> io::Result<()> {
        let mut lines = Vec::new();
        self.describe(kept, reason, &mut lines)?;
        let manifest = self.folder.join(MANIFEST);
        let mut file = File::options().append(true).create(true).open(manifest)?;
        file.write_all(&lines)?;
        file.sync_all()
    }

    fn describe(&self, kept: &Path, reason: Reason, lines: &mut Vec<u8>) -> io::Result<()> {
        let full = self.folder.join(kept);
        let stat = fs::symlink_metadata(&full)?;
        if stat.is_dir() {
            for entry in fs::read_dir(&full)? {
                self.describe(&kept.join(entry?.file_name()), reason, lines)?;
            }
            return Ok(());
        }
        let digest = if stat.is_file() && stat.size() <= DIGESTED {
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut File::open(&full)?, &mut hasher)?;
            Some(hasher.finalize().to_hex().to_string())
        } else {
            None
        };
        let kept = Kept {
            path: kept.to_string_lossy().into_owned(),
            bytes: kept.to_str().is_none().then(|| hex(kept.as_os_str().as_bytes())),
            size: stat.size(),
            mtime: (stat.mtime(), stat.mtime_nsec()),
            digest,
            reason,
            generation: self.generation.clone(),
        };
        serde_json::to_writer(&mut *lines, &kept)?;
        lines.push(b'\n');
        Ok(())
    }
}

/// The name of a quarantine folder made now: UTC time and the generation that loses.
pub fn folder_name(generation: &str) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1970 to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + carry;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-{generation}")
}

fn make_directories(base: &Path, place: &Path) -> io::Result<OwnedFd> {
    std::fs::create_dir_all(base)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = openat(CWD, base, flags, Mode::empty())?;
    for part in place {
        match mkdirat(&directory, part, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        directory = openat(&directory, part, flags, Mode::empty())?;
    }
    Ok(directory)
}
