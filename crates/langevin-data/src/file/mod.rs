//! Data sets from files of the usual formats.
//!
//! * [`idx`]: MNIST, Fashion-MNIST and their kind;
//! * [`ImageFolder`]: a folder of PNG, JPEG or WebP images, with or without a subfolder for each class;
//! * [`csv`] and [`npy`]: vectors.
//!
//! What a file says about itself is believed only as far as the file holds it: nothing is allocated for more than what
//! is there, and what does not fit is a [`FileError`] that names the file.

pub mod csv;
mod folder;
pub mod idx;
pub mod npy;
mod problem;

pub use folder::{Fit, ImageFolder, LoadedImages};
pub use problem::{FileError, Problem};

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a file.
fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|source| FileError::new(path, Problem::Io { action: "open", source }))
}

/// Reads `promised` bytes, and finds out whether there are more. Memory grows with what is really there.
fn read_promised(mut reader: impl Read, promised: u64, path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let result = reader.by_ref().take(promised.saturating_add(1)).read_to_end(&mut bytes);
    result.map_err(|source| read_error(path, source))?;
    let found = bytes.len() as u64;
    if found < promised {
        return Err(FileError::new(path, Problem::Truncated { promised, found }));
    }
    if found > promised {
        return Err(FileError::new(path, Problem::Trailing { promised }));
    }
    Ok(bytes)
}

/// The error of a read: a compressed stream that ends early is damage, not a failure of the system.
fn read_error(path: &Path, source: io::Error) -> FileError {
    let damaged = matches!(
        source.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
    );
    let problem = if damaged { Problem::Compressed { source } } else { Problem::Io { action: "read", source } };
    FileError::new(path, problem)
}
