//! What text-conditional UNets and ControlNets have in common: the way down, the middle, and what they are told.

use super::time_norm::{TimeNormAttentionConfig, TimeNormResnetConfig};
use super::told::{Addition, ClassInput, ContextInput, TimeInput};
use crate::error::{ModelError, at_least_one, layer_count, level_count, positive};
use crate::layers::{Activation, ContextNorm, DropoutConfig, ResnetBlock2dConfig, Transformer2dConfig};

/// Configuration of the way down and of what a network is told.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// Height and width of the kernel of the first convolution, an odd number. Default: `3`.
    pub conv_in_kernel: usize,
    /// Levels on the way down, finest first.
    pub levels: Vec<Level>,
    /// The block between down and up. Default: cross-attention.
    pub middle: Middle,
    /// Divisor of the outputs of the middle block's residual blocks. Default: `1`.
    pub mid_scale: f64,
    /// Whether the pixels of the middle block look at the context only, where it has added attention. Default: `false`.
    pub mid_only_cross_attention: bool,
    /// Zeros around the image before a strided convolution: 1 on each side, or 0 for one at the right and bottom. Default:
    /// `1`.
    pub downsample_padding: usize,
    /// Width of the context that attention looks at.
    pub context: usize,
    /// Normalization of the context in added attention. Default: none.
    pub context_norm: Option<ContextNorm>,
    /// Probability of dropout in residual blocks. Default: `0`.
    pub dropout: f64,
    /// Activation. Default: SiLU.
    pub activation: Activation,
    /// Groups of the normalizations. Default: `32`.
    pub norm_groups: usize,
    /// Epsilon of the normalizations. Default: `1e-5`.
    pub norm_epsilon: f64,
    /// Whether the time scales and shifts features instead of being added. Default: `false`.
    pub scale_shift: bool,
    /// Whether residual blocks of levels with residual resampling take the time embedding without an activation. Default:
    /// `false`.
    pub skip_time_activation: bool,
    /// Divisor of the outputs of those residual blocks. Default: `1`.
    pub residual_scale: f64,
    /// Whether the projections of transformers are linear layers instead of convolutions. Default: `false`.
    pub linear_projection: bool,
    /// Whether half-precision scores of attention are computed in f32. Default: `false`.
    pub upcast: bool,
    /// What the network sees of the time. Default: sines and cosines.
    pub time: TimeInput,
    /// Width of the time embedding. Default: `None`, four times the channels of the finest level, or twice with Fourier
    /// features.
    pub time_width: Option<usize>,
    /// Activation after the two layers of the time embedding. Default: none.
    pub time_post_activation: Option<Activation>,
    /// Activation after all embeddings are added. Default: none.
    pub embedding_activation: Option<Activation>,
    /// Width of the embedding of a guidance scale, for networks that were distilled to imitate guidance. Default: `None`.
    pub guidance_width: Option<usize>,
    /// How the context comes from what the network is told. Default: as it is.
    pub context_input: ContextInput,
    /// What is told about classes. Default: nothing.
    pub classes: ClassInput,
    /// Whether the class embedding stands beside that of the time instead of being added. Default: `false`.
    pub concatenate_class: bool,
    /// What is added to the time embedding. Default: nothing.
    pub addition: Addition,
}

/// A level on the way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Channels.
    pub channels: usize,
    /// Residual blocks.
    pub layers: usize,
    /// Kind of the block.
    pub block: LevelBlock,
    /// Number of heads of transformers. With other attention the channels of each head: published configurations say
    /// both with the same key.
    pub heads: usize,
    /// Transformer blocks after each residual block.
    pub transformers: Vec<usize>,
    /// Whether all attention of this level looks at the context.
    pub only_cross_attention: bool,
}

