//! Reading weights into a network, one tensor at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;

use crate::layers::arrange_weights;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};

use super::names::{Path, parameters};
use super::stored::{Stored, StoredWeights, float_type};
use super::{DIFFUSERS, Rename, compute_type, folder};
use crate::error::{Misshapen, ModelError, WeightMismatch};
use langevin_core::Load;

/// Replaces every parameter of a network with the stored tensor of the same name.
///
/// `path` is a safetensors file, the index of a set of them (`*.index.json`), or a model folder. Of a folder, the
/// file or index with the usual name is read: `diffusion_pytorch_model` or `model`, of the asked
/// [variant](Load::variant).
///
/// The files are read one tensor at a time and a piece of each, and a parameter that was never used is not
/// initialized first, so the memory needed beyond the network itself is small. F64, F32, F16 and BF16 are converted
/// to the asked element type.
///
/// # Errors
///
/// * [`ModelError::Weights`] lists everything that does not fit: missing, unused and misshapen tensors;
/// * [`ModelError::StoredType`] for tensors that do not hold floats;
/// * [`ModelError::WeightsFile`] and [`ModelError::Io`] for files that cannot be read;
/// * [`ModelError::NoWeights`], [`ModelError::SeveralWeights`] and [`ModelError::OutsideFolder`] for folders;
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
    read_renamed(module, path.as_ref(), load, DIFFUSERS.rename)
}

/// As [`read_weights`], with other names in the file.
pub(super) fn read_renamed<M: Module>(
    module: M,
    path: &FilePath,
    load: &Load,
    rename: Rename,
) -> Result<M, ModelError> {
    let stored = if path.is_dir() { folder::open(path, load.asked_variant())? } else { StoredWeights::open(path)? };
    // Some networks still use what others have renamed.
    let known: BTreeSet<String> = parameters(&module).into_iter().map(|parameter| parameter.name).collect();
    let stored = stored.renamed(|old, has| match rename(old, has) {
        Some(new) if !known.contains(&new) && known.contains(old) => Some(old.to_owned()),
        name => name,
    })?;
    fill(module, &stored, load)
}

/// Replaces every parameter of a network with the stored tensor of its name.
pub(super) fn fill<M: Module>(module: M, stored: &StoredWeights, load: &Load) -> Result<M, ModelError> {
    let dtype = compute_type(load)?;
    check(&module, stored)?;
    let mut reader = Reader { stored, dtype, path: Path::default(), error: None };
    let module = module.map(&mut reader);
    match reader.error {
        Some(error) => Err(error),
        None => Ok(arrange_weights(module)),
    }
}

/// Compares names, shapes and types with those of the network.
fn check<M: Module>(module: &M, stored: &StoredWeights) -> Result<(), ModelError> {
    let mut mismatch = WeightMismatch::default();
    let mut unused: BTreeMap<&str, &Stored> = stored.iter().collect();
    for parameter in parameters(module) {
        match unused.remove(parameter.name.as_str()) {
            None => mismatch.missing.push(parameter.name),
            // A number without dimensions is one of one dimension here.
            Some(tensor) if tensor.shape.is_empty() && parameter.shape == [1] => {
                float_type(&parameter.name, &tensor.dtype)?;
            }
            Some(tensor) if tensor.shape != parameter.shape => mismatch.misshapen.push(Misshapen {
                name: parameter.name,
                stored: tensor.shape.clone(),
                expected: parameter.shape,
            }),
            Some(tensor) => float_type(&parameter.name, &tensor.dtype)?,
        }
    }
    mismatch.unused = unused.into_keys().map(str::to_owned).collect();
    if mismatch.is_empty() { Ok(()) } else { Err(ModelError::Weights { path: stored.path().to_owned(), mismatch }) }
}

struct Reader<'a> {
    stored: &'a StoredWeights,
    dtype: DType,
    path: Path,
    error: Option<ModelError>,
}

impl ModuleMapper for Reader<'_> {
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
        match self.stored.read(&self.path.name(), self.dtype) {
            Ok(data) => {
                let dtype = data.dtype();
                let data = TensorData::from_bytes(data.into_bytes(), param.lazy_shape(), dtype);
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
    use crate::weights::FileProblem;
    use crate::weights::write_weights;
    use safetensors::Dtype;
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
        let problem = || match read() {
            ModelError::WeightsFile { problem, .. } => problem,
            error => panic!("{error}"),
        };
        for length in [0, 5, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let problem = problem();
            assert!(
                matches!(problem, FileProblem::Length { given, expected } if given == length as u64 && expected > given),
                "{problem}"
            );
        }
        std::fs::write(&path, [whole.clone(), vec![0]].concat()).unwrap();
        assert!(matches!(problem(), FileProblem::Length { .. }));
        let mut damaged = whole.clone();
        damaged[8] = b'x';
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(problem(), FileProblem::Header { .. }));
        std::fs::write(&path, [u64::MAX.to_le_bytes().to_vec(), whole].concat()).unwrap();
        assert!(matches!(problem(), FileProblem::HeaderTooLarge { size: u64::MAX, .. }));
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
