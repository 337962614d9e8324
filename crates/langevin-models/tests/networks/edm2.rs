//! The UNet of EDM2 as users meet it: magnitudes, gradients, weights, preconditioning and errors.

use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::noise::{Key, Seeded, like};
use langevin_core::process::Edm;
use langevin_core::{Denoiser, Levels, Network, Prediction, Process, Query};
use langevin_models::layers::cast_parameters;
use langevin_models::unet::{Edm2UNet, Edm2UNetConfig};
use langevin_models::weights::parameters;
use langevin_models::{Labels, Load, ModelError, Tap, Tapped};

fn small() -> Edm2UNetConfig {
    Edm2UNetConfig::new(2, 8, 8)
}

/// With gains as training would leave them: at their start the output is zero and the embedding does not count.
fn gained(mut net: Edm2UNet) -> Edm2UNet {
    let gain = |param: Param<Tensor<1>>, value: f64| param.map(|g| (g + value).detach().require_grad());
    let plain = |param: Param<Tensor<1>>, value: f64| param.map(|g| g + value);
    let trained = net.out_gain.val().is_require_grad();
    let set = |param, value| if trained { gain(param, value) } else { plain(param, value) };
    net.out_gain = set(net.out_gain, 1.0);
    for (_, block) in net.dec.iter_mut() {
        block.emb_gain = set(block.emb_gain.clone(), 0.5);
    }
    for (_, layer) in net.enc.iter_mut() {
        if let langevin_models::unet::Edm2Layer::Block(block) = layer {
            block.emb_gain = set(block.emb_gain.clone(), 0.5);
        }
    }
    net
}

fn normal(shape: [usize; 4], seed: u64, device: &Device) -> Tensor<4> {
    like(&Seeded::new(seed), &Tensor::zeros(shape, device), 0, Key::INITIAL).unwrap()
}

fn times(times: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(times, device)
}

struct Scale(f64);

impl ModuleMapper for Scale {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // Gains and features are no weights.
        if D == 1 { param } else { param.map(|tensor| tensor * self.0) }
    }
}

#[test]
fn parameters_have_the_published_names() {
    let net = Edm2UNetConfig::xs().init(&flex()).unwrap();
    let named = parameters(&net);
    let shape = |name: &str| {
        let found = named.iter().find(|p| p.name == name);
        found.unwrap_or_else(|| panic!("no parameter {name}")).shape.clone()
    };
    for (name, expected) in [
        ("emb_fourier.freqs", vec![128]),
        ("emb_fourier.phases", vec![128]),
        ("emb_noise.weight", vec![512, 128]),
        ("emb_label.weight", vec![512, 1000]),
        ("enc.64x64_conv.weight", vec![128, 5, 3, 3]),
        ("enc.64x64_block0.emb_gain", vec![1]),
        ("enc.64x64_block0.conv_res0.weight", vec![128, 128, 3, 3]),
        ("enc.64x64_block2.emb_linear.weight", vec![128, 512]),
        ("enc.32x32_down.conv_res1.weight", vec![128, 128, 3, 3]),
        ("enc.32x32_block0.conv_skip.weight", vec![256, 128, 1, 1]),
        ("enc.16x16_block1.attn_qkv.weight", vec![1152, 384, 1, 1]),
        ("enc.8x8_block2.attn_proj.weight", vec![512, 512, 1, 1]),
        ("dec.8x8_in0.attn_qkv.weight", vec![1536, 512, 1, 1]),
        ("dec.8x8_in1.conv_res0.weight", vec![512, 512, 3, 3]),
        ("dec.8x8_block3.conv_res0.weight", vec![512, 896, 3, 3]),
        ("dec.16x16_up.conv_res0.weight", vec![512, 512, 3, 3]),
        ("dec.64x64_block3.conv_skip.weight", vec![128, 256, 1, 1]),
        ("out_gain", vec![1]),
        ("out_conv.weight", vec![4, 128, 3, 3]),
    ] {
        assert_eq!(shape(name), expected, "{name}");
    }
    for absent in ["enc.64x64_block0.attn_qkv.weight", "dec.8x8_in1.attn_qkv.weight", "enc.32x32_down.conv_skip.weight"]
    {
        assert!(!named.iter().any(|p| p.name == absent), "{absent}");
    }
}

