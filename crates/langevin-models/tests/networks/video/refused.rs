//! Inputs and configurations that networks for videos refuse.

use super::{NAMES, Net, changed};
use crate::common::{flex, tensor};
use burn::tensor::Tensor;
use langevin_models::unet::video::{
    MotionAdapterConfig, PerLevel, UNet3dConditionalConfig, UNetMotionConfig, UNetSpatioTemporalConfig, VideoLevel,
};
use langevin_models::{Load, ModelError};
use serde_json::json;

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    for name in NAMES {
        let net = Net::load(name, Load::on(&device));
        let told = net.told(1, &device);
        let good = net.shape(1);
        for axis in 1..5 {
            let mut shape = good;
            shape[axis] = if shape[axis] == 3 || axis > 2 { 0 } else { 9 };
            let error = net.ask(Tensor::zeros(shape, &device), &told).unwrap_err();
            assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{name} {shape:?}: {error}");
        }
        let x = || Tensor::zeros(good, &device);
        let mut wide = told.clone();
        wide.states = tensor([1, 5, 7], 0.4, &device);
        assert!(matches!(net.ask(x(), &wide), Err(ModelError::Shape { what: "text states", .. })), "{name}");
        assert!(matches!(net.ask(x(), &net.told(2, &device)), Err(ModelError::Rows { given: 2, .. })), "{name}");
        let pooled = told.clone().guidance([3.0]);
        assert!(matches!(net.ask(x(), &pooled), Err(ModelError::UnknownPart { part: "guidance" })), "{name}");
    }
    let net = Net::load("unet_svd", Load::on(&device));
    let mut told = net.told(1, &device);
    told.sizes = None;
    let error = net.ask(Tensor::zeros(net.shape(1), &device), &told).unwrap_err();
    assert!(matches!(error, ModelError::MissingPart { part: "sizes" }), "{error}");
    for (part, broken) in [
        ("sizes", net.told(1, &device).sizes([vec![6.0, 127.0]])),
        ("image", net.told(1, &device).image(tensor([1, 8, 4, 4], 0.1, &device))),
    ] {
        let ModelError::Shape { what, .. } = net.refusal(&broken) else { panic!("{part}") };
        assert_eq!(what, part);
    }
    assert!(matches!(
        net.refusal(&net.told(1, &device).sizes([vec![6.0, f64::NAN, 0.0]])),
        ModelError::NotFinite { .. }
    ));
    // More frames than positions.
    let net = Net::load("unet_motion", Load::on(&device));
    let error = net.ask(Tensor::zeros([1, 4, 9, 4, 4], &device), &net.told(1, &device)).unwrap_err();
    assert!(error.to_string().contains("1 to 8 frames"), "{error}");
}

