//! Checks that the transformers share.

use serde_json::{Value, json};

use crate::error::{ModelError, at_least_one};
use crate::layers::Gate;
use crate::published::unsupported;

/// Channels of all heads together.
pub(super) fn width(heads: usize, head_dim: usize) -> Result<usize, ModelError> {
    at_least_one("heads", heads)?;
    at_least_one("head_dim", head_dim)?;
    Ok(heads * head_dim)
}

/// Checks the shape of one image or latent; `given` is the shape to report. Sides are multiples of `patch`, and at most
/// `largest` patches long.
pub(super) fn sample(
    sample: &[usize],
    given: &[usize],
    channels: usize,
    patch: usize,
    largest: Option<usize>,
) -> Result<(), ModelError> {
    let side = |n: usize| n > 0 && n.is_multiple_of(patch) && largest.is_none_or(|most| n / patch <= most);
    if matches!(sample, [c, h, w] if *c == channels && side(*h) && side(*w)) {
        return Ok(());
    }
    let limit = largest.map_or_else(String::new, |most| format!(", at most {}", most * patch));
    Err(ModelError::Shape {
        what: "x",
        given: given.to_vec(),
        expected: format!("[batch, {channels}, height, width], height and width multiples of {patch}{limit}"),
    })
}

/// What stands between the feed-forward layers, by its published name.
pub(super) fn gate(name: &str) -> Result<Gate, ModelError> {
    Gate::from_name(name).ok_or_else(|| unsupported("activation_fn", name, Gate::PUBLISHED))
}

/// The published name of what stands between the feed-forward layers.
pub(super) fn gate_name(gate: Gate) -> String {
    gate.name().unwrap_or_default().to_owned()
}

/// Checks that what stands between the feed-forward layers has a published name, so that it can be saved.
pub(super) fn has_name(gate: Gate) -> Result<(), ModelError> {
    match gate.name() {
        Some(_) => Ok(()),
        None => Err(ModelError::Config {
            field: "gate",
            given: format!("{gate:?}"),
            expected: format!("one with a published name: {}", Gate::PUBLISHED),
        }),
    }
}

/// Checks an option of which one value is supported.
pub(super) fn only(key: &'static str, value: &str, supported: &'static str) -> Result<(), ModelError> {
    if value == supported { Ok(()) } else { Err(unsupported(key, value, supported)) }
}

/// The class under which the first checkpoints of DiT and PixArt were published, before their classes had names.
const FIRST_CLASS: &str = "Transformer2DModel";

/// A configuration of the first class as one of today's `class`: without the keys of other transformers, where they say
/// nothing. A key that says something stays, and is then an error with its name.
pub(super) fn current(config: &str, class: &str, silent: &[(&str, Value)]) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str::<Value>(config) else { return config.to_owned() };
    if object.get("_class_name").and_then(Value::as_str) != Some(FIRST_CLASS) {
        return config.to_owned();
    }
    let all = [
        ("num_vector_embeds", Value::Null),
        ("use_linear_projection", json!(false)),
        ("only_cross_attention", json!(false)),
        ("double_self_attention", json!(false)),
    ];
    for (key, value) in all.iter().chain(silent) {
        if object.get(*key) == Some(value) {
            object.remove(*key);
        }
    }
    object.insert("_class_name".into(), class.into());
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_loses_what_says_nothing() {
        let read = |config: Value| -> Value {
            let text = current(&config.to_string(), "DiT", &[("cross_attention_dim", Value::Null)]);
            serde_json::from_str(&text).unwrap()
        };
        let old = json!({"_class_name": FIRST_CLASS, "num_vector_embeds": null, "use_linear_projection": false,
                         "cross_attention_dim": null, "sample_size": 32});
        assert_eq!(read(old), json!({"_class_name": "DiT", "sample_size": 32}));
        let telling = json!({"_class_name": FIRST_CLASS, "num_vector_embeds": 8, "cross_attention_dim": 9});
        assert_eq!(read(telling), json!({"_class_name": "DiT", "num_vector_embeds": 8, "cross_attention_dim": 9}));
        let other = json!({"_class_name": "Other", "num_vector_embeds": null});
        assert_eq!(read(other.clone()), other);
        assert_eq!(current("[1", "DiT", &[]), "[1");
    }
}
