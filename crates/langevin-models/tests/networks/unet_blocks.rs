//! Blocks of text-conditional UNets against the original. `unets/make.py` says how the reference was made.

use crate::common::{assert_gradient_agrees, flex, tensor, values};
use crate::formula::{assert_agrees, filled, input, reference};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::Network;
use langevin_models::unet::conditional::{ControlResiduals, LevelBlock, Residuals};
use langevin_models::{Load, ModelError, Tap, Tapped, TextCondition, UNet2dConditional, UNet2dConditionalConfig};
use serde_json::{Value, json};

fn attention() -> Value {
    json!({
        "block_out_channels": [8, 16],
        "down_block_types": ["AttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "AttnUpBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": [4, 2],
        "cross_attention_dim": 6,
    })
}

fn upscaler() -> Value {
    json!({
        "in_channels": 8,
        "out_channels": 5,
        "act_fn": "gelu",
        "block_out_channels": [32, 64, 64],
        "down_block_types": ["KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"],
        "mid_block_type": null,
        "up_block_types": ["KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"],
        "layers_per_block": 2,
        "norm_num_groups": null,
        "attention_head_dim": 16,
        "cross_attention_dim": 6,
        "time_cond_proj_dim": 7,
        "resnet_time_scale_shift": "scale_shift",
        "time_embedding_type": "fourier",
        "timestep_post_act": "gelu",
        "conv_in_kernel": 1,
        "conv_out_kernel": 1,
    })
}

fn config(json: &Value) -> UNet2dConditionalConfig {
    UNet2dConditionalConfig::from_json(&json.to_string()).unwrap()
}

fn net(json: &Value, dtype: DType, device: &Device) -> UNet2dConditional {
    filled(config(json).init(device).unwrap(), &Load::on(device).dtype(dtype))
}

fn told(rows: usize, guided: bool, device: &Device) -> TextCondition {
    let text = TextCondition::new(input([2, 5, 6], 0.5, device).narrow(0, 0, rows));
    if guided { text.guidance_embedding(input([2, 7], 0.6, device).narrow(0, 0, rows)) } else { text }
}

#[test]
fn blocks_agree_with_the_original() {
    let (device, reference) = (flex(), reference("unets"));
    for (name, json, times, guided) in
        [("attention", attention(), [210.0, 390.0], false), ("upscaler", upscaler(), [0.7, 1.3], true)]
    {
        let net = net(&json, DType::F32, &device);
        let x = input([2, net.config().encoder.in_channels, 16, 8], 0.4, &device);
        let mask = Tensor::from_data([[1.0, 1.0, 0.0, 1.0, 1.0], [1.0; 5]], &device);
        let mut seen = vec![];
        let mut see = |layer: &str, data: Tapped<'_>| {
            let key = format!("{name}.{layer}");
            if let (Some(expected), Tapped::Rank4(given)) = (reference.get(&key), data) {
                let [_, channels, height, width] = given.dims();
                // The first sample, and each eighth channel.
                let some = values(&given.clone().narrow(0, 0, 1))
                    .chunks(height * width)
                    .step_by(8)
                    .flatten()
                    .copied()
                    .collect::<Vec<_>>();
                assert_eq!(some.len(), channels.div_ceil(8) * height * width);
                assert_agrees(&some, expected);
                seen.push(key);
            }
        };
        let cond = told(2, guided, &device).mask(mask);
        let time = Tensor::from_data(times, &device);
        let y = net.forward_with(x, time, &cond, &mut Tap::new(&mut see)).unwrap();
        assert_agrees(&values(&y), &reference[&format!("{name}.output")]);
        let expected = reference.keys().filter(|key| key.starts_with(name)).count() - 1;
        assert_eq!(seen.len(), expected, "{name}: {seen:?}");
    }
}

