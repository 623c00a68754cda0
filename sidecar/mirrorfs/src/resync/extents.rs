//! What a file has on the disk: written data, preallocated space, holes.
//!
//! Two interfaces are needed. `FS_IOC_FIEMAP` (the kernel's Documentation/filesystems/fiemap.rst) tells holes from
//! preallocated space; `SEEK_DATA` (lseek(2)) does not, but tells where preallocated space has data in the page cache
//! that are not on the disk yet. On a file system without FIEMAP, `SEEK_DATA` alone has to do.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::Errno;

/// Extents asked for at once.
const EXTENTS: usize = 256;
/// `_IOWR('f', 11, struct fiemap)`.
const FS_IOC_FIEMAP: libc::c_ulong = 0xC020_660B;
const LAST: u32 = 0x1;
const UNWRITTEN: u32 = 0x800;

/// An allocated part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub start: u64,
    pub end: u64,
    /// Preallocated and never written: reads as zeros, and need not be read.
    pub zeros: bool,
}

impl Segment {
    /// The part of it within `start..end`, which it must touch.
    pub fn clipped(self, start: u64, end: u64) -> Self {
        Self { start: self.start.max(start), end: self.end.min(end), ..self }
    }
}

/// The allocated parts of a file within `start..end`, in order; what lies between them are holes, and so is what lies
/// past the end of the file. Moves the file's own offset.
pub fn segments(file: impl AsFd, start: u64, end: u64) -> io::Result<Vec<Segment>> {
    let file = file.as_fd();
    let end = end.min(u64::try_from(fstat(file)?.st_size).unwrap_or(0));
    if start >= end {
        return Ok(Vec::new());
    }
    let Some(extents) = extents(file, start, end)? else {
        return data_segments(file, start, end);
    };
    let mut segments = Vec::with_capacity(extents.len());
    for extent in extents {
        if !extent.zeros {
            segments.push(extent);
            continue;
        }
        let mut at = extent.start;
        for data in data_segments(file, extent.start, extent.end)? {
            if data.start > at {
                segments.push(Segment { start: at, end: data.start, zeros: true });
            }
            segments.push(data);
            at = data.end;
        }
        if at < extent.end {
            segments.push(Segment { start: at, end: extent.end, zeros: true });
        }
    }
    Ok(segments)
}

/// Space that is reserved beyond the end of the file, for what will be written there.
pub fn reserved(file: impl AsFd) -> io::Result<Vec<(u64, u64)>> {
    let file = file.as_fd();
    let stat = fstat(file)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if stat.st_blocks == 0 {
        return Ok(Vec::new());
    }
    let end = i64::MAX as u64;
    let block = u64::try_from(stat.st_blksize).unwrap_or(4096).clamp(512, 1 << 20);
    let beyond = extents(file, size.next_multiple_of(block), end)?.unwrap_or_default();
    Ok(beyond.iter().filter(|segment| segment.zeros).map(|segment| (segment.start, segment.end)).collect())
}

/// The allocated ranges, whatever is in them: neighbours are one.
pub fn merged(segments: &[Segment]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for segment in segments {
        match ranges.last_mut() {
            Some(last) if last.1 == segment.start => last.1 = segment.end,
            _ => ranges.push((segment.start, segment.end)),
        }
    }
    ranges
}

/// The parts with data, as `SEEK_DATA` has it: preallocated space counts as a hole unless the page cache has data for it.
pub fn data_segments(file: impl AsFd, start: u64, end: u64) -> io::Result<Vec<Segment>> {
    let file = file.as_fd();
    let mut segments = Vec::new();
    let mut at = start;
    while at < end {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // No data after `at`, or `at` is past the end.
            Err(Errno::NXIO) => break,
            // A file system without SEEK_DATA: everything counts as data.
            Err(Errno::INVAL) => {
                segments.push(Segment { start: at, end, zeros: false });
                break;
            }
            Err(error) => return Err(error.into()),
        };
        if data >= end {
            break;
        }
        let hole = match seek(file, SeekFrom::Hole(data)) {
            Ok(hole) => hole,
            // Truncated in between.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        segments.push(Segment { start: data, end: hole.min(end), zeros: false });
        at = hole;
    }
    Ok(segments)
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// The extents within `start..end`; `zeros` are those that were never written. `None`: the file system cannot tell.
fn extents(file: BorrowedFd<'_>, start: u64, end: u64) -> io::Result<Option<Vec<Segment>>> {
    let mut segments = Vec::new();
    let mut at = start;
    while at < end {
        let mut map = Fiemap {
            start: at,
            length: end - at,
            flags: 0,
            mapped: 0,
            count: EXTENTS as u32,
            reserved: 0,
            extents: [Extent::default(); EXTENTS],
        };
        // SAFETY: `map` has the layout of `struct fiemap` with room for `count` extents behind it, and lives during
        // the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => Ok(None),
                Some(libc::EINTR) => continue,
                _ => Err(error),
            };
        }
        let extents = &map.extents[..(map.mapped as usize).min(EXTENTS)];
        for extent in extents {
            let stop = extent.logical.saturating_add(extent.length).min(end);
            let first = extent.logical.max(at);
            if first < stop {
                segments.push(Segment { start: first, end: stop, zeros: extent.flags & UNWRITTEN != 0 });
                at = stop;
            }
        }
        if extents.len() < EXTENTS || extents.last().is_some_and(|extent| extent.flags & LAST != 0) {
            break;
        }
    }
    Ok(Some(segments))
}
