//! The text-conditional UNet as users meet it: gradients, conditions, files, and errors.

use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};

use burn::tensor::{DType, Device, Tensor};
use langevin_core::noise::Seeded;
use langevin_core::{DenoiseError, Denoiser, Level, Levels, Network, Prediction, Query};
use langevin_models::layers::{Activation, ContextNorm, cast_parameters};
use langevin_models::unet::conditional::{
    Addition, ClassInput, ContextInput, ControlResiduals, LevelBlock, Middle, Residuals, TimeInput, UpLevel,
};
use langevin_models::weights::{parameters, write_weights};
use langevin_models::{
    Labels, Load, ModelError, Tap, Tapped, TextCondition, UNet2dConditional, UNet2dConditionalConfig,
};

fn small() -> UNet2dConditionalConfig {
    UNet2dConditionalConfig::new(4, 6).channels(&[8, 16]).layers(1).heads(2).norm_groups(4)
}

fn with(mut config: UNet2dConditionalConfig, change: impl Fn(&mut UNet2dConditionalConfig)) -> UNet2dConditionalConfig {
    change(&mut config);
    config
}

/// Attention to pixels and text at once, as in IF.
fn added() -> UNet2dConditionalConfig {
    with(small(), |c| {
        c.encoder.levels[0].block = LevelBlock::Residual;
        c.encoder.levels[1].block = LevelBlock::AddedAttention;
        c.encoder.levels[1].heads = 4;
        c.encoder.levels[0].heads = 4;
        c.encoder.middle = Middle::AddedAttention;
        c.up[0].block = LevelBlock::AddedAttention;
        c.up[1].block = LevelBlock::Residual;
        c.encoder.scale_shift = true;
        c.encoder.skip_time_activation = true;
        c.encoder.residual_scale = 1.4;
        c.encoder.context_input = ContextInput::Text { width: 6 };
        c.encoder.addition = Addition::Text { heads: 2 };
    })
}

/// With everything that is told to SDXL.
fn told() -> UNet2dConditionalConfig {
    with(small(), |c| {
        c.encoder.addition = Addition::TextTime { features: 4, width: 5 + 6 * 4 };
        c.encoder.guidance_width = Some(8);
        c.encoder.classes = ClassInput::Table { count: 3 };
    })
}

fn text(rows: usize, device: &Device) -> TextCondition {
    TextCondition::new(tensor([rows, 5, 6], 0.7, device))
}

/// What a network of one of these configurations is told.
fn condition(config: &UNet2dConditionalConfig, rows: usize, device: &Device) -> TextCondition {
    let mut cond = text(rows, device);
    let encoder = &config.encoder;
    if let Addition::TextTime { .. } = encoder.addition {
        cond = cond.pooled(tensor([rows, 5], 0.2, device)).sizes(vec![vec![64.0, 48.0, 0.0, 3.0, 64.0, 64.0]; rows]);
    }
    if encoder.guidance_width.is_some() {
        cond = cond.guidance(vec![7.5; rows]);
    }
    match encoder.classes {
        ClassInput::Table { .. } => cond.labels(Labels::of(vec![1; rows])),
        ClassInput::Timestep => cond.labels(Labels::values(vec![20.0; rows])),
        ClassInput::Projection { width } | ClassInput::SimpleProjection { width } => {
            cond.labels(Labels::embeddings(tensor([rows, width], 0.4, device)))
        }
        _ => cond,
    }
}

fn times(times: &[f64], device: &Device) -> Tensor<1> {
    Tensor::from_data(times, device)
}

