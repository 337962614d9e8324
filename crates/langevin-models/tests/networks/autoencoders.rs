//! The autoencoders as users meet them: tiles and MoVQ against the original, gradients, precision, files and errors.
//! `autoencoders/make.py` says how the reference was made.

use std::collections::BTreeMap;

use crate::common::{assert_gradient_agrees, assert_gradients_flow, flex, largest_difference, tensor, values};
use crate::formula::{self, assert_agrees, filled, input};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use langevin_models::autoencoder::{
    AutoencoderKl, AutoencoderKlConfig, Block, CoderConfig, Tiling, TinyAutoencoder, TinyAutoencoderConfig, VqModel,
    VqModelConfig,
};
use langevin_models::layers::cast_parameters;
use langevin_models::weights::parameters;
use langevin_models::{Load, ModelError, Tap, Tapped};

fn kl() -> AutoencoderKlConfig {
    let mut config = AutoencoderKlConfig::new(3, 4, &[4, 8]);
    config.layers = 1;
    config.norm_groups = 4;
    config.sample_size = [16, 16];
    config
}

fn movq() -> VqModelConfig {
    let mut config = VqModelConfig::new(3, 4, &[32, 64], 24);
    config.layers = 1;
    config.norm_groups = 8;
    config.down[1] = Block::Attention;
    config.up[0] = Block::Attention;
    config.spatial = true;
    config
}

fn tiny() -> TinyAutoencoderConfig {
    TinyAutoencoderConfig::new(4, 4, &[1, 1, 1, 1])
}

fn reference() -> BTreeMap<String, Vec<f64>> {
    formula::reference("autoencoders")
}

#[test]
fn tiles_of_the_autoencoder_agree_with_the_original() {
    let (device, reference) = (flex(), reference());
    let whole = filled(kl().init(&device).unwrap(), &Load::on(&device));
    let net = whole.clone().tiled(Some(kl().tiling())).unwrap();
    let x = input([1, 3, 38, 29], 0.4, &device);
    let posterior = net.encode(x.clone()).unwrap();
    assert_agrees(&values(&posterior.mean()), &reference["kl.tiled.mean"]);
    assert_agrees(&values(&posterior.log_variance()), &reference["kl.tiled.logvar"]);
    let z = input([1, 4, 19, 13], 0.5, &device);
    let image = net.decode(z.clone()).unwrap();
    assert_agrees(&values(&image), &reference["kl.tiled.image"]);
    // It is not the image decoded at once, and a small one is not cut.
    assert!(largest_difference(&image, &whole.decode(z).unwrap()) > 1e-3);
    let small = input([1, 4, 8, 7], 0.5, &device);
    assert_eq!(values(&net.decode(small.clone()).unwrap()), values(&whole.decode(small).unwrap()));
    let back = net.tiled(None).unwrap().encode(x.clone()).unwrap();
    assert_eq!(values(&back.mean()), values(&whole.encode(x).unwrap().mean()));
}

#[test]
fn tiles_of_the_tiny_autoencoder_agree_with_the_original() {
    let (device, reference) = (flex(), reference());
    let net = filled(tiny().init(&device).unwrap(), &Load::on(&device));
    let tiled = net.clone().tiled(Some(Tiling { sample: 32, latent: 4, overlap: 0.5 })).unwrap();
    let latents = tiled.encode(input([1, 3, 56, 40], 0.4, &device)).unwrap();
    assert_agrees(&values(&latents), &reference["tiny.tiled.latents"]);
    let image = tiled.decode(input([1, 4, 7, 5], 0.5, &device)).unwrap();
    assert_agrees(&values(&image), &reference["tiny.tiled.image"]);
    assert_agrees(&values(&net.scale_latents(input([1, 4, 2, 2], 0.6, &device) * 5.0)), &reference["tiny.scaled"]);
    assert_agrees(&values(&net.unscale_latents(input([1, 4, 2, 2], 0.7, &device))), &reference["tiny.unscaled"]);
    tiny().init(&device).unwrap().tiled(Some(tiny().tiling())).unwrap();
}

