//! A primary without FUSE: does operations on a directory of its own and says what it did, as the engine would.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use _mirrorfs::apply::attributes::{Inode, opens_fully};
use _mirrorfs::op::{Meta, Oid, Op, Place, Time};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags, fallocate, linkat, mknodat, openat,
    renameat_with, setxattr, symlinkat, unlinkat,
};

use crate::lab::Primary;

/// splitmix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }
}

pub fn time(path: &Path) -> Time {
    let stat = rustix::fs::lstat(path).unwrap();
    Time { sec: stat.st_mtime as i64, nsec: stat.st_mtime_nsec as u32 }
}

pub fn open(path: &Path) -> (OwnedFd, FileType) {
    let kind = FileType::from_raw_mode(rustix::fs::lstat(path).unwrap().st_mode);
    let flags = if opens_fully(kind) { OFlags::RDONLY } else { OFlags::PATH };
    (openat(CWD, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap(), kind)
}

pub fn meta(path: &Path) -> Meta {
    let (fd, kind) = open(path);
    Inode::new(&fd, kind).meta().unwrap()
}

/// An access ACL: owner rw, user 1234 r, group r, mask r, other none (the kernel's format, version 2).
pub fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

/// What the primary knows of its tree.
pub struct Model {
    root: PathBuf,
    next: Oid,
    /// Names of everything, in relative paths; `""` is the root.
    pub directories: BTreeMap<PathBuf, Oid>,
    pub files: BTreeMap<PathBuf, Oid>,
    /// Open files without a name.
    pub unnamed: Vec<(File, Oid)>,
}

impl Model {
    /// Starts with the (empty) root as object 1.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            next: 2,
            directories: BTreeMap::from([(PathBuf::new(), 1)]),
            files: BTreeMap::new(),
            unnamed: Vec::new(),
        }
    }

    fn new_oid(&mut self) -> Oid {
        self.next += 1;
        self.next - 1
    }

    pub fn full(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    pub fn place(&self, path: &Path) -> Place {
        let parent = self.directories[path.parent().unwrap_or(Path::new(""))];
        Place { parent, name: path.file_name().unwrap().as_bytes().to_vec() }
    }

    fn parent_time(&self, path: &Path) -> Time {
        time(self.full(path).parent().unwrap())
    }

    pub fn create(&mut self, primary: &mut Primary, path: &Path, kind: FileType) {
        let full = self.full(path);
        match kind {
            FileType::Directory => std::fs::create_dir(&full).unwrap(),
            FileType::RegularFile => drop(File::create_new(&full).unwrap()),
            FileType::Symlink => symlinkat(b"some/target".as_slice(), CWD, &full).unwrap(),
            kind => mknodat(CWD, &full, kind, Mode::from_raw_mode(0o640), rustix::fs::makedev(7, 99)).unwrap(),
        }
        let oid = self.new_oid();
        let (at, meta, dir_mtime) = (self.place(path), meta(&full), self.parent_time(path));
        primary.send(&match kind {
            FileType::Directory => Op::Mkdir { oid, at, meta, dir_mtime },
            FileType::Symlink => Op::Symlink { oid, at, target: b"some/target".to_vec(), meta, dir_mtime },
            _ => Op::Create { oid, at, meta, dir_mtime },
        });
        let table = if kind == FileType::Directory { &mut self.directories } else { &mut self.files };
        table.insert(path.to_owned(), oid);
    }

    pub fn write(&mut self, primary: &mut Primary, path: &Path, offset: u64, data: &[u8]) {
        let full = self.full(path);
        File::options().write(true).open(&full).unwrap().write_all_at(data, offset).unwrap();
        let (oid, mtime) = (self.files[path], time(&full));
        primary.send(&Op::Write { oid, offset, data: Cow::Borrowed(data), mtime });
    }

    /// `open`: the application keeps the file open.
    pub fn unlink(&mut self, primary: &mut Primary, path: &Path, open: bool) {
        let full = self.full(path);
        let oid = self.files.remove(path).unwrap();
        let regular = rustix::fs::lstat(&full).is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_file());
        let kept = (open && regular).then(|| File::options().read(true).write(true).open(&full).unwrap());
        unlinkat(CWD, &full, AtFlags::empty()).unwrap();
        let keep = if kept.is_some() { oid } else { 0 };
        primary.send(&Op::Unlink { at: self.place(path), keep, dir_mtime: self.parent_time(path) });
        self.unnamed.extend(kept.map(|file| (file, oid)));
    }

    pub fn rename(&mut self, primary: &mut Primary, from: &Path, to: &Path, flags: RenameFlags) {
        renameat_with(CWD, self.full(from), CWD, self.full(to), flags).unwrap();
        primary.send(&Op::Rename {
            from: self.place(from),
            to: self.place(to),
            flags: flags.bits(),
            keep: 0,
            from_mtime: self.parent_time(from),
            to_mtime: self.parent_time(to),
        });
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        for table in [&mut self.files, &mut self.directories] {
            let mut moved = BTreeMap::new();
            table.retain(|path, oid| {
                let target = if let Ok(rest) = path.strip_prefix(from) {
                    Some(join(to, rest))
                } else if let Ok(rest) = path.strip_prefix(to) {
                    if exchange { Some(join(from, rest)) } else { None }
                } else {
                    return true;
                };
                moved.extend(target.map(|target| (target, *oid)));
                false
            });
            table.extend(moved);
        }
    }

    /// One random operation, locally and on the stream.
    pub fn step(&mut self, primary: &mut Primary, random: &mut Random) {
        let directories: Vec<PathBuf> = self.directories.keys().cloned().collect();
        let files: Vec<PathBuf> = self.files.keys().cloned().collect();
        let regular: Vec<PathBuf> =
            files.iter().filter(|path| self.full(path).symlink_metadata().unwrap().is_file()).cloned().collect();
        let parent = random.pick(&directories).unwrap().clone();
        let fresh = parent.join(std::ffi::OsStr::from_bytes(
            &[b"n\xff"[..].to_vec(), random.next().to_string().into_bytes()].concat(),
        ));
        match random.below(20) {
            0..3 => {
                let kinds = [
                    FileType::RegularFile,
                    FileType::RegularFile,
                    FileType::RegularFile,
                    FileType::Symlink,
                    FileType::Fifo,
                    FileType::Socket,
                    FileType::CharacterDevice,
                ];
                self.create(primary, &fresh, *random.pick(&kinds).unwrap());
            }
            3 => self.create(primary, &fresh, FileType::Directory),
            4..9 => {
                if let Some(path) = random.pick(&regular) {
                    let (offset, len) = (random.below(300_000), random.below(70_000) + 1);
                    let data = random.bytes(len);
                    self.write(primary, path, offset, &data);
                }
            }
            9 => {
                if let Some(path) = random.pick(&regular) {
                    let size = random.below(300_000);
                    File::options().write(true).open(self.full(path)).unwrap().set_len(size).unwrap();
                    primary.send(&Op::Truncate { oid: self.files[path], size, mtime: time(&self.full(path)) });
                }
            }
            10 => {
                if let Some(path) = random.pick(&regular) {
                    let flags = *random
                        .pick(&[
                            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                            FallocateFlags::ZERO_RANGE,
                            FallocateFlags::empty(),
                        ])
                        .unwrap();
                    let (offset, len) = (random.below(64) * 4096, (random.below(16) + 1) * 4096);
                    let file = File::options().write(true).open(self.full(path)).unwrap();
                    fallocate(&file, flags, offset, len).unwrap();
                    primary.send(&Op::Fallocate {
                        oid: self.files[path],
                        mode: flags.bits(),
                        offset,
                        len,
                        mtime: time(&self.full(path)),
                    });
                }
            }
            11 => {
                if let Some(path) = random.pick(&files) {
                    let to = fresh.clone();
                    linkat(CWD, self.full(path), CWD, self.full(&to), AtFlags::empty()).unwrap();
                    let oid = self.files[path];
                    primary.send(&Op::Link { oid, at: self.place(&to), dir_mtime: self.parent_time(&to) });
                    self.files.insert(to, oid);
                }
            }
            12 => {
                if let Some(path) = random.pick(&files) {
                    self.unlink(primary, path, random.below(2) == 0);
                }
            }
            13..15 => {
                if let (Some(from), Some(to)) = (random.pick(&files), random.pick(&files)) {
                    let to = if random.below(2) == 0 { to } else { &fresh };
                    let same = stat_key(&self.full(from)) == stat_key(&self.full(to));
                    let flags =
                        if to != &fresh && random.below(2) == 0 { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
                    if !same {
                        self.rename(primary, from, to, flags);
                    }
                }
            }
            15 => {
                if let Some(from) = random.pick(&directories) {
                    if !from.as_os_str().is_empty() && !fresh.starts_with(from) {
                        self.rename(primary, from, &fresh, RenameFlags::empty());
                    }
                }
            }
            16 => self.attribute(primary, random, &files),
            17 => {
                let empty = directories.iter().find(|path| {
                    !path.as_os_str().is_empty() && std::fs::read_dir(self.full(path)).unwrap().next().is_none()
                });
                if let Some(path) = empty {
                    std::fs::remove_dir(self.full(path)).unwrap();
                    primary.send(&Op::Rmdir { at: self.place(path), dir_mtime: self.parent_time(path) });
                    self.directories.remove(path);
                }
            }
            18 => {
                let file = File::from(
                    openat(CWD, self.full(&parent), OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600))
                        .unwrap(),
                );
                let oid = self.new_oid();
                let meta = Inode::new(&file, FileType::RegularFile).meta().unwrap();
                primary.send(&Op::Tmpfile { oid, parent: self.directories[&parent], meta });
                self.unnamed.push((file, oid));
            }
            _ => self.unnamed_step(primary, random, &fresh),
        }
    }

    fn attribute(&mut self, primary: &mut Primary, random: &mut Random, files: &[PathBuf]) {
        let Some(path) = random.pick(files) else { return };
        let full = self.full(path);
        let oid = self.files[path];
        let (fd, kind) = open(&full);
        let inode = Inode::new(&fd, kind);
        match random.below(5) {
            0 if kind != FileType::Symlink => {
                let mode = random.below(0o10000) as u32;
                inode.set_mode(mode).unwrap();
                primary.send(&Op::Chmod { oid, mode });
            }
            1 => {
                let (uid, gid) = (random.below(70_000) as u32, random.below(70_000) as u32);
                inode.set_owner(uid, gid).unwrap();
                primary.send(&Op::Chown { oid, uid, gid, mode: meta(&full).mode });
            }
            2 => {
                let mtime =
                    Time { sec: random.below(1 << 33) as i64 - (1 << 31), nsec: random.below(1_000_000_000) as u32 };
                inode.set_mtime(mtime).unwrap();
                primary.send(&Op::Mtime { oid, mtime });
            }
            3 if kind == FileType::RegularFile => {
                let (name, value) = (b"user.\xffname".to_vec(), random.bytes(40));
                setxattr(&full, name.as_slice(), &value, XattrFlags::empty()).unwrap();
                primary.send(&Op::SetXattr { oid, name, value, mode: meta(&full).mode });
            }
            _ if kind == FileType::RegularFile => {
                let (name, value) = (b"system.posix_acl_access".to_vec(), acl());
                setxattr(&full, name.as_slice(), &value, XattrFlags::empty()).unwrap();
                primary.send(&Op::SetXattr { oid, name, value, mode: meta(&full).mode });
            }
            _ => {}
        }
    }

    /// Something with a file that has no name: write, name it, or close it.
    fn unnamed_step(&mut self, primary: &mut Primary, random: &mut Random, fresh: &Path) {
        if self.unnamed.is_empty() {
            return;
        }
        let index = random.below(self.unnamed.len() as u64) as usize;
        let oid = self.unnamed[index].1;
        let linkable = rustix::fs::fstat(&self.unnamed[index].0).unwrap().st_nlink > 0;
        match random.below(3) {
            0 => {
                let data = random.bytes(5000);
                self.unnamed[index].0.write_all_at(&data, 100).unwrap();
                let mtime = Inode::new(&self.unnamed[index].0, FileType::RegularFile).meta().unwrap().mtime;
                primary.send(&Op::Write { oid, offset: 100, data: Cow::Owned(data), mtime });
            }
            1 => {
                let named = linkat(&self.unnamed[index].0, "", CWD, self.full(fresh), AtFlags::EMPTY_PATH);
                if named.is_ok() {
                    primary.send(&Op::Link { oid, at: self.place(fresh), dir_mtime: self.parent_time(fresh) });
                    self.files.insert(fresh.to_owned(), oid);
                    self.unnamed.remove(index);
                }
            }
            _ => {
                self.unnamed.remove(index);
                if !linkable && !self.files.values().any(|other| *other == oid) {
                    primary.send(&Op::Forget { oid });
                }
            }
        }
    }
}

fn join(base: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { base.to_owned() } else { base.join(rest) }
}

fn stat_key(path: &Path) -> Option<(u64, u64)> {
    rustix::fs::lstat(path).ok().map(|stat| (stat.st_dev, stat.st_ino))
}