/// The kind of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelBlock {
    /// Residual blocks; resampling by a convolution. `DownBlock2D`, `UpBlock2D`.
    Plain,
    /// Residual blocks, each followed by transformer blocks. `CrossAttnDownBlock2D`, `CrossAttnUpBlock2D`.
    CrossAttention,
    /// Residual blocks, each followed by attention of pixels to each other; resampling by a convolution.
    /// `AttnDownBlock2D`, `AttnUpBlock2D`.
    Attention,
    /// Residual blocks; resampling by a residual block. `ResnetDownsampleBlock2D`, `ResnetUpsampleBlock2D`.
    Residual,
    /// Residual blocks, each followed by attention to pixels and context at once; resampling by a residual block.
    /// `SimpleCrossAttnDownBlock2D`, `SimpleCrossAttnUpBlock2D`.
    AddedAttention,
    /// Residual blocks that are told the time by their normalizations; resampling by a filter. `KDownBlock2D`, `KUpBlock2D`.
    TimeNorm,
    /// The same, each followed by attention to the context, and at the coarsest level to pixels. `KCrossAttnDownBlock2D`,
    /// `KCrossAttnUpBlock2D`.
    TimeNormAttention,
}

impl LevelBlock {
    /// Whether its normalizations are told the time.
    pub(crate) fn is_time_norm(self) -> bool {
        matches!(self, Self::TimeNorm | Self::TimeNormAttention)
    }
}

/// The block between down and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Middle {
    /// None.
    None,
    /// One residual block. `UNetMidBlock2D`.
    Residual,
    /// Two residual blocks with transformer blocks between them. `UNetMidBlock2DCrossAttn`.
    CrossAttention,
    /// Two residual blocks with attention to pixels and context between them. `UNetMidBlock2DSimpleCrossAttn`.
    AddedAttention,
}

impl Level {
    /// Two residual blocks of `channels` channels, each followed by a transformer block of 8 heads.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            channels,
            layers: 2,
            block: LevelBlock::CrossAttention,
            heads: 8,
            transformers: vec![1; 2],
            only_cross_attention: false,
        }
    }

    fn validate(&self) -> Result<(), ModelError> {
        at_least_one("channels", self.channels)?;
        layer_count("layers", self.layers)?;
        match self.block {
            LevelBlock::CrossAttention => {
                self.check_heads()?;
                if self.transformers.len() != self.layers {
                    return Err(ModelError::Config {
                        field: "transformers",
                        given: format!("{} numbers", self.transformers.len()),
                        expected: format!("one for each of the {} residual blocks", self.layers),
                    });
                }
                self.transformers.iter().try_for_each(|count| layer_count("transformers", *count))
            }
            LevelBlock::Attention | LevelBlock::AddedAttention | LevelBlock::TimeNormAttention => {
                self.check_head_dim(self.channels)
            }
            LevelBlock::Plain | LevelBlock::Residual | LevelBlock::TimeNorm => Ok(()),
        }
    }

    pub(crate) fn check_heads(&self) -> Result<(), ModelError> {
        if self.heads == 0 || self.heads > self.channels {
            return Err(ModelError::Config {
                field: "heads",
                given: self.heads.to_string(),
                expected: format!("1 to {}, the channels of the level", self.channels),
            });
        }
        Ok(())
    }

    pub(crate) fn check_head_dim(&self, channels: usize) -> Result<(), ModelError> {
        if self.heads == 0 || !channels.is_multiple_of(self.heads) {
            return Err(ModelError::Config {
                field: "heads",
                given: self.heads.to_string(),
                expected: format!("a divisor of the {channels} channels: the size of a head"),
            });
        }
        Ok(())
    }
}

impl EncoderConfig {
    /// The options of Stable Diffusion 1, without levels.
    #[must_use]
    pub fn new(in_channels: usize, context: usize) -> Self {
        Self {
            in_channels,
            conv_in_kernel: 3,
            levels: vec![],
            middle: Middle::CrossAttention,
            mid_scale: 1.0,
            mid_only_cross_attention: false,
            downsample_padding: 1,
            context,
            context_norm: None,
            dropout: 0.0,
            activation: Activation::Silu,
            norm_groups: 32,
            norm_epsilon: 1e-5,
            scale_shift: false,
            skip_time_activation: false,
            residual_scale: 1.0,
            linear_projection: false,
            upcast: false,
            time: TimeInput::Sinusoidal { cosine_first: true, shift: 0.0 },
            time_width: None,
            time_post_activation: None,
            embedding_activation: None,
            guidance_width: None,
            context_input: ContextInput::AsItIs,
            classes: ClassInput::None,
            concatenate_class: false,
            addition: Addition::None,
        }
    }

    /// Width of the time embedding.
    #[must_use]
    pub fn time_embedding_width(&self) -> usize {
        let factor = if matches!(self.time, TimeInput::Fourier { .. }) { 2 } else { 4 };
        self.time_width.unwrap_or_else(|| factor * self.levels.first().map_or(0, |level| level.channels))
    }

