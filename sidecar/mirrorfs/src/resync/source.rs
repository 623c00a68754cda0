//! The primary's side of a full resynchronisation: walk the volumes, tell the peer what it lacks, while the
//! application goes on.
//!
//! The walk goes depth first. A directory's listing and each piece of a file are compared and sent under the same
//! locks as the application's own operations, so each has its place in the one order; what the application changes
//! meanwhile is either streamed as usual or found by the walk later (`fs/bind.rs` says which). Only sums cross the
//! network without locks: a sum of any earlier position of the stream will do, because what was written since then was
//! streamed as well, and operations set contents, they do not change them relative to what was there.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::extents::{reserved, segments};
use super::pace::Pace;
use super::quiet::quietly;
use super::sums::{SUM_BLOCK, SUM_RANGE, block_sums, read_up_to};
use super::total;
use crate::fs::{Child, Core, Inode, meta_of};
use crate::op::{BlockSum, Oid, Op};
use crate::stream::primary::Stream;
use crate::wire::Message;

/// Compared and sent under one lock.
const PIECE: u64 = 1 << 20;
/// Directories listed before the peer's answer to the first is awaited.
const DIRECTORIES_AHEAD: usize = 16;
/// Files (and bytes of them) for which sums are asked before those of the first are used.
pub(super) const FILES_AHEAD: usize = 128;
pub(super) const BYTES_AHEAD: u64 = 64 << 20;

/// How far it is. The totals are 0 until they are known, and may grow: the application goes on.
#[derive(Debug)]
pub struct Counters {
    begun: Instant,
    pub bytes_done: AtomicU64,
    pub bytes_total: AtomicU64,
    pub files_done: AtomicU64,
    pub files_total: AtomicU64,
    /// Bytes of contents that had to be sent.
    pub bytes_sent: AtomicU64,
}

impl Default for Counters {
    /// Begins now.
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            begun: Instant::now(),
            bytes_done: zero(),
            bytes_total: zero(),
            files_done: zero(),
            files_total: zero(),
            bytes_sent: zero(),
        }
    }
}

impl Counters {
    /// How long the rest takes at the mean speed until now; `None` while that cannot be told.
    pub fn left(&self) -> Option<Duration> {
        let (done, total) = (self.bytes_done.load(Ordering::Relaxed), self.bytes_total.load(Ordering::Relaxed));
        left(done, total, self.begun.elapsed())
    }
}

fn left(done: u64, total: u64, taken: Duration) -> Option<Duration> {
    if done == 0 || total == 0 {
        return None;
    }
    let rest = total.saturating_sub(done) as f64 / done as f64;
    // A rest beyond all measure is none that can be told.
    Duration::try_from_secs_f64(taken.as_secs_f64() * rest).ok()
}

/// Why a resynchronisation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the connection ended during the resynchronisation")]
    Interrupted,
    #[error("reading this node's files: {0}")]
    Local(#[from] Errno),
    #[error("{0}")]
    Record(String),
}

/// A file whose turn is near.
pub(super) struct Asked {
    pub inode: Arc<Inode>,
    /// The size of the peer's file before, if known.
    pub theirs: Option<u64>,
    /// The request for the sums of its beginning, and where that ends.
    pub first: Option<(u64, u64)>,
}

impl Asked {
    fn covered(&self) -> u64 {
        self.first.map_or(0, |(_, end)| end)
    }
}

/// A walk over all volumes.
pub struct Source<'a> {
    pub(super) core: &'a Core,
    pub(super) epoch: u64,
    pub(super) counters: &'a Counters,
    pub(super) pace: Pace<'a>,
    pub(super) requests: u64,
}

impl<'a> Source<'a> {
    /// `rate`: contents compared per second at most, in bytes; 0: as fast as the application's work allows.
    ///
    /// `epoch`: of the stream that began for this.
    pub fn new(core: &'a Core, epoch: u64, counters: &'a Counters, rate: u64) -> Self {
        let pace = Pace::new(rate, Some(core.times()));
        // What an earlier walk has asked is never answered to this one.
        Self { core, epoch, counters, pace, requests: epoch << 40 }
    }

