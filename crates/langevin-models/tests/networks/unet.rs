//! The UNet as users meet it: gradients, conditions, guidance, names, and errors.

use crate::common::{assert_gradients_flow, flex, largest_difference, tensor, values};
use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use langevin_core::{DenoiseError, Denoiser, Level, Levels, Network, Prediction, Query};
use langevin_models::unet::{Block, Classes, Resampling, TimeFeatures};
use langevin_models::weights::{parameters, read_weights, write_weights};
use langevin_models::{Labels, Load, ModelError, Tap, Tapped, UNet2d, UNet2dConfig};

fn small() -> UNet2dConfig {
    UNet2dConfig::images(1, 8).channels(&[8, 16]).layers(1)
}

fn skip() -> UNet2dConfig {
    let mut config = UNet2dConfig::images(3, 8).channels(&[32, 32]).layers(1);
    config.down = vec![Block::Skip, Block::AttentionSkip];
    config.up = vec![Block::AttentionSkip, Block::Skip];
    config.norm_groups = None;
    config.time = TimeFeatures::Fourier;
    config
}

fn times(times: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(times, device)
}

/// The forward pass of an example that fits the network.
fn example(net: &UNet2d, device: &Device) -> Tensor<4> {
    let config = net.config();
    let labels = match config.classes {
        Classes::None => Labels::none(2),
        Classes::Table { .. } => Labels::of([0, 1]),
        Classes::Timestep => Labels::values([3.0, 30.0]),
        Classes::Identity => Labels::embeddings(tensor([2, config.time_embedding_width()], 0.2, device)),
    };
    let x = tensor([2, config.in_channels, 8, 8], 0.3, device);
    net.forward(x, times(&[3.0, 40.0], device), &labels).unwrap()
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    let with = |mut config: UNet2dConfig, change: fn(&mut UNet2dConfig)| {
        change(&mut config);
        config
    };
    for config in [
        small().classes(3),
        small().scale_shift(true).resampling(Resampling::Residual).head_dim(4),
        small().attention_at(&[0, 1]).resampling(Resampling::Residual).layers(2),
        with(small(), |c| c.classes = Classes::Timestep),
        with(small(), |c| c.time = TimeFeatures::Learned { steps: 50 }),
        with(small(), |c| c.downsample_padding = 0),
        with(skip(), |_| ()),
    ] {
        let net = config.init(&device).unwrap();
        let y = example(&net, &device);
        let weights = tensor(y.dims(), 0.9, &device);
        let gradients = (y * weights).sum().backward();
        assert_gradients_flow(&net, &gradients);
    }
}

#[test]
fn names_shown_are_the_published_module_paths() {
    let device = flex();
    let net = small().scale_shift(true).classes(2).init(&device).unwrap();
    let mut names = Vec::new();
    let mut see = |name: &str, _: Tapped<'_>| names.push(name.to_owned());
    let x = tensor([1, 1, 8, 8], 0.3, &device);
    net.forward_with(x, times(&[3.0], &device), &Labels::of([1]), &mut Tap::new(&mut see)).unwrap();
    let mut expected: Vec<String> = Vec::new();
    let mut add = |prefix: &str, names: &[&str]| {
        expected.extend(names.iter().map(|n| match (prefix, *n) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        }));
    };
    let resnet = ["norm1", "conv1", "time_emb_proj", "norm2", "dropout", "conv2", ""];
    let widening = ["norm1", "conv1", "time_emb_proj", "norm2", "dropout", "conv2", "conv_shortcut", ""];
    let attention = ["group_norm", "to_q", "to_k", "to_v", "to_out.0", ""];
    add("", &["time_proj"]);
    add("time_embedding", &["linear_1", "act", "linear_2", ""]);
    add("", &["class_embedding", "conv_in"]);
    add("down_blocks.0.resnets.0", &resnet);
    add("down_blocks.0.downsamplers.0", &["conv", ""]);
    add("down_blocks.0", &["0", "1.0", "1.1"]);
    add("down_blocks.1.resnets.0", &widening);
    add("down_blocks.1.attentions.0", &attention);
    add("down_blocks.1", &["0", "1.0"]);
    add("mid_block.resnets.0", &resnet);
    // Where the time scales and shifts, the middle attention has no normalization by default.
    add("mid_block.attentions.0", &attention[1..]);
    add("mid_block.resnets.1", &resnet);
    add("", &["mid_block"]);
    for i in 0..2 {
        add(&format!("up_blocks.0.resnets.{i}"), &widening);
        add(&format!("up_blocks.0.attentions.{i}"), &attention);
    }
    add("up_blocks.0.upsamplers.0", &["conv", ""]);
    add("", &["up_blocks.0"]);
    add("up_blocks.1.resnets.0", &widening);
    add("up_blocks.1.resnets.1", &widening);
    add("", &["up_blocks.1", "conv_norm_out", "conv_act", "conv_out"]);
    assert_eq!(names, expected);
}

