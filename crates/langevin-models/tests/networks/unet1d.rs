//! The UNet for signals as users meet it: published folders, gradients, values and errors.

use std::path::PathBuf;

use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{Denoiser, Level, Levels, Network, Prediction, Query};
use langevin_models::unet::one_dimensional::{DownKind, MidKind, OutKind, UpKind};
use langevin_models::weights::parameters;
use langevin_models::{Labels, Load, ModelError, UNet1d, UNet1dConfig};

const FIXTURES: [(&str, [usize; 2]); 3] =
    [("unet1d_dance", [2, 32]), ("unet1d_rl", [6, 16]), ("unet1d_value", [6, 16])];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models").join(name)
}

fn planner() -> UNet1dConfig {
    UNet1dConfig::sequences(3, 8).channels(&[16, 32])
}

fn value() -> UNet1dConfig {
    UNet1dConfig {
        mid: MidKind::Value,
        up: vec![],
        out: Some(OutKind::Value),
        downsample_each: true,
        ..UNet1dConfig::sequences(3, 16).channels(&[32, 64])
    }
}

fn audio() -> UNet1dConfig {
    UNet1dConfig {
        extra_in_channels: 16,
        fourier: true,
        time_width: Some(16),
        embed_time: false,
        down: vec![DownKind::Time, DownKind::Attention],
        mid: MidKind::Attention,
        up: vec![UpKind::Attention, UpKind::Last],
        out: None,
        channels: vec![32, 32],
        activation: None,
        ..UNet1dConfig::sequences(2, 32)
    }
}

fn times(rows: usize, device: &Device) -> Tensor<1> {
    let times: Vec<f64> = (0..rows).map(|i| 0.3 + i as f64).collect();
    Tensor::from_data(times.as_slice(), device)
}

fn ask(net: &UNet1d, x: Tensor<3>) -> Tensor<3> {
    let rows = x.dims()[0];
    net.forward(x.clone(), times(rows, &x.device()), &Labels::none(rows)).unwrap()
}

#[test]
fn a_saved_network_is_the_same_network() {
    for (name, [channels, length]) in FIXTURES {
        let net = UNet1d::load(fixture(name), Load::on(&flex())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        net.save(folder.path()).unwrap();
        let again = UNet1d::load(folder.path(), Load::on(&flex())).unwrap();
        assert_eq!(net.config(), again.config());
        // The names in the file are those of the class: its attention was never renamed.
        let bytes = std::fs::read(folder.path().join("diffusion_pytorch_model.safetensors")).unwrap();
        let written = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let published = std::fs::read(fixture(name).join("diffusion_pytorch_model.safetensors")).unwrap();
        let published = safetensors::SafeTensors::deserialize(&published).unwrap();
        let sorted = |tensors: &safetensors::SafeTensors<'_>| {
            let mut names: Vec<_> = tensors.names().into_iter().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&written), sorted(&published));
        let x = tensor([2, channels, length], 0.3, &flex());
        assert_eq!(values(&ask(&net, x.clone())), values(&ask(&again, x)), "{name}");
    }
}

#[test]
fn half_precision_is_close_to_single() {
    for (name, [channels, length]) in FIXTURES {
        // Over many inputs: the result of a value network is one number each, a small sum of large terms, in which the rounding of the
        // weights to `bf16` alone makes an error of 0.043, and all of it 0.106 (0.112 by Burn's own operations).
        let inputs: Vec<_> =
            (0..60).map(|at| tensor([2, channels, length], 0.1 + 0.037 * f64::from(at), &flex())).collect();
        let every = |net: &UNet1d| -> Vec<f64> { inputs.iter().flat_map(|x| values(&ask(net, x.clone()))).collect() };
        let single = UNet1d::load(fixture(name), Load::on(&flex())).unwrap();
        assert_names_what_is_not_finite(&single, inputs[0].clone(), times(2, &flex()), &Labels::none(2));
        let expected = every(&single);
        let bf16 = if name == "unet1d_value" { 0.12 } else { 0.04 };
        for (dtype, bound) in [(DType::F16, 0.005), (DType::BF16, bf16)] {
            let half = UNet1d::load(fixture(name), Load::on(&flex()).dtype(dtype)).unwrap();
            assert_eq!(ask(&half, inputs[0].clone()).dtype(), DType::F32);
            let error: f64 = every(&half).iter().zip(&expected).map(|(g, e)| (g - e).powi(2)).sum();
            let size: f64 = expected.iter().map(|e| e * e).sum();
            let relative = (error / size).sqrt();
            assert!(relative > 0.0 && relative < bound, "{name} {dtype:?}: {relative}");
        }
    }
}

