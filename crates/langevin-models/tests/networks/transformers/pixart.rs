//! PixArt.

use super::{assert_half_precision, assert_refused, assert_shows_every_module, assert_unsupported, filled, slopes};
use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Network};
use langevin_models::layers::{Activation, Gate};
use langevin_models::{Load, ModelError, PixArt, PixArtConfig, Tap, TextCondition};

fn small() -> PixArtConfig {
    PixArtConfig::new(3, 8, 5).heads(2, 6).layers(2).sizes(true)
}

fn time(device: &Device) -> Tensor<1> {
    Tensor::from_data([3.0, 400.0], device)
}

fn states(device: &Device) -> TextCondition {
    TextCondition::new(tensor([2, 4, 5], 0.6, device))
}

fn text(device: &Device) -> TextCondition {
    states(device)
        .mask(Tensor::from_data([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]], device))
        .sizes([vec![64.0, 48.0, 1.5], vec![8.0, 8.0, 1.0]])
}

fn ask(net: &PixArt, x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    net.forward_with(x, time(&device), &text(&device), &mut Tap::none()).unwrap()
}

#[test]
fn a_saved_network_is_loaded_as_it_was() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let mut config = small().out_channels(6).patch_size(4).interpolation_scale(2.0);
    config.gate = Gate::None(Activation::Silu);
    (config.attention_bias, config.norm_affine, config.norm_epsilon) = (false, true, 1e-3);
    let net = config.init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let same = PixArt::load(folder.path(), Load::on(&device)).unwrap();
    assert_eq!(same.config(), net.config());
    let x = tensor([2, 3, 8, 8], 0.3, &device);
    assert_eq!(values(&ask(&same, x.clone())), values(&ask(&net, x)));
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
    assert_gradients_flow(&net, &slopes(y));
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
fn masked_tokens_are_not_seen() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let x = tensor([2, 3, 8, 8], 0.3, &device);
    let ask = |text: &TextCondition| net.forward_with(x.clone(), time(&device), text, &mut Tap::none()).unwrap();
    let before = ask(&text(&device));
    let mut other = text(&device);
    let last = tensor::<3>([2, 1, 5], 3.1, &device);
    other.states = Tensor::cat(vec![other.states.narrow(1, 0, 3), last], 1);
    assert!(largest_difference(&before, &ask(&other)) < 1e-6);
    other.mask = None;
    assert!(largest_difference(&before, &ask(&other)) > 1e-4);
}

#[test]
fn each_size_changes_the_output() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let x = tensor([2, 3, 8, 8], 0.3, &device);
    let ask = |sizes: [f64; 3]| {
        let text = states(&device).sizes(vec![sizes.to_vec(); 2]);
        net.forward_with(x.clone(), time(&device), &text, &mut Tap::none()).unwrap()
    };
    let base = ask([64.0, 48.0, 1.5]);
    for sizes in [[65.0, 48.0, 1.5], [64.0, 49.0, 1.5], [64.0, 48.0, 1.6]] {
        assert!(largest_difference(&base, &ask(sizes)) > 1e-4, "{sizes:?}");
    }
}

#[test]
fn each_bad_field_is_named() {
    let with = |change: fn(&mut PixArtConfig)| {
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
        (with(|c| c.caption_channels = Some(0)), "caption_channels"),
        (with(|c| c.context = 5), "context"),
        (with(|c| (c.head_dim, c.context) = (8, 16)), "heads"),
        (with(|c| c.norm_epsilon = 0.0), "norm_epsilon"),
        (with(|c| c.interpolation_scale = -1.0), "interpolation_scale"),
        (with(|c| c.patch_size = 0), "patch_size"),
        (with(|c| c.sample_size = 1), "sample_size"),
        (with(|c| c.dropout = f64::NAN), "dropout"),
        (with(|c| c.gate = Gate::Gated(Activation::Mish)), "gate"),
    ] {
        assert_refused(result, name);
    }
}

#[test]
fn published_options_without_an_implementation_are_named() {
    for (json, name) in [
        (r#"{"norm_type": "ada_norm_zero"}"#, "norm_type"),
        (r#"{"attention_type": "gated"}"#, "attention_type"),
        (r#"{"num_embeds_ada_norm": null}"#, "num_embeds_ada_norm"),
        (r#"{"cross_attention_dim": null}"#, "cross_attention_dim"),
        (r#"{"activation_fn": "relu"}"#, "activation_fn"),
    ] {
        assert_unsupported(PixArtConfig::from_json(json), name);
    }
    let error = PixArtConfig::from_json(r#"{"class_embed_type": null}"#).unwrap_err();
    assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    let config = PixArtConfig::from_json("{}").unwrap();
    assert_eq!((config.interpolation_scale, config.sizes, config.text_width()), (2.0, true, 1152));
    assert_eq!(PixArtConfig::from_json(&config.to_json()).unwrap(), config);
    let small = PixArtConfig::from_json(r#"{"sample_size": 64}"#).unwrap();
    assert_eq!((small.interpolation_scale, small.sizes), (1.0, false));
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let ask = |shape, text: &TextCondition| {
        let x = tensor::<4>(shape, 0.3, &device);
        net.forward_with(x, Tensor::from_data([1.0], &device), text, &mut Tap::none()).unwrap_err()
    };
    for shape in [[2, 2, 8, 8], [2, 3, 7, 8], [2, 3, 8, 9]] {
        let error = ask(shape, &text(&device));
        assert!(matches!(&error, ModelError::Shape { what: "x", given, .. } if *given == shape), "{error}");
    }
    let error = ask([3, 3, 8, 8], &text(&device));
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = ask([2, 3, 8, 8], &states(&device));
    assert!(matches!(error, ModelError::MissingPart { part: "sizes" }), "{error}");
    let error = ask([2, 3, 8, 8], &states(&device).sizes(vec![vec![1.0, 2.0]; 2]));
    assert!(matches!(error, ModelError::Shape { what: "sizes", .. }), "{error}");
    let error = ask([2, 3, 8, 8], &text(&device).guidance([1.0, 1.0]));
    assert!(matches!(error, ModelError::UnknownPart { part: "guidance" }), "{error}");
    let error = ask([2, 3, 8, 8], &TextCondition::new(tensor([2, 4, 6], 0.6, &device)));
    assert!(matches!(error, ModelError::Shape { what: "text states", .. }), "{error}");
    assert!(matches!(net.check_shape(&[2, 8, 8]), Err(DenoiseError::Shape { .. })));
    assert!(net.check_condition(&states(&device)).is_err());
    assert!(net.check_condition(&states(&device).sizes(vec![vec![1.0, f64::NAN, 1.0]; 2])).is_err());
    net.check_condition(&text(&device)).unwrap();
}