#[test]
fn modules_with_parameters_are_all_shown() {
    let device = flex();
    for config in [small().classes(2), skip(), small().resampling(Resampling::Residual).attention_at(&[0, 1])] {
        let net = config.init(&device).unwrap();
        let mut names = Vec::new();
        let mut see = |name: &str, _: Tapped<'_>| names.push(name.to_owned());
        let x = tensor([1, config.in_channels, 8, 8], 0.3, &device);
        let labels = if config.classes == Classes::None { Labels::none(1) } else { Labels::of([1]) };
        net.forward_with(x, times(&[3.0], &device), &labels, &mut Tap::new(&mut see)).unwrap();
        for parameter in parameters(&net) {
            let (module, _) = parameter.name.rsplit_once('.').unwrap();
            assert!(names.iter().any(|n| n == module), "{module}");
        }
    }
}

#[test]
fn the_class_and_its_absence_change_the_output() {
    let device = flex();
    let net = small().classes(3).init(&device).unwrap();
    let x = tensor([1, 1, 8, 8], 0.3, &device);
    let ask = |labels: Labels| net.forward(x.clone(), times(&[30.0], &device), &labels).unwrap();
    let (zero, one, none) = (ask(Labels::of([0])), ask(Labels::of([1])), ask(Labels::none(1)));
    assert!(largest_difference(&zero, &one) > 1e-3);
    assert!(largest_difference(&zero, &none) > 1e-3);
    assert!(largest_difference(&one, &none) > 1e-3);
}

#[test]
fn an_identity_embedding_is_added_to_the_time_embedding() {
    // Adding the vector is the same as adding it to the last bias of the time embedding.
    let device = flex();
    let mut config = small();
    config.classes = Classes::Identity;
    let mut net = config.init(&device).unwrap();
    let width = config.time_embedding_width();
    let vector = tensor([1, width], 0.6, &device);
    let x = tensor([1, 1, 8, 8], 0.3, &device);
    let time = times(&[30.0], &device);
    let given = net.forward(x.clone(), time.clone(), &Labels::embeddings(vector.clone())).unwrap();
    let zero = Labels::embeddings(Tensor::zeros([1, width], &device));
    assert!(largest_difference(&given, &net.forward(x.clone(), time.clone(), &zero).unwrap()) > 1e-3);
    let bias = net.time_embedding.linear_2.bias.take().unwrap();
    net.time_embedding.linear_2.bias = Some(bias.map(|b| b + vector.reshape([width])));
    assert!(largest_difference(&given, &net.forward(x, time, &zero).unwrap()) < 1e-5);
}

