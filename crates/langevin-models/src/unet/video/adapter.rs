//! Motion modules without a network, and a network for images that gets them.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::Load;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::common::{check_heads, wrong};
use super::from_images::as_video;
use super::{UNetMotion, UNetMotionConfig};
use crate::error::{ModelError, at_least_one, layer_count, level_count};
use crate::layers::{Conv2d, Conv2dConfig, TransformerTemporal, TransformerTemporalConfig};
use crate::published::PerLevel;
use crate::unet::conditional::{UNet2dConditional, UNet2dConditionalConfig};
use crate::weights::{Transplant, published_value, read_config, read_config_file, read_folder, write_folder};

/// The class that publishes these configurations.
const CLASS: &str = "MotionAdapter";

/// Configuration of a [`MotionAdapter`]: the published keys, with their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MotionAdapterConfig {
    /// Channels of each level of the network, finest first. Default: `320, 640, 1280, 1280`.
    pub block_out_channels: Vec<usize>,
    /// Motion modules of each level on the way down; there is one more on the way up. Default: `2`.
    pub motion_layers_per_block: PerLevel<usize>,
    /// Transformer blocks in each motion module. Default: `1`.
    pub motion_transformer_layers_per_block: PerLevel<PerLevel<usize>>,
    /// Motion modules in the middle. Default: `1`.
    pub motion_mid_block_layers_per_block: usize,
    /// Transformer blocks in each of those. Default: `1`.
    pub motion_transformer_layers_per_mid_block: PerLevel<usize>,
    /// Heads. Default: `8`.
    pub motion_num_attention_heads: PerLevel<usize>,
    /// Groups of the normalizations. Default: `32`.
    pub motion_norm_num_groups: usize,
    /// Most frames. Default: `32`.
    pub motion_max_seq_length: usize,
    /// Whether the middle has motion modules. Default: `true`.
    pub use_motion_mid_block: bool,
    /// Channels of the input, where the adapter brings the first convolution, too. Default: none.
    pub conv_in_channels: Option<usize>,
}

impl Default for MotionAdapterConfig {
    fn default() -> Self {
        Self {
            block_out_channels: vec![320, 640, 1280, 1280],
            motion_layers_per_block: PerLevel::Same(2),
            motion_transformer_layers_per_block: PerLevel::Same(PerLevel::Same(1)),
            motion_mid_block_layers_per_block: 1,
            motion_transformer_layers_per_mid_block: PerLevel::Same(1),
            motion_num_attention_heads: PerLevel::Same(8),
            motion_norm_num_groups: 32,
            motion_max_seq_length: 32,
            use_motion_mid_block: true,
            conv_in_channels: None,
        }
    }
}

