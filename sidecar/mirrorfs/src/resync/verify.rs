//! The online comparison of both trees, in the order of the stream.
//!
//! What the primary has is put into the stream as an operation, under the locks that order the operations on the
//! object. The secondary looks at its own when that operation's turn has come: exactly what was done before it here
//! has been applied there. So both look at the same version, whatever the application does meanwhile, and a difference
//! is always one that the stream did not make.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::FileType;
use rustix::io::Errno;
use serde::Serialize;

use super::extents::segments;
use super::pace::Pace;
use super::source::{Piece, errno, send_size};
use super::sums::content_sums;
use crate::fs::{Core, Inode, meta_of};
use crate::op::{CHECK_RANGE, Difference, Finding, Oid, Op};
use crate::stream::primary::{Mode, Outcome, Ticket};
use crate::wire::Message;

/// Objects after which the peer is asked what it found.
const BATCH: usize = 64;
/// Comparisons that may be on their way.
const AHEAD: usize = 8;
/// A part without data that is told in one.
const EMPTY_RANGE: u64 = 1 << 30;
/// Most differences that the status lists.
const LISTED: usize = 1000;
/// Requests of verifications, told apart from those of resynchronisations.
const REQUESTS: u64 = 1 << 63;

/// A difference, as told to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub volume: String,
    /// Where the object was when the walk came to it, relative to the volume.
    pub path: String,
    pub what: Difference,
    /// In bytes, of differing contents; else 0.
    pub offset: u64,
    pub len: u64,
    pub detail: String,
    /// The secondary has the primary's now, on stable storage.
    pub repaired: bool,
}

/// How far a verification is, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyStatus {
    /// Number of the verification since this node became primary.
    pub run: u64,
    pub running: bool,
    pub repair: bool,
    pub files: u64,
    pub bytes: u64,
    /// Differences, also those too many to list.
    pub found: u64,
    pub repaired: u64,
    /// A repair by a full resynchronisation has been begun: names differed.
    pub resync: bool,
    /// Why it ended before everything had been compared.
    pub stopped: Option<String>,
    pub findings: Vec<Report>,
}

/// Why a verification did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error("the peer was lost, or has to be brought level first")]
    Lost,
    #[error("it was stopped")]
    Asked,
    #[error("reading this node's files: {0}")]
    Local(Errno),
}

impl From<Errno> for Stopped {
    fn from(error: Errno) -> Self {
        match error {
            Errno::CANCELED => Self::Lost,
            other => Self::Local(other),
        }
    }
}

/// One comparison of everything.
pub struct Verification<'a> {
    core: &'a Core,
    volumes: &'a [String],
    epoch: u64,
    run: u64,
    repair: bool,
    status: &'a Mutex<VerifyStatus>,
    stop: &'a AtomicBool,
    pace: Pace<'a>,
    /// Acknowledgements to be waited for.
    ahead: VecDeque<Ticket>,
    requests: u64,
    /// How many findings the peer has told.
    told: u64,
    /// Files with several names that have been compared.
    linked: HashSet<Oid>,
}

/// An object, and its path within its volume when the walk came to it.
type Placed = (Arc<Inode>, Vec<u8>);

/// What is being compared, for the findings on it.
type Batch = HashMap<Oid, Placed>;

impl<'a> Verification<'a> {
    /// `status` says which run and whether to repair. `rate`: contents per second, in bytes; 0: as fast as it goes.
    pub fn new(
        core: &'a Core,
        volumes: &'a [String],
        status: &'a Mutex<VerifyStatus>,
        stop: &'a AtomicBool,
        rate: u64,
    ) -> Self {
        let (run, repair) = {
            let status = status.lock();
            (status.run, status.repair)
        };
        let requests = REQUESTS | (run << 32);
        let (epoch, pace) = (core.stream().epoch(), Pace::new(rate, None));
        let (ahead, linked) = (VecDeque::new(), HashSet::new());
        Self { core, volumes, epoch, run, repair, status, stop, pace, ahead, requests, told: 0, linked }
    }

