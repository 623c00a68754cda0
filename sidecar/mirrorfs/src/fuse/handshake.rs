//! `FUSE_INIT`: what the kernel offers, and what we take of it.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, read};
use zerocopy::FromBytes;

use super::abi::{self, InHeader, InitIn, InitOut, init, opcode};
use super::channel::{Answer, Channel};
use super::device::Device;

/// Requests of the kernel's in the background at once; beyond the second number it holds back more.
const BACKGROUND: (u16, u16) = (64, 48);
/// The smallest buffer that the kernel reads into (`FUSE_MIN_READ_BUFFER`).
const BUFFER: usize = 8192;

/// The kernel's first request on a new mount; it sends nothing else before the answer.
pub struct Offer {
    unique: u64,
    theirs: InitIn,
}

impl Offer {
    /// Wait for it.
    pub fn read(device: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut buffer = [0; BUFFER];
        let length = rustix::io::retry_on_intr(|| read(device, &mut buffer))?;
        let (header, rest) = InHeader::read_from_prefix(&buffer[..length]).map_err(|_| Errno::PROTO)?;
        if header.opcode != opcode::INIT {
            return Err(Errno::PROTO);
        }
        // Older kernels send less; they are refused below, by their version.
        let mut whole = [0; size_of::<InitIn>()];
        let known = rest.len().min(whole.len());
        whole[..known].copy_from_slice(&rest[..known]);
        let (theirs, _) = InitIn::read_from_prefix(&whole).map_err(|_| Errno::PROTO)?;
        Ok(Self { unique: header.unique, theirs })
    }

    /// Whether requests can come through io_uring.
    pub fn has_rings(&self) -> bool {
        self.flags() & init::OVER_IO_URING != 0
    }

    fn flags(&self) -> u64 {
        u64::from(self.theirs.flags) | u64::from(self.theirs.flags2) << 32
    }

    /// Agree on requests with at most `most` bytes of data. `rings`: requests are to come through io_uring; they wait
    /// until every CPU has an entry, or one is refused.
    ///
    /// # Errors
    /// `EPROTO` when the kernel is too old; it has been told.
    pub fn accept(self, device: BorrowedFd<'_>, most: usize, rings: bool) -> Result<(), Errno> {
        let answer = if self.theirs.major == abi::MAJOR && self.theirs.minor >= abi::OLDEST_MINOR {
            Answer::of(&self.answer(most, rings))
        } else {
            Answer::Error(Errno::PROTO)
        };
        Device::new(device, 0).reply(self.unique, &answer);
        if matches!(answer, Answer::Error(_)) { Err(Errno::PROTO) } else { Ok(()) }
    }

    fn answer(&self, most: usize, rings: bool) -> InitOut {
        // No WRITEBACK_CACHE: a write(2) must not return before we have seen it. No locks: the kernel's are enough.
        let mut wanted = init::ASYNC_READ
            | init::BIG_WRITES
            | init::DONT_MASK
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::ASYNC_DIO
            | init::NO_OPEN_SUPPORT
            | init::PARALLEL_DIROPS
            | init::POSIX_ACL
            | init::MAX_PAGES
            | init::CACHE_SYMLINKS
            | init::NO_OPENDIR_SUPPORT
            | init::HANDLE_KILLPRIV_V2
            | init::SETXATTR_EXT
            | init::INIT_EXT;
        if rings {
            wanted |= init::OVER_IO_URING;
        }
        let agreed = wanted & self.flags();
        InitOut {
            major: abi::MAJOR,
            minor: self.theirs.minor.min(abi::MINOR),
            max_readahead: self.theirs.max_readahead,
            flags: agreed as u32,
            flags2: (agreed >> 32) as u32,
            max_background: BACKGROUND.0,
            congestion_threshold: BACKGROUND.1,
            max_write: most as u32,
            time_gran: 1,
            max_pages: (most / 4096) as u16,
            ..InitOut::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(flags: u64) -> Offer {
        let theirs = InitIn {
            major: 7,
            minor: 45,
            max_readahead: 131_072,
            flags: flags as u32,
            flags2: (flags >> 32) as u32,
            ..InitIn::default()
        };
        Offer { unique: 1, theirs }
    }

    #[test]
    fn nothing_is_taken_that_is_not_offered() {
        let answer = offer(init::BIG_WRITES | init::INIT_EXT).answer(1 << 20, true);
        assert_eq!(u64::from(answer.flags), init::BIG_WRITES | init::INIT_EXT);
        assert_eq!((answer.flags2, answer.max_write, answer.max_pages), (0, 1 << 20, 256));
    }

    #[test]
    fn rings_are_taken_only_when_they_are_wanted() {
        let offer = offer(u64::MAX);
        assert!(offer.has_rings());
        let flags2 = |rings| u64::from(offer.answer(1 << 20, rings).flags2) << 32;
        assert_eq!((flags2(true), flags2(false)), (init::OVER_IO_URING, 0));
    }
}
