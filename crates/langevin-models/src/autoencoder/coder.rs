//! Encoder and decoder: the convolutional networks that the autoencoders share.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::blocks::{CoderMidBlock2d, DownEncoderBlock2d, EPSILON, Parts, UpDecoderBlock2d};
use crate::error::{ModelError, at_least_one, layer_count, level_count};
use crate::layers::{
    Activation, Conv2d, Conv2dConfig, GroupNorm, GroupNormConfig, SPATIAL_GROUPS, SpatialNorm, SpatialNormConfig,
};
use crate::tap::Tap;

/// What a level has beside its residual blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Nothing.
    Plain,
    /// Attention after each residual block.
    Attention,
}

/// Configuration of an [`Encoder`] or a [`Decoder`].
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::Tap;
/// use langevin_models::autoencoder::CoderConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = CoderConfig::new(3, 8, &[8, 16]).groups(4).encoder(&device)?;
/// let image = Tensor::<4>::zeros([1, 3, 16, 16], &device);
/// assert_eq!(encoder.forward(image, &mut Tap::none()).dims(), [1, 8, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CoderConfig {
    /// Channels of the input.
    pub input: usize,
    /// Channels of the output.
    pub output: usize,
    /// Channels of each level, finest first. Each level but the last halves the image.
    pub channels: Vec<usize>,
    /// What each level has, in the order in which the network runs them: an encoder from the finest, a decoder from the
    /// coarsest. Default: plain.
    pub blocks: Vec<Block>,
    /// Residual blocks in each level of an encoder; a decoder has one more. Default: `2`.
    pub layers: usize,
    /// Groups of the normalizations. Default: `32`.
    pub groups: usize,
    /// Activation of the residual blocks. Default: SiLU.
    pub activation: Activation,
    /// Whether the block at the coarsest level has attention. Default: `true`.
    pub mid_attention: bool,
    /// Whether the normalizations of a decoder are told by latents of `input` channels. Default: `false`.
    pub spatial: bool,
}

impl CoderConfig {
    /// A coder from `input` to `output` channels with the given channels of its levels, finest first.
    #[must_use]
    pub fn new(input: usize, output: usize, channels: &[usize]) -> Self {
        Self {
            input,
            output,
            channels: channels.to_vec(),
            blocks: vec![Block::Plain; channels.len()],
            layers: 2,
            groups: 32,
            activation: Activation::Silu,
            mid_attention: true,
            spatial: false,
        }
    }

