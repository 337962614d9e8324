//! How an [`AutoencoderKl`] is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::AutoencoderKl;
use super::coder::{Block, CoderConfig};
use super::published::{DOWN, UP, activation, check_coders, groups, scale};
use super::tiling::Tiling;
use crate::error::{Keys, ModelError, at_least_one, positive, told_by_key};
use crate::layers::Activation;
use crate::published::Sides;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
const CLASS: &str = "AutoencoderKL";

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("channels", "block_out_channels"),
    ("down", "down_block_types"),
    ("layers", "layers_per_block"),
    ("norm_groups", "norm_num_groups"),
    ("up", "up_block_types"),
];

/// Configuration of an [`AutoencoderKl`].
///
/// [`new`](AutoencoderKlConfig::new) starts one for training; the fields cover everything that published configurations
/// can say, and [`from_json`](AutoencoderKlConfig::from_json) reads those. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::autoencoder::AutoencoderKlConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = AutoencoderKlConfig::new(3, 4, &[32, 64]).init(&device)?;
/// assert_eq!(net.config().scale(), 2);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedKl", into = "PublishedKl")]
pub struct AutoencoderKlConfig {
    /// Channels of the images that are encoded.
    pub in_channels: usize,
    /// Channels of the decoded images.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of each level, finest first. Each level but the last halves the image.
    pub channels: Vec<usize>,
    /// Levels of the encoder, finest first.
    pub down: Vec<Block>,
    /// Levels of the decoder, coarsest first.
    pub up: Vec<Block>,
    /// Residual blocks in each level of the encoder; there is one more in the decoder.
    pub layers: usize,
    /// Groups of the normalizations.
    pub norm_groups: usize,
    /// Activation of the residual blocks.
    pub activation: Activation,
    /// Whether the blocks at the coarsest level have attention.
    pub mid_attention: bool,
    /// Whether a 1 x 1 convolution follows the encoder.
    pub quant_conv: bool,
    /// Whether a 1 x 1 convolution precedes the decoder.
    pub post_quant_conv: bool,
    /// Height and width the network was trained on, of which the first is the size of tiles. It takes others.
    pub sample_size: [usize; 2],
    /// What latents are multiplied by before a diffusion model sees them, so that their variance is near one.
    pub scaling_factor: f64,
    /// What is subtracted from latents before that.
    pub shift_factor: Option<f64>,
    /// Mean of each channel of the latents, where a diffusion model wants standardized ones.
    pub latents_mean: Option<Vec<f64>>,
    /// Standard deviation of each channel of the latents.
    pub latents_std: Option<Vec<f64>>,
    /// Whether the network overflows in `f16`, so that [`AutoencoderKl::load`] keeps its weights in `f32` there.
    pub force_upcast: bool,
}

impl AutoencoderKlConfig {
    /// An autoencoder for images of `channels` channels with `latents` channels of latents and the given channels of
    /// its levels, finest first; the rest as Stable Diffusion has it, with two residual blocks in each level.
    #[must_use]
    pub fn new(channels: usize, latents: usize, levels: &[usize]) -> Self {
        Self {
            in_channels: channels,
            out_channels: channels,
            latent_channels: latents,
            channels: levels.to_vec(),
            down: vec![Block::Plain; levels.len()],
            up: vec![Block::Plain; levels.len()],
            layers: 2,
            norm_groups: groups(levels),
            ..Self::of_class()
        }
    }

