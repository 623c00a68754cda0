//! How much a comparison of everything has to do: names and sizes are counted beside it, contents are not read.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use crate::journal::changes::{entries, open_directory};

/// What a volume has: bytes of its regular files, each counted once however many names it has; names of everything but
/// directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub bytes: u64,
    pub files: u64,
}

/// Count below `root`; `None` when `stop` was set meanwhile. What is removed meanwhile does not count.
pub fn count(root: BorrowedFd<'_>, stop: &AtomicBool) -> io::Result<Option<Total>> {
    let device = fstat(root)?.st_dev;
    let mut total = Total::default();
    let mut several = HashSet::new();
    // Each open directory is shared by all that were found in it.
    let mut directories: Vec<(Rc<OwnedFd>, Vec<u8>)> = Vec::new();
    let mut next = open_directory(root, b"")?;
    while let Some(directory) = next.map(Rc::new) {
        for entry in entries(directory.as_fd())? {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let stat = match statat(&*directory, &*entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if stat.st_dev != device {
                // What is mounted inside the volume is not part of it.
                continue;
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => directories.push((Rc::clone(&directory), entry.name)),
                FileType::RegularFile => {
                    total.files += 1;
                    if stat.st_nlink == 1 || several.insert(stat.st_ino) {
                        total.bytes += u64::try_from(stat.st_size).unwrap_or(0);
                    }
                }
                _ => total.files += 1,
            }
        }
        next = None;
        while let (None, Some((parent, name))) = (&next, directories.pop()) {
            next = open_directory(parent.as_fd(), &name)?;
        }
    }
    Ok(Some(total))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bytes_are_counted_once_and_names_each() -> io::Result<()> {
        let top = tempfile::tempdir()?;
        let path = |name: &str| top.path().join(name);
        fs::create_dir_all(path("d/e/f"))?;
        for (name, size) in [("one", 10), ("d/two", 20_000), ("d/e/f/three", 0)] {
            fs::write(path(name), vec![1; size])?;
        }
        fs::hard_link(path("one"), path("d/e/also one"))?;
        std::os::unix::fs::symlink("nowhere", path("link"))?;
        let root = fs::File::open(top.path())?;
        let total = count(root.as_fd(), &AtomicBool::new(false))?;
        assert_eq!(total, Some(Total { bytes: 20_010, files: 5 }));
        assert_eq!(count(root.as_fd(), &AtomicBool::new(true))?, None);
        Ok(())
    }
}
