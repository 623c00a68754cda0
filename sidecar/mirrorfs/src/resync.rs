//! Making the peer's tree equal while the application runs.

pub mod copy;
pub mod extents;
pub mod pace;
mod parts;
pub mod quarantine;
pub mod quiet;
pub mod source;
pub mod sums;
pub mod target;
mod total;
pub mod verify;