    /// The defaults of the class.
    fn of_class() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            channels: vec![64],
            down: vec![Block::Plain],
            up: vec![Block::Plain],
            layers: 1,
            norm_groups: 32,
            activation: Activation::Silu,
            mid_attention: true,
            quant_conv: true,
            post_quant_conv: true,
            sample_size: [32, 32],
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            force_upcast: true,
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
            let config: Self = read_config::<PublishedKl>(json, CLASS)?.try_into()?;
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
        published_value(&PublishedKl::from(self.clone()), CLASS)
    }

    /// How many pixels a latent stands for along each side: 2 to the number of levels less one.
    #[must_use]
    pub fn scale(&self) -> usize {
        scale(self.channels.len())
    }

    /// Tiles of the size that the network was trained on, a quarter of which overlaps.
    #[must_use]
    pub fn tiling(&self) -> Tiling {
        let sample = self.sample_size[0];
        Tiling { sample, latent: sample / self.scale(), overlap: 0.25 }
    }

    /// Makes the network.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field that does not fit.
    pub fn init(&self, device: &Device) -> Result<AutoencoderKl, ModelError> {
        self.check()?;
        AutoencoderKl::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        at_least_one("latent_channels", self.latent_channels)?;
        positive("scaling_factor", self.scaling_factor)?;
        if let Some(shift) = self.shift_factor.filter(|shift| !shift.is_finite()) {
            let expected = "a finite number".into();
            return Err(ModelError::Config { field: "shift_factor", given: shift.to_string(), expected });
        }
        // One without the other says nothing.
        if self.latents_mean.is_some() != self.latents_std.is_some() {
            let (field, other) = match self.latents_mean {
                None => ("latents_mean", "latents_std"),
                Some(_) => ("latents_std", "latents_mean"),
            };
            let expected = format!("a list, as `{other}` is one");
            return Err(ModelError::Config { field, given: "nothing".into(), expected });
        }
        self.check_list("latents_mean", self.latents_mean.as_deref(), "a finite number", f64::is_finite)?;
        self.check_list("latents_std", self.latents_std.as_deref(), "a finite number above 0", |v| {
            v > 0.0 && v.is_finite()
        })?;
        check_coders(&self.encoder(), &self.decoder())
    }

    fn check_list(
        &self,
        field: &'static str,
        list: Option<&[f64]>,
        kind: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<(), ModelError> {
        match list {
            Some(list) if list.len() != self.latent_channels || !list.iter().all(|v| fits(*v)) => {
                Err(ModelError::Config {
                    field,
                    given: format!("{list:?}"),
                    expected: format!("{kind} for each of the {} latent channels", self.latent_channels),
                })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn encoder(&self) -> CoderConfig {
        self.coder(self.in_channels, 2 * self.latent_channels, &self.down)
    }

    pub(super) fn decoder(&self) -> CoderConfig {
        self.coder(self.latent_channels, self.out_channels, &self.up)
    }

    fn coder(&self, input: usize, output: usize, blocks: &[Block]) -> CoderConfig {
        CoderConfig {
            blocks: blocks.to_vec(),
            layers: self.layers,
            groups: self.norm_groups,
            activation: self.activation,
            mid_attention: self.mid_attention,
            ..CoderConfig::new(input, output, &self.channels)
        }
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedKl {
    act_fn: String,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    force_upcast: bool,
    in_channels: usize,
    latent_channels: usize,
    latents_mean: Option<Vec<f64>>,
    latents_std: Option<Vec<f64>>,
    layers_per_block: usize,
    mid_block_add_attention: bool,
    norm_num_groups: usize,
    out_channels: usize,
    sample_size: Sides,
    scaling_factor: f64,
    shift_factor: Option<f64>,
    up_block_types: Vec<String>,
    use_post_quant_conv: bool,
    use_quant_conv: bool,
}

impl Default for PublishedKl {
    fn default() -> Self {
        AutoencoderKlConfig::of_class().into()
    }
}

impl TryFrom<PublishedKl> for AutoencoderKlConfig {
    type Error = ModelError;

    fn try_from(p: PublishedKl) -> Result<Self, ModelError> {
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
            quant_conv: p.use_quant_conv,
            post_quant_conv: p.use_post_quant_conv,
            sample_size: p.sample_size.into(),
            scaling_factor: p.scaling_factor,
            shift_factor: p.shift_factor,
            latents_mean: p.latents_mean,
            latents_std: p.latents_std,
            force_upcast: p.force_upcast,
        })
    }
}

impl From<AutoencoderKlConfig> for PublishedKl {
    fn from(c: AutoencoderKlConfig) -> Self {
        Self {
            act_fn: c.activation.name().into(),
            block_out_channels: c.channels,
            down_block_types: DOWN.write(&c.down),
            force_upcast: c.force_upcast,
            in_channels: c.in_channels,
            latent_channels: c.latent_channels,
            latents_mean: c.latents_mean,
            latents_std: c.latents_std,
            layers_per_block: c.layers,
            mid_block_add_attention: c.mid_attention,
            norm_num_groups: c.norm_groups,
            out_channels: c.out_channels,
            sample_size: c.sample_size.into(),
            scaling_factor: c.scaling_factor,
            shift_factor: c.shift_factor,
            up_block_types: UP.write(&c.up),
            use_post_quant_conv: c.post_quant_conv,
            use_quant_conv: c.quant_conv,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;
    use serde_json::{Value, json};

    fn read(changes: Value) -> Result<AutoencoderKlConfig, ModelError> {
        let mut config = json!({
            "_class_name": CLASS,
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
            "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
            "block_out_channels": [32, 64],
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        AutoencoderKlConfig::from_json(&config.to_string())
    }

    #[test]
    fn absent_keys_have_the_defaults_of_the_class() {
        let config = AutoencoderKlConfig::from_json("{}").unwrap();
        assert_eq!((config.layers, config.norm_groups, config.latent_channels), (1, 32, 4));
        assert_eq!((config.scaling_factor, config.shift_factor), (0.18215, None));
        assert!(config.force_upcast && config.quant_conv && config.post_quant_conv && config.mid_attention);
        assert_eq!(config.scale(), 1);
    }

    #[test]
    fn the_published_form_round_trips() {
        for changes in [
            json!({}),
            json!({"sample_size": [16, 32], "shift_factor": 0.1, "use_quant_conv": false, "act_fn": "gelu"}),
            json!({"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0], "force_upcast": false}),
            json!({"down_block_types": ["AttnDownEncoderBlock2D", "DownEncoderBlock2D"],
                   "up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"], "mid_block_add_attention": false}),
        ] {
            let config = read(changes).unwrap();
            assert_eq!(AutoencoderKlConfig::from_json(&config.to_json()).unwrap(), config);
            let serde = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<AutoencoderKlConfig>(&serde).unwrap(), config);
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (changes, name) in [
            (json!({"down_block_types": ["DownBlock2D", "DownEncoderBlock2D"]}), "down_block_types"),
            (json!({"up_block_types": ["UpDecoderBlock2D", "UpBlock2D"]}), "up_block_types"),
            (json!({"act_fn": "tanh"}), "act_fn"),
        ] {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Unsupported { key, .. } if key == name), "{name}: {error}");
        }
        let error = read(json!({"double_z": true})).unwrap_err();
        assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
        let error = read(json!({"_class_name": "VQModel"})).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { .. }), "{error}");
        let error = read(json!({"latent_channels": "four"})).unwrap_err();
        assert!(matches!(&error, ModelError::BadValue { key, .. } if key == "latent_channels"), "{error}");
    }

    #[test]
    fn refuses_impossible_values() {
        for (changes, name) in [
            (json!({"in_channels": 0}), "in_channels"),
            (json!({"out_channels": 0}), "out_channels"),
            (json!({"latent_channels": 0}), "latent_channels"),
            (json!({"layers_per_block": 0}), "layers_per_block"),
            (json!({"block_out_channels": []}), "block_out_channels"),
            (json!({"block_out_channels": [32]}), "down_block_types"),
            (json!({"up_block_types": ["UpDecoderBlock2D"]}), "up_block_types"),
            (json!({"norm_num_groups": 5}), "norm_num_groups"),
            (json!({"scaling_factor": 0.0}), "scaling_factor"),
            (json!({"latents_mean": [0.0, 0.0, 0.0, 0.0]}), "latents_std"),
            (json!({"latents_std": [1.0, 1.0, 1.0, 1.0]}), "latents_mean"),
            (json!({"latents_mean": [0.0], "latents_std": [1.0, 1.0, 1.0, 1.0]}), "latents_mean"),
            (json!({"latents_mean": [0.0, 0.0, 0.0, 0.0], "latents_std": [1.0, 1.0, 0.0, 1.0]}), "latents_std"),
        ] {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
        let mut config = read(json!({})).unwrap();
        config.shift_factor = Some(f64::NAN);
        let error = config.init(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "shift_factor", .. }), "{error}");
    }
}
