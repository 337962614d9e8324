//! ControlNets and adapters as users meet them: training, steering, files, and errors.

use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use crate::formula::filled;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::noise::Seeded;
use langevin_core::{Condition, DenoiseError, Denoiser, Level, Levels, Network, Prediction, Query};
use langevin_models::control::{AdapterKind, ChannelOrder, ControlOptions};
use langevin_models::layers::cast_parameters;
use langevin_models::unet::conditional::{Addition, LevelBlock, Middle, Residuals};
use langevin_models::weights::parameters;
use langevin_models::{
    ControlCondition, ControlNet, ControlNetConfig, Controlled, Load, ModelError, T2iAdapter, T2iAdapterConfig, Tap,
    Tapped, TextCondition, UNet2dConditional, UNet2dConditionalConfig,
};

fn unet() -> UNet2dConditionalConfig {
    UNet2dConditionalConfig::new(4, 6).channels(&[8, 16]).layers(1).heads(2).norm_groups(4)
}

fn config() -> ControlNetConfig {
    ControlNetConfig::for_unet(&unet(), 3, &[4, 6]).unwrap()
}

/// Last layers that are not zero any more, as after training.
struct Trained;

impl ModuleMapper for Trained {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|t| {
            let (shape, trained) = (t.dims(), t.is_require_grad());
            let noise = tensor(shape, 0.37, &t.device()).cast(t.dtype());
            (t + noise * 0.1).detach().set_require_grad(trained)
        })
    }
}

fn trained(config: &ControlNetConfig, device: &Device) -> ControlNet {
    config.init(device).unwrap().map(&mut Trained)
}

fn text(rows: usize, device: &Device) -> TextCondition {
    TextCondition::new(tensor([rows, 5, 6], 0.7, device))
}

fn times(times: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(times, device)
}

fn told(seed: f64, device: &Device) -> ControlCondition {
    let text = TextCondition::new(tensor([1, 5, 6], seed, device));
    ControlCondition::new(text).image(tensor([1, 3, 16, 16], seed, device))
}

#[test]
fn an_untrained_controlnet_adds_nothing_and_learns() {
    let device = flex().autodiff();
    let net = unet().init(&device).unwrap();
    let control = ControlNet::from_unet(&net, 3, &[4, 6], &device).unwrap();
    let x = tensor([1, 4, 8, 8], 0.3, &device);
    let plain = net.forward(x.clone(), times(&[30.0], &device), &text(1, &device)).unwrap();
    let controlled = Controlled::new(net).with(control.clone(), 1.0);
    let cond = ControlCondition::new(text(1, &device)).image(tensor([1, 3, 16, 16], 0.7, &device));
    let steered = controlled.forward(x.clone(), times(&[30.0], &device), &cond).unwrap();
    assert_eq!(values(&plain), values(&steered));
    // Only the last layers see a gradient until they are not zero any more; then all do.
    let control = control.map(&mut Trained);
    let image = tensor([1, 3, 16, 16], 0.7, &device);
    let options = ControlOptions::default();
    let text = text(1, &device);
    let tap = &mut Tap::none();
    let added = control.forward_with(x, times(&[30.0], &device), &text, image, &options, tap).unwrap();
    let sum = |t: Tensor<4>| (t.clone() * tensor(t.dims(), 0.9, &device)).sum();
    let gradients = added.down.into_iter().fold(sum(added.mid), |total, t| total + sum(t)).backward();
    assert_gradients_flow(&control, &gradients);
}

#[test]
fn the_gradient_agrees_with_differences() {
    let folder = tempfile::tempdir().unwrap();
    trained(&config(), &flex()).save(folder.path()).unwrap();
    assert_gradient_agrees([1, 4, 4, 4], |device| {
        let net = ControlNet::load(folder.path(), Load::on(device).dtype(DType::F64)).unwrap();
        let (text, image) = (text(1, device), tensor([1, 3, 8, 8], 0.7, device));
        let time = times(&[30.0], device);
        move |x| {
            let options = ControlOptions { scale: 0.8, guess: true };
            net.forward_with(x, time.clone(), &text, image.clone(), &options, &mut Tap::none()).unwrap().mid
        }
    });
}

#[test]
fn the_gradient_of_an_adapter_agrees_with_differences() {
    for kind in [AdapterKind::Full, AdapterKind::FullXl, AdapterKind::Light] {
        assert_gradient_agrees([1, 3, 8, 4], |device| {
            let config = T2iAdapterConfig::new(3, &[8, 16, 16, 16]).layers(1).downscale(2).kind(kind);
            let adapter = filled(config.init(device).unwrap(), &Load::on(device).dtype(DType::F64));
            // All levels in one row, coarse ones counted more: averages vary little.
            move |image| {
                let features = adapter.features(image, 0.8).unwrap().into_iter().enumerate();
                Tensor::cat(features.map(|(i, f)| f.flatten::<1>(0, 3) * 10f64.powi(i as i32)).collect(), 0)
            }
        });
    }
}

