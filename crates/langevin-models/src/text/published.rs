//! The published configurations of transformers: which class they are of, and which of their keys say nothing about an
//! encoder's forward pass.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::layers::Activation;
use crate::weights::{Layout, Rename, read_any, read_config};

/// The name of the weights file in folders of transformers.
const WEIGHTS_FILE: &str = "model.safetensors";

/// The folder layout of transformers.
pub(super) const fn layout(rename: Rename) -> Layout {
    Layout { file: WEIGHTS_FILE, rename }
}

/// Keys that every configuration of transformers may have, and that do not change what an encoder computes: how the
/// file was made, how outputs are returned, how text is generated, how parameters start, what decoders and heads do.
const WITHOUT_EFFECT: &[&str] = &[
    "add_cross_attention",
    "architectures",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "n_positions",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// Reads a configuration of transformers. `classes` are those whose files hold this network, the first of them the one
/// that is meant where the file names none; the position of the class is returned.
pub(super) fn read<T>(json: &str, model_type: &'static str, classes: &[&'static str]) -> Result<(T, usize), ModelError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let class = classes[0];
    let mut given = read_any(json, class)?;
    let wrong = |given: &str| ModelError::WrongClass { expected: class, given: given.to_owned() };
    if let Some(name) = given.get("model_type").and_then(Value::as_str)
        && name != model_type
    {
        return Err(wrong(name));
    }
    let named = given.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let position = match named {
        Some(name) => classes.iter().position(|class| *class == name).ok_or_else(|| wrong(name))?,
        None => 0,
    };
    if given.get("pruned_heads").is_some_and(|heads| heads.as_object().is_none_or(|heads| !heads.is_empty())) {
        let value = given["pruned_heads"].to_string();
        return Err(ModelError::Unsupported { key: "pruned_heads", value, supported: "none" });
    }
    given.remove("pruned_heads");
    // Their values are listed in `T` where they do matter.
    given.retain(|key, _| !WITHOUT_EFFECT.contains(&key.as_str()));
    Ok((read_config(&Value::Object(given).to_string(), class)?, position))
}

/// Values that do not change what an encoder computes (dropout, numbers of special tokens), kept as they were read for
/// saving. Those that are the default of their class are not in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unused(Map<String, Value>);

impl Unused {
    /// The values of `keys`.
    pub(super) fn of<T: Default + Serialize>(published: &T, keys: &[&str]) -> Self {
        let fields = |config: &T| match serde_json::to_value(config) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let defaults = fields(&T::default());
        let kept = fields(published).into_iter();
        Self(kept.filter(|(key, value)| keys.contains(&key.as_str()) && defaults.get(key) != Some(value)).collect())
    }
}

/// The JSON object of a configuration, with the class that it is of. A null would take the place of what the class
/// finds out by itself; one that was read stays.
pub(super) fn write<T: Serialize>(fields: &T, unused: &Unused, model_type: &str, class: &str) -> Value {
    let mut object = Map::new();
    object.insert("architectures".into(), Value::from(vec![class]));
    object.insert("model_type".into(), model_type.into());
    if let Ok(Value::Object(fields)) = serde_json::to_value(fields) {
        object.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    object.extend(unused.0.clone());
    Value::Object(object)
}

/// The activation with one of transformers' names.
pub(super) fn activation(key: &'static str, name: &str) -> Result<Activation, ModelError> {
    match name {
        "gelu_python" => Ok(Activation::Gelu),
        "gelu_fast" | "gelu_accurate" => Ok(Activation::GeluTanh),
        _ => Activation::from_name(name).ok_or_else(|| ModelError::Unsupported {
            key,
            value: name.to_owned(),
            supported: "\"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\", \"quick_gelu\", \"relu\", \"silu\" and \"mish\"",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Toy {
        width: usize,
    }

    fn toy(json: &str) -> Result<(Toy, usize), ModelError> {
        read(json, "toy", &["ToyModel", "ToyModelWithHead"])
    }

    #[test]
    fn class_and_keys_are_checked() {
        let json =
            r#"{"architectures": ["ToyModelWithHead"], "model_type": "toy", "torch_dtype": "float16", "width": 3}"#;
        assert_eq!(toy(json).unwrap(), (Toy { width: 3 }, 1));
        assert_eq!(toy("{}").unwrap(), (Toy { width: 0 }, 0));
        assert_eq!(toy(r#"{"architectures": null, "pruned_heads": {}}"#).unwrap().1, 0);
        let error = toy(r#"{"architectures": ["Other"]}"#).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { ref given, .. } if given == "Other"), "{error}");
        let error = toy(r#"{"model_type": "other"}"#).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { ref given, .. } if given == "other"), "{error}");
        let error = toy(r#"{"pruned_heads": {"0": [1]}}"#).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { key: "pruned_heads", .. }), "{error}");
        let error = toy(r#"{"depth": 2}"#).unwrap_err();
        assert!(matches!(error, ModelError::UnknownKeys { ref keys, .. } if keys == &["depth"]), "{error}");
        assert!(matches!(toy("[]"), Err(ModelError::Json { .. })));
        assert!(matches!(toy("{"), Err(ModelError::Json { .. })));
    }

    #[test]
    fn what_is_written_is_read() {
        let json = write(&Toy { width: 4 }, &Unused::default(), "toy", "ToyModelWithHead").to_string();
        assert_eq!(toy(&json).unwrap(), (Toy { width: 4 }, 1));
        // What was kept takes the place of the default.
        let unused = Unused::of(&Toy { width: 5 }, &["width"]);
        let json = write(&Toy::default(), &unused, "toy", "ToyModel").to_string();
        assert_eq!(toy(&json).unwrap(), (Toy { width: 5 }, 0));
        assert_eq!(Unused::of(&Toy::default(), &["width"]), Unused::default());
    }

    #[test]
    fn other_names_of_activations() {
        assert_eq!(activation("hidden_act", "gelu_python").unwrap(), Activation::Gelu);
        assert_eq!(activation("hidden_act", "gelu_fast").unwrap(), Activation::GeluTanh);
        assert_eq!(activation("hidden_act", "quick_gelu").unwrap(), Activation::QuickGelu);
        let error = activation("hidden_act", "tanh").unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { key: "hidden_act", .. }), "{error}");
    }
}
