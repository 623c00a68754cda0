//! The receiving side of a resynchronisation: makes directories, sizes, blocks and attributes equal.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, fallocate, fstat, ftruncate, readlinkat, statat};
use rustix::io::Errno;

use super::copy::remove_tree;
use super::extents::{reserved, segments};
use crate::apply::attributes::Inode;
use crate::apply::objects::Child;
use crate::apply::operations::{New, write_all};
use crate::apply::{Applier, ApplyError};
use crate::op::{Meta, Oid, Op, Place, SyncEntry};

/// A directory whose entries are coming in pieces.
#[derive(Debug)]
pub struct Listing {
    oid: Oid,
    names: HashSet<Vec<u8>>,
}

impl Applier {
    /// Make the directory hold exactly these entries (or, with `more`, at least these). Returns for each the size of
    /// the regular file that was there already, else 0.
    pub(crate) fn sync_directory(
        &mut self,
        oid: Oid,
        meta: &Meta,
        entries: &[SyncEntry],
        more: bool,
    ) -> Result<Vec<u64>, ApplyError> {
        let directory = self.objects.open(oid)?;
        let volume = self.objects.get(oid)?.volume;
        let mut listing = match self.listing.take() {
            Some(listing) if listing.oid == oid => listing,
            _ => Listing { oid, names: HashSet::new() },
        };
        let mut sizes = Vec::with_capacity(entries.len());
        for entry in entries {
            let at = Place { parent: oid, name: entry.name.clone() };
            let size = self.sync_entry(&directory, volume, entry);
            sizes.push(size.map_err(|error| self.at("synchronise", &at, error))?);
            listing.names.insert(at.name);
        }
        if more {
            self.listing = Some(listing);
            return Ok(sizes);
        }
        let surplus = surplus(&directory, &listing.names).map_err(|error| self.on("list", oid, &directory, error))?;
        for name in surplus {
            let result = self.discard(&directory, volume, &name);
            result.map_err(|error| self.at("remove", &Place { parent: oid, name }, error))?;
        }
        Inode::new(&*directory, FileType::Directory)
            .set_meta(meta)
            .map_err(|error| self.on("set the attributes of", oid, &directory, error))?;
        Ok(sizes)
    }

    /// These entries of the directory are level. What is not as the primary believes is found here, or never.
    pub(crate) fn keep_entries(&mut self, oid: Oid, names: &[Vec<u8>]) -> Result<(), ApplyError> {
        let directory = self.objects.open(oid)?;
        let mut listing = match self.listing.take() {
            Some(listing) if listing.oid == oid => listing,
            _ => Listing { oid, names: HashSet::new() },
        };
        for name in names {
            if let Err(error) = statat(&*directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                return Err(self.at("find unchanged", &Place { parent: oid, name: name.clone() }, error));
            }
            listing.names.insert(name.clone());
        }
        self.listing = Some(listing);
        Ok(())
    }

    fn sync_entry(&mut self, directory: &OwnedFd, volume: usize, entry: &SyncEntry) -> io::Result<u64> {
        let existing = self.objects.child(directory.as_fd(), volume, &entry.name)?;
        if let Some(object) = self.objects.find(entry.oid) {
            // Another name of an object that came earlier.
            let there = existing.as_ref().is_some_and(|child| child.identity == object.identity);
            let size = if object.kind == FileType::RegularFile { self.size_of(entry.oid)? } else { 0 };
            if there {
                return Ok(size);
            }
            if existing.is_some() {
                self.discard(directory, volume, &entry.name)?;
            }
            self.link_object(entry.oid, directory, &entry.name)?;
            return Ok(size);
        }
        let reusable = existing.as_ref().map(|child| self.is_reusable(child, entry)).transpose()?.unwrap_or(false);
        let kind = FileType::from_raw_mode(entry.meta.mode);
        let mut size = 0;
        match existing {
            Some(child) if reusable => {
                if kind == FileType::RegularFile {
                    size = u64::try_from(child.stat.st_size).unwrap_or(0);
                } else if kind != FileType::Directory {
                    Inode::new(&*child.fd, kind).set_meta(&entry.meta)?;
                }
                let pristine = self.quarantine.is_some() && kind == FileType::RegularFile;
                self.objects.insert(entry.oid, volume, child, pristine);
            }
            existing => {
                if existing.is_some() {
                    self.discard(directory, volume, &entry.name)?;
                }
                let new = if kind == FileType::Symlink { New::Symlink(&entry.target) } else { New::Plain };
                self.make(entry.oid, directory, volume, &entry.name, &new, &entry.meta)?;
                return Ok(0);
            }
        }
        Ok(size)
    }

    fn size_of(&mut self, oid: Oid) -> io::Result<u64> {
        let file = self.objects.open(oid).map_err(io::Error::other)?;
        Ok(u64::try_from(fstat(&*file)?.st_size).unwrap_or(0))
    }