fn example(net: &UNet2dConditional, device: &Device) -> Tensor<4> {
    let x = tensor([2, net.config().encoder.in_channels, 8, 8], 0.3, device);
    net.forward(x, times(&[3.0, 400.0], device), &condition(net.config(), 2, device)).unwrap()
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    for config in [
        told(),
        added(),
        with(small(), |c| c.encoder.classes = ClassInput::Projection { width: 7 }),
        with(small(), |c| {
            c.encoder.classes = ClassInput::SimpleProjection { width: 7 };
            c.encoder.concatenate_class = true;
        }),
        with(small(), |c| c.encoder.classes = ClassInput::Timestep),
        with(small(), |c| c.encoder.levels[0].only_cross_attention = true),
    ] {
        let net = config.init(&device).unwrap();
        let y = example(&net, &device);
        let weights = tensor(y.dims(), 0.9, &device);
        let gradients = (y * weights).sum().backward();
        assert_gradients_flow(&net, &gradients);
    }
}

#[test]
fn the_gradient_agrees_with_differences() {
    let folder = tempfile::tempdir().unwrap();
    let net = told().init(&flex()).unwrap();
    net.save(folder.path()).unwrap();
    assert_gradient_agrees([1, 4, 4, 4], |device| {
        let net = UNet2dConditional::load(folder.path(), Load::on(device).dtype(DType::F64)).unwrap();
        let cond = condition(net.config(), 1, device);
        let time = times(&[30.0], device);
        move |x| net.forward_with(x, time.clone(), &cond, &mut Tap::none()).unwrap()
    });
}

#[test]
fn half_precision_is_close_to_single() {
    let device = flex();
    for config in [told(), added(), with(small(), |c| c.encoder.upcast = true)] {
        let net = config.init(&device).unwrap();
        let single = example(&net, &device);
        let (x, cond) =
            (tensor([2, net.config().encoder.in_channels, 8, 8], 0.3, &device), condition(net.config(), 2, &device));
        assert_names_what_is_not_finite(&net, x, times(&[3.0, 400.0], &device), &cond);
        let half = example(&cast_parameters(net, DType::F16), &device);
        assert_eq!(half.dtype(), DType::F32, "the output has the type of the input");
        let scale = values(&single).iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let difference = largest_difference(&single, &half);
        assert!(difference > 0.0 && difference < 0.02 * scale, "{difference} of {scale}");
    }
}

#[test]
fn folders_round_trip() {
    let device = flex();
    for config in [
        small(),
        told(),
        added(),
        small().transformers(&[2, 3]),
        with(small(), |c| c.up[1].transformers = vec![1, 3]),
        with(small(), |c| {
            c.sample_size = Some([8, 16]);
            c.center_input = true;
            c.conv_out_kernel = 1;
            c.encoder.conv_in_kernel = 5;
            c.encoder.middle = Middle::None;
            c.encoder.downsample_padding = 0;
            c.encoder.activation = Activation::Gelu;
            c.encoder.embedding_activation = Some(Activation::Relu);
            c.encoder.time_post_activation = Some(Activation::Silu);
            c.encoder.time_width = Some(24);
            c.encoder.linear_projection = true;
        }),
        with(small(), |c| {
            c.encoder.time = TimeInput::Fourier { cosine_first: false };
            c.encoder.middle = Middle::Residual;
        }),
    ] {
        assert_eq!(UNet2dConditionalConfig::from_json(&config.to_json()).unwrap(), config);
        let serde = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<UNet2dConditionalConfig>(&serde).unwrap(), config);
        let folder = tempfile::tempdir().unwrap();
        let net = config.init(&device).unwrap();
        net.save(folder.path()).unwrap();
        let same = UNet2dConditional::load(folder.path(), Load::on(&device)).unwrap();
        assert_eq!(same.config(), net.config());
        assert_eq!(values(&example(&same, &device)), values(&example(&net, &device)));
    }
}

#[test]
fn weights_that_do_not_fit_are_listed() {
    let (device, folder) = (flex(), tempfile::tempdir().unwrap());
    small().init(&device).unwrap().save(folder.path()).unwrap();
    let other = added().init(&device).unwrap();
    write_weights(&other, folder.path().join("diffusion_pytorch_model.safetensors")).unwrap();
    let error = UNet2dConditional::load(folder.path(), Load::on(&device)).unwrap_err();
    let ModelError::Weights { mismatch, .. } = &error else { panic!("{error}") };
    assert!(mismatch.unused.iter().any(|name| name.ends_with("add_k_proj.weight")), "{error}");
}