    /// Sets the groups of the normalizations.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the residual blocks in each level.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Channels of the coarsest level.
    pub(super) fn coarsest(&self) -> usize {
        self.channels.last().copied().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<(), ModelError> {
        at_least_one("input", self.input)?;
        at_least_one("output", self.output)?;
        level_count("channels", self.channels.len())?;
        layer_count("layers", self.layers)?;
        at_least_one("groups", self.groups)?;
        for &channels in &self.channels {
            at_least_one("channels", channels)?;
            if !channels.is_multiple_of(self.groups) {
                return Err(ModelError::Config {
                    field: "groups",
                    given: self.groups.to_string(),
                    expected: format!("a divisor of the {channels} channels of a level"),
                });
            }
            // Normalizations that latents tell of have groups of their own.
            if self.spatial && !channels.is_multiple_of(SPATIAL_GROUPS) {
                return Err(ModelError::Config {
                    field: "channels",
                    given: channels.to_string(),
                    expected: format!("a multiple of {SPATIAL_GROUPS} at each level"),
                });
            }
        }
        if self.blocks.len() != self.channels.len() {
            return Err(ModelError::Config {
                field: "blocks",
                given: format!("a list of {}", self.blocks.len()),
                expected: format!("one for each of the {} `channels`", self.channels.len()),
            });
        }
        Ok(())
    }

    /// Makes an encoder.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, `blocks` and `channels` differ in length, the groups do not divide
    /// the channels, or the normalizations are to be told by latents, which only a decoder has.
    pub fn encoder(&self, device: &Device) -> Result<Encoder, ModelError> {
        self.check()?;
        if self.spatial {
            return Err(ModelError::Config {
                field: "spatial",
                given: "true".into(),
                expected: "false for an encoder".into(),
            });
        }
        let parts = Parts { config: self, latents: None, device };
        let (first, last) = (self.channels[0], self.coarsest());
        Ok(Encoder {
            conv_in: Conv2dConfig::new(self.input, first, 3).padding(1).init(device)?,
            down_blocks: (0..self.channels.len())
                .map(|i| DownEncoderBlock2d::new(&parts, i))
                .collect::<Result<_, _>>()?,
            mid_block: CoderMidBlock2d::new(&parts)?,
            conv_norm_out: GroupNormConfig::new(self.groups, last).epsilon(EPSILON).init(device)?,
            conv_out: Conv2dConfig::new(last, self.output, 3).padding(1).init(device)?,
        })
    }

    /// Makes a decoder.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, `blocks` and `channels` differ in length, or the groups (32 where
    /// latents tell the normalizations) do not divide the channels.
    pub fn decoder(&self, device: &Device) -> Result<Decoder, ModelError> {
        self.check()?;
        let latents = self.spatial.then_some(self.input);
        let parts = Parts { config: self, latents, device };
        let (first, last) = (self.channels[0], self.coarsest());
        Ok(Decoder {
            conv_in: Conv2dConfig::new(self.input, last, 3).padding(1).init(device)?,
            mid_block: CoderMidBlock2d::new(&parts)?,
            up_blocks: (0..self.channels.len()).map(|i| UpDecoderBlock2d::new(&parts, i)).collect::<Result<_, _>>()?,
            conv_norm_out: match latents {
                Some(latents) => LastNorm::Spatial(SpatialNormConfig::new(first, latents).init(device)?),
                None => LastNorm::Group(GroupNormConfig::new(self.groups, first).epsilon(EPSILON).init(device)?),
            },
            conv_out: Conv2dConfig::new(first, self.output, 3).padding(1).init(device)?,
        })
    }
}

/// Turns images into latents. Made by [`CoderConfig::encoder`].
///
/// # References
///
/// Rombach et al. 2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752), section 3.1 and appendix G, after Esser et al.
/// 2021, [arXiv:2012.09841](https://arxiv.org/abs/2012.09841). Parameters have the names of diffusers' `Encoder`.
#[derive(Module, Debug)]
pub struct Encoder {
    /// First convolution.
    pub conv_in: Conv2d,
    /// Levels, finest first.
    pub down_blocks: Vec<DownEncoderBlock2d>,
    /// Block at the coarsest level.
    pub mid_block: CoderMidBlock2d,
    /// Normalization before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// Last convolution.
    pub conv_out: Conv2d,
}

impl Encoder {
    /// Encodes.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, input, height, width]`, both sides at least 2 to the number of levels less one
    /// - output: `[batch, output, height/s, width/s]`, rounded down, where s is that power
    pub fn forward(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = self.conv_in.forward(x);
        tap.see("conv_in", &h);
        for (i, block) in self.down_blocks.iter().enumerate() {
            h = tap.scope(format_args!("down_blocks.{i}"), |tap| block.forward(h, tap));
        }
        let h = tap.scope("mid_block", |tap| self.mid_block.forward(h, None, tap));
        let h = self.conv_norm_out.forward(h);
        tap.see("conv_norm_out", &h);
        let h = Activation::Silu.forward(h);
        tap.see("conv_act", &h);
        let y = self.conv_out.forward(h);
        tap.see("conv_out", &y);
        tap.see("", &y);
        y
    }
}

/// The last normalization of a decoder.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one, and modules are not moved in loops")]
pub enum LastNorm {
    /// In groups.
    Group(GroupNorm),
    /// As the latents say.
    Spatial(SpatialNorm),
}

/// Turns latents into images. Made by [`CoderConfig::decoder`].
///
/// # References
///
/// As [`Encoder`]. Parameters have the names of diffusers' `Decoder`.
#[derive(Module, Debug)]
pub struct Decoder {
    /// First convolution.
    pub conv_in: Conv2d,
    /// Levels, coarsest first.
    pub up_blocks: Vec<UpDecoderBlock2d>,
    /// Block at the coarsest level.
    pub mid_block: CoderMidBlock2d,
    /// Normalization before the last convolution.
    pub conv_norm_out: LastNorm,
    /// Last convolution.
    pub conv_out: Conv2d,
}

impl Decoder {
    /// Decodes. `latents` tell the normalizations where the configuration asks for it.
    ///
    /// # Shapes
    ///
    /// - z: `[batch, input, height, width]`
    /// - latents: `[batch, input, any, any]`
    /// - output: `[batch, output, height·s, width·s]`, where s is 2 to the number of levels less one
    ///
    /// # Panics
    ///
    /// If latents are needed and not given.
    pub fn forward(&self, z: Tensor<4>, latents: Option<&Tensor<4>>, tap: &mut Tap<'_>) -> Tensor<4> {
        let h = self.conv_in.forward(z);
        tap.see("conv_in", &h);
        let mut h = tap.scope("mid_block", |tap| self.mid_block.forward(h, latents, tap));
        for (i, block) in self.up_blocks.iter().enumerate() {
            h = tap.scope(format_args!("up_blocks.{i}"), |tap| block.forward(h, latents, tap));
        }
        let h = match &self.conv_norm_out {
            LastNorm::Group(norm) => {
                let h = norm.forward(h);
                tap.see("conv_norm_out", &h);
                h
            }
            LastNorm::Spatial(norm) => {
                tap.scope("conv_norm_out", |tap| norm.forward(h, latents.expect("latents"), tap))
            }
        };
        let h = Activation::Silu.forward(h);
        tap.see("conv_act", &h);
        let y = self.conv_out.forward(h);
        tap.see("conv_out", &y);
        tap.see("", &y);
        y
    }
}
