//! Weights in files, before there is a network.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, TensorData};

use super::convert::read_elements;
use super::folder::inside;
use super::format::{FileProblem, LARGEST_HEADER, StoredTensor, StoredType, read_header, read_index};
use crate::error::ModelError;

/// Open weight files and the tensors they hold: names, shapes and types at once, data when it is asked for.
///
/// One file, or several with their index: safetensors, or PyTorch's with the feature `pytorch`. What the headers say is compared with the files when they are opened, so
/// reading a tensor allocates no more than the file holds for it.
///
/// # Example
///
/// ```
/// use burn::tensor::DType;
/// use langevin_models::layers::LinearConfig;
/// use langevin_models::weights::{StoredWeights, write_weights};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("layer.safetensors");
/// write_weights(&LinearConfig::new(3, 5).init(&device)?, &path)?;
/// let stored = StoredWeights::open(&path)?;
/// let shapes: Vec<_> = stored.iter().map(|(name, tensor)| (name, &tensor.shape[..])).collect();
/// assert_eq!(shapes, [("bias", &[5][..]), ("weight", &[5, 3][..])]);
/// assert_eq!(stored.read("weight", DType::F16)?.dtype(), DType::F16);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct StoredWeights {
    path: PathBuf,
    files: Vec<PathBuf>,
    tensors: BTreeMap<String, Stored>,
}

/// A stored tensor.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Type of its elements as files name it: `F16`, `F8_E4M3`.
    pub dtype: StoredType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its file.
    pub(super) file: usize,
    /// Its place there.
    pub(super) place: Place,
    /// The shape that is stored, of which `shape` is a part.
    pub(super) whole: Vec<usize>,
    /// Which part.
    pub(super) cut: Cut,
}

/// Which part of a stored tensor is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// All of it.
    Whole,
    /// All of it, rows as columns.
    Transposed,
    /// One of three equal parts, one after the other.
    Third {
        /// Which.
        part: usize,
    },
    /// One of three tensors whose rows follow each other a head at a time.
    HeadThird {
        /// Which.
        part: usize,
        /// Rows of a head.
        head: usize,
    },
}

impl Stored {
    pub(super) fn new(dtype: StoredType, shape: Vec<usize>, file: usize, place: Place) -> Self {
        Self { dtype, whole: shape.clone(), shape, file, place, cut: Cut::Whole }
    }

    /// A part of it, of the given shape.
    pub(super) fn cut(&self, cut: Cut, shape: Vec<usize>) -> Self {
        Self { cut, shape, ..self.clone() }
    }

    fn take(&self, data: TensorData) -> TensorData {
        if self.cut == Cut::Whole && self.shape == self.whole {
            return data;
        }
        let dtype = data.dtype();
        let (bytes, size) = (data.as_bytes(), dtype.size());
        let rows = self.whole.first().copied().unwrap_or(1);
        let row = bytes.len().checked_div(rows).unwrap_or(0);
        let taken: Vec<u8> = match self.cut {
            Cut::Whole => bytes.to_vec(),
            Cut::Transposed => {
                let element = |at: usize| &bytes[at * size..(at + 1) * size];
                let columns = row / size;
                (0..columns)
                    .flat_map(|column| (0..rows).flat_map(move |r| element(r * columns + column)))
                    .copied()
                    .collect()
            }
            Cut::Third { part } => bytes.chunks(bytes.len().div_ceil(3).max(1)).nth(part).unwrap_or_default().to_vec(),
            Cut::HeadThird { part, head } => {
                bytes.chunks((head * row).max(1)).skip(part).step_by(3).flatten().copied().collect()
            }
        };
        TensorData::from_bytes_vec(taken, self.shape.clone(), dtype)
    }
}

/// Where the data of a tensor is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In a file from a byte on.
    File(Arc<Mutex<File>>, u64),
    /// Where a pickle says.
    #[cfg(feature = "pytorch")]
    Pickled(Arc<pytorch_reader::Tensor>),
}