#[test]
fn modules_with_parameters_are_all_shown() {
    let device = flex();
    for config in [told(), added()] {
        let net = config.init(&device).unwrap();
        let mut names = Vec::new();
        let mut see = |name: &str, _: Tapped<'_>| names.push(name.to_owned());
        let x = tensor([1, 4, 8, 8], 0.3, &device);
        let cond = condition(&config, 1, &device);
        net.forward_with(x, times(&[3.0], &device), &cond, &mut Tap::new(&mut see)).unwrap();
        for parameter in parameters(&net) {
            let (module, _) = parameter.name.rsplit_once('.').unwrap();
            // The layers of a feed-forward layer are seen after their activations.
            let module = module.strip_suffix("net.0.proj").map_or(module.to_owned(), |ff| format!("{ff}net.0"));
            assert!(names.contains(&module) || names.contains(&format!("{module}.0")), "{module}");
        }
    }
}

#[test]
fn everything_that_is_told_counts() {
    let device = flex();
    let net = told().init(&device).unwrap();
    let x = tensor([1, 4, 8, 8], 0.3, &device);
    let ask = |cond: TextCondition| net.forward(x.clone(), times(&[30.0], &device), &cond).unwrap();
    let base = || condition(net.config(), 1, &device);
    let reference = ask(base());
    let mut other_text = base();
    other_text.states = tensor([1, 5, 6], 0.1, &device);
    for (what, cond) in [
        ("text", other_text),
        ("mask", base().mask(Tensor::from_data([[1.0, 0.0, 1.0, 1.0, 1.0]], &device))),
        ("pooled", base().pooled(tensor([1, 5], 0.9, &device))),
        ("sizes", base().sizes([vec![32.0, 48.0, 0.0, 3.0, 64.0, 64.0]])),
        ("guidance", base().guidance([3.0])),
        ("labels", base().labels(Labels::of([2]))),
    ] {
        assert!(largest_difference(&ask(cond), &reference) > 1e-4, "{what}");
    }
    // All tokens seen is no mask.
    let all = ask(base().mask(Tensor::ones([1, 5], &device)));
    assert!(largest_difference(&all, &reference) < 1e-6);
}

#[test]
fn guidance_asks_once_and_samples_any_size() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let [a, b] = [0.7, 0.1].map(|seed| TextCondition::new(tensor([1, 5, 6], seed, &device)));
    let denoiser = net.denoiser(Prediction::Epsilon, a.clone()).unwrap().guided(b.clone(), 3.0).unwrap();
    // Sizes that are not even.
    let x = tensor([2, 4, 7, 5], 0.3, &device);
    let noise = Seeded::new(1);
    let levels = Levels::from(Level { alpha: 0.8, sigma: 0.6, time: 400.0 });
    let guided = denoiser.denoise(Query { x: x.clone(), levels: &levels, past: &[], noise: &noise }).unwrap();
    let [a, b] = [a, b].map(|cond| net.forward(x.clone(), times(&[400.0], &device), &cond).unwrap());
    let expected = b.clone() + (a - b) * 3.0;
    assert!(largest_difference(&guided.eps().unwrap(), &expected) < 1e-4);
}