    /// Compare everything.
    pub fn run(&mut self) -> Result<(), Stopped> {
        let roots = self.core.table().roots().to_vec();
        let Some(first) = roots.first() else { return Ok(()) };
        let run = self.run;
        let begun = self.core.in_check(first, self.epoch, |stream| Ok(stream.submit(&Op::CheckBegin { run })?))?;
        self.expect(begun.unwrap_or(Ticket::NONE))?;
        for root in roots {
            let mut directories = vec![(root, Vec::new())];
            while let Some((directory, path)) = directories.pop() {
                directories.extend(self.directory(&directory, &path)?);
                self.core.send_forgotten();
            }
        }
        Ok(())
    }

    /// Compare a directory and the files in it. Returns the directories in it.
    fn directory(&mut self, directory: &Arc<Inode>, path: &[u8]) -> Result<Vec<Placed>, Stopped> {
        let mut batch = Batch::from([(directory.oid, (Arc::clone(directory), path.to_vec()))]);
        self.attributes(directory, &mut batch, path)?;
        let Some((children, ticket)) = gone(self.core.check_entries(directory, self.epoch))? else {
            return self.collect(&batch).map(|()| Vec::new());
        };
        self.expect(ticket)?;
        let mut directories = Vec::new();
        for child in children {
            let mut place = path.to_vec();
            if !place.is_empty() {
                place.push(b'/');
            }
            place.extend_from_slice(&child.name);
            if child.inode.kind == FileType::Directory {
                directories.push((child.inode, place));
                continue;
            }
            if child.stat.st_nlink > 1 && !self.linked.insert(child.inode.oid) {
                continue;
            }
            batch.insert(child.inode.oid, (Arc::clone(&child.inode), place.clone()));
            if let Some(size) = self.attributes(&child.inode, &mut batch, &place)? {
                self.contents(&child.inode, size, &place)?;
            }
            self.status.lock().files += 1;
            if batch.len() >= BATCH {
                self.collect(&batch)?;
                batch.retain(|oid, _| *oid == directory.oid);
            }
        }
        self.collect(&batch)?;
        Ok(directories)
    }