#[test]
fn scales_multiply_and_guessing_counts_fine_levels_less() {
    let device = flex();
    let net = trained(&config(), &device);
    let ask = |scale, guess| {
        let (x, image) = (tensor([1, 4, 8, 8], 0.3, &device), tensor([1, 3, 16, 16], 0.7, &device));
        let options = ControlOptions { scale, guess };
        net.forward_with(x, times(&[30.0], &device), &text(1, &device), image, &options, &mut Tap::none()).unwrap()
    };
    let (plain, half, guess) = (ask(1.0, false), ask(0.5, false), ask(1.0, true));
    for (i, down) in plain.down.iter().enumerate() {
        assert!(largest_difference(&(down.clone() * 0.5), &half.down[i]) < 1e-6);
        // From a tenth to all, evenly in the logarithm, over four residuals and the middle.
        let factor = 10f64.powf(i as f64 / 4.0 - 1.0);
        assert!(largest_difference(&(down.clone() * factor), &guess.down[i]) < 1e-6);
    }
    assert_eq!(values(&plain.mid), values(&guess.mid));
}

#[test]
fn channels_are_turned_around_where_the_weights_want_it() {
    let device = flex();
    let net = trained(&config(), &device);
    let turned = trained(&ControlNetConfig { order: ChannelOrder::Bgr, ..config() }, &device);
    let record = net.clone().into_record();
    let turned = turned.load_record(record);
    let image = tensor([1, 3, 16, 16], 0.7, &device);
    let ask = |net: &ControlNet, image| {
        let x = tensor([1, 4, 8, 8], 0.3, &device);
        let options = ControlOptions::default();
        net.forward_with(x, times(&[30.0], &device), &text(1, &device), image, &options, &mut Tap::none()).unwrap().mid
    };
    assert_eq!(values(&ask(&net, image.clone())), values(&ask(&turned, image.clone().flip([1]))));
    assert!(largest_difference(&ask(&net, image.clone()), &ask(&turned, image)) > 1e-5);
}

#[test]
fn guided_and_controlled_is_the_sum_of_its_answers() {
    let device = flex();
    let controlled = Controlled::new(unet().init(&device).unwrap()).with(trained(&config(), &device), 0.7);
    let (prompt, nothing) = (told(0.7, &device), told(0.1, &device).strength(0.0));
    let denoiser =
        controlled.denoiser(Prediction::Epsilon, prompt.clone()).unwrap().guided(nothing.clone(), 3.0).unwrap();
    let x = tensor([2, 4, 8, 8], 0.3, &device);
    let noise = Seeded::new(1);
    let levels = Levels::from(Level { alpha: 0.8, sigma: 0.6, time: 400.0 });
    let guided =
        denoiser.denoise(Query { x: x.clone(), levels: &levels, past: &[], noise: &noise }).unwrap().eps().unwrap();
    let ask = |cond| controlled.forward(x.clone(), times(&[400.0], &device), &cond).unwrap();
    let (a, b) = (ask(prompt.clone()), ask(nothing.clone()));
    assert!(largest_difference(&guided, &(b.clone() + (a.clone() - b.clone()) * 3.0)) < 1e-4);
    // Without strength it is the UNet alone; with it, what the ControlNet says is added.
    let (unet, net) = (controlled.unet(), controlled.nets()[0].0.clone());
    let with = |strength: f64| {
        let told = prompt.clone().expand(2).unwrap();
        let (options, time) = (ControlOptions { scale: 0.7 * strength, guess: false }, times(&[400.0], &device));
        let image = told.images[0].clone();
        let control = net.forward_with(x.clone(), time.clone(), &told.text, image, &options, &mut Tap::none()).unwrap();
        let residuals = Residuals { control: Some(control), features: vec![] };
        unet.forward_added(x.clone(), time, &told.text, &residuals, &mut Tap::none()).unwrap()
    };
    let alone = unet.forward(x.clone(), times(&[400.0], &device), &nothing.text).unwrap();
    assert!(largest_difference(&b, &alone) < 1e-6);
    assert!(largest_difference(&a, &with(1.0)) < 1e-5);
    assert!(largest_difference(&a, &with(0.0)) > 1e-3);
    // Rows with strengths of their own, of which none is asked for nothing.
    let mixed = ControlCondition::cat(&[&prompt.clone().strength(0.0), &prompt.clone().strength(0.3)]).unwrap();
    let mut asked = vec![];
    let mut see = |name: &str, data: Tapped<'_>| {
        if name.ends_with("controlnet_mid_block") || name.starts_with("controlnets.0.time_embedding.linear_1") {
            asked.push(data.dims()[0]);
        }
    };
    let time = times(&[400.0], &device);
    let mixed = controlled.forward_with(x.clone(), time, &mixed, &mut Tap::new(&mut see)).unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|rows| *rows == 1), "{asked:?}");
    let row = |y: &Tensor<4>, row| y.clone().narrow(0, row, 1);
    assert!(largest_difference(&row(&mixed, 0), &row(&with(0.0), 0)) < 1e-5);
    assert!(largest_difference(&row(&mixed, 1), &row(&with(0.3), 1)) < 1e-5);
    // Two at half strength are one.
    let two = Controlled::new(controlled.unet().clone()).with(net.clone(), 0.35).with(net, 0.35);
    let both = prompt.clone().image(prompt.images[0].clone());
    let given = two.forward(x.clone(), times(&[400.0], &device), &both).unwrap();
    assert!(largest_difference(&given, &a) < 1e-5);
}

