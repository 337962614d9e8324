//! The published configuration of diffusers' `SD3Transformer2DModel`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Sd3Config;
use crate::error::ModelError;
use crate::published::unsupported;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
pub(super) const CLASS: &str = "SD3Transformer2DModel";

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedSd3 {
    sample_size: usize,
    patch_size: usize,
    in_channels: usize,
    num_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    caption_projection_dim: usize,
    pooled_projection_dim: usize,
    out_channels: Option<usize>,
    pos_embed_max_size: Option<usize>,
    dual_attention_layers: Vec<usize>,
    qk_norm: Option<String>,
}

impl Default for PublishedSd3 {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: Some(96),
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }
}

impl PublishedSd3 {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        read_config(json, CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

impl TryFrom<PublishedSd3> for Sd3Config {
    type Error = ModelError;

    fn try_from(p: PublishedSd3) -> Result<Self, ModelError> {
        let width = p.num_attention_heads * p.attention_head_dim;
        if p.caption_projection_dim != width {
            let supported = "`num_attention_heads` times `attention_head_dim`, the channels of the network";
            return Err(unsupported("caption_projection_dim", p.caption_projection_dim, supported));
        }
        let Some(largest) = p.pos_embed_max_size else {
            return Err(unsupported("pos_embed_max_size", "null", "a number of patches"));
        };
        let qk_norm = match p.qk_norm.as_deref() {
            None => false,
            Some("rms_norm") => true,
            Some(other) => return Err(unsupported("qk_norm", other, "null and \"rms_norm\"")),
        };
        Ok(Self {
            sample_size: p.sample_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            out_channels: p.out_channels.unwrap_or(p.in_channels),
            heads: p.num_attention_heads,
            head_dim: p.attention_head_dim,
            layers: p.num_layers,
            text_width: p.joint_attention_dim,
            pooled_width: p.pooled_projection_dim,
            largest,
            dual_attention: p.dual_attention_layers,
            qk_norm,
        })
    }
}

impl From<Sd3Config> for PublishedSd3 {
    fn from(c: Sd3Config) -> Self {
        Self {
            sample_size: c.sample_size,
            patch_size: c.patch_size,
            in_channels: c.in_channels,
            num_layers: c.layers,
            attention_head_dim: c.head_dim,
            num_attention_heads: c.heads,
            joint_attention_dim: c.text_width,
            caption_projection_dim: c.heads * c.head_dim,
            pooled_projection_dim: c.pooled_width,
            out_channels: Some(c.out_channels),
            pos_embed_max_size: Some(c.largest),
            dual_attention_layers: c.dual_attention,
            qk_norm: c.qk_norm.then(|| "rms_norm".into()),
        }
    }
}