#[test]
fn a_learned_time_is_a_row_of_the_table() {
    let device = flex();
    let mut config = small();
    config.time = TimeFeatures::Learned { steps: 4 };
    let net = config.init(&device).unwrap();
    let x = tensor([1, 1, 8, 8], 0.3, &device);
    let table = parameters(&net).into_iter().find(|p| p.name == "time_proj.weight").unwrap();
    assert_eq!(table.shape, [4, 8]);
    let y = net.forward(x.clone(), times(&[3.0], &device), &Labels::none(1)).unwrap();
    let other = net.forward(x.clone(), times(&[2.0], &device), &Labels::none(1)).unwrap();
    assert!(largest_difference(&y, &other) > 1e-4);
    for bad in [4.0, -1.0, 1.5, f64::NAN] {
        let error =
            net.forward_with(x.clone(), times(&[bad], &device), &Labels::none(1), &mut Tap::none()).unwrap_err();
        assert!(matches!(error, ModelError::StepOutOfRange { steps: 4, .. }), "{bad}: {error}");
    }
}

#[test]
fn centering_is_an_affine_map_of_the_input() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let plain = small().init(&device).unwrap();
    write_weights(&plain, &path).unwrap();
    let mut config = small();
    config.center_input = true;
    let centered = read_weights(config.init(&device).unwrap(), &path, &Load::on(&device)).unwrap();
    let x = tensor([1, 1, 8, 8], 0.3, &device);
    let ask = |net: &UNet2d, x| net.forward(x, times(&[3.0], &device), &Labels::none(1)).unwrap();
    let expected = ask(&plain, x.clone() * 2.0 - 1.0);
    assert!(largest_difference(&ask(&centered, x), &expected) < 1e-6);
}

#[test]
fn one_time_serves_all_samples() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let x = tensor([3, 1, 8, 8], 0.3, &device);
    let ask = |t: &[f64]| net.forward(x.clone(), times(t, &device), &Labels::none(3)).unwrap();
    assert!(largest_difference(&ask(&[7.0]), &ask(&[7.0; 3])) < 1e-6);
}

#[test]
fn networks_without_a_middle_or_attention_run() {
    let device = flex();
    let mut config = small().attention_at(&[]);
    config.mid = false;
    let net = config.init(&device).unwrap();
    assert!(parameters(&net).iter().all(|p| !p.name.contains("mid_block") && !p.name.contains("attention")));
    assert_eq!(example(&net, &device).dims(), [2, 1, 8, 8]);
}

#[test]
fn images_need_not_be_square_or_of_the_size_in_the_configuration() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let x = tensor([1, 1, 12, 6], 0.3, &device);
    let y = net.forward(x, times(&[3.0], &device), &Labels::none(1)).unwrap();
    assert_eq!(y.dims(), [1, 1, 12, 6]);
}

#[test]
fn dropout_acts_in_training_only() {
    let device = flex().autodiff();
    let net = small().dropout(0.5).init(&device).unwrap();
    let ask = |net: &UNet2d| example(net, &device);
    assert!(largest_difference(&ask(&net), &ask(&net)) > 1e-3);
    let sampling = net.for_sampling();
    let plain = flex();
    let ask = || example(&sampling, &plain);
    assert_eq!(values(&ask()), values(&ask()));
    assert!(!ask().device().is_autodiff());
}

