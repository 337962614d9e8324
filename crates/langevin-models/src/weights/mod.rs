//! Reading and writing parameters under their published names.
//!
//! All use of Burn's module traversal for weights is here. A name is the path of fields to the parameter,
//! joined by dots, with the index for lists: `down_blocks.0.resnets.1.conv1.weight`. Enums are transparent:
//! the variant chooses an implementation and does not appear in the name.

mod config;
mod names;
mod read;
mod transplant;
mod write;

use std::path::Path;

use burn::module::Module;
use burn::tensor::DType;
use langevin_core::Load;

use config::write_config;
pub(crate) use config::{read_config, read_file as read_config_file};
pub use names::{Parameter, parameters};
pub use read::read_weights;
pub(crate) use transplant::Transplant;
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

/// Reads the weights file of a model folder into a network that was built from the folder's configuration.
pub(crate) fn read_folder<M: Module>(module: M, folder: &Path, load: &Load) -> Result<M, ModelError> {
    read_weights(module, folder.join(WEIGHTS_FILE), load)
}

/// Writes a configuration and weights as a model folder, each file complete or not at all.
pub(crate) fn write_folder<M: Module>(module: &M, config: &serde_json::Value, folder: &Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|source| ModelError::Io { path: folder.to_owned(), source })?;
    write_config(config, folder)?;
    write_weights(module, folder.join(WEIGHTS_FILE))
}
