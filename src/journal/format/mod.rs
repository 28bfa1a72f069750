//! The meaning of the journal's bytes: one file a format, each with its reader.
//!
//! `format.md` beside this module describes all of them. Nothing here does I/O.

pub(crate) mod chunk;
pub(crate) mod entry;
mod extras;
pub(in crate::journal) mod positions;
pub(crate) mod varint;
