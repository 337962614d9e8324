//! The encoder of T5, BERT, and the small encoder of bytes.

use crate::common::{assert_gradient_agrees, flex, largest_difference, tensor, values};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use langevin_models::layers::Activation;
use langevin_models::text::{
    Bert, BertConfig, ByteText, ByteTextConfig, T5Encoder, T5EncoderConfig, T5FeedForward, Tokens,
};
use langevin_models::weights::{parameters, read_weights, write_weights};
use langevin_models::{Load, ModelError, Tap, Tapped};
use std::path::Path;

fn t5_config() -> T5EncoderConfig {
    T5EncoderConfig::new(40, 12).layers(2).heads(2, 6)
}

fn bert_config() -> BertConfig {
    BertConfig::new(40, 12).layers(2).heads(2).positions(8)
}

fn bytes_config() -> ByteTextConfig {
    ByteTextConfig::new(8).layers(2).heads(2).length(10)
}

/// The second is longer.
const TEXTS: [&str; 2] = ["ab", "größer"];

fn tokens() -> Tokens {
    Tokens::padded([vec![3, 7, 9, 1], vec![5, 8, 1]], 0).unwrap()
}

fn t5(folder: &Path, load: Load) -> T5Encoder {
    if !folder.join("config.json").exists() {
        t5_config().init(&flex()).unwrap().save(folder).unwrap();
    }
    T5Encoder::load(folder, load).unwrap()
}

/// Multiplies the parameters of rank two whose name ends so.
struct Scale {
    name: Vec<String>,
    end: &'static str,
    factor: f64,
}

impl ModuleMapper for Scale {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.name.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.name.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let here = self.name.join(".").ends_with(self.end);
        param.map(|tensor| if here { tensor * self.factor } else { tensor })
    }
}

fn scaled<M: Module>(module: M, end: &'static str, factor: f64) -> M {
    module.map(&mut Scale { name: Vec::new(), end, factor })
}

#[test]
fn a_saved_encoder_is_the_same_encoder() {
    for feed_forward in [T5FeedForward::Plain(Activation::Relu), T5FeedForward::Gated(Activation::GeluTanh)] {
        let folder = tempfile::tempdir().unwrap();
        let encoder = t5_config().feed_forward(feed_forward).init(&flex()).unwrap();
        encoder.save(folder.path()).unwrap();
        let again = T5Encoder::load(folder.path(), Load::on(&flex())).unwrap();
        assert_eq!(encoder.config(), again.config());
        let outputs = [&encoder, &again].map(|e| values(&e.forward(&tokens()).unwrap()));
        assert_eq!(outputs[0], outputs[1]);
    }
    let folder = tempfile::tempdir().unwrap();
    let encoder = bert_config().init(&flex()).unwrap();
    encoder.save(folder.path()).unwrap();
    let again = Bert::load(folder.path(), Load::on(&flex())).unwrap();
    assert_eq!(encoder.config(), again.config());
    let outputs = [&encoder, &again].map(|e| values(&e.forward(&tokens()).unwrap().pooler_output));
    assert_eq!(outputs[0], outputs[1]);
    let names: Vec<_> = parameters(&encoder).into_iter().map(|p| p.name).collect();
    assert!(names.contains(&"encoder.layer.1.attention.self.query.weight".to_owned()), "{names:?}");
}

/// A module within a module, as larger published networks hold it.
#[derive(Module, Debug)]
struct Whole {
    bert: Bert,
    cls: Bert,
}

#[test]
fn a_bert_with_a_head_is_read_without_it() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let encoder = bert_config().init(&device).unwrap();
    let head = bert_config().init(&device).unwrap();
    encoder.save(folder.path()).unwrap();
    let whole = Whole { bert: encoder, cls: head };
    write_weights(&whole, folder.path().join("model.safetensors")).unwrap();
    let again = Bert::load(folder.path(), Load::on(&device)).unwrap();
    let outputs = [&whole.bert, &again].map(|e| values(&e.forward(&tokens()).unwrap().last_hidden_state));
    assert_eq!(outputs[0], outputs[1]);
}

/// Tables under the names of the two ways in which they are published.
#[derive(Module, Debug)]
struct Tables {
    shared: Option<langevin_models::layers::Embedding>,
    encoder: Encoder,
    decoder: langevin_models::layers::Embedding,
    lm_head: langevin_models::layers::Embedding,
}

#[derive(Module, Debug)]
struct Encoder {
    embed_tokens: langevin_models::layers::Embedding,
    block: Vec<langevin_models::text::T5Block>,
    final_layer_norm: langevin_models::layers::RmsNorm,
}

