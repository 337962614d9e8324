//! Writing the parameters of a network as safetensors.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use safetensors::{Dtype, SafeTensorError, View, serialize_to_file};

use super::names::Path;
use crate::error::ModelError;

/// Writes every parameter of a network to a safetensors file under its published name, in its own element type.
///
/// The file is written beside its destination and renamed, so a reader sees the old file or the new one.
/// Parameters are copied from the device one at a time.
///
/// # Errors
///
/// * [`ModelError::StoredType`] for parameters that are not F64, F32, F16 or BF16;
/// * [`ModelError::Io`] or [`ModelError::Safetensors`] if the file cannot be written.
pub fn write_weights<M: Module>(module: &M, path: impl AsRef<FilePath>) -> Result<(), ModelError> {
    write_file(collect(module)?, path.as_ref())
}

/// The parameters of a network, to be written one at a time.
pub(super) fn collect<M: Module>(module: &M) -> Result<Vec<(String, Stored)>, ModelError> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    match collector.error {
        Some(error) => Err(error),
        None => Ok(collector.tensors),
    }
}

/// Writes one file, complete or not at all.
pub(super) fn write_file(tensors: Vec<(String, Stored)>, path: &FilePath) -> Result<(), ModelError> {
    // Other loaders of this format refuse files without this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // A bare file name has an empty parent, in which no temporary file can be made.
    let target = std::path::absolute(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    // Temporary files are private to their user; the one that takes this place is to be an ordinary file.
    let rights = ordinary_rights(&target).map_err(io)?;
    serialize_to_file(tensors, Some(metadata), &target).map_err(|source| match source {
        SafeTensorError::IoError(source) => io(source),
        source => ModelError::Safetensors { path: path.to_owned(), source },
    })?;
    std::fs::set_permissions(&target, rights).map_err(io)
}

/// The rights of the file at `target`, or those that a new one would get.
fn ordinary_rights(target: &FilePath) -> std::io::Result<std::fs::Permissions> {
    if let Ok(old) = std::fs::metadata(target) {
        return Ok(old.permissions());
    }
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut probe = target.as_os_str().to_owned();
    // A name of its own, which must be new: neither a neighbor nor another writer may lose a file.
    probe.push(format!(".{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe)?;
    let rights = file.metadata()?.permissions();
    drop(file);
    std::fs::remove_file(&probe)?;
    Ok(rights)
}

/// A parameter that is copied to the host when its bytes are asked for.
pub(super) struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Box<dyn Fn() -> Vec<u8>>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned((self.bytes)())
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

#[derive(Default)]
struct Collector {
    path: Path,
    tensors: Vec<(String, Stored)>,
    error: Option<ModelError>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        let tensor = param.val();
        let dtype = match tensor.dtype() {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            other => {
                self.error.get_or_insert(ModelError::StoredType { name, dtype: format!("{other:?}") });
                return;
            }
        };
        let shape = tensor.dims().to_vec();
        let bytes = Box::new(move || tensor.to_data().as_bytes().to_vec());
        self.tensors.push((name, Stored { dtype, shape, bytes }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::LinearConfig;
    use crate::testing::{flex, values};
    use safetensors::SafeTensors;

    #[test]
    fn writes_torch_names_layouts_and_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut layer = LinearConfig::new(3, 2).init(&flex()).unwrap();
        layer.weight = layer.weight.map(|w| w.cast(DType::F16));
        write_weights(&layer, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let weight = tensors.tensor("weight").unwrap();
        assert_eq!((weight.dtype(), weight.shape()), (Dtype::F16, &[2, 3][..]));
        let bias = tensors.tensor("bias").unwrap();
        assert_eq!((bias.dtype(), bias.shape()), (Dtype::F32, &[2][..]));
        let stored: Vec<f64> =
            bias.data().chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
        assert_eq!(stored, values(&layer.bias.unwrap().val()));
    }

    #[test]
    fn an_old_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        std::fs::write(&path, "old").unwrap();
        write_weights(&LinearConfig::new(3, 2).init(&flex()).unwrap(), &path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 3);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_file_as_far_as_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("w.safetensors"), folder.path().join("plain"));
        let layer = LinearConfig::new(3, 2).init(&flex()).unwrap();
        write_weights(&layer, &ours).unwrap();
        std::fs::write(&plain, "x").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
        // The rights of a file that is there stay.
        std::fs::set_permissions(&ours, PermissionsExt::from_mode(0o640)).unwrap();
        write_weights(&layer, &ours).unwrap();
        assert_eq!(mode(&ours) & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/w.safetensors");
        let error = write_weights(&LinearConfig::new(3, 2).init(&flex()).unwrap(), path).unwrap_err();
        assert!(matches!(error, ModelError::Io { .. }), "{error}");
    }
}
