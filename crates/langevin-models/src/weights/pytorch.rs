//! PyTorch files, read without running them.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use pytorch_reader::{DType, PytorchReader};

use super::format::{FileProblem, LARGEST_PICKLE, MOST_DIMENSIONS, StoredType, read_archive, scan_legacy, scan_pickle};
use super::stored::{Place, Stored, open_ordinary};
use crate::error::ModelError;

/// Key under which training programs keep the weights beside other things.
const NESTED: &str = "state_dict.";

/// The tensors of a PyTorch file: an archive, or the sequence of pickles of PyTorch before 1.6.
///
/// The file is checked first (see [`read_archive`] and [`scan_pickle`]); what passes is described by `pytorch-reader`,
/// which knows how tensors are put together and calls nothing.
pub(super) fn open(path: &Path, place: usize) -> Result<Vec<(String, Stored)>, ModelError> {
    let problem = |problem| ModelError::WeightsFile { path: path.to_owned(), problem };
    let (file, length) = open_ordinary(path)?;
    scan(file, length).map_err(problem)?;
    let reader =
        PytorchReader::new(path).map_err(|error| problem(FileProblem::Pickle { reason: error.to_string() }))?;
    let tensors = reader.into_tensors();
    // `{"state_dict": {..}, "epoch": ..}`: nothing else in such a file has tensors.
    let nested = tensors.keys().all(|name| name.starts_with(NESTED));
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let given = tensor.byte_len() as u64;
        // A view may repeat its elements any number of times; weights have no such views.
        if given > length || tensor.shape().len() > MOST_DIMENSIONS {
            return Err(problem(FileProblem::Size { name, given, expected: length }));
        }
        let name = if nested { name[NESTED.len()..].to_owned() } else { name };
        let (dtype, shape) = (element(tensor.dtype()), tensor.shape().to_vec());
        stored.push((name, Stored::new(dtype, shape, place, Place::Pickled(Arc::new(tensor)))));
    }
    Ok(stored)
}

fn scan(file: impl Read + Seek, length: u64) -> Result<(), FileProblem> {
    let mut file = BufReader::new(file);
    let mut start = Vec::new();
    let read = (&mut file).take(LARGEST_PICKLE.min(length)).read_to_end(&mut start);
    read.and_then(|_| file.seek(SeekFrom::Start(0)))
        .map_err(|error| FileProblem::Pickle { reason: error.to_string() })?;
    if !start.starts_with(b"PK") {
        return scan_legacy(&start);
    }
    drop(start);
    let pickle = read_archive(file, length)?;
    match scan_pickle(&pickle)? == pickle.len() {
        true => Ok(()),
        false => Err(FileProblem::Pickle { reason: "it has bytes after its end".into() }),
    }
}

fn element(dtype: DType) -> StoredType {
    match dtype {
        DType::F64 => StoredType::F64,
        DType::F32 => StoredType::F32,
        DType::F16 => StoredType::F16,
        DType::BF16 => StoredType::BF16,
        other => StoredType::Other(format!("{other:?}").to_uppercase()),
    }
}
