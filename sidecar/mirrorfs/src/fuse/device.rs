//! Requests by reading `/dev/fuse`, answers by writing to it: a system call each.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, read, writev};
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{InHeader, OutHeader};
use super::channel::{Answer, Channel, Request};

/// Header and arguments of a request at most, before its data.
const ARGUMENTS: usize = 4096;

/// One thread's buffers, and the device. Pages of the buffers are touched as requests need them.
pub struct Device<F> {
    device: F,
    request: Box<[MaybeUninit<u64>]>,
    room: Vec<u8>,
}

impl<F: AsFd> Device<F> {
    /// For requests and answers with at most `most` bytes of data.
    pub fn new(device: F, most: usize) -> Self {
        // Zeroed memory of this size is the kernel's zero page until it is written to.
        Self { device, request: Box::new_uninit_slice((ARGUMENTS + most) / 8), room: vec![0; most] }
    }
}

impl<F: AsFd> Channel for Device<F> {
    fn receive(&mut self) -> Result<(Request<'_>, &mut [u8]), Errno> {
        loop {
            let bytes = self.request.len() * 8;
            let start = self.request.as_mut_ptr().cast::<MaybeUninit<u8>>();
            // SAFETY: the same memory as bytes, which have no alignment and may be uninitialised; the only other use of
            // it is the request that is returned, which ends the loop.
            let buffer = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
            match read(&self.device, buffer) {
                Ok((request, _)) => {
                    // The kernel sends nothing shorter; what is no request cannot be answered either.
                    let Ok((header, rest)) = InHeader::read_from_prefix(request) else { continue };
                    return Ok((Request { header, fixed: None, rest }, &mut self.room));
                }
                // The request was interrupted before we read it, or this thread was.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                // ENODEV: unmounted. Anything else: the device is of no use either.
                Err(error) => return Err(error),
            }
        }
    }

    fn reply(&mut self, unique: u64, answer: &Answer) {
        let device = self.device.as_fd();
        match answer {
            Answer::Silence => {}
            Answer::Empty => send(device, unique, None, &[]),
            Answer::Bytes(bytes) => send(device, unique, None, bytes),
            Answer::Room(length) => send(device, unique, None, &self.room[..*length]),
            Answer::Error(errno) => send(device, unique, Some(*errno), &[]),
        }
    }
}

fn send(device: BorrowedFd<'_>, unique: u64, error: Option<Errno>, body: &[u8]) {
    let header = OutHeader {
        len: u32::try_from(size_of::<OutHeader>() + body.len()).unwrap_or(u32::MAX),
        error: error.map_or(0, |errno| -errno.raw_os_error()),
        unique,
    };
    // An error means that the mount or the request is gone, and concerns nobody.
    let _ = writev(device, &[IoSlice::new(header.as_bytes()), IoSlice::new(body)]);
}