#[test]
fn a_movq_agrees_with_the_original() {
    let (device, reference) = (flex(), reference());
    let net = filled(movq().init(&device).unwrap(), &Load::on(&device));
    assert_agrees(&values(&net.encode(input([2, 3, 10, 8], 0.4, &device)).unwrap()), &reference["movq.latents"]);
    let z = input([2, 4, 5, 4], 0.5, &device);
    let image = net.decode(z.clone()).unwrap();
    assert_agrees(&values(&image), &reference["movq.image"]);
    let unquantized = net.decode_unquantized(z.clone(), &mut Tap::none()).unwrap();
    assert_agrees(&values(&unquantized), &reference["movq.unquantized"]);
    let quantized = net.quantize(z).unwrap();
    assert_agrees(&values(&quantized.latents), &reference["movq.quantized"]);
    assert_agrees(&values(&quantized.loss), &reference["movq.loss"]);
    let rows: Vec<f64> = quantized.indices.to_data().iter::<f64>().collect();
    assert_eq!(rows, reference["movq.indices"]);
    // Rows of the codebook decode to the same image.
    let same = net.decode_codes(quantized.indices.reshape([2, 5, 4]), &mut Tap::none()).unwrap();
    assert!(largest_difference(&image, &same) < 1e-5);
}

#[test]
fn slices_change_nothing() {
    let device = flex();
    let net = kl().init(&device).unwrap();
    let x = tensor([3, 3, 8, 12], 0.3, &device);
    let z = tensor([3, 4, 4, 6], 0.4, &device);
    let sliced = net.clone().sliced(true);
    let means = [net.encode(x.clone()).unwrap().mean(), sliced.encode(x.clone()).unwrap().mean()];
    assert!(largest_difference(&means[0], &means[1]) < 1e-5);
    assert!(largest_difference(&net.decode(z.clone()).unwrap(), &sliced.decode(z.clone()).unwrap()) < 1e-5);
    let mut count = 0;
    let mut see = |name: &str, _: Tapped<'_>| count += usize::from(name == "decoder");
    sliced.decode_with(z.clone(), &mut Tap::new(&mut see)).unwrap();
    assert_eq!(count, 3);
    let net = tiny().init(&device).unwrap();
    let sliced = net.clone().sliced(true);
    assert!(largest_difference(&net.encode(x.clone()).unwrap(), &sliced.encode(x).unwrap()) < 1e-5);
    assert!(largest_difference(&net.decode(z.clone()).unwrap(), &sliced.decode(z).unwrap()) < 1e-5);
}

