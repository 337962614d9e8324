//! How a [`TinyAutoencoder`] is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::TinyAutoencoder;
use super::published::{activation, scale};
use super::tiling::Tiling;
use crate::error::{Keys, ModelError, at_least_one, layer_limit, level_count, positive, told_by_key};
use crate::layers::Activation;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
const CLASS: &str = "AutoencoderTiny";

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("decoder_blocks", "num_decoder_blocks"),
    ("decoder_channels", "decoder_block_out_channels"),
    ("encoder_blocks", "num_encoder_blocks"),
    ("encoder_channels", "encoder_block_out_channels"),
    ("upsampling", "upsampling_scaling_factor"),
];

/// Configuration of a [`TinyAutoencoder`].
///
/// # Example
///
/// ```
/// use langevin_models::autoencoder::TinyAutoencoderConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = TinyAutoencoderConfig::new(4, 16, &[1, 1, 1]).init(&device)?;
/// assert_eq!(net.config().encoder_scale(), 4);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedTiny", into = "PublishedTiny")]
pub struct TinyAutoencoderConfig {
    /// Channels of the images that are encoded.
    pub in_channels: usize,
    /// Channels of the decoded images.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of each level of the encoder, finest first. They are all the same.
    pub encoder_channels: Vec<usize>,
    /// Residual blocks in each level of the encoder.
    pub encoder_blocks: Vec<usize>,
    /// Channels of each level of the decoder, coarsest first. They are all the same.
    pub decoder_channels: Vec<usize>,
    /// Residual blocks in each level of the decoder.
    pub decoder_blocks: Vec<usize>,
    /// Activation between convolutions; each block ends in a ReLU whatever this is.
    pub activation: Activation,
    /// By what each level of the decoder but the last enlarges the image.
    pub upsampling: usize,
    /// Half the width of the interval of latents that [`TinyAutoencoder::scale_latents`] maps to [0, 1].
    pub latent_magnitude: f64,
    /// What a latent of zero is mapped to.
    pub latent_shift: f64,
    /// What latents are multiplied by before a diffusion model sees them.
    pub scaling_factor: f64,
    /// What is subtracted from latents before that.
    pub shift_factor: f64,
}

impl TinyAutoencoderConfig {
    /// An autoencoder for colour images with `latents` channels of latents, `channels` channels everywhere, and the given
    /// number of residual blocks in each level of the encoder, finest first; the decoder has as many.
    #[must_use]
    pub fn new(latents: usize, channels: usize, blocks: &[usize]) -> Self {
        Self {
            latent_channels: latents,
            encoder_channels: vec![channels; blocks.len()],
            decoder_channels: vec![channels; blocks.len()],
            encoder_blocks: blocks.to_vec(),
            decoder_blocks: blocks.iter().rev().copied().collect(),
            ..Self::of_class()
        }
    }

