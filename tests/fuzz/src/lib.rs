//! What the fuzz targets share: independent statements of formats, to hold the broker's against.
//!
//! Run by `.ci/fuzz`. A target is a file in `fuzz_targets`; what it has found worth keeping, in
//! `corpus`. What a target can't reach from outside it reaches through `weir::exposed`.

pub mod frames;
pub mod json;
pub mod messages;
