//! How a diffusion transformer is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::DiT;
use super::published::PublishedDiT;
use crate::error::{Keys, ModelError, at_least_one, layer_count, positive, told_by_key};
use crate::layers::{Activation, DropoutConfig, Gate, PatchEmbeddingConfig};
use crate::transformer::checks;

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("classes", "num_embeds_ada_norm"),
    ("gate", "activation_fn"),
    ("head_dim", "attention_head_dim"),
    ("heads", "num_attention_heads"),
    ("layers", "num_layers"),
    ("norm_epsilon", "norm_eps"),
];

/// Configuration of a [`DiT`].
///
/// [`new`](DiTConfig::new) starts a configuration for training, [`from_json`](DiTConfig::from_json) reads published
/// ones. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::DiTConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = DiTConfig::new(4, 32).heads(6, 64).layers(12).classes(10).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedDiT", into = "PublishedDiT")]
pub struct DiTConfig {
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
    /// Number of classes; the table has one more row for "no class". Default: `1000`.
    pub classes: usize,
    /// What stands between the feed-forward layers. Default: GELU by its tanh approximation.
    pub gate: Gate,
    /// Whether the projections of attention have a bias. Default: `true`.
    pub attention_bias: bool,
    /// Whether the normalization before the feed-forward layers has parameters. Default: `false`.
    pub norm_affine: bool,
    /// Epsilon of that normalization. Default: `1e-5`.
    pub norm_epsilon: f64,
    /// Probability of dropout after attention and in the feed-forward layers. Default: `0`.
    pub dropout: f64,
    /// Whether half-precision queries and keys are multiplied in f32. Default: `false`.
    pub upcast: bool,
    /// Groups of a normalization that the class does not have; kept for saving. Default: `32`.
    pub unused_groups: usize,
}

impl DiTConfig {
    /// The largest published size, for square images or latents with `channels` channels and sides of `size`.
    #[must_use]
    pub fn new(channels: usize, size: usize) -> Self {
        Self {
            sample_size: size,
            patch_size: 2,
            in_channels: channels,
            out_channels: channels,
            heads: 16,
            head_dim: 72,
            layers: 28,
            classes: 1000,
            gate: Gate::None(Activation::GeluTanh),
            attention_bias: true,
            norm_affine: false,
            norm_epsilon: 1e-5,
            dropout: 0.0,
            upcast: false,
            unused_groups: 32,
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

    /// Sets the number of classes.
    #[must_use]
    pub fn classes(mut self, classes: usize) -> Self {
        self.classes = classes;
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

    /// Sets the probability of dropout.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// Reads a published `config.json` of a `DiTTransformer2DModel`, or of the `Transformer2DModel` that it was at first.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedDiT::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedDiT::from(self.clone()).to_value())
    }

    /// Channels inside the network.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// How the image becomes patches.
    pub(super) fn patches(&self) -> PatchEmbeddingConfig {
        PatchEmbeddingConfig::new(self.in_channels, self.width(), self.patch_size, self.sample_size)
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
        at_least_one("classes", self.classes)?;
        positive("norm_epsilon", self.norm_epsilon)?;
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
    pub fn init(&self, device: &Device) -> Result<DiT, ModelError> {
        self.validate()?;
        DiT::new(self, device)
    }
}