impl StoredWeights {
    /// Opens a safetensors file, a PyTorch file (`.bin`, `.pt`, `.pth`, `.ckpt`) or an index (`*.json`), whose files are in the same folder.
    ///
    /// # Errors
    ///
    /// * [`ModelError::Io`] for files that cannot be opened or that are no ordinary files;
    /// * [`ModelError::WeightsFile`] for files that break their format;
    /// * [`ModelError::OutsideFolder`] if a file that an index names is a link to elsewhere.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        match path.extension().is_some_and(|end| end == "json") {
            true => Self::open_index(path),
            false => Self::open_file(path),
        }
    }

    fn open_file(path: &Path) -> Result<Self, ModelError> {
        let tensors = open_one(path, 0)?.into_iter().collect();
        Ok(Self { path: path.to_owned(), files: vec![path.to_owned()], tensors })
    }

    fn open_index(path: &Path) -> Result<Self, ModelError> {
        let problem = |problem| ModelError::WeightsFile { path: path.to_owned(), problem };
        let (mut file, length) = open_ordinary(path)?;
        let json = read_bytes(&mut file, path, length)?;
        let index = read_index(&json).map_err(problem)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let (mut files, mut tensors) = (Vec::new(), BTreeMap::new());
        for (i, name) in index.files.iter().enumerate() {
            let shard = inside(folder, name)?;
            for (name, stored) in open_one(&shard, i)? {
                if tensors.insert(name.clone(), stored).is_some() {
                    return Err(problem(FileProblem::Duplicate { name }));
                }
            }
            files.push(shard);
        }
        // Every tensor of the index is in its file, and there are no others.
        let mut named = BTreeMap::new();
        for (name, file) in index.tensors {
            if tensors.get(&name).is_none_or(|stored: &Stored| stored.file != file) {
                return Err(problem(FileProblem::Index { name, file: index.files[file].clone() }));
            }
            named.insert(name, file);
        }
        if let Some((name, stored)) = tensors.iter().find(|(name, _)| !named.contains_key(*name)) {
            let file = index.files[stored.file].clone();
            return Err(problem(FileProblem::Index { name: name.clone(), file }));
        }
        Ok(Self { path: path.to_owned(), files, tensors })
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and descriptions of the tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), stored))
    }

    /// The description of a tensor.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// Reads a tensor in the asked float type. Beyond the result it takes less than a MiB, or as much as is stored if the
    /// file is PyTorch's.
    ///
    /// # Errors
    ///
    /// * [`ModelError::StoredType`] for tensors that do not hold floats, [`ModelError::ComputeType`] if no float is asked;
    /// * [`ModelError::Io`] if there is no such tensor or it cannot be read.
    pub fn read(&self, name: &str, dtype: DType) -> Result<TensorData, ModelError> {
        let Some(stored) = self.tensors.get(name) else {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, format!("no tensor `{name}`"));
            return Err(ModelError::Io { path: self.path.clone(), source });
        };
        float_type(name, &stored.dtype)?;
        let io = |source| ModelError::Io { path: self.files[stored.file].clone(), source };
        let data = match &stored.place {
            Place::File(file, offset) => {
                // Reading moves the one place of the file: threads take turns.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(*offset)).map_err(io)?;
                read_elements(&mut *file, &stored.dtype, &stored.whole, dtype)
            }
            #[cfg(feature = "pytorch")]
            Place::Pickled(tensor) => {
                let bytes = tensor.read().map_err(io)?;
                read_elements(&bytes[..], &stored.dtype, &stored.whole, dtype)
            }
        };
        Ok(stored.take(data.ok_or(ModelError::ComputeType { dtype })?.map_err(io)?))
    }

    /// The same files with other tensors.
    pub(super) fn with(self, tensors: BTreeMap<String, Stored>) -> Self {
        Self { tensors, ..self }
    }

    /// Gives tensors other names, as `rename` says, or drops them.
    ///
    /// # Errors
    ///
    /// [`ModelError::WeightsFile`] if two tensors get the same name.
    pub(super) fn renamed(
        mut self,
        rename: impl Fn(&str, &dyn Fn(&str) -> bool) -> Option<String>,
    ) -> Result<Self, ModelError> {
        let mut tensors = BTreeMap::new();
        for (name, stored) in &self.tensors {
            let Some(name) = rename(name, &|other| self.tensors.contains_key(other)) else { continue };
            if tensors.insert(name.clone(), stored.clone()).is_some() {
                return Err(ModelError::WeightsFile { path: self.path, problem: FileProblem::Duplicate { name } });
            }
        }
        self.tensors = tensors;
        Ok(self)
    }
}

