//! How a transformer of Stable Diffusion 3 is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Sd3;
use super::published::PublishedSd3;
use crate::error::{Keys, ModelError, at_least_one, layer_count, told_by_key};
use crate::layers::PatchEmbeddingConfig;
use crate::transformer::checks;

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("dual_attention", "dual_attention_layers"),
    ("head_dim", "attention_head_dim"),
    ("heads", "num_attention_heads"),
    ("layers", "num_layers"),
    ("pooled_width", "pooled_projection_dim"),
    ("text_width", "joint_attention_dim"),
];

/// Configuration of an [`Sd3`].
///
/// [`new`](Sd3Config::new) starts a configuration for training, [`from_json`](Sd3Config::from_json) reads published
/// ones. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::Sd3Config;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = Sd3Config::new(4, 32, 768, 512).heads(6, 64).layers(6).qk_norm(true).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PublishedSd3", into = "PublishedSd3")]
pub struct Sd3Config {
    /// Height and width of the latents it is trained on. It takes others whose sides are multiples of a patch, up to
    /// `largest` patches.
    pub sample_size: usize,
    /// Height and width of a patch. Default: `2`.
    pub patch_size: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output. Default: those of the input.
    pub out_channels: usize,
    /// Heads of attention. Default: `18`.
    pub heads: usize,
    /// Channels of a head. Default: `64`.
    pub head_dim: usize,
    /// Number of blocks. Default: `18`.
    pub layers: usize,
    /// Channels of the states of the text encoders.
    pub text_width: usize,
    /// Entries of the pooled vector of the text encoders.
    pub pooled_width: usize,
    /// Rows and columns of the stored table of positions. Default: `96`.
    pub largest: usize,
    /// Blocks with a second attention among patches alone. Default: none.
    pub dual_attention: Vec<usize>,
    /// Whether queries and keys are divided by their root mean square. Default: `false`.
    pub qk_norm: bool,
}

impl Sd3Config {
    /// The smallest published size, for latents with `channels` channels and sides of `size`, text states of `text`
    /// channels and pooled vectors of `pooled` entries.
    #[must_use]
    pub fn new(channels: usize, size: usize, text: usize, pooled: usize) -> Self {
        Self {
            sample_size: size,
            patch_size: 2,
            in_channels: channels,
            out_channels: channels,
            heads: 18,
            head_dim: 64,
            layers: 18,
            text_width: text,
            pooled_width: pooled,
            largest: 96,
            dual_attention: Vec::new(),
            qk_norm: false,
        }
    }

    /// Sets the number of heads and the channels of each.
    #[must_use]
    pub fn heads(mut self, heads: usize, head_dim: usize) -> Self {
        (self.heads, self.head_dim) = (heads, head_dim);
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

    /// Sets the rows and columns of the stored table of positions.
    #[must_use]
    pub fn largest(mut self, patches: usize) -> Self {
        self.largest = patches;
        self
    }

    /// Gives some blocks a second attention among patches alone.
    #[must_use]
    pub fn dual_attention(mut self, blocks: impl IntoIterator<Item = usize>) -> Self {
        self.dual_attention = blocks.into_iter().collect();
        self
    }

    /// Whether queries and keys are divided by their root mean square.
    #[must_use]
    pub fn qk_norm(mut self, yes: bool) -> Self {
        self.qk_norm = yes;
        self
    }

    /// Reads a published `config.json` of an `SD3Transformer2DModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedSd3::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedSd3::from(self.clone()).to_value())
    }

    /// Channels inside the network.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// How the latent becomes patches.
    pub(super) fn patches(&self) -> PatchEmbeddingConfig {
        PatchEmbeddingConfig::new(self.in_channels, self.width(), self.patch_size, self.sample_size).table(self.largest)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        checks::width(self.heads, self.head_dim)?;
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        layer_count("layers", self.layers)?;
        at_least_one("text_width", self.text_width)?;
        at_least_one("pooled_width", self.pooled_width)?;
        if let Some(block) = self.dual_attention.iter().find(|block| **block >= self.layers) {
            return Err(ModelError::Config {
                field: "dual_attention",
                given: block.to_string(),
                expected: format!("blocks below {}, the number of blocks", self.layers),
            });
        }
        self.patches().validate()
    }

    /// Builds the network with torch's default initialization. Parameters are drawn when first used.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<Sd3, ModelError> {
        self.validate()?;
        Sd3::new(self, device)
    }
}