#[test]
fn the_table_of_tokens_has_two_names() {
    let device = flex();
    let original = t5_config().init(&device).unwrap();
    let other = t5_config().init(&device).unwrap();
    for shared in [None, Some(other.shared.clone())] {
        let folder = tempfile::tempdir().unwrap();
        original.save(folder.path()).unwrap();
        let published = Tables {
            shared,
            encoder: Encoder {
                embed_tokens: original.shared.clone(),
                block: original.encoder.block.clone(),
                final_layer_norm: original.encoder.final_layer_norm.clone(),
            },
            decoder: other.shared.clone(),
            lm_head: other.shared.clone(),
        };
        write_weights(&published, folder.path().join("model.safetensors")).unwrap();
        let again = T5Encoder::load(folder.path(), Load::on(&device)).unwrap();
        let outputs = [&original, &again].map(|e| values(&e.forward(&tokens()).unwrap()));
        assert_eq!(outputs[0], outputs[1]);
    }
}

#[test]
fn half_precision_stays_near_single_precision() {
    let folder = tempfile::tempdir().unwrap();
    let run = |dtype| t5(folder.path(), Load::on(&flex()).dtype(dtype)).forward(&tokens()).unwrap();
    let (half, single) = (run(DType::F16), run(DType::F32));
    assert_eq!(half.dtype(), DType::F16);
    let off = largest_difference(&half, &single);
    assert!(off > 0.0 && off < 0.02, "{off}");
    let folder = tempfile::tempdir().unwrap();
    bert_config().init(&flex()).unwrap().save(folder.path()).unwrap();
    let run = |dtype| Bert::load(folder.path(), Load::on(&flex()).dtype(dtype)).unwrap().sentences(&tokens()).unwrap();
    let (half, single) = (run(DType::F16), run(DType::F32));
    let off = largest_difference(&half, &single);
    assert!(off > 0.0 && off < 0.02, "{off}");
    let folder = tempfile::tempdir().unwrap();
    bytes_config().init(&flex()).unwrap().save(folder.path()).unwrap();
    let load = |dtype| ByteText::load(folder.path(), Load::on(&flex()).dtype(dtype)).unwrap();
    let run = |dtype| load(dtype).encode(&TEXTS).unwrap().states;
    let (half, single) = (run(DType::F16), run(DType::F32));
    assert_eq!(half.dtype(), DType::F16);
    let off = largest_difference(&half, &single);
    assert!(off > 0.0 && off < 0.02, "{off}");
}

