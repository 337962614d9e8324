//! The published configuration of diffusers' `UNet2DModel`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{Block, Classes, Resampling, TimeFeatures, UNet2dConfig};
use crate::error::ModelError;
use crate::layers::Activation;
use crate::published::{Sides, block_name, name_of, named};
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
pub(super) const CLASS: &str = "UNet2DModel";

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedUNet2d {
    act_fn: String,
    add_attention: bool,
    attention_head_dim: Option<usize>,
    attn_norm_num_groups: Option<usize>,
    block_out_channels: Vec<usize>,
    center_input_sample: bool,
    class_embed_type: Option<String>,
    down_block_types: Vec<String>,
    downsample_padding: usize,
    downsample_type: Option<String>,
    dropout: f64,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    in_channels: usize,
    layers_per_block: usize,
    mid_block_scale_factor: f64,
    mid_block_type: Option<String>,
    norm_eps: f64,
    norm_num_groups: Option<usize>,
    num_class_embeds: Option<usize>,
    num_train_timesteps: Option<usize>,
    out_channels: usize,
    resnet_time_scale_shift: String,
    sample_size: Option<Sides>,
    time_embedding_dim: Option<usize>,
    time_embedding_type: String,
    up_block_types: Vec<String>,
    upsample_type: Option<String>,
    /// Ours: whether the last class embedding is "no class". Other readers skip keys with an underscore.
    _null_class: bool,
}

impl Default for PublishedUNet2d {
    fn default() -> Self {
        let strings = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            act_fn: "silu".into(),
            add_attention: true,
            attention_head_dim: Some(8),
            attn_norm_num_groups: None,
            block_out_channels: vec![224, 448, 672, 896],
            center_input_sample: false,
            class_embed_type: None,
            down_block_types: strings(&["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"]),
            downsample_padding: 1,
            downsample_type: Some("conv".into()),
            dropout: 0.0,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            in_channels: 3,
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            mid_block_type: Some("UNetMidBlock2D".into()),
            norm_eps: 1e-5,
            norm_num_groups: Some(32),
            num_class_embeds: None,
            num_train_timesteps: None,
            out_channels: 3,
            resnet_time_scale_shift: "default".into(),
            sample_size: None,
            time_embedding_dim: None,
            time_embedding_type: "positional".into(),
            up_block_types: strings(&["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"]),
            upsample_type: Some("conv".into()),
            _null_class: false,
        }
    }
}

impl PublishedUNet2d {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        read_config(json, CLASS)
    }

    /// The JSON object with the class name, without our own key where it says nothing.
    pub(super) fn to_value(&self) -> Value {
        let mut value = published_value(self, CLASS);
        if let (Value::Object(object), false) = (&mut value, self._null_class) {
            object.remove("_null_class");
        }
        value
    }
}

const DOWN: [(&str, Block); 5] = [
    ("DownBlock2D", Block::Plain),
    ("AttnDownBlock2D", Block::Attention),
    ("ResnetDownsampleBlock2D", Block::Residual),
    ("SkipDownBlock2D", Block::Skip),
    ("AttnSkipDownBlock2D", Block::AttentionSkip),
];

const UP: [(&str, Block); 5] = [
    ("UpBlock2D", Block::Plain),
    ("AttnUpBlock2D", Block::Attention),
    ("ResnetUpsampleBlock2D", Block::Residual),
    ("SkipUpBlock2D", Block::Skip),
    ("AttnSkipUpBlock2D", Block::AttentionSkip),
];

fn resampling(key: &'static str, name: Option<&str>) -> Result<Resampling, ModelError> {
    match name {
        None | Some("conv") => Ok(Resampling::Conv),
        Some("resnet") => Ok(Resampling::Residual),
        Some(other) => {
            Err(ModelError::Unsupported { key, value: other.to_owned(), supported: "\"conv\" and \"resnet\"" })
        }
    }
}

fn resampling_name(resampling: Resampling) -> Option<String> {
    Some(match resampling {
        Resampling::Conv => "conv".into(),
        Resampling::Residual => "resnet".into(),
    })
}

impl TryFrom<PublishedUNet2d> for UNet2dConfig {
    type Error = ModelError;