    /// The defaults of the class.
    fn of_class() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            encoder_channels: vec![64; 4],
            encoder_blocks: vec![1, 3, 3, 3],
            decoder_channels: vec![64; 4],
            decoder_blocks: vec![3, 3, 3, 1],
            activation: Activation::Relu,
            upsampling: 2,
            latent_magnitude: 3.0,
            latent_shift: 0.5,
            scaling_factor: 1.0,
            shift_factor: 0.0,
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
            let config: Self = read_config::<PublishedTiny>(json, CLASS)?.try_into()?;
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
        published_value(&PublishedTiny::from(self.clone()), CLASS)
    }

    /// By what the encoder divides each side, rounded up: 2 to the number of its levels less one.
    #[must_use]
    pub fn encoder_scale(&self) -> usize {
        scale(self.encoder_blocks.len())
    }

    /// By what the decoder multiplies each side.
    #[must_use]
    pub fn decoder_scale(&self) -> usize {
        let times = self.decoder_blocks.len().saturating_sub(1).try_into().unwrap_or(u32::MAX);
        self.upsampling.saturating_pow(times)
    }

    /// Tiles of 512 pixels, an eighth of which overlaps.
    #[must_use]
    pub fn tiling(&self) -> Tiling {
        Tiling { sample: 512, latent: 512 / self.encoder_scale(), overlap: 0.125 }
    }

    /// Makes the network.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field that does not fit.
    pub fn init(&self, device: &Device) -> Result<TinyAutoencoder, ModelError> {
        self.check()?;
        TinyAutoencoder::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        at_least_one("latent_channels", self.latent_channels)?;
        at_least_one("upsampling", self.upsampling)?;
        positive("latent_magnitude", self.latent_magnitude)?;
        positive("scaling_factor", self.scaling_factor)?;
        for (field, value) in [("latent_shift", self.latent_shift), ("shift_factor", self.shift_factor)] {
            if !value.is_finite() {
                let expected = "a finite number".into();
                return Err(ModelError::Config { field, given: value.to_string(), expected });
            }
        }
        check_levels(["encoder_channels", "encoder_blocks"], &self.encoder_channels, &self.encoder_blocks)?;
        check_levels(["decoder_channels", "decoder_blocks"], &self.decoder_channels, &self.decoder_blocks)
    }
}

