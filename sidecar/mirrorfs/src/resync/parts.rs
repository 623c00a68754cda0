//! The primary's side of an incremental resynchronisation: bring level what the plan names, and what comes of it.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::quiet::quietly;
use super::source::{Asked, BYTES_AHEAD, FILES_AHEAD, Piece, Source, SourceError, errno, send_size};
use super::sums::{FINE_BLOCK, SUM_BLOCK, SUM_RANGE, block_sums, fine_sums};
use crate::fs::{FilePart, Inode, Plan};
use crate::journal::heat::united;
use crate::op::{BlockSum, Oid};
use crate::wire::Message;

impl Source<'_> {
    /// Compare only where `plan`, and what comes of it, can differ.
    pub fn run_incremental(&mut self, plan: Plan) -> Result<(), SourceError> {
        for directory in &plan.directories {
            self.level(directory)?;
        }
        let mut ranges = plan.files;
        loop {
            // Files to be compared whole come first: one of which the peer could not be told something may be among
            // those of the plan, whose ranges do not have that. Once all directories are level there are no more such.
            let mut parts = self.level_all()?;
            parts.extend(self.core.take_moved(self.epoch).into_iter().map(|inode| (inode, None)));
            parts.append(&mut ranges);
            if parts.is_empty() {
                return Ok(());
            }
            self.compare(parts)?;
        }
    }

    /// Level what levelling has found; the files that it found.
    fn level_all(&self) -> Result<Vec<FilePart>, SourceError> {
        let mut files = Vec::new();
        loop {
            let todo = self.core.take_todo(self.epoch);
            if todo.is_empty() {
                return Ok(files);
            }
            for inode in todo {
                match inode.kind {
                    FileType::Directory => self.level(&inode)?,
                    _ => files.push((inode, None)),
                }
            }
        }
    }

    /// A file that comes as a whole and in parts is compared whole.
    fn compare(&mut self, parts: Vec<FilePart>) -> Result<(), SourceError> {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        let mut whole = HashSet::new();
        let mut bytes = 0;
        for (inode, ranges) in parts {
            if ranges.is_none() {
                whole.insert(inode.key);
            } else if whole.contains(&inode.key) {
                continue;
            }
            let size = inode.path().and_then(fstat).map_or(0, |stat| stat.st_size as u64);
            if size <= SUM_BLOCK {
                bytes += size;
                small.push((inode, None));
            } else {
                let ranges = ranges.unwrap_or_else(|| vec![(0, u64::MAX)]);
                bytes += within(&ranges, size)
                    .iter()
                    .map(|(start, end)| (*end).min(size).saturating_sub(*start))
                    .sum::<u64>();
                large.push((inode, ranges));
            }
        }
        self.counters.bytes_total.fetch_add(bytes, Ordering::Relaxed);
        self.counters.files_total.fetch_add((small.len() + large.len()) as u64, Ordering::Relaxed);
        for (inode, ranges) in large {
            self.parts(&inode, &ranges)?;
            self.counters.files_done.fetch_add(1, Ordering::Relaxed);
        }
        self.files(small)?;
        self.core.send_forgotten();
        Ok(())
    }

    fn level(&self, directory: &Arc<Inode>) -> Result<(), SourceError> {
        self.check()?;
        match self.core.level(directory) {
            // Removed meanwhile.
            Ok(()) | Err(Errno::STALE | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.stream().push();
        Ok(())
    }

    /// Bring parts of a file level, and its size and attributes.
    fn parts(&mut self, inode: &Arc<Inode>, ranges: &[(u64, u64)]) -> Result<(), SourceError> {
        if inode.synced.load(Ordering::Acquire) == self.epoch {
            return Ok(());
        }
        let shifts = inode.shifts.load(Ordering::Acquire);
        let size = self.in_order(inode, |stream| send_size(inode, stream))?;
        let Some(size) = size else { return Ok(()) };
        let mut requests = Vec::new();
        for (start, end) in within(ranges, size) {
            let starts = (start..end).step_by(SUM_RANGE as usize);
            requests.extend(starts.map(|at| (at, (at + SUM_RANGE).min(end))));
        }
        let mut rest = requests.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let within = |(start, end): &&(u64, u64)| {
                bytes += end - start;
                bytes <= BYTES_AHEAD
            };
            let count = rest.iter().take(FILES_AHEAD).take_while(within).count().max(1);
            let (batch, after) = rest.split_at(count);
            rest = after;
            if !self.blocks(inode, batch, size)? {
                return Ok(());
            }
        }
        if inode.shifts.load(Ordering::Acquire) != shifts {
            return self.file(&Asked { inode: Arc::clone(inode), theirs: None, first: None });
        }
        self.finish(inode)
    }

    /// Compare these ranges by blocks, and what differs by finer ones. False when the file is gone.
    fn blocks(&mut self, inode: &Arc<Inode>, ranges: &[(u64, u64)], size: u64) -> Result<bool, SourceError> {
        let oid = inode.oid;
        let mut ids = Vec::new();
        for &(start, end) in ranges {
            ids.push(self.request(oid, start, end - start)?);
        }
        let mut differing = Vec::new();
        for (&(start, end), id) in ranges.iter().zip(ids) {
            let theirs = self.answer(id, end - start)?;
            // Read without a lock: what changes meanwhile is streamed.
            let fd = match inode.data() {
                Err(Errno::STALE) => return Ok(false),
                other => other?,
            };
            let (_, mine) = quietly(|| block_sums(&*fd, start, end - start)).map_err(errno)?;
            for (at, (mine, theirs)) in (start..).step_by(SUM_BLOCK as usize).zip(mine.iter().zip(&theirs)) {
                if mine != theirs {
                    differing.push((at, *theirs));
                }
            }
            self.compared(end.min(size).saturating_sub(start));
        }
        for group in differing.chunks(FILES_AHEAD) {
            let mut asked = Vec::new();
            for &(at, theirs) in group {
                // Of what is not there at all nothing finer can be said.
                let id = match theirs {
                    BlockSum::Hole => None,
                    BlockSum::Data(_) => Some(self.ask_finely(oid, at)?),
                };
                asked.push((at, id));
            }
            for (at, id) in asked {
                let theirs = match id {
                    Some(id) => self.answer(id, SUM_BLOCK)?,
                    None => vec![BlockSum::Hole; (SUM_BLOCK / FINE_BLOCK) as usize],
                };
                let sent = self.in_order(inode, |stream| {
                    let fd = inode.data()?;
                    Piece { oid, fd: fd.as_fd(), stream, start: at, stop: at + SUM_BLOCK }.send_finely(&theirs)
                })?;
                let Some(sent) = sent else { return Ok(false) };
                self.counters.bytes_sent.fetch_add(sent, Ordering::Relaxed);
            }
        }
        Ok(true)
    }

    fn ask_finely(&mut self, oid: Oid, offset: u64) -> Result<u64, SourceError> {
        self.check()?;
        self.requests += 1;
        let id = self.requests;
        self.stream().push();
        let sent = self.stream().send(&Message::FineRequest { id, oid, offset, len: SUM_BLOCK });
        if sent { Ok(id) } else { Err(SourceError::Interrupted) }
    }
}

