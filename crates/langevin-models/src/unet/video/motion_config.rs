//! How a network with motion modules is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::UNetMotion;
use super::blocks::{AttentionPlan, LevelPlans, Plan, ResnetPlan};
use super::common::{at_least_two, check_heads, check_resnets, check_sizes, wrong};
use super::level::VideoLevel;
use crate::error::{ModelError, at_least_one, layer_count};
use crate::layers::{Activation, ResnetBlock2dConfig, Transformer2dConfig, TransformerTemporalConfig};
use crate::published::{PerLevel, Sides};
use crate::weights::{published_value, read_config};

/// The class that publishes these configurations.
const CLASS: &str = "UNetMotionModel";

/// Configuration of a [`UNetMotion`]: the published keys of a `UNetMotionModel`, with its defaults.
///
/// # Example
///
/// ```
/// use langevin_models::unet::video::{PerLevel, UNetMotionConfig, VideoLevel};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let config = UNetMotionConfig {
///     block_out_channels: vec![32, 64],
///     down_block_types: vec![VideoLevel::Attention, VideoLevel::Plain],
///     up_block_types: vec![VideoLevel::Plain, VideoLevel::Attention],
///     cross_attention_dim: PerLevel::Same(64),
///     ..UNetMotionConfig::default()
/// };
/// let net = config.init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNetMotionConfig {
    /// Height and width the network is meant for; it takes others. Default: not said.
    pub sample_size: Option<Sides>,
    /// Channels of the input. Default: `4`.
    pub in_channels: usize,
    /// Channels of the output. Default: `4`.
    pub out_channels: usize,
    /// Blocks on the way down, finest level first. Default: three with attention, one without.
    #[serde(with = "super::level::down_motion")]
    pub down_block_types: Vec<VideoLevel>,
    /// Blocks on the way up, coarsest level first. Default: one without attention, three with.
    #[serde(with = "super::level::up_motion")]
    pub up_block_types: Vec<VideoLevel>,
    /// Channels of each level, finest first. Default: `320, 640, 1280, 1280`.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each level on the way down; there is one more on the way up. Default: `2`.
    pub layers_per_block: PerLevel<usize>,
    /// Zeros around frames before they are halved: 1 on each side, or 0 for one at the right and bottom. Default: `1`.
    pub downsample_padding: usize,
    /// Divisor of the residual blocks in the middle. Default: `1`.
    pub mid_block_scale_factor: f64,
    /// Activation. Default: SiLU.
    pub act_fn: Activation,
    /// Groups of the normalizations. Default: `32`.
    pub norm_num_groups: usize,
    /// Epsilon of the normalizations. Default: `1e-5`.
    pub norm_eps: f64,
    /// Width of the text states. Default: `1280`.
    pub cross_attention_dim: PerLevel<usize>,
    /// Transformer blocks in each attention to the text. Default: `1`.
    pub transformer_layers_per_block: PerLevel<PerLevel<usize>>,
    /// The same on the way up, coarsest level first. Default: those on the way down, turned around.
    pub reverse_transformer_layers_per_block: Option<PerLevel<PerLevel<usize>>>,
    /// Transformer blocks in each motion module. Default: `1`.
    pub temporal_transformer_layers_per_block: PerLevel<PerLevel<usize>>,
    /// The same on the way up, coarsest level first. Default: those on the way down, turned around.
    pub reverse_temporal_transformer_layers_per_block: Option<PerLevel<PerLevel<usize>>>,
    /// Transformer blocks in each attention of the middle. Default: those of the coarsest level.
    pub transformer_layers_per_mid_block: Option<PerLevel<usize>>,
    /// Transformer blocks in each motion module of the middle. Default: `1`.
    pub temporal_transformer_layers_per_mid_block: PerLevel<usize>,
    /// Whether attention projects by linear layers instead of convolutions. Default: `false`.
    pub use_linear_projection: bool,
    /// Heads of attention to the text. Default: `8`.
    pub num_attention_heads: PerLevel<usize>,
    /// Most frames. Default: `32`.
    pub motion_max_seq_length: usize,
    /// Heads of motion modules. Default: `8`.
    pub motion_num_attention_heads: PerLevel<usize>,
    /// A key that the class does not read: must be absent.
    pub reverse_motion_num_attention_heads: Option<PerLevel<usize>>,
    /// Whether the middle has motion modules. Default: `true`.
    pub use_motion_mid_block: bool,
    /// Attentions in the middle. Default: `1`.
    pub mid_block_layers: usize,
    /// Width of image embeddings for an image adapter, which is not supported: must be absent.
    pub encoder_hid_dim: Option<usize>,
    /// Kind of such an adapter: must be absent.
    pub encoder_hid_dim_type: Option<String>,
    /// What is added to the time: `"text_time"` for a vector for the text and sizes, as SDXL has them, or nothing.
    pub addition_embed_type: Option<String>,
    /// Features of each size.
    pub addition_time_embed_dim: Option<usize>,
    /// Features of the vector and all sizes.
    pub projection_class_embeddings_input_dim: Option<usize>,
    /// Width of an embedded guidance scale, for distilled networks. Default: none.
    pub time_cond_proj_dim: Option<usize>,
}

