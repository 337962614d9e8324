//! The published configuration of diffusers' `UNet1DModel`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{DownKind, MidKind, OutKind, UNet1dConfig, UpKind};
use crate::error::ModelError;
use crate::layers::Activation;
use crate::published::{name_of, named, unsupported};
use crate::weights::{published_value, read_config};

/// The class that publishes this configuration.
const CLASS: &str = "UNet1DModel";

/// The keys of a published `config.json`, with the defaults of the class for absent ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PublishedUNet1d {
    act_fn: Option<String>,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    downsample_each_block: bool,
    extra_in_channels: usize,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    in_channels: usize,
    layers_per_block: usize,
    mid_block_type: Option<String>,
    norm_num_groups: Option<usize>,
    out_block_type: Option<String>,
    out_channels: usize,
    sample_rate: Option<usize>,
    sample_size: usize,
    time_embedding_dim: Option<usize>,
    time_embedding_type: String,
    up_block_types: Vec<String>,
    use_timestep_embedding: bool,
}

impl Default for PublishedUNet1d {
    fn default() -> Self {
        let strings = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            act_fn: None,
            block_out_channels: vec![32, 32, 64],
            down_block_types: strings(&["DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"]),
            downsample_each_block: false,
            extra_in_channels: 0,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            in_channels: 2,
            layers_per_block: 1,
            mid_block_type: Some("UNetMidBlock1D".into()),
            norm_num_groups: Some(8),
            out_block_type: None,
            out_channels: 2,
            sample_rate: None,
            sample_size: 65536,
            time_embedding_dim: None,
            time_embedding_type: "fourier".into(),
            up_block_types: strings(&["AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"]),
            use_timestep_embedding: false,
        }
    }
}

impl PublishedUNet1d {
    pub(super) fn read(json: &str) -> Result<Self, ModelError> {
        read_config(json, CLASS)
    }

    /// The JSON object with the class name.
    pub(super) fn to_value(&self) -> Value {
        published_value(self, CLASS)
    }
}

const DOWN: [(&str, DownKind); 4] = [
    ("DownResnetBlock1D", DownKind::Residual),
    ("DownBlock1D", DownKind::Plain),
    ("AttnDownBlock1D", DownKind::Attention),
    ("DownBlock1DNoSkip", DownKind::Time),
];

const MID: [(&str, MidKind); 3] = [
    ("MidResTemporalBlock1D", MidKind::Residual),
    ("ValueFunctionMidBlock1D", MidKind::Value),
    ("UNetMidBlock1D", MidKind::Attention),
];

const UP: [(&str, UpKind); 4] = [
    ("UpResnetBlock1D", UpKind::Residual),
    ("UpBlock1D", UpKind::Plain),
    ("AttnUpBlock1D", UpKind::Attention),
    ("UpBlock1DNoSkip", UpKind::Last),
];

const OUT: [(&str, OutKind); 2] = [("OutConv1DBlock", OutKind::Conv), ("ValueFunction", OutKind::Value)];

impl TryFrom<PublishedUNet1d> for UNet1dConfig {
    type Error = ModelError;

