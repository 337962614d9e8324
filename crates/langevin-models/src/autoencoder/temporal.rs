//! The autoencoder of Stable Video Diffusion: images to latents, and the latents of all frames of a video to images.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use langevin_core::Load;
use serde::{Deserialize, Serialize};

use super::coder::{Block, CoderConfig, Encoder};
use super::gaussian::DiagonalGaussian;
use super::published::{DOWN, scale};
use super::temporal_decoder::TemporalDecoder;
use super::{check_image, check_latents, upcast};
use crate::error::{Keys, ModelError, at_least_one, layer_count, level_count, positive, told_by_key};
use crate::layers::{Conv2d, Conv2dConfig};
use crate::published::Sides;
use crate::tap::Tap;
use crate::weights::{published_value, read_config, read_config_file, read_folder, write_folder};

/// The class that publishes this configuration.
const CLASS: &str = "AutoencoderKLTemporalDecoder";
/// Groups of all normalizations, which the class fixes.
pub(super) const GROUPS: usize = 32;

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[
    ("channels", "block_out_channels"),
    ("down", "down_block_types"),
    ("layers", "layers_per_block"),
    ("up", "up_block_types"),
];

/// Configuration of an [`AutoencoderKlTemporalDecoder`]. It serializes to the published form.
///
/// # Example
///
/// ```
/// use langevin_models::autoencoder::AutoencoderKlTemporalDecoderConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = AutoencoderKlTemporalDecoderConfig::new(3, 4, &[32, 64]).init(&device)?;
/// assert_eq!(net.config().scale(), 2);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Published", into = "Published")]
pub struct AutoencoderKlTemporalDecoderConfig {
    /// Channels of the images that are encoded.
    pub in_channels: usize,
    /// Channels of the decoded images.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of each level, finest first, multiples of 32. Each level but the last halves the image.
    pub channels: Vec<usize>,
    /// Levels of the encoder, finest first.
    pub down: Vec<Block>,
    /// Residual blocks in each level of the encoder and in the middle of the decoder; there is one more in its levels.
    pub layers: usize,
    /// Height and width the network was trained on. It takes others.
    pub sample_size: [usize; 2],
    /// What latents are multiplied by before a diffusion model sees them, so that their variance is near one.
    pub scaling_factor: f64,
    /// Whether the network overflows in `f16`, so that [`AutoencoderKlTemporalDecoder::load`] keeps its weights in `f32`
    /// there.
    pub force_upcast: bool,
}

impl AutoencoderKlTemporalDecoderConfig {
    /// An autoencoder for images of `channels` channels with `latents` channels of latents and the given channels of its
    /// levels, finest first; the rest as Stable Video Diffusion has it.
    #[must_use]
    pub fn new(channels: usize, latents: usize, levels: &[usize]) -> Self {
        Self {
            in_channels: channels,
            out_channels: channels,
            latent_channels: latents,
            channels: levels.to_vec(),
            down: vec![Block::Plain; levels.len()],
            layers: 2,
            sample_size: [768, 768],
            scaling_factor: 0.18215,
            force_upcast: true,
        }
    }

    /// Reads a published `config.json`. Absent keys have the defaults of the class.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`init`](Self::init) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(read_config::<Published>(json, CLASS)?)?;
            config.check()?;
            Ok(config)
        })
    }

    /// The published form as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }

    fn to_value(&self) -> serde_json::Value {
        published_value(&Published::from(self.clone()), CLASS)
    }

    /// How many pixels a latent stands for along each side: 2 to the number of levels less one.
    #[must_use]
    pub fn scale(&self) -> usize {
        scale(self.channels.len())
    }

    /// Makes the network.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field that does not fit.
    pub fn init(&self, device: &Device) -> Result<AutoencoderKlTemporalDecoder, ModelError> {
        self.check()?;
        AutoencoderKlTemporalDecoder::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("in_channels", self.in_channels)?;
        at_least_one("out_channels", self.out_channels)?;
        at_least_one("latent_channels", self.latent_channels)?;
        level_count("channels", self.channels.len())?;
        layer_count("layers", self.layers)?;
        positive("scaling_factor", self.scaling_factor)?;
        if let Some(width) = self.channels.iter().find(|width| **width == 0 || !width.is_multiple_of(GROUPS)) {
            return Err(ModelError::Config {
                field: "channels",
                given: width.to_string(),
                expected: format!("multiples of {GROUPS}, the groups of the normalizations"),
            });
        }
        if self.down.len() != self.channels.len() {
            return Err(ModelError::Config {
                field: "down",
                given: format!("a list of {}", self.down.len()),
                expected: format!("one for each of the {} `channels`", self.channels.len()),
            });
        }
        Ok(())
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Published {
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    force_upcast: bool,
    in_channels: usize,
    latent_channels: usize,
    layers_per_block: usize,
    out_channels: usize,
    sample_size: Sides,
    scaling_factor: f64,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            block_out_channels: vec![64],
            down_block_types: DOWN.write(&[Block::Plain]),
            force_upcast: true,
            in_channels: 3,
            latent_channels: 4,
            layers_per_block: 1,
            out_channels: 3,
            sample_size: Sides::Square(32),
            scaling_factor: 0.18215,
        }
    }
}