#[test]
fn impossible_configurations_are_named() {
    let name_of = |error: ModelError| match error {
        ModelError::Config { field, .. } => field.to_owned(),
        ModelError::Unsupported { key, .. } => key.to_owned(),
        ModelError::BadValue { key, .. } => key,
        ModelError::UnknownKeys { keys, .. } => keys.concat(),
        other => panic!("{other}"),
    };
    let shared = [
        (json!({"in_channels": 0}), "in_channels"),
        (json!({"out_channels": 0}), "out_channels"),
        (json!({"block_out_channels": [32, 32, 32]}), "down_block_types"),
        (json!({"down_block_types": ["DownBlock2D", "DownBlock2D"]}), "down_block_types"),
        (json!({"up_block_types": []}), "up_block_types"),
        (json!({"layers_per_block": 0}), "layers_per_block"),
        (json!({"cross_attention_dim": 0}), "cross_attention_dim"),
        (json!({"unknown": 1}), "unknown"),
    ];
    let pixels = [
        (json!({"block_out_channels": [4, 6]}), "block_out_channels"),
        (json!({"norm_num_groups": 0}), "norm_num_groups"),
        (json!({"norm_eps": 0.0}), "norm_eps"),
        (json!({"downsample_padding": 2}), "downsample_padding"),
        (json!({"mid_block_scale_factor": 0.0}), "mid_block_scale_factor"),
        (json!({"act_fn": "tanh"}), "act_fn"),
        (json!({"time_cond_proj_dim": 1}), "time_cond_proj_dim"),
    ];
    type Read = fn(&str) -> Result<(), ModelError>;
    let read: [(&str, Read); 3] = [
        ("unet3d", |json| UNet3dConditionalConfig::from_json(json).map(drop)),
        ("unet_motion", |json| UNetMotionConfig::from_json(json).map(drop)),
        ("unet_svd", |json| UNetSpatioTemporalConfig::from_json(json).map(drop)),
    ];
    let own = [
        vec![
            (json!({"attention_head_dim": 0}), "attention_head_dim"),
            (json!({"attention_head_dim": 5}), "attention_head_dim"),
            (json!({"num_attention_heads": 2}), "num_attention_heads"),
        ],
        vec![
            (json!({"num_attention_heads": [1]}), "num_attention_heads"),
            (json!({"num_attention_heads": 5}), "num_attention_heads"),
            (json!({"motion_num_attention_heads": 0}), "motion_num_attention_heads"),
            (json!({"motion_max_seq_length": 0}), "motion_max_seq_length"),
            (json!({"transformer_layers_per_block": 0}), "transformer_layers_per_block"),
            (json!({"transformer_layers_per_block": [[1, 1], 1]}), "transformer_layers_per_block"),
            (json!({"temporal_transformer_layers_per_block": [1]}), "temporal_transformer_layers_per_block"),
            (json!({"transformer_layers_per_mid_block": [1, 1]}), "transformer_layers_per_mid_block"),
            (json!({"cross_attention_dim": [16, 8]}), "cross_attention_dim"),
            (json!({"addition_embed_type": "text"}), "addition_embed_type"),
            (json!({"addition_embed_type": "text_time"}), "addition_time_embed_dim"),
            (json!({"encoder_hid_dim": 4}), "encoder_hid_dim"),
            (json!({"encoder_hid_dim_type": "ip_image_proj"}), "encoder_hid_dim_type"),
            (json!({"reverse_motion_num_attention_heads": 2}), "reverse_motion_num_attention_heads"),
        ],
        vec![
            (json!({"block_out_channels": [48]}), "block_out_channels"),
            (json!({"addition_time_embed_dim": 5}), "projection_class_embeddings_input_dim"),
            (json!({"addition_time_embed_dim": 1}), "addition_time_embed_dim"),
            (json!({"num_attention_heads": 3}), "num_attention_heads"),
            (json!({"transformer_layers_per_block": 0}), "transformer_layers_per_block"),
            (json!({"num_frames": 0}), "num_frames"),
        ],
    ];
    for ((name, read), own) in read.iter().zip(own) {
        read(&changed(name, &json!({}))).unwrap();
        let pixels = if *name == "unet_svd" { &[][..] } else { &pixels[..] };
        for (changes, expected) in shared.iter().chain(pixels).chain(&own) {
            let error = read(&changed(name, changes)).unwrap_err();
            assert_eq!(name_of(error), *expected, "{name}: {changes}");
        }
        assert!(matches!(read(&changed(name, &json!({"_class_name": "Other"}))), Err(ModelError::WrongClass { .. })));
    }
    let read = |changes| {
        let json = changed("motion_adapter", &changes);
        name_of(MotionAdapterConfig::from_json(&json).unwrap_err())
    };
    for (changes, expected) in [
        (json!({"block_out_channels": []}), "block_out_channels"),
        (json!({"block_out_channels": [8, 6]}), "block_out_channels"),
        (json!({"motion_num_attention_heads": [2]}), "motion_num_attention_heads"),
        (json!({"motion_num_attention_heads": 9}), "motion_num_attention_heads"),
        (json!({"motion_max_seq_length": 0}), "motion_max_seq_length"),
        (json!({"motion_norm_num_groups": 0}), "motion_norm_num_groups"),
        (json!({"conv_in_channels": 0}), "conv_in_channels"),
        (json!({"motion_transformer_layers_per_block": 0}), "motion_transformer_layers_per_block"),
    ] {
        assert_eq!(read(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn published_forms_round_trip() {
    let motion = UNetMotionConfig {
        layers_per_block: PerLevel::Each(vec![1, 2]),
        block_out_channels: vec![32, 64],
        down_block_types: vec![VideoLevel::Plain, VideoLevel::Attention],
        up_block_types: vec![VideoLevel::Attention, VideoLevel::Plain],
        temporal_transformer_layers_per_block: PerLevel::Each(vec![PerLevel::Same(2), PerLevel::Same(1)]),
        ..UNetMotionConfig::default()
    };
    assert_eq!(UNetMotionConfig::from_json(&motion.to_json()).unwrap(), motion);
    let conditional = UNet3dConditionalConfig {
        act_fn: langevin_models::layers::Activation::Gelu,
        ..UNet3dConditionalConfig::default()
    };
    assert_eq!(UNet3dConditionalConfig::from_json(&conditional.to_json()).unwrap(), conditional);
    let spatio_temporal = UNetSpatioTemporalConfig { num_frames: 14, ..UNetSpatioTemporalConfig::default() };
    assert_eq!(UNetSpatioTemporalConfig::from_json(&spatio_temporal.to_json()).unwrap(), spatio_temporal);
}
