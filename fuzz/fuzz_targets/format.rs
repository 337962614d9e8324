//! The parsers of weight files, from the library's own files.
#![allow(dead_code, unused_imports, reason = "each target uses a part")]

#[path = "../../crates/langevin-models/src/weights/format/mod.rs"]
pub mod format;
