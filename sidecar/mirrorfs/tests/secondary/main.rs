//! The secondary side, driven over real sockets by a scripted primary; and the formats on the wire and on disk.
//!
//! Needs root and a file system with extended attributes, ACLs and file handles under the temporary directory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod adoption;
mod disks;
mod formats;
mod lab;
mod model;
mod operations;
mod quarantine;
mod record;
mod resync;
mod sessions;
