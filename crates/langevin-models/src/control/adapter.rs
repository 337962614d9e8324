//! T2I adapters: features of an image that are added to a UNet once for a whole run.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::Load;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Keys, ModelError, at_least_one, layer_count, level_count, told_by_key};
use crate::layers::{Activation, Conv2d, Conv2dConfig, avg_pool_2x, permuted};
use crate::published::{name_of, named};
use crate::tap::Tap;
use crate::weights::{published_value, read_config, read_config_file, read_folder, write_folder};

/// The class that publishes this configuration.
const CLASS: &str = "T2IAdapter";

/// The keys of the file for fields that are called otherwise here.
const KEYS: &Keys = &[("downscale", "downscale_factor"), ("layers", "num_res_blocks")];

/// Configuration of a [`T2iAdapter`].
///
/// # Example
///
/// ```
/// use langevin_models::T2iAdapterConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let adapter = T2iAdapterConfig::new(3, &[8, 16]).layers(1).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PublishedT2iAdapter", into = "PublishedT2iAdapter")]
pub struct T2iAdapterConfig {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of each level of features, finest first.
    pub channels: Vec<usize>,
    /// Residual blocks at each level.
    pub layers: usize,
    /// What the height and width of the image are divided by before the first level.
    pub downscale: usize,
    /// How it is built.
    pub kind: AdapterKind,
}

/// How an adapter is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterKind {
    /// A level of features for each of `channels`, each but the first of half the size of the one before. `full_adapter`.
    Full,
    /// As `Full`, but only the third level halves: the levels of SDXL. `full_adapter_xl`.
    FullXl,
    /// Narrow residual blocks, and one more level of the last channels. `light_adapter`.
    Light,
}

const KINDS: [(&str, AdapterKind); 3] = [
    ("full_adapter", AdapterKind::Full),
    ("full_adapter_xl", AdapterKind::FullXl),
    ("light_adapter", AdapterKind::Light),
];

impl T2iAdapterConfig {
    /// A full adapter with two residual blocks at each level, for images with 8 times the height and width of the
    /// finest features.
    #[must_use]
    pub fn new(in_channels: usize, channels: &[usize]) -> Self {
        Self { in_channels, channels: channels.to_vec(), layers: 2, downscale: 8, kind: AdapterKind::Full }
    }

    /// Sets the number of residual blocks at each level.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets what height and width are divided by before the first level.
    #[must_use]
    pub fn downscale(mut self, factor: usize) -> Self {
        self.downscale = factor;
        self
    }

    /// Sets how it is built.
    #[must_use]
    pub fn kind(mut self, kind: AdapterKind) -> Self {
        self.kind = kind;
        self
    }

    /// Reads a published `config.json` of a `T2IAdapter`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        told_by_key(KEYS, || {
            let config = Self::try_from(read_config::<PublishedT2iAdapter>(json, CLASS)?)?;
            config.validate()?;
            Ok(config)
        })
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", PublishedT2iAdapter::from(self.clone()).to_value())
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        at_least_one("in_channels", self.in_channels)?;
        level_count("channels", self.channels.len())?;
        layer_count("layers", self.layers)?;
        at_least_one("downscale", self.downscale)?;
        let least = if self.kind == AdapterKind::Light { 4 } else { 1 };
        for (i, &channels) in self.channels.iter().enumerate() {
            // From the third level on the class takes the channels of the level itself for those of the one before.
            let changes = self.kind == AdapterKind::FullXl && i > 2 && channels != self.channels[i - 1];
            if channels < least || changes {
                return Err(ModelError::Config {
                    field: "channels",
                    given: format!("{channels} at level {i}"),
                    expected: match changes {
                        true => format!("{}, as at the level before", self.channels[i - 1]),
                        false => format!("at least {least}"),
                    },
                });
            }
        }
        Ok(())
    }

    /// Makes the adapter.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<T2iAdapter, ModelError> {
        self.validate()?;
        let input = self.in_channels * self.downscale * self.downscale;
        let (first, last) = (self.channels[0], self.channels[self.channels.len() - 1]);
        let light = self.kind == AdapterKind::Light;
        let before = |i: usize| match i {
            0 if light => input,
            0 => first,
            _ => self.channels[i - 1],
        };
        let halves = |i: usize| match self.kind {
            AdapterKind::Full | AdapterKind::Light => i > 0,
            AdapterKind::FullXl => i == 2,
        };
        let mut body = Vec::with_capacity(self.channels.len() + 1);
        for (i, &channels) in self.channels.iter().enumerate() {
            body.push(AdapterBlock::new(self, before(i), channels, halves(i), device)?);
        }
        if light {
            body.push(AdapterBlock::new(self, last, last, true, device)?);
        }
        Ok(T2iAdapter {
            adapter: AdapterBody {
                conv_in: match light {
                    true => None,
                    false => Some(Conv2dConfig::new(input, first, 3).padding(1).init(device)?),
                },
                body,
            },
            config: self.clone(),
        })
    }
}