#[test]
fn an_image_behind_the_state_is_seen() {
    let device = flex();
    let net = small().in_channels(9).init(&device).unwrap();
    let (x, image) = (tensor([1, 4, 8, 8], 0.3, &device), tensor([1, 5, 8, 8], 0.6, &device));
    let time = || times(&[30.0], &device);
    let told = net.forward(x.clone(), time(), &text(1, &device).image(image.clone())).unwrap();
    let whole = Tensor::cat(vec![x.clone(), image.clone()], 1);
    assert_eq!(values(&told), values(&net.forward(whole, time(), &text(1, &device)).unwrap()));
    net.check_shape(&[4, 8, 8]).unwrap();
    assert!(net.check_shape(&[10, 8, 8]).is_err());
    let error = net.forward_with(x.clone(), time(), &text(1, &device), &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{error}");
    let smaller = text(1, &device).image(image.narrow(2, 0, 4));
    let error = net.forward_with(x, time(), &smaller, &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "image", .. }), "{error}");
}

#[test]
fn residuals_that_are_zero_change_nothing_and_others_do() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let x = tensor([1, 4, 8, 8], 0.3, &device);
    let shapes = [[1, 8, 8, 8], [1, 8, 8, 8], [1, 8, 4, 4], [1, 16, 4, 4]];
    let control = |seed: f64, scale: f64| ControlResiduals {
        down: shapes.iter().map(|shape| tensor(*shape, seed, &device) * scale).collect(),
        mid: tensor([1, 16, 4, 4], seed, &device) * scale,
    };
    let features =
        |scale: f64| vec![tensor([1, 8, 8, 8], 0.2, &device) * scale, tensor([1, 16, 4, 4], 0.4, &device) * scale];
    let ask = |control, features| {
        let residuals = Residuals { control, features };
        net.forward_added(x.clone(), times(&[30.0], &device), &text(1, &device), &residuals, &mut Tap::none())
    };
    let plain = ask(None, vec![]).unwrap();
    let zero = ask(Some(control(0.1, 0.0)), features(0.0)).unwrap();
    assert_eq!(values(&plain), values(&zero));
    assert!(largest_difference(&plain, &ask(Some(control(0.1, 1.0)), vec![]).unwrap()) > 1e-3);
    assert!(largest_difference(&plain, &ask(None, features(1.0)).unwrap()) > 1e-3);
    // Two ControlNets are one with the sum; a strength multiplies.
    let twice = control(0.1, 1.0).plus(control(0.1, 1.0)).unwrap();
    let strong = control(0.1, 1.0).times(&times(&[2.0], &device));
    let [twice, strong] = [twice, strong].map(|control| ask(Some(control), vec![]).unwrap());
    assert!(largest_difference(&twice, &strong) < 1e-5);

    let mut short = control(0.1, 1.0);
    short.down.pop();
    assert!(matches!(ask(Some(short), vec![]), Err(ModelError::Shape { what: "control residuals", .. })));
    let mut wide = control(0.1, 1.0);
    wide.mid = tensor([1, 16, 4, 5], 0.1, &device);
    assert!(matches!(ask(Some(wide), vec![]), Err(ModelError::Shape { what: "control residuals", .. })));
    let error = ask(None, vec![tensor([1, 8, 4, 4], 0.1, &device)]).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "adapter features", .. }), "{error}");
    let many = [features(1.0), features(1.0)].concat();
    assert!(matches!(ask(None, many), Err(ModelError::Shape { what: "adapter features", .. })));
    let net = with(added(), |c| c.encoder.levels[0].block = LevelBlock::AddedAttention).init(&device).unwrap();
    let residuals = Residuals { control: None, features: vec![tensor([1, 8, 4, 4], 0.1, &device)] };
    let cond = text(1, &device);
    let error = net.forward_added(x, times(&[3.0], &device), &cond, &residuals, &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported { key: "down_block_types", .. }), "{error}");
}

