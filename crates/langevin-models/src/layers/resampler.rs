//! Halving and doubling images by layers with weights.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Conv2d, Conv2dConfig, ResnetBlock2d, upsample_nearest, upsample_nearest_2x};
use crate::error::ModelError;
use crate::tap::Tap;

/// What halves the image at the end of a block.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum Downsampler {
    /// A strided convolution.
    Conv(DownsampleConv),
    /// A residual block.
    Residual(ResnetBlock2d),
}

/// A strided convolution.
#[derive(Module, Debug)]
pub struct DownsampleConv {
    /// The convolution.
    pub conv: Conv2d,
    /// Whether zeros are added at the right and the bottom only.
    one_sided: bool,
}

impl DownsampleConv {
    /// A 3 x 3 convolution of `channels` channels with stride 2. Without padding, zeros are added at the right and the
    /// bottom only.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if there are no channels.
    pub fn new(channels: usize, padding: usize, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            conv: Conv2dConfig::new(channels, channels, 3).stride(2).padding(padding).init(device)?,
            one_sided: padding == 0,
        })
    }

    /// Halves height and width.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, channels, height, width]`
    /// - output: `[batch, channels, height/2, width/2]`, odd sizes rounded up with padding and down without
    pub fn forward(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let x = if self.one_sided { x.pad([(0, 1), (0, 1)], 0.0) } else { x };
        let y = self.conv.forward(x);
        tap.see("conv", &y);
        tap.see("", &y);
        y
    }
}

impl Downsampler {
    /// Halves height and width; residual blocks take the time embedding as [`ResnetBlock2d::forward`] does.
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>, tap: &mut Tap<'_>) -> Tensor<4> {
        match self {
            Self::Conv(layer) => layer.forward(x, tap),
            Self::Residual(block) => block.forward(x, time, tap),
        }
    }
}

/// What doubles the image at the end of a block.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a few, and modules are not moved in loops")]
pub enum Upsampler {
    /// Repetition and a convolution.
    Conv(UpsampleConv),
    /// A residual block.
    Residual(ResnetBlock2d),
}

/// A convolution after repeating every pixel.
#[derive(Module, Debug)]
pub struct UpsampleConv {
    /// The convolution.
    pub conv: Conv2d,
}

impl UpsampleConv {
    /// A 3 x 3 convolution from `input` to `output` channels.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if there are no channels.
    pub fn new(input: usize, output: usize, device: &Device) -> Result<Self, ModelError> {
        Ok(Self { conv: Conv2dConfig::new(input, output, 3).padding(1).init(device)? })
    }

    /// Doubles height and width, or brings them to `size`, before the convolution.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input, height, width]`
    /// - output: `[batch, output, 2·height, 2·width]`, or of the given height and width
    pub fn forward(&self, x: Tensor<4>, size: Option<[usize; 2]>, tap: &mut Tap<'_>) -> Tensor<4> {
        let x = match size {
            Some(size) => upsample_nearest(x, size),
            None => upsample_nearest_2x(x),
        };
        let y = self.conv.forward(x);
        tap.see("conv", &y);
        tap.see("", &y);
        y
    }
}

impl Upsampler {
    /// Doubles height and width; residual blocks take the time embedding as [`ResnetBlock2d::forward`] does.
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>, tap: &mut Tap<'_>) -> Tensor<4> {
        match self {
            Self::Conv(layer) => layer.forward(x, None, tap),
            Self::Residual(block) => block.forward(x, time, tap),
        }
    }
}
