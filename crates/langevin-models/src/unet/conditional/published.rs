//! The published configuration of diffusers' `UNet2DConditionModel`, and what it shares with that of ControlNets.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{UNet2dConditionalConfig, UpLevel};
use super::encoder::{EncoderConfig, Level, LevelBlock, Middle};
use super::told::{Addition, ClassInput, ContextInput, TimeInput};
use crate::error::{ModelError, level_count};
use crate::layers::{Activation, ContextNorm};
use crate::published::{PerLevel, Sides, block_name, name_of, named, unsupported};
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
const CLASS: &str = "UNet2DConditionModel";

/// Transformer blocks: for each level, one number or one for each of its residual blocks.
type Transformers = PerLevel<PerLevel<usize>>;

/// The keys that UNets and ControlNets share, with the defaults of the classes for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PublishedEncoder {
    pub act_fn: String,
    pub addition_embed_type: Option<String>,
    pub addition_embed_type_num_heads: usize,
    pub addition_time_embed_dim: Option<usize>,
    pub attention_head_dim: PerLevel<usize>,
    pub block_out_channels: Vec<usize>,
    pub class_embed_type: Option<String>,
    pub cross_attention_dim: PerLevel<usize>,
    pub down_block_types: Vec<String>,
    pub downsample_padding: usize,
    pub encoder_hid_dim: Option<usize>,
    pub encoder_hid_dim_type: Option<String>,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    pub in_channels: usize,
    pub layers_per_block: PerLevel<usize>,
    pub mid_block_scale_factor: f64,
    pub mid_block_type: Option<String>,
    pub norm_eps: f64,
    pub norm_num_groups: Option<usize>,
    pub num_attention_heads: Option<PerLevel<usize>>,
    pub num_class_embeds: Option<usize>,
    pub only_cross_attention: PerLevel<bool>,
    pub projection_class_embeddings_input_dim: Option<usize>,
    pub resnet_time_scale_shift: String,
    pub transformer_layers_per_block: Transformers,
    #[serde(deserialize_with = "flag")]
    pub upcast_attention: bool,
    #[serde(deserialize_with = "flag")]
    pub use_linear_projection: bool,
}

/// A flag that some published files write as null.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(deserializer)?.unwrap_or_default())
}

impl Default for PublishedEncoder {
    fn default() -> Self {
        let cross = "CrossAttnDownBlock2D";
        Self {
            act_fn: "silu".into(),
            addition_embed_type: None,
            addition_embed_type_num_heads: 64,
            addition_time_embed_dim: None,
            attention_head_dim: PerLevel::Same(8),
            block_out_channels: vec![320, 640, 1280, 1280],
            class_embed_type: None,
            cross_attention_dim: PerLevel::Same(1280),
            down_block_types: [cross, cross, cross, "DownBlock2D"].map(Into::into).to_vec(),
            downsample_padding: 1,
            encoder_hid_dim: None,
            encoder_hid_dim_type: None,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            in_channels: 4,
            layers_per_block: PerLevel::Same(2),
            mid_block_scale_factor: 1.0,
            mid_block_type: Some("UNetMidBlock2DCrossAttn".into()),
            norm_eps: 1e-5,
            norm_num_groups: Some(32),
            num_attention_heads: None,
            num_class_embeds: None,
            only_cross_attention: PerLevel::Same(false),
            projection_class_embeddings_input_dim: None,
            resnet_time_scale_shift: "default".into(),
            transformer_layers_per_block: PerLevel::Same(PerLevel::Same(1)),
            upcast_attention: false,
            use_linear_projection: false,
        }
    }
}

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedUNet2dConditional {
    #[serde(flatten)]
    encoder: PublishedEncoder,
    attention_type: String,
    center_input_sample: bool,
    #[serde(deserialize_with = "flag")]
    class_embeddings_concat: bool,
    conv_in_kernel: usize,
    conv_out_kernel: usize,
    cross_attention_norm: Option<String>,
    dropout: f64,
    #[serde(deserialize_with = "flag")]
    dual_cross_attention: bool,
    mid_block_only_cross_attention: Option<bool>,
    out_channels: usize,
    resnet_out_scale_factor: f64,
    #[serde(deserialize_with = "flag")]
    resnet_skip_time_act: bool,
    reverse_transformer_layers_per_block: Option<Vec<PerLevel<usize>>>,
    sample_size: Option<Sides>,
    time_cond_proj_dim: Option<usize>,
    time_embedding_act_fn: Option<String>,
    time_embedding_dim: Option<usize>,
    time_embedding_type: String,
    timestep_post_act: Option<String>,
    up_block_types: Vec<String>,
}