impl MotionAdapterConfig {
    /// Reads a published `config.json` of a `MotionAdapter`.
    ///
    /// # Errors
    ///
    /// Unknown keys and values of the wrong type, each with its key; and what [`validate`](Self::validate) finds.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        let config: Self = read_config(json, CLASS)?;
        config.validate()?;
        Ok(config)
    }

    /// The published form.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }

    fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }

    /// Makes the adapter with initial weights.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) finds.
    pub fn init(&self, device: &Device) -> Result<MotionAdapter, ModelError> {
        self.validate()?;
        let plans = self.plans()?;
        let first = self.block_out_channels[0];
        let modules = |configs: &Vec<TransformerTemporalConfig>| MotionModules::new(configs, device);
        Ok(MotionAdapter {
            conv_in: match self.conv_in_channels {
                Some(channels) => Some(Conv2dConfig::new(channels, first, 3).padding(1).init(device)?),
                None => None,
            },
            down_blocks: plans.down.iter().map(modules).collect::<Result<_, _>>()?,
            up_blocks: plans.up.iter().map(modules).collect::<Result<_, _>>()?,
            mid_block: plans.mid.as_ref().map(modules).transpose()?,
            config: self.clone(),
        })
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no adapter can be built.
    pub fn validate(&self) -> Result<(), ModelError> {
        level_count("block_out_channels", self.block_out_channels.len())?;
        at_least_one("motion_max_seq_length", self.motion_max_seq_length)?;
        at_least_one("motion_norm_num_groups", self.motion_norm_num_groups)?;
        if let Some(channels) = self.conv_in_channels {
            at_least_one("conv_in_channels", channels)?;
        }
        for &width in &self.block_out_channels {
            if width == 0 || !width.is_multiple_of(self.motion_norm_num_groups) {
                let expected = format!("multiples of {}, the groups", self.motion_norm_num_groups);
                return Err(wrong("block_out_channels", width, expected));
            }
        }
        let levels = self.block_out_channels.len();
        for count in self.motion_layers_per_block.levels("motion_layers_per_block", levels)? {
            layer_count("motion_layers_per_block", count)?;
        }
        let plans = self.plans()?;
        for config in plans.down.iter().chain(&plans.up).chain(&plans.mid).flatten() {
            layer_count("motion_transformer_layers_per_block", config.layers)?;
            check_heads("motion_num_attention_heads", config.heads, config.channels)?;
            if !(config.heads * config.head_dim).is_multiple_of(2) {
                let expected = "heads with an even number of channels together, for sines and cosines of positions";
                return Err(wrong("motion_num_attention_heads", config.heads, expected));
            }
        }
        Ok(())
    }

    fn plans(&self) -> Result<AdapterPlans, ModelError> {
        let n = self.block_out_channels.len();
        let heads = self.motion_num_attention_heads.levels("motion_num_attention_heads", n)?;
        let steps = self.motion_layers_per_block.levels("motion_layers_per_block", n)?;
        let field = "motion_transformer_layers_per_block";
        let layers = self.motion_transformer_layers_per_block.levels(field, n)?;
        let modules = |level: usize, layers: Vec<usize>| -> Vec<TransformerTemporalConfig> {
            let (width, heads) = (self.block_out_channels[level], heads[level]);
            let module = TransformerTemporalConfig::new(width, heads, width / heads.max(1))
                .groups(self.motion_norm_num_groups)
                .positions(self.motion_max_seq_length);
            layers.into_iter().map(|count| module.layers(count)).collect()
        };
        let level = |level: usize, more: usize| -> Result<_, ModelError> {
            Ok(modules(level, layers[level].levels(field, steps[level] + more)?))
        };
        let mid = self
            .motion_transformer_layers_per_mid_block
            .levels("motion_transformer_layers_per_mid_block", self.motion_mid_block_layers_per_block)?;
        Ok(AdapterPlans {
            down: (0..n).map(|i| level(i, 0)).collect::<Result<_, _>>()?,
            up: (0..n).rev().map(|i| level(i, 1)).collect::<Result<_, _>>()?,
            mid: self.use_motion_mid_block.then(|| modules(n - 1, mid)),
        })
    }
}

/// The motion modules of each level.
struct AdapterPlans {
    down: Vec<Vec<TransformerTemporalConfig>>,
    up: Vec<Vec<TransformerTemporalConfig>>,
    mid: Option<Vec<TransformerTemporalConfig>>,
}

/// Motion modules for a network for images, as AnimateDiff publishes them. Made by [`MotionAdapterConfig::init`] or
/// [`MotionAdapter::load`]; [`UNetMotion::from_unet2d`](super::UNetMotion::from_unet2d) puts them into a network.
///
/// # References
///
/// Guo et al. 2024, AnimateDiff, [arXiv:2307.04725](https://arxiv.org/abs/2307.04725); with a first convolution: Zhang et al.
/// 2023, PIA, [arXiv:2312.13964](https://arxiv.org/abs/2312.13964).
///
/// # Example
///
/// ```
/// use langevin_models::unet::video::MotionAdapterConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let config = MotionAdapterConfig { block_out_channels: vec![32, 64], ..MotionAdapterConfig::default() };
/// let adapter = config.init(&device)?;
/// assert_eq!(adapter.up_blocks[0].motion_modules.len(), 3);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct MotionAdapter {
    /// First convolution of the network, for more channels than it had.
    pub conv_in: Option<Conv2d>,
    /// Modules of the levels on the way down, finest first.
    pub down_blocks: Vec<MotionModules>,
    /// Modules of the levels on the way up, coarsest first.
    pub up_blocks: Vec<MotionModules>,
    /// Modules of the middle.
    pub mid_block: Option<MotionModules>,
    #[module(skip)]
    config: MotionAdapterConfig,
}

/// The motion modules of a level.
#[derive(Module, Debug)]
pub struct MotionModules {
    /// One after each step of the level.
    pub motion_modules: Vec<TransformerTemporal>,
}

