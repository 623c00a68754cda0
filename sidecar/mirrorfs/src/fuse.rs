//! The shell between the kernel's FUSE protocol and [`crate::fs`]: decode, call, encode. No decisions are made here.
//!
//! It is our own because what the file system needs of the protocol is small and exact: unnamed files
//! (`FUSE_TMPFILE`), no open and release requests, one request size, threads that may block for the peer, and two ways
//! to the kernel ([`channel`]): `/dev/fuse`, and io_uring where the kernel offers it.

pub mod abi;
mod channel;
mod device;
mod dispatch;
mod handshake;
pub mod mount;
mod reply;
mod ring;
pub mod session;
mod uring;