impl Default for PublishedUNet2dConditional {
    fn default() -> Self {
        let cross = "CrossAttnUpBlock2D";
        Self {
            encoder: PublishedEncoder::default(),
            attention_type: "default".into(),
            center_input_sample: false,
            class_embeddings_concat: false,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
            cross_attention_norm: None,
            dropout: 0.0,
            dual_cross_attention: false,
            mid_block_only_cross_attention: None,
            out_channels: 4,
            resnet_out_scale_factor: 1.0,
            resnet_skip_time_act: false,
            reverse_transformer_layers_per_block: None,
            sample_size: None,
            time_cond_proj_dim: None,
            time_embedding_act_fn: None,
            time_embedding_dim: None,
            time_embedding_type: "positional".into(),
            timestep_post_act: None,
            up_block_types: ["UpBlock2D", cross, cross, cross].map(Into::into).to_vec(),
        }
    }
}

const DOWN: [(&str, LevelBlock); 7] = [
    ("DownBlock2D", LevelBlock::Plain),
    ("CrossAttnDownBlock2D", LevelBlock::CrossAttention),
    ("ResnetDownsampleBlock2D", LevelBlock::Residual),
    ("SimpleCrossAttnDownBlock2D", LevelBlock::AddedAttention),
    ("AttnDownBlock2D", LevelBlock::Attention),
    ("KDownBlock2D", LevelBlock::TimeNorm),
    ("KCrossAttnDownBlock2D", LevelBlock::TimeNormAttention),
];

const UP: [(&str, LevelBlock); 7] = [
    ("UpBlock2D", LevelBlock::Plain),
    ("CrossAttnUpBlock2D", LevelBlock::CrossAttention),
    ("ResnetUpsampleBlock2D", LevelBlock::Residual),
    ("SimpleCrossAttnUpBlock2D", LevelBlock::AddedAttention),
    ("AttnUpBlock2D", LevelBlock::Attention),
    ("KUpBlock2D", LevelBlock::TimeNorm),
    ("KCrossAttnUpBlock2D", LevelBlock::TimeNormAttention),
];

const MIDDLE: [(&str, Middle); 3] = [
    ("UNetMidBlock2DCrossAttn", Middle::CrossAttention),
    ("UNetMidBlock2DSimpleCrossAttn", Middle::AddedAttention),
    ("UNetMidBlock2D", Middle::Residual),
];

/// A number that another option needs.
fn needed(key: &'static str, value: Option<usize>, with: &'static str) -> Result<usize, ModelError> {
    value.ok_or_else(|| unsupported(key, "null", with))
}

fn activation(key: &'static str, name: &str) -> Result<Activation, ModelError> {
    let supported = "\"silu\", \"swish\", \"mish\", \"gelu\" and \"relu\"";
    Activation::from_name(name).ok_or_else(|| unsupported(key, name, supported))
}

