//! What is wrong with a configuration file is told in the words of the file: its path, its keys, and what a key accepts.

use std::collections::BTreeSet;

use burn::module::Module;
use langevin_core::Load;
use langevin_models::autoencoder::AutoencoderKlTemporalDecoderConfig;
use langevin_models::text::{BertConfig, ByteTextConfig, ClipTextConfig, ClipVisionConfig, T5EncoderConfig};
use langevin_models::unet::video::{
    MotionAdapterConfig, UNet3dConditionalConfig, UNetMotionConfig, UNetSpatioTemporalConfig,
};
use langevin_models::{
    AutoencoderKlConfig, ControlNetConfig, DiTConfig, Edm2UNetConfig, FluxConfig, MdmConfig, MlpConfig, ModelError,
    PixArtConfig, PriorConfig, Sd3Config, T2iAdapterConfig, TinyAutoencoderConfig, UNet1dConfig, UNet2dConditional,
    UNet2dConditionalConfig, UNet2dConfig, VqModelConfig,
};
use serde_json::{Value, json};

use crate::common::flex;

/// What happens to a configuration file.
enum Fate {
    /// It is refused.
    Refused(ModelError),
    /// It is read, but no network comes of it: too late to be told in the words of the file.
    TooLate(ModelError),
    /// It makes a network.
    Built,
}

fn fate<C, M: Module>(config: Result<C, ModelError>, init: impl Fn(&C) -> Result<M, ModelError>) -> Fate {
    match config.map(|config| init(&config)) {
        Err(error) => Fate::Refused(error),
        Ok(Err(error)) => Fate::TooLate(error),
        Ok(Ok(_)) => Fate::Built,
    }
}

/// A class: its smallest file that is built, and how it is read. The keys of the file are those of the default.
struct Class {
    name: &'static str,
    base: Value,
    keys: fn() -> Value,
    read: fn(&str) -> Fate,
}

macro_rules! class {
    ($config:ident, $base:expr, $default:expr) => {
        Class {
            name: stringify!($config),
            base: $base,
            keys: || $default,
            read: |json| fate($config::from_json(json), |config| config.init(&flex())),
        }
    };
    ($config:ident, $base:expr) => {
        class!($config, $base, {
            let config = $config::from_json(&$base.to_string()).unwrap();
            serde_json::from_str(&config.to_json()).unwrap()
        })
    };
}

fn classes() -> Vec<Class> {
    vec![
        class!(UNet2dConfig, json!({})),
        class!(UNet2dConditionalConfig, json!({})),
        class!(ControlNetConfig, json!({})),
        class!(UNet1dConfig, json!({ "extra_in_channels": 64 })),
        class!(UNet3dConditionalConfig, json!({})),
        class!(UNetMotionConfig, json!({})),
        class!(MotionAdapterConfig, json!({})),
        class!(UNetSpatioTemporalConfig, json!({})),
        class!(T2iAdapterConfig, json!({})),
        class!(DiTConfig, json!({})),
        class!(PixArtConfig, json!({})),
        class!(Sd3Config, json!({})),
        class!(FluxConfig, json!({})),
        class!(PriorConfig, json!({})),
        class!(MdmConfig, json!({}), serde_json::to_value(MdmConfig::default()).unwrap()),
        class!(Edm2UNetConfig, json!({})),
        class!(AutoencoderKlConfig, json!({})),
        class!(VqModelConfig, json!({})),
        class!(TinyAutoencoderConfig, json!({})),
        class!(AutoencoderKlTemporalDecoderConfig, json!({})),
        class!(BertConfig, json!({})),
        class!(ClipTextConfig, json!({})),
        class!(ClipVisionConfig, json!({})),
        class!(T5EncoderConfig, json!({})),
        class!(MlpConfig, json!({}), serde_json::to_value(MlpConfig::default()).unwrap()),
        class!(ByteTextConfig, json!({}), serde_json::to_value(ByteTextConfig::default()).unwrap()),
    ]
}

/// Other values for a key: zero, what divides nothing, the wrong length, another type.
fn others(value: &Value) -> Vec<Value> {
    let mut others = match value {
        Value::Number(_) => vec![json!(0), json!(7), json!(-1), json!(0.5)],
        Value::Array(list) => {
            vec![json!([]), Value::from(list[..list.len().saturating_sub(1)].to_vec()), json!([0, 7])]
        }
        _ => vec![],
    };
    others.extend([json!("nonsense"), json!(true), Value::Null, json!({})]);
    others
}

