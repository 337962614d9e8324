//! The published configuration of diffusers' `PriorTransformer`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PriorConfig;
use crate::error::ModelError;
use crate::layers::Activation;
use crate::published::unsupported;
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
pub(super) const CLASS: &str = "PriorTransformer";

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedPrior {
    num_attention_heads: usize,
    attention_head_dim: usize,
    num_layers: usize,
    embedding_dim: usize,
    num_embeddings: usize,
    additional_embeddings: usize,
    dropout: f64,
    time_embed_act_fn: String,
    norm_in_type: Option<String>,
    embedding_proj_norm_type: Option<String>,
    encoder_hid_proj_type: Option<String>,
    added_emb_type: Option<String>,
    time_embed_dim: Option<usize>,
    embedding_proj_dim: Option<usize>,
    clip_embed_dim: Option<usize>,
}

impl Default for PublishedPrior {
    fn default() -> Self {
        Self {
            num_attention_heads: 32,
            attention_head_dim: 64,
            num_layers: 20,
            embedding_dim: 768,
            num_embeddings: 77,
            additional_embeddings: 4,
            dropout: 0.0,
            time_embed_act_fn: "silu".into(),
            norm_in_type: None,
            embedding_proj_norm_type: None,
            encoder_hid_proj_type: Some("linear".into()),
            added_emb_type: Some("prd".into()),
            time_embed_dim: None,
            embedding_proj_dim: None,
            clip_embed_dim: None,
        }
    }
}

impl PublishedPrior {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        read_config(json, CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

/// Whether an option has its one name, or none.
fn present(key: &'static str, given: Option<&str>, name: &str, supported: &'static str) -> Result<bool, ModelError> {
    match given {
        None => Ok(false),
        Some(given) if given == name => Ok(true),
        Some(other) => Err(unsupported(key, other, supported)),
    }
}

impl TryFrom<PublishedPrior> for PriorConfig {
    type Error = ModelError;

    fn try_from(p: PublishedPrior) -> Result<Self, ModelError> {
        let layer = "null and \"layer\"";
        let Some(time_activation) = Activation::from_name(&p.time_embed_act_fn) else {
            let supported = "\"silu\", \"swish\", \"mish\", \"gelu\" and \"relu\"";
            return Err(unsupported("time_embed_act_fn", p.time_embed_act_fn, supported));
        };
        // The class takes 0 for "not given", too.
        let given = |width: Option<usize>| width.filter(|width| *width > 0);
        Ok(Self {
            heads: p.num_attention_heads,
            head_dim: p.attention_head_dim,
            layers: p.num_layers,
            embedding_width: p.embedding_dim,
            tokens: p.num_embeddings,
            additional: p.additional_embeddings,
            dropout: p.dropout,
            time_activation,
            time_width: given(p.time_embed_dim),
            norm_in: present("norm_in_type", p.norm_in_type.as_deref(), "layer", layer)?,
            norm_embedding: present("embedding_proj_norm_type", p.embedding_proj_norm_type.as_deref(), "layer", layer)?,
            project_text: present(
                "encoder_hid_proj_type",
                p.encoder_hid_proj_type.as_deref(),
                "linear",
                "null and \"linear\"",
            )?,
            last_token: present("added_emb_type", p.added_emb_type.as_deref(), "prd", "null and \"prd\"")?,
            text_width: given(p.embedding_proj_dim).unwrap_or(p.embedding_dim),
            output_width: given(p.clip_embed_dim).unwrap_or(p.embedding_dim),
        })
    }
}

impl From<PriorConfig> for PublishedPrior {
    fn from(c: PriorConfig) -> Self {
        Self {
            num_attention_heads: c.heads,
            attention_head_dim: c.head_dim,
            num_layers: c.layers,
            embedding_dim: c.embedding_width,
            num_embeddings: c.tokens,
            additional_embeddings: c.additional,
            dropout: c.dropout,
            time_embed_act_fn: c.time_activation.name().into(),
            norm_in_type: c.norm_in.then(|| "layer".into()),
            embedding_proj_norm_type: c.norm_embedding.then(|| "layer".into()),
            encoder_hid_proj_type: c.project_text.then(|| "linear".into()),
            added_emb_type: c.last_token.then(|| "prd".into()),
            time_embed_dim: c.time_width,
            embedding_proj_dim: (c.text_width != c.embedding_width).then_some(c.text_width),
            clip_embed_dim: (c.output_width != c.embedding_width).then_some(c.output_width),
        }
    }
}