#[test]
fn an_adapter_adds_its_features() {
    let device = flex();
    let adapter = T2iAdapterConfig::new(3, &[8, 16]).layers(1).downscale(2).init(&device).unwrap();
    let image = tensor([1, 3, 16, 16], 0.7, &device);
    let features = adapter.features(image.clone(), 1.0).unwrap();
    assert_eq!(features.iter().map(Tensor::dims).collect::<Vec<_>>(), [[1, 8, 8, 8], [1, 16, 4, 4]]);
    let half = adapter.features(image, 0.5).unwrap();
    assert!(largest_difference(&(features[1].clone() * 0.5), &half[1]) < 1e-6);

    let controlled = Controlled::new(unet().init(&device).unwrap());
    let x = tensor([2, 4, 8, 8], 0.3, &device);
    let ask = |cond: &ControlCondition| controlled.forward(x.clone(), times(&[400.0], &device), cond).unwrap();
    let plain = ControlCondition::new(text(1, &device));
    let nothing = ask(&plain);
    // One image stands for all samples, and two adapters are one with the sum of their features.
    for (cond, strength) in [
        (plain.clone().features(features.clone()).unwrap(), 1.0),
        (plain.clone().features(features.clone()).unwrap().features(half).unwrap(), 1.5),
    ] {
        let both = ask(&cond);
        assert!(largest_difference(&both, &nothing) > 1e-3);
        for row in 0..2 {
            let features = features.iter().map(|feature| feature.clone() * strength).collect();
            let (x, time) = (x.clone().narrow(0, row, 1), times(&[400.0], &device));
            let residuals = Residuals { control: None, features };
            let alone =
                controlled.unet().forward_added(x, time, &text(1, &device), &residuals, &mut Tap::none()).unwrap();
            assert!(largest_difference(&alone, &both.clone().narrow(0, row, 1)) < 1e-5);
        }
    }
}

#[test]
fn folders_round_trip() {
    let device = flex();
    let told = |mut config: ControlNetConfig| {
        config.encoder.addition = Addition::TextTime { features: 4, width: 9 };
        config.encoder.middle = Middle::Residual;
        config
    };
    for config in [config(), told(config()), ControlNetConfig { order: ChannelOrder::Bgr, pool: true, ..config() }] {
        assert_eq!(ControlNetConfig::from_json(&config.to_json()).unwrap(), config);
        let serde = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ControlNetConfig>(&serde).unwrap(), config);
        let folder = tempfile::tempdir().unwrap();
        let net = trained(&config, &device);
        net.save(folder.path()).unwrap();
        let same = ControlNet::load(folder.path(), Load::on(&device)).unwrap();
        assert_eq!(same.config(), net.config());
        assert_eq!(parameters(&same), parameters(&net));
        let weight = |net: &ControlNet| values(&net.controlnet_mid_block.weight.val());
        assert_eq!(weight(&same), weight(&net));
    }
    for kind in [AdapterKind::Full, AdapterKind::FullXl, AdapterKind::Light] {
        let config = T2iAdapterConfig::new(1, &[8, 12, 16]).layers(1).downscale(2).kind(kind);
        assert_eq!(T2iAdapterConfig::from_json(&config.to_json()).unwrap(), config);
        let folder = tempfile::tempdir().unwrap();
        let net = config.init(&device).unwrap();
        net.save(folder.path()).unwrap();
        let same = T2iAdapter::load(folder.path(), Load::on(&device)).unwrap();
        assert_eq!(same.config(), net.config());
        let [a, b] = [&net, &same].map(|net| net.features(tensor([1, 1, 8, 12], 0.3, &device), 1.0).unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| values(a) == values(b)));
    }
}

