//! Where tensors and weights are put, and in which dtype.

use burn::tensor::{DType, Device};

/// A device and a dtype, as an argument: nothing here changes a device's defaults.
///
/// ```
/// # use burn::tensor::{DType, Device};
/// use langevin_core::Load;
/// let load = Load::on(&Device::flex()).dtype(DType::F16);
/// assert_eq!(load.options().1, DType::F16);
/// ```
#[derive(Clone, Debug)]
pub struct Load {
    device: Device,
    dtype: DType,
    variant: Option<String>,
}

impl Load {
    /// On this device, in `f32`.
    pub fn on(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32, variant: None }
    }

    /// In another floating-point dtype.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// From the files of a variant, such as `fp16` for `model.fp16.safetensors`. Only files know variants.
    pub fn variant(mut self, name: impl Into<String>) -> Self {
        self.variant = Some(name.into());
        self
    }

    /// The variant that was asked for.
    pub fn asked_variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Device and dtype, as tensor constructors take them.
    pub fn options(&self) -> (&Device, DType) {
        (&self.device, self.dtype)
    }
}
