//! The secondary's side of a verification: compare what is here with what the primary had at the same position of the
//! order.
//!
//! Operations are applied one after the other, so nothing changes while one is compared, and everything before it has
//! been applied: what differs has been changed by something else than the stream.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Dir, FileType, fstat, readlinkat};

use super::Applier;
use super::attributes::{Inode, is_replicated};
use crate::op::{CHECK_BLOCK, CHECK_RANGE, ContentSum, Difference, Finding, Meta, Oid, Op};
use crate::resync::extents::segments;
use crate::resync::sums::content_sums;
use crate::wire::Message;

/// Most findings that are kept; more are counted only.
const KEPT: usize = 10_000;
/// Most findings in one answer.
const ANSWERED: usize = 1000;

/// What a verification found.
#[derive(Debug, Default)]
pub struct Findings {
    run: u64,
    total: u64,
    found: Vec<Finding>,
    /// A directory whose entries are coming in pieces.
    listed: Option<(Oid, HashSet<Vec<u8>>)>,
}

impl Findings {
    fn begin(&mut self, run: u64) {
        *self = Self { run, ..Self::default() };
    }

    fn add(&mut self, finding: Finding) {
        self.total += 1;
        if self.found.len() < KEPT {
            self.found.push(finding);
        }
    }

    /// The answer to the primary's question.
    pub fn since(&self, id: u64, from: u64) -> Message {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let findings = self.found.iter().skip(from).take(ANSWERED).cloned().collect();
        Message::Findings { id, run: self.run, total: self.total, findings }
    }
}

/// A difference, and what to say of it.
type Told = (Difference, String);

impl Applier {
    /// Carry out an operation of a verification. False: it is none.
    ///
    /// That something cannot be read here is a finding, and no reason to give the copy up.
    pub(super) fn check(&mut self, op: &Op<'_>) -> bool {
        let result = match op {
            Op::CheckBegin { run } => {
                self.findings.begin(*run);
                Ok(())
            }
            Op::CheckDir { oid, entries, more } => self.check_directory(*oid, entries, *more).map_err(|e| (*oid, e)),
            Op::CheckMeta { oid, meta, size, target, links } => {
                self.check_meta(*oid, meta, *size, (target, *links)).map_err(|e| (*oid, e))
            }
            Op::CheckBlocks { oid, offset, len, sums } => {
                self.check_blocks(*oid, *offset, *len, sums).map_err(|e| (*oid, e))
            }
            _ => return false,
        };
        if let Err((oid, error)) = result {
            self.found(oid, (Difference::Unreadable, format!("on the secondary: {error}")));
        }
        true
    }

    fn found(&mut self, oid: Oid, (what, detail): Told) {
        self.findings.add(Finding { oid, what, offset: 0, len: 0, name: Vec::new(), detail });
    }

    fn object(&mut self, oid: Oid) -> io::Result<(Arc<OwnedFd>, FileType)> {
        let file = self.objects.open(oid).map_err(io::Error::other)?;
        let kind = self.objects.get(oid).map_err(io::Error::other)?.kind;
        Ok((file, kind))
    }

    fn check_directory(&mut self, oid: Oid, entries: &[(Vec<u8>, u32)], more: bool) -> io::Result<()> {
        let mut seen = match self.findings.listed.take() {
            Some((listed, seen)) if listed == oid => seen,
            _ => HashSet::new(),
        };
        let (directory, _) = self.object(oid)?;
        let mut here = HashMap::new();
        for entry in Dir::read_from(&*directory)? {
            let entry = entry?;
            here.insert(entry.file_name().to_bytes().to_vec(), entry.file_type());
        }
        for (name, kind) in entries {
            let wanted = FileType::from_raw_mode(*kind);
            let finding = |what, detail| Finding { oid, what, offset: 0, len: 0, name: name.clone(), detail };
            match here.get(name) {
                None => self.findings.add(finding(Difference::Missing, "the secondary lacks it".to_owned())),
                Some(&found) if found != wanted && found != FileType::Unknown => {
                    self.findings.add(finding(Difference::Type, format!("{wanted:?} on the primary, {found:?} here")));
                }
                Some(_) => {}
            }
            seen.insert(name.clone());
        }
        if more {
            self.findings.listed = Some((oid, seen));
            return Ok(());
        }
        for name in here.into_keys().filter(|name| name != b"." && name != b".." && !seen.contains(name)) {
            let detail = "only the secondary has it".to_owned();
            self.findings.add(Finding { oid, what: Difference::Surplus, offset: 0, len: 0, name, detail });
        }
        Ok(())
    }

