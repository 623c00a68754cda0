//! Comparison of two directory trees in everything that replication keeps equal: names, types, contents, sizes,
//! modes, owners, modification times, extended attributes (ACLs among them), hard links, holes.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::apply::attributes::{Inode, opens_fully};
use crate::op::Meta;
use crate::resync::extents::{merged, segments};
use crate::resync::sums::read_up_to;

/// Differences listed before the comparison stops: by then the trees are known to be unequal.
pub const MOST_DIFFERENCES: usize = 1000;

/// The differences between two trees, one a line, each with its path; empty when they are equal.
///
/// # Errors
/// A root that is no directory, or an I/O error. What vanishes while it is being compared counts as missing.
pub fn compare_trees(a: &Path, b: &Path) -> io::Result<Vec<String>> {
    let (a, b) = (open_directory(CWD, a)?, open_directory(CWD, b)?);
    let mut comparison = Comparison::default();
    comparison.directories(&a, &b, Path::new(""))?;
    Ok(comparison.differences)
}

#[derive(Default)]
struct Comparison {
    differences: Vec<String>,
    /// First path of each inode with several links, on either side.
    links: [HashMap<(u64, u64), PathBuf>; 2],
}

impl Comparison {
    fn differ(&mut self, path: &Path, what: &str) {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.differences.push(format!("{path:?}: {what}"));
    }

    fn full(&self) -> bool {
        self.differences.len() >= MOST_DIFFERENCES
    }

    fn directories(&mut self, a: &OwnedFd, b: &OwnedFd, path: &Path) -> io::Result<()> {
        let kind = FileType::Directory;
        self.metas(&Inode::new(a, kind).meta()?, &Inode::new(b, kind).meta()?, path);
        let (in_a, in_b) = (names(a)?, names(b)?);
        for name in in_a.union(&in_b) {
            if self.full() {
                return Ok(());
            }
            let path = path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
            match (in_a.contains(name), in_b.contains(name)) {
                (true, false) => self.differ(&path, "only in the first tree"),
                (false, true) => self.differ(&path, "only in the second tree"),
                _ => self.entries(a, b, name, &path)?,
            }
        }
        Ok(())
    }

    fn entries(&mut self, a: &OwnedFd, b: &OwnedFd, name: &[u8], path: &Path) -> io::Result<()> {
        let (Some((a, kind)), Some((b, other))) = (open_entry(a, name)?, open_entry(b, name)?) else {
            self.differ(path, "vanished during the comparison");
            return Ok(());
        };
        if kind != other {
            self.differ(path, &format!("type {kind:?} != {other:?}"));
            return Ok(());
        }
        if kind == FileType::Directory {
            return self.directories(&a, &b, path);
        }
        self.metas(&Inode::new(&a, kind).meta()?, &Inode::new(&b, kind).meta()?, path);
        self.hard_links(&a, &b, path)?;
        if kind == FileType::Symlink {
            let (to, other) = (readlinkat(&a, "", Vec::new())?, readlinkat(&b, "", Vec::new())?);
            if to != other {
                self.differ(path, &format!("target {to:?} != {other:?}"));
            }
        } else if kind == FileType::RegularFile {
            self.contents(&a, &b, path)?;
        }
        Ok(())
    }

    fn metas(&mut self, a: &Meta, b: &Meta, path: &Path) {
        if a.mode != b.mode {
            self.differ(path, &format!("mode {:o} != {:o}", a.mode, b.mode));
        }
        if (a.uid, a.gid) != (b.uid, b.gid) {
            self.differ(path, &format!("owner {}:{} != {}:{}", a.uid, a.gid, b.uid, b.gid));
        }
        if a.mtime != b.mtime {
            let (a, b) = (a.mtime, b.mtime);
            self.differ(path, &format!("mtime {}.{:09} != {}.{:09}", a.sec, a.nsec, b.sec, b.nsec));
        }
        if a.rdev != b.rdev {
            self.differ(path, &format!("device {:#x} != {:#x}", a.rdev, b.rdev));
        }
        if a.xattrs != b.xattrs {
            let only = |x: &Meta, y: &Meta| {
                let differing = x.xattrs.iter().filter(|xattr| !y.xattrs.contains(xattr));
                differing.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
            };
            self.differ(path, &format!("extended attributes {:?} != {:?}", only(a, b), only(b, a)));
        }
    }

    fn hard_links(&mut self, a: &OwnedFd, b: &OwnedFd, path: &Path) -> io::Result<()> {
        let mut first = [path.to_path_buf(), path.to_path_buf()];
        for ((file, links), first) in [a, b].into_iter().zip(&mut self.links).zip(&mut first) {
            let stat = fstat(file)?;
            if stat.st_nlink > 1 {
                *first = links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_path_buf()).clone();
            }
        }
        let [first_a, first_b] = first;
        if first_a != first_b {
            self.differ(path, &format!("hard link to {first_a:?} != {first_b:?}"));
        }
        Ok(())
    }

    fn contents(&mut self, a: &OwnedFd, b: &OwnedFd, path: &Path) -> io::Result<()> {
        let size = u64::try_from(fstat(a)?.st_size).unwrap_or(0);
        let other = u64::try_from(fstat(b)?.st_size).unwrap_or(0);
        if size != other {
            self.differ(path, &format!("size {size} != {other}"));
            return Ok(());
        }
        let (allocated, others) = (merged(&segments(a, 0, size)?), merged(&segments(b, 0, size)?));
        let mut buffers = [vec![0; 256 << 10], vec![0; 256 << 10]];
        let mut at = 0;
        while at < size {
            let mut got = [0, 0];
            for ((file, buffer), got) in [a, b].into_iter().zip(&mut buffers).zip(&mut got) {
                *got = read_up_to(file, buffer, at)?;
            }
            let [x, y] = [&buffers[0][..got[0]], &buffers[1][..got[1]]];
            if x != y {
                let same = x.iter().zip(y).take_while(|(x, y)| x == y).count();
                self.differ(path, &format!("contents differ at byte {}", at + same as u64));
                return Ok(());
            }
            if x.is_empty() {
                break;
            }
            at += x.len() as u64;
        }
        if allocated != others {
            self.differ(path, &format!("allocated ranges {allocated:?} != {others:?}"));
        }
        Ok(())
    }
}

fn open_directory(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

fn open_entry(directory: &OwnedFd, name: &[u8]) -> io::Result<Option<(OwnedFd, FileType)>> {
    let kind = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let flags = if opens_fully(kind) { OFlags::RDONLY | OFlags::NOATIME } else { OFlags::PATH };
    match openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some((fd, kind))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn names(directory: &OwnedFd) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}