    fn try_from(p: PublishedUNet2d) -> Result<Self, ModelError> {
        let unsupported =
            |key, value: &str, supported| Err(ModelError::Unsupported { key, value: value.to_owned(), supported });
        let time = match p.time_embedding_type.as_str() {
            "positional" => TimeFeatures::Sinusoidal { cosine_first: p.flip_sin_to_cos, shift: p.freq_shift },
            "fourier" => TimeFeatures::Fourier,
            "learned" => match p.num_train_timesteps {
                Some(steps) => TimeFeatures::Learned { steps },
                None => {
                    return unsupported(
                        "num_train_timesteps",
                        "null",
                        "a number of steps with `time_embedding_type` = \"learned\"",
                    );
                }
            },
            other => {
                let supported = "\"positional\", \"fourier\" and \"learned\"";
                return unsupported("time_embedding_type", other, supported);
            }
        };
        let classes = match (p.class_embed_type.as_deref(), p.num_class_embeds) {
            (None, None) => Classes::None,
            (None, Some(rows)) => {
                Classes::Table { count: rows - usize::from(p._null_class && rows > 0), null: p._null_class }
            }
            (Some("timestep"), _) => Classes::Timestep,
            (Some("identity"), _) => Classes::Identity,
            (Some(other), _) => {
                return unsupported("class_embed_type", other, "null, \"timestep\" and \"identity\"");
            }
        };
        let mid = match p.mid_block_type.as_deref() {
            None => false,
            Some("UNetMidBlock2D") => true,
            Some(other) => return unsupported("mid_block_type", other, "null and \"UNetMidBlock2D\""),
        };
        let scale_shift = match p.resnet_time_scale_shift.as_str() {
            "default" => false,
            "scale_shift" => true,
            other => {
                return unsupported("resnet_time_scale_shift", other, "\"default\" and \"scale_shift\"");
            }
        };
        let Some(activation) = Activation::from_name(&p.act_fn) else {
            return unsupported("act_fn", &p.act_fn, "\"silu\", \"swish\", \"mish\", \"gelu\" and \"relu\"");
        };
        let blocks = |key, names: &[String], table: &[(&str, Block)], supported| {
            names.iter().map(|name| named(key, block_name(name), table, supported)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            sample_size: p.sample_size.map(Into::into),
            in_channels: p.in_channels,
            out_channels: p.out_channels,
            center_input: p.center_input_sample,
            time,
            // The class takes 0 for "not given", too.
            time_width: p.time_embedding_dim.filter(|width| *width > 0),
            down: blocks(
                "down_block_types",
                &p.down_block_types,
                &DOWN,
                "DownBlock2D, AttnDownBlock2D, ResnetDownsampleBlock2D, SkipDownBlock2D and AttnSkipDownBlock2D",
            )?,
            mid,
            up: blocks(
                "up_block_types",
                &p.up_block_types,
                &UP,
                "UpBlock2D, AttnUpBlock2D, ResnetUpsampleBlock2D, SkipUpBlock2D and AttnSkipUpBlock2D",
            )?,
            channels: p.block_out_channels,
            layers: p.layers_per_block,
            mid_scale: p.mid_block_scale_factor,
            downsample_padding: p.downsample_padding,
            downsample: resampling("downsample_type", p.downsample_type.as_deref())?,
            upsample: resampling("upsample_type", p.upsample_type.as_deref())?,
            dropout: p.dropout,
            activation,
            head_dim: p.attention_head_dim,
            norm_groups: p.norm_num_groups,
            mid_attention_groups: p.attn_norm_num_groups,
            norm_epsilon: p.norm_eps,
            scale_shift,
            mid_attention: p.add_attention,
            classes,
        })
    }
}

