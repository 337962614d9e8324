//! How a [`VqModel`] is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::VqModel;
use super::coder::{Block, CoderConfig};
use super::published::{DOWN, UP, activation, check_coders, groups, scale};
use crate::error::{Keys, ModelError, at_least_one, positive, told_by_key};
use crate::layers::Activation;
use crate::published::Sides;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
const CLASS: &str = "VQModel";

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("channels", "block_out_channels"),
    ("code_channels", "vq_embed_dim"),
    ("codes", "num_vq_embeddings"),
    ("down", "down_block_types"),
    ("layers", "layers_per_block"),
    ("norm_groups", "norm_num_groups"),
    ("spatial", "norm_type"),
    ("up", "up_block_types"),
];

/// Configuration of a [`VqModel`].
///
/// [`new`](VqModelConfig::new) starts one for training; the fields cover everything that published configurations can
/// say, and [`from_json`](VqModelConfig::from_json) reads those. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::autoencoder::VqModelConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = VqModelConfig::new(3, 4, &[32, 64], 512).init(&device)?;
/// assert_eq!(net.quantize.embedding.weight.dims(), [512, 4]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedVq", into = "PublishedVq")]
pub struct VqModelConfig {
    /// Channels of the images that are encoded.
    pub in_channels: usize,
    /// Channels of the decoded images.
    pub out_channels: usize,
    /// Channels between the coders and the 1 x 1 convolutions around the codebook.
    pub latent_channels: usize,
    /// Channels of each level, finest first. Each level but the last halves the image.
    pub channels: Vec<usize>,
    /// Levels of the encoder, finest first.
    pub down: Vec<Block>,
    /// Levels of the decoder, coarsest first.
    pub up: Vec<Block>,
    /// Residual blocks in each level of the encoder; there is one more in the decoder.
    pub layers: usize,
    /// Groups of the normalizations, but for those that are told by latents.
    pub norm_groups: usize,
    /// Activation of the residual blocks.
    pub activation: Activation,
    /// Whether the blocks at the coarsest level have attention.
    pub mid_attention: bool,
    /// Number of entries of the codebook.
    pub codes: usize,
    /// Channels of an entry, or `latent_channels`.
    pub code_channels: Option<usize>,
    /// Whether the normalizations of the decoder are told by the quantized latents, as in MoVQ.
    pub spatial: bool,
    /// Whether the networks that use this one give it rows of the codebook instead of latents.
    pub lookup_from_codebook: bool,
    /// Height and width the network was trained on. It takes others.
    pub sample_size: [usize; 2],
    /// What latents are multiplied by before a diffusion model sees them. Networks for such models say so.
    pub scaling_factor: f64,
    /// Whether the network overflows in `f16`, so that [`VqModel::load`] keeps its weights in `f32` there.
    pub force_upcast: bool,
}

impl VqModelConfig {
    /// An autoencoder for images of `channels` channels with `latents` channels of latents, the given channels of its
    /// levels, finest first, and `codes` entries in its codebook, with two residual blocks in each level.
    #[must_use]
    pub fn new(channels: usize, latents: usize, levels: &[usize], codes: usize) -> Self {
        Self {
            in_channels: channels,
            out_channels: channels,
            latent_channels: latents,
            channels: levels.to_vec(),
            down: vec![Block::Plain; levels.len()],
            up: vec![Block::Plain; levels.len()],
            layers: 2,
            norm_groups: groups(levels),
            codes,
            ..Self::of_class()
        }
    }

