//! The residual block whose normalizations are told by latents.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::error::ModelError;
use crate::layers::{Activation, Conv2d, Conv2dConfig, SpatialNorm, SpatialNormConfig};
use crate::tap::Tap;

/// Two convolutions, each after a [`SpatialNorm`] and an activation, added to the input.
///
/// # References
///
/// Zheng et al. 2022 (MoVQ), [arXiv:2209.09002](https://arxiv.org/abs/2209.09002), section 3.1.
#[derive(Module, Debug)]
pub struct SpatialResnetBlock2d {
    /// First normalization.
    pub norm1: SpatialNorm,
    /// First convolution.
    pub conv1: Conv2d,
    /// Second normalization.
    pub norm2: SpatialNorm,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Projection of the input, where the channels change.
    pub conv_shortcut: Option<Conv2d>,
    #[module(skip)]
    activation: Activation,
}

impl SpatialResnetBlock2d {
    pub(super) fn new(
        input: usize,
        output: usize,
        latents: usize,
        activation: Activation,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let norm = |channels| SpatialNormConfig::new(channels, latents).init(device);
        let conv = |input, output| Conv2dConfig::new(input, output, 3).padding(1).init(device);
        Ok(Self {
            norm1: norm(input)?,
            conv1: conv(input, output)?,
            norm2: norm(output)?,
            conv2: conv(output, output)?,
            conv_shortcut: match input == output {
                true => None,
                false => Some(Conv2dConfig::new(input, output, 1).init(device)?),
            },
            activation,
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>, latents: &Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let h = tap.scope("norm1", |tap| self.norm1.forward(x.clone(), latents, tap));
        let h = self.conv1.forward(self.activation.forward(h));
        tap.see("conv1", &h);
        let h = tap.scope("norm2", |tap| self.norm2.forward(h, latents, tap));
        let h = self.activation.forward(h);
        // There is no dropout in these networks; the module is there and returns what it is given.
        tap.see("dropout", &h);
        let h = self.conv2.forward(h);
        tap.see("conv2", &h);
        let x = match &self.conv_shortcut {
            Some(shortcut) => {
                let x = shortcut.forward(x);
                tap.see("conv_shortcut", &x);
                x
            }
            None => x,
        };
        let y = x + h;
        tap.see("", &y);
        y
    }
}
