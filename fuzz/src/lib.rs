//! What must be true of the decoders of kernel records, whatever bytes they are given. The fuzz targets and
//! `tests/kernel_mutations.rs` check the same.

mod allocated;
pub mod blocks;
pub mod event;
pub mod mend;
pub mod record;
pub mod seeds;
pub mod stream;
