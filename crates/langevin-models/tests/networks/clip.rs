//! The towers of CLIP.

use crate::common::{assert_gradient_agrees, assert_gradients_flow, flex, largest_difference, tensor, values};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use langevin_models::text::{ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, EndOfText, Tokens};
use langevin_models::weights::{parameters, write_weights};
use langevin_models::{Load, ModelError, Tap};

fn text_config() -> ClipTextConfig {
    ClipTextConfig::new(50, 16).layers(2).heads(2).positions(6).projection(5)
}

fn vision_config() -> ClipVisionConfig {
    ClipVisionConfig::new(12, 4, 16).layers(2).heads(2).projection(5)
}

fn tokens() -> Tokens {
    Tokens::new([vec![48, 3, 7, 49], vec![48, 9, 49, 49]]).unwrap()
}

/// A tower with its initial parameters, in another element type.
fn text(folder: &std::path::Path, load: Load) -> ClipText {
    if !folder.join("config.json").exists() {
        text_config().init(&flex()).unwrap().save(folder).unwrap();
    }
    ClipText::load(folder, load).unwrap()
}

#[test]
fn a_saved_tower_is_the_same_tower() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = text_config().init(&flex()).unwrap();
    encoder.save(folder.path()).unwrap();
    assert!(folder.path().join("model.safetensors").exists());
    let again = ClipText::load(folder.path(), Load::on(&flex())).unwrap();
    assert_eq!(encoder.config(), again.config());
    let outputs = [&encoder, &again].map(|e| e.forward(&tokens()).unwrap());
    assert_eq!(values(&outputs[0].last_hidden_state), values(&outputs[1].last_hidden_state));
    assert_eq!(outputs[0].text_embeds.as_ref().map(values), outputs[1].text_embeds.as_ref().map(values));

    let folder = tempfile::tempdir().unwrap();
    let encoder = vision_config().init(&flex()).unwrap();
    encoder.save(folder.path()).unwrap();
    let again = ClipVision::load(folder.path(), Load::on(&flex())).unwrap();
    assert_eq!(encoder.config(), again.config());
    let x = tensor([1, 3, 12, 12], 0.4, &flex());
    let outputs = [&encoder, &again].map(|e| e.forward(x.clone()).unwrap());
    assert_eq!(outputs[0].image_embeds.as_ref().map(values), outputs[1].image_embeds.as_ref().map(values));
    assert_eq!(values(&outputs[0].last_hidden_state), values(&outputs[1].last_hidden_state));
}

#[test]
fn names_without_prefix_are_read() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let encoder = text_config().init(&device).unwrap();
    encoder.save(folder.path()).unwrap();
    // The transformer alone has the names that transformers 5 writes.
    write_weights(&encoder.text_model, folder.path().join("model.safetensors")).unwrap();
    let error = ClipText::load(folder.path(), Load::on(&device)).unwrap_err();
    let ModelError::Weights { mismatch, .. } = error else { panic!("{error}") };
    assert_eq!(mismatch.missing, ["text_projection.weight"]);
    assert!(mismatch.unused.is_empty());
    let plain = ClipTextConfig { projection: None, ..text_config() };
    std::fs::write(folder.path().join("config.json"), plain.to_json()).unwrap();
    let again = ClipText::load(folder.path(), Load::on(&device)).unwrap();
    let outputs = [&encoder, &again].map(|e| values(&e.forward(&tokens()).unwrap().last_hidden_state));
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn half_precision_stays_near_single_precision() {
    let folder = tempfile::tempdir().unwrap();
    let single = text(folder.path(), Load::on(&flex())).forward(&tokens()).unwrap();
    let half = text(folder.path(), Load::on(&flex()).dtype(DType::F16)).forward(&tokens()).unwrap();
    assert_eq!(half.last_hidden_state.dtype(), DType::F16);
    let off = largest_difference(&half.last_hidden_state, &single.last_hidden_state);
    assert!(off > 0.0 && off < 0.02, "{off}");

    let folder = tempfile::tempdir().unwrap();
    vision_config().init(&flex()).unwrap().save(folder.path()).unwrap();
    let x = tensor([1, 3, 12, 12], 0.4, &flex());
    let run =
        |dtype| ClipVision::load(folder.path(), Load::on(&flex()).dtype(dtype)).unwrap().forward(x.clone()).unwrap();
    let (half, single) = (run(DType::F16), run(DType::F32));
    assert_eq!(half.pooler_output.dtype(), DType::F32);
    let off = largest_difference(&half.pooler_output, &single.pooler_output);
    assert!(off > 0.0 && off < 0.02, "{off}");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let folder = tempfile::tempdir().unwrap();
    text(folder.path(), Load::on(&flex()));
    assert_gradient_agrees([2, 4, 16], |device: &Device| {
        let encoder = text(folder.path(), Load::on(device).dtype(DType::F64));
        move |x: Tensor<3>| {
            let tokens = tokens().mask(vec![vec![true; 4], vec![true, true, true, false]]).unwrap();
            encoder.forward_embedded(x, &tokens, &mut Tap::none()).unwrap().last_hidden_state
        }
    });
    let folder = tempfile::tempdir().unwrap();
    vision_config().init(&flex()).unwrap().save(folder.path()).unwrap();
    assert_gradient_agrees([1, 3, 12, 12], |device: &Device| {
        let encoder = ClipVision::load(folder.path(), Load::on(device).dtype(DType::F64)).unwrap();
        move |x: Tensor<4>| encoder.forward(x).unwrap().image_embeds.unwrap()
    });
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    let encoder = text_config().init(&device).unwrap().train();
    // Away from the small numbers that the tables start with.
    let embedded = tensor([2, 4, 16], 0.7, &device);
    let output = encoder.forward_embedded(embedded, &tokens(), &mut Tap::none()).unwrap();
    let sum = (output.text_embeds.unwrap() * tensor([2, 5], 0.8, &device)).sum()
        + (encoder.embed(&tokens()).unwrap() * tensor([2, 4, 16], 0.1, &device)).sum();
    let gradients = sum.backward();
    for (name, largest) in crate::common::gradients(&encoder, &gradients) {
        let largest = largest.unwrap_or_else(|| panic!("{name} has no gradient"));
        // A bias of keys shifts all scores alike.
        assert!(largest > 1e-9 || name.ends_with("k_proj.bias"), "{name}: {largest}");
    }
    let encoder = ClipVisionConfig { epsilon: 1e-3, ..vision_config() }.init(&device).unwrap();
    let output = encoder.forward(tensor([1, 3, 12, 12], 0.4, &device)).unwrap();
    let gradients = (output.image_embeds.unwrap() * tensor([1, 5], 0.3, &device)).sum().backward();
    for (name, largest) in crate::common::gradients(&encoder, &gradients) {
        let largest = largest.unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(largest > 1e-9 || name.ends_with("k_proj.bias"), "{name}: {largest}");
    }
    // The helper of the other networks agrees on a part without attention.
    let x = encoder.vision_model.post_layernorm.forward(tensor::<3>([1, 2, 16], 0.2, &device));
    let gradients = (x * tensor([1, 2, 16], 0.9, &device)).sum().backward();
    assert_gradients_flow(&encoder.vision_model.post_layernorm, &gradients);
}

