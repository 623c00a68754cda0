//! The ordered stream of operations between the two nodes.

pub mod primary;
pub mod secondary;
