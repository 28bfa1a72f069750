//! Errors as clients see them.
//!
//! `code` is the one table of codes, `problem` the object that every error answer is, and
//! `conversions` say which code each part's errors have.

mod code;
mod conversions;
mod problem;

pub use code::Code;
pub use problem::Problem;