    fn check_meta(&mut self, oid: Oid, meta: &Meta, size: u64, (target, links): (&[u8], u32)) -> io::Result<()> {
        let (file, kind) = self.object(oid)?;
        let stat = fstat(&*file)?;
        let mut told = Vec::new();
        let here = Inode::new(&*file, kind).meta()?;
        attributes(meta, &here, kind, &mut told);
        if kind == FileType::RegularFile && stat.st_size as u64 != size {
            told.push((Difference::Size, format!("{size} bytes on the primary, {} on the secondary", stat.st_size)));
        }
        if kind == FileType::Symlink && readlinkat(&*file, "", Vec::new())?.as_bytes() != target {
            told.push((Difference::Object, "another target".to_owned()));
        }
        if kind != FileType::Directory && u32::try_from(stat.st_nlink) != Ok(links) {
            told.push((Difference::Object, format!("{links} names on the primary, {} here", stat.st_nlink)));
        }
        told.into_iter().for_each(|told| self.found(oid, told));
        Ok(())
    }

    fn check_blocks(&mut self, oid: Oid, offset: u64, len: u64, sums: &[ContentSum]) -> io::Result<()> {
        let (file, _) = self.object(oid)?;
        if !sums.is_empty() {
            return self.compare(oid, &file, (offset, len), sums);
        }
        // It reads as zeros there; only what is written here need be read.
        for segment in segments(&*file, offset, offset.saturating_add(len))?.iter().filter(|segment| !segment.zeros) {
            let mut at = segment.start - segment.start % CHECK_BLOCK;
            while at < segment.end {
                let piece = CHECK_RANGE.min(segment.end - at);
                self.compare(oid, &file, (at, piece), &[])?;
                at += piece;
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        oid: Oid,
        file: &OwnedFd,
        (offset, len): (u64, u64),
        theirs: &[ContentSum],
    ) -> io::Result<()> {
        let mine = content_sums(file, offset, len)?;
        if mine == theirs {
            return Ok(());
        }
        let mut differing: Option<(u64, u64)> = None;
        for index in 0..usize::try_from(len.div_ceil(CHECK_BLOCK)).unwrap_or(0) {
            let (one, other) = (mine.get(index).copied(), theirs.get(index).copied());
            let from = offset + index as u64 * CHECK_BLOCK;
            if one.unwrap_or_default() == other.unwrap_or_default() {
                continue;
            }
            let to = (from + CHECK_BLOCK).min(offset + len);
            differing = match differing {
                Some((start, end)) if end == from => Some((start, to)),
                Some(range) => {
                    self.content(oid, range);
                    Some((from, to))
                }
                None => Some((from, to)),
            };
        }
        if let Some(range) = differing {
            self.content(oid, range);
        }
        Ok(())
    }

    fn content(&mut self, oid: Oid, (from, to): (u64, u64)) {
        let what = Difference::Content;
        self.findings.add(Finding { oid, what, offset: from, len: to - from, name: Vec::new(), detail: String::new() });
    }
}

fn attributes(theirs: &Meta, here: &Meta, kind: FileType, told: &mut Vec<Told>) {
    let mut differ = Vec::new();
    if kind != FileType::Symlink && (theirs.mode ^ here.mode) & 0o7777 != 0 {
        differ.push(format!("mode {:o} on the primary, {:o} here", theirs.mode & 0o7777, here.mode & 0o7777));
    }
    if (theirs.uid, theirs.gid) != (here.uid, here.gid) {
        differ.push(format!("owner {}:{} on the primary, {}:{} here", theirs.uid, theirs.gid, here.uid, here.gid));
    }
    if theirs.mtime != here.mtime {
        differ.push("modification time".to_owned());
    }
    if !theirs.xattrs.iter().filter(|(name, _)| is_replicated(name)).eq(here.xattrs.iter()) {
        differ.push("extended attributes".to_owned());
    }
    if !differ.is_empty() {
        told.push((Difference::Attributes, differ.join(", ")));
    }
    if (kind.is_char_device() || kind.is_block_device()) && theirs.rdev != here.rdev {
        told.push((Difference::Object, "another device number".to_owned()));
    }
}
