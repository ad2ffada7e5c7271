//! The storage half of semj: bytes, trees and queries. It knows no actor, no thread and no clock.

pub mod backend;
pub mod blobs;
pub mod chaos;
pub mod error;
pub mod event;
pub mod kernel;
pub mod limits;
pub mod log;
pub mod plant;
pub mod query;
pub mod trees;
pub mod verify;
