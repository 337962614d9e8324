//! The published configuration of diffusers' `FluxTransformer2DModel`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::FluxConfig;
use crate::error::ModelError;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
pub(super) const CLASS: &str = "FluxTransformer2DModel";

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedFlux {
    patch_size: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    num_layers: usize,
    num_single_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    pooled_projection_dim: usize,
    guidance_embeds: bool,
    axes_dims_rope: [usize; 3],
}

impl Default for PublishedFlux {
    fn default() -> Self {
        Self {
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: [16, 56, 56],
        }
    }
}

impl PublishedFlux {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        read_config(json, CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

impl From<PublishedFlux> for FluxConfig {
    fn from(p: PublishedFlux) -> Self {
        Self {
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            // The class takes 0 for "not given", too.
            out_channels: p.out_channels.filter(|channels| *channels > 0).unwrap_or(p.in_channels),
            layers: p.num_layers,
            single_layers: p.num_single_layers,
            heads: p.num_attention_heads,
            head_dim: p.attention_head_dim,
            text_width: p.joint_attention_dim,
            pooled_width: p.pooled_projection_dim,
            guidance: p.guidance_embeds,
            axes: p.axes_dims_rope,
        }
    }
}

impl From<FluxConfig> for PublishedFlux {
    fn from(c: FluxConfig) -> Self {
        Self {
            patch_size: c.patch_size,
            in_channels: c.in_channels,
            out_channels: (c.out_channels != c.in_channels).then_some(c.out_channels),
            num_layers: c.layers,
            num_single_layers: c.single_layers,
            attention_head_dim: c.head_dim,
            num_attention_heads: c.heads,
            joint_attention_dim: c.text_width,
            pooled_projection_dim: c.pooled_width,
            guidance_embeds: c.guidance,
            axes_dims_rope: c.axes,
        }
    }
}
