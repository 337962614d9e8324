//! The parsers of weight files, from the library's own files.

#[path = "../../crates/langevin-models/src/weights/format/mod.rs"]
pub mod format;