    /// Walk everything. When this returns, the peer has been sent all that it lacked, and what the application changes
    /// is streamed.
    pub fn run(&mut self) -> Result<(), SourceError> {
        let (core, counters, ended) = (self.core, self.counters, AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| count_all(core, counters, &ended));
            let result = self.walk_all();
            ended.store(true, Ordering::Relaxed);
            result
        })
    }

    fn walk_all(&mut self) -> Result<(), SourceError> {
        for root in self.core.table().roots().to_vec() {
            self.walk(root)?;
        }
        loop {
            let moved = self.core.take_moved(self.epoch);
            if moved.is_empty() {
                return Ok(());
            }
            for inode in moved {
                match inode.kind {
                    FileType::Directory => self.walk(inode)?,
                    FileType::RegularFile => self.files(vec![(inode, None)])?,
                    _ => {}
                }
            }
        }
    }

    /// A directory and everything below it. What the application moves away meanwhile is still gone through: the walk
    /// remembers objects, not paths.
    fn walk(&mut self, top: Arc<Inode>) -> Result<(), SourceError> {
        let mut directories = vec![top];
        while !directories.is_empty() {
            let batch = directories.split_off(directories.len().saturating_sub(DIRECTORIES_AHEAD));
            let mut files = Vec::new();
            for (child, size) in self.listings(batch)? {
                match child.inode.kind {
                    FileType::Directory => directories.push(child.inode),
                    // The peer may have another of its names under another directory: then the size tells nothing.
                    FileType::RegularFile => files.push((child.inode, size.filter(|_| child.stat.st_nlink == 1))),
                    _ => {
                        self.counters.files_done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            self.files(files)?;
            self.core.send_forgotten();
        }
        Ok(())
    }

    /// Bring the listings of these directories level. The entries, each with the size of the file that the peer had
    /// there; unknown when the listing was sent earlier.
    fn listings(&self, directories: Vec<Arc<Inode>>) -> Result<Vec<(Child, Option<u64>)>, SourceError> {
        let mut listings = Vec::new();
        for directory in &directories {
            self.check()?;
            match self.core.list_for_walk(directory) {
                // Removed meanwhile.
                Ok(None) | Err(Errno::STALE | Errno::NOENT) => {}
                Ok(Some(listing)) => listings.push(listing),
                Err(error) => return Err(error.into()),
            }
            self.stream().push();
        }
        let mut all = Vec::new();
        for listing in listings {
            let mut sizes = Vec::with_capacity(listing.children.len());
            for (seq, count) in listing.parts {
                let part = self.stream().directory(self.epoch, seq).ok_or(SourceError::Interrupted)?;
                sizes.extend((0..count).map(|index| part.get(index).copied()));
            }
            sizes.resize(listing.children.len(), None);
            all.extend(listing.children.into_iter().zip(sizes));
        }
        Ok(all)
    }

    /// Bring files level, with the sizes that the peer has, if known. Sums are asked for some files ahead, so that not
    /// each costs a journey to the peer and back.
    pub(super) fn files(&mut self, files: Vec<(Arc<Inode>, Option<u64>)>) -> Result<(), SourceError> {
        let mut coming = files.into_iter();
        let mut asked: VecDeque<Asked> = VecDeque::new();
        let mut bytes = 0;
        loop {
            while asked.len() < FILES_AHEAD && bytes < BYTES_AHEAD {
                let Some((inode, theirs)) = coming.next() else { break };
                let next = self.ask(inode, theirs)?;
                bytes += next.covered();
                asked.push_back(next);
            }
            let Some(next) = asked.pop_front() else { return Ok(()) };
            bytes -= next.covered();
            self.file(&next)?;
            self.counters.files_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ask(&mut self, inode: Arc<Inode>, theirs: Option<u64>) -> Result<Asked, SourceError> {
        let mut asked = Asked { inode, theirs, first: None };
        if theirs == Some(0) || asked.inode.synced.load(Ordering::Acquire) == self.epoch {
            return Ok(asked);
        }
        let inode = &asked.inode;
        let size = self.in_order(inode, |_| Ok(fstat(&*inode.path()?)?.st_size as u64))?;
        if let Some(size @ 1..) = size {
            let end = SUM_RANGE.min(size.next_multiple_of(SUM_BLOCK));
            asked.first = Some((self.request(inode.oid, 0, end)?, end));
        }
        Ok(asked)
    }

    pub(super) fn file(&mut self, asked: &Asked) -> Result<(), SourceError> {
        let inode = &asked.inode;
        let mut first = match asked.first {
            Some((id, end)) => Some((self.answer(id, end)?, end)),
            None => None,
        };
        if inode.synced.load(Ordering::Acquire) == self.epoch {
            return Ok(());
        }
        loop {
            let shifts = inode.shifts.load(Ordering::Acquire);
            let oid = inode.oid;
            let size = self.in_order(inode, |stream| send_size(inode, stream))?;
            let Some(size) = size else { return Ok(()) };
            let mut offset = 0;
            while offset < size {
                let (sums, end) = match first.take() {
                    Some(known) => known,
                    None => {
                        let end = (offset + SUM_RANGE).min(size.next_multiple_of(SUM_BLOCK));
                        if asked.theirs.is_some_and(|theirs| theirs <= offset) {
                            (Vec::new(), end)
                        } else {
                            let id = self.request(oid, offset, end - offset)?;
                            (self.answer(id, end - offset)?, end)
                        }
                    }
                };
                if !self.range(inode, offset..end, size, &sums)? {
                    return Ok(());
                }
                offset = end;
            }
            // Ranges that were collapsed or inserted meanwhile moved contents between what was compared and what was not.
            if inode.shifts.load(Ordering::Acquire) == shifts {
                break;
            }
        }
        self.finish(inode)
    }

    /// Contents are level: attributes.
    pub(super) fn finish(&self, inode: &Arc<Inode>) -> Result<(), SourceError> {
        self.in_order(inode, |stream| {
            let path = inode.path()?;
            let meta = meta_of(&*path, &fstat(&*path)?)?;
            stream.submit(&Op::SyncMeta { oid: inode.oid, meta })?;
            inode.synced.store(self.epoch, Ordering::Release);
            Ok(())
        })?;
        Ok(())
    }

    /// Send what differs in this range of a file of `size` bytes. False when the file is gone.
    fn range(
        &mut self,
        inode: &Arc<Inode>,
        range: Range<u64>,
        size: u64,
        theirs: &[BlockSum],
    ) -> Result<bool, SourceError> {
        let Range { start, end } = range;
        let mut at = start;
        while at < end {
            let stop = (at + PIECE).min(end);
            let first = ((at - start) / SUM_BLOCK) as usize;
            let blocks = ((stop - at) / SUM_BLOCK) as usize;
            let sums = theirs.get(first..(first + blocks).min(theirs.len())).unwrap_or_default();
            let Some(equal) = self.equal(inode, at..stop, sums)? else { return Ok(false) };
            let sent = if equal {
                Some(0)
            } else {
                self.in_order(inode, |stream| {
                    let fd = inode.data()?;
                    Piece { oid: inode.oid, fd: fd.as_fd(), stream, start: at, stop }.send_differences(sums)
                })?
            };
            let Some(sent) = sent else { return Ok(false) };
            self.counters.bytes_sent.fetch_add(sent, Ordering::Relaxed);
            // The file may have become shorter since its size was looked at.
            self.compared(stop.min(size).saturating_sub(at));
            at = stop;
        }
        Ok(true)
    }

    /// Whether this range is as the peer's sums say. Read without a lock: what changes meanwhile is streamed. `None`:
    /// the file is gone.
    fn equal(&self, inode: &Arc<Inode>, range: Range<u64>, theirs: &[BlockSum]) -> Result<Option<bool>, SourceError> {
        self.check()?;
        if theirs.iter().all(|sum| *sum == BlockSum::Hole) {
            return Ok(Some(false));
        }
        let fd = match inode.data() {
            Err(Errno::STALE) => return Ok(None),
            other => other?,
        };
        let (_, mine) = quietly(|| block_sums(&*fd, range.start, range.end - range.start)).map_err(errno)?;
        Ok(Some(mine == theirs))
    }

    /// So many bytes are level.
    pub(super) fn compared(&mut self, bytes: u64) {
        self.counters.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.pace.after(bytes);
    }

    /// Ask for the peer's sums.
    pub(super) fn request(&mut self, oid: Oid, offset: u64, len: u64) -> Result<u64, SourceError> {
        self.check()?;
        self.requests += 1;
        let id = self.requests;
        self.stream().push();
        let sent = self.stream().send(&Message::SumsRequest { id, oid, offset, len });
        if sent { Ok(id) } else { Err(SourceError::Interrupted) }
    }

    /// The peer's sums, as asked for.
    pub(super) fn answer(&self, id: u64, len: u64) -> Result<Vec<BlockSum>, SourceError> {
        match self.stream().answer(self.epoch, id) {
            Some(Message::Sums { known: true, sums, .. }) => Ok(sums),
            // The object is gone there; if it is not gone here as well, everything about it is sent.
            Some(_) => Ok(vec![BlockSum::Data([0; 16]); len.div_ceil(SUM_BLOCK) as usize]),
            None => Err(SourceError::Interrupted),
        }
    }

    pub(super) fn in_order<T>(
        &self,
        inode: &Arc<Inode>,
        body: impl FnOnce(&Stream) -> Result<T, Errno>,
    ) -> Result<Option<T>, SourceError> {
        self.check()?;
        match self.core.in_order(inode, body) {
            Err(Errno::STALE) => Ok(None),
            other => Ok(other?),
        }
    }

    pub(super) fn check(&self) -> Result<(), SourceError> {
        if self.stream().is_syncing(self.epoch) { Ok(()) } else { Err(SourceError::Interrupted) }
    }

    pub(super) fn stream(&self) -> &Stream {
        self.core.stream()
    }
}

/// What all volumes have becomes the totals. Without them the progress is told without its end.
fn count_all(core: &Core, counters: &Counters, ended: &AtomicBool) {
    let mut all = total::Total::default();
    for root in core.table().roots() {
        match total::count(core.table().root_fd(root.volume), ended) {
            Ok(Some(volume)) => {
                all.bytes += volume.bytes;
                all.files += volume.files;
            }
            // Whatever cannot be read stops the walk as well, which says so.
            Ok(None) | Err(_) => return,
        }
    }
    counters.bytes_total.store(all.bytes, Ordering::Relaxed);
    counters.files_total.store(all.files, Ordering::Relaxed);
}

/// The file's size, and what is reserved beyond it.
pub(super) fn send_size(inode: &Arc<Inode>, stream: &Stream) -> Result<u64, Errno> {
    let oid = inode.oid;
    let size = fstat(&*inode.path()?)?.st_size as u64;
    stream.submit(&Op::SyncSize { oid, size })?;
    for (start, end) in reserved(&*inode.data()?).map_err(errno)? {
        stream.submit(&Op::SyncPrealloc { oid, offset: start, len: end - start })?;
    }
    Ok(size)
}

/// Most bytes of contents in one operation.
const SEND_AT_MOST: usize = 1 << 20;

/// A part of a file, while nothing changes it.
pub(super) struct Piece<'a> {
    pub oid: Oid,
    pub fd: BorrowedFd<'a>,
    pub stream: &'a Stream,
    pub start: u64,
    pub stop: u64,
}

impl Piece<'_> {
    /// `theirs`: the peer's sums of its blocks; what they do not cover is not there. Returns the bytes sent.
    fn send_differences(&self, theirs: &[BlockSum]) -> Result<u64, Errno> {
        if theirs.iter().all(|sum| *sum == BlockSum::Hole) {
            return self.send(self.start, self.stop, false);
        }
        let (_, mine) = block_sums(self.fd, self.start, self.stop - self.start).map_err(errno)?;
        let mut sent = 0;
        let mut from = self.start;
        for (index, sum) in mine.iter().enumerate() {
            let to = (from + SUM_BLOCK).min(self.stop);
            let other = theirs.get(index).copied().unwrap_or(BlockSum::Hole);
            if *sum != other {
                sent += self.send(from, to, other != BlockSum::Hole)?;
            }
            from = to;
        }
        Ok(sent)
    }

    /// Send what this part holds; `holes`: also where it holds nothing.
    pub(super) fn send(&self, from: u64, to: u64, holes: bool) -> Result<u64, Errno> {
        let oid = self.oid;
        let mut sent = 0;
        let mut at = from;
        for segment in segments(self.fd, from, to).map_err(errno)? {
            if holes && segment.start > at {
                self.stream.submit(&Op::SyncHole { oid, offset: at, len: segment.start - at })?;
            }
            if segment.zeros {
                let len = segment.end - segment.start;
                self.stream.submit(&Op::SyncPrealloc { oid, offset: segment.start, len })?;
            } else {
                sent += self.send_data(segment.start, segment.end)?;
            }
            at = segment.end;
        }
        if holes && at < to {
            self.stream.submit(&Op::SyncHole { oid, offset: at, len: to - at })?;
        }
        Ok(sent)
    }

    fn send_data(&self, from: u64, to: u64) -> Result<u64, Errno> {
        let mut buffer = vec![0; usize::try_from(to - from).unwrap_or(SEND_AT_MOST).min(SEND_AT_MOST)];
        let mut at = from;
        while at < to {
            let piece = usize::try_from(to - at).unwrap_or(SEND_AT_MOST).min(SEND_AT_MOST);
            let got = read_up_to(self.fd, &mut buffer[..piece], at).map_err(errno)?;
            if got == 0 {
                break;
            }
            self.stream.submit(&Op::SyncBlock { oid: self.oid, offset: at, data: Cow::Borrowed(&buffer[..got]) })?;
            at += got as u64;
        }
        Ok(at - from)
    }
}

pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_part_that_is_done_did() {
        let taken = Duration::from_secs(10);
        assert_eq!(left(25, 100, taken), Some(Duration::from_secs(30)));
        assert_eq!(left(100, 100, taken), Some(Duration::ZERO));
        // The application has written meanwhile.
        assert_eq!(left(120, 100, taken), Some(Duration::ZERO));
        assert_eq!(left(0, 100, taken), None);
        assert_eq!(left(25, 0, taken), None);
    }
}
