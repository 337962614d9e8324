//! Stable Diffusion 3 and 3.5.

use super::{assert_half_precision, assert_refused, assert_shows_every_module, assert_unsupported, filled, slopes};
use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Network};
use langevin_models::weights::parameters;
use langevin_models::{Load, ModelError, Sd3, Sd3Config, Tap, TextCondition};

/// The first block has a second attention, the last does not return the text.
fn small() -> Sd3Config {
    Sd3Config::new(3, 8, 5, 7).heads(2, 8).layers(2).largest(6).dual_attention([0]).qk_norm(true)
}

fn time(device: &Device) -> Tensor<1> {
    Tensor::from_data([3.0, 400.0], device)
}

fn text(device: &Device) -> TextCondition {
    TextCondition::new(tensor([2, 4, 5], 0.6, device)).pooled(tensor([2, 7], 0.2, device))
}

fn ask(net: &Sd3, x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    net.forward_with(x, time(&device), &text(&device), &mut Tap::none()).unwrap()
}

#[test]
fn a_saved_network_is_loaded_as_it_was() {
    let device = flex();
    for config in [small().patch_size(4), small().qk_norm(false).dual_attention([1])] {
        let folder = tempfile::tempdir().unwrap();
        let net = config.init(&device).unwrap();
        net.save(folder.path()).unwrap();
        let same = Sd3::load(folder.path(), Load::on(&device)).unwrap();
        assert_eq!(same.config(), net.config());
        let x = tensor([2, 3, 8, 8], 0.3, &device);
        assert_eq!(values(&ask(&same, x.clone())), values(&ask(&net, x)));
    }
}

#[test]
fn gradients_are_those_of_the_function_and_reach_every_parameter() {
    assert_gradient_agrees([2, 3, 4, 4], |device| {
        let net = filled(small().init(device).unwrap(), DType::F64);
        move |x| ask(&net, x)
    });
    let device = flex().autodiff();
    let net = small().init(&device).unwrap();
    let y = ask(&net, tensor([2, 3, 8, 8], 0.3, &device));
    // The queries of the text in the last block ask for what is not used after it.
    let mut net = net;
    let gradients = slopes(y);
    let last = net.transformer_blocks.last_mut().unwrap();
    (last.attn.add_q_proj, last.attn.norm_added_q) = (None, None);
    assert_gradients_flow(&net, &gradients);
}

#[test]
fn half_precision_is_close() {
    let device = flex();
    let x = tensor([2, 3, 8, 8], 0.3, &device);
    assert_half_precision(|| small().init(&device).unwrap(), &x, ask, [0.01, 0.08]);
}

#[test]
fn every_module_is_shown() {
    let device = flex();
    let net = small().init(&device).unwrap();
    assert_shows_every_module(&net, |tap| {
        net.forward_with(tensor([2, 3, 8, 8], 0.3, &device), time(&device), &text(&device), tap).unwrap();
    });
    assert_names_what_is_not_finite(&net, tensor([2, 3, 8, 8], 0.3, &device), time(&device), &text(&device));
}

#[test]
fn the_last_block_keeps_no_layers_for_the_text() {
    let names: Vec<String> = parameters(&small().init(&flex()).unwrap()).into_iter().map(|p| p.name).collect();
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    assert!(has("transformer_blocks.0.ff_context.net.2.weight") && has("transformer_blocks.0.attn2.to_q.weight"));
    assert!(!has("transformer_blocks.1.ff_context") && !has("transformer_blocks.1.attn.to_add_out"));
    assert!(has("transformer_blocks.1.attn.add_q_proj.weight") && !has("transformer_blocks.1.attn2"));
    assert!(has("pos_embed.pos_embed"));
}