/// Refuses tensors that are no weights, by name.
pub(super) fn float_type(name: &str, dtype: &StoredType) -> Result<(), ModelError> {
    match dtype {
        StoredType::Other(dtype) => Err(ModelError::StoredType { name: name.to_owned(), dtype: dtype.clone() }),
        _ => Ok(()),
    }
}

/// Opens a file, which must be one: reading a device or a pipe could go on for ever.
pub(super) fn open_ordinary(path: &Path) -> Result<(File, u64), ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    // Opening a pipe would wait for its writer.
    let about = std::fs::metadata(path).map_err(io)?;
    if !about.is_file() {
        return Err(io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not an ordinary file")));
    }
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    Ok((file, length))
}

/// The tensors of a file with the number `place`, by its kind.
fn open_one(path: &Path, place: usize) -> Result<Vec<(String, Stored)>, ModelError> {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    if !["bin", "pt", "pth", "ckpt"].contains(&end) {
        return open_safetensors(path, place);
    }
    #[cfg(feature = "pytorch")]
    return super::pytorch::open(path, place);
    #[cfg(not(feature = "pytorch"))]
    Err(ModelError::WeightsFile { path: path.to_owned(), problem: FileProblem::PytorchFeature })
}

fn open_safetensors(path: &Path, place: usize) -> Result<Vec<(String, Stored)>, ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let problem = |problem| ModelError::WeightsFile { path: path.to_owned(), problem };
    let (mut file, length) = open_ordinary(path)?;
    if length < 8 {
        return Err(problem(FileProblem::Length { given: length, expected: 8 }));
    }
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(io)?;
    let size = u64::from_le_bytes(size);
    if size > LARGEST_HEADER {
        return Err(problem(FileProblem::HeaderTooLarge { size, limit: LARGEST_HEADER }));
    }
    if length - 8 < size {
        return Err(problem(FileProblem::Length { given: length, expected: 8 + size }));
    }
    let header = read_bytes(&mut file, path, size)?;
    let tensors = read_header(&header, length).map_err(problem)?;
    let file = Arc::new(Mutex::new(file));
    let stored =
        |tensor: StoredTensor| Stored::new(tensor.dtype, tensor.shape, place, Place::File(file.clone(), tensor.offset));
    Ok(tensors.into_iter().map(|tensor| (tensor.name.clone(), stored(tensor))).collect())
}

fn read_bytes(file: &mut File, path: &Path, length: u64) -> Result<Vec<u8>, ModelError> {
    if length > LARGEST_HEADER {
        let problem = FileProblem::HeaderTooLarge { size: length, limit: LARGEST_HEADER };
        return Err(ModelError::WeightsFile { path: path.to_owned(), problem });
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Reads a text file whole, if it is an ordinary file of the size of texts.
pub(super) fn read_text(path: &Path) -> Result<String, ModelError> {
    let (mut file, length) = open_ordinary(path)?;
    let bytes = read_bytes(&mut file, path, length)?;
    String::from_utf8(bytes).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error());
        ModelError::Io { path: path.to_owned(), source }
    })
}
