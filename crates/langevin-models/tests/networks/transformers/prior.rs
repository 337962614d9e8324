//! The prior of unCLIP.

use super::{assert_half_precision, assert_refused, assert_shows_every_module, assert_unsupported, filled, slopes};
use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Network};
use langevin_models::layers::Activation;
use langevin_models::{Load, ModelError, Prior, PriorConfig, Tap, TextCondition};

fn small() -> PriorConfig {
    PriorConfig::new(5, 4).heads(2, 6).layers(2)
}

/// Every option that adds layers.
fn large() -> PriorConfig {
    let mut config = small();
    (config.norm_in, config.norm_embedding, config.time_activation) = (true, true, Activation::Gelu);
    (config.time_width, config.text_width, config.output_width) = (Some(10), 7, 3);
    config
}

/// Denoises as many tokens as there are positions, without a text.
fn free() -> PriorConfig {
    let mut config = small();
    (config.project_text, config.last_token, config.additional) = (false, false, 0);
    config
}

fn time(device: &Device) -> Tensor<1> {
    Tensor::from_data([3.0, 400.0], device)
}

fn unmasked(config: &PriorConfig, device: &Device) -> TextCondition {
    TextCondition::new(tensor([2, 4, 5], 0.6, device)).pooled(tensor([2, config.text_width], 0.2, device))
}

fn text(config: &PriorConfig, device: &Device) -> TextCondition {
    unmasked(config, device).mask(Tensor::from_data([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]], device))
}

fn ask(net: &Prior, x: Tensor<2>) -> Tensor<2> {
    let device = x.device();
    net.forward_with(x, time(&device), &text(net.config(), &device), &mut Tap::none()).unwrap()
}

#[test]
fn a_saved_network_is_loaded_as_it_was() {
    let device = flex();
    for config in [small(), large()] {
        let folder = tempfile::tempdir().unwrap();
        let net = config.init(&device).unwrap();
        net.save(folder.path()).unwrap();
        let same = Prior::load(folder.path(), Load::on(&device)).unwrap();
        assert_eq!(same.config(), net.config());
        let x = tensor([2, 5], 0.3, &device);
        assert_eq!(values(&ask(&same, x.clone())), values(&ask(&net, x)));
    }
    for config in [free(), large(), small().dropout(0.1)] {
        assert_eq!(PriorConfig::from_json(&config.to_json()).unwrap(), config);
    }
}

#[test]
fn gradients_are_those_of_the_function_and_reach_every_parameter() {
    assert_gradient_agrees([2, 5], |device| {
        let net = filled(large().init(device).unwrap(), DType::F64);
        // One token of many: the answer moves little.
        move |x| ask(&net, x) * 100.0
    });
    let device = flex().autodiff();
    let net = large().init(&device).unwrap();
    let y = net.post_process(ask(&net, tensor([2, 5], 0.3, &device))).unwrap();
    assert_gradients_flow(&net, &slopes(y));
}

#[test]
fn half_precision_is_close() {
    let device = flex();
    let x = tensor([2, 5], 0.3, &device);
    assert_half_precision(|| large().init(&device).unwrap(), &x, ask, [0.01, 0.08]);
}

#[test]
fn every_module_is_shown() {
    let device = flex();
    let net = large().init(&device).unwrap();
    assert_shows_every_module(&net, |tap| {
        net.forward_with(tensor([2, 5], 0.3, &device), time(&device), &text(&large(), &device), tap).unwrap();
    });
    assert_names_what_is_not_finite(&net, tensor([2, 5], 0.3, &device), time(&device), &text(&large(), &device));
}

#[test]
fn with_a_mask_no_token_sees_those_behind_it_or_hidden_ones() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let run = |states: Tensor<3>, masked: bool| {
        let mut text = text(&small(), &device);
        text.states = states;
        text.mask = text.mask.filter(|_| masked);
        let mut first = Tensor::<3>::zeros([1, 1, 1], &device).into_data();
        let mut see = |name: &str, value: langevin_models::Tapped<'_>| {
            if name == "transformer_blocks.1" {
                first = value.to_data();
            }
        };
        let x = tensor([2, 5], 0.3, &device);
        let y = net.forward_with(x, time(&device), &text, &mut Tap::new(&mut see)).unwrap();
        let first = Tensor::<3>::from_data(first, &device).slice([0..1, 0..2, 0..12]);
        (first, y)
    };
    let states = tensor::<3>([2, 4, 5], 0.6, &device);
    let change = |at: usize| {
        let other = tensor([2, 1, 5], 2.9, &device);
        states.clone().slice_assign([0..2, at..at + 1, 0..5], other)
    };
    let (first, y) = run(states.clone(), true);
    // The third token is behind the first two, and seen by the last.
    let (after, changed) = run(change(2), true);
    assert!(largest_difference(&first, &after) < 1e-6);
    assert!(largest_difference(&y, &changed) > 1e-4);
    // The fourth is hidden from all.
    assert!(largest_difference(&y, &run(change(3), true).1) < 1e-6);
    // Without a mask every token sees every other.
    let (first, _) = run(states.clone(), false);
    assert!(largest_difference(&first, &run(change(2), false).0) > 1e-4);
}