    fn try_from(p: PublishedUNet1d) -> Result<Self, ModelError> {
        let fourier = match p.time_embedding_type.as_str() {
            "fourier" => true,
            "positional" => false,
            other => return Err(unsupported("time_embedding_type", other, "\"fourier\" and \"positional\"")),
        };
        let activation = match p.act_fn.as_deref() {
            None => None,
            Some(name) => match Activation::from_name(name) {
                Some(activation) => Some(activation),
                None => {
                    let supported = "null, \"silu\", \"swish\", \"mish\", \"gelu\" and \"relu\"";
                    return Err(unsupported("act_fn", name, supported));
                }
            },
        };
        // Configurations from before the key was there: the only width that fits is that of the first block.
        let told = fourier && p.down_block_types.first().is_some_and(|name| name == "DownBlock1DNoSkip");
        let time_width = match p.time_embedding_dim {
            None | Some(0) if told && p.extra_in_channels > 0 => Some(p.extra_in_channels),
            // The class takes 0 for "not given", too.
            width => width.filter(|width| *width > 0),
        };
        let down = "DownResnetBlock1D, DownBlock1D, AttnDownBlock1D and DownBlock1DNoSkip";
        let up = "UpResnetBlock1D, UpBlock1D, AttnUpBlock1D and UpBlock1DNoSkip";
        let mid = "MidResTemporalBlock1D, ValueFunctionMidBlock1D and UNetMidBlock1D";
        let out = "null, \"OutConv1DBlock\" and \"ValueFunction\"";
        Ok(Self {
            sample_size: p.sample_size,
            sample_rate: p.sample_rate,
            in_channels: p.in_channels,
            out_channels: p.out_channels,
            extra_in_channels: p.extra_in_channels,
            fourier,
            time_width,
            cosine_first: p.flip_sin_to_cos,
            freq_shift: p.freq_shift,
            embed_time: p.use_timestep_embedding,
            down: (p.down_block_types.iter())
                .map(|name| named("down_block_types", name, &DOWN, down))
                .collect::<Result<_, _>>()?,
            mid: named("mid_block_type", p.mid_block_type.as_deref().unwrap_or("null"), &MID, mid)?,
            up: p.up_block_types.iter().map(|name| named("up_block_types", name, &UP, up)).collect::<Result<_, _>>()?,
            out: p.out_block_type.as_deref().map(|name| named("out_block_type", name, &OUT, out)).transpose()?,
            channels: p.block_out_channels,
            activation,
            norm_groups: p.norm_num_groups,
            layers: p.layers_per_block,
            downsample_each: p.downsample_each_block,
        })
    }
}