impl TryFrom<Published> for AutoencoderKlTemporalDecoderConfig {
    type Error = ModelError;

    fn try_from(p: Published) -> Result<Self, ModelError> {
        Ok(Self {
            in_channels: p.in_channels,
            out_channels: p.out_channels,
            latent_channels: p.latent_channels,
            channels: p.block_out_channels,
            down: DOWN.read(&p.down_block_types)?,
            layers: p.layers_per_block,
            sample_size: p.sample_size.into(),
            scaling_factor: p.scaling_factor,
            force_upcast: p.force_upcast,
        })
    }
}

impl From<AutoencoderKlTemporalDecoderConfig> for Published {
    fn from(c: AutoencoderKlTemporalDecoderConfig) -> Self {
        Self {
            block_out_channels: c.channels,
            down_block_types: DOWN.write(&c.down),
            force_upcast: c.force_upcast,
            in_channels: c.in_channels,
            latent_channels: c.latent_channels,
            layers_per_block: c.layers,
            out_channels: c.out_channels,
            sample_size: c.sample_size.into(),
            scaling_factor: c.scaling_factor,
        }
    }
}

/// A variational autoencoder whose encoder takes images and whose decoder takes all frames of a video at once. Made by
/// [`AutoencoderKlTemporalDecoderConfig::init`] or [`AutoencoderKlTemporalDecoder::load`]. Pixels are in [-1, 1].
///
/// # References
///
/// Blattmann et al. 2023, Stable Video Diffusion, [arXiv:2311.15127](https://arxiv.org/abs/2311.15127), appendix D, after
/// Blattmann et al. 2023, [arXiv:2304.08818](https://arxiv.org/abs/2304.08818), section 3.1.1. Parameters have the names of
/// diffusers' `AutoencoderKLTemporalDecoder`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::autoencoder::AutoencoderKlTemporalDecoderConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = AutoencoderKlTemporalDecoderConfig::new(3, 4, &[32, 32]).init(&device)?;
/// let frames = net.encode(Tensor::<4>::zeros([5, 3, 8, 8], &device))?.mode();
/// assert_eq!(frames.dims(), [5, 4, 4, 4]);
/// let video = net.decode(frames, 5)?;
/// assert_eq!(video.dims(), [5, 3, 8, 8]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct AutoencoderKlTemporalDecoder {
    /// Images to moments of latents.
    pub encoder: Encoder,
    /// Latents of videos to images.
    pub decoder: TemporalDecoder,
    /// 1 x 1 convolution after the encoder.
    pub quant_conv: Conv2d,
    #[module(skip)]
    config: AutoencoderKlTemporalDecoderConfig,
}

