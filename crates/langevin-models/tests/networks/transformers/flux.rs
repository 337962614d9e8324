//! FLUX.1.

use super::{assert_half_precision, assert_refused, assert_shows_every_module, filled, slopes};
use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Network};
use langevin_models::layers::{PatchOrder, patchify, unpatchify};
use langevin_models::{Flux, FluxConfig, FluxTokens, Load, ModelError, Tap, TextCondition};

fn small() -> FluxConfig {
    FluxConfig::new(2, 5, 7).heads(2, [2, 4, 2]).layers(1, 2).guidance(true)
}

fn time(device: &Device) -> Tensor<1> {
    Tensor::from_data([0.03, 0.4], device)
}

fn unguided(device: &Device) -> TextCondition {
    TextCondition::new(tensor([2, 4, 5], 0.6, device)).pooled(tensor([2, 7], 0.2, device))
}

fn text(device: &Device) -> TextCondition {
    unguided(device).guidance([3.5, 1.0])
}

fn ask(net: &Flux, x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    net.forward(x, time(&device), &text(&device)).unwrap()
}

#[test]
fn a_saved_network_is_loaded_as_it_was() {
    let device = flex();
    let x = tensor([2, 2, 4, 6], 0.3, &device);
    let folder = tempfile::tempdir().unwrap();
    let net = small().init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let same = Flux::load(folder.path(), Load::on(&device)).unwrap();
    assert_eq!(same.config(), net.config());
    assert_eq!(values(&ask(&same, x.clone())), values(&ask(&net, x)));
    let config = small().image(3).guidance(false);
    config.init(&device).unwrap().save(folder.path()).unwrap();
    assert_eq!(*Flux::load(folder.path(), Load::on(&device)).unwrap().config(), config);
}

#[test]
fn gradients_are_those_of_the_function_and_reach_every_parameter() {
    assert_gradient_agrees([2, 2, 4, 4], |device| {
        let net = filled(small().init(device).unwrap(), DType::F64);
        move |x| ask(&net, x)
    });
    let device = flex().autodiff();
    let net = small().init(&device).unwrap();
    let y = ask(&net, tensor([2, 2, 4, 6], 0.3, &device));
    assert_gradients_flow(&net, &slopes(y));
}

#[test]
fn half_precision_is_close() {
    let device = flex();
    let x = tensor([2, 2, 4, 6], 0.3, &device);
    assert_half_precision(|| small().init(&device).unwrap(), &x, ask, [0.02, 0.15]);
}

#[test]
fn every_module_is_shown() {
    let device = flex();
    let net = small().init(&device).unwrap();
    assert_shows_every_module(&net, |tap| {
        let x = tensor([2, 2, 4, 6], 0.3, &device);
        net.forward_latents(x, time(&device), &text(&device), tap).unwrap();
    });
    assert_names_what_is_not_finite(&net, tensor([2, 2, 4, 6], 0.3, &device), time(&device), &text(&device));
}

#[test]
fn latents_are_packed_by_two_and_have_rows_and_columns() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let x = tensor([2, 2, 4, 6], 0.3, &device);
    let tokens = FluxTokens {
        values: patchify(x.clone(), 2, PatchOrder::ChannelsFirst),
        positions: vec![[0., 0., 0.], [0., 0., 1.], [0., 0., 2.], [0., 1., 0.], [0., 1., 1.], [0., 1., 2.]],
        text_positions: vec![[0.0; 3]; 4],
    };
    let ask_tokens =
        |tokens: FluxTokens| net.forward_with(tokens, time(&device), &text(&device), &mut Tap::none()).unwrap();
    let y = unpatchify(ask_tokens(tokens.clone()), [2, 3], 2, PatchOrder::ChannelsFirst);
    assert_eq!(values(&ask(&net, x)), values(&y));
    // Each axis of a position counts.
    let base = ask_tokens(tokens.clone());
    for axis in 0..3 {
        let mut moved = tokens.clone();
        moved.positions[2][axis] += 1.0;
        assert!(largest_difference(&ask_tokens(moved), &base) > 1e-4, "{axis}");
    }
    // Only differences of positions do.
    let mut moved = tokens;
    for position in moved.positions.iter_mut().chain(&mut moved.text_positions) {
        position[1] += 5.0;
    }
    assert!(largest_difference(&ask_tokens(moved), &base) < 1e-4);
}

#[test]
fn an_image_of_the_condition_is_put_behind_the_latent() {
    let device = flex();
    let net = filled(small().image(3).init(&device).unwrap(), DType::F32);
    let (x, image) = (tensor([2, 2, 4, 6], 0.3, &device), tensor::<4>([2, 3, 4, 6], 0.8, &device));
    let with = text(&device).image(image.clone());
    let y = net.forward(x.clone(), time(&device), &with).unwrap();
    assert_eq!(y.dims(), [2, 2, 4, 6]);
    let packed = [x.clone(), image].map(|part| patchify(part, 2, PatchOrder::ChannelsFirst));
    let tokens = FluxTokens::grid(Tensor::cat(packed.into(), 2), [2, 3], 4);
    let tokens = net.forward_with(tokens, time(&device), &text(&device), &mut Tap::none()).unwrap();
    assert_eq!(values(&y), values(&unpatchify(tokens, [2, 3], 2, PatchOrder::ChannelsFirst)));
    let ask = |text: &TextCondition| net.forward_latents(x.clone(), time(&device), text, &mut Tap::none());
    assert!(matches!(ask(&text(&device)), Err(ModelError::MissingPart { part: "image" })));
    let other = text(&device).image(tensor([2, 3, 4, 4], 0.8, &device));
    assert!(matches!(ask(&other), Err(ModelError::Shape { what: "image", .. })));
}