#[test]
fn latents_are_scaled_for_a_diffusion_model_and_back() {
    let device = flex();
    let z = tensor([2, 4, 3, 3], 0.3, &device);
    let mut config = kl();
    config.scaling_factor = 0.5;
    config.shift_factor = Some(0.25);
    let net = config.init(&device).unwrap();
    let latents = net.to_latents(z.clone()).unwrap();
    assert!(largest_difference(&latents, &((z.clone() - 0.25) * 0.5)) < 1e-6);
    assert!(largest_difference(&net.from_latents(latents).unwrap(), &z) < 1e-6);
    config.latents_mean = Some(vec![0.1, 0.2, 0.3, 0.4]);
    config.latents_std = Some(vec![1.0, 2.0, 3.0, 4.0]);
    let net = config.init(&device).unwrap();
    let latents = net.to_latents(z.clone()).unwrap();
    let third = (z.clone().narrow(1, 2, 1) - 0.3) * (0.5 / 3.0);
    assert!(largest_difference(&latents.clone().narrow(1, 2, 1), &third) < 1e-6);
    assert!(largest_difference(&net.from_latents(latents).unwrap(), &z) < 1e-6);
    let error = net.to_latents(tensor([1, 3, 2, 2], 0.3, &device)).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "z", .. }), "{error}");
    let mut config = tiny();
    config.scaling_factor = 2.0;
    config.shift_factor = 0.5;
    let net = config.init(&device).unwrap();
    let latents = net.to_latents(z.clone());
    assert!(largest_difference(&latents, &((z.clone() - 0.5) * 2.0)) < 1e-6);
    assert!(largest_difference(&net.from_latents(latents), &z) < 1e-6);
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    let weighed = |y: Tensor<4>| (y.clone() * tensor(y.dims(), 0.9, &device)).sum();
    let x = || tensor([2, 3, 8, 8], 0.3, &device);
    let net = kl().init(&device).unwrap();
    let posterior = net.encode(x()).unwrap();
    let z = posterior.sample_with(tensor([2, 4, 4, 4], 0.6, &device)).unwrap();
    let loss = weighed(net.decode(z).unwrap()) + posterior.divergence().sum();
    assert_gradients_flow(&net, &loss.backward());
    let net = movq().init(&device).unwrap();
    let z = net.encode(x()).unwrap();
    let loss = net.quantize(z.clone()).unwrap().loss + weighed(net.decode(z).unwrap());
    assert_gradients_flow(&net, &loss.backward());
    // Wide enough that no ReLU silences a layer.
    let net = TinyAutoencoderConfig::new(4, 16, &[1, 1]).init(&device).unwrap();
    let loss = weighed(net.decode(net.encode(x()).unwrap()).unwrap());
    assert_gradients_flow(&net, &loss.backward());
}

#[test]
fn gradients_agree_with_differences() {
    fn net<M: Module>(net: M, device: &Device) -> M {
        filled(net, &Load::on(device).dtype(DType::F64))
    }
    assert_gradient_agrees([1, 3, 6, 4], |device| {
        let net = net(kl().init(device).unwrap(), device);
        move |x| {
            let posterior = net.encode(x).unwrap();
            net.decode(posterior.mean() + posterior.std()).unwrap()
        }
    });
    assert_gradient_agrees([1, 4, 3, 2], |device| {
        let net = net(movq().init(device).unwrap(), device);
        move |z| net.decode_unquantized(z, &mut Tap::none()).unwrap()
    });
    assert_gradient_agrees([1, 3, 6, 4], |device| {
        let net = net(movq().init(device).unwrap(), device);
        move |x| net.encode(x).unwrap()
    });
    assert_gradient_agrees([1, 4, 3, 2], |device| {
        let net = net(tiny().init(device).unwrap(), device);
        // Its outputs hardly vary.
        move |z| net.decode(z).unwrap() * 100.0
    });
}

#[test]
fn half_precision_is_close_to_single() {
    let device = flex();
    let x = tensor([1, 3, 16, 16], 0.3, &device);
    let z = tensor([1, 4, 4, 4], 0.3, &device);
    let load = Load::on(&device);
    let close = |half: Tensor<4>, single: Tensor<4>| {
        assert_eq!(half.dtype(), DType::F32, "the output has the type of the input");
        let size = values(&single).iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let off = largest_difference(&half, &single) / size;
        assert!(off > 0.0 && off < 2e-2, "{off}");
    };
    let single = filled(kl().init(&device).unwrap(), &load);
    let half = cast_parameters(single.clone(), DType::F16);
    close(half.encode(x.clone()).unwrap().mean(), single.encode(x.clone()).unwrap().mean());
    close(half.decode(z.clone()).unwrap(), single.decode(z.clone()).unwrap());
    let single = filled(movq().init(&device).unwrap(), &load);
    let half = cast_parameters(single.clone(), DType::F16);
    close(half.encode(x.clone()).unwrap(), single.encode(x.clone()).unwrap());
    let raw = |net: &VqModel| net.decode_unquantized(z.clone(), &mut Tap::none()).unwrap();
    close(raw(&half), raw(&single));
    let single = filled(tiny().init(&device).unwrap(), &load);
    let half = cast_parameters(single.clone(), DType::F16);
    close(half.encode(x.clone()).unwrap(), single.encode(x).unwrap());
    close(half.decode(z.clone()).unwrap(), single.decode(z).unwrap());
}