/// Whole blocks of a file of `size` bytes that these ranges touch.
fn within(ranges: &[(u64, u64)], size: u64) -> Vec<(u64, u64)> {
    let aligned = ranges.iter().map(|(start, end)| {
        let end = (*end).min(size).next_multiple_of(SUM_BLOCK);
        (start / SUM_BLOCK * SUM_BLOCK, end)
    });
    united(aligned.filter(|(start, end)| start < end).collect())
}

impl Piece<'_> {
    /// As `send_differences`, with finer sums: neighbouring blocks that differ are sent together.
    pub(super) fn send_finely(&self, theirs: &[BlockSum]) -> Result<u64, Errno> {
        let (_, mine) = fine_sums(self.fd, self.start, self.stop - self.start).map_err(errno)?;
        let mut sent = 0;
        let mut run: Option<(u64, u64)> = None;
        let unknown = BlockSum::Data([0; 16]);
        for (index, sum) in mine.iter().enumerate() {
            let from = self.start + index as u64 * FINE_BLOCK;
            if *sum == theirs.get(index).copied().unwrap_or(unknown) {
                continue;
            }
            match &mut run {
                Some((_, end)) if *end == from => *end = from + FINE_BLOCK,
                _ => {
                    if let Some((start, end)) = run.replace((from, from + FINE_BLOCK)) {
                        sent += self.send(start, end, true)?;
                    }
                }
            }
        }
        if let Some((start, end)) = run {
            sent += self.send(start, end, true)?;
        }
        Ok(sent)
    }
}