#[test]
fn blocks_are_saved_as_they_were() {
    let device = flex();
    for json in [attention(), upscaler()] {
        let net = net(&json, DType::F32, &device);
        let folder = tempfile::tempdir().unwrap();
        net.save(folder.path()).unwrap();
        let again = UNet2dConditional::load(folder.path(), Load::on(&device)).unwrap();
        assert_eq!(again.config(), net.config());
        let saved: Value = serde_json::from_str(&net.config().to_json()).unwrap();
        for (key, value) in json.as_object().unwrap() {
            assert_eq!(saved[key], *value, "{key}");
        }
    }
}

#[test]
fn gradients_agree_with_differences() {
    for (json, guided) in [(attention(), false), (upscaler(), true)] {
        let channels = config(&json).encoder.in_channels;
        assert_gradient_agrees([1, channels, 8, 8], |device| {
            let net = net(&json, DType::F64, device);
            let cond = told(1, guided, device);
            let device = device.clone();
            move |x| net.forward(x, Tensor::from_data([0.7], &device), &cond).unwrap()
        });
    }
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = net(&upscaler(), DType::F32, &device);
    let ask = |height, width| {
        let x = Tensor::zeros([1, 8, height, width], &device);
        net.forward_with(x, Tensor::from_data([0.7], &device), &told(1, true, &device), &mut Tap::none())
    };
    assert_eq!(ask(8, 12).unwrap().dims(), [1, 5, 8, 12]);
    for (height, width) in [(4, 8), (8, 10), (0, 8)] {
        let error = ask(height, width).unwrap_err();
        assert!(error.to_string().contains("multiples of 4 and at least 8"), "{error}");
    }
    let residual = tensor([1, 32, 8, 8], 0.1, &device);
    let control = Some(ControlResiduals { down: vec![residual.clone()], mid: residual });
    let (x, time) = (Tensor::zeros([1, 8, 8, 8], &device), Tensor::from_data([0.7], &device));
    let residuals = Residuals { control, features: vec![] };
    let error = net.forward_added(x, time, &told(1, true, &device), &residuals, &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported { key: "down_block_types", .. }), "{error}");

    let refused = |json: &Value, changes: Value| {
        let mut json = json.clone();
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        match UNet2dConditionalConfig::from_json(&json.to_string()).unwrap_err() {
            ModelError::Config { field, .. } => field,
            ModelError::Unsupported { key, .. } => key,
            other => panic!("{changes}: {other}"),
        }
    };
    for (changes, expected) in [
        (json!({"mid_block_type": "UNetMidBlock2D"}), "mid_block_type"),
        (
            json!({"down_block_types": ["KDownBlock2D", "KCrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 4}),
            "down_block_types",
        ),
        (json!({"up_block_types": ["KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "UpBlock2D"]}), "up_block_types"),
        (json!({"up_block_types": ["KUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"]}), "block_out_channels"),
        (json!({"down_block_types": ["KDownBlock2D", "KCrossAttnDownBlock2D", "KDownBlock2D"]}), "block_out_channels"),
        (json!({"time_embedding_type": "positional"}), "block_out_channels"),
        (json!({"block_out_channels": [32, 32, 64]}), "block_out_channels"),
        (json!({"attention_head_dim": 24}), "attention_head_dim"),
    ] {
        assert_eq!(refused(&upscaler(), changes.clone()), expected, "{changes}");
    }
    assert_eq!(refused(&attention(), json!({"norm_num_groups": null})), "norm_num_groups");
    assert_eq!(refused(&attention(), json!({"attention_head_dim": [3, 2]})), "attention_head_dim");
    let mut own = config(&attention());
    own.output_norm = false;
    assert!(matches!(own.validate(), Err(ModelError::Config { field: "output_norm", .. })));
    let mut narrow = config(&upscaler());
    narrow.encoder.levels[0].channels = 16;
    narrow.encoder.time_width = Some(64);
    assert!(matches!(narrow.init(&device), Err(ModelError::Config { field: "channels", .. })));
    assert_eq!(config(&upscaler()).up[2].block, LevelBlock::TimeNorm);
}
