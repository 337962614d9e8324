//! Normalization that latents scale and shift, pixel by pixel.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Conv2d, Conv2dConfig, GroupNorm, GroupNormConfig, upsample_nearest};
use crate::error::ModelError;
use crate::tap::Tap;

/// Groups of the normalization: the published networks have this number, whatever their configuration says elsewhere.
pub(crate) const GROUPS: usize = 32;

/// Configuration of a [`SpatialNorm`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::SpatialNormConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = SpatialNormConfig::new(64, 4).init(&device)?;
/// assert_eq!(layer.conv_y.weight.dims(), [64, 4, 1, 1]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpatialNormConfig {
    /// Channels that are normalized, a multiple of 32.
    pub channels: usize,
    /// Channels of the latents.
    pub latents: usize,
}

impl SpatialNormConfig {
    /// Normalizes `channels` channels, told by latents of `latents` channels.
    #[must_use]
    pub fn new(channels: usize, latents: usize) -> Self {
        Self { channels, latents }
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero or `channels` is no multiple of 32.
    pub fn init(&self, device: &Device) -> Result<SpatialNorm, ModelError> {
        let conv = || Conv2dConfig::new(self.latents, self.channels, 1).init(device);
        Ok(SpatialNorm {
            norm_layer: GroupNormConfig::new(GROUPS, self.channels).epsilon(1e-6).init(device)?,
            conv_y: conv()?,
            conv_b: conv()?,
        })
    }
}

/// Normalizes in 32 groups, then scales and shifts every pixel by projections of the latents there:
/// `norm(x) · y(z) + b(z)`, with `z` brought to the size of `x` by repetition. Made by [`SpatialNormConfig::init`].
///
/// # References
///
/// Zheng et al. 2022 (MoVQ), [arXiv:2209.09002](https://arxiv.org/abs/2209.09002), section 3.1.
#[derive(Module, Debug)]
pub struct SpatialNorm {
    /// The normalization.
    pub norm_layer: GroupNorm,
    /// From latents to scales.
    pub conv_y: Conv2d,
    /// From latents to shifts.
    pub conv_b: Conv2d,
}

impl SpatialNorm {
    /// Normalizes.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, channels, height, width]`
    /// - latents: `[batch, latents, any, any]`
    pub fn forward(&self, x: Tensor<4>, latents: &Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let latents = upsample_nearest(latents.clone(), [height, width]);
        let x = self.norm_layer.forward(x);
        tap.see("norm_layer", &x);
        let scale = self.conv_y.forward(latents.clone());
        tap.see("conv_y", &scale);
        let shift = self.conv_b.forward(latents);
        tap.see("conv_b", &shift);
        let y = x * scale + shift;
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    #[test]
    fn every_pixel_is_scaled_and_shifted_by_its_latent() {
        let device = flex();
        let layer = SpatialNormConfig::new(32, 2).init(&device).unwrap();
        let x = tensor([1, 32, 4, 4], 0.3, &device);
        let z = tensor([1, 2, 2, 2], 0.8, &device);
        let (wy, by) = (values(&layer.conv_y.weight.val()), values(&layer.conv_y.bias.as_ref().unwrap().val()));
        let (wb, bb) = (values(&layer.conv_b.weight.val()), values(&layer.conv_b.bias.as_ref().unwrap().val()));
        let (hx, hz) = (values(&x), values(&z));
        let mut expected = Vec::new();
        for (c, pixels) in hx.chunks(16).enumerate() {
            // 32 channels in 32 groups: each has its own mean and variance.
            let mean = pixels.iter().sum::<f64>() / 16.0;
            let variance = pixels.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 16.0;
            for (i, v) in pixels.iter().enumerate() {
                let at = (i / 4 / 2) * 2 + i % 4 / 2;
                let told = |w: &[f64], b: &[f64]| w[2 * c] * hz[at] + w[2 * c + 1] * hz[4 + at] + b[c];
                expected.push((v - mean) / (variance + 1e-6).sqrt() * told(&wy, &by) + told(&wb, &bb));
            }
        }
        assert_close(&layer.forward(x, &z, &mut Tap::none()), &expected, 1e-5);
    }

    #[test]
    fn refuses_impossible_sizes() {
        for (config, name) in [
            (SpatialNormConfig::new(33, 2), "groups"),
            (SpatialNormConfig::new(0, 2), "channels"),
            (SpatialNormConfig::new(32, 0), "input"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
