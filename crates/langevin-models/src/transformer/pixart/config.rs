//! How a PixArt transformer is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::PixArt;
use super::published::PublishedPixArt;
use crate::error::{Keys, ModelError, at_least_one, layer_count, positive, told_by_key};
use crate::layers::{Activation, DropoutConfig, Gate, PatchEmbeddingConfig};
use crate::transformer::checks;

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("context", "cross_attention_dim"),
    ("gate", "activation_fn"),
    ("head_dim", "attention_head_dim"),
    ("heads", "num_attention_heads"),
    ("layers", "num_layers"),
    ("norm_epsilon", "norm_eps"),
];

/// Configuration of a [`PixArt`].
///
/// [`new`](PixArtConfig::new) starts a configuration for training, [`from_json`](PixArtConfig::from_json) reads
/// published ones. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::PixArtConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = PixArtConfig::new(4, 32, 768).heads(6, 64).layers(12).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedPixArt", into = "PublishedPixArt")]
pub struct PixArtConfig {
    /// Height and width of the images it is trained on. It takes others whose sides are multiples of a patch.
    pub sample_size: usize,
    /// Height and width of a patch. Default: `2`.
    pub patch_size: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output: twice those of the input for a learned variance. Default: those of the input.
    pub out_channels: usize,
    /// Heads of attention. Default: `16`.
    pub heads: usize,
    /// Channels of a head. Default: `72`.
    pub head_dim: usize,
    /// Number of blocks. Default: `28`.
    pub layers: usize,
    /// Channels of the states of the text encoder that are projected to those of the blocks; without, the blocks take
    /// states of `context` channels as they are.
    pub caption_channels: Option<usize>,
    /// Channels of what the blocks attend to. With a projection these are the channels of the network.
    pub context: usize,
    /// Divisor of the coordinates of patches, so that large images cover the range of small ones. Default: `1`.
    pub interpolation_scale: f64,
    /// Whether the network is told height, width and aspect ratio. Default: `false`.
    pub sizes: bool,
    /// What stands between the feed-forward layers. Default: GELU by its tanh approximation.
    pub gate: Gate,
    /// Whether the projections of attention have a bias. Default: `true`.
    pub attention_bias: bool,
    /// Whether the normalizations of the blocks have parameters. Default: `false`.
    pub norm_affine: bool,
    /// Epsilon of the normalizations of the blocks. Default: `1e-6`.
    pub norm_epsilon: f64,
    /// Probability of dropout after attention and in the feed-forward layers. Default: `0`.
    pub dropout: f64,
    /// Whether half-precision queries and keys are multiplied in f32. Default: `false`.
    pub upcast: bool,
    /// Groups of a normalization that the class does not have; kept for saving. Default: `32`.
    pub unused_groups: usize,
    /// Rows of a table that the class demands and does not have; kept for saving. Default: `1000`.
    pub unused_classes: usize,
}

impl PixArtConfig {
    /// The published size, for square images or latents with `channels` channels and sides of `size`, and a text encoder
    /// of `caption` channels.
    #[must_use]
    pub fn new(channels: usize, size: usize, caption: usize) -> Self {
        Self {
            sample_size: size,
            patch_size: 2,
            in_channels: channels,
            out_channels: channels,
            heads: 16,
            head_dim: 72,
            layers: 28,
            caption_channels: Some(caption),
            context: 16 * 72,
            interpolation_scale: 1.0,
            sizes: false,
            gate: Gate::None(Activation::GeluTanh),
            attention_bias: true,
            norm_affine: false,
            norm_epsilon: 1e-6,
            dropout: 0.0,
            upcast: false,
            unused_groups: 32,
            unused_classes: 1000,
        }
    }

    /// Sets the number of heads and the channels of each, and so the channels of what the blocks attend to.
    #[must_use]
    pub fn heads(mut self, heads: usize, head_dim: usize) -> Self {
        (self.heads, self.head_dim) = (heads, head_dim);
        self.context = heads.saturating_mul(head_dim);
        self
    }

    /// Sets the number of blocks.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the side of a patch.
    #[must_use]
    pub fn patch_size(mut self, side: usize) -> Self {
        self.patch_size = side;
        self
    }

    /// Sets the channels of the output.
    #[must_use]
    pub fn out_channels(mut self, channels: usize) -> Self {
        self.out_channels = channels;
        self
    }

    /// Tells the network height, width and aspect ratio.
    #[must_use]
    pub fn sizes(mut self, yes: bool) -> Self {
        self.sizes = yes;
        self
    }

    /// Sets the divisor of the coordinates of patches.
    #[must_use]
    pub fn interpolation_scale(mut self, scale: f64) -> Self {
        self.interpolation_scale = scale;
        self
    }

    /// Reads a published `config.json` of a `PixArtTransformer2DModel`, or of the `Transformer2DModel` that it was at first.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedPixArt::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedPixArt::from(self.clone()).to_value())
    }

    /// Channels inside the network.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Channels of the states of the text encoder.
    #[must_use]
    pub fn text_width(&self) -> usize {
        self.caption_channels.unwrap_or(self.context)
    }

    /// How the image becomes patches.
    pub(super) fn patches(&self) -> PatchEmbeddingConfig {
        PatchEmbeddingConfig::new(self.in_channels, self.width(), self.patch_size, self.sample_size)
            .scale(self.interpolation_scale)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        let width = checks::width(self.heads, self.head_dim)?;
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        layer_count("layers", self.layers)?;
        at_least_one("context", self.context)?;
        positive("norm_epsilon", self.norm_epsilon)?;
        if let Some(channels) = self.caption_channels {
            at_least_one("caption_channels", channels)?;
            if self.context != width {
                return Err(ModelError::Config {
                    field: "context",
                    given: self.context.to_string(),
                    expected: format!("{width}, the channels of the network, to which the caption is projected"),
                });
            }
        }
        if self.sizes && !width.is_multiple_of(3) {
            return Err(ModelError::Config {
                field: "heads",
                given: format!("{width} channels"),
                expected: "a multiple of 3 for height, width and aspect ratio".into(),
            });
        }
        checks::has_name(self.gate)?;
        self.patches().validate()?;
        DropoutConfig::new(self.dropout).init()?;
        Ok(())
    }

    /// Builds the network with torch's default initialization. Parameters are drawn when first used.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<PixArt, ModelError> {
        self.validate()?;
        PixArt::new(self, device)
    }
}