impl AutoencoderKlTemporalDecoder {
    fn new(config: &AutoencoderKlTemporalDecoderConfig, device: &Device) -> Result<Self, ModelError> {
        let moments = 2 * config.latent_channels;
        let encoder = CoderConfig {
            blocks: config.down.clone(),
            layers: config.layers,
            ..CoderConfig::new(config.in_channels, moments, &config.channels)
        };
        Ok(Self {
            encoder: encoder.encoder(device)?,
            decoder: TemporalDecoder::new(config, device)?,
            quant_conv: Conv2dConfig::new(moments, moments, 1).init(device)?,
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`. Networks that overflow in
    /// `f16` say so by `force_upcast`: where `f16` is asked for, the weights of these are kept in `f32`.
    ///
    /// # Errors
    ///
    /// Those of [`AutoencoderKlTemporalDecoderConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, AutoencoderKlTemporalDecoderConfig::from_json)?;
        let load = upcast(load, config.force_upcast);
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &self.config.to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &AutoencoderKlTemporalDecoderConfig {
        &self.config
    }

    /// Encodes images with values in [-1, 1].
    ///
    /// # Shapes
    ///
    /// - x: `[batch, in_channels, height, width]`, both sides at least
    ///   [`scale`](AutoencoderKlTemporalDecoderConfig::scale)
    /// - latents: `[batch, latent_channels, height/scale, width/scale]`, rounded down
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for images of another shape.
    pub fn encode(&self, x: Tensor<4>) -> Result<DiagonalGaussian, ModelError> {
        self.encode_with(x, &mut Tap::none())
    }

    /// [`encode`](Self::encode), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Result<DiagonalGaussian, ModelError> {
        check_image(&x, self.config.in_channels, self.config.scale())?;
        let given = x.dtype();
        let h = tap.scope("encoder", |tap| self.encoder.forward(x.cast(self.dtype()), tap));
        let moments = self.quant_conv.forward(h);
        tap.see("quant_conv", &moments);
        Ok(DiagonalGaussian::from_moments(moments).cast(given))
    }

    /// Decodes the latents of videos of `frames` frames each; those of a diffusion model go through
    /// [`from_latents`](Self::from_latents) first. Frames are told apart by their neighbours only, so a long video may be
    /// decoded in pieces, which differ where they meet.
    ///
    /// # Shapes
    ///
    /// - z: `[batch·frames, latent_channels, height, width]`
    /// - output: `[batch·frames, out_channels, height·scale, width·scale]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for latents of another shape, or of rows that are no whole videos.
    pub fn decode(&self, z: Tensor<4>, frames: usize) -> Result<Tensor<4>, ModelError> {
        self.decode_with(z, frames, &mut Tap::none())
    }

    /// [`decode`](Self::decode), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_with(&self, z: Tensor<4>, frames: usize, tap: &mut Tap<'_>) -> Result<Tensor<4>, ModelError> {
        check_latents(&z, self.config.latent_channels)?;
        if frames == 0 || !z.dims()[0].is_multiple_of(frames) {
            return Err(ModelError::Shape {
                what: "z",
                given: z.dims().to_vec(),
                expected: format!("whole videos of {} frames", frames.max(1)),
            });
        }
        let given = z.dtype();
        let y = tap.scope("decoder", |tap| self.decoder.forward(z.cast(self.dtype()), frames, tap));
        Ok(y.cast(given))
    }

    /// Scales latents for a diffusion model.
    #[must_use]
    pub fn to_latents(&self, z: Tensor<4>) -> Tensor<4> {
        z * self.config.scaling_factor
    }

    /// The way back from the latents of a diffusion model to those that [`decode`](Self::decode) takes.
    #[must_use]
    pub fn from_latents(&self, latents: Tensor<4>) -> Tensor<4> {
        latents / self.config.scaling_factor
    }

    fn dtype(&self) -> DType {
        self.encoder.conv_in.weight.val().dtype()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(changes: serde_json::Value) -> Result<AutoencoderKlTemporalDecoderConfig, ModelError> {
        let mut config = json!({ "_class_name": CLASS, "block_out_channels": [32] });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        AutoencoderKlTemporalDecoderConfig::from_json(&config.to_string())
    }

    #[test]
    fn the_published_form_round_trips() {
        for changes in [json!({}), json!({"sample_size": [16, 32], "force_upcast": false, "layers_per_block": 3})] {
            let config = read(changes).unwrap();
            assert_eq!(AutoencoderKlTemporalDecoderConfig::from_json(&config.to_json()).unwrap(), config);
        }
        assert_eq!(read(json!({})).unwrap().layers, 1);
    }

    #[test]
    fn impossible_values_are_named() {
        for (changes, name) in [
            (json!({"in_channels": 0}), "in_channels"),
            (json!({"out_channels": 0}), "out_channels"),
            (json!({"latent_channels": 0}), "latent_channels"),
            (json!({"block_out_channels": []}), "block_out_channels"),
            (json!({"block_out_channels": [48]}), "block_out_channels"),
            (json!({"block_out_channels": [32, 32]}), "down_block_types"),
            (json!({"layers_per_block": 0}), "layers_per_block"),
            (json!({"scaling_factor": 0.0}), "scaling_factor"),
        ] {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
        let error = read(json!({"down_block_types": ["DownBlock2D"]})).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { key: "down_block_types", .. }), "{error}");
        assert!(matches!(read(json!({"norm_num_groups": 8})), Err(ModelError::UnknownKeys { .. })));
    }
}
