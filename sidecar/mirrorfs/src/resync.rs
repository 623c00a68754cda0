//! Making the peer's tree equal while the application runs.

pub mod copy;
pub mod extents;
mod parts;
pub mod quarantine;
pub mod source;
pub mod sums;
pub mod target;
pub mod verify;