impl From<UNet2dConfig> for PublishedUNet2d {
    fn from(c: UNet2dConfig) -> Self {
        let (cosine_first, shift) = match c.time {
            TimeFeatures::Sinusoidal { cosine_first, shift } => (cosine_first, shift),
            _ => (true, 0.0),
        };
        Self {
            act_fn: c.activation.name().into(),
            add_attention: c.mid_attention,
            attention_head_dim: c.head_dim,
            attn_norm_num_groups: c.mid_attention_groups,
            block_out_channels: c.channels,
            center_input_sample: c.center_input,
            class_embed_type: match c.classes {
                Classes::Timestep => Some("timestep".into()),
                Classes::Identity => Some("identity".into()),
                Classes::None | Classes::Table { .. } => None,
            },
            down_block_types: c.down.iter().filter_map(|b| name_of(b, &DOWN)).collect(),
            downsample_padding: c.downsample_padding,
            downsample_type: resampling_name(c.downsample),
            dropout: c.dropout,
            flip_sin_to_cos: cosine_first,
            freq_shift: shift,
            in_channels: c.in_channels,
            layers_per_block: c.layers,
            mid_block_scale_factor: c.mid_scale,
            mid_block_type: c.mid.then(|| "UNetMidBlock2D".into()),
            norm_eps: c.norm_epsilon,
            norm_num_groups: c.norm_groups,
            num_class_embeds: match c.classes {
                Classes::Table { count, null } => Some(count + usize::from(null)),
                _ => None,
            },
            num_train_timesteps: match c.time {
                TimeFeatures::Learned { steps } => Some(steps),
                _ => None,
            },
            out_channels: c.out_channels,
            resnet_time_scale_shift: if c.scale_shift { "scale_shift" } else { "default" }.into(),
            sample_size: c.sample_size.map(Into::into),
            time_embedding_dim: c.time_width,
            time_embedding_type: match c.time {
                TimeFeatures::Sinusoidal { .. } => "positional",
                TimeFeatures::Fourier => "fourier",
                TimeFeatures::Learned { .. } => "learned",
            }
            .into(),
            up_block_types: c.up.iter().filter_map(|b| name_of(b, &UP)).collect(),
            upsample_type: resampling_name(c.upsample),
            _null_class: matches!(c.classes, Classes::Table { null: true, .. }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Two levels, with some keys replaced.
    fn read(changes: Value) -> Result<UNet2dConfig, ModelError> {
        let mut config = json!({
            "_class_name": CLASS,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
            "block_out_channels": [32, 64],
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        UNet2dConfig::from_json(&config.to_string())
    }

    #[test]
    fn absent_keys_have_the_defaults_of_the_class() {
        let config = read(json!({})).unwrap();
        assert_eq!(config.head_dim, Some(8));
        assert_eq!(config.norm_groups, Some(32));
        assert_eq!(config.time, TimeFeatures::Sinusoidal { cosine_first: true, shift: 0.0 });
        assert_eq!(config.time_embedding_width(), 128);
        assert_eq!((config.layers, config.mid, config.mid_attention), (2, true, true));
    }

    #[test]
    fn the_published_form_round_trips() {
        for changes in [
            json!({}),
            json!({"class_embed_type": "timestep", "sample_size": [16, 32], "attention_head_dim": null}),
            json!({"class_embed_type": "identity", "time_embedding_type": "fourier", "mid_block_type": null}),
            json!({"num_class_embeds": 10, "time_embedding_type": "learned", "num_train_timesteps": 50}),
            json!({"num_class_embeds": 11, "_null_class": true, "sample_size": 16, "act_fn": "gelu"}),
            json!({"resnet_time_scale_shift": "scale_shift", "downsample_type": "resnet", "upsample_type": "resnet"}),
            json!({"down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"], "norm_num_groups": null,
                   "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"], "attn_norm_num_groups": 16}),
        ] {
            let config = read(changes).unwrap();
            assert_eq!(UNet2dConfig::from_json(&config.to_json()).unwrap(), config);
            let serde = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<UNet2dConfig>(&serde).unwrap(), config);
        }
    }

    #[test]
    fn the_null_class_is_the_last_embedding() {
        let config = read(json!({"num_class_embeds": 11, "_null_class": true})).unwrap();
        assert_eq!(config.classes, Classes::Table { count: 10, null: true });
        let published: Value = serde_json::from_str(&config.to_json()).unwrap();
        assert_eq!(published["num_class_embeds"], 11);
        let plain = read(json!({"num_class_embeds": 11})).unwrap();
        assert_eq!(plain.classes, Classes::Table { count: 11, null: false });
        assert!(!plain.to_json().contains("_null_class"));
    }

    #[test]
    fn blocks_have_older_names() {
        let config = read(json!({"down_block_types": ["UNetResDownBlock2D", "UNetResAttnDownBlock2D"]})).unwrap();
        assert_eq!(config.down, [Block::Plain, Block::Attention]);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (changes, name) in [
            (json!({"down_block_types": ["DownBlock2D", "KDownBlock2D"]}), "down_block_types"),
            (json!({"up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}), "up_block_types"),
            (json!({"mid_block_type": "UNetMidBlock2DCrossAttn"}), "mid_block_type"),
            (json!({"time_embedding_type": "random"}), "time_embedding_type"),
            (json!({"time_embedding_type": "learned"}), "num_train_timesteps"),
            (json!({"class_embed_type": "projection"}), "class_embed_type"),
            (json!({"resnet_time_scale_shift": "spatial"}), "resnet_time_scale_shift"),
            (json!({"act_fn": "tanh"}), "act_fn"),
            (json!({"downsample_type": "pool"}), "downsample_type"),
            (json!({"upsample_type": "pixel"}), "upsample_type"),
        ] {
            let error = read(changes).unwrap_err();
            assert!(matches!(error, ModelError::Unsupported { key, .. } if key == name), "{name}: {error}");
        }
        let error = read(json!({"dual_cross_attention": false})).unwrap_err();
        assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
        let error = read(json!({"layers_per_block": "two"})).unwrap_err();
        assert!(matches!(&error, ModelError::BadValue { key, .. } if key == "layers_per_block"), "{error}");
        let error = read(json!({"_class_name": "UNet2DConditionModel"})).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { .. }), "{error}");
    }
}