impl Default for UNetMotionConfig {
    fn default() -> Self {
        let (plain, attention) = (VideoLevel::Plain, VideoLevel::Attention);
        let one = PerLevel::Same(PerLevel::Same(1));
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            down_block_types: vec![attention, attention, attention, plain],
            up_block_types: vec![plain, attention, attention, attention],
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: PerLevel::Same(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: Activation::Silu,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: PerLevel::Same(1280),
            transformer_layers_per_block: one.clone(),
            reverse_transformer_layers_per_block: None,
            temporal_transformer_layers_per_block: one,
            reverse_temporal_transformer_layers_per_block: None,
            transformer_layers_per_mid_block: None,
            temporal_transformer_layers_per_mid_block: PerLevel::Same(1),
            use_linear_projection: false,
            num_attention_heads: PerLevel::Same(8),
            motion_max_seq_length: 32,
            motion_num_attention_heads: PerLevel::Same(8),
            reverse_motion_num_attention_heads: None,
            use_motion_mid_block: true,
            mid_block_layers: 1,
            encoder_hid_dim: None,
            encoder_hid_dim_type: None,
            addition_embed_type: None,
            addition_time_embed_dim: None,
            projection_class_embeddings_input_dim: None,
            time_cond_proj_dim: None,
        }
    }
}