    /// The defaults of the class.
    fn of_class() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 3,
            channels: vec![64],
            down: vec![Block::Plain],
            up: vec![Block::Plain],
            layers: 1,
            norm_groups: 32,
            activation: Activation::Silu,
            mid_attention: true,
            codes: 256,
            code_channels: None,
            spatial: false,
            lookup_from_codebook: false,
            sample_size: [32, 32],
            scaling_factor: 0.18215,
            force_upcast: false,
        }
    }

    /// Reads a published `config.json`. Absent keys have the defaults of the class.
    ///
    /// # Errors
    ///
    /// * [`ModelError::UnknownKeys`] for keys that could change the network but are not known;
    /// * [`ModelError::Unsupported`] for known keys with a value that is not implemented;
    /// * [`ModelError::Json`], [`ModelError::BadValue`] and [`ModelError::WrongClass`] for other files.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config: Self = read_config::<PublishedVq>(json, CLASS)?.try_into()?;
            config.check()?;
            Ok(config)
        })
    }

    /// The published form as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        published_value(&PublishedVq::from(self.clone()), CLASS)
    }

    /// How many pixels a latent stands for along each side: 2 to the number of levels less one.
    #[must_use]
    pub fn scale(&self) -> usize {
        scale(self.channels.len())
    }

    /// Channels of an entry of the codebook.
    #[must_use]
    pub fn code_width(&self) -> usize {
        self.code_channels.unwrap_or(self.latent_channels)
    }

    /// Makes the network.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field that does not fit.
    pub fn init(&self, device: &Device) -> Result<VqModel, ModelError> {
        self.check()?;
        VqModel::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("codes", self.codes)?;
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        at_least_one("latent_channels", self.latent_channels)?;
        at_least_one("code_channels", self.code_width())?;
        positive("scaling_factor", self.scaling_factor)?;
        if self.spatial && self.code_width() != self.latent_channels {
            return Err(ModelError::Config {
                field: "code_channels",
                given: self.code_width().to_string(),
                expected: format!("{}, the latent channels, where `spatial` is true", self.latent_channels),
            });
        }
        check_coders(&self.encoder(), &self.decoder())
    }

    pub(super) fn encoder(&self) -> CoderConfig {
        self.coder(self.in_channels, self.latent_channels, &self.down, false)
    }

    pub(super) fn decoder(&self) -> CoderConfig {
        self.coder(self.latent_channels, self.out_channels, &self.up, self.spatial)
    }

    fn coder(&self, input: usize, output: usize, blocks: &[Block], spatial: bool) -> CoderConfig {
        CoderConfig {
            blocks: blocks.to_vec(),
            layers: self.layers,
            groups: self.norm_groups,
            activation: self.activation,
            mid_attention: self.mid_attention,
            spatial,
            ..CoderConfig::new(input, output, &self.channels)
        }
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedVq {
    act_fn: String,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    force_upcast: bool,
    in_channels: usize,
    latent_channels: usize,
    layers_per_block: usize,
    lookup_from_codebook: bool,
    mid_block_add_attention: bool,
    norm_num_groups: usize,
    norm_type: String,
    num_vq_embeddings: usize,
    out_channels: usize,
    sample_size: Sides,
    scaling_factor: f64,
    up_block_types: Vec<String>,
    vq_embed_dim: Option<usize>,
}

impl Default for PublishedVq {
    fn default() -> Self {
        VqModelConfig::of_class().into()
    }
}

impl TryFrom<PublishedVq> for VqModelConfig {
    type Error = ModelError;

    fn try_from(p: PublishedVq) -> Result<Self, ModelError> {
        let spatial = match p.norm_type.as_str() {
            "group" => false,
            "spatial" => true,
            _ => {
                let supported = "\"group\" and \"spatial\"";
                return Err(ModelError::Unsupported { key: "norm_type", value: p.norm_type, supported });
            }
        };
        Ok(Self {
            in_channels: p.in_channels,
            out_channels: p.out_channels,
            latent_channels: p.latent_channels,
            down: DOWN.read(&p.down_block_types)?,
            up: UP.read(&p.up_block_types)?,
            channels: p.block_out_channels,
            layers: p.layers_per_block,
            norm_groups: p.norm_num_groups,
            activation: activation(&p.act_fn)?,
            mid_attention: p.mid_block_add_attention,
            codes: p.num_vq_embeddings,
            code_channels: p.vq_embed_dim,
            spatial,
            lookup_from_codebook: p.lookup_from_codebook,
            sample_size: p.sample_size.into(),
            scaling_factor: p.scaling_factor,
            force_upcast: p.force_upcast,
        })
    }
}

impl From<VqModelConfig> for PublishedVq {
    fn from(c: VqModelConfig) -> Self {
        Self {
            act_fn: c.activation.name().into(),
            block_out_channels: c.channels,
            down_block_types: DOWN.write(&c.down),
            force_upcast: c.force_upcast,
            in_channels: c.in_channels,
            latent_channels: c.latent_channels,
            layers_per_block: c.layers,
            lookup_from_codebook: c.lookup_from_codebook,
            mid_block_add_attention: c.mid_attention,
            norm_num_groups: c.norm_groups,
            norm_type: if c.spatial { "spatial" } else { "group" }.into(),
            num_vq_embeddings: c.codes,
            out_channels: c.out_channels,
            sample_size: c.sample_size.into(),
            scaling_factor: c.scaling_factor,
            up_block_types: UP.write(&c.up),
            vq_embed_dim: c.code_channels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(changes: Value) -> Result<VqModelConfig, ModelError> {
        let mut config = json!({
            "_class_name": CLASS,
            "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
            "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
            "block_out_channels": [32, 64],
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        VqModelConfig::from_json(&config.to_string())
    }

    #[test]
    fn absent_keys_have_the_defaults_of_the_class() {
        let config = VqModelConfig::from_json("{}").unwrap();
        assert_eq!((config.layers, config.norm_groups, config.latent_channels, config.codes), (1, 32, 3, 256));
        assert!(!config.force_upcast && !config.spatial && config.mid_attention);
        assert_eq!(config.code_width(), 3);
    }

    #[test]
    fn the_published_form_round_trips() {
        for changes in [
            json!({}),
            json!({"norm_type": "spatial", "sample_size": [16, 32], "act_fn": "gelu", "vq_embed_dim": 3}),
            json!({"vq_embed_dim": 5, "lookup_from_codebook": true, "force_upcast": true, "num_vq_embeddings": 9}),
        ] {
            let config = read(changes).unwrap();
            assert_eq!(VqModelConfig::from_json(&config.to_json()).unwrap(), config);
            let serde = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<VqModelConfig>(&serde).unwrap(), config);
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (changes, name) in [
            (json!({"norm_type": "layer"}), "norm_type"),
            (json!({"down_block_types": ["DownBlock2D", "DownEncoderBlock2D"]}), "down_block_types"),
            (json!({"up_block_types": ["UpDecoderBlock2D", "UpBlock2D"]}), "up_block_types"),
            (json!({"act_fn": "tanh"}), "act_fn"),
        ] {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Unsupported { key, .. } if key == name), "{name}: {error}");
        }
        let error = read(json!({"beta": 0.25})).unwrap_err();
        assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    }

    #[test]
    fn refuses_impossible_values() {
        for (changes, name) in [
            (json!({"in_channels": 0}), "in_channels"),
            (json!({"out_channels": 0}), "out_channels"),
            (json!({"latent_channels": 0}), "latent_channels"),
            (json!({"vq_embed_dim": 0}), "vq_embed_dim"),
            (json!({"num_vq_embeddings": 0}), "num_vq_embeddings"),
            (json!({"scaling_factor": -1.0}), "scaling_factor"),
            (json!({"norm_type": "spatial", "vq_embed_dim": 4}), "vq_embed_dim"),
            (
                json!({"norm_type": "spatial", "norm_num_groups": 4, "block_out_channels": [32, 36]}),
                "block_out_channels",
            ),
            (json!({"block_out_channels": [32]}), "down_block_types"),
        ] {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
