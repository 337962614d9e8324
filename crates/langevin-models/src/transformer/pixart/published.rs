//! The published configuration of diffusers' `PixArtTransformer2DModel`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PixArtConfig;
use crate::error::ModelError;
use crate::published::unsupported;
use crate::transformer::checks;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
pub(super) const CLASS: &str = "PixArtTransformer2DModel";

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedPixArt {
    num_attention_heads: usize,
    attention_head_dim: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    num_layers: usize,
    dropout: f64,
    /// The class has it and does not use it.
    norm_num_groups: usize,
    cross_attention_dim: Option<usize>,
    attention_bias: bool,
    sample_size: usize,
    patch_size: usize,
    activation_fn: String,
    /// The class demands it and does not use it.
    num_embeds_ada_norm: Option<usize>,
    upcast_attention: bool,
    norm_type: String,
    norm_elementwise_affine: bool,
    norm_eps: f64,
    interpolation_scale: Option<f64>,
    use_additional_conditions: Option<bool>,
    caption_channels: Option<usize>,
    attention_type: Option<String>,
}

impl Default for PublishedPixArt {
    fn default() -> Self {
        Self {
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: Some(8),
            num_layers: 28,
            dropout: 0.0,
            norm_num_groups: 32,
            cross_attention_dim: Some(1152),
            attention_bias: true,
            sample_size: 128,
            patch_size: 2,
            activation_fn: "gelu-approximate".into(),
            num_embeds_ada_norm: Some(1000),
            upcast_attention: false,
            norm_type: "ada_norm_single".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            interpolation_scale: None,
            use_additional_conditions: None,
            caption_channels: None,
            attention_type: Some("default".into()),
        }
    }
}

impl PublishedPixArt {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        read_config(&checks::current(json, CLASS, &[]), CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

impl TryFrom<PublishedPixArt> for PixArtConfig {
    type Error = ModelError;

    fn try_from(p: PublishedPixArt) -> Result<Self, ModelError> {
        checks::only("norm_type", &p.norm_type, "ada_norm_single")?;
        checks::only("attention_type", p.attention_type.as_deref().unwrap_or("default"), "default")?;
        let Some(unused_classes) = p.num_embeds_ada_norm else {
            return Err(unsupported("num_embeds_ada_norm", "null", "a number"));
        };
        let Some(context) = p.cross_attention_dim else {
            return Err(unsupported("cross_attention_dim", "null", "a number of channels"));
        };
        Ok(Self {
            sample_size: p.sample_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            out_channels: p.out_channels.unwrap_or(p.in_channels),
            heads: p.num_attention_heads,
            head_dim: p.attention_head_dim,
            layers: p.num_layers,
            caption_channels: p.caption_channels,
            context,
            // What the class does where the keys are absent.
            interpolation_scale: p.interpolation_scale.unwrap_or_else(|| (p.sample_size / 64).max(1) as f64),
            sizes: p.use_additional_conditions.unwrap_or(p.sample_size == 128),
            gate: checks::gate(&p.activation_fn)?,
            attention_bias: p.attention_bias,
            norm_affine: p.norm_elementwise_affine,
            norm_epsilon: p.norm_eps,
            dropout: p.dropout,
            upcast: p.upcast_attention,
            unused_groups: p.norm_num_groups,
            unused_classes,
        })
    }
}

impl From<PixArtConfig> for PublishedPixArt {
    fn from(c: PixArtConfig) -> Self {
        Self {
            num_attention_heads: c.heads,
            attention_head_dim: c.head_dim,
            in_channels: c.in_channels,
            out_channels: Some(c.out_channels),
            num_layers: c.layers,
            dropout: c.dropout,
            norm_num_groups: c.unused_groups,
            cross_attention_dim: Some(c.context),
            attention_bias: c.attention_bias,
            sample_size: c.sample_size,
            patch_size: c.patch_size,
            activation_fn: checks::gate_name(c.gate),
            num_embeds_ada_norm: Some(c.unused_classes),
            upcast_attention: c.upcast,
            norm_elementwise_affine: c.norm_affine,
            norm_eps: c.norm_epsilon,
            interpolation_scale: Some(c.interpolation_scale),
            use_additional_conditions: Some(c.sizes),
            caption_channels: c.caption_channels,
            ..Self::default()
        }
    }
}