#[test]
fn answers_are_brought_back_by_mean_and_deviation() {
    let device = flex();
    let net = filled(small().init(&device).unwrap(), DType::F32);
    let x = tensor([2, 5], 0.3, &device);
    let expected = x.clone() * net.clip_std.val() + net.clip_mean.val();
    assert_eq!(values(&net.post_process(x).unwrap()), values(&expected));
    let error = net.post_process(tensor([2, 4], 0.3, &device)).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{error}");
}

#[test]
fn many_tokens_without_a_text_have_the_stored_positions() {
    let device = flex();
    let net = filled(free().init(&device).unwrap(), DType::F32);
    let embedding = tensor::<2>([2, 5], 0.8, &device);
    let ask = |x: Tensor<3>| net.forward_tokens(x, time(&device), embedding.clone(), None, &mut Tap::none());
    let x = tensor::<3>([2, 4, 5], 0.3, &device);
    let y = ask(x.clone()).unwrap();
    assert_eq!(y.dims(), [2, 4, 5]);
    // Without positions, turning the tokens around would turn the answer around.
    assert!(largest_difference(&ask(x.flip([1])).unwrap().flip([1]), &y) > 1e-4);
    let error = ask(tensor([2, 3, 5], 0.3, &device)).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "tokens", .. }), "{error}");
}

#[test]
fn each_bad_field_is_named() {
    let with = |change: fn(&mut PriorConfig)| {
        let mut c = small();
        change(&mut c);
        c.init(&flex())
    };
    for (result, name) in [
        (with(|c| c.heads = 0), "heads"),
        (with(|c| c.head_dim = 0), "head_dim"),
        (with(|c| (c.heads, c.head_dim) = (1, 3)), "head_dim"),
        (with(|c| c.layers = 0), "layers"),
        (with(|c| c.embedding_width = 0), "embedding_width"),
        (with(|c| c.tokens = 0), "tokens"),
        (with(|c| c.text_width = 0), "text_width"),
        (with(|c| c.output_width = 0), "output_width"),
        (with(|c| c.time_width = Some(0)), "time_width"),
        (with(|c| c.dropout = 1.0), "dropout"),
    ] {
        assert_refused(result, name);
    }
    for (json, name) in [
        (r#"{"norm_in_type": "group"}"#, "norm_in_type"),
        (r#"{"embedding_proj_norm_type": "rms"}"#, "embedding_proj_norm_type"),
        (r#"{"encoder_hid_proj_type": "mlp"}"#, "encoder_hid_proj_type"),
        (r#"{"added_emb_type": "cls"}"#, "added_emb_type"),
        (r#"{"time_embed_act_fn": "tanh"}"#, "time_embed_act_fn"),
    ] {
        assert_unsupported(PriorConfig::from_json(json), name);
    }
    let error = PriorConfig::from_json(r#"{"embed_dim": 3}"#).unwrap_err();
    assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
    assert_eq!(PriorConfig::from_json("{}").unwrap(), PriorConfig::new(768, 77));
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let ask = |width, text: &TextCondition| {
        let x = tensor::<2>([2, width], 0.3, &device);
        net.forward_with(x, Tensor::from_data([1.0], &device), text, &mut Tap::none()).unwrap_err()
    };
    let error = ask(4, &text(&small(), &device));
    assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{error}");
    let error = ask(5, &TextCondition::new(tensor([2, 4, 5], 0.6, &device)));
    assert!(matches!(error, ModelError::MissingPart { part: "pooled" }), "{error}");
    let error = ask(5, &unmasked(&large(), &device));
    assert!(matches!(error, ModelError::Shape { what: "pooled text", .. }), "{error}");
    let longer = TextCondition::new(tensor([2, 6, 5], 0.6, &device)).pooled(tensor([2, 5], 0.2, &device));
    let error = ask(5, &longer);
    assert!(matches!(error, ModelError::Shape { what: "tokens", .. }), "{error}");
    let error = ask(5, &unmasked(&small(), &device).guidance([1.0, 1.0]));
    assert!(matches!(error, ModelError::UnknownPart { part: "guidance" }), "{error}");
    let x = tensor::<3>([2, 1, 5], 0.3, &device);
    let embedding = tensor::<2>([2, 5], 0.2, &device);
    let error = net.forward_tokens(x, time(&device), embedding, None, &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "text states", .. }), "{error}");
    assert!(matches!(net.check_shape(&[4]), Err(DenoiseError::Shape { .. })));
    net.check_shape(&[5]).unwrap();
    net.check_condition(&text(&small(), &device)).unwrap();
}