#[test]
fn guidance_extrapolates_from_no_class() {
    let device = flex();
    let net = small().classes(10).init(&device).unwrap();
    let x = tensor([2, 1, 8, 8], 0.3, &device);
    let levels = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 500.0 });
    let noise = langevin_core::noise::Seeded::new(1);
    let ask = |denoiser: &dyn Denoiser<4>| {
        let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &noise };
        denoiser.denoise(query).unwrap().output()
    };
    let bound = |labels| net.denoiser(Prediction::Epsilon, labels).unwrap();
    let with = ask(&bound(Labels::of([3, 7])));
    let without = ask(&bound(Labels::none(2)));
    let guided = ask(&bound(Labels::of([3, 7])).guided(Labels::none(2), 2.0).unwrap());
    let expected = without.clone() + (with - without) * 2.0;
    assert!(largest_difference(&guided, &expected) < 1e-4);
    // One row serves all samples.
    let single = ask(&bound(Labels::of([3, 7])).guided(Labels::none(1), 2.0).unwrap());
    assert!(largest_difference(&guided, &single) < 1e-6);
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = small().classes(3).init(&device).unwrap();
    let x = |shape| tensor::<4>(shape, 0.3, &device);
    let ask =
        |x, t: &[f64], labels: Labels| net.forward_with(x, times(t, &device), &labels, &mut Tap::none()).unwrap_err();
    for shape in [[1, 2, 8, 8], [1, 1, 7, 8], [1, 1, 8, 9]] {
        let error = ask(x(shape), &[1.0], Labels::of([0]));
        assert!(matches!(&error, ModelError::Shape { what: "x", given, .. } if *given == shape), "{error}");
    }
    let error = ask(x([3, 1, 8, 8]), &[1.0, 2.0], Labels::of([0]));
    assert!(matches!(error, ModelError::Shape { what: "time", .. }), "{error}");
    let error = ask(x([3, 1, 8, 8]), &[1.0], Labels::of([0, 1]));
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = ask(x([2, 1, 8, 8]), &[1.0], Labels::of([0, 3]));
    assert!(matches!(error, ModelError::ClassOutOfRange { row: 1, label: 3, classes: 3 }), "{error}");
    let error = ask(x([1, 1, 8, 8]), &[1.0], Labels::values([0.5]));
    assert!(matches!(error, ModelError::ConditionKind { given: "values", .. }), "{error}");

    let mut config = small();
    config.classes = Classes::Table { count: 3, null: false };
    let without_null = config.init(&device).unwrap();
    let error = without_null
        .forward_with(x([1, 1, 8, 8]), times(&[1.0], &device), &Labels::none(1), &mut Tap::none())
        .unwrap_err();
    assert!(matches!(error, ModelError::NoNullClass { row: 0 }), "{error}");

    let unconditional = small().init(&device).unwrap();
    let error = unconditional.forward(x([1, 1, 8, 8]), times(&[1.0], &device), &Labels::of([1])).unwrap_err();
    assert!(matches!(error, DenoiseError::Condition { .. }), "{error}");
    let error = unconditional.check_shape(&[3, 8, 8]).unwrap_err();
    assert!(matches!(error, DenoiseError::Shape { .. }), "{error}");
    unconditional.check_shape(&[1, 8, 8]).unwrap();
}

#[test]
fn a_folder_without_weights_or_with_others_is_an_error() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let load = || UNet2d::load(folder.path(), Load::on(&device)).unwrap_err();
    assert!(matches!(load(), ModelError::Io { .. }));
    std::fs::write(folder.path().join("config.json"), small().to_json()).unwrap();
    let error = load();
    assert!(matches!(error, ModelError::NoWeights { .. }), "{error:?}");
    // Weights of another configuration: the classes are unused, the wider level is misshapen.
    small().classes(3).channels(&[8, 32]).init(&device).unwrap().save(folder.path()).unwrap();
    std::fs::write(folder.path().join("config.json"), small().to_json()).unwrap();
    let error = load();
    let ModelError::Weights { mismatch, .. } = &error else { panic!("{error}") };
    assert!(mismatch.unused.contains(&"class_embedding.weight".to_owned()), "{error}");
    assert!(mismatch.misshapen.iter().any(|m| m.name == "mid_block.resnets.0.conv1.weight"), "{error}");
}

#[test]
fn networks_cross_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<UNet2d>();
    check::<Labels>();
    // Random weights drawn on one device move with the network.
    let device = flex();
    let net = small().init(&device).unwrap();
    let x = Tensor::<4>::random([1, 1, 8, 8], Distribution::Normal(0.0, 1.0), &device);
    let here = net.forward(x.clone(), times(&[3.0], &device), &Labels::none(1)).unwrap();
    let there = std::thread::scope(|scope| {
        let net = net.clone();
        let time = times(&[3.0], &device);
        scope.spawn(move || net.forward(x, time, &Labels::none(1)).unwrap()).join().unwrap()
    });
    assert_eq!(values(&here), values(&there));
    assert!(net.num_params() > 1000);
}