impl PublishedEncoder {
    /// The typed configuration, with defaults for what ControlNets do not have.
    pub(crate) fn typed(&self) -> Result<EncoderConfig, ModelError> {
        let count = self.block_out_channels.len();
        level_count("block_out_channels", count)?;
        let blocks = &self.down_block_types;
        if blocks.len() != count {
            return Err(ModelError::Config {
                field: "down_block_types",
                given: format!("{} blocks", blocks.len()),
                expected: format!("one for each of the {count} levels in `block_out_channels`"),
            });
        }
        let supported = "DownBlock2D, CrossAttnDownBlock2D, AttnDownBlock2D, ResnetDownsampleBlock2D, \
                         SimpleCrossAttnDownBlock2D, KDownBlock2D and KCrossAttnDownBlock2D";
        let head_dims = self.attention_head_dim.levels("attention_head_dim", count)?;
        let heads = match &self.num_attention_heads {
            Some(heads) => heads.levels("num_attention_heads", count)?,
            None => head_dims.clone(),
        };
        let layers = self.layers_per_block.levels("layers_per_block", count)?;
        let only_cross = self.only_cross_attention.levels("only_cross_attention", count)?;
        let transformers = self.transformer_layers_per_block.levels("transformer_layers_per_block", count)?;
        let level = |i: usize| {
            let block = named("down_block_types", block_name(&blocks[i]), &DOWN, supported)?;
            let heads = if block == LevelBlock::CrossAttention { heads[i] } else { head_dims[i] };
            let transformers = match &transformers[i] {
                PerLevel::Same(one) => vec![*one; layers[i]],
                PerLevel::Each(many) => many.clone(),
            };
            let [channels, layers] = [self.block_out_channels[i], layers[i]];
            Ok(Level { channels, layers, block, heads, transformers, only_cross_attention: only_cross[i] })
        };
        let context = match PerLevel::gather(self.cross_attention_dim.levels("cross_attention_dim", count)?) {
            PerLevel::Same(context) => context,
            PerLevel::Each(many) => {
                let supported = "one width: all levels look at the same text states";
                return Err(unsupported("cross_attention_dim", format!("{many:?}"), supported));
            }
        };
        let supported = "null, \"UNetMidBlock2DCrossAttn\", \"UNetMidBlock2DSimpleCrossAttn\" and \"UNetMidBlock2D\"";
        let levels: Vec<Level> = (0..count).map(level).collect::<Result<_, ModelError>>()?;
        let own_groups = levels.iter().all(|level| level.block.is_time_norm());
        Ok(EncoderConfig {
            levels,
            middle: match &self.mid_block_type {
                None => Middle::None,
                Some(name) => named("mid_block_type", name, &MIDDLE, supported)?,
            },
            mid_scale: self.mid_block_scale_factor,
            downsample_padding: self.downsample_padding,
            activation: activation("act_fn", &self.act_fn)?,
            // Blocks with groups of their own need none.
            norm_groups: match self.norm_num_groups {
                None if own_groups => 32,
                given => needed("norm_num_groups", given, "a number")?,
            },
            norm_epsilon: self.norm_eps,
            scale_shift: match self.resnet_time_scale_shift.as_str() {
                "default" => false,
                "scale_shift" => true,
                other => {
                    let supported = "\"default\" and \"scale_shift\"";
                    return Err(unsupported("resnet_time_scale_shift", other, supported));
                }
            },
            linear_projection: self.use_linear_projection,
            upcast: self.upcast_attention,
            time: TimeInput::Sinusoidal { cosine_first: self.flip_sin_to_cos, shift: self.freq_shift },
            context_input: self.context_input()?,
            classes: self.classes()?,
            addition: self.addition()?,
            ..EncoderConfig::new(self.in_channels, context)
        })
    }

    fn context_input(&self) -> Result<ContextInput, ModelError> {
        let kind = self.encoder_hid_dim_type.as_deref().or(self.encoder_hid_dim.map(|_| "text_proj"));
        let Some(kind) = kind else { return Ok(ContextInput::AsItIs) };
        let width = needed("encoder_hid_dim", self.encoder_hid_dim, "a width with `encoder_hid_dim_type`")?;
        match kind {
            "text_proj" => Ok(ContextInput::Text { width }),
            "text_image_proj" => Ok(ContextInput::TextImage { width }),
            "image_proj" => Ok(ContextInput::Image { width }),
            other => {
                let supported = "null, \"text_proj\", \"text_image_proj\" and \"image_proj\"";
                Err(unsupported("encoder_hid_dim_type", other, supported))
            }
        }
    }

