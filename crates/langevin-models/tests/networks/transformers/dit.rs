//! The diffusion transformer for classes.

use super::{assert_half_precision, assert_refused, assert_shows_every_module, assert_unsupported, filled, slopes};
use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Network};
use langevin_models::layers::{Activation, Gate};
use langevin_models::{DiT, DiTConfig, Labels, Load, ModelError, Tap};

fn small() -> DiTConfig {
    DiTConfig::new(3, 8).heads(2, 6).layers(2).classes(5)
}

fn time(device: &Device) -> Tensor<1> {
    Tensor::from_data([3.0, 400.0], device)
}

fn labels() -> Labels {
    Labels::optional([Some(4), None])
}

fn ask(net: &DiT, x: Tensor<4>) -> Tensor<4> {
    let time = time(&x.device());
    net.forward_with(x, time, &labels(), &mut Tap::none()).unwrap()
}

#[test]
fn a_saved_network_is_loaded_as_it_was() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let mut config = small().out_channels(6).patch_size(4).dropout(0.1);
    config.gate = Gate::Gated(Activation::Silu);
    (config.attention_bias, config.norm_affine, config.norm_epsilon) = (false, true, 1e-3);
    let net = config.init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let same = DiT::load(folder.path(), Load::on(&device)).unwrap();
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
        net.forward_with(tensor([2, 3, 8, 8], 0.3, &device), time(&device), &labels(), tap).unwrap();
    });
    assert_names_what_is_not_finite(&net, tensor([2, 3, 8, 8], 0.3, &device), time(&device), &labels());
}

#[test]
fn images_need_not_be_square_and_patches_keep_their_place() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let x = tensor([2, 3, 4, 12], 0.3, &device);
    let y = ask(&net, x.clone());
    assert_eq!(y.dims(), [2, 3, 4, 12]);
    // Attention mixes all patches, but the places tell them apart: turning the image around is not turning the output.
    assert!(largest_difference(&ask(&net, x.flip([3])).flip([3]), &y) > 1e-3);
}

#[test]
fn the_class_and_its_absence_change_the_output() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let x = tensor([1, 3, 8, 8], 0.3, &device);
    let with = |labels: Labels| net.forward(x.clone(), Tensor::from_data([3.0], &device), &labels).unwrap();
    let (zero, one, none) = (with(Labels::of([0])), with(Labels::of([1])), with(Labels::none(1)));
    assert!(largest_difference(&zero, &one) > 1e-3);
    assert!(largest_difference(&zero, &none) > 1e-3);
}

#[test]
fn each_bad_field_is_named() {
    let with = |change: fn(&mut DiTConfig)| {
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
        (with(|c| c.classes = 0), "classes"),
        (with(|c| c.norm_epsilon = f64::NAN), "norm_epsilon"),
        (with(|c| c.patch_size = 0), "patch_size"),
        (with(|c| c.sample_size = 1), "sample_size"),
        (with(|c| c.head_dim = 3), "width"),
        (with(|c| c.dropout = 1.0), "dropout"),
        (with(|c| c.gate = Gate::Gated(Activation::Mish)), "gate"),
    ] {
        assert_refused(result, name);
    }
}

#[test]
fn published_options_without_an_implementation_are_named() {
    for (json, name) in [
        (r#"{"norm_type": "layer_norm"}"#, "norm_type"),
        (r#"{"num_embeds_ada_norm": null}"#, "num_embeds_ada_norm"),
        (r#"{"activation_fn": "relu"}"#, "activation_fn"),
    ] {
        assert_unsupported(DiTConfig::from_json(json), name);
    }
    let error = DiTConfig::from_json(r#"{"sample_sise": 3}"#).unwrap_err();
    assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    let config = DiTConfig::from_json("{}").unwrap();
    assert_eq!(config, DiTConfig::new(4, 32));
    assert_eq!(DiTConfig::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let ask = |shape, t: &[f64], labels: Labels| {
        let x = tensor::<4>(shape, 0.3, &device);
        net.forward_with(x, Tensor::from_data(t, &device), &labels, &mut Tap::none()).unwrap_err()
    };
    for shape in [[1, 2, 8, 8], [1, 3, 7, 8], [1, 3, 8, 9]] {
        let error = ask(shape, &[1.0], Labels::of([0]));
        assert!(matches!(&error, ModelError::Shape { what: "x", given, .. } if *given == shape), "{error}");
    }
    let error = ask([3, 3, 8, 8], &[1.0, 2.0], Labels::of([0]));
    assert!(matches!(error, ModelError::Shape { what: "time", .. }), "{error}");
    let error = ask([3, 3, 8, 8], &[1.0], Labels::of([0, 1]));
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = ask([2, 3, 8, 8], &[1.0], Labels::of([0, 5]));
    assert!(matches!(error, ModelError::ClassOutOfRange { row: 1, label: 5, classes: 5 }), "{error}");
    assert!(matches!(net.check_condition(&Labels::values([0.1])), Err(DenoiseError::Condition { .. })));
    assert!(matches!(net.check_shape(&[2, 8, 8]), Err(DenoiseError::Shape { .. })));
    net.check_shape(&[3, 8, 4]).unwrap();
    net.check_condition(&labels()).unwrap();
}
