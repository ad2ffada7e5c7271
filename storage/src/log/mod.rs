//! The record: segments of blocks of commit units.

pub mod entry;
pub mod idset;
