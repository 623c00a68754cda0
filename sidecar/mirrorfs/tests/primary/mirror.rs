//! A primary without mounts, its link, and a secondary, all in this process. Either node can be either.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use _mirrorfs::authority::Authority;
use _mirrorfs::engine::{Events, Link, LinkConfig};
use _mirrorfs::fs::{Caller, Change, Core, Durability, Inode, New, NewTime};
use _mirrorfs::journal::{CAPACITY, Journal};
use _mirrorfs::lease::{Lease, boottime_ns};
use _mirrorfs::marker;
use _mirrorfs::op::Time;
use _mirrorfs::record::{Record, Store};
use _mirrorfs::stream::primary::{Stream, Window};
use _mirrorfs::stream::secondary::{Config, ResyncKind, Secondary, Volume};
use _mirrorfs::tree::compare_trees;
use _mirrorfs::wire::handshake::Identity;
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::model::{At, Step};

const CALLER: Caller = Caller { uid: 0, gid: 0, umask: 0o022 };
const TIMEOUT: Duration = Duration::from_secs(2);

/// One node's directories, and what a process has open of them.
struct Node {
    name: &'static str,
    base: PathBuf,
    store: Arc<Store>,
    journal: Arc<Journal>,
    /// The port stays free between two uses: nobody else asks for it by number.
    address: SocketAddr,
}

impl Node {
    fn new(name: &'static str, base: &Path) -> Self {
        let base = base.join(name);
        for directory in ["backing", "state"] {
            std::fs::create_dir_all(base.join(directory)).unwrap();
        }
        let (store, journal) = Self::open(name, &base);
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { name, base, store, journal, address }
    }

    fn open(name: &str, base: &Path) -> (Arc<Store>, Arc<Journal>) {
        let store = Arc::new(Store::open(&base.join("state"), "uid", name).unwrap());
        let journal = Journal::open(&base.join("state"), CAPACITY, Arc::clone(&store)).unwrap();
        (store, Arc::new(journal))
    }

    /// As a process does that starts after this one ended.
    fn reopen(&mut self) {
        (self.store, self.journal) = Self::open(self.name, &self.base);
    }

    fn backing(&self) -> PathBuf {
        self.base.join("backing")
    }
}

/// A primary at work.
struct Primary {
    core: Arc<Core>,
    link: Arc<Link>,
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.core.authority().lease().close();
        self.core.stream().abort();
        self.link.stop();
    }
}

/// Both nodes.
pub struct Mirror {
    nodes: Mutex<[Node; 2]>,
    /// Which of them is the primary.
    first: Mutex<usize>,
    durability: Durability,
    window: Window,
    primary: Mutex<Option<Primary>>,
    secondary: Mutex<Option<Secondary>>,
    open: Mutex<Option<Arc<Inode>>>,
    base: TempDir,
}

fn identity(node: &str, peer: &str) -> Identity {
    Identity {
        module_name: "test/module".to_owned(),
        module: "uid".to_owned(),
        node: node.to_owned(),
        peer: peer.to_owned(),
        key: vec![7; 32],
    }
}

impl Mirror {
    /// A primary that is alone and looks for its peer. Its window fills, so that this limit is met.
    pub fn new() -> Self {
        Self::with(Durability::Write, Window { bytes: 4 << 20, ops: 64 })
    }

    /// A primary whose operations return before its peer has them, however many there are.
    pub fn ahead_of_its_peer() -> Self {
        Self::with(Durability::Commit, Window { bytes: 64 << 20, ops: 100_000 })
    }

    fn with(durability: Durability, window: Window) -> Self {
        let base = tempfile::tempdir().unwrap();
        let nodes = [Node::new("a", base.path()), Node::new("b", base.path())];
        marker::set(&nodes[0].backing(), "uid").unwrap();
        nodes[0].store.create(Record::initial("uid", "a").unwrap()).unwrap();
        let mirror = Self {
            nodes: Mutex::new(nodes),
            first: Mutex::new(0),
            durability,
            window,
            primary: Mutex::default(),
            secondary: Mutex::default(),
            open: Mutex::default(),
            base,
        };
        mirror.start_primary();
        mirror
    }