/// Features of a control image, one tensor for each level of a UNet. Made by [`T2iAdapterConfig::init`] or
/// [`T2iAdapter::load`]. They do not depend on the time: compute them once and put them into a
/// [`ControlCondition`](crate::ControlCondition).
///
/// # References
///
/// Mou et al. 2023, [arXiv:2302.08453](https://arxiv.org/abs/2302.08453). Parameters have the names of diffusers'
/// `T2IAdapter`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::T2iAdapterConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let adapter = T2iAdapterConfig::new(3, &[8, 16]).layers(1).init(&device)?;
/// let features = adapter.features(Tensor::ones([1, 3, 64, 64], &device), 0.8)?;
/// assert_eq!(features[1].dims(), [1, 16, 4, 4]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct T2iAdapter {
    /// All layers.
    pub adapter: AdapterBody,
    #[module(skip)]
    config: T2iAdapterConfig,
}

/// The layers of an adapter.
#[derive(Module, Debug)]
pub struct AdapterBody {
    /// First convolution; light adapters have none.
    pub conv_in: Option<Conv2d>,
    /// A block for each level of features.
    pub body: Vec<AdapterBlock>,
}

/// A level of an adapter.
#[derive(Module, Debug)]
pub struct AdapterBlock {
    /// Brings the channels to those of the residual blocks.
    pub in_conv: Option<Conv2d>,
    /// Residual blocks.
    pub resnets: Vec<AdapterResnet>,
    /// Brings the channels to those of the level, in light adapters.
    pub out_conv: Option<Conv2d>,
    halves: bool,
}

/// Two convolutions with a ReLU between them, added to their input.
#[derive(Module, Debug)]
pub struct AdapterResnet {
    /// First convolution.
    pub block1: Conv2d,
    /// Second convolution.
    pub block2: Conv2d,
}

impl AdapterBlock {
    fn new(
        config: &T2iAdapterConfig,
        input: usize,
        output: usize,
        halves: bool,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let light = config.kind == AdapterKind::Light;
        let inner = if light { output / 4 } else { output };
        let conv =
            |input, output, kernel: usize| Conv2dConfig::new(input, output, kernel).padding(kernel / 2).init(device);
        let resnet = || {
            let block2 = conv(inner, inner, if light { 3 } else { 1 })?;
            Ok(AdapterResnet { block1: conv(inner, inner, 3)?, block2 })
        };
        Ok(Self {
            in_conv: if light || input != output { Some(conv(input, inner, 1)?) } else { None },
            resnets: (0..config.layers).map(|_| resnet()).collect::<Result<_, ModelError>>()?,
            out_conv: if light { Some(conv(inner, output, 1)?) } else { None },
            halves,
        })
    }

    fn forward(&self, x: Tensor<4>, tap: &mut Tap<'_>) -> Tensor<4> {
        let mut h = if self.halves { halve(x) } else { x };
        if self.halves {
            tap.see("downsample", &h);
        }
        if let Some(conv) = &self.in_conv {
            h = conv.forward(h);
            tap.see("in_conv", &h);
        }
        for (i, block) in self.resnets.iter().enumerate() {
            let inner = block.block2.forward(Activation::Relu.forward(block.block1.forward(h.clone())));
            h = h + inner;
            tap.see(format_args!("resnets.{i}"), &h);
        }
        if let Some(conv) = &self.out_conv {
            h = conv.forward(h);
            tap.see("out_conv", &h);
        }
        tap.see("", &h);
        h
    }
}

/// Averages of blocks of 2 x 2 pixels, of fewer at the right and the bottom of odd sizes.
fn halve(mut x: Tensor<4>) -> Tensor<4> {
    for axis in [2, 3] {
        let size = x.dims()[axis];
        // The average of a pixel and its copy is the pixel.
        if !size.is_multiple_of(2) {
            let last = x.clone().narrow(axis, size - 1, 1);
            x = Tensor::cat(vec![x, last], axis);
        }
    }
    avg_pool_2x(x)
}

/// Moves blocks of `factor` x `factor` pixels into channels.
fn unshuffle(x: Tensor<4>, factor: usize) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let (rows, columns) = (height / factor, width / factor);
    permuted(x.reshape([batch * channels, rows, factor, columns, factor]), [0, 2, 4, 1, 3]).reshape([
        batch,
        channels * factor * factor,
        rows,
        columns,
    ])
}

