//! Published configurations: JSON objects in which every key counts.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::CONFIG_FILE;
use crate::error::ModelError;

/// Reads a published configuration. Absent keys have the default of `T`; keys that `T` does not have are an
/// error, except those that start with an underscore, which describe the file and not the network.
pub(crate) fn read_config<T>(json: &str, class: &'static str) -> Result<T, ModelError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let not_json = |reason: String| ModelError::Json { class, reason };
    let given: Value = serde_json::from_str(json).map_err(|e| not_json(e.to_string()))?;
    let Value::Object(given) = given else {
        return Err(not_json("it is another JSON value".into()));
    };
    if let Some(name) = given.get("_class_name").and_then(Value::as_str)
        && name != class
    {
        return Err(ModelError::WrongClass { expected: class, given: name.to_owned() });
    }
    let defaults = serde_json::to_value(T::default()).map_err(|e| not_json(e.to_string()))?;
    let Value::Object(defaults) = defaults else {
        return Err(not_json("the defaults are no object".into()));
    };
    let (known, unknown): (Map<_, _>, Map<_, _>) = given.into_iter().partition(|(key, _)| defaults.contains_key(key));
    let mut keys: Vec<String> = unknown.into_iter().map(|(key, _)| key).filter(|key| !key.starts_with('_')).collect();
    if !keys.is_empty() {
        keys.sort();
        return Err(ModelError::UnknownKeys { class, keys });
    }
    // One key at a time, so that a value of the wrong type is reported with its key.
    let mut merged = defaults;
    for (key, value) in known {
        let old = merged.insert(key.clone(), value.clone());
        if let Err(e) = serde_json::from_value::<T>(Value::Object(merged.clone())) {
            debug_assert!(old.is_some(), "only known keys are merged");
            return Err(ModelError::BadValue { class, key, value: value.to_string(), reason: e.to_string() });
        }
    }
    serde_json::from_value(Value::Object(merged)).map_err(|e| not_json(e.to_string()))
}

/// Reads the configuration file of a model folder.
pub(crate) fn read_file(folder: &Path) -> Result<String, ModelError> {
    let path = folder.join(CONFIG_FILE);
    std::fs::read_to_string(&path).map_err(|source| ModelError::Io { path, source })
}

/// Writes the configuration file of a model folder, complete or not at all.
pub(crate) fn write_config(config: &Value, folder: &Path) -> Result<(), ModelError> {
    let path = folder.join(CONFIG_FILE);
    let temporary = folder.join(format!(".{CONFIG_FILE}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(format!("{config:#}\n").as_bytes())?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|source| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        ModelError::Io { path: path.clone(), source }
    })
}
