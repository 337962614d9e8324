//! How a motion diffusion model is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Mdm;
use crate::error::{ModelError, at_least_one, layer_count};
use crate::layers::{Activation, DropoutConfig};
use crate::weights::read_config;

/// The class that [`Mdm::save`] writes.
pub(super) const CLASS: &str = "MDM";

/// What a motion diffusion model is told beside the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MotionCondition {
    /// Nothing.
    #[serde(rename = "no_cond")]
    None,
    /// The embedding of a text.
    #[default]
    #[serde(rename = "text")]
    Text,
    /// One of a number of actions.
    #[serde(rename = "action")]
    Action,
}

/// Configuration of an [`Mdm`]. The serialized names are those of the original program's arguments.
///
/// # Example
///
/// ```
/// use langevin_models::MdmConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// // Ten actions of 24 joints and a root, each a rotation of six numbers.
/// let net = MdmConfig::new(25, 6).width(64, 4).layers(2).actions(10).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MdmConfig {
    /// Joints of a frame, or all of its numbers. Default: `263`, the numbers of HumanML3D.
    pub njoints: usize,
    /// Numbers of a joint. Default: `1`.
    pub nfeats: usize,
    /// Channels of the transformer. Default: `512`.
    pub latent_dim: usize,
    /// Channels between the feed-forward layers. Default: `1024`.
    pub ff_size: usize,
    /// Number of layers. Default: `8`.
    pub num_layers: usize,
    /// Heads of attention, a divisor of the channels. Default: `4`.
    pub num_heads: usize,
    /// Probability of dropout. Default: `0.1`.
    pub dropout: f64,
    /// Activation of the feed-forward layers. Default: GELU.
    pub activation: Activation,
    /// What the network is told beside the time. Default: a text.
    pub cond_mode: MotionCondition,
    /// Entries of the embedding of a text. Default: `512`.
    pub clip_dim: usize,
    /// Number of actions. Default: `1`.
    pub num_actions: usize,
    /// Rows of the stored table of positions, one more than the most frames. Default: `5000`.
    pub max_len: usize,
}

impl Default for MdmConfig {
    fn default() -> Self {
        Self {
            njoints: 263,
            nfeats: 1,
            latent_dim: 512,
            ff_size: 1024,
            num_layers: 8,
            num_heads: 4,
            dropout: 0.1,
            activation: Activation::Gelu,
            cond_mode: MotionCondition::Text,
            clip_dim: 512,
            num_actions: 1,
            max_len: 5000,
        }
    }
}

impl MdmConfig {
    /// The published size, for frames of `joints` joints with `features` numbers each.
    #[must_use]
    pub fn new(joints: usize, features: usize) -> Self {
        Self { njoints: joints, nfeats: features, ..Self::default() }
    }

    /// Sets the channels of the transformer, twice as many between the feed-forward layers, and the number of heads.
    #[must_use]
    pub fn width(mut self, channels: usize, heads: usize) -> Self {
        (self.latent_dim, self.ff_size, self.num_heads) = (channels, channels.saturating_mul(2), heads);
        self
    }

    /// Sets the number of layers.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.num_layers = layers;
        self
    }

    /// Sets the probability of dropout.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// Makes the network conditional on the embedding of a text with `width` entries.
    #[must_use]
    pub fn text(mut self, width: usize) -> Self {
        (self.cond_mode, self.clip_dim) = (MotionCondition::Text, width);
        self
    }

    /// Makes the network conditional on one of `count` actions.
    #[must_use]
    pub fn actions(mut self, count: usize) -> Self {
        (self.cond_mode, self.num_actions) = (MotionCondition::Action, count);
        self
    }

    /// Makes the network unconditional.
    #[must_use]
    pub fn unconditional(mut self) -> Self {
        self.cond_mode = MotionCondition::None;
        self
    }

    /// Reads the `config.json` that [`Mdm::save`] writes.
    ///
    /// # Errors
    ///
    /// Unknown keys and values of the wrong type, each with its key; and what [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        let config: Self = read_config(json, CLASS)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        for (field, given) in [
            ("njoints", self.njoints),
            ("nfeats", self.nfeats),
            ("latent_dim", self.latent_dim),
            ("ff_size", self.ff_size),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("clip_dim", self.clip_dim),
            ("num_actions", self.num_actions),
        ] {
            at_least_one(field, given)?;
        }
        layer_count("num_layers", self.num_layers)?;
        let wrong = |field, given: usize, expected: String| {
            Err(ModelError::Config { field, given: given.to_string(), expected })
        };
        if !self.latent_dim.is_multiple_of(2) {
            return wrong("latent_dim", self.latent_dim, "an even number: sines and cosines tell positions".into());
        }
        if !self.latent_dim.is_multiple_of(self.num_heads) {
            return wrong("num_heads", self.num_heads, format!("a divisor of the {} channels", self.latent_dim));
        }
        if self.max_len < 2 {
            return wrong("max_len", self.max_len, "at least 2: the time and a frame".into());
        }
        DropoutConfig::new(self.dropout).init()?;
        Ok(())
    }

    /// Builds the network with torch's default initialization. Parameters are drawn when first used.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<Mdm, ModelError> {
        self.validate()?;
        Mdm::new(self, device)
    }
}
