//! How a transformer of FLUX.1 is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Flux;
use super::published::PublishedFlux;
use crate::error::{Keys, ModelError, at_least_one, layer_limit, told_by_key};
use crate::transformer::checks;

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("axes", "axes_dims_rope"),
    ("head_dim", "attention_head_dim"),
    ("heads", "num_attention_heads"),
    ("layers", "num_layers"),
    ("pooled_width", "pooled_projection_dim"),
    ("single_layers", "num_single_layers"),
    ("text_width", "joint_attention_dim"),
];

/// Configuration of a [`Flux`].
///
/// [`new`](FluxConfig::new) starts a configuration for training, [`from_json`](FluxConfig::from_json) reads published
/// ones. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::FluxConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// // Latents with 16 channels, packed by two in each direction.
/// let net = FluxConfig::new(16, 768, 512).heads(8, [8, 28, 28]).layers(4, 8).guidance(true).init(&device)?;
/// assert_eq!(net.config().in_channels, 64);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PublishedFlux", into = "PublishedFlux")]
pub struct FluxConfig {
    /// Height and width of what one token of the output stands for, in tokens of the input. Default: `1`.
    pub patch_size: usize,
    /// Entries of a token of the input: four for each channel of a latent that is packed by two in each direction.
    pub in_channels: usize,
    /// Entries of a token of the output, before those of a patch. Default: those of the input.
    pub out_channels: usize,
    /// Number of blocks over two streams. Default: `19`.
    pub layers: usize,
    /// Number of blocks over one stream. Default: `38`.
    pub single_layers: usize,
    /// Heads of attention. Default: `24`.
    pub heads: usize,
    /// Channels of a head. Default: `128`.
    pub head_dim: usize,
    /// Channels of the states of the text encoder.
    pub text_width: usize,
    /// Entries of the pooled vector of the text encoder.
    pub pooled_width: usize,
    /// Whether the network imitates guidance and is told its scale. Default: `false`.
    pub guidance: bool,
    /// Channels of a head that tell each axis of a position, even numbers: a free one, rows and columns. Default:
    /// `[16, 56, 56]`.
    pub axes: [usize; 3],
}

impl FluxConfig {
    /// The published size, for latents with `channels` channels that are packed by two in each direction, text states of
    /// `text` channels and pooled vectors of `pooled` entries.
    #[must_use]
    pub fn new(channels: usize, text: usize, pooled: usize) -> Self {
        Self {
            patch_size: 1,
            in_channels: channels.saturating_mul(4),
            out_channels: channels.saturating_mul(4),
            layers: 19,
            single_layers: 38,
            heads: 24,
            head_dim: 128,
            text_width: text,
            pooled_width: pooled,
            guidance: false,
            axes: [16, 56, 56],
        }
    }

    /// Sets the number of heads and the channels that tell each axis of a position, which together are those of a head.
    #[must_use]
    pub fn heads(mut self, heads: usize, axes: [usize; 3]) -> Self {
        (self.heads, self.head_dim, self.axes) = (heads, axes.iter().sum(), axes);
        self
    }

    /// Sets the number of blocks over two streams and over one.
    #[must_use]
    pub fn layers(mut self, double: usize, single: usize) -> Self {
        (self.layers, self.single_layers) = (double, single);
        self
    }

    /// Whether the network imitates guidance and is told its scale.
    #[must_use]
    pub fn guidance(mut self, yes: bool) -> Self {
        self.guidance = yes;
        self
    }

    /// Adds the channels of an image that is put behind the latent: a mask, a picture to fill, edges, depth.
    #[must_use]
    pub fn image(mut self, channels: usize) -> Self {
        self.in_channels = self.out_channels.saturating_add(channels.saturating_mul(4));
        self
    }

    /// Reads a published `config.json` of a `FluxTransformer2DModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys and values of the wrong type, each with its key; and what [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::from(PublishedFlux::read(json)?);
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedFlux::from(self.clone()).to_value())
    }

    /// Channels inside the network.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        checks::width(self.heads, self.head_dim)?;
        at_least_one("patch_size", self.patch_size)?;
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        at_least_one("text_width", self.text_width)?;
        at_least_one("pooled_width", self.pooled_width)?;
        layer_limit("layers", self.layers)?;
        layer_limit("single_layers", self.single_layers)?;
        if self.axes.iter().any(|width| !width.is_multiple_of(2)) || self.axes.iter().sum::<usize>() != self.head_dim {
            return Err(ModelError::Config {
                field: "axes",
                given: format!("{:?}", self.axes),
                expected: format!("even numbers with the sum {}, the channels of a head", self.head_dim),
            });
        }
        Ok(())
    }

    /// Builds the network with torch's default initialization. Parameters are drawn when first used.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<Flux, ModelError> {
        self.validate()?;
        Flux::new(self, device)
    }
}