    fn classes(&self) -> Result<ClassInput, ModelError> {
        let width = || {
            let key = "projection_class_embeddings_input_dim";
            needed(key, self.projection_class_embeddings_input_dim, "a width with this `class_embed_type`")
        };
        Ok(match (self.class_embed_type.as_deref(), self.num_class_embeds) {
            (None, None) => ClassInput::None,
            (None, Some(count)) => ClassInput::Table { count },
            (Some("timestep"), _) => ClassInput::Timestep,
            (Some("identity"), _) => ClassInput::Identity,
            (Some("projection"), _) => ClassInput::Projection { width: width()? },
            (Some("simple_projection"), _) => ClassInput::SimpleProjection { width: width()? },
            (Some(other), _) => {
                let supported = "null, \"timestep\", \"identity\", \"projection\" and \"simple_projection\"";
                return Err(unsupported("class_embed_type", other, supported));
            }
        })
    }

    fn addition(&self) -> Result<Addition, ModelError> {
        let with = "a number with this `addition_embed_type`";
        Ok(match self.addition_embed_type.as_deref() {
            None => Addition::None,
            Some("text") => Addition::Text { heads: self.addition_embed_type_num_heads },
            Some("text_time") => Addition::TextTime {
                features: needed("addition_time_embed_dim", self.addition_time_embed_dim, with)?,
                width: needed(
                    "projection_class_embeddings_input_dim",
                    self.projection_class_embeddings_input_dim,
                    with,
                )?,
            },
            Some("text_image") => Addition::TextImage,
            Some("image") => Addition::Image { width: needed("encoder_hid_dim", self.encoder_hid_dim, with)? },
            Some(other) => {
                let supported = "null, \"text\", \"text_time\", \"text_image\" and \"image\"";
                return Err(unsupported("addition_embed_type", other, supported));
            }
        })
    }

    /// The published form of what [`typed`](Self::typed) reads.
    pub(crate) fn of(c: &EncoderConfig) -> Self {
        let levels = &c.levels;
        let (cosine_first, shift) = match c.time {
            TimeInput::Sinusoidal { cosine_first, shift } => (cosine_first, shift),
            TimeInput::Fourier { cosine_first } => (cosine_first, 0.0),
        };
        let (hidden_type, hidden) = match c.context_input {
            ContextInput::AsItIs => (None, None),
            ContextInput::Text { width } => (Some("text_proj"), Some(width)),
            ContextInput::TextImage { width } => (Some("text_image_proj"), Some(width)),
            ContextInput::Image { width } => (Some("image_proj"), Some(width)),
        };
        let (class, rows, class_width) = match c.classes {
            ClassInput::None => (None, None, None),
            ClassInput::Table { count } => (None, Some(count), None),
            ClassInput::Timestep => (Some("timestep"), None, None),
            ClassInput::Identity => (Some("identity"), None, None),
            ClassInput::Projection { width } => (Some("projection"), None, Some(width)),
            ClassInput::SimpleProjection { width } => (Some("simple_projection"), None, Some(width)),
        };
        let (addition, features, added_width) = match c.addition {
            Addition::None => (None, None, None),
            Addition::Text { .. } => (Some("text"), None, None),
            Addition::TextTime { features, width } => (Some("text_time"), Some(features), Some(width)),
            Addition::TextImage => (Some("text_image"), None, None),
            Addition::Image { .. } => (Some("image"), None, None),
        };
        let image_width = match c.addition {
            Addition::Image { width } => Some(width),
            _ => None,
        };
        let owned = |name: Option<&str>| name.map(str::to_owned);
        Self {
            act_fn: c.activation.name().into(),
            addition_embed_type: owned(addition),
            addition_embed_type_num_heads: if let Addition::Text { heads } = c.addition { heads } else { 64 },
            addition_time_embed_dim: features,
            attention_head_dim: PerLevel::gather(levels.iter().map(|level| level.heads).collect()),
            block_out_channels: levels.iter().map(|level| level.channels).collect(),
            class_embed_type: owned(class),
            cross_attention_dim: PerLevel::Same(c.context),
            down_block_types: levels.iter().filter_map(|level| name_of(&level.block, &DOWN)).collect(),
            downsample_padding: c.downsample_padding,
            encoder_hid_dim: hidden.or(image_width),
            encoder_hid_dim_type: owned(hidden_type),
            flip_sin_to_cos: cosine_first,
            freq_shift: shift,
            in_channels: c.in_channels,
            layers_per_block: PerLevel::gather(levels.iter().map(|level| level.layers).collect()),
            mid_block_scale_factor: c.mid_scale,
            mid_block_type: name_of(&c.middle, &MIDDLE),
            norm_eps: c.norm_epsilon,
            norm_num_groups: Some(c.norm_groups),
            num_attention_heads: None,
            num_class_embeds: rows,
            only_cross_attention: PerLevel::gather(levels.iter().map(|level| level.only_cross_attention).collect()),
            projection_class_embeddings_input_dim: class_width.or(added_width),
            resnet_time_scale_shift: if c.scale_shift { "scale_shift" } else { "default" }.into(),
            transformer_layers_per_block: PerLevel::gather(
                levels.iter().map(|level| PerLevel::gather(level.transformers.clone())).collect(),
            ),
            upcast_attention: c.upcast,
            use_linear_projection: c.linear_projection,
        }
    }
}