#[test]
fn half_precision_is_close_to_single() {
    let device = flex();
    let net = trained(&config(), &device);
    let adapter = T2iAdapterConfig::new(3, &[8, 16]).layers(1).downscale(2).init(&device).unwrap();
    let image = || tensor([1, 3, 16, 16], 0.7, &device);
    let close = |single: &Tensor<4>, half: &Tensor<4>| {
        let scale = values(single).iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let difference = largest_difference(single, half);
        assert!(difference > 0.0 && difference < 0.02 * scale, "{difference} of {scale}");
    };
    let ask = |net: &ControlNet| {
        let x = tensor([1, 4, 8, 8], 0.3, &device);
        let options = ControlOptions::default();
        net.forward_with(x, times(&[30.0], &device), &text(1, &device), image(), &options, &mut Tap::none()).unwrap()
    };
    close(&ask(&net).mid, &ask(&cast_parameters(net.clone(), DType::F16)).mid);
    let half = cast_parameters(adapter.clone(), DType::F16).features(image(), 1.0).unwrap();
    close(&adapter.features(image(), 1.0).unwrap()[1], &half[1]);
    // A half-precision ControlNet beside a single-precision UNet.
    let controlled = |net: ControlNet| {
        let unet: UNet2dConditional = Module::map(unet().init(&device).unwrap(), &mut Trained);
        Controlled::new(unet).with(net, 1.0)
    };
    let mixed = controlled(cast_parameters(net, DType::F16));
    let (x, time) = (tensor([1, 4, 8, 8], 0.3, &device), times(&[30.0], &device));
    let y = mixed.forward(x.clone(), time.clone(), &told(0.7, &device)).unwrap();
    assert_eq!(y.dtype(), DType::F32);
    assert_names_what_is_not_finite(&mixed, x, time, &told(0.7, &device));
}

#[test]
fn modules_with_parameters_are_all_shown() {
    let device = flex();
    let net = config().init(&device).unwrap();
    let adapter = T2iAdapterConfig::new(3, &[8, 16]).layers(1).downscale(2).init(&device).unwrap();
    let mut names = Vec::new();
    let mut see = |name: &str, _: Tapped<'_>| names.push(name.to_owned());
    let mut tap = Tap::new(&mut see);
    let (x, image) = (tensor([1, 4, 8, 8], 0.3, &device), tensor([1, 3, 16, 16], 0.7, &device));
    let options = ControlOptions::default();
    net.forward_with(x, times(&[3.0], &device), &text(1, &device), image.clone(), &options, &mut tap).unwrap();
    adapter.forward_with(image, &mut tap).unwrap();
    let shown = |module: &str| names.iter().any(|name| name == module || *name == format!("{module}.0"));
    for parameter in parameters(&net).into_iter().chain(parameters(&adapter)) {
        let (module, _) = parameter.name.rsplit_once('.').unwrap();
        let module = module.strip_suffix(".0.proj").map_or(module, |ff| &module[..ff.len() + 2]);
        let module = module.strip_suffix(".block1").or(module.strip_suffix(".block2")).unwrap_or(module);
        assert!(shown(module), "{module}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let device = flex();
    let net = config().init(&device).unwrap();
    let ask = |x: [usize; 4], image: [usize; 4], text: &TextCondition, scale: f64| {
        let options = ControlOptions { scale, guess: false };
        let (x, image) = (tensor(x, 0.3, &device), tensor(image, 0.7, &device));
        net.forward_with(x, times(&[3.0], &device), text, image, &options, &mut Tap::none()).unwrap_err()
    };
    let good = text(1, &device);
    let shape = |error| match error {
        ModelError::Shape { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(shape(ask([1, 5, 8, 8], [1, 3, 16, 16], &good, 1.0)), "x");
    assert_eq!(shape(ask([1, 4, 8, 8], [1, 1, 16, 16], &good, 1.0)), "control image");
    assert_eq!(shape(ask([1, 4, 8, 8], [1, 3, 8, 16], &good, 1.0)), "control image");
    assert_eq!(shape(ask([3, 4, 8, 8], [2, 3, 16, 16], &good, 1.0)), "control image");
    let wide = TextCondition::new(tensor([1, 5, 7], 0.1, &device));
    assert_eq!(shape(ask([1, 4, 8, 8], [1, 3, 16, 16], &wide, 1.0)), "text states");
    let error = ask([1, 4, 8, 8], [1, 3, 16, 16], &good, f64::NAN);
    assert!(matches!(error, ModelError::Config { field: "scale", .. }), "{error}");

    let controlled = Controlled::new(unet().init(&device).unwrap()).with(net, 1.0);
    let error = controlled.check_condition(&ControlCondition::new(good)).unwrap_err();
    assert!(matches!(error, DenoiseError::Shape { .. }), "{error}");
    controlled.check_condition(&told(0.7, &device)).unwrap();
    controlled.check_shape(&[4, 8, 8]).unwrap();
    assert!(controlled.check_shape(&[5, 8, 8]).is_err());

    let adapter = T2iAdapterConfig::new(3, &[8]).layers(1).init(&device).unwrap();
    for dims in [[1, 1, 16, 16], [1, 3, 12, 16], [1, 3, 0, 16]] {
        let error = adapter.features(Tensor::zeros(dims, &device), 1.0).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "control image", .. }), "{error}");
    }
    let error = adapter.features(tensor([1, 3, 16, 16], 0.1, &device), f64::INFINITY).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "scale", .. }), "{error}");
}

