//! A resynchronisation makes any tree equal to the primary's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use _mirrorfs::op::{BlockSum, Oid, Op, SyncEntry};
use _mirrorfs::resync::extents::segments;
use _mirrorfs::resync::sums::{SUM_BLOCK, block_sums};
use _mirrorfs::tree::compare_trees;
use _mirrorfs::wire::Message;
use _mirrorfs::wire::handshake::BeginKind;
use rustix::fs::{FileType, XattrFlags, setxattr};

use crate::lab::{Lab, Primary};
use crate::model::{Random, acl, meta};
use crate::operations::assert_equal;

/// A source that sends a whole tree, block by block where the sums differ.
pub struct Source<'a> {
    pub primary: &'a mut Primary,
    pub oids: HashMap<(u64, u64), Oid>,
    /// Bytes of contents that had to be sent.
    pub sent: u64,
    /// Entries per `SyncDir`.
    pub piece: usize,
}

impl<'a> Source<'a> {
    pub fn new(primary: &'a mut Primary) -> Self {
        Self { primary, oids: HashMap::new(), sent: 0, piece: 3 }
    }

    pub fn tree(&mut self, root: &Path) {
        self.primary.send(&Op::BindRoot { oid: 1, volume: 0 });
        self.directory(root, 1);
        self.primary.settle();
    }

    fn oid(&mut self, path: &Path) -> (Oid, bool) {
        let stat = fs::symlink_metadata(path).unwrap();
        let next = self.oids.len() as Oid + 2;
        let oid = *self.oids.entry((stat.dev(), stat.ino())).or_insert(next);
        (oid, oid == next)
    }

    fn directory(&mut self, path: &Path, oid: Oid) {
        let mut paths: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let mut entries = Vec::new();
        let mut new = Vec::new();
        for path in &paths {
            let (oid, first) = self.oid(path);
            let stat = fs::symlink_metadata(path).unwrap();
            entries.push(SyncEntry {
                name: path.file_name().unwrap().as_bytes().to_vec(),
                oid,
                meta: meta(path),
                target: fs::read_link(path).map(|target| target.as_os_str().as_bytes().to_vec()).unwrap_or_default(),
                size: if stat.is_file() { stat.len() } else { 0 },
            });
            new.push((path.clone(), oid, first));
        }
        let pieces: Vec<_> =
            if entries.is_empty() { vec![Vec::new()] } else { entries.chunks(self.piece).map(<[_]>::to_vec).collect() };
        let count = pieces.len();
        let mut sizes = Vec::new();
        for (index, entries) in pieces.into_iter().enumerate() {
            let seq = self.primary.send(&Op::SyncDir { oid, meta: meta(path), entries, more: index + 1 < count });
            self.primary.settle();
            sizes.extend(
                self.primary
                    .others
                    .drain(..)
                    .filter_map(|message| match message {
                        Message::DirState { seq: at, sizes } if at == seq => Some(sizes),
                        _ => None,
                    })
                    .flatten(),
            );
        }
        assert_eq!(sizes.len(), new.len());
        for ((path, oid, first), there) in new.into_iter().zip(sizes) {
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() {
                self.directory(&path, oid);
            } else if stat.is_file() && first {
                self.file(&path, oid, there);
            }
        }
    }

    fn file(&mut self, path: &Path, oid: Oid, there: u64) {
        let file = File::open(path).unwrap();
        let (size, sums) = block_sums(&file, 0, file.metadata().unwrap().len()).unwrap();
        self.primary.send(&Op::SyncSize { oid, size });
        let theirs = if there == 0 { vec![BlockSum::Hole; sums.len()] } else { self.sums(oid, size) };
        assert_eq!(theirs.len(), sums.len());
        for (index, (mine, theirs)) in sums.iter().zip(&theirs).enumerate() {
            if mine != theirs {
                self.block(&file, oid, index as u64 * SUM_BLOCK, size);
            }
        }
        self.primary.send(&Op::SyncMeta { oid, meta: meta(path) });
        self.primary.settle();
    }