#[test]
fn positions_are_those_of_the_middle_of_the_table() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let x = tensor([2, 3, 4, 12], 0.3, &device);
    let y = ask(&net, x.clone());
    // Of a table with 6 by 6 places these 2 by 6 patches use rows 2 and 3.
    let changed = |row: usize| {
        let mut net = net.clone();
        let table = net.pos_embed.pos_embed.take().unwrap();
        let more = tensor::<3>([1, 6, 16], 0.9, &device);
        let more = Tensor::zeros([1, 36, 16], &device).slice_assign([0..1, 6 * row..6 * row + 6, 0..16], more);
        net.pos_embed.pos_embed = Some(table.map(|table| table + more));
        largest_difference(&ask(&net, x.clone()), &y)
    };
    assert!(changed(1) == 0.0 && changed(4) == 0.0);
    assert!(changed(2) > 1e-3 && changed(3) > 1e-3);
}

#[test]
fn each_bad_field_is_named() {
    let with = |change: fn(&mut Sd3Config)| {
        let mut c = small();
        change(&mut c);
        c.init(&flex())
    };
    for (result, name) in [
        (with(|c| c.heads = 0), "heads"),
        (with(|c| c.head_dim = 0), "head_dim"),
        (with(|c| c.in_channels = 0), "in_channels"),
        (with(|c| c.out_channels = 0), "out_channels"),
        (with(|c| c.layers = 0), "layers"),
        (with(|c| c.text_width = 0), "text_width"),
        (with(|c| c.pooled_width = 0), "pooled_width"),
        (with(|c| c.largest = 0), "pos_embed_max_size"),
        (with(|c| c.dual_attention = vec![2]), "dual_attention"),
        (with(|c| c.patch_size = 0), "patch_size"),
        (with(|c| c.sample_size = 1), "sample_size"),
        (with(|c| c.head_dim = 3), "width"),
    ] {
        assert_refused(result, name);
    }
}

#[test]
fn published_options_without_an_implementation_are_named() {
    for (json, name) in [
        (r#"{"caption_projection_dim": 7}"#, "caption_projection_dim"),
        (r#"{"pos_embed_max_size": null}"#, "pos_embed_max_size"),
        (r#"{"qk_norm": "layer_norm"}"#, "qk_norm"),
    ] {
        assert_unsupported(Sd3Config::from_json(json), name);
    }
    let error = Sd3Config::from_json(r#"{"force_zeros_for_pooled_projection": true}"#).unwrap_err();
    assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    let config = Sd3Config::from_json("{}").unwrap();
    assert_eq!(config, Sd3Config::new(16, 128, 4096, 2048));
    assert_eq!(Sd3Config::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let ask = |shape, text: &TextCondition| {
        let x = tensor::<4>(shape, 0.3, &device);
        net.forward_with(x, Tensor::from_data([1.0], &device), text, &mut Tap::none()).unwrap_err()
    };
    for shape in [[2, 2, 8, 8], [2, 3, 7, 8], [2, 3, 8, 14]] {
        let error = ask(shape, &text(&device));
        assert!(matches!(&error, ModelError::Shape { what: "x", given, .. } if *given == shape), "{error}");
    }
    let error = ask([3, 3, 8, 8], &text(&device));
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = ask([2, 3, 8, 8], &TextCondition::new(tensor([2, 4, 5], 0.6, &device)));
    assert!(matches!(error, ModelError::MissingPart { part: "pooled" }), "{error}");
    let error = ask([2, 3, 8, 8], &text(&device).pooled(tensor([2, 6], 0.2, &device)));
    assert!(matches!(error, ModelError::Shape { what: "pooled text", .. }), "{error}");
    let error = ask([2, 3, 8, 8], &text(&device).mask(Tensor::ones([2, 4], &device)));
    assert!(matches!(error, ModelError::UnknownPart { part: "mask" }), "{error}");
    assert!(matches!(net.check_shape(&[3, 8, 14]), Err(DenoiseError::Shape { .. })));
    net.check_shape(&[3, 12, 4]).unwrap();
    net.check_condition(&text(&device)).unwrap();
}