#[test]
fn half_precision_does_not_overflow_where_published_weights_do() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    // The last layers of each token return numbers beyond f16, though their weights are within it.
    let large = scaled(scaled(t5_config().init(&device).unwrap(), "wo.weight", 6e4), "wi_1.weight", 100.0);
    large.save(folder.path()).unwrap();
    let mut largest = 0.0f64;
    let mut see = |name: &str, value: Tapped<'_>| {
        if name.ends_with("wo") {
            largest = value.to_data().iter::<f64>().fold(largest, |m, v| m.max(v.abs()));
        }
    };
    let single = large.forward_with(&tokens(), &mut Tap::new(&mut see)).unwrap();
    assert!(largest > 2.0 * 65504.0, "{largest} fits into f16");
    let half = t5(folder.path(), Load::on(&device).dtype(DType::F16)).forward(&tokens()).unwrap();
    assert!(values(&half).iter().all(|v| v.is_finite()));
    let off = largest_difference(&half, &single);
    assert!(off < 0.05, "{off}");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let folder = tempfile::tempdir().unwrap();
    t5(folder.path(), Load::on(&flex()));
    assert_gradient_agrees([2, 4, 12], |device: &Device| {
        let encoder = t5(folder.path(), Load::on(device).dtype(DType::F64));
        move |x: Tensor<3>| encoder.forward_embedded(x, &tokens(), &mut Tap::none()).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    bert_config().init(&flex()).unwrap().save(folder.path()).unwrap();
    assert_gradient_agrees([2, 4, 12], |device: &Device| {
        let encoder = Bert::load(folder.path(), Load::on(device).dtype(DType::F64)).unwrap();
        move |x: Tensor<3>| encoder.forward_embedded(x, &tokens(), &mut Tap::none()).unwrap().last_hidden_state
    });
    // Bytes are no numbers to differentiate by; their table is.
    let folder = tempfile::tempdir().unwrap();
    bytes_config().init(&flex()).unwrap().save(folder.path()).unwrap();
    assert_gradient_agrees([258, 8], |device: &Device| {
        let encoder = ByteText::load(folder.path(), Load::on(device).dtype(DType::F64)).unwrap();
        move |table: Tensor<2>| {
            let mut encoder = encoder.clone();
            encoder.tokens.weight = Param::from_tensor(table);
            encoder.encode(&TEXTS).unwrap().states
        }
    });
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    let encoder = t5_config().init(&device).unwrap();
    let output = encoder.forward(&tokens()).unwrap();
    let gradients = (output * tensor([2, 4, 12], 0.8, &device)).sum().backward();
    crate::common::assert_gradients_flow(&encoder, &gradients);
    let encoder = bytes_config().init(&device).unwrap();
    let states = encoder.encode(&TEXTS).unwrap().states;
    let gradients = (states * tensor([2, 9, 8], 0.8, &device)).sum().backward();
    crate::common::assert_gradients_flow(&encoder, &gradients);
    let encoder = BertConfig { epsilon: 1e-3, ..bert_config() }.init(&device).unwrap();
    let output = encoder.forward(&tokens()).unwrap();
    let sum = (output.last_hidden_state * tensor([2, 4, 12], 0.8, &device)).sum()
        + (output.pooler_output * tensor([2, 12], 0.3, &device)).sum();
    for (name, largest) in crate::common::gradients(&encoder, &sum.backward()) {
        let largest = largest.unwrap_or_else(|| panic!("{name} has no gradient"));
        // A bias of keys shifts all scores alike.
        assert!(largest > 1e-9 || name.ends_with("key.bias"), "{name}: {largest}");
    }
}

#[test]
fn what_fills_a_row_does_not_matter() {
    let t5 = t5_config().init(&flex()).unwrap();
    let bert = bert_config().init(&flex()).unwrap();
    let alone = Tokens::new([vec![5, 8, 1]]).unwrap();
    let row = |states: Tensor<3>| states.narrow(0, 1, 1).narrow(1, 0, 3);
    assert!(largest_difference(&row(t5.forward(&tokens()).unwrap()), &t5.forward(&alone).unwrap()) < 1e-5);
    let both = [&tokens(), &alone].map(|tokens| bert.sentences(tokens).unwrap());
    assert!(largest_difference(&both[0].clone().narrow(0, 1, 1), &both[1]) < 1e-5);
    for sentence in values(&both[0]).chunks(12) {
        let length: f64 = sentence.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[test]
fn a_text_of_which_nothing_is_seen_is_no_nan() {
    let hidden = Tokens::new([vec![5, 8, 1]]).unwrap().mask(vec![vec![false; 3]]).unwrap();
    let t5 = t5_config().init(&flex()).unwrap();
    assert!(values(&t5.forward(&hidden).unwrap()).iter().all(|v| v.is_finite()));
    let bert = bert_config().init(&flex()).unwrap();
    assert_eq!(values(&bert.sentences(&hidden).unwrap()), [0.0; 12]);
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let (t5, bert) = (t5_config().init(&flex()).unwrap(), bert_config().init(&flex()).unwrap());
    let unknown = Tokens::new([vec![1, 40]]).unwrap();
    for error in [t5.forward(&unknown).map(|_| ()), bert.forward(&unknown).map(|_| ())].map(Result::unwrap_err) {
        assert!(matches!(error, ModelError::TokenOutOfRange { token: 40, vocabulary: 40, .. }), "{error}");
    }
    let long = Tokens::new([vec![1; 9]]).unwrap();
    t5.forward(&long).unwrap();
    assert!(matches!(bert.forward(&long), Err(ModelError::Shape { what: "tokens", .. })));
    let embedded = || tensor([2, 3, 12], 0.1, &flex());
    let error = t5.forward_embedded(embedded(), &tokens(), &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "embedded", .. }), "{error}");
    let error = bert.forward_embedded(embedded(), &tokens(), &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "embedded", .. }), "{error}");
    // A file of another network lists what is missing.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    write_weights(&t5, &path).unwrap();
    assert!(matches!(read_weights(bert, &path, &Load::on(&flex())), Err(ModelError::Weights { .. })));
}

#[test]
fn every_named_module_is_seen() {
    let seen = |forward: &dyn Fn(&mut Tap<'_>)| {
        let mut names = Vec::new();
        let mut see = |name: &str, _: Tapped<'_>| names.push(name.to_owned());
        forward(&mut Tap::new(&mut see));
        names
    };
    let t5 = t5_config().init(&flex()).unwrap();
    let bert = bert_config().init(&flex()).unwrap();
    let names = seen(&|tap| drop(t5.forward_with(&tokens(), tap).unwrap()));
    let check = |names: &[String], parameter: &str| {
        let module = parameter.rsplit_once('.').unwrap().0;
        // Tables of positions and kinds are read as a whole.
        let whole = ["relative_attention_bias", "position_embeddings", "token_type_embeddings"];
        assert!(names.iter().any(|name| name == module) || whole.iter().any(|end| module.ends_with(end)), "{module}");
    };
    parameters(&t5).iter().for_each(|parameter| check(&names, &parameter.name));
    let names = seen(&|tap| drop(bert.forward_with(&tokens(), tap).unwrap()));
    parameters(&bert).iter().for_each(|parameter| check(&names, &parameter.name));
}