#[test]
fn conditions_that_do_not_fit_are_errors() {
    let device = flex();
    let net = told().init(&device).unwrap();
    let base = || condition(net.config(), 1, &device);
    let without = |change: fn(&mut TextCondition)| {
        let mut cond = base();
        change(&mut cond);
        cond
    };
    let ask = |cond: &TextCondition| {
        let x = tensor([1, 4, 8, 8], 0.3, &device);
        net.forward_with(x, times(&[3.0], &device), cond, &mut Tap::none()).unwrap_err()
    };
    for (part, cond) in [
        ("pooled", without(|c| c.pooled = None)),
        ("sizes", without(|c| c.sizes = None)),
        ("guidance", without(|c| c.guidance = None)),
        ("labels", without(|c| c.labels = None)),
    ] {
        let error = ask(&cond);
        assert!(matches!(error, ModelError::MissingPart { part: p } if p == part), "{part}: {error}");
        assert!(matches!(net.check_condition(&cond), Err(DenoiseError::Condition { .. })));
    }
    let shape = |cond: TextCondition| match ask(&cond) {
        ModelError::Shape { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(shape(base().pooled(tensor([1, 4], 0.2, &device))), "pooled");
    assert_eq!(shape(base().sizes([vec![1.0; 5]])), "sizes");
    assert_eq!(shape(base().mask(Tensor::ones([1, 4], &device))), "mask");
    let mut wide = base();
    wide.states = tensor([1, 5, 7], 0.1, &device);
    assert_eq!(shape(wide), "text states");
    let mut embedded = without(|c| c.guidance = None);
    embedded.guidance_embedding = Some(tensor([1, 7], 0.1, &device));
    assert_eq!(shape(embedded), "guidance_embedding");
    assert!(matches!(ask(&base().labels(Labels::of([3]))), ModelError::ClassOutOfRange { label: 3, classes: 3, .. }));
    assert!(matches!(ask(&base().labels(Labels::none(1))), ModelError::NoNullClass { .. }));
    assert!(matches!(ask(&base().guidance([f64::INFINITY])), ModelError::NotFinite { .. }));
    let error = ask(&base().image_embedding(tensor([1, 6], 0.1, &device)));
    assert!(matches!(error, ModelError::UnknownPart { part: "image_embedding" }), "{error}");
    let two = condition(net.config(), 2, &device);
    let x = tensor([3, 4, 8, 8], 0.3, &device);
    let error = net.forward_with(x.clone(), times(&[3.0], &device), &two, &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = net.forward_with(x, times(&[3.0, 4.0], &device), &base(), &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "time", .. }), "{error}");
    // Residual blocks halve even sizes only.
    let net = added().init(&device).unwrap();
    assert!(matches!(net.check_shape(&[4, 8, 7]), Err(DenoiseError::Shape { .. })));
    net.check_shape(&[4, 8, 6]).unwrap();
}

#[test]
fn configurations_that_cannot_be_built_are_errors() {
    let change = |change: fn(&mut UNet2dConditionalConfig)| with(small(), change);
    for (name, config) in [
        ("in_channels", change(|c| c.encoder.in_channels = 0)),
        ("out_channels", change(|c| c.out_channels = 0)),
        ("sample_size", change(|c| c.sample_size = Some([0, 8]))),
        ("levels", change(|c| c.encoder.levels.clear())),
        ("channels", change(|c| c.encoder.levels[0].channels = 0)),
        ("layers", change(|c| c.encoder.levels[0].layers = 0)),
        ("heads", change(|c| c.encoder.levels[0].heads = 0)),
        ("heads", change(|c| c.encoder.levels[0].heads = 9)),
        ("heads", with(added(), |c| c.encoder.levels[1].heads = 3)),
        ("transformers", change(|c| c.encoder.levels[0].transformers = vec![1, 1])),
        ("transformers", change(|c| c.encoder.levels[0].transformers = vec![0])),
        ("up", change(|c| c.up.truncate(1))),
        ("up", change(|c| c.up[1] = UpLevel { block: LevelBlock::CrossAttention, transformers: vec![1] })),
        ("context", change(|c| c.encoder.context = 0)),
        ("norm_groups", change(|c| c.encoder.norm_groups = 0)),
        ("norm_groups", change(|c| c.encoder.norm_groups = 3)),
        ("norm_epsilon", change(|c| c.encoder.norm_epsilon = 0.0)),
        ("mid_scale", change(|c| c.encoder.mid_scale = f64::NAN)),
        ("residual_scale", change(|c| c.encoder.residual_scale = -1.0)),
        ("dropout", change(|c| c.encoder.dropout = 1.0)),
        ("downsample_padding", change(|c| c.encoder.downsample_padding = 2)),
        ("conv_in_kernel", change(|c| c.encoder.conv_in_kernel = 2)),
        ("conv_out_kernel", change(|c| c.conv_out_kernel = 0)),
        ("time_width", change(|c| c.encoder.time_width = Some(0))),
        ("concatenate_class", change(|c| c.encoder.concatenate_class = true)),
        ("classes", change(|c| c.encoder.classes = ClassInput::Table { count: 0 })),
        ("addition", change(|c| c.encoder.addition = Addition::Text { heads: 4 })),
        ("addition", change(|c| c.encoder.addition = Addition::TextTime { features: 0, width: 8 })),
        ("groups", with(added(), |c| c.encoder.context_norm = Some(ContextNorm::Group))),
    ] {
        let error = config.init(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
    }
}

/// A published configuration of two levels with one key replaced.
fn read(key: &str, value: serde_json::Value) -> Result<UNet2dConditionalConfig, ModelError> {
    let mut json: serde_json::Value = serde_json::from_str(&small().to_json()).unwrap();
    json[key] = value;
    UNet2dConditionalConfig::from_json(&json.to_string())
}

#[test]
fn published_options_that_are_not_supported_are_named() {
    use serde_json::json;
    for (key, value) in [
        ("act_fn", json!("sigmoid")),
        ("addition_embed_type", json!("image_hint")),
        ("addition_embed_type", json!("other")),
        ("attention_type", json!("gated")),
        ("class_embed_type", json!("other")),
        ("cross_attention_dim", json!([6, 8])),
        ("cross_attention_norm", json!("batch_norm")),
        ("down_block_types", json!(["SkipDownBlock2D", "DownBlock2D"])),
        ("dual_cross_attention", json!(true)),
        ("encoder_hid_dim_type", json!("text_proj")),
        ("mid_block_type", json!("UNetMidBlock3D")),
        ("norm_num_groups", json!(null)),
        ("num_attention_heads", json!(2)),
        ("resnet_time_scale_shift", json!("spatial")),
        ("time_embedding_type", json!("learned")),
        ("time_embedding_act_fn", json!("sigmoid")),
        ("timestep_post_act", json!("sigmoid")),
        ("up_block_types", json!(["UpBlock2D", "SkipUpBlock2D"])),
    ] {
        let error = read(key, value.clone()).unwrap_err();
        let named = matches!(&error, ModelError::Unsupported { key: k, .. } if *k == key || *k == "encoder_hid_dim");
        assert!(named, "{key} = {value}: {error}");
    }
    for key in ["attention_head_dim", "layers_per_block", "transformer_layers_per_block"] {
        let error = read(key, json!([1, 1, 1])).unwrap_err();
        assert!(matches!(&error, ModelError::Config { field, .. } if *field == key), "{error}");
    }
    let error = read("transformer_layers_per_block", json!([[1], 2])).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported { key: "reverse_transformer_layers_per_block", .. }), "{error}");
    for key in ["down_block_types", "up_block_types"] {
        let error = read(key, json!(["DownBlock2D"])).unwrap_err();
        assert!(matches!(&error, ModelError::Config { field, .. } if *field == key), "{error}");
    }
    assert!(matches!(read("wings", json!(2)), Err(ModelError::UnknownKeys { .. })));
    assert!(matches!(read("layers_per_block", json!("two")), Err(ModelError::BadValue { .. })));
    assert!(matches!(read("_class_name", json!("UNet2DModel")), Err(ModelError::WrongClass { .. })));
    // Flags that published files write as null.
    assert!(!read("upcast_attention", json!(null)).unwrap().encoder.upcast);
}