    fn sums(&mut self, oid: Oid, size: u64) -> Vec<BlockSum> {
        self.primary.settle();
        self.primary.say(&Message::SumsRequest { id: oid, oid, offset: 0, len: size });
        loop {
            match self.primary.receive() {
                Some(Message::Sums { id, known: true, sums, .. }) if id == oid => return sums,
                Some(Message::Ack { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn block(&mut self, file: &File, oid: Oid, start: u64, size: u64) {
        let end = (start + SUM_BLOCK).min(size);
        let mut at = start;
        for segment in segments(file, start, end).unwrap() {
            if segment.start > at {
                self.primary.send(&Op::SyncHole { oid, offset: at, len: segment.start - at });
            }
            let (offset, len) = (segment.start, segment.end - segment.start);
            if segment.zeros {
                self.primary.send(&Op::SyncPrealloc { oid, offset, len });
            } else {
                let mut data = vec![0; len as usize];
                file.read_exact_at(&mut data, offset).unwrap();
                self.sent += len;
                self.primary.send(&Op::SyncBlock { oid, offset, data: Cow::Owned(data) });
            }
            at = segment.end;
        }
        if end > at {
            self.primary.send(&Op::SyncHole { oid, offset: at, len: end - at });
        }
    }
}

/// A tree with one of everything.
pub fn everything(root: &Path) {
    fs::create_dir_all(root.join("dir/deep")).unwrap();
    fs::write(root.join("dir/text"), b"hello").unwrap();
    fs::hard_link(root.join("dir/text"), root.join("linked")).unwrap();
    fs::hard_link(root.join("dir/text"), root.join("dir/deep/linked too")).unwrap();
    symlink("dir/text", root.join("symlink")).unwrap();
    symlink("nowhere", root.join("dir/dangling")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(&Random(3).bytes(10_000), 200_000).unwrap();
    sparse.write_all_at(b"end", (2 << 20) + 5).unwrap();
    let preallocated = File::create(root.join("preallocated")).unwrap();
    rustix::fs::fallocate(&preallocated, rustix::fs::FallocateFlags::empty(), 0, 500_000).unwrap();
    preallocated.write_all_at(b"written", 100_000).unwrap();
    fs::write(root.join("big"), Random(4).bytes(700_001)).unwrap();
    fs::write(root.join("zeros"), vec![0; 200_000]).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    for (name, kind) in [("fifo", FileType::Fifo), ("socket", FileType::Socket), ("device", FileType::BlockDevice)] {
        let device = if kind == FileType::BlockDevice { rustix::fs::makedev(7, 200) } else { 0 };
        rustix::fs::mknodat(rustix::fs::CWD, root.join(name), kind, rustix::fs::Mode::from_raw_mode(0o640), device)
            .unwrap();
    }
    std::os::unix::fs::chown(root.join("dir"), Some(26), Some(27)).unwrap();
    std::os::unix::fs::lchown(root.join("symlink"), Some(1000), Some(1001)).unwrap();
    rustix::fs::chmod(root.join("big"), rustix::fs::Mode::from_raw_mode(0o6751)).unwrap();
    setxattr(root.join("big"), "user.note", b"value", XattrFlags::empty()).unwrap();
    setxattr(root.join("dir"), "trusted.big", &vec![7; 2000], XattrFlags::empty()).unwrap();
    setxattr(root.join("empty"), "system.posix_acl_access", &acl(), XattrFlags::empty()).unwrap();
    setxattr(root.join("dir/deep"), "system.posix_acl_default", &acl(), XattrFlags::empty()).unwrap();
    fs::write(root.join("dir/deep/\u{e4}\u{f6}"), b"under a default ACL").unwrap();
    fs::create_dir(root.join(std::ffi::OsStr::from_bytes(b"\xfe\xff"))).unwrap();
}

pub fn synchronise(lab: &Lab, begin: BeginKind) -> u64 {
    let (mut primary, _) = lab.connect();
    lab.begin(&mut primary, begin).unwrap();
    let mut source = Source::new(&mut primary);
    source.tree(&lab.source());
    let sent = source.sent;
    primary.run(&Op::SyncDone { lineage: lab.lineage() });
    sent
}

const FULL: BeginKind = BeginKind::Full { discard: None };

#[test]
fn an_empty_target_becomes_equal() {
    let lab = Lab::new();
    everything(&lab.source());
    synchronise(&lab, FULL);
    assert_equal(&lab);
    assert!(lab.status().in_sync);
}

#[test]
fn equal_contents_do_not_cross_the_network_again() {
    let lab = Lab::new();
    everything(&lab.source());
    synchronise(&lab, FULL);
    assert_eq!(synchronise(&lab, FULL), 0);
    File::options().write(true).open(lab.source().join("big")).unwrap().write_all_at(b"changed", 300_000).unwrap();
    assert_eq!(synchronise(&lab, FULL), SUM_BLOCK);
    assert_equal(&lab);
}

#[test]
fn every_kind_of_difference_is_mended() {
    let lab = Lab::new();
    everything(&lab.source());
    synchronise(&lab, FULL);
    let there = lab.backing();
    // Another type, another target, another device.
    fs::remove_file(there.join("big")).unwrap();
    fs::create_dir(there.join("big")).unwrap();
    fs::write(there.join("big/in the way"), b"x").unwrap();
    fs::remove_file(there.join("symlink")).unwrap();
    symlink("elsewhere", there.join("symlink")).unwrap();
    fs::remove_dir_all(there.join("dir/deep")).unwrap();
    fs::write(there.join("dir/deep"), b"a file now").unwrap();
    // Links that should not be, and links that are missing.
    fs::remove_file(there.join("empty")).unwrap();
    fs::hard_link(there.join("zeros"), there.join("empty")).unwrap();
    fs::remove_file(there.join("linked")).unwrap();
    fs::write(there.join("linked"), b"hello").unwrap();
    // Contents, sizes, holes, attributes.
    fs::write(there.join("zeros"), b"short").unwrap();
    fs::write(there.join("sparse"), vec![0; 4 << 20]).unwrap();
    fs::write(there.join("surplus"), b"x").unwrap();
    fs::create_dir_all(there.join("surplus directory/deeper")).unwrap();
    setxattr(there.join("dir"), "user.surplus", b"1", XattrFlags::empty()).unwrap();
    std::os::unix::fs::chown(there.join("dir/text"), Some(5), Some(5)).unwrap();
    assert!(compare_trees(&lab.source(), &there).unwrap().len() > 10);
    synchronise(&lab, FULL);
    assert_equal(&lab);
}

#[test]
fn random_trees_become_equal_to_each_other() {
    for seed in 0..6 {
        let lab = Lab::new();
        let mut random = Random(seed);
        random_tree(&lab.source(), &mut random);
        synchronise(&lab, FULL);
        assert_equal(&lab);
        fs::remove_dir_all(lab.source()).unwrap();
        fs::create_dir(lab.source()).unwrap();
        random_tree(&lab.source(), &mut random);
        synchronise(&lab, FULL);
        assert_equal(&lab);
    }
}

/// Few names, so that two such trees collide in every way.
fn random_tree(root: &Path, random: &mut Random) {
    let mut directories = vec![root.to_owned()];
    let mut files = Vec::new();
    for _ in 0..60 {
        let path = random.pick(&directories).unwrap().join(random.below(8).to_string());
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match random.below(6) {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                directories.push(path);
            }
            2 => symlink(random.below(3).to_string(), &path).unwrap(),
            3 if !files.is_empty() => fs::hard_link(random.pick::<std::path::PathBuf>(&files).unwrap(), &path).unwrap(),
            _ => {
                let file = File::create(&path).unwrap();
                for _ in 0..random.below(4) {
                    let len = random.below(5000);
                    file.write_all_at(&random.bytes(len), random.below(400_000)).unwrap();
                }
                files.push(path);
            }
        }
    }
}

#[test]
fn an_interrupted_resynchronisation_goes_on() {
    let lab = Lab::new();
    everything(&lab.source());
    let (mut primary, _) = lab.connect();
    lab.begin(&mut primary, FULL).unwrap();
    let mut source = Source::new(&mut primary);
    source.tree(&lab.source());
    drop(primary);
    lab.until("disconnected", |status| !status.connected);
    assert!(!lab.status().in_sync);
    let (mut primary, state) = lab.connect();
    assert!(!state.in_sync);
    primary.seq = state.applied;
    primary.acked = state.applied;
    lab.begin(&mut primary, BeginKind::Resume).unwrap();
    primary.run(&Op::SyncDone { lineage: lab.lineage() });
    assert_equal(&lab);
    assert!(lab.status().in_sync);
}

/// The primary removes the name by which the peer knows an object, and the walk comes to its other name only later.
#[test]
fn an_object_whose_known_names_are_gone_comes_back_at_its_next_name() {
    let lab = Lab::new();
    let source = lab.source();
    for name in ["a", "b"] {
        fs::create_dir(source.join(name)).unwrap();
    }
    fs::write(source.join("a/first"), b"contents").unwrap();
    symlink("target", source.join("a/link")).unwrap();
    let mut primary = lab.full();
    let entry = |path: &str, oid| {
        let path = source.join(path);
        SyncEntry {
            name: path.file_name().unwrap().as_bytes().to_vec(),
            oid,
            meta: meta(&path),
            target: fs::read_link(&path).map(|target| target.as_os_str().as_bytes().to_vec()).unwrap_or_default(),
            size: 0,
        }
    };
    let listing = |path: &str, oid, entries| Op::SyncDir { oid, meta: meta(&source.join(path)), entries, more: false };
    primary.send(&Op::BindRoot { oid: 1, volume: 0 });
    primary.send(&listing("", 1, vec![entry("a", 2), entry("b", 3)]));
    primary.send(&listing("a", 2, vec![entry("a/first", 4), entry("a/link", 5)]));
    primary.send(&Op::SyncSize { oid: 4, size: 8 });
    primary.send(&Op::SyncBlock { oid: 4, offset: 0, data: b"contents"[..].into() });
    primary.send(&Op::SyncMeta { oid: 4, meta: meta(&source.join("a/first")) });
    for (from, to, keep) in [("a/first", "b/second", 4), ("a/link", "b/link", 5)] {
        fs::rename(source.join(from), source.join(to)).unwrap();
        let name = Path::new(from).file_name().unwrap().as_bytes().to_vec();
        let at = _mirrorfs::op::Place { parent: 2, name };
        primary.send(&Op::Unlink { at, keep, dir_mtime: meta(&source.join("a")).mtime });
    }
    primary.send(&listing("b", 3, vec![entry("b/link", 5), entry("b/second", 4)]));
    primary.run(&Op::SyncDone { lineage: lab.lineage() });
    assert_equal(&lab);
}

/// The primary removes and replaces directories that are empty there, before their listings have come.
#[test]
fn a_directory_that_was_not_listed_yet_goes_with_what_is_in_it() {
    let lab = Lab::new();
    for name in ["removed", "replaced", "moved"] {
        fs::create_dir(lab.source().join(name)).unwrap();
    }
    synchronise(&lab, FULL);
    for name in ["removed", "replaced"] {
        fs::create_dir(lab.backing().join(name).join("surplus")).unwrap();
    }
    let mut primary = lab.full();
    let mut entries = Vec::new();
    for (oid, name) in (2..).zip(["removed", "replaced", "moved"]) {
        let meta = meta(&lab.source().join(name));
        entries.push(SyncEntry { name: name.into(), oid, meta, target: Vec::new(), size: 0 });
    }
    primary.send(&Op::BindRoot { oid: 1, volume: 0 });
    primary.send(&Op::SyncDir { oid: 1, meta: meta(&lab.source()), entries, more: false });
    fs::remove_dir(lab.source().join("removed")).unwrap();
    fs::rename(lab.source().join("moved"), lab.source().join("replaced")).unwrap();
    let at = |name: &str| _mirrorfs::op::Place { parent: 1, name: name.into() };
    let time = meta(&lab.source()).mtime;
    primary.send(&Op::Rmdir { at: at("removed"), dir_mtime: time });
    let (from, to) = (at("moved"), at("replaced"));
    primary.send(&Op::Rename { from, to, flags: 0, keep: 0, from_mtime: time, to_mtime: time });
    primary.run(&Op::SyncDone { lineage: lab.lineage() });
    assert_equal(&lab);
}