    /// Alone.
    pub fn start_primary(&self) {
        let nodes = self.nodes.lock().unwrap();
        let first = *self.first.lock().unwrap();
        let (node, peer) = (&nodes[first], &nodes[1 - first]);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root: OwnedFd = openat(CWD, node.backing(), flags, Mode::empty()).unwrap();
        let lease = Arc::new(Lease::default());
        lease.renew(boottime_ns() + 3_600_000_000_000);
        let failed = Box::new(|error| panic!("{error}"));
        let authority = Arc::new(Authority::new(lease, Arc::clone(&node.store), failed, Box::new(|| ())));
        authority.assume(true).unwrap();
        let stream = Arc::new(Stream::new(self.window, Box::new(|| ())));
        // Few descriptors, so that this limit is met.
        let core = Arc::new(Core::new(vec![root], 4, stream, authority, self.durability).unwrap());
        core.keep_journal(Arc::clone(&node.journal));
        let config = LinkConfig {
            identity: identity(node.name, peer.name),
            addresses: vec![peer.address],
            volumes: vec!["data".to_owned()],
            connect_timeout: TIMEOUT,
            peer_timeout: TIMEOUT,
            resync_rate: 0,
            cooling: Duration::from_secs(3600),
        };
        let events = Arc::new(Events::new().unwrap());
        let link = Arc::new(Link::new(config, Arc::clone(&core), Arc::clone(&node.store), events, None));
        link.start().unwrap();
        *self.primary.lock().unwrap() = Some(Primary { core, link });
    }

    /// The primary's process ends as it is, and its successor finds what it left.
    pub fn kill_primary(&self) {
        *self.open.lock().unwrap() = None;
        *self.primary.lock().unwrap() = None;
        let first = *self.first.lock().unwrap();
        self.nodes.lock().unwrap()[first].reopen();
    }

    /// After the end of both: the other node is the primary from now on.
    pub fn swap(&self) {
        let mut first = self.first.lock().unwrap();
        *first = 1 - *first;
    }

    pub fn start_secondary(&self) {
        let nodes = self.nodes.lock().unwrap();
        let first = *self.first.lock().unwrap();
        let (node, peer) = (&nodes[1 - first], &nodes[first]);
        let config = Config {
            identity: identity(node.name, peer.name),
            volumes: vec![Volume { name: "data".to_owned(), backing: node.backing() }],
            quarantine_dir: node.base.join("quarantine"),
            quarantine: true,
            listen: vec![node.address],
            peer_timeout: TIMEOUT,
            threads: 1,
        };
        let journal = Some(Arc::clone(&node.journal));
        let secondary = Secondary::start(config, Arc::clone(&node.store), journal, Arc::new(|| ())).unwrap();
        *self.secondary.lock().unwrap() = Some(secondary);
    }

    pub fn stop_secondary(&self) {
        if let Some(secondary) = self.secondary.lock().unwrap().take() {
            secondary.stop();
        }
    }

    pub fn core(&self) -> Arc<Core> {
        Arc::clone(&self.primary.lock().unwrap().as_ref().unwrap().core)
    }

    fn link(&self) -> Arc<Link> {
        Arc::clone(&self.primary.lock().unwrap().as_ref().unwrap().link)
    }

    pub fn go_alone(&self) {
        self.link().go_alone("the test says so").unwrap();
    }

    /// Both nodes flush, and the journal forgets what it knew.
    pub fn cool(&self) {
        self.link().cool().unwrap();
    }

    /// Everything is acknowledged.
    pub fn settle(&self) {
        let core = self.core();
        core.stream().push();
        core.stream().wait(core.stream().last());
    }