#[test]
fn a_network_that_overflows_in_f16_keeps_its_weights_in_f32() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    for (force_upcast, asked, expected) in [
        (true, DType::F16, DType::F32),
        (true, DType::BF16, DType::BF16),
        (true, DType::F64, DType::F64),
        (false, DType::F16, DType::F16),
    ] {
        let mut config = kl();
        config.force_upcast = force_upcast;
        config.init(&device).unwrap().save(folder.path()).unwrap();
        let net = AutoencoderKl::load(folder.path(), Load::on(&device).dtype(asked)).unwrap();
        assert_eq!(net.encoder.conv_in.weight.val().dtype(), expected);
        let z = tensor([1, 4, 4, 4], 0.3, &device).cast(DType::F16);
        assert_eq!(net.decode(z).unwrap().dtype(), DType::F16);
        let mut config = movq();
        config.force_upcast = force_upcast;
        config.init(&device).unwrap().save(folder.path()).unwrap();
        let net = VqModel::load(folder.path(), Load::on(&device).dtype(asked)).unwrap();
        assert_eq!(net.encoder.conv_in.weight.val().dtype(), expected);
    }
}

#[test]
fn folders_keep_configuration_and_weights() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let load = || Load::on(&device);
    let z = tensor([1, 4, 4, 4], 0.3, &device);
    let net = kl().init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let same = AutoencoderKl::load(folder.path(), load()).unwrap();
    assert_eq!(same.config(), net.config());
    assert_eq!(values(&same.decode(z.clone()).unwrap()), values(&net.decode(z.clone()).unwrap()));
    let error = VqModel::load(folder.path(), load()).unwrap_err();
    let ModelError::ConfigFile { problem, .. } = &error else { panic!("{error}") };
    assert!(matches!(**problem, ModelError::WrongClass { expected: "VQModel", .. }), "{error}");
    let net = movq().init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let same = VqModel::load(folder.path(), load()).unwrap();
    assert_eq!(same.config(), net.config());
    assert_eq!(values(&same.decode(z.clone()).unwrap()), values(&net.decode(z.clone()).unwrap()));
    let net = tiny().init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let same = TinyAutoencoder::load(folder.path(), load()).unwrap();
    assert_eq!(same.config(), net.config());
    assert_eq!(values(&same.decode(z.clone()).unwrap()), values(&net.decode(z).unwrap()));
    // Without its weights, and with those of another configuration.
    std::fs::write(folder.path().join("config.json"), kl().to_json()).unwrap();
    let error = AutoencoderKl::load(folder.path(), load()).unwrap_err();
    assert!(matches!(error, ModelError::Weights { .. }), "{error}");
    let missing = AutoencoderKl::load(folder.path().join("no"), load()).unwrap_err();
    assert!(matches!(missing, ModelError::Io { .. }), "{missing}");
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let zeros = |shape: [usize; 4]| Tensor::<4>::zeros(shape, &device);
    let refused = |error: ModelError, argument: &str| {
        assert!(matches!(error, ModelError::Shape { what, .. } if what == argument), "{argument}: {error}");
    };
    let net = kl().init(&device).unwrap();
    for shape in [[1, 4, 8, 8], [0, 3, 8, 8], [1, 3, 1, 8], [1, 3, 8, 1]] {
        refused(net.encode(zeros(shape)).unwrap_err(), "x");
    }
    for shape in [[1, 3, 8, 8], [0, 4, 8, 8], [1, 4, 0, 8]] {
        refused(net.decode(zeros(shape)).unwrap_err(), "z");
    }
    // The last tile would have a single pixel.
    let tiled = net.clone().tiled(Some(Tiling { sample: 8, latent: 4, overlap: 0.25 })).unwrap();
    refused(tiled.encode(zeros([1, 3, 8, 13])).unwrap_err(), "x");
    assert_eq!(tiled.encode(zeros([1, 3, 8, 15])).unwrap().mean().dims(), [1, 4, 4, 7]);
    let error = net.tiled(Some(Tiling { sample: 8, latent: 2, overlap: 0.25 })).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "sample", .. }), "{error}");

    let net = movq().init(&device).unwrap();
    refused(net.encode(zeros([1, 4, 8, 8])).unwrap_err(), "x");
    refused(net.decode(zeros([1, 3, 8, 8])).unwrap_err(), "z");
    refused(net.quantize(zeros([1, 3, 8, 8])).unwrap_err(), "z");
    refused(net.decode_unquantized(zeros([1, 3, 8, 8]), &mut Tap::none()).unwrap_err(), "z");
    for index in [24i64, -1] {
        let codes = Tensor::<3, Int>::from_data([[[0, index]]], &device);
        let error = net.decode_codes(codes, &mut Tap::none()).unwrap_err();
        assert!(matches!(error, ModelError::CodeOutOfRange { index: i, codes: 24 } if i == index), "{error}");
    }
    let empty = Tensor::<3, Int>::zeros([1, 0, 2], &device);
    refused(net.decode_codes(empty, &mut Tap::none()).unwrap_err(), "indices");

    let net = tiny().init(&device).unwrap();
    refused(net.encode(zeros([1, 4, 8, 8])).unwrap_err(), "x");
    refused(net.decode(zeros([1, 3, 8, 8])).unwrap_err(), "z");
    let tiled = net.tiled(Some(Tiling { sample: 32, latent: 4, overlap: 0.5 })).unwrap();
    refused(tiled.encode(zeros([1, 3, 32, 36])).unwrap_err(), "x");
    let mut config = tiny();
    config.upsampling = 3;
    let error = config.init(&device).unwrap().tiled(Some(tiny().tiling())).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "upsampling", .. }), "{error}");
    let mut config = CoderConfig::new(3, 4, &[32]);
    config.spatial = true;
    let error = config.encoder(&device).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "spatial", .. }), "{error}");
}