impl From<UNet1dConfig> for PublishedUNet1d {
    fn from(c: UNet1dConfig) -> Self {
        Self {
            act_fn: c.activation.map(|activation| activation.name().into()),
            block_out_channels: c.channels,
            down_block_types: c.down.iter().filter_map(|kind| name_of(kind, &DOWN)).collect(),
            downsample_each_block: c.downsample_each,
            extra_in_channels: c.extra_in_channels,
            flip_sin_to_cos: c.cosine_first,
            freq_shift: c.freq_shift,
            in_channels: c.in_channels,
            layers_per_block: c.layers,
            mid_block_type: name_of(&c.mid, &MID),
            norm_num_groups: c.norm_groups,
            out_block_type: c.out.and_then(|kind| name_of(&kind, &OUT)),
            out_channels: c.out_channels,
            sample_rate: c.sample_rate,
            sample_size: c.sample_size,
            time_embedding_dim: c.time_width,
            time_embedding_type: if c.fourier { "fourier" } else { "positional" }.into(),
            up_block_types: c.up.iter().filter_map(|kind| name_of(kind, &UP)).collect(),
            use_timestep_embedding: c.embed_time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The planner with two levels, with some keys replaced.
    fn read(changes: Value) -> Result<UNet1dConfig, ModelError> {
        let mut config = json!({
            "_class_name": CLASS,
            "in_channels": 6, "out_channels": 6, "sample_size": 16,
            "time_embedding_type": "positional", "use_timestep_embedding": true,
            "flip_sin_to_cos": false, "freq_shift": 1,
            "down_block_types": ["DownResnetBlock1D", "DownResnetBlock1D"],
            "mid_block_type": "MidResTemporalBlock1D",
            "up_block_types": ["UpResnetBlock1D"],
            "out_block_type": "OutConv1DBlock",
            "block_out_channels": [16, 32],
            "act_fn": "mish",
        });
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        UNet1dConfig::from_json(&config.to_string())
    }

    fn value() -> Value {
        json!({"up_block_types": [], "mid_block_type": "ValueFunctionMidBlock1D", "out_block_type": "ValueFunction",
               "downsample_each_block": true})
    }

    fn audio() -> Value {
        json!({"down_block_types": ["DownBlock1DNoSkip", "AttnDownBlock1D"], "block_out_channels": [32, 64],
               "up_block_types": ["AttnUpBlock1D", "UpBlock1DNoSkip"], "mid_block_type": "UNetMidBlock1D",
               "out_block_type": null, "act_fn": null, "use_timestep_embedding": false, "sample_rate": 16000,
               "time_embedding_type": "fourier", "time_embedding_dim": 16, "extra_in_channels": 16})
    }

    #[test]
    fn the_published_form_round_trips() {
        for changes in [json!({}), value(), audio(), json!({"norm_num_groups": null, "layers_per_block": 3})] {
            let config = read(changes).unwrap();
            assert_eq!(UNet1dConfig::from_json(&config.to_json()).unwrap(), config);
            let serde = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<UNet1dConfig>(&serde).unwrap(), config);
        }
        let built = UNet1dConfig::sequences(6, 16).channels(&[16, 32]);
        assert_eq!(read(json!({})).unwrap(), built);
    }

    #[test]
    fn the_time_fits_the_first_block_of_old_configurations() {
        let mut old = audio();
        old["time_embedding_dim"] = json!(null);
        assert_eq!(read(old).unwrap().time_features(), 16);
    }

    #[test]
    fn unknown_options_are_named() {
        for (key, given) in [
            ("time_embedding_type", json!("learned")),
            ("act_fn", json!("tanh")),
            ("down_block_types", json!(["DownBlock2D", "DownResnetBlock1D"])),
            ("up_block_types", json!(["UpBlock2D"])),
            ("mid_block_type", json!(null)),
            ("out_block_type", json!("Other")),
        ] {
            let error = read(json!({ key: given })).unwrap_err();
            assert!(matches!(error, ModelError::Unsupported { key: k, .. } if k == key), "{error}");
        }
        assert!(matches!(read(json!({"dropout": 0.1})), Err(ModelError::UnknownKeys { .. })));
        assert!(matches!(read(json!({"sample_size": -1})), Err(ModelError::BadValue { .. })));
        assert!(matches!(read(json!({"_class_name": "UNet2DModel"})), Err(ModelError::WrongClass { .. })));
    }

    #[test]
    fn impossible_values_are_named() {
        let with = |mut base: Value, changes: Value| {
            base.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            read(base)
        };
        for (given, name) in [
            (with(json!({}), json!({"sample_size": 0})), "sample_size"),
            (with(json!({}), json!({"in_channels": 0})), "in_channels"),
            (with(json!({}), json!({"out_channels": 0})), "out_channels"),
            (with(json!({}), json!({"block_out_channels": [16]})), "down_block_types"),
            (with(json!({}), json!({"block_out_channels": [16, 0]})), "block_out_channels"),
            (with(json!({}), json!({"block_out_channels": [16, 20]})), "block_out_channels"),
            (with(json!({}), json!({"up_block_types": vec!["UpResnetBlock1D"; 3]})), "up_block_types"),
            (with(json!({}), json!({"use_timestep_embedding": false})), "use_timestep_embedding"),
            (with(json!({}), json!({"act_fn": null})), "act_fn"),
            (with(json!({}), json!({"norm_num_groups": 3})), "norm_num_groups"),
            (with(json!({}), json!({"norm_num_groups": 0})), "norm_num_groups"),
            (with(json!({}), json!({"up_block_types": []})), "up_block_types"),
            (with(value(), json!({"up_block_types": ["UpResnetBlock1D"]})), "up_block_types"),
            (with(value(), json!({"block_out_channels": [16, 24]})), "block_out_channels"),
            (with(value(), json!({"mid_block_type": "MidResTemporalBlock1D"})), "mid_block_type"),
            (with(audio(), json!({"extra_in_channels": 8})), "extra_in_channels"),
            (with(audio(), json!({"time_embedding_dim": 17})), "time_embedding_dim"),
            (with(audio(), json!({"use_timestep_embedding": true, "act_fn": "silu"})), "use_timestep_embedding"),
            (with(audio(), json!({"block_out_channels": [32, 16]})), "block_out_channels"),
            (with(audio(), json!({"down_block_types": ["DownBlock1D", "DownBlock1DNoSkip"]})), "down_block_types"),
            (with(audio(), json!({"up_block_types": ["AttnUpBlock1D", "AttnUpBlock1D"]})), "out_channels"),
        ] {
            let error = given.unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