    /// The size of a regular file that is still there.
    fn attributes(&mut self, inode: &Arc<Inode>, batch: &mut Batch, path: &[u8]) -> Result<Option<u64>, Stopped> {
        match gone(self.core.check_attributes(inode, self.epoch)) {
            Ok(Some((size, ticket))) => {
                self.expect(ticket)?;
                Ok((inode.kind == FileType::RegularFile).then_some(size))
            }
            Ok(None) => {
                batch.remove(&inode.oid);
                Ok(None)
            }
            Err(Stopped::Local(error)) => {
                self.unreadable(inode, path, error);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn contents(&mut self, inode: &Arc<Inode>, size: u64, path: &[u8]) -> Result<(), Stopped> {
        let mut offset = 0;
        while offset < size {
            self.check()?;
            let oid = inode.oid;
            let told = self.core.in_check(inode, self.epoch, |stream| {
                let file = inode.data()?;
                let wide = EMPTY_RANGE.min(size - offset);
                let empty = segments(&*file, offset, offset + wide).map_err(errno)?.iter().all(|part| part.zeros);
                let len = if empty { wide } else { CHECK_RANGE.min(size - offset) };
                let sums = if empty { Vec::new() } else { content_sums(&*file, offset, len).map_err(errno)? };
                Ok((len, stream.submit(&Op::CheckBlocks { oid, offset, len, sums })?))
            });
            match gone(told) {
                Ok(None) => return Ok(()),
                Ok(Some((len, ticket))) => {
                    self.expect(ticket)?;
                    self.status.lock().bytes += len;
                    self.pace.after(len.min(CHECK_RANGE));
                    offset += len;
                }
                Err(Stopped::Local(error)) => {
                    self.unreadable(inode, path, error);
                    offset += CHECK_RANGE;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// This node cannot read what it has: worth telling, and no reason to look at nothing else.
    fn unreadable(&self, inode: &Inode, path: &[u8], error: Errno) {
        let detail = format!("on the primary: {error}");
        self.report(inode, path, Difference::Unreadable, (0, 0), detail, false);
    }

    fn report(
        &self,
        inode: &Inode,
        path: &[u8],
        what: Difference,
        (offset, len): (u64, u64),
        detail: String,
        repaired: bool,
    ) {
        let volume = self.volumes.get(inode.volume as usize).cloned().unwrap_or_default();
        let path = String::from_utf8_lossy(path).into_owned();
        let mut status = self.status.lock();
        status.found += 1;
        status.repaired += u64::from(repaired);
        if status.findings.len() < LISTED {
            status.findings.push(Report { volume, path, what, offset, len, detail, repaired });
        }
    }

    /// Be told what the peer found, and put it right if that is wanted.
    fn collect(&mut self, batch: &Batch) -> Result<(), Stopped> {
        while let Some(ticket) = self.ahead.pop_front() {
            self.wait(ticket)?;
        }
        loop {
            let (total, findings) = self.ask()?;
            let more = !findings.is_empty();
            self.told += findings.len() as u64;
            for finding in findings {
                self.treat(batch, finding)?;
            }
            if !more {
                let mut status = self.status.lock();
                status.found = status.found.max(total);
                return Ok(());
            }
        }
    }

    fn treat(&self, batch: &Batch, finding: Finding) -> Result<(), Stopped> {
        let Finding { oid, what, offset, len, name, detail } = finding;
        let Some((inode, place)) = batch.get(&oid) else { return Ok(()) };
        let mut path = place.clone();
        if !name.is_empty() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
        }
        let repaired = self.repair && self.mend(inode, what, offset, len)?;
        self.report(inode, &path, what, (offset, len), detail, repaired);
        Ok(())
    }

    /// Send the secondary what the primary has. False when that takes a full resynchronisation.
    fn mend(&self, inode: &Arc<Inode>, what: Difference, offset: u64, len: u64) -> Result<bool, Stopped> {
        let contents = inode.kind == FileType::RegularFile && matches!(what, Difference::Content | Difference::Size);
        if !contents && what != Difference::Attributes {
            self.status.lock().resync = true;
            return Ok(false);
        }
        let oid = inode.oid;
        let sent = self.core.in_check(inode, self.epoch, |stream| {
            if contents {
                let size = send_size(inode, stream)?;
                let file = inode.data()?;
                let (start, stop) = (offset, (offset + len).min(size));
                if start < stop {
                    Piece { oid, fd: file.as_fd(), stream, start, stop }.send(start, stop, true)?;
                }
            }
            let path = inode.path()?;
            let meta = meta_of(&*path, &rustix::fs::fstat(&*path)?)?;
            stream.submit(&Op::SyncMeta { oid, meta })?;
            // What was wrong may be on the disk: it must not come back with a power cut.
            Ok(stream.submit(&Op::SyncAll)?)
        });
        match gone(sent)? {
            Some(ticket) => self.wait(ticket).map(|()| true),
            // What is gone cannot differ.
            None => Ok(true),
        }
    }

    /// What the peer has found beyond what it has told already.
    fn ask(&mut self) -> Result<(u64, Vec<Finding>), Stopped> {
        loop {
            self.check()?;
            self.requests += 1;
            let id = self.requests;
            if self.core.stream().send(&Message::FindingsRequest { id, from: self.told })
                && let Some(Message::Findings { run, total, findings, .. }) = self.core.stream().answer(self.epoch, id)
            {
                // An older one's are gone with the stream that had them.
                return if run == self.run { Ok((total, findings)) } else { Err(Stopped::Lost) };
            }
            // The connection was cut; the stream may be resumed.
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The operation will be acknowledged; not too many are to be on their way.
    fn expect(&mut self, ticket: Ticket) -> Result<(), Stopped> {
        self.ahead.push_back(ticket);
        match self.ahead.len() > AHEAD {
            true => self.ahead.pop_front().map_or(Ok(()), |first| self.wait(first)),
            false => self.check(),
        }
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Stopped> {
        self.check()?;
        if ticket != Ticket::NONE && self.core.stream().wait(ticket) == Outcome::Acknowledged {
            Ok(())
        } else {
            Err(Stopped::Lost)
        }
    }

    fn check(&self) -> Result<(), Stopped> {
        let stream = self.core.stream();
        if self.stop.load(Ordering::Acquire) {
            Err(Stopped::Asked)
        } else if stream.mode() != Mode::Mirrored || stream.epoch() != self.epoch {
            Err(Stopped::Lost)
        } else {
            Ok(())
        }
    }
}

/// What is removed while it is looked at is no difference.
fn gone<T>(result: Result<Option<T>, Errno>) -> Result<Option<T>, Stopped> {
    match result {
        Err(Errno::STALE | Errno::NOENT) => Ok(None),
        other => Ok(other?),
    }
}