impl PublishedUNet2dConditional {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        read_config(json, CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }

    /// The levels on the way up.
    fn up(&self, levels: &[Level]) -> Result<Vec<UpLevel>, ModelError> {
        let count = levels.len();
        if self.up_block_types.len() != count {
            return Err(ModelError::Config {
                field: "up_block_types",
                given: format!("{} blocks", self.up_block_types.len()),
                expected: format!("one for each of the {count} levels in `block_out_channels`"),
            });
        }
        let reversed = match &self.reverse_transformer_layers_per_block {
            Some(given) => PerLevel::Each(given.clone()).levels("reverse_transformer_layers_per_block", count)?,
            None => {
                let mut down =
                    self.encoder.transformer_layers_per_block.levels("transformer_layers_per_block", count)?;
                down.reverse();
                if down.iter().any(|level| matches!(level, PerLevel::Each(_))) {
                    let supported = "a list where `transformer_layers_per_block` has lists";
                    return Err(unsupported("reverse_transformer_layers_per_block", "null", supported));
                }
                down
            }
        };
        let supported = "UpBlock2D, CrossAttnUpBlock2D, AttnUpBlock2D, ResnetUpsampleBlock2D, \
                         SimpleCrossAttnUpBlock2D, KUpBlock2D and KCrossAttnUpBlock2D";
        let up = self.up_block_types.iter().zip(reversed).zip(levels.iter().rev());
        up.map(|((name, transformers), level)| {
            Ok(UpLevel {
                block: named("up_block_types", block_name(name), &UP, supported)?,
                transformers: match transformers {
                    PerLevel::Same(one) => vec![one; level.layers + 1],
                    PerLevel::Each(many) => many,
                },
            })
        })
        .collect()
    }
}

impl TryFrom<PublishedUNet2dConditional> for UNet2dConditionalConfig {
    type Error = ModelError;