/// The key that an error blames.
fn blamed(error: &ModelError) -> Option<&str> {
    match error {
        ModelError::Config { field, .. } => Some(field),
        ModelError::Unsupported { key, .. } => Some(key),
        ModelError::BadValue { key, .. } => Some(key),
        _ => None,
    }
}

#[test]
fn errors_name_keys_of_the_file() {
    let mut wrong = BTreeSet::new();
    let mut refused = 0;
    for class in classes() {
        let Value::Object(keys) = (class.keys)() else { panic!("{}", class.name) };
        let of_class = ["architectures", "model_type"];
        let told = keys.iter().filter(|(key, _)| !key.starts_with('_') && !of_class.contains(&key.as_str()));
        for (key, value) in told {
            for other in others(value) {
                let mut file = class.base.clone();
                file[key] = other;
                match (class.read)(&file.to_string()) {
                    Fate::Refused(error) if blamed(&error).is_some_and(|name| keys.contains_key(name)) => refused += 1,
                    Fate::Refused(error) => drop(wrong.insert(format!("{}: {error}", class.name))),
                    Fate::TooLate(error) => drop(wrong.insert(format!("{}, when it is built: {error}", class.name))),
                    Fate::Built => (),
                }
            }
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 1000, "{refused}");
}

#[test]
fn errors_name_the_key_to_change() {
    let all = classes();
    for (name, key, value) in [
        ("UNet2dConfig", "norm_eps", json!(-1.0)),
        ("UNet2dConfig", "attention_head_dim", json!(0)),
        ("UNet2dConfig", "down_block_types", json!(["DownBlock2D"])),
        ("UNet2dConditionalConfig", "norm_eps", json!(0.0)),
        ("UNet2dConditionalConfig", "block_out_channels", json!([])),
        ("UNet2dConditionalConfig", "attention_head_dim", json!(0)),
        ("ControlNetConfig", "block_out_channels", json!([])),
        ("UNet3dConditionalConfig", "norm_eps", json!(0.0)),
        ("DiTConfig", "num_attention_heads", json!(0)),
        ("PixArtConfig", "norm_eps", json!(0.0)),
        ("Sd3Config", "joint_attention_dim", json!(0)),
        ("FluxConfig", "axes_dims_rope", json!([1, 2])),
        ("PriorConfig", "num_layers", json!(0)),
        ("AutoencoderKlConfig", "layers_per_block", json!(0)),
        ("VqModelConfig", "num_vq_embeddings", json!(0)),
        ("TinyAutoencoderConfig", "num_encoder_blocks", json!([])),
        ("BertConfig", "num_hidden_layers", json!(0)),
        ("ClipTextConfig", "num_attention_heads", json!(7)),
        ("ClipVisionConfig", "layer_norm_eps", json!(0.0)),
        ("T5EncoderConfig", "d_kv", json!(0)),
    ] {
        let class = all.iter().find(|class| class.name == name).unwrap();
        let mut file = class.base.clone();
        file[key] = value;
        let Fate::Refused(error) = (class.read)(&file.to_string()) else { panic!("{name}, {key} is taken") };
        assert_eq!(blamed(&error), Some(key), "{name}: {error}");
    }
}

#[test]
fn errors_tell_the_file_and_what_a_key_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for (json, parts) in [
        (r#"{"norm_eps": NaN}"#, ["`norm_eps` = NaN", "Python writes it"]),
        (r#"{"norm_eps": -1.0}"#, ["`norm_eps` is -1", "above 0"]),
        (
            r#"{"layers_per_block": "two"}"#,
            ["`layers_per_block` = \"two\"", "a list of such values, one for each level"],
        ),
        (r#"{"sample_size": [1, 2, 3]}"#, ["`sample_size` = [1,2,3]", "a list of two: height, width"]),
        (r#"{"block_out_channels": []}"#, ["`block_out_channels` is 0", "at least 1"]),
        (r#"{"down_block_types": ["A"]}"#, ["`down_block_types`", "`block_out_channels`"]),
    ] {
        std::fs::write(&path, json).unwrap();
        let error = UNet2dConditional::load(folder.path(), Load::on(&flex())).map(|_| ()).unwrap_err();
        assert!(matches!(error, ModelError::ConfigFile { .. }), "{error:?}");
        let text = error.to_string();
        for part in [&*path.display().to_string(), parts[0], parts[1]] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
