//! Reading and writing parameters under their published names.
//!
//! All use of Burn's module traversal for weights is here. A name is the path of fields to the parameter,
//! joined by dots, with the index for lists: `down_blocks.0.resnets.1.conv1.weight`. Enums are transparent:
//! the variant chooses an implementation and does not appear in the name.

mod config;
mod names;
mod read;
mod write;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device};

use config::write_config;
pub(crate) use config::{read_config, read_file as read_config_file};
pub use names::{Parameter, parameters};
pub use read::read_weights;
pub use write::write_weights;

use crate::error::ModelError;

/// Name of the configuration file in a model folder.
pub(crate) const CONFIG_FILE: &str = "config.json";
/// Name of the weights file in a model folder.
pub(crate) const WEIGHTS_FILE: &str = "diffusion_pytorch_model.safetensors";

/// Where a network is loaded to, and in which element type.
///
/// # Example
///
/// ```
/// use burn::tensor::DType;
/// use langevin_models::Load;
///
/// # let device = burn::tensor::Device::flex();
/// let load = Load::on(&device).dtype(DType::BF16);
/// // let unet = UNet2d::load("ddpm-cifar10-32", load)?;
/// ```
#[derive(Debug, Clone)]
pub struct Load {
    device: Device,
    dtype: DType,
}

impl Load {
    /// Loads onto `device`, converted to f32.
    #[must_use]
    pub fn on(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32 }
    }

    /// Sets the element type that the weights are converted to, whatever the type they are stored in.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The element type, checked.
    pub(crate) fn compute_type(&self) -> Result<DType, ModelError> {
        let float = matches!(self.dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
        if float && self.device.supports_dtype(self.dtype) {
            Ok(self.dtype)
        } else {
            Err(ModelError::ComputeType { dtype: self.dtype })
        }
    }
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
