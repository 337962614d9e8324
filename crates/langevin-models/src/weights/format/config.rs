//! Published configurations: JSON objects in which every key counts.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What is wrong with a published configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigProblem {
    /// It is no JSON object.
    NotAnObject {
        /// What the reader says.
        reason: String,
    },
    /// It belongs to another class.
    Class {
        /// The class that it names.
        given: String,
    },
    /// It has keys that are not known.
    Keys {
        /// Those keys, sorted.
        keys: Vec<String>,
    },
    /// A value is of the wrong type.
    Value {
        /// Its key.
        key: String,
        /// The value as JSON.
        value: String,
        /// What the reader says.
        reason: String,
    },
}

/// The longest configuration, in bytes. Published ones have some thousands.
const LONGEST: usize = 1 << 20;
/// The largest whole number: tables of words have a quarter of it.
const LARGEST: u64 = 1 << 20;
/// The largest number of layers.
const MOST_LAYERS: u64 = 1 << 12;
/// The longest list. One entry is a level of resolution or a layer of a kind, and 63 halvings are all that a size has.
const LONGEST_LIST: usize = 63;

/// Reads a JSON object that is not longer than configurations are.
pub fn parse_object(json: &str) -> Result<Map<String, Value>, ConfigProblem> {
    let not_json = |reason: String| ConfigProblem::NotAnObject { reason };
    if json.len() > LONGEST {
        return Err(not_json(format!("it has {} bytes, more than {LONGEST}", json.len())));
    }
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(not_json("it is another JSON value".into())),
        Err(error) => Err(no_number(json).unwrap_or_else(|| not_json(error.to_string()))),
    }
}

/// The value that Python writes although JSON has no word for it, with the key that it belongs to.
fn no_number(json: &str) -> Option<ConfigProblem> {
    // Every second piece is within quotes. Strings with quotes inside only make this look at more.
    let mut last = "";
    for (index, piece) in json.split('"').enumerate() {
        if index % 2 == 1 {
            last = piece;
        } else if let Some(word) = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| piece.contains(word)) {
            let reason = "JSON has no such number, although Python writes it: give a finite one".into();
            return Some(ConfigProblem::Value { key: last.to_owned(), value: word.to_owned(), reason });
        }
    }
    None
}

/// Reads the configuration of a class. Absent keys have the default of `T`; keys that `T` does not have are a
/// problem, except those that start with an underscore, which describe the file and not the network.
pub fn read_object<T>(json: &str, class: &str) -> Result<T, ConfigProblem>
where
    T: Default + Serialize + DeserializeOwned,
{
    let not_json = |reason: String| ConfigProblem::NotAnObject { reason };
    let given = parse_object(json)?;
    if let Some(name) = given.get("_class_name").and_then(Value::as_str)
        && name != class
    {
        return Err(ConfigProblem::Class { given: name.to_owned() });
    }
    let defaults = serde_json::to_value(T::default()).map_err(|e| not_json(e.to_string()))?;
    let Value::Object(defaults) = defaults else {
        return Err(not_json("the defaults are no object".into()));
    };
    let (known, unknown): (Map<_, _>, Map<_, _>) = given.into_iter().partition(|(key, _)| defaults.contains_key(key));
    let mut keys: Vec<String> = unknown.into_iter().map(|(key, _)| key).filter(|key| !key.starts_with('_')).collect();
    if !keys.is_empty() {
        keys.sort();
        return Err(ConfigProblem::Keys { keys });
    }
    // One key at a time, so that a value of the wrong type is reported with its key.
    let mut merged = defaults;
    for (key, value) in known {
        if let Some(reason) = beyond(&key, &value) {
            return Err(ConfigProblem::Value { key, value: shortened(&value), reason });
        }
        merged.insert(key.clone(), value.clone());
        if let Err(e) = serde_json::from_value::<T>(Value::Object(merged.clone())) {
            return Err(ConfigProblem::Value { key, value: shortened(&value), reason: e.to_string() });
        }
    }
    serde_json::from_value(Value::Object(merged)).map_err(|e| not_json(e.to_string()))
}

/// Why a value is larger than that of any network: a file from a stranger must not ask for all memory, nor for products
/// of sizes that no computer counts to.
fn beyond(key: &str, value: &Value) -> Option<String> {
    let layers = key.contains("layer") || key.contains("block") && !key.contains("channels");
    let most = if layers { MOST_LAYERS } else { LARGEST };
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs))?;
            (size > most).then(|| format!("{size} is more than {most}"))
        }
        Value::Array(list) if list.len() > LONGEST_LIST => {
            Some(format!("a list of {} entries, more than {LONGEST_LIST}", list.len()))
        }
        Value::Array(list) => list.iter().find_map(|value| beyond(key, value)),
        Value::Object(map) => map.iter().find_map(|(key, value)| beyond(key, value)),
        _ => None,
    }
}

/// The value as a message can show it.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Published {
        layers_per_block: usize,
        block_out_channels: Vec<usize>,
        vocab_size: usize,
    }

    fn problem(json: &str) -> ConfigProblem {
        read_object::<Published>(json, "Class").unwrap_err()
    }

    #[test]
    fn sizes_beyond_any_network_are_refused() {
        let largest = r#"{"layers_per_block": 40, "block_out_channels": [320, 1280], "vocab_size": 250112}"#;
        read_object::<Published>(largest, "Class").unwrap();
        for (key, value) in [
            ("layers_per_block", "1000000000000000000".to_owned()),
            ("layers_per_block", "5000".to_owned()),
            ("vocab_size", "2000000".to_owned()),
            ("block_out_channels", format!("[8, {}]", u64::MAX)),
            ("block_out_channels", format!("{:?}", vec![8; 64])),
        ] {
            let error = problem(&format!("{{\"{key}\": {value}}}"));
            let ConfigProblem::Value { key: named, reason, .. } = &error else { panic!("{error:?}") };
            assert!(named == key && reason.contains("more than"), "{error:?}");
        }
        let long = format!("{{\"vocab_size\": {}}}", " ".repeat(1 << 20));
        assert!(matches!(problem(&long), ConfigProblem::NotAnObject { .. }));
    }

    #[test]
    fn numbers_that_json_does_not_have_are_named() {
        for word in ["NaN", "Infinity", "-Infinity"] {
            let error = problem(&format!("{{\"layers_per_block\": 2, \"vocab_size\": {word}, \"a\": \"b\"}}"));
            let ConfigProblem::Value { key, value, reason } = &error else { panic!("{error:?}") };
            assert!(key == "vocab_size" && value == word && reason.contains("Python"), "{error:?}");
        }
        assert!(matches!(problem("{\"vocab_size\": \"NaN\"}"), ConfigProblem::Value { .. }));
        assert!(matches!(problem("{\"NaN\": }"), ConfigProblem::NotAnObject { .. }));
    }
}
