//! The network for vectors.

use crate::common::{assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor, values};
use burn::tensor::{DType, Tensor};
use langevin_core::{DenoiseError, Denoiser, Network, Prediction};
use langevin_models::{Labels, Load, Mlp, MlpConfig, ModelError, Tap};

fn times(times: &[f64]) -> Tensor<1> {
    Tensor::from_data(times, &flex())
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    let net = MlpConfig::new(3).hidden(16).layers(2).time_features(8).classes(2).init(&device).unwrap();
    let x = tensor([4, 3], 0.3, &device);
    let time = Tensor::from_data([1.0, 20.0, 300.0, 999.0], &device);
    let y = net.forward(x, time, &Labels::optional([Some(0), Some(1), None, Some(1)])).unwrap();
    let gradients = (y * tensor([4, 3], 0.8, &device)).sum().backward();
    assert_gradients_flow(&net, &gradients);
}

#[test]
fn samples_do_not_see_one_another() {
    let device = flex();
    let net = MlpConfig::new(2).hidden(16).init(&device).unwrap();
    let x = tensor([3, 2], 0.3, &device);
    let batch = net.forward(x.clone(), times(&[1.0, 500.0, 30.0]), &Labels::none(3)).unwrap();
    for (row, t) in [1.0, 500.0, 30.0].iter().enumerate() {
        let alone = net.forward(x.clone().narrow(0, row, 1), times(&[*t]), &Labels::none(1)).unwrap();
        assert!(largest_difference(&alone, &batch.clone().narrow(0, row, 1)) < 1e-5);
    }
}

#[test]
fn time_and_class_change_the_output() {
    let device = flex();
    let net = MlpConfig::new(2).classes(3).init(&device).unwrap();
    // Points enough that, whatever the weights, one of them is not where two outputs happen to meet.
    let x = tensor([32, 2], 0.3, &device);
    let ask = |t: f64, labels| net.forward(x.clone(), times(&[t; 32]), &labels).unwrap();
    let base = ask(10.0, Labels::of([0; 32]));
    for other in [ask(600.0, Labels::of([0; 32])), ask(10.0, Labels::of([2; 32])), ask(10.0, Labels::none(32))] {
        assert!(largest_difference(&base, &other) > 1e-3);
    }
}

#[test]
fn the_time_scale_multiplies_the_time() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let net = MlpConfig::new(2).time_scale(1000.0).init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let plain = MlpConfig::new(2).init(&device).unwrap();
    let weights = folder.path().join("diffusion_pytorch_model.safetensors");
    let plain = langevin_models::weights::read_weights(plain, weights, &Load::on(&device)).unwrap();
    let x = tensor([1, 2], 0.3, &device);
    let scaled = net.forward(x.clone(), times(&[0.25]), &Labels::none(1)).unwrap();
    let steps = plain.forward(x, times(&[250.0]), &Labels::none(1)).unwrap();
    assert!(largest_difference(&scaled, &steps) < 1e-5);
}

#[test]
fn a_saved_network_is_the_same_network() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let net = MlpConfig::new(2).hidden(24).layers(2).classes(4).init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let again = Mlp::load(folder.path(), Load::on(&device)).unwrap();
    assert_eq!(net.config(), again.config());
    let x = tensor([1, 2], 0.3, &device);
    let outputs = [&net, &again].map(|n| values(&n.forward(x.clone(), times(&[7.0]), &Labels::of([3])).unwrap()));
    assert_eq!(outputs[0], outputs[1]);
    let half = Mlp::load(folder.path(), Load::on(&device).dtype(DType::F16)).unwrap();
    assert_names_what_is_not_finite(&net, x.clone(), times(&[7.0]), &Labels::of([3]));
    let y = half.forward(x, times(&[7.0]), &Labels::of([3])).unwrap();
    assert_eq!(y.dtype(), DType::F32);
    for (h, f) in values(&y).iter().zip(&outputs[0]) {
        assert!((h - f).abs() < 0.02, "{h} {f}");
    }
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = MlpConfig::new(2).classes(3).init(&device).unwrap();
    let ask = |shape: [usize; 2], t: &[f64], labels: Labels| {
        net.forward_with(tensor(shape, 0.3, &device), times(t), &labels, &mut Tap::none()).unwrap_err()
    };
    let error = ask([1, 3], &[1.0], Labels::of([0]));
    assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{error}");
    let error = ask([3, 2], &[1.0, 2.0], Labels::of([0]));
    assert!(matches!(error, ModelError::Shape { what: "time", .. }), "{error}");
    let error = ask([3, 2], &[1.0], Labels::of([0, 1]));
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = ask([1, 2], &[1.0], Labels::of([3]));
    assert!(matches!(error, ModelError::ClassOutOfRange { label: 3, .. }), "{error}");
    let plain = MlpConfig::new(2).init(&device).unwrap();
    let error = plain.forward(tensor([1, 2], 0.1, &device), times(&[1.0]), &Labels::of([0])).unwrap_err();
    assert!(matches!(error, DenoiseError::Condition { .. }), "{error}");
    assert!(plain.check_shape(&[3]).is_err());
    plain.check_shape(&[2]).unwrap();
    let error = plain.denoiser(Prediction::Velocity, Labels::none(1)).unwrap().check(&[4, 3]).unwrap_err();
    assert_eq!(error.to_string(), "x has shape [4, 3], expected [batch, 2]");
}

#[test]
fn each_bad_field_is_named() {
    let base = || MlpConfig::new(2);
    for (config, name) in [
        (MlpConfig::new(0), "dim"),
        (base().hidden(0), "hidden"),
        (base().layers(0), "layers"),
        (base().time_features(1), "time_features"),
        (base().time_scale(0.0), "time_scale"),
        (base().time_scale(f64::NAN), "time_scale"),
        (base().classes(0), "classes"),
    ] {
        let error = config.init(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
    }
}