#[test]
fn modules_with_parameters_are_all_shown() {
    let device = flex();
    let shown = |run: &dyn Fn(&mut Tap<'_>)| {
        let mut names = Vec::new();
        let mut see = |name: &str, _: Tapped<'_>| names.push(name.to_owned());
        run(&mut Tap::new(&mut see));
        names
    };
    let check = |parameters: Vec<langevin_models::weights::Parameter>, names: &[String]| {
        for parameter in parameters {
            let (module, _) = parameter.name.rsplit_once('.').unwrap();
            assert!(names.iter().any(|n| n == module), "{module}");
        }
    };
    let net = kl().init(&device).unwrap();
    check(
        parameters(&net),
        &shown(&|tap| {
            let z = net.encode_with(tensor([1, 3, 8, 8], 0.3, &device), tap).unwrap().mode();
            net.decode_with(z, tap).unwrap();
        }),
    );
    let net = movq().init(&device).unwrap();
    check(
        parameters(&net),
        &shown(&|tap| {
            let z = net.encode_with(tensor([1, 3, 8, 8], 0.3, &device), tap).unwrap();
            net.decode_with(z, tap).unwrap();
        }),
    );
    let net = tiny().init(&device).unwrap();
    check(
        parameters(&net),
        &shown(&|tap| {
            let z = net.encode_with(tensor([1, 3, 8, 8], 0.3, &device), tap).unwrap();
            net.decode_with(z, tap).unwrap();
        }),
    );
}