#[test]
fn tokens_do_not_see_what_comes_after() {
    let encoder = text_config().init(&flex()).unwrap();
    let states = |ids: Vec<u32>| encoder.forward(&Tokens::new([ids]).unwrap()).unwrap().last_hidden_state;
    let (short, long) = (states(vec![48, 3]), states(vec![48, 3, 7, 8]));
    assert!(largest_difference(&short, &long.clone().narrow(1, 0, 2)) < 1e-6);
    let other = states(vec![48, 4, 7, 8]);
    assert!(largest_difference(&long.narrow(1, 1, 3), &other.narrow(1, 1, 3)) > 1e-4);
}

#[test]
fn hidden_tokens_do_not_matter() {
    let encoder = text_config().init(&flex()).unwrap();
    let states = |id: u32| {
        let tokens = Tokens::new([vec![48, id, 7, 49]]).unwrap().mask(vec![vec![true, false, true, true]]).unwrap();
        encoder.forward(&tokens).unwrap().last_hidden_state
    };
    let (one, other) = (states(3), states(4));
    assert_eq!(values(&one.clone().narrow(1, 2, 2)), values(&other.clone().narrow(1, 2, 2)));
    assert!(largest_difference(&one, &other) > 1e-4, "the state of the token itself is that of the token");
}

#[test]
fn a_text_ends_where_it_says() {
    let ask = |end, ids: Vec<u32>| {
        let encoder = ClipTextConfig { end, ..text_config() }.init(&flex()).unwrap();
        let output = encoder.forward(&Tokens::new([ids]).unwrap()).unwrap();
        let pooled = values(&output.pooler_output);
        let states = values(&output.last_hidden_state);
        states.chunks(16).position(|state| state == pooled).unwrap()
    };
    assert_eq!(ask(EndOfText::First(7), vec![48, 3, 7, 49, 7]), 2);
    assert_eq!(ask(EndOfText::Highest, vec![48, 3, 7, 49, 49]), 3);
    // As the original has it.
    assert_eq!(ask(EndOfText::First(7), vec![48, 3, 49]), 0);
}

#[test]
fn layers_are_skipped_from_the_end() {
    let encoder = text_config().init(&flex()).unwrap();
    let output = encoder.forward(&tokens()).unwrap();
    let last = encoder.normalize(output.from_end(0).unwrap());
    assert_eq!(values(&last), values(&output.last_hidden_state));
    assert_eq!(values(&output.from_end(2).unwrap()), values(&output.hidden_states[0]));
    assert!(matches!(output.from_end(3), Err(ModelError::Config { field: "layers", .. })));
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let encoder = text_config().init(&device).unwrap();
    let error = encoder.forward(&Tokens::new([vec![1, 50]]).unwrap()).unwrap_err();
    assert!(matches!(error, ModelError::TokenOutOfRange { row: 0, position: 1, token: 50, vocabulary: 50 }), "{error}");
    let error = encoder.forward(&Tokens::new([vec![1; 7]]).unwrap()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "tokens", .. }), "{error}");
    let embedded = tensor([2, 3, 16], 0.1, &device);
    let error = encoder.forward_embedded(embedded, &tokens(), &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "embedded", .. }), "{error}");
    let encoder = vision_config().init(&device).unwrap();
    for shape in [[1, 3, 12, 16], [1, 3, 8, 8], [1, 1, 12, 12]] {
        let error = encoder.forward(tensor(shape, 0.1, &device)).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "pixels", .. }), "{error}");
    }
}

#[test]
fn every_named_module_is_seen() {
    let device = flex();
    let encoder = text_config().init(&device).unwrap();
    let mut names = Vec::new();
    let mut see = |name: &str, _: langevin_models::Tapped<'_>| names.push(name.to_owned());
    encoder.forward_with(&tokens(), &mut Tap::new(&mut see)).unwrap();
    for parameter in parameters(&encoder) {
        let module = parameter.name.rsplit_once('.').unwrap().0;
        // The table of positions is read as a whole.
        assert!(names.iter().any(|name| name == module) || module.ends_with("position_embedding"), "{module}");
    }
}
