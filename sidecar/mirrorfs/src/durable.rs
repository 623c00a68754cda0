//! Replacing a small file durably, also when the disk is full.
//!
//! The new contents go into a second file, which is there already and is long enough, so that no block has to be
//! allocated; then the two exchange their names. On a file system that never overwrites in place (btrfs) a full disk
//! can still refuse.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Least length of both files; what is beyond the contents is filled with newlines.
const LENGTH: usize = 16 << 10;

/// Replace `path` by `text` (to which newlines may be appended) in one step; durable when this returns.
///
/// # Errors
/// What the file system answers; the file is then the old one.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let spare = spare_of(path);
    fill(&spare, text)?;
    match renameat_with(CWD, &spare, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // The first time, or a file system that cannot exchange.
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(&spare, path)?,
        Err(error) => return Err(error.into()),
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()?;
    // For the next time. Without room for it now there may be some then.
    if fs::metadata(&spare).map_or(0, |spare| spare.len()) < LENGTH as u64 {
        let _ = fill(&spare, b"");
    }
    Ok(())
}

fn spare_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn fill(spare: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(spare)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut padded = text.to_vec();
    padded.resize(length.max(LENGTH).max(text.len()), b'\n');
    file.write_all(&padded)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_its_spare_keeps_its_space() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("file.json");
        for text in [&b"first"[..], &[b'x'; 20_000], b"third"] {
            replace(&path, text)?;
            assert_eq!(fs::read(&path)?.trim_ascii_end(), text);
            assert!(fs::metadata(spare_of(&path))?.len() >= LENGTH as u64);
        }
        Ok(())
    }

    #[test]
    fn a_short_file_of_an_earlier_release_gets_its_space_after_the_first_time() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("file.json");
        fs::write(&path, b"old")?;
        replace(&path, b"new")?;
        assert_eq!(fs::read(&path)?.trim_ascii_end(), b"new");
        assert_eq!(fs::metadata(spare_of(&path))?.len(), LENGTH as u64);
        Ok(())
    }
}