impl UNetMotionConfig {
    /// Reads a published `config.json` of a `UNetMotionModel`.
    ///
    /// # Errors
    ///
    /// Unknown keys, values of the wrong type and options that are not supported, each with its key; and what
    /// [`validate`](Self::validate) finds.
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

    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }

    /// Makes the network with initial weights.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) finds.
    pub fn init(&self, device: &Device) -> Result<UNetMotion, ModelError> {
        self.validate()?;
        UNetMotion::new(self, device)
    }

    /// Where a vector for the text and sizes are added to the time: the features of each size, and of all together.
    pub(super) fn text_and_sizes(&self) -> Option<(usize, usize)> {
        self.addition_embed_type.as_ref()?;
        self.addition_time_embed_dim.zip(self.projection_class_embeddings_input_dim)
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field with which no network can be built, [`ModelError::Unsupported`] the option
    /// that is not supported.
    pub fn validate(&self) -> Result<(), ModelError> {
        let kinds = (self.down_block_types.len(), self.up_block_types.len());
        check_sizes(&self.block_out_channels, kinds, (self.in_channels, self.out_channels), self.norm_num_groups)?;
        check_resnets(self.downsample_padding, self.norm_eps, self.mid_block_scale_factor)?;
        at_least_one("motion_max_seq_length", self.motion_max_seq_length)?;
        self.check_supported()?;
        if let Some(width) = self.time_cond_proj_dim {
            at_least_two("time_cond_proj_dim", width)?;
        }
        if self.addition_embed_type.is_some() {
            for (field, value) in [
                ("addition_time_embed_dim", self.addition_time_embed_dim),
                ("projection_class_embeddings_input_dim", self.projection_class_embeddings_input_dim),
            ] {
                if value.is_none_or(|value| value < 2) {
                    return Err(wrong(field, format!("{value:?}"), "at least 2 where text and sizes are added"));
                }
            }
        }
        for count in self.layers_per_block.levels("layers_per_block", self.block_out_channels.len())? {
            layer_count("layers_per_block", count)?;
        }
        let plans = self.plans()?;
        let widths = self.context_widths()?;
        if widths.iter().any(|width| *width != widths[0]) {
            return Err(wrong(
                "cross_attention_dim",
                format!("{widths:?}"),
                "one width: levels are told the same text",
            ));
        }
        at_least_one("cross_attention_dim", widths[0])?;
        for plan in plans.down.iter().chain(&plans.up).chain([&plans.mid]) {
            for attention in &plan.attention {
                let AttentionPlan::Pixels(config) = attention else { continue };
                layer_count("transformer_layers_per_block", config.layers)?;
                check_heads("num_attention_heads", config.block.heads, config.channels)?;
            }
            for motion in &plan.motion {
                layer_count("temporal_transformer_layers_per_block", motion.layers)?;
                check_heads("motion_num_attention_heads", motion.heads, motion.channels)?;
                if !(motion.heads * motion.head_dim).is_multiple_of(2) {
                    let expected = "heads with an even number of channels together, for sines and cosines of positions";
                    return Err(wrong("motion_num_attention_heads", motion.heads, expected));
                }
            }
        }
        Ok(())
    }

    fn check_supported(&self) -> Result<(), ModelError> {
        let absent = |key, value: Option<String>| match value {
            Some(value) => Err(ModelError::Unsupported { key, value, supported: "null" }),
            None => Ok(()),
        };
        absent("encoder_hid_dim", self.encoder_hid_dim.map(|v| v.to_string()))?;
        absent("encoder_hid_dim_type", self.encoder_hid_dim_type.clone())?;
        let reverse = self.reverse_motion_num_attention_heads.as_ref();
        absent("reverse_motion_num_attention_heads", reverse.map(|v| format!("{v:?}")))?;
        match self.addition_embed_type.as_deref() {
            None | Some("text_time") => Ok(()),
            Some(other) => Err(ModelError::Unsupported {
                key: "addition_embed_type",
                value: other.to_owned(),
                supported: "null and \"text_time\"",
            }),
        }
    }

    /// Width of the text states at each level.
    pub(super) fn context_widths(&self) -> Result<Vec<usize>, ModelError> {
        self.cross_attention_dim.levels("cross_attention_dim", self.block_out_channels.len())
    }

    /// How a level is made: transformer blocks of each attention, and of each motion module.
    fn plan(&self, level: usize, kind: VideoLevel, blocks: &[usize], motion: &[usize]) -> Result<Plan, ModelError> {
        let n = self.block_out_channels.len();
        let width = self.block_out_channels[level];
        let heads = self.num_attention_heads.levels("num_attention_heads", n)?[level];
        let motion_heads = self.motion_num_attention_heads.levels("motion_num_attention_heads", n)?[level];
        let context = self.context_widths()?[level];
        let head_dim = |heads: usize| width / heads.max(1);
        let resnet = ResnetBlock2dConfig {
            epsilon: self.norm_eps,
            activation: self.act_fn,
            ..ResnetBlock2dConfig::new(width, width, 4 * self.block_out_channels[0]).groups(self.norm_num_groups)
        };
        let attention = Transformer2dConfig::new(width, heads, head_dim(heads))
            .groups(self.norm_num_groups)
            .context(context)
            .linear_projection(self.use_linear_projection);
        let module = TransformerTemporalConfig::new(width, motion_heads, head_dim(motion_heads))
            .groups(self.norm_num_groups)
            .positions(self.motion_max_seq_length);
        Ok(Plan {
            resnet: ResnetPlan::Plain(resnet),
            attention: match kind {
                VideoLevel::Plain => vec![],
                VideoLevel::Attention => {
                    blocks.iter().map(|count| AttentionPlan::Pixels(attention.layers(*count))).collect()
                }
            },
            frame_convs: None,
            frame_attention: vec![],
            motion: motion.iter().map(|count| module.layers(*count)).collect(),
        })
    }

    pub(super) fn plans(&self) -> Result<LevelPlans, ModelError> {
        let n = self.block_out_channels.len();
        let layers = self.layers_per_block.levels("layers_per_block", n)?;
        let field = "transformer_layers_per_block";
        let blocks = self.transformer_layers_per_block.levels(field, n)?;
        let blocks_up = self.reverse_transformer_layers_per_block.clone();
        let blocks_up = blocks_up.unwrap_or_else(|| self.transformer_layers_per_block.reversed());
        let blocks_up = blocks_up.levels("reverse_transformer_layers_per_block", n)?;
        let temporal = "temporal_transformer_layers_per_block";
        let motion = self.temporal_transformer_layers_per_block.levels(temporal, n)?;
        let motion_up = self.reverse_temporal_transformer_layers_per_block.clone();
        let motion_up = motion_up.unwrap_or_else(|| self.temporal_transformer_layers_per_block.reversed());
        let motion_up = motion_up.levels("reverse_temporal_transformer_layers_per_block", n)?;

        let down = |(level, kind): (usize, &VideoLevel)| {
            let steps = layers[level];
            let blocks = match kind {
                VideoLevel::Plain => vec![],
                VideoLevel::Attention => blocks[level].levels(field, steps)?,
            };
            self.plan(level, *kind, &blocks, &motion[level].levels(temporal, steps)?)
        };
        let up = |(i, kind): (usize, &VideoLevel)| {
            let steps = layers[n - 1 - i] + 1;
            let blocks = match kind {
                VideoLevel::Plain => vec![],
                VideoLevel::Attention => blocks_up[i].levels("reverse_transformer_layers_per_block", steps)?,
            };
            let motion = motion_up[i].levels("reverse_temporal_transformer_layers_per_block", steps)?;
            self.plan(n - 1 - i, *kind, &blocks, &motion)
        };
        let mid_blocks = self.transformer_layers_per_mid_block.clone().unwrap_or_else(|| match &blocks[n - 1] {
            PerLevel::Same(count) => PerLevel::Same(*count),
            PerLevel::Each(_) => PerLevel::Same(1),
        });
        let mid_blocks = mid_blocks.levels("transformer_layers_per_mid_block", self.mid_block_layers)?;
        let mid_motion = if self.use_motion_mid_block {
            let field = "temporal_transformer_layers_per_mid_block";
            self.temporal_transformer_layers_per_mid_block.levels(field, self.mid_block_layers)?
        } else {
            vec![]
        };
        let mut mid = self.plan(n - 1, VideoLevel::Attention, &mid_blocks, &mid_motion)?;
        if let ResnetPlan::Plain(resnet) = &mut mid.resnet {
            resnet.output_scale = self.mid_block_scale_factor;
        }
        Ok(LevelPlans {
            channels: self.block_out_channels.clone(),
            down: self.down_block_types.iter().enumerate().map(down).collect::<Result<_, _>>()?,
            mid,
            up: self.up_block_types.iter().enumerate().map(up).collect::<Result<_, _>>()?,
            downsample_padding: self.downsample_padding,
            layers,
        })
    }
}