#[test]
fn time_and_guidance_are_thousandfold() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let mut seen = Vec::new();
    let mut see = |name: &str, value: langevin_models::Tapped<'_>| {
        if name == "time_text_embed.time_proj" {
            seen.push(value.to_data().iter::<f64>().collect::<Vec<_>>());
        }
    };
    let x = tensor([2, 2, 4, 6], 0.3, &device);
    net.forward_latents(x, time(&device), &text(&device), &mut Tap::new(&mut see)).unwrap();
    // The first feature is the cosine of the number itself: of the time, then of the guidance scale.
    let first: Vec<f64> = seen.iter().flat_map(|rows| [rows[0], rows[256]]).collect();
    for (given, number) in first.iter().zip([30.0f64, 400.0, 3500.0, 1000.0]) {
        assert!((given - number.cos()).abs() < 1e-3, "{given}, expected the cosine of {number}");
    }
}

#[test]
fn each_bad_field_is_named() {
    let with = |change: fn(&mut FluxConfig)| {
        let mut c = small();
        change(&mut c);
        c.init(&flex())
    };
    for (result, name) in [
        (with(|c| c.heads = 0), "heads"),
        (with(|c| c.head_dim = 0), "head_dim"),
        (with(|c| c.in_channels = 0), "in_channels"),
        (with(|c| c.out_channels = 0), "out_channels"),
        (with(|c| c.text_width = 0), "text_width"),
        (with(|c| c.pooled_width = 0), "pooled_width"),
        (with(|c| c.patch_size = 0), "patch_size"),
        (with(|c| c.axes = [2, 4, 4]), "axes"),
        (with(|c| c.axes = [1, 5, 2]), "axes"),
    ] {
        assert_refused(result, name);
    }
    let error = FluxConfig::from_json(r#"{"guidance_embed": true}"#).unwrap_err();
    assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    let config = FluxConfig::from_json("{}").unwrap();
    assert_eq!(config, FluxConfig::new(16, 4096, 768));
    assert_eq!(FluxConfig::from_json(&config.to_json()).unwrap(), config);
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let ask = |shape, text: &TextCondition| {
        let x = tensor::<4>(shape, 0.3, &device);
        net.forward_latents(x, Tensor::from_data([0.1], &device), text, &mut Tap::none()).unwrap_err()
    };
    for shape in [[2, 3, 4, 4], [2, 2, 5, 4], [2, 2, 4, 7]] {
        let error = ask(shape, &text(&device));
        assert!(matches!(&error, ModelError::Shape { what: "x", given, .. } if *given == shape), "{error}");
    }
    let error = ask([2, 2, 4, 4], &unguided(&device));
    assert!(matches!(error, ModelError::MissingPart { part: "guidance" }), "{error}");
    let error = ask([2, 2, 4, 4], &unguided(&device).guidance([f64::NAN, 1.0]));
    assert!(matches!(error, ModelError::NotFinite { row: 0, .. }), "{error}");
    let error = ask([2, 2, 4, 4], &text(&device).pooled(tensor([2, 6], 0.2, &device)));
    assert!(matches!(error, ModelError::Shape { what: "pooled text", .. }), "{error}");
    let free = small().guidance(false).init(&device).unwrap();
    assert!(matches!(free.check_condition(&text(&device)), Err(DenoiseError::Condition { .. })));
    free.check_condition(&unguided(&device)).unwrap();

    let tokens = |values, rows| FluxTokens::grid(values, [rows, 3], 4);
    let ask = |tokens| net.forward_with(tokens, time(&device), &text(&device), &mut Tap::none()).unwrap_err();
    let error = ask(tokens(tensor([2, 6, 7], 0.3, &device), 2));
    assert!(matches!(error, ModelError::Shape { what: "tokens", .. }), "{error}");
    let error = ask(tokens(tensor([2, 6, 8], 0.3, &device), 3));
    assert!(matches!(error, ModelError::Shape { what: "positions", .. }), "{error}");
    let error = ask(FluxTokens::grid(tensor([2, 6, 8], 0.3, &device), [2, 3], 5));
    assert!(matches!(error, ModelError::Shape { what: "text positions", .. }), "{error}");
    let mut config = small();
    config.out_channels = 3;
    let odd = config.init(&device).unwrap();
    assert!(matches!(odd.check_shape(&[2, 4, 4]), Err(DenoiseError::Shape { .. })));
}