    /// May the entry that is there become the primary's, or is it another thing?
    fn is_reusable(&self, child: &Child, entry: &SyncEntry) -> io::Result<bool> {
        // Two names of one inode here that are two files there: the second name gets a file of its own.
        if child.kind != FileType::from_raw_mode(entry.meta.mode) || self.objects.bound_to(&child.identity).is_some() {
            return Ok(false);
        }
        Ok(match child.kind {
            FileType::Symlink => readlinkat(&*child.fd, "", Vec::new())?.into_bytes() == entry.target,
            FileType::CharacterDevice | FileType::BlockDevice => child.stat.st_rdev == entry.meta.rdev,
            _ => true,
        })
    }

    /// Take an entry away: to the quarantine, if there is one, else for good.
    pub(crate) fn discard(&mut self, directory: &OwnedFd, volume: usize, name: &[u8]) -> io::Result<()> {
        let place = self.objects.relative_path(volume, directory);
        match &mut self.quarantine {
            Some(quarantine) => quarantine.take(volume, directory, &place, name),
            None => remove_tree(directory, name),
        }
    }

    /// Contents and attributes of one file.
    pub(crate) fn sync_object(&mut self, op: &Op<'_>, file: &OwnedFd, kind: FileType) -> Result<(), ApplyError> {
        let (oid, result) = match op {
            Op::SyncSize { oid, size } => {
                let now = fstat(file).map(|stat| u64::try_from(stat.st_size).unwrap_or(0));
                if now == Ok(*size) && reserved(file).is_ok_and(|reserved| reserved.is_empty()) {
                    return Ok(());
                }
                self.save_before_change(*oid)?;
                (*oid, ftruncate(file, *size).map_err(io::Error::from))
            }
            Op::SyncBlock { oid, offset, data } => {
                self.save_before_change(*oid)?;
                (*oid, write_all(file, data, *offset))
            }
            Op::SyncHole { oid, offset, len } => {
                let end = offset.saturating_add(*len);
                if segments(file, *offset, end).is_ok_and(|segments| segments.is_empty()) {
                    return Ok(());
                }
                self.save_before_change(*oid)?;
                (*oid, punch(file, *offset, *len))
            }
            Op::SyncPrealloc { oid, offset, len } => {
                self.save_before_change(*oid)?;
                (*oid, preallocate(file, *offset, *len))
            }
            Op::SyncMeta { oid, meta } => {
                if let Some(object) = self.objects.get_mut(*oid) {
                    object.pristine = false;
                }
                (*oid, Inode::new(&file, kind).set_meta(meta))
            }
            _ => return Ok(()),
        };
        result.map_err(|error| self.on("synchronise", oid, file, error))
    }

    /// The contents of a file are about to change: what only this node had is saved once.
    pub(crate) fn save_before_change(&mut self, oid: Oid) -> Result<(), ApplyError> {
        if self.quarantine.is_none() || !self.objects.get(oid)?.pristine {
            return Ok(());
        }
        let volume = self.objects.get(oid)?.volume;
        let file = self.objects.open(oid)?;
        let path = self.objects.relative_path(volume, &file);
        if let Some(quarantine) = &mut self.quarantine {
            let saved = quarantine.save(volume, &file, &path);
            saved.map_err(|error| self.on("save to the quarantine", oid, &file, error))?;
        }
        if let Some(object) = self.objects.get_mut(oid) {
            object.pristine = false;
        }
        Ok(())
    }

    /// A name is about to go, and perhaps the file with it.
    pub(crate) fn save_before_removal(&mut self, directory: &OwnedFd, at: &Place) -> Result<(), ApplyError> {
        if self.quarantine.is_none() {
            return Ok(());
        }
        let volume = self.objects.get(at.parent)?.volume;
        let child = self.objects.child(directory.as_fd(), volume, &at.name).map_err(|e| self.at("look at", at, e))?;
        match child.and_then(|child| self.objects.bound_to(&child.identity)) {
            Some(oid) => self.save_before_change(oid),
            None => Ok(()),
        }
    }
}

fn surplus(directory: &OwnedFd, wanted: &HashSet<Vec<u8>>) -> io::Result<Vec<Vec<u8>>> {
    let mut surplus = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !wanted.contains(name) {
            surplus.push(name.to_vec());
        }
    }
    Ok(surplus)
}

fn punch(file: &OwnedFd, offset: u64, len: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
        // A file system without holes: zeros read the same.
        Err(Errno::OPNOTSUPP) => zero(file, offset, len),
        other => Ok(other?),
    }
}

fn preallocate(file: &OwnedFd, offset: u64, len: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, len) {
        Err(Errno::OPNOTSUPP) => zero(file, offset, len),
        other => Ok(other?),
    }
}

fn zero(file: &OwnedFd, offset: u64, len: u64) -> io::Result<()> {
    let size = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
    let end = offset.saturating_add(len).min(size);
    let zeros = vec![0; 64 << 10];
    let mut at = offset;
    while at < end {
        let piece = usize::try_from(end - at).unwrap_or(zeros.len()).min(zeros.len());
        write_all(file, &zeros[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}
