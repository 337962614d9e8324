//! The published configuration of diffusers' `DiTTransformer2DModel`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DiTConfig;
use crate::error::ModelError;
use crate::published::unsupported;
use crate::transformer::checks;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
pub(super) const CLASS: &str = "DiTTransformer2DModel";

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedDiT {
    num_attention_heads: usize,
    attention_head_dim: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    num_layers: usize,
    dropout: f64,
    /// The class has it and does not use it.
    norm_num_groups: usize,
    attention_bias: bool,
    sample_size: usize,
    patch_size: usize,
    activation_fn: String,
    num_embeds_ada_norm: Option<usize>,
    upcast_attention: bool,
    norm_type: String,
    norm_elementwise_affine: bool,
    norm_eps: f64,
}

impl Default for PublishedDiT {
    fn default() -> Self {
        Self {
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: None,
            num_layers: 28,
            dropout: 0.0,
            norm_num_groups: 32,
            attention_bias: true,
            sample_size: 32,
            patch_size: 2,
            activation_fn: "gelu-approximate".into(),
            num_embeds_ada_norm: Some(1000),
            upcast_attention: false,
            norm_type: "ada_norm_zero".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-5,
        }
    }
}

impl PublishedDiT {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        let silent = [
            ("cross_attention_dim", Value::Null),
            ("attention_type", json!("default")),
            ("caption_channels", Value::Null),
        ];
        read_config(&checks::current(json, CLASS, &silent), CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

impl TryFrom<PublishedDiT> for DiTConfig {
    type Error = ModelError;

    fn try_from(p: PublishedDiT) -> Result<Self, ModelError> {
        checks::only("norm_type", &p.norm_type, "ada_norm_zero")?;
        let Some(classes) = p.num_embeds_ada_norm else {
            return Err(unsupported("num_embeds_ada_norm", "null", "a number of classes"));
        };
        Ok(Self {
            sample_size: p.sample_size,
            patch_size: p.patch_size,
            in_channels: p.in_channels,
            out_channels: p.out_channels.unwrap_or(p.in_channels),
            heads: p.num_attention_heads,
            head_dim: p.attention_head_dim,
            layers: p.num_layers,
            classes,
            gate: checks::gate(&p.activation_fn)?,
            attention_bias: p.attention_bias,
            norm_affine: p.norm_elementwise_affine,
            norm_epsilon: p.norm_eps,
            dropout: p.dropout,
            upcast: p.upcast_attention,
            unused_groups: p.norm_num_groups,
        })
    }
}

impl From<DiTConfig> for PublishedDiT {
    fn from(c: DiTConfig) -> Self {
        Self {
            num_attention_heads: c.heads,
            attention_head_dim: c.head_dim,
            in_channels: c.in_channels,
            out_channels: Some(c.out_channels),
            num_layers: c.layers,
            dropout: c.dropout,
            norm_num_groups: c.unused_groups,
            attention_bias: c.attention_bias,
            sample_size: c.sample_size,
            patch_size: c.patch_size,
            activation_fn: checks::gate_name(c.gate),
            num_embeds_ada_norm: Some(c.classes),
            upcast_attention: c.upcast,
            norm_elementwise_affine: c.norm_affine,
            norm_eps: c.norm_epsilon,
            ..Self::default()
        }
    }
}