#[test]
fn configurations_that_cannot_be_built_are_errors() {
    let change = |change: fn(&mut ControlNetConfig)| {
        let mut config = config();
        change(&mut config);
        config
    };
    for (name, config) in [
        ("image_channels", change(|c| c.image_channels = 0)),
        ("embedding_channels", change(|c| c.embedding_channels.clear())),
        ("embedding_channels", change(|c| c.embedding_channels[1] = 0)),
        ("norm_groups", change(|c| c.encoder.norm_groups = 3)),
        ("middle", change(|c| c.encoder.middle = Middle::None)),
        ("conv_in_kernel", change(|c| c.encoder.conv_in_kernel = 5)),
        ("guidance_width", change(|c| c.encoder.guidance_width = Some(8))),
        ("dropout", change(|c| c.encoder.dropout = 0.1)),
        ("block", change(|c| c.encoder.levels[1].block = LevelBlock::AddedAttention)),
        ("addition", change(|c| c.encoder.addition = Addition::TextImage)),
    ] {
        let error = config.init(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
    }
    let base = T2iAdapterConfig::new(3, &[8, 16, 16, 16]);
    let xl = base.clone().kind(AdapterKind::FullXl);
    for (name, config) in [
        ("in_channels", T2iAdapterConfig::new(0, &[8])),
        ("channels", T2iAdapterConfig::new(3, &[])),
        ("channels", T2iAdapterConfig::new(3, &[8, 0])),
        ("channels", T2iAdapterConfig { channels: vec![8, 16, 16, 24], ..xl }),
        ("channels", T2iAdapterConfig::new(3, &[3]).kind(AdapterKind::Light)),
        ("layers", base.clone().layers(0)),
        ("downscale", base.downscale(0)),
    ] {
        let error = config.init(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
    }
    // A UNet whose input has more than the state.
    let inpainting = unet().in_channels(9).init(&flex()).unwrap();
    let error = ControlNet::from_unet(&inpainting, 3, &[4, 6], &flex()).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "in_channels", .. }), "{error}");
    assert_eq!(ControlNetConfig::for_unet(inpainting.config(), 3, &[4, 6]).unwrap().encoder.in_channels, 4);
}

#[test]
fn published_options_that_are_not_supported_are_named() {
    use serde_json::json;
    let read = |key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&config().to_json()).unwrap();
        json[key] = value;
        ControlNetConfig::from_json(&json.to_string())
    };
    for (key, value) in [
        ("addition_embed_type", json!("text_image")),
        ("class_embed_type", json!("simple_projection")),
        ("controlnet_conditioning_channel_order", json!("grb")),
        ("encoder_hid_dim", json!(8)),
        ("mid_block_type", json!("other")),
    ] {
        let error = read(key, value).unwrap_err();
        assert!(matches!(&error, ModelError::Unsupported { key: k, .. } if *k == key), "{key}: {error}");
    }
    assert!(matches!(read("up_block_types", json!([])), Err(ModelError::UnknownKeys { .. })));
    assert!(matches!(read("_class_name", json!("T2IAdapter")), Err(ModelError::WrongClass { .. })));
    // The number of heads under its own name.
    let config = read("num_attention_heads", json!(4)).unwrap();
    assert_eq!(config.encoder.levels[0].heads, 4);
    let error = T2iAdapterConfig::from_json(&json!({"adapter_type": "heavy"}).to_string()).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported { key: "adapter_type", .. }), "{error}");
}
