//! mirrorfs: a FUSE file system over a backing directory, whose every mutating operation goes to one peer in one
//! ordered stream and is applied there.
//!
//! * [`fs`] is the file system without FUSE: inode table and passthrough operations that stream what they did.
//! * `fuse` is the thin shell that speaks the kernel's protocol.
//! * [`op`], [`wire`] are the operations and how they cross the network.
//! * `stream` is the sequence: order, window, acknowledgements, resumption, on both sides.
//! * `resync` makes the peer's tree equal while the application runs.
//! * [`journal`] knows what may differ, so that a peer that comes back is compared only there.
//! * [`adoption`] gives the data of a deleted module to its successor.
//! * `apply` is the secondary's file system side; [`record`] the durable generation record.
//! * `engine` puts them together, and has the Python face.

pub mod adoption;
pub mod apply;
pub mod authority;
pub mod durable;
pub mod engine;
pub mod fs;
pub mod fuse;
pub mod journal;
pub mod lease;
pub mod marker;
pub mod op;
#[cfg(feature = "python")]
mod python;
pub mod record;
pub mod resync;
pub mod stream;
pub mod tree;
pub mod wire;
