//! Block sums: what a file holds, block by block, so that equal blocks need not cross the network.
//!
//! A sum covers the block's allocation as well as its bytes, because holes have to come out equal too: a block of zeros
//! and a hole have different sums. Preallocated space and written zeros have the same: the file system turns the one
//! into the other as it likes.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::fstat;
use rustix::io::{Errno, pread};

use super::extents::{merged, segments};
use crate::op::{BlockSum, CHECK_BLOCK, CHECK_RANGE, ContentSum};

/// Bytes in a block.
pub const SUM_BLOCK: u64 = 64 << 10;
/// Most bytes that one request may cover.
pub const SUM_RANGE: u64 = 16 << 20;

/// The same for blocks that are known to differ.
pub const FINE_BLOCK: u64 = 4 << 10;
pub const FINE_RANGE: u64 = 1 << 20;

/// The size of the file, and the sums of its blocks in `offset..offset + len`. `offset` must be a multiple of
/// [`SUM_BLOCK`]; a last partial block counts as one.
pub fn block_sums(file: impl AsFd, offset: u64, len: u64) -> io::Result<(u64, Vec<BlockSum>)> {
    sums_of(file, offset, len, SUM_BLOCK)
}

/// The same of blocks of [`FINE_BLOCK`] bytes.
pub fn fine_sums(file: impl AsFd, offset: u64, len: u64) -> io::Result<(u64, Vec<BlockSum>)> {
    sums_of(file, offset, len, FINE_BLOCK)
}

fn sums_of(file: impl AsFd, offset: u64, len: u64, block: u64) -> io::Result<(u64, Vec<BlockSum>)> {
    let file = file.as_fd();
    let end = offset.saturating_add(len);
    let segments = segments(file, offset, end)?;
    let mut rest = segments.as_slice();
    let mut buffer = vec![0_u8; block as usize];
    let zeros = vec![0_u8; block as usize];
    let mut sums = Vec::with_capacity(usize::try_from(len.div_ceil(block)).unwrap_or(0));
    let mut start = offset;
    while start < end {
        let stop = start.saturating_add(block).min(end);
        while rest.first().is_some_and(|segment| segment.end <= start) {
            rest = &rest[1..];
        }
        let within: Vec<_> = rest
            .iter()
            .take_while(|segment| segment.start < stop)
            .map(|segment| segment.clipped(start, stop))
            .collect();
        start = stop;
        if within.is_empty() {
            sums.push(BlockSum::Hole);
            continue;
        }
        let mut hasher = blake3::Hasher::new();
        for (from, to) in merged(&within) {
            hasher.update(&(from % block).to_le_bytes());
            hasher.update(&(to - from).to_le_bytes());
        }
        for segment in within {
            let wanted = usize::try_from(segment.end - segment.start).unwrap_or(buffer.len());
            if segment.zeros {
                hasher.update(&zeros[..wanted]);
            } else {
                let got = read_up_to(file, &mut buffer[..wanted], segment.start)?;
                hasher.update(&buffer[..got]);
            }
        }
        let mut sum = [0; 16];
        sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        sums.push(BlockSum::Data(sum));
    }
    Ok((u64::try_from(fstat(file)?.st_size).unwrap_or(0), sums))
}

/// Fill the buffer as far as the file goes; returns how far.
pub fn read_up_to(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match pread(file.as_fd(), &mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}

const NO_CONTENT: ContentSum = [0; 16];

/// Sums of what reading `offset..offset + len` gives, in blocks of [`CHECK_BLOCK`] bytes; empty when it reads as zeros.
/// `offset` must be a multiple of it. What lies past the end of the file reads as zeros.
///
/// Unlike [`block_sums`] it does not matter what is allocated: two file systems may differ in that.
pub fn content_sums(file: impl AsFd, offset: u64, len: u64) -> io::Result<Vec<ContentSum>> {
    let file = file.as_fd();
    let end = offset.saturating_add(len);
    if segments(file, offset, end)?.iter().all(|segment| segment.zeros) {
        return Ok(Vec::new());
    }
    let mut buffer = vec![0_u8; usize::try_from(len.min(CHECK_RANGE)).unwrap_or(0)];
    let got = read_up_to(file, &mut buffer, offset)?;
    let mut sums: Vec<_> = buffer[..got].chunks(CHECK_BLOCK as usize).map(content_sum).collect();
    if sums.iter().all(|sum| *sum == NO_CONTENT) {
        return Ok(Vec::new());
    }
    sums.resize(usize::try_from(len.div_ceil(CHECK_BLOCK)).unwrap_or(sums.len()), NO_CONTENT);
    Ok(sums)
}

fn content_sum(block: &[u8]) -> ContentSum {
    if block.iter().all(|&byte| byte == 0) {
        return NO_CONTENT;
    }
    let mut sum = NO_CONTENT;
    sum.copy_from_slice(&blake3::hash(block).as_bytes()[..16]);
    sum
}
