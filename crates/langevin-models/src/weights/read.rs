//! Reading safetensors into a network, one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path as FilePath, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use super::Load;
use super::names::{Path, current_name, parameters};
use crate::error::{Misshapen, ModelError, WeightMismatch};

/// Replaces every parameter of a network with the tensor of the same name in a safetensors file.
///
/// The file is read one tensor at a time, and a parameter that was never used is not initialized first, so the
/// memory needed beyond the network itself is that of its largest tensor. F64, F32, F16 and BF16 are converted
/// to the asked element type.
///
/// # Errors
///
/// * [`ModelError::Weights`] lists everything that does not fit: missing, unused and misshapen tensors;
/// * [`ModelError::StoredType`] for tensors that do not hold floats;
/// * [`ModelError::Truncated`], [`ModelError::Safetensors`] and [`ModelError::Io`] for files that cannot be read;
/// * [`ModelError::ComputeType`] if the device does not have the asked element type.
///
/// # Example
///
/// ```
/// use langevin_models::layers::LinearConfig;
/// use langevin_models::weights::{read_weights, write_weights};
/// use langevin_models::Load;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("layer.safetensors");
/// let layer = LinearConfig::new(3, 5).init(&device)?;
/// write_weights(&layer, &path)?;
/// let other = LinearConfig::new(3, 5).init(&device)?;
/// let same = read_weights(other, &path, &Load::on(&device))?;
/// assert_eq!(same.weight.to_data(), layer.weight.to_data());
/// # Ok(()) }
/// ```
pub fn read_weights<M: Module>(module: M, path: impl AsRef<FilePath>, load: &Load) -> Result<M, ModelError> {
    let dtype = load.compute_type()?;
    let file = WeightsFile::open(path.as_ref())?;
    file.check(&module)?;
    let mut reader = Reader { file, dtype, path: Path::default(), error: None };
    let module = module.map(&mut reader);
    match reader.error {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// An open safetensors file and the tensors it holds, under their current names.
struct WeightsFile {
    path: PathBuf,
    file: File,
    /// Where the data of the tensors starts.
    start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl WeightsFile {
    fn open(path: &FilePath) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let bad = |source| ModelError::Safetensors { path: path.to_owned(), source };
        let truncated = |given, expected| ModelError::Truncated { path: path.to_owned(), given, expected };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < 8 {
            return Err(truncated(length, 8));
        }
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(io)?;
        let size = u64::from_le_bytes(size);
        // The format's own limit; without it a damaged length could ask for any amount of memory.
        if size > 100_000_000 {
            return Err(bad(SafeTensorError::HeaderTooLarge));
        }
        if length < 8 + size {
            return Err(truncated(length, 8 + size));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| bad(SafeTensorError::InvalidHeaderDeserialization(e)))?;
        let expected = 8 + size + metadata.data_len() as u64;
        if length != expected {
            return Err(truncated(length, expected));
        }
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (current_name(&name), info.clone())).collect();
        Ok(Self { path: path.to_owned(), file, start: 8 + size, tensors })
    }

    /// Compares names, shapes and types with those of the network.
    fn check<M: Module>(&self, module: &M) -> Result<(), ModelError> {
        let mut mismatch = WeightMismatch::default();
        let mut unused: BTreeMap<&String, &TensorInfo> = self.tensors.iter().collect();
        for parameter in parameters(module) {
            match unused.remove(&parameter.name) {
                None => mismatch.missing.push(parameter.name),
                Some(info) if info.shape != parameter.shape => mismatch.misshapen.push(Misshapen {
                    name: parameter.name,
                    stored: info.shape.clone(),
                    expected: parameter.shape,
                }),
                Some(info) => {
                    float_type(&parameter.name, info.dtype)?;
                }
            }
        }
        mismatch.unused = unused.into_keys().cloned().collect();
        if mismatch.is_empty() { Ok(()) } else { Err(ModelError::Weights { path: self.path.clone(), mismatch }) }
    }

    fn read(&mut self, name: &str) -> Result<TensorData, ModelError> {
        let io = |source| ModelError::Io { path: self.path.clone(), source };
        let info = &self.tensors[name];
        let dtype = float_type(name, info.dtype)?;
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        self.file.seek(SeekFrom::Start(self.start + from as u64)).map_err(io)?;
        self.file.read_exact(&mut bytes).map_err(io)?;
        Ok(TensorData::from_bytes_vec(bytes, info.shape.clone(), dtype))
    }
}

fn float_type(name: &str, dtype: Dtype) -> Result<DType, ModelError> {
    match dtype {
        Dtype::F64 => Ok(DType::F64),
        Dtype::F32 => Ok(DType::F32),
        Dtype::F16 => Ok(DType::F16),
        Dtype::BF16 => Ok(DType::BF16),
        other => Err(ModelError::StoredType { name: name.to_owned(), dtype: other.to_string() }),
    }
}

struct Reader {
    file: WeightsFile,
    dtype: DType,
    path: Path,
    error: Option<ModelError>,
}

impl ModuleMapper for Reader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        match self.file.read(&self.path.name()) {
            Ok(data) => {
                let tensor = Tensor::from_data(data, (&param.lazy_device(), self.dtype));
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}