#[test]
fn magnitudes_stay_near_one_through_the_network() {
    let device = flex();
    let mut config = Edm2UNetConfig::new(4, 16, 32).classes(10);
    config.head_dim = 16;
    let net = config.init(&device).unwrap();
    let mut checked = 0;
    let mut see = |name: &str, value: Tapped<'_>| {
        let values: Vec<f64> = value.to_data().iter::<f64>().collect();
        let magnitude = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        // In the middle of a small random network single layers are off: activations have a mean, zeros surround the image,
        // attention averages. What blocks return is not: it would drift far over twenty of them. The output has no gain.
        let block = name.matches('.').count() == 1;
        let range = if block { 0.6..1.4 } else { 0.3..1.7 };
        let whole = name.starts_with("enc.") || name.starts_with("dec.") || name.starts_with("emb_");
        if whole && !name.contains("attn_proj") {
            assert!(range.contains(&magnitude), "{name}: {magnitude}");
            checked += 1;
        }
    };
    let x = normal([4, 4, 16, 16], 1, &device);
    let time = times(&[-1.4, -0.3, 0.0, 1.0], &device);
    let y = net.forward_with(x, time, &Labels::of([1, 2, 3, 4]), &mut Tap::new(&mut see)).unwrap();
    assert!(checked > 50, "{checked}");
    assert!(values(&y).iter().all(|v| *v == 0.0), "out_gain starts at zero");
}

#[test]
fn normalized_weights_keep_the_function_and_the_scale_of_weights_does_not_count() {
    let device = flex();
    let net = gained(small().classes(3).init(&device).unwrap());
    let x = normal([2, 2, 8, 8], 1, &device);
    let ask = |net: &Edm2UNet| net.forward(x.clone(), times(&[-1.0, 0.5], &device), &Labels::of([0, 2])).unwrap();
    let y = ask(&net);
    assert!(largest_difference(&y, &ask(&net.clone().map(&mut Scale(30.0)))) < 5e-3);
    let normalized = net.clone().map(&mut Scale(30.0)).normalized();
    assert!(largest_difference(&y, &ask(&normalized)) < 5e-3);
    let before = values(&net.emb_noise.weight.val());
    let after = values(&normalized.emb_noise.weight.val());
    let size = |row: &[f64]| (row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64).sqrt();
    for (before, after) in before.chunks(8).zip(after.chunks(8)) {
        assert!((size(after) - 1.0).abs() < 1e-3);
        assert!((before[0] / size(before) - after[0]).abs() < 1e-3);
    }
    // Training goes on with normalized weights: they are parameters as before.
    let training = small().init(&device.autodiff()).unwrap().normalized();
    assert!(training.out_conv.weight.val().is_require_grad());
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    for config in [small().classes(3), small()] {
        let labels = if config.classes > 0 { Labels::of([0, 2]) } else { Labels::none(2) };
        let net = gained(config.init(&device).unwrap());
        let y = net.forward(normal([2, 2, 8, 8], 1, &device), times(&[-1.0, 0.5], &device), &labels).unwrap();
        let gradients = (y.clone() * tensor(y.dims(), 0.9, &device)).sum().backward();
        assert_gradients_flow(&net, &gradients);
    }
}

#[test]
fn gradients_agree_with_differences() {
    let folder = tempfile::tempdir().unwrap();
    gained(small().classes(3).init(&flex()).unwrap()).save(folder.path()).unwrap();
    assert_gradient_agrees([1, 2, 8, 4], |device| {
        let net = Edm2UNet::load(folder.path(), Load::on(device).dtype(DType::F64)).unwrap();
        let device = device.clone();
        move |x| net.forward(x, times(&[-0.7], &device), &Labels::of([1])).unwrap()
    });
}

#[test]
fn half_precision_is_close_to_single() {
    let device = flex();
    let single = gained(small().classes(3).init(&device).unwrap());
    let half = cast_parameters(single.clone(), DType::F16);
    let x = normal([2, 2, 8, 8], 1, &device);
    let ask = |net: &Edm2UNet| net.forward(x.clone(), times(&[-1.0, 0.5], &device), &Labels::of([0, 2])).unwrap();
    let (half, single) = (ask(&half), ask(&single));
    assert_eq!(half.dtype(), DType::F32);
    let off = largest_difference(&half, &single);
    assert!(off > 0.0 && off < 0.05, "{off}");
    let net = small().classes(3).init(&device).unwrap();
    assert_names_what_is_not_finite(&net, x.clone(), times(&[-1.0, 0.5], &device), &Labels::of([0, 2]));
}