fn check_levels(fields: [&'static str; 2], channels: &[usize], blocks: &[usize]) -> Result<(), ModelError> {
    level_count(fields[0], channels.len())?;
    blocks.iter().try_for_each(|count| layer_limit(fields[1], *count))?;
    at_least_one(fields[0], channels[0])?;
    if channels.iter().any(|c| *c != channels[0]) {
        return Err(ModelError::Config {
            field: fields[0],
            given: format!("{channels:?}"),
            expected: "the same number for each level: no layer changes it".into(),
        });
    }
    if channels.len() != blocks.len() {
        return Err(ModelError::Config {
            field: fields[1],
            given: format!("a list of {}", blocks.len()),
            expected: format!("one for each of the {} `{}`", channels.len(), fields[0]),
        });
    }
    Ok(())
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedTiny {
    act_fn: String,
    /// A copy of `decoder_block_out_channels` that the class writes and does not read.
    block_out_channels: Option<Vec<usize>>,
    decoder_block_out_channels: Vec<usize>,
    encoder_block_out_channels: Vec<usize>,
    /// Written by the class, which sets it to false whatever it reads.
    force_upcast: bool,
    in_channels: usize,
    latent_channels: usize,
    latent_magnitude: f64,
    latent_shift: f64,
    num_decoder_blocks: Vec<usize>,
    num_encoder_blocks: Vec<usize>,
    out_channels: usize,
    scaling_factor: f64,
    shift_factor: f64,
    upsample_fn: String,
    upsampling_scaling_factor: usize,
}

impl Default for PublishedTiny {
    fn default() -> Self {
        TinyAutoencoderConfig::of_class().into()
    }
}

impl TryFrom<PublishedTiny> for TinyAutoencoderConfig {
    type Error = ModelError;

    fn try_from(p: PublishedTiny) -> Result<Self, ModelError> {
        // For whole factors the two are the same.
        if !matches!(p.upsample_fn.as_str(), "nearest" | "nearest-exact") {
            let supported = "\"nearest\" and \"nearest-exact\"";
            return Err(ModelError::Unsupported { key: "upsample_fn", value: p.upsample_fn, supported });
        }
        Ok(Self {
            in_channels: p.in_channels,
            out_channels: p.out_channels,
            latent_channels: p.latent_channels,
            encoder_channels: p.encoder_block_out_channels,
            encoder_blocks: p.num_encoder_blocks,
            decoder_channels: p.decoder_block_out_channels,
            decoder_blocks: p.num_decoder_blocks,
            activation: activation(&p.act_fn)?,
            upsampling: p.upsampling_scaling_factor,
            latent_magnitude: p.latent_magnitude,
            latent_shift: p.latent_shift,
            scaling_factor: p.scaling_factor,
            shift_factor: p.shift_factor,
        })
    }
}

impl From<TinyAutoencoderConfig> for PublishedTiny {
    fn from(c: TinyAutoencoderConfig) -> Self {
        Self {
            act_fn: c.activation.name().into(),
            block_out_channels: Some(c.decoder_channels.clone()),
            decoder_block_out_channels: c.decoder_channels,
            encoder_block_out_channels: c.encoder_channels,
            force_upcast: false,
            in_channels: c.in_channels,
            latent_channels: c.latent_channels,
            latent_magnitude: c.latent_magnitude,
            latent_shift: c.latent_shift,
            num_decoder_blocks: c.decoder_blocks,
            num_encoder_blocks: c.encoder_blocks,
            out_channels: c.out_channels,
            scaling_factor: c.scaling_factor,
            shift_factor: c.shift_factor,
            upsample_fn: "nearest".into(),
            upsampling_scaling_factor: c.upsampling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;
    use serde_json::{Value, json};

    fn read(changes: Value) -> Result<TinyAutoencoderConfig, ModelError> {
        let mut config = json!({ "_class_name": CLASS });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        TinyAutoencoderConfig::from_json(&config.to_string())
    }

    #[test]
    fn absent_keys_have_the_defaults_of_the_class() {
        let config = read(json!({})).unwrap();
        assert_eq!((config.encoder_scale(), config.decoder_scale()), (8, 8));
        assert_eq!((config.activation, config.latent_magnitude, config.latent_shift), (Activation::Relu, 3.0, 0.5));
        assert_eq!(config.encoder_blocks, [1, 3, 3, 3]);
        assert_eq!(config.decoder_blocks, [3, 3, 3, 1]);
        let tiling = config.tiling();
        assert_eq!((tiling.sample, tiling.latent, tiling.overlap), (512, 64, 0.125));
    }

    #[test]
    fn the_published_form_round_trips() {
        for changes in [
            json!({}),
            json!({"latent_channels": 16, "act_fn": "gelu", "upsampling_scaling_factor": 3, "shift_factor": 0.5,
                   "upsample_fn": "nearest-exact", "block_out_channels": [64, 64, 64, 64], "force_upcast": true}),
        ] {
            let config = read(changes).unwrap();
            assert_eq!(TinyAutoencoderConfig::from_json(&config.to_json()).unwrap(), config);
            let serde = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<TinyAutoencoderConfig>(&serde).unwrap(), config);
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (changes, name) in
            [(json!({"upsample_fn": "bilinear"}), "upsample_fn"), (json!({"act_fn": "tanh"}), "act_fn")]
        {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Unsupported { key, .. } if key == name), "{name}: {error}");
        }
        let error = read(json!({"norm_num_groups": 4})).unwrap_err();
        assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    }

    #[test]
    fn refuses_impossible_values() {
        for (changes, name) in [
            (json!({"in_channels": 0}), "in_channels"),
            (json!({"out_channels": 0}), "out_channels"),
            (json!({"latent_channels": 0}), "latent_channels"),
            (json!({"upsampling_scaling_factor": 0}), "upsampling_scaling_factor"),
            (json!({"latent_magnitude": 0}), "latent_magnitude"),
            (json!({"scaling_factor": 0.0}), "scaling_factor"),
            (json!({"encoder_block_out_channels": []}), "encoder_block_out_channels"),
            (json!({"encoder_block_out_channels": [8, 8, 16, 8]}), "encoder_block_out_channels"),
            (json!({"num_encoder_blocks": [1]}), "num_encoder_blocks"),
            (json!({"decoder_block_out_channels": [8, 16, 8, 8]}), "decoder_block_out_channels"),
            (json!({"num_decoder_blocks": [1, 1]}), "num_decoder_blocks"),
        ] {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
        let mut config = read(json!({})).unwrap();
        config.latent_shift = f64::INFINITY;
        let error = config.init(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "latent_shift", .. }), "{error}");
    }
}