#[test]
fn gradients_agree_with_differences() {
    for (name, [channels, length]) in FIXTURES {
        assert_gradient_agrees([1, channels, length], |device| {
            let net = UNet1d::load(fixture(name), Load::on(device).dtype(DType::F64)).unwrap();
            move |x| ask(&net, x)
        });
    }
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    for (config, length) in [(planner(), 8), (planner().layers(0), 8), (value(), 16), (audio(), 32)] {
        let net = config.init(&device).unwrap();
        let y = ask(&net, tensor([2, config.in_channels, length], 0.3, &device));
        let gradients = (y.clone() * tensor(y.dims(), 0.9, &device)).sum().backward();
        let trained = |name: &str| !name.ends_with("key.bias");
        assert!(parameters(&net).iter().any(|p| trained(&p.name)));
        let found = crate::common::gradients(&net, &gradients);
        for (name, largest) in found.into_iter().filter(|(name, _)| trained(name)) {
            assert!(largest.is_some_and(|largest| largest > 1e-9), "{name}: {largest:?}");
        }
        if config != audio() {
            assert_gradients_flow(&net, &gradients);
        }
    }
}

#[test]
fn a_batch_and_its_samples_alone_agree() {
    for (name, [channels, length]) in FIXTURES {
        let net = UNet1d::load(fixture(name), Load::on(&flex())).unwrap();
        let x = tensor([3, channels, length], 0.3, &flex());
        let batch = ask(&net, x.clone());
        for row in 0..3 {
            let time = times(3, &flex()).narrow(0, row, 1);
            let alone = net.forward(x.clone().narrow(0, row, 1), time, &Labels::none(1)).unwrap();
            for (g, e) in values(&alone).iter().zip(values(&batch.clone().narrow(0, row, 1))) {
                assert!((g - e).abs() < 1e-4 * (1.0 + e.abs()), "{name}: {g} {e}");
            }
        }
    }
}

#[test]
fn the_value_is_the_output_of_a_network_for_values() {
    let net = value().init(&flex()).unwrap();
    let x = tensor([2, 3, 16], 0.3, &flex());
    let given = net.value(x.clone(), times(2, &flex())).unwrap();
    assert_eq!(given.dims(), [2]);
    assert_eq!(values(&given), values(&ask(&net, x.clone())));
    // It is no denoiser, and a planner gives no value.
    let error = net.check_shape(&[3, 16]).unwrap_err();
    assert!(error.to_string().contains("Value"), "{error}");
    let planner = planner().init(&flex()).unwrap();
    let error = planner.value(x, times(2, &flex())).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "out", .. }), "{error}");
    planner.check_shape(&[3, 8]).unwrap();
}

#[test]
fn lengths_and_channels_that_do_not_fit_are_errors() {
    let nets = [planner(), value(), audio()].map(|config| config.init(&flex()).unwrap());
    for (net, wrong) in
        nets.iter().zip([[[3, 0], [2, 8], [4, 8]], [[3, 0], [3, 17], [2, 16]], [[2, 6], [2, 34], [3, 32]]])
    {
        for [channels, length] in wrong {
            let error = net
                .forward_with(
                    Tensor::zeros([1, channels, length], &flex()),
                    times(1, &flex()),
                    &Labels::none(1),
                    &mut langevin_models::Tap::none(),
                )
                .unwrap_err();
            assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{error}");
            assert!(net.check_shape(&[channels, length]).is_err());
        }
    }
    // An odd length comes back longer: there is no sampling from that.
    assert_eq!(ask(&nets[0], tensor([1, 3, 7], 0.3, &flex())).dims(), [1, 3, 8]);
    assert!(nets[0].check_shape(&[3, 7]).is_err());
    let x = tensor([2, 3, 8], 0.3, &flex());
    let error = nets[0].forward(x.clone(), times(3, &flex()), &Labels::none(2)).unwrap_err();
    assert!(error.to_string().contains("time"), "{error}");
    assert!(nets[0].forward(x.clone(), times(2, &flex()), &Labels::of([1, 2])).is_err());
    assert!(nets[0].check_condition(&Labels::of([1])).is_err());
    assert!(nets[0].forward(x, times(2, &flex()), &Labels::none(3)).is_err());
}

#[test]
fn a_signal_is_denoised() {
    let net = planner().init(&flex()).unwrap();
    let denoiser = net.clone().denoiser(Prediction::Epsilon, Labels::none(1)).unwrap();
    let x = tensor([2, 3, 8], 0.3, &flex());
    let levels = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 0.3 });
    let noise = langevin_core::noise::Seeded::new(1);
    let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &noise };
    let given = denoiser.denoise(query).unwrap().output();
    let expected = net.forward(x, Tensor::from_data([0.3], &flex()), &Labels::none(2)).unwrap();
    assert!(largest_difference(&given, &expected) < 1e-6);
    assert!(net.describe().contains("UNet1DModel"));
}
