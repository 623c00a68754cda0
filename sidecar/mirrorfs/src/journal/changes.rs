//! What the secondary's own journal says: told to the primary at the beginning of an incremental resynchronisation.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, getxattr, openat, readlinkat, statat};
use rustix::io::Errno;

use super::Journal;
use super::heat::{HotObject, Ranges, SMALL};
use crate::fs::{FileHandle, STAMP};

/// Entries of one `Change::Directory`; more come in several.
const ENTRIES: usize = 32 << 10;

/// A part of the secondary's tree that may differ because of what the secondary did itself, as primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A directory's entries and attributes. All its names, each with whether the entry itself may differ in anything.
    Directory { volume: u32, path: Vec<u8>, names: Vec<(Vec<u8>, bool)> },
    /// Ranges of a regular file, and its attributes.
    File { volume: u32, path: Vec<u8>, ranges: Ranges },
}

/// Hot directories, each with the names in it that changed; `None`: any may have.
type Listed = HashMap<Vec<u8>, Option<HashSet<Box<[u8]>>>>;

/// A directory entry as the file system lists it.
pub struct Entry {
    pub name: Vec<u8>,
    pub inode: u64,
    pub kind: FileType,
}

/// All entries of a directory.
pub fn entries(directory: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(Entry { name: name.to_vec(), inode: entry.ino(), kind: entry.file_type() });
        }
    }
    Ok(entries)
}

/// Open a directory for listing; `None` when it is gone, or is none.
pub fn open_directory(at: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    match openat(at, path, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where the directory with this handle is, relative to the root; `None` when it is gone.
pub fn place_of(root: BorrowedFd<'_>, directory: &FileHandle) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match directory.open(root, flags) {
        Ok(fd) => fd,
        Err(Errno::STALE | Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stat = fstat(&fd)?;
    if stat.st_nlink == 0 {
        return Ok(None);
    }
    let path_of = |fd: BorrowedFd<'_>| readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
    let (base, path) = (path_of(root)?.into_bytes(), path_of(fd.as_fd())?.into_bytes());
    let relative = match path.strip_prefix(base.as_slice()) {
        Some([]) => Vec::new(),
        Some([b'/', relative @ ..]) => relative.to_vec(),
        _ => return Err(io::Error::other("a directory of the journal lies outside of its volume")),
    };
    // The path may be of a name that is gone, or hidden by something mounted over it.
    let there = open_directory(root, &relative)?.map(fstat).transpose()?;
    match there {
        Some(there) if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) => Ok(Some(relative)),
        _ => Err(io::Error::other("a directory of the journal is not where its path says")),
    }
}

/// `name` below `path`.
pub fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Whether the entry of a hot directory may be another than when the trees were equal, when only the journal's file
/// tells: names are not known then.
pub fn may_be_new(journal: &Journal, directory: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size as u64 <= SMALL),
        FileType::Directory => {
            let Some(inner) = open_directory(directory, name)? else { return Ok(true) };
            if is_stamped(journal, inner.as_fd())? {
                return Ok(true);
            }
            // Made just before the power went: the stamp may be missing where nothing is in it yet.
            Ok(entries(inner.as_fd())?.is_empty())
        }
        _ => Ok(true),
    }
}

