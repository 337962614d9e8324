//! Reading safetensors into a network, one tensor at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path as FilePath, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use super::compute_type;
use super::names::{Path, current_name, parameters};
use crate::error::{Misshapen, ModelError, WeightMismatch};
use langevin_core::Load;

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
/// use langevin_core::Load;
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
    let dtype = compute_type(load)?;
    let file = WeightsFile::open(path.as_ref(), &module)?;
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
    fn open<M: Module>(path: &FilePath, module: &M) -> Result<Self, ModelError> {
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
        // Some networks use still what others have renamed.
        let known: BTreeSet<String> = parameters(module).into_iter().map(|parameter| parameter.name).collect();
        let name = |stored: String| if known.contains(&stored) { stored } else { current_name(&stored) };
        let tensors = metadata.tensors().into_iter().map(|(stored, info)| (name(stored), info.clone())).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Attention, AttentionConfig, Linear, LinearConfig};
    use crate::testing::{assert_close, flex, values};
    use crate::weights::write_weights;
    use safetensors::tensor::TensorView;

    fn layer(input: usize, output: usize) -> Linear {
        LinearConfig::new(input, output).init(&flex()).unwrap()
    }

    /// Writes tensors given as (name, type, shape, bytes).
    fn write(path: &FilePath, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            ((*name).to_owned(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views, None, path).unwrap();
    }

    #[test]
    fn every_float_type_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        // 1.5 and -0.25 have the same value in every type; the bits are theirs.
        let f16: Vec<u8> = [0x3e00u16, 0xb400].iter().flat_map(|b| b.to_le_bytes()).collect();
        let bf16: Vec<u8> = [0x3fc0u16, 0xbe80].iter().flat_map(|b| b.to_le_bytes()).collect();
        let f32: Vec<u8> = [1.5f32, -0.25].iter().flat_map(|b| b.to_le_bytes()).collect();
        let f64: Vec<u8> = [1.5f64, -0.25].iter().flat_map(|b| b.to_le_bytes()).collect();
        for (dtype, weight) in [(Dtype::F16, f16), (Dtype::BF16, bf16), (Dtype::F32, f32), (Dtype::F64, f64)] {
            let bias = weight[..weight.len() / 2].to_vec();
            write(&path, &[("weight", dtype, vec![1, 2], weight), ("bias", dtype, vec![1], bias)]);
            for asked in [DType::F32, DType::F16, DType::BF16, DType::F64] {
                let layer = read_weights(layer(2, 1), &path, &Load::on(&flex()).dtype(asked)).unwrap();
                assert_eq!(layer.weight.val().dtype(), asked);
                assert_close(&layer.weight.val(), &[1.5, -0.25], 0.0);
                assert_close(&layer.bias.unwrap().val(), &[1.5], 0.0);
            }
        }
    }

    #[test]
    fn everything_that_does_not_fit_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let zeros = |n: usize| vec![0u8; 4 * n];
        write(
            &path,
            &[
                ("weight", Dtype::F32, vec![3, 2], zeros(6)),
                ("extra", Dtype::F32, vec![1], zeros(1)),
                ("other.weight", Dtype::F32, vec![1], zeros(1)),
            ],
        );
        let error = read_weights(layer(3, 2), &path, &Load::on(&flex())).unwrap_err();
        let text = error.to_string();
        let ModelError::Weights { mismatch, .. } = error else { panic!("{error}") };
        assert_eq!(mismatch.missing, ["bias"]);
        assert_eq!(mismatch.unused, ["extra", "other.weight"]);
        let misshapen = Misshapen { name: "weight".into(), stored: vec![3, 2], expected: vec![2, 3] };
        assert_eq!(mismatch.misshapen, [misshapen]);
        for part in ["missing   bias", "unused    extra", "misshapen weight: stored [3, 2], expected [2, 3]"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn truncated_and_damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write_weights(&layer(3, 2), &path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let read = || read_weights(layer(3, 2), &path, &Load::on(&flex())).unwrap_err();
        for length in [0, 5, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = read();
            assert!(
                matches!(error, ModelError::Truncated { given, expected, .. }
                    if given == length as u64 && expected > given),
                "{error}"
            );
        }
        std::fs::write(&path, [whole.clone(), vec![0]].concat()).unwrap();
        assert!(matches!(read(), ModelError::Truncated { .. }));
        let mut damaged = whole.clone();
        damaged[8] = b'x';
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(read(), ModelError::Safetensors { .. }));
        std::fs::write(&path, [u64::MAX.to_le_bytes().to_vec(), whole].concat()).unwrap();
        assert!(matches!(read(), ModelError::Safetensors { source: SafeTensorError::HeaderTooLarge, .. }));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(), ModelError::Io { .. }));
    }

    #[test]
    fn integers_are_no_weights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write(&path, &[("weight", Dtype::I32, vec![1, 2], vec![0; 8]), ("bias", Dtype::F32, vec![1], vec![0; 4])]);
        let error = read_weights(layer(2, 1), &path, &Load::on(&flex())).unwrap_err();
        assert!(matches!(error, ModelError::StoredType { ref name, .. } if name == "weight"), "{error}");
        let error = read_weights(layer(2, 1), &path, &Load::on(&flex()).dtype(DType::I32)).unwrap_err();
        assert!(matches!(error, ModelError::ComputeType { dtype: DType::I32 }));
    }

    #[test]
    fn loading_does_not_initialize_first_and_keeps_what_trains() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write_weights(&layer(2, 2), &path).unwrap();
        let device = flex().autodiff();
        let fresh = LinearConfig::new(2, 2).init(&device).unwrap();
        let id = fresh.weight.id;
        let loaded = read_weights(fresh, &path, &Load::on(&device)).unwrap();
        assert_eq!(loaded.weight.id, id);
        assert!(loaded.weight.val().is_require_grad());
    }

    #[derive(Module, Debug)]
    struct Old {
        attentions: Vec<Attention>,
    }

    #[test]
    fn attention_under_its_old_names_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let bytes = |v: f32| [v; 4].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut tensors = Vec::new();
        for (i, name) in ["query", "key", "value", "proj_attn"].iter().enumerate() {
            let data = bytes(i as f32);
            tensors.push((format!("attentions.0.{name}.weight"), vec![2, 2], data.clone()));
            tensors.push((format!("attentions.0.{name}.bias"), vec![2], data[..8].to_vec()));
        }
        let tensors: Vec<_> = tensors.iter().map(|(n, s, d)| (n.as_str(), Dtype::F32, s.clone(), d.clone())).collect();
        write(&path, &tensors);
        let block = AttentionConfig::new(2, 1, 2).init(&flex()).unwrap();
        let old = read_weights(Old { attentions: vec![block] }, &path, &Load::on(&flex())).unwrap();
        let block = &old.attentions[0];
        for (i, layer) in [&block.to_q, &block.to_k, &block.to_v, &block.to_out[0]].iter().enumerate() {
            assert!(values(&layer.weight.val()).iter().all(|v| *v == i as f64));
        }
    }
}
