//! The storage half of semj: bytes, trees and queries. It knows no actor, no thread and no clock.

pub mod event;
pub mod limits;
