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
}

impl Load {
    /// On this device, in `f32`.
    pub fn on(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32 }
    }

    /// In another floating-point dtype.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
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
