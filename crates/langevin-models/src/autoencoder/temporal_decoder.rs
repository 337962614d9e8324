//! The decoder that sees all frames of a video.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::temporal::{AutoencoderKlTemporalDecoderConfig, GROUPS};
use crate::error::ModelError;
use crate::layers::{
    Activation, Attention, AttentionConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, GroupNorm, GroupNormConfig,
    SpatioTemporalResnet, SpatioTemporalResnetConfig, UpsampleConv, to_frames, to_video,
};
use crate::tap::Tap;

/// Epsilon of the normalizations over pixels.
const EPSILON: f64 = 1e-6;

/// A decoder of images whose residual blocks look at neighbouring frames, with a convolution over frames at the end.
#[derive(Module, Debug)]
pub struct TemporalDecoder {
    /// First convolution, of frames.
    pub conv_in: Conv2d,
    /// Block at the coarsest level.
    pub mid_block: TemporalMidBlock,
    /// Levels, coarsest first.
    pub up_blocks: Vec<TemporalUpBlock>,
    /// Normalization before the last convolution of frames.
    pub conv_norm_out: GroupNorm,
    /// Last convolution of frames.
    pub conv_out: Conv2d,
    /// Convolution over frames.
    pub time_conv_out: Conv3d,
}

/// Residual blocks at the coarsest level, with attention between the first two.
#[derive(Module, Debug)]
pub struct TemporalMidBlock {
    /// Attention over the pixels of a frame.
    pub attentions: Vec<Attention>,
    /// Residual blocks. Published weights have one for each layer, of which the class runs the first two.
    pub resnets: Vec<SpatioTemporalResnet>,
}

/// A level of the decoder: residual blocks, and doubling.
#[derive(Module, Debug)]
pub struct TemporalUpBlock {
    /// Residual blocks.
    pub resnets: Vec<SpatioTemporalResnet>,
    /// Doubling, except at the last level.
    pub upsamplers: Vec<UpsampleConv>,
}

fn resnet(input: usize, output: usize, device: &Device) -> Result<SpatioTemporalResnet, ModelError> {
    SpatioTemporalResnetConfig {
        epsilon: EPSILON,
        temporal_epsilon: 1e-5,
        mix: 0.0,
        swapped: true,
        ..SpatioTemporalResnetConfig::new(input, output, None)
    }
    .init(device)
}

impl TemporalDecoder {
    pub(super) fn new(config: &AutoencoderKlTemporalDecoderConfig, device: &Device) -> Result<Self, ModelError> {
        let channels = &config.channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let up = |i: usize| -> Result<TemporalUpBlock, ModelError> {
            let level = channels.len() - 1 - i;
            let (input, output) = (channels[(level + 1).min(channels.len() - 1)], channels[level]);
            let width = |l: usize| if l == 0 { input } else { output };
            Ok(TemporalUpBlock {
                resnets: (0..=config.layers).map(|l| resnet(width(l), output, device)).collect::<Result<_, _>>()?,
                upsamplers: if level > 0 { vec![UpsampleConv::new(output, output, device)?] } else { vec![] },
            })
        };
        let attention = AttentionConfig::new(last, 1, last).norm(Some(GROUPS), EPSILON);
        let over_frames = Conv3dConfig::new(config.out_channels, config.out_channels, [3, 1, 1]).padding([1, 0, 0]);
        Ok(Self {
            conv_in: Conv2dConfig::new(config.latent_channels, last, 3).padding(1).init(device)?,
            mid_block: TemporalMidBlock {
                attentions: vec![attention.init(device)?],
                resnets: (0..config.layers).map(|_| resnet(last, last, device)).collect::<Result<_, _>>()?,
            },
            up_blocks: (0..channels.len()).map(up).collect::<Result<_, _>>()?,
            conv_norm_out: GroupNormConfig::new(GROUPS, first).epsilon(EPSILON).init(device)?,
            conv_out: Conv2dConfig::new(first, config.out_channels, 3).padding(1).init(device)?,
            time_conv_out: over_frames.init(device)?,
        })
    }

    /// Decodes videos of `frames` frames each.
    ///
    /// # Shapes
    ///
    /// - z: `[batch·frames, latent_channels, height, width]`
    /// - output: `[batch·frames, out_channels, height·s, width·s]`, where s is 2 to the number of levels less one
    pub fn forward(&self, z: Tensor<4>, frames: usize, tap: &mut Tap<'_>) -> Tensor<4> {
        let h = self.conv_in.forward(z);
        tap.see("conv_in", &h);
        let mut h = tap.scope("mid_block", |tap| self.mid_block.forward(h, frames, tap));
        for (i, block) in self.up_blocks.iter().enumerate() {
            h = tap.scope(format_args!("up_blocks.{i}"), |tap| block.forward(h, frames, tap));
        }
        let h = self.conv_norm_out.forward(h);
        tap.see("conv_norm_out", &h);
        let h = Activation::Silu.forward(h);
        tap.see("conv_act", &h);
        let h = self.conv_out.forward(h);
        tap.see("conv_out", &h);
        let h = self.time_conv_out.forward(to_video(h, frames));
        tap.see("time_conv_out", &h);
        let y = to_frames(h);
        tap.see("", &y);
        y
    }
}

impl TemporalMidBlock {
    fn forward(&self, x: Tensor<4>, frames: usize, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = tap.scope("resnets.0", |tap| self.resnets[0].forward(x, None, frames, tap));
        // The class pairs attention with the blocks behind the first: one of each.
        for (i, (attention, resnet)) in self.attentions.iter().zip(&self.resnets[1..]).enumerate() {
            h = tap.scope(format_args!("attentions.{i}"), |tap| attention.forward_image(h, tap));
            h = tap.scope(format_args!("resnets.{}", i + 1), |tap| resnet.forward(h, None, frames, tap));
        }
        tap.see("", &h);
        h
    }
}

impl TemporalUpBlock {
    fn forward(&self, x: Tensor<4>, frames: usize, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = x;
        for (i, resnet) in self.resnets.iter().enumerate() {
            h = tap.scope(format_args!("resnets.{i}"), |tap| resnet.forward(h, None, frames, tap));
        }
        for (i, layer) in self.upsamplers.iter().enumerate() {
            h = tap.scope(format_args!("upsamplers.{i}"), |tap| layer.forward(h, None, tap));
        }
        tap.see("", &h);
        h
    }
}