    /// Width of what the blocks are told.
    #[must_use]
    pub fn told_width(&self) -> usize {
        self.time_embedding_width() * if self.concatenate_class { 2 } else { 1 }
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        at_least_one("in_channels", self.in_channels)?;
        level_count("levels", self.levels.len())?;
        at_least_one("context", self.context)?;
        at_least_one("norm_groups", self.norm_groups)?;
        positive("mid_scale", self.mid_scale)?;
        positive("residual_scale", self.residual_scale)?;
        positive("norm_epsilon", self.norm_epsilon)?;
        DropoutConfig::new(self.dropout).init()?;
        let wrong = |field, given: usize, expected: String| {
            Err(ModelError::Config { field, given: given.to_string(), expected })
        };
        if self.conv_in_kernel.is_multiple_of(2) {
            return wrong("conv_in_kernel", self.conv_in_kernel, "an odd number".into());
        }
        if self.downsample_padding > 1 {
            return wrong(
                "downsample_padding",
                self.downsample_padding,
                "0 or 1: more would not halve the image".into(),
            );
        }
        for level in &self.levels {
            level.validate()?;
            if !level.block.is_time_norm() && !level.channels.is_multiple_of(self.norm_groups) {
                return wrong("norm_groups", self.norm_groups, format!("a divisor of {} channels", level.channels));
            }
        }
        at_least_one("time_width", self.time_embedding_width())?;
        let last = &self.levels[self.levels.len() - 1];
        match self.middle {
            Middle::CrossAttention => {
                last.check_heads()?;
                layer_count("transformers", self.middle_transformers())?;
            }
            Middle::AddedAttention => last.check_head_dim(last.channels)?,
            Middle::None | Middle::Residual => {}
        }
        if self.concatenate_class && (self.classes == ClassInput::None || self.addition != Addition::None) {
            return Err(ModelError::Config {
                field: "concatenate_class",
                given: "true".into(),
                expected: "false where there are no classes or something else is added to the time embedding".into(),
            });
        }
        Ok(())
    }

    /// Transformer blocks in the middle: as many as after the first residual block of the coarsest level.
    pub(crate) fn middle_transformers(&self) -> usize {
        self.levels.last().and_then(|level| level.transformers.first().copied()).unwrap_or(1)
    }

    /// A residual block of a level of the given kind.
    pub(super) fn resnet(&self, input: usize, output: usize, block: LevelBlock) -> ResnetBlock2dConfig {
        let residual = matches!(block, LevelBlock::Residual | LevelBlock::AddedAttention);
        ResnetBlock2dConfig {
            epsilon: self.norm_epsilon,
            dropout: self.dropout,
            activation: self.activation,
            scale_shift: self.scale_shift,
            output_scale: if residual { self.residual_scale } else { 1.0 },
            ..ResnetBlock2dConfig::new(input, output, self.told_width()).groups(self.norm_groups)
        }
    }

    /// Transformer blocks over the pixels of a level.
    pub(super) fn transformer(
        &self,
        channels: usize,
        heads: usize,
        layers: usize,
        only_cross: bool,
    ) -> Transformer2dConfig {
        Transformer2dConfig::new(channels, heads, channels / heads)
            .groups(self.norm_groups)
            .layers(layers)
            .linear_projection(self.linear_projection)
            .context(self.context)
            .block(|block| block.only_cross_attention(only_cross).upcast(self.upcast))
    }

    /// A residual block that is told the time by its normalizations.
    pub(super) fn time_norm_resnet(&self, input: usize, output: usize) -> TimeNormResnetConfig {
        TimeNormResnetConfig {
            input,
            middle: output,
            output,
            counted: output,
            time: self.told_width(),
            epsilon: self.norm_epsilon,
            dropout: self.dropout,
            activation: self.activation,
        }
    }

    /// Attention whose normalizations are told the time.
    pub(super) fn time_norm_attention(
        &self,
        channels: usize,
        head_dim: usize,
        to_pixels: bool,
    ) -> TimeNormAttentionConfig {
        let (context, time) = (self.context, self.told_width());
        TimeNormAttentionConfig { channels, head_dim, context, time, to_pixels }
    }
}
