//! How requests come from the kernel and answers go back: what the transports have in common.
//!
//! A channel belongs to one thread, which may block between a request and its answer.

use rustix::io::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::abi::InHeader;

/// A request as it came.
pub struct Request<'a> {
    pub header: InHeader,
    /// The first structure of its arguments, if that came apart; it may be followed by bytes that mean nothing.
    pub fixed: Option<&'a [u8]>,
    pub rest: &'a [u8],
}

/// What is sent back.
pub enum Answer {
    /// Nothing at all: the kernel does not wait for it.
    Silence,
    Empty,
    Bytes(Vec<u8>),
    /// That many bytes of the room that came with the request.
    Room(usize),
    Error(Errno),
}

impl Answer {
    pub fn of(value: &(impl IntoBytes + Immutable)) -> Self {
        Self::Bytes(value.as_bytes().to_vec())
    }
}

/// One thread's way from and to the kernel.
pub trait Channel {
    /// Wait for the next request. With it comes room for a long answer.
    ///
    /// # Errors
    /// The mount is gone, or the channel is of no use (any more).
    fn receive(&mut self) -> Result<(Request<'_>, &mut [u8]), Errno>;

    /// Answer the request that was received last. Nobody can be told of an error: then the mount is gone.
    fn reply(&mut self, unique: u64, answer: &Answer);
}