impl MotionModules {
    fn new(configs: &[TransformerTemporalConfig], device: &Device) -> Result<Self, ModelError> {
        let motion_modules = configs.iter().map(|config| config.init(device)).collect::<Result<_, _>>()?;
        Ok(Self { motion_modules })
    }
}

impl MotionAdapter {
    /// Loads a published folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`MotionAdapterConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, MotionAdapterConfig::from_json)?;
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
    pub fn config(&self) -> &MotionAdapterConfig {
        &self.config
    }

    /// The weight of the first convolution for a network whose own has `weight`: that, and the adapter's for the channels
    /// beyond it.
    fn extended(&self, weight: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        let Some(conv) = &self.conv_in else { return Ok(weight) };
        let own = conv.weight.val().cast(weight.dtype()).to_device(&weight.device());
        let ([_, given, ..], [_, all, ..]) = (weight.dims(), own.dims());
        if given > all {
            return Err(wrong("conv_in_channels", all, format!("at least {given}, the channels of the network")));
        }
        Ok(if given == all { weight } else { Tensor::cat(vec![weight, own.narrow(1, given, all - given)], 1) })
    }
}

impl UNetMotion {
    /// Puts the motion modules of an adapter into a network for images. The weights have the element type and the device
    /// of that network.
    ///
    /// # Errors
    ///
    /// [`ModelError::Unsupported`] names an option of the network that networks with motion modules do not have,
    /// [`ModelError::Config`] one in which network and adapter differ, and [`ModelError::Parts`] lists parameters that do
    /// not fit.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use langevin_models::{Load, MotionAdapter, UNet2dConditional, UNetMotion};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let device = burn::tensor::Device::flex();
    /// let images = UNet2dConditional::load("stable-diffusion-v1-5/unet", Load::on(&device))?;
    /// let adapter = MotionAdapter::load("animatediff-motion-adapter-v1-5-2", Load::on(&device))?;
    /// let videos = UNetMotion::from_unet2d(&images, &adapter)?;
    /// # Ok(()) }
    /// ```
    pub fn from_unet2d(unet: &UNet2dConditional, adapter: &MotionAdapter) -> Result<Self, ModelError> {
        let weight = unet.conv_in.weight.val();
        let config = with_adapter(unet.config(), adapter.config())?;
        let mut parts = Transplant::default().with(adapter).with(unet);
        if adapter.conv_in.is_some() {
            parts = parts.with_tensor("conv_in.weight", adapter.extended(weight.clone())?);
        }
        parts.into(config.init(&weight.device())?, weight.dtype(), "UNetMotion")
    }
}

/// The configuration of a network for images with the motion modules of an adapter.
fn with_adapter(unet: &UNet2dConditionalConfig, adapter: &MotionAdapterConfig) -> Result<UNetMotionConfig, ModelError> {
    let images = as_video(unet)?;
    let n = images.block_out_channels.len();
    if adapter.block_out_channels != images.block_out_channels {
        let given = format!("{:?}", adapter.block_out_channels);
        let expected = format!("{:?}, the channels of the network", images.block_out_channels);
        return Err(wrong("block_out_channels", given, expected));
    }
    let steps = images.layers_per_block.levels("layers_per_block", n)?;
    if adapter.motion_layers_per_block.levels("motion_layers_per_block", n)? != steps {
        let given = format!("{:?}", adapter.motion_layers_per_block);
        return Err(wrong("motion_layers_per_block", given, format!("{steps:?}, the layers of the network")));
    }
    if adapter.motion_norm_num_groups != images.norm_num_groups {
        let expected = format!("{}, the groups of the network", images.norm_num_groups);
        return Err(wrong("motion_norm_num_groups", adapter.motion_norm_num_groups, expected));
    }
    let config = UNetMotionConfig {
        in_channels: adapter.conv_in_channels.unwrap_or(images.in_channels),
        motion_num_attention_heads: adapter.motion_num_attention_heads.clone(),
        motion_max_seq_length: adapter.motion_max_seq_length,
        use_motion_mid_block: adapter.use_motion_mid_block,
        temporal_transformer_layers_per_block: adapter.motion_transformer_layers_per_block.clone(),
        temporal_transformer_layers_per_mid_block: adapter.motion_transformer_layers_per_mid_block.clone(),
        ..images
    };
    config.validate()?;
    Ok(config)
}