    fn try_from(p: PublishedUNet2dConditional) -> Result<Self, ModelError> {
        if p.dual_cross_attention {
            return Err(unsupported("dual_cross_attention", "true", "false"));
        }
        if p.attention_type != "default" {
            return Err(unsupported("attention_type", &p.attention_type, "\"default\""));
        }
        if let Some(heads) = &p.encoder.num_attention_heads {
            let supported = "null: the class takes the number of heads from `attention_head_dim`";
            return Err(unsupported("num_attention_heads", format!("{heads:?}"), supported));
        }
        let base = p.encoder.typed()?;
        let cosine_first = p.encoder.flip_sin_to_cos;
        let encoder = EncoderConfig {
            conv_in_kernel: p.conv_in_kernel,
            mid_only_cross_attention: match (p.mid_block_only_cross_attention, &p.encoder.only_cross_attention) {
                (Some(only), _) => only,
                (None, PerLevel::Same(only)) => *only,
                (None, PerLevel::Each(_)) => false,
            },
            context_norm: match p.cross_attention_norm.as_deref() {
                None => None,
                Some("layer_norm") => Some(ContextNorm::Layer),
                Some("group_norm") => Some(ContextNorm::Group),
                Some(other) => {
                    let supported = "null, \"layer_norm\" and \"group_norm\"";
                    return Err(unsupported("cross_attention_norm", other, supported));
                }
            },
            dropout: p.dropout,
            skip_time_activation: p.resnet_skip_time_act,
            residual_scale: p.resnet_out_scale_factor,
            time: match p.time_embedding_type.as_str() {
                "positional" => base.time,
                "fourier" => TimeInput::Fourier { cosine_first },
                other => return Err(unsupported("time_embedding_type", other, "\"positional\" and \"fourier\"")),
            },
            // The class takes 0 for "not given", too.
            time_width: p.time_embedding_dim.filter(|width| *width > 0),
            time_post_activation: match &p.timestep_post_act {
                Some(name) => Some(activation("timestep_post_act", name)?),
                None => None,
            },
            embedding_activation: match &p.time_embedding_act_fn {
                Some(name) => Some(activation("time_embedding_act_fn", name)?),
                None => None,
            },
            guidance_width: p.time_cond_proj_dim,
            concatenate_class: p.class_embeddings_concat,
            ..base
        };
        Ok(Self {
            output_norm: p.encoder.norm_num_groups.is_some(),
            sample_size: p.sample_size.map(Into::into),
            up: p.up(&encoder.levels)?,
            encoder,
            out_channels: p.out_channels,
            conv_out_kernel: p.conv_out_kernel,
            center_input: p.center_input_sample,
        })
    }
}

impl From<UNet2dConditionalConfig> for PublishedUNet2dConditional {
    fn from(c: UNet2dConditionalConfig) -> Self {
        let e = &c.encoder;
        let down: Vec<_> = e.levels.iter().map(|level| PerLevel::gather(level.transformers.clone())).collect();
        let up: Vec<_> = c.up.iter().map(|level| PerLevel::gather(level.transformers.clone())).collect();
        let mirrored = down.iter().rev().eq(&up) && up.iter().all(|level| matches!(level, PerLevel::Same(_)));
        let mut encoder = PublishedEncoder::of(e);
        encoder.norm_num_groups = encoder.norm_num_groups.filter(|_| c.output_norm);
        Self {
            encoder,
            attention_type: "default".into(),
            center_input_sample: c.center_input,
            class_embeddings_concat: e.concatenate_class,
            conv_in_kernel: e.conv_in_kernel,
            conv_out_kernel: c.conv_out_kernel,
            cross_attention_norm: e.context_norm.map(|norm| match norm {
                ContextNorm::Layer => "layer_norm".into(),
                ContextNorm::Group => "group_norm".into(),
            }),
            dropout: e.dropout,
            dual_cross_attention: false,
            mid_block_only_cross_attention: Some(e.mid_only_cross_attention),
            out_channels: c.out_channels,
            resnet_out_scale_factor: e.residual_scale,
            resnet_skip_time_act: e.skip_time_activation,
            reverse_transformer_layers_per_block: (!mirrored).then_some(up),
            sample_size: c.sample_size.map(Into::into),
            time_cond_proj_dim: e.guidance_width,
            time_embedding_act_fn: e.embedding_activation.map(|activation| activation.name().into()),
            time_embedding_dim: e.time_width,
            time_embedding_type: match e.time {
                TimeInput::Sinusoidal { .. } => "positional",
                TimeInput::Fourier { .. } => "fourier",
            }
            .into(),
            timestep_post_act: e.time_post_activation.map(|activation| activation.name().into()),
            up_block_types: c.up.iter().filter_map(|level| name_of(&level.block, &UP)).collect(),
        }
    }
}