    pub fn wait_in_sync(&self) {
        let (start, link) = (Instant::now(), self.link());
        while !link.in_sync() {
            let state = link.state();
            assert!(start.elapsed() < Duration::from_secs(20), "not in sync: {:?} {:?}", state.error, state.dropped);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the last resynchronisation compared, and why.
    pub fn resync(&self) -> Option<(ResyncKind, String)> {
        self.link().state().resync
    }

    fn backing(&self) -> PathBuf {
        let first = *self.first.lock().unwrap();
        self.nodes.lock().unwrap()[first].backing()
    }

    /// Differences between primary and secondary.
    pub fn differences(&self) -> Vec<String> {
        compare_trees(&self.base.path().join("a/backing"), &self.base.path().join("b/backing")).unwrap()
    }

    /// Differences between the primary and another tree.
    pub fn differences_from(&self, other: &Path) -> Vec<String> {
        compare_trees(&self.backing(), other).unwrap()
    }

    /// What the step answers. References are given back at once, so that the table forgets what it can.
    pub fn apply(&self, step: &Step) -> Result<(), Errno> {
        let result = self.apply_remembering(step);
        self.core().send_forgotten();
        result
    }

    fn apply_remembering(&self, step: &Step) -> Result<(), Errno> {
        match step {
            Step::Create(at) => self.make(at, New::File { mode: 0o100_644 }),
            Step::Mkdir(at) => self.make(at, New::Directory { mode: 0o755 }),
            Step::Symlink(at) => self.make(at, New::Symlink { target: b"somewhere" }),
            Step::Link(from, to) => {
                let source = self.find(from)?;
                let parent = self.directory(to)?;
                self.absent(&parent, to.name)?;
                if source.kind == FileType::Directory {
                    return Err(Errno::PERM);
                }
                let found = self.core().link(&source, &parent, to.name.as_bytes())?;
                self.core().forget(found.inode.oid, 1);
                Ok(())
            }
            Step::Unlink(at) => self.core().unlink(&self.directory(at)?, at.name.as_bytes()),
            Step::Rmdir(at) => self.core().rmdir(&self.directory(at)?, at.name.as_bytes()),
            Step::Rename(from, to, flags) => {
                let (parent, new_parent) = (self.directory(from)?, self.directory(to)?);
                self.core().rename(&parent, from.name.as_bytes(), &new_parent, to.name.as_bytes(), *flags)
            }
            Step::Write(at, offset, data) => self.core().write(&self.regular(at)?, *offset, data, false).map(drop),
            Step::Truncate(at, size) => self.change(at, Change { size: Some(*size), ..Change::default() }),
            Step::Punch(at, offset, length) => {
                let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
                self.core().allocate(&self.regular(at)?, mode, *offset, *length)
            }
            Step::Chmod(at, mode) => self.change(at, Change { mode: Some(*mode), ..Change::default() }),
            Step::Xattr(at, value) => self.core().set_xattr(&self.regular(at)?, b"user.test", value, 0, false),
            Step::RemoveXattr(at) => self.core().remove_xattr(&self.regular(at)?, b"user.test"),
            Step::Fifo(at) => self.make(at, New::Special { mode: libc::S_IFIFO | 0o640, rdev: 0 }),
            Step::Chown(at, uid, gid) => {
                self.change_any(at, Change { uid: Some(*uid), gid: Some(*gid), ..Change::default() })
            }
            Step::Times(at, sec, nsec) => {
                let time = Time { sec: *sec, nsec: *nsec as u32 };
                self.change_any(at, Change { mtime: Some(NewTime::At(time)), ..Change::default() })
            }
            // The kernel says where the file ends.
            Step::Append(at, data) => {
                let inode = self.regular(at)?;
                let end = self.core().stat(&inode)?.st_size as u64;
                self.core().write(&inode, end, data, false).map(drop)
            }
            Step::Allocate(at, mode, offset, length) => {
                self.core().allocate(&self.regular(at)?, mode.bits(), *offset, *length)
            }
            Step::TruncateOpen(size) => {
                let open = self.open.lock().unwrap().clone().ok_or(Errno::BADF)?;
                let change = Change { size: Some(*size), ..Change::default() };
                self.core().set_attributes(&open, change).map(drop)
            }
            Step::Open(at) => {
                *self.open.lock().unwrap() = Some(self.regular(at)?);
                Ok(())
            }
            Step::WriteOpen(offset, data) => {
                let open = self.open.lock().unwrap().clone().ok_or(Errno::BADF)?;
                self.core().write(&open, *offset, data, false).map(drop)
            }
        }
    }

    fn make(&self, at: &At, new: New<'_>) -> Result<(), Errno> {
        let found = self.core().make(&self.directory(at)?, at.name.as_bytes(), CALLER, new)?;
        self.core().forget(found.inode.oid, 1);
        Ok(())
    }

    fn change(&self, at: &At, change: Change) -> Result<(), Errno> {
        self.core().set_attributes(&self.regular(at)?, change).map(drop)
    }

    fn change_any(&self, at: &At, change: Change) -> Result<(), Errno> {
        self.core().set_attributes(&self.find(at)?, change).map(drop)
    }

    /// The kernel's own look before it asks for a link.
    fn absent(&self, parent: &Arc<Inode>, name: &str) -> Result<(), Errno> {
        match self.core().lookup(parent, name.as_bytes()) {
            Err(Errno::NOENT) => Ok(()),
            Ok(found) => {
                self.core().forget(found.inode.oid, 1);
                Err(Errno::EXIST)
            }
            Err(error) => Err(error),
        }
    }

    fn directory(&self, at: &At) -> Result<Arc<Inode>, Errno> {
        let mut inode = Arc::clone(&self.core().table().roots()[0]);
        for name in &at.directory {
            inode = self.step_down(&inode, name)?;
        }
        match inode.kind {
            FileType::Directory => Ok(inode),
            // The kernel follows links itself; these lead nowhere.
            FileType::Symlink => Err(Errno::NOENT),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn step_down(&self, inode: &Arc<Inode>, name: &str) -> Result<Arc<Inode>, Errno> {
        match inode.kind {
            FileType::Directory => {
                let found = self.core().lookup(inode, name.as_bytes())?;
                self.core().forget(found.inode.oid, 1);
                Ok(found.inode)
            }
            FileType::Symlink => Err(Errno::NOENT),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn find(&self, at: &At) -> Result<Arc<Inode>, Errno> {
        self.step_down(&self.directory(at)?, at.name)
    }

    fn regular(&self, at: &At) -> Result<Arc<Inode>, Errno> {
        let inode = self.find(at)?;
        if inode.kind == FileType::RegularFile { Ok(inode) } else { Err(Errno::INVAL) }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        *self.open.lock().unwrap() = None;
        *self.primary.lock().unwrap() = None;
        self.stop_secondary();
    }
}
