//! The quarantine folder: what only the losing side of a split brain had is moved or copied here, never dropped.
//!
//! Layout: `<quarantine_dir>/<time>-<generation>/<volume>/<path in the volume>`; where a path is taken already, the
//! volume's folder gets a number (`<volume>.1`). Files and directories that the winner does not have are moved whole;
//! files that it has with other contents are copied before their first change (sharing blocks where the file system can).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with};
use rustix::io::Errno;

use super::copy::{copy_file, copy_tree, remove_tree};

/// Alternatives tried when a place is taken.
const ALTERNATIVES: u32 = 1000;

/// Receives what a resynchronisation takes away.
#[derive(Debug)]
pub struct Quarantine {
    folder: PathBuf,
    volumes: Vec<String>,
    taken: Arc<AtomicU64>,
}

impl Quarantine {
    /// `taken` counts the files and directories that were moved or copied.
    pub fn new(folder: PathBuf, volumes: Vec<String>, taken: Arc<AtomicU64>) -> Self {
        Self { folder, volumes, taken }
    }

    /// Move an entry of `directory` (which is at `place` in the volume) here.
    pub fn take(&mut self, volume: usize, directory: &OwnedFd, place: &Path, name: &[u8]) -> io::Result<()> {
        self.put(volume, place, |target| match renameat_with(directory, name, target, name, RenameFlags::NOREPLACE) {
            Err(Errno::XDEV) => {
                copy_tree(directory, name, target, name)?;
                remove_tree(directory, name)
            }
            other => Ok(other?),
        })
    }

    /// Copy a regular file (which is at `path` in the volume) here.
    pub fn save(&mut self, volume: usize, file: &OwnedFd, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        self.put(volume, path.parent().unwrap_or(Path::new("")), |target| {
            copy_file(file, target, name.as_encoded_bytes())
        })
    }

    /// Call `put` with the folder that corresponds to `place`, and again with the next alternative while the place is
    /// taken.
    fn put(&self, volume: usize, place: &Path, put: impl Fn(&OwnedFd) -> io::Result<()>) -> io::Result<()> {
        let volume = self.volumes.get(volume).map_or("", String::as_str);
        let mut result = Err(io::ErrorKind::AlreadyExists.into());
        for alternative in 0..ALTERNATIVES {
            let volume = if alternative == 0 { volume.to_owned() } else { format!("{volume}.{alternative}") };
            result = make_directories(&self.folder, &Path::new(&volume).join(place)).and_then(|target| put(&target));
            match &result {
                Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {}
                _ => break,
            }
        }
        if result.is_ok() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        result
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
