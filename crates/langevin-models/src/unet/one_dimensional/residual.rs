//! Residual blocks of the network for trajectories.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::RESIDUAL_GROUPS;
use crate::error::ModelError;
use crate::layers::{
    Activation, Conv1d, Conv1dConfig, ConvTranspose1d, GroupNorm, GroupNormConfig, Linear, LinearConfig,
};
use crate::tap::Tap;

/// A convolution over five steps, normalization in eight groups, and Mish.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv1d: Conv1d,
    /// The normalization.
    pub group_norm: GroupNorm,
}

impl ConvNorm {
    fn new(input: usize, output: usize, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            conv1d: Conv1dConfig::new(input, output, 5).padding(2).init(device)?,
            group_norm: GroupNormConfig::new(RESIDUAL_GROUPS, output).init(device)?,
        })
    }

    /// Applies the three.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, input, length]`
    /// - output: `[batch, output, length]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let h = self.conv1d.forward(x);
        tap.see("conv1d", &h);
        let h = self.group_norm.forward(h);
        tap.see("group_norm", &h);
        let y = Activation::Mish.forward(h);
        tap.see("mish", &y);
        tap.see("", &y);
        y
    }
}

/// Two convolutions with the time embedding added between them, added to the input.
///
/// # References
///
/// Janner et al. 2022, [arXiv:2205.09991](https://arxiv.org/abs/2205.09991), appendix C.
#[derive(Module, Debug)]
pub struct ResidualBlock1d {
    /// First convolution.
    pub conv_in: ConvNorm,
    /// Second convolution.
    pub conv_out: ConvNorm,
    /// Projection of the time embedding.
    pub time_emb: Linear,
    /// Projection of the input, where the channels change.
    pub residual_conv: Option<Conv1d>,
}

impl ResidualBlock1d {
    pub(super) fn new(input: usize, output: usize, time: usize, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            conv_in: ConvNorm::new(input, output, device)?,
            conv_out: ConvNorm::new(output, output, device)?,
            time_emb: LinearConfig::new(time, output).init(device)?,
            residual_conv: (input != output).then(|| Conv1dConfig::new(input, output, 1).init(device)).transpose()?,
        })
    }

    /// Applies the block.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, input, length]`
    /// - time: `[batch, time]`
    /// - output: `[batch, output, length]`
    pub fn forward(&self, x: Tensor<3>, time: &Tensor<2>, tap: &mut Tap<'_>) -> Tensor<3> {
        let time = Activation::Mish.forward(time.clone());
        tap.see("time_emb_act", &time);
        let time = self.time_emb.forward(time);
        tap.see("time_emb", &time);
        let [batch, channels] = time.dims();
        let h = tap.scope("conv_in", |tap| self.conv_in.forward(x.clone(), tap));
        let h = h + time.reshape([batch, channels, 1]);
        let h = tap.scope("conv_out", |tap| self.conv_out.forward(h, tap));
        let residual = match &self.residual_conv {
            Some(conv) => conv.forward(x),
            None => x,
        };
        tap.see("residual_conv", &residual);
        let y = h + residual;
        tap.see("", &y);
        y
    }
}

/// Halves a signal by a convolution.
#[derive(Module, Debug)]
pub struct ConvDown {
    /// The convolution.
    pub conv: Conv1d,
}

impl ConvDown {
    pub(super) fn new(channels: usize, device: &Device) -> Result<Self, ModelError> {
        Ok(Self { conv: Conv1dConfig::new(channels, channels, 3).stride(2).padding(1).init(device)? })
    }

    /// Halves the length, odd ones rounded up.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, channels, length]`
    /// - output: `[batch, channels, length/2]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let y = self.conv.forward(x);
        tap.see("conv", &y);
        tap.see("", &y);
        y
    }
}

/// Doubles a signal by a transposed convolution.
#[derive(Module, Debug)]
pub struct ConvUp {
    /// The transposed convolution.
    pub conv: ConvTranspose1d,
}

impl ConvUp {
    pub(super) fn new(channels: usize, device: &Device) -> Result<Self, ModelError> {
        Ok(Self { conv: Conv1dConfig::new(channels, channels, 4).stride(2).padding(1).init_transposed(device)? })
    }

    /// Doubles the length.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, channels, length]`
    /// - output: `[batch, channels, 2·length]`
    pub fn forward(&self, x: Tensor<3>, tap: &mut Tap<'_>) -> Tensor<3> {
        let y = self.conv.forward(x);
        tap.see("conv", &y);
        tap.see("", &y);
        y
    }
}
