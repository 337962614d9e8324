//! Reading and writing parameters under their published names.
//!
//! All use of Burn's module traversal for weights is here. A name is the path of fields to the parameter,
//! joined by dots, with the index for lists: `down_blocks.0.resnets.1.conv1.weight`. Enums are transparent:
//! the variant chooses an implementation and does not appear in the name.

mod config;
mod convert;
mod folder;
mod format;
mod names;
mod original;
#[cfg(feature = "pytorch")]
mod pytorch;
mod read;
mod shards;
mod stored;
mod transplant;
mod tree;
mod write;

use std::path::Path;

use burn::module::Module;
use burn::tensor::DType;
use langevin_core::Load;

use config::write_config;
pub(crate) use config::{published_value, read_any, read_config, read_file as read_config_file};
pub use format::{FileProblem, StoredType};
pub use names::{Parameter, parameters};
pub use original::QkvOrder;
use read::read_renamed;
pub use read::read_weights;
pub use shards::write_shards;
pub use stored::{Stored, StoredWeights};
pub(crate) use transplant::Transplant;
pub use tree::ModuleTree;
pub use write::write_weights;

use crate::error::ModelError;

/// Name of the configuration file in a model folder.
pub(crate) const CONFIG_FILE: &str = "config.json";
/// Name of the weights file in a model folder.
pub(crate) const WEIGHTS_FILE: &str = "diffusion_pytorch_model.safetensors";

/// The element type that parameters are converted to, checked.
pub(crate) fn compute_type(load: &Load) -> Result<DType, ModelError> {
    let (device, dtype) = load.options();
    let float = matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
    if float && device.supports_dtype(dtype) { Ok(dtype) } else { Err(ModelError::ComputeType { dtype }) }
}

/// How a library lays its model folders out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Name of the weights file that is written.
    pub(crate) file: &'static str,
    /// What the name of a stored tensor means.
    pub(crate) rename: Rename,
}

/// The parameter that a stored name stands for, or `None` for a tensor that no parameter is read from. The second
/// argument tells whether the file has a tensor of a name.
pub(crate) type Rename = fn(&str, &dyn Fn(&str) -> bool) -> Option<String>;

/// The layout of diffusers.
pub(crate) const DIFFUSERS: Layout =
    Layout { file: WEIGHTS_FILE, rename: |name, _| (!names::is_leftover(name)).then(|| names::current_name(name)) };

/// Reads the weights of a model folder into a network that was built from the folder's configuration.
pub(crate) fn read_folder<M: Module>(module: M, folder: &Path, load: &Load) -> Result<M, ModelError> {
    read_folder_as(module, folder, load, &DIFFUSERS)
}

/// As [`read_folder`], from a folder of another library.
pub(crate) fn read_folder_as<M: Module>(
    module: M,
    folder: &Path,
    load: &Load,
    layout: &Layout,
) -> Result<M, ModelError> {
    read_renamed(module, folder, load, layout.rename)
}

/// Writes a configuration and weights as a model folder, each file complete or not at all.
pub(crate) fn write_folder<M: Module>(module: &M, config: &serde_json::Value, folder: &Path) -> Result<(), ModelError> {
    write_folder_as(module, config, folder, &DIFFUSERS)
}

/// As [`write_folder`], for another library.
pub(crate) fn write_folder_as<M: Module>(
    module: &M,
    config: &serde_json::Value,
    folder: &Path,
    layout: &Layout,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|source| ModelError::Io { path: folder.to_owned(), source })?;
    write_config(config, folder)?;
    write_weights(module, folder.join(layout.file))
}
