//! How a prior is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Prior;
use super::published::PublishedPrior;
use crate::error::{Keys, ModelError, at_least_one, layer_count, told_by_key};
use crate::layers::{Activation, DropoutConfig};
use crate::transformer::checks;

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("embedding_width", "embedding_dim"),
    ("head_dim", "attention_head_dim"),
    ("heads", "num_attention_heads"),
    ("layers", "num_layers"),
    ("output_width", "clip_embed_dim"),
    ("text_width", "embedding_proj_dim"),
    ("time_width", "time_embed_dim"),
    ("tokens", "num_embeddings"),
];

/// Configuration of a [`Prior`].
///
/// [`new`](PriorConfig::new) starts a configuration for training, [`from_json`](PriorConfig::from_json) reads published
/// ones. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::PriorConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = PriorConfig::new(512, 77).heads(8, 64).layers(6).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedPrior", into = "PublishedPrior")]
pub struct PriorConfig {
    /// Heads of attention. Default: `32`.
    pub heads: usize,
    /// Channels of a head, an even number with the heads. Default: `64`.
    pub head_dim: usize,
    /// Number of blocks. Default: `20`.
    pub layers: usize,
    /// Entries of the image embedding that is denoised, and of the states of the text encoder.
    pub embedding_width: usize,
    /// Tokens of the text, without those of `additional`.
    pub tokens: usize,
    /// Tokens that stand behind the text and have stored positions: the text embedding, the time, the image embedding and
    /// the last token. Default: `4`.
    pub additional: usize,
    /// Probability of dropout. Default: `0`.
    pub dropout: f64,
    /// Activation between the layers of the time embedding. Default: SiLU.
    pub time_activation: Activation,
    /// Width between those layers. Default: `None`, the channels of the network.
    pub time_width: Option<usize>,
    /// Whether tokens are normalized before the blocks. Default: `false`.
    pub norm_in: bool,
    /// Whether the text embedding is normalized before its projection. Default: `false`.
    pub norm_embedding: bool,
    /// Whether the states of the text encoder are projected; without, they have the channels of the network, and there
    /// may be none. Default: `true`.
    pub project_text: bool,
    /// Whether a learned last token gathers the answer; without, the tokens of the image embedding do. Default: `true`.
    pub last_token: bool,
    /// Entries of the text embedding. Default: those of the image embedding.
    pub text_width: usize,
    /// Entries of the answer. Default: those of the image embedding.
    pub output_width: usize,
}

impl PriorConfig {
    /// The published size, for embeddings with `width` entries and texts of `tokens` tokens.
    #[must_use]
    pub fn new(width: usize, tokens: usize) -> Self {
        Self {
            heads: 32,
            head_dim: 64,
            layers: 20,
            embedding_width: width,
            tokens,
            additional: 4,
            dropout: 0.0,
            time_activation: Activation::Silu,
            time_width: None,
            norm_in: false,
            norm_embedding: false,
            project_text: true,
            last_token: true,
            text_width: width,
            output_width: width,
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

    /// Sets the probability of dropout.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// Reads a published `config.json` of a `PriorTransformer`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(PublishedPrior::read(json)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedPrior::from(self.clone()).to_value())
    }

    /// Channels inside the network.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Stored positions.
    pub(super) fn positions(&self) -> usize {
        self.tokens + self.additional
    }

    /// Entries of the states of the text encoder.
    pub(super) fn states_width(&self) -> usize {
        if self.project_text { self.embedding_width } else { self.width() }
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        let width = checks::width(self.heads, self.head_dim)?;
        layer_count("layers", self.layers)?;
        at_least_one("embedding_width", self.embedding_width)?;
        at_least_one("tokens", self.tokens)?;
        at_least_one("text_width", self.text_width)?;
        at_least_one("output_width", self.output_width)?;
        if let Some(width) = self.time_width {
            at_least_one("time_width", width)?;
        }
        if !width.is_multiple_of(2) {
            return Err(ModelError::Config {
                field: "head_dim",
                given: self.head_dim.to_string(),
                expected: "an even number of channels: sines and cosines tell the time".into(),
            });
        }
        DropoutConfig::new(self.dropout).init()?;
        Ok(())
    }

    /// Builds the network with torch's default initialization. Parameters are drawn when first used.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<Prior, ModelError> {
        self.validate()?;
        Prior::new(self, device)
    }
}