impl T2iAdapter {
    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`T2iAdapterConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, T2iAdapterConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &PublishedT2iAdapter::from(self.config.clone()).to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &T2iAdapterConfig {
        &self.config
    }

    /// The features of an image, multiplied with `scale`.
    ///
    /// # Shapes
    ///
    /// - image: `[batch, in_channels, height, width]` in `[0, 1]`, both sides multiples of `downscale`
    /// - output: for each level `[batch, channels, ..]`, the first of `height / downscale`, `width / downscale`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for an image of another shape, [`ModelError::Config`] for a scale that is not finite.
    pub fn features(&self, image: Tensor<4>, scale: f64) -> Result<Vec<Tensor<4>>, ModelError> {
        if !scale.is_finite() {
            return Err(ModelError::Config {
                field: "scale",
                given: scale.to_string(),
                expected: "a finite number".into(),
            });
        }
        let features = self.forward_with(image, &mut Tap::none())?;
        Ok(if scale == 1.0 { features } else { features.into_iter().map(|feature| feature * scale).collect() })
    }

    /// The features of an image, showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for an image of another shape.
    pub fn forward_with(&self, image: Tensor<4>, tap: &mut Tap<'_>) -> Result<Vec<Tensor<4>>, ModelError> {
        let (config, dims) = (&self.config, image.dims());
        let factor = config.downscale;
        let fits = |side: usize| side > 0 && side.is_multiple_of(factor);
        if dims[1] != config.in_channels || !fits(dims[2]) || !fits(dims[3]) {
            return Err(ModelError::Shape {
                what: "control image",
                given: dims.to_vec(),
                expected: format!("[batch, {}, height, width], both multiples of {factor}", config.in_channels),
            });
        }
        let given = image.dtype();
        let weights = &self.adapter.body[0].resnets[0].block1.weight;
        let mut h = unshuffle(image.cast(weights.val().dtype()), factor);
        tap.see("adapter.unshuffle", &h);
        if let Some(conv) = &self.adapter.conv_in {
            h = conv.forward(h);
            tap.see("adapter.conv_in", &h);
        }
        let mut features = Vec::with_capacity(self.adapter.body.len());
        for (i, block) in self.adapter.body.iter().enumerate() {
            h = tap.scope(format_args!("adapter.body.{i}"), |tap| block.forward(h, tap));
            features.push(h.clone().cast(given));
        }
        for (i, feature) in features.iter().enumerate() {
            tap.see(format_args!("adapter.{i}"), feature);
        }
        Ok(features)
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PublishedT2iAdapter {
    adapter_type: String,
    channels: Vec<usize>,
    downscale_factor: usize,
    in_channels: usize,
    num_res_blocks: usize,
}

impl Default for PublishedT2iAdapter {
    fn default() -> Self {
        T2iAdapterConfig::new(3, &[320, 640, 1280, 1280]).into()
    }
}

impl PublishedT2iAdapter {
    fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

impl TryFrom<PublishedT2iAdapter> for T2iAdapterConfig {
    type Error = ModelError;

    fn try_from(p: PublishedT2iAdapter) -> Result<Self, ModelError> {
        let supported = "\"full_adapter\", \"full_adapter_xl\" and \"light_adapter\"";
        Ok(Self {
            in_channels: p.in_channels,
            channels: p.channels,
            layers: p.num_res_blocks,
            downscale: p.downscale_factor,
            kind: named("adapter_type", &p.adapter_type, &KINDS, supported)?,
        })
    }
}

impl From<T2iAdapterConfig> for PublishedT2iAdapter {
    fn from(c: T2iAdapterConfig) -> Self {
        Self {
            adapter_type: name_of(&c.kind, &KINDS).unwrap_or_default(),
            channels: c.channels,
            downscale_factor: c.downscale,
            in_channels: c.in_channels,
            num_res_blocks: c.layers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex};

    #[test]
    fn blocks_of_pixels_become_channels() {
        let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]], &flex());
        let y = unshuffle(x, 2);
        assert_eq!(y.dims(), [1, 4, 1, 2]);
        assert_close(&y, &[1.0, 3.0, 2.0, 4.0, 5.0, 7.0, 6.0, 8.0], 0.0);
    }

    #[test]
    fn odd_sizes_average_what_is_there() {
        let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [9.0, 11.0, 13.0]]]], &flex());
        assert_close(&halve(x), &[3.5, 5.0, 10.0, 13.0], 1e-6);
    }
}
