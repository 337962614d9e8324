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

/// Reads the configuration of a class. Absent keys have the default of `T`; keys that `T` does not have are a
/// problem, except those that start with an underscore, which describe the file and not the network.
pub fn read_object<T>(json: &str, class: &str) -> Result<T, ConfigProblem>
where
    T: Default + Serialize + DeserializeOwned,
{
    let not_json = |reason: String| ConfigProblem::NotAnObject { reason };
    let given: Value = serde_json::from_str(json).map_err(|e| not_json(e.to_string()))?;
    let Value::Object(given) = given else {
        return Err(not_json("it is another JSON value".into()));
    };
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
        merged.insert(key.clone(), value.clone());
        if let Err(e) = serde_json::from_value::<T>(Value::Object(merged.clone())) {
            return Err(ConfigProblem::Value { key, value: value.to_string(), reason: e.to_string() });
        }
    }
    serde_json::from_value(Value::Object(merged)).map_err(|e| not_json(e.to_string()))
}