#[test]
fn folders_keep_configuration_and_weights_and_scalars_are_read_as_published() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let net = gained(small().classes(3).init(&device).unwrap());
    net.save(folder.path()).unwrap();
    let same = Edm2UNet::load(folder.path(), Load::on(&device)).unwrap();
    assert_eq!(same.config(), net.config());
    let x = normal([1, 2, 8, 8], 1, &device);
    let ask = |net: &Edm2UNet| values(&net.forward(x.clone(), times(&[-1.0], &device), &Labels::of([1])).unwrap());
    assert_eq!(ask(&same), ask(&net));
    // Published gains have no dimensions.
    let path = folder.path().join("diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let views: Vec<_> = file
        .iter()
        .map(|(name, view)| {
            let shape = if name.ends_with("gain") { vec![] } else { view.shape().to_vec() };
            (name.to_owned(), safetensors::tensor::TensorView::new(view.dtype(), shape, view.data()).unwrap())
        })
        .collect();
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    assert_eq!(ask(&Edm2UNet::load(folder.path(), Load::on(&device)).unwrap()), ask(&net));
}

#[test]
fn the_preconditioning_of_the_library_fits() {
    // D(x) = c_skip·x + c_out·F(c_in·x, ln(σ)/4), by hand and by the library.
    let device = flex();
    let net = gained(small().classes(3).init(&device).unwrap());
    let x = normal([2, 2, 8, 8], 1, &device) * 3.0;
    let (sigma, data) = (2.5f64, 0.5f64);
    let process = Edm::default();
    let level = process.level(sigma);
    let denoiser = net.denoiser(Prediction::Edm { sigma_data: data }, Labels::of([0, 2])).unwrap();
    let noise = Seeded::new(1);
    let levels = Levels::Shared(level);
    let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &noise };
    let given = denoiser.denoise(query).unwrap().x0().unwrap();
    let size = sigma * sigma + data * data;
    let time = times(&[sigma.ln() / 4.0], &device);
    let f = net.forward(x.clone() / size.sqrt(), time, &Labels::of([0, 2])).unwrap();
    let expected = x * (data * data / size) + f * (sigma * data / size.sqrt());
    assert!(largest_difference(&given, &expected) < 1e-4);
}

#[test]
fn the_class_and_its_absence_change_the_output() {
    let device = flex();
    let net = gained(small().classes(3).init(&device).unwrap());
    let x = normal([1, 2, 8, 8], 1, &device);
    let ask = |labels: Labels| net.forward(x.clone(), times(&[-1.0], &device), &labels).unwrap();
    let (zero, one, none) = (ask(Labels::of([0])), ask(Labels::of([1])), ask(Labels::none(1)));
    assert!(largest_difference(&zero, &one) > 1e-3);
    assert!(largest_difference(&zero, &none) > 1e-3);
}

#[test]
fn dropout_acts_in_training_only() {
    let device = flex().autodiff();
    let net = gained(small().dropout(0.5).init(&device).unwrap());
    let ask = |net: &Edm2UNet, device: &Device| {
        values(&net.forward(normal([1, 2, 8, 8], 1, device), times(&[-1.0], device), &Labels::none(1)).unwrap())
    };
    assert_ne!(ask(&net, &device), ask(&net, &device));
    let sampling = net.for_sampling();
    assert_eq!(ask(&sampling, &flex()), ask(&sampling, &flex()));
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = small().classes(3).init(&device).unwrap();
    let ask = |shape: [usize; 4], t: &[f64], labels: Labels| {
        net.forward_with(Tensor::zeros(shape, &device), times(t, &device), &labels, &mut Tap::none()).unwrap_err()
    };
    for shape in [[1, 3, 8, 8], [1, 2, 7, 8], [1, 2, 8, 0]] {
        let error = ask(shape, &[1.0], Labels::of([0]));
        assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{error}");
    }
    let error = ask([3, 2, 8, 8], &[1.0, 2.0], Labels::of([0]));
    assert!(matches!(error, ModelError::Shape { what: "time", .. }), "{error}");
    let error = ask([3, 2, 8, 8], &[1.0], Labels::of([0, 1]));
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = ask([1, 2, 8, 8], &[1.0], Labels::of([3]));
    assert!(matches!(error, ModelError::ClassOutOfRange { label: 3, classes: 3, .. }), "{error}");
    let error = ask([1, 2, 8, 8], &[1.0], Labels::values([0.5]));
    assert!(matches!(error, ModelError::ConditionKind { .. }), "{error}");
    net.check_shape(&[2, 8, 8]).unwrap();
    net.check_shape(&[2, 8, 7]).unwrap_err();
    net.check_condition(&Labels::of([3])).unwrap_err();
    let plain = small().init(&device).unwrap();
    plain.check_condition(&Labels::of([0])).unwrap_err();
}