fn is_stamped(journal: &Journal, directory: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0; 128];
    match getxattr(format!("/proc/self/fd/{}", directory.as_raw_fd()), STAMP, &mut value) {
        Ok(length) => Ok(journal.is_hot_stamp(&value[..length])),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Directories of the volume that have a name of one of these inodes, by their paths.
pub fn directories_with(root: BorrowedFd<'_>, inodes: &HashSet<u64>) -> io::Result<HashSet<Vec<u8>>> {
    let mut found = HashSet::new();
    let device = fstat(root)?.st_dev;
    let mut rest = vec![Vec::new()];
    while let Some(path) = rest.pop() {
        let Some(directory) = open_directory(root, &path)? else { continue };
        // What is mounted inside the volume is not part of it.
        if fstat(&directory)?.st_dev != device {
            continue;
        }
        for entry in entries(directory.as_fd())? {
            if inodes.contains(&entry.inode) {
                found.insert(path.clone());
            }
            let kind = if entry.kind == FileType::Unknown {
                FileType::from_raw_mode(statat(&directory, &*entry.name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            } else {
                entry.kind
            };
            if kind == FileType::Directory {
                rest.push(below(&path, &entry.name));
            }
        }
    }
    Ok(found)
}

/// Everything that is hot in this node's journal, as it is now. `roots`: of the volumes, in order.
pub fn changes(journal: &Journal, roots: &[OwnedFd]) -> io::Result<Vec<Change>> {
    let snapshot = journal.snapshot();
    let mut all = Vec::new();
    for (volume, root) in (0_u32..).zip(roots) {
        let root = root.as_fd();
        let (placed, several) = placed(root, snapshot.placed.iter().filter(|hot| hot.volume == volume))?;
        let mut listed = Listed::new();
        for hot in snapshot.directories.iter().filter(|hot| hot.volume == volume) {
            let Some(path) = place_of(root, &hot.directory)? else { continue };
            if hot.listing || hot.whole {
                listed.insert(path, (!hot.whole).then(|| hot.names.iter().cloned().collect()));
            } else {
                for name in &hot.names {
                    all.push(Change::File { volume, path: below(&path, name), ranges: vec![(0, u64::MAX)] });
                }
            }
        }
        for hot in snapshot.files.iter().filter(|hot| hot.volume == volume) {
            let Some(parent) = place_of(root, &hot.parent)? else { continue };
            let path = below(&parent, &hot.name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(root, path.as_slice(), flags, Mode::empty()) {
                // Another file has the name now: then the directory is hot as well.
                Ok(fd) if FileHandle::of(fd.as_fd())? != hot.file => {}
                Ok(_) => all.push(Change::File { volume, path, ranges: hot.ranges.clone() }),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !several.is_empty() {
            for path in directories_with(root, &several)? {
                listed.entry(path).or_insert_with(|| Some(HashSet::new()));
            }
        }
        list(journal, volume, root, &placed, &mut listed, &mut all)?;
    }
    Ok(all)
}

/// Inode numbers of the objects that are still there, and of those among them whose names must be searched for.
pub fn placed<'a>(
    root: BorrowedFd<'_>,
    hot: impl Iterator<Item = &'a HotObject>,
) -> io::Result<(HashSet<u64>, HashSet<u64>)> {
    let (mut placed, mut several) = (HashSet::new(), HashSet::new());
    for hot in hot {
        match hot.object.open(root, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
            Ok(fd) => {
                let inode = fstat(&fd)?.st_ino;
                placed.insert(inode);
                if hot.several {
                    several.insert(inode);
                }
            }
            Err(Errno::STALE | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((placed, several))
}

/// The listings of these directories, and of all others that have further names of the files in them.
fn list(
    journal: &Journal,
    volume: u32,
    root: BorrowedFd<'_>,
    placed: &HashSet<u64>,
    listed: &mut Listed,
    all: &mut Vec<Change>,
) -> io::Result<()> {
    let mut rest: Vec<Vec<u8>> = listed.keys().cloned().collect();
    let mut known = HashSet::new();
    while !rest.is_empty() {
        let mut several = HashSet::new();
        for path in std::mem::take(&mut rest) {
            let Some(directory) = open_directory(root, &path)? else { continue };
            let changed = listed.get(&path).and_then(Option::as_ref);
            let mut names = Vec::new();
            for entry in entries(directory.as_fd())? {
                let stat = match statat(&directory, &*entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                };
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let linked = stat.st_nlink > 1 && !is_directory;
                if linked && known.insert(stat.st_ino) {
                    several.insert(stat.st_ino);
                }
                let new = match changed {
                    Some(changed) => changed.contains(entry.name.as_slice()),
                    None => may_be_new(journal, directory.as_fd(), &entry.name, &stat)?,
                };
                names.push((entry.name, new || linked || placed.contains(&stat.st_ino)));
            }
            let mut parts: Vec<Vec<_>> = names.chunks(ENTRIES).map(<[_]>::to_vec).collect();
            if parts.is_empty() {
                parts.push(Vec::new());
            }
            all.extend(parts.into_iter().map(|names| Change::Directory { volume, path: path.clone(), names }));
        }
        if !several.is_empty() {
            for path in directories_with(root, &several)? {
                if !listed.contains_key(&path) {
                    listed.insert(path.clone(), Some(HashSet::new()));
                    rest.push(path);
                }
            }
        }
    }
    Ok(())
}

/// A path's components.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}
