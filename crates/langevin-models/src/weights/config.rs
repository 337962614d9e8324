//! Published configurations: JSON objects in which every key counts.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::CONFIG_FILE;
use super::folder::inside;
use super::format::{ConfigProblem, parse_object, read_object};
use super::stored::read_text;
use crate::error::ModelError;

/// Reads a published configuration. Absent keys have the default of `T`; keys that `T` does not have are an
/// error, except those that start with an underscore, which describe the file and not the network.
pub(crate) fn read_config<T>(json: &str, class: &'static str) -> Result<T, ModelError>
where
    T: Default + Serialize + DeserializeOwned,
{
    read_object(json, class).map_err(|problem| problem_of(class, problem))
}

/// Reads any JSON object: the first step for configurations that are changed before they are read.
pub(crate) fn read_any(json: &str, class: &'static str) -> Result<Map<String, Value>, ModelError> {
    parse_object(json).map_err(|problem| problem_of(class, problem))
}

fn problem_of(class: &'static str, problem: ConfigProblem) -> ModelError {
    match problem {
        ConfigProblem::NotAnObject { reason } => ModelError::Json { class, reason },
        ConfigProblem::Class { given } => ModelError::WrongClass { expected: class, given },
        ConfigProblem::Keys { keys } => ModelError::UnknownKeys { class, keys },
        ConfigProblem::Value { key, value, reason } => ModelError::BadValue { class, key, value, reason },
    }
}

/// A configuration as the JSON object that is published, with the class name.
pub(crate) fn published_value(config: &impl Serialize, class: &'static str) -> Value {
    let mut value = serde_json::json!({ "_class_name": class });
    if let (Value::Object(object), Ok(Value::Object(fields))) = (&mut value, serde_json::to_value(config)) {
        object.extend(fields);
    }
    value
}

/// Reads the configuration file of a model folder. What `read` says against it is told with the path.
pub(crate) fn read_file<T>(folder: &Path, read: impl FnOnce(&str) -> Result<T, ModelError>) -> Result<T, ModelError> {
    let path = inside(folder, CONFIG_FILE)?;
    read(&read_text(&path)?).map_err(|problem| ModelError::ConfigFile { path, problem: Box::new(problem) })
}

/// Writes the configuration file of a model folder, complete or not at all.
pub(crate) fn write_config(config: &Value, folder: &Path) -> Result<(), ModelError> {
    write_json(config, folder, CONFIG_FILE)
}

/// Writes a JSON file, complete or not at all.
pub(super) fn write_json(json: &Value, folder: &Path, name: &str) -> Result<(), ModelError> {
    let path = folder.join(name);
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(format!("{json:#}\n").as_bytes())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Toy {
        width: usize,
        name: Option<String>,
    }

    fn read(json: &str) -> Result<Toy, ModelError> {
        read_config(json, "Toy")
    }

    #[test]
    fn absent_keys_have_defaults_and_underscores_are_skipped() {
        let toy = read(r#"{"_class_name": "Toy", "_diffusers_version": "0.1", "width": 3}"#).unwrap();
        assert_eq!(toy, Toy { width: 3, name: None });
        assert_eq!(read("{}").unwrap(), Toy::default());
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = read(r#"{"width": 3, "wdith": 4, "depth": 1}"#).unwrap_err();
        let ModelError::UnknownKeys { class: "Toy", keys } = &error else { panic!("{error}") };
        assert_eq!(keys, &["depth", "wdith"]);
        assert!(error.to_string().contains("depth, wdith"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        let error = read(r#"{"name": "a", "width": -3}"#).unwrap_err();
        assert!(
            matches!(&error, ModelError::BadValue { key, value, .. } if key == "width" && value == "-3"),
            "{error}"
        );
    }

    #[test]
    fn another_class_is_refused() {
        let error = read(r#"{"_class_name": "Other"}"#).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { expected: "Toy", ref given } if given == "Other"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in ["", "[1]", "{\"width\": 3", "null"] {
            assert!(matches!(read(json).unwrap_err(), ModelError::Json { class: "Toy", .. }), "{json}");
        }
    }

    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        write_config(&serde_json::json!({"width": 1}), folder.path()).unwrap();
        write_config(&serde_json::json!({"width": 2}), folder.path()).unwrap();
        assert_eq!(read_file(folder.path(), read).unwrap().width, 2);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write_config(&serde_json::json!({"width": -1}), folder.path()).unwrap();
        let error = read_file(folder.path(), read).unwrap_err();
        let ModelError::ConfigFile { path, problem } = &error else { panic!("{error}") };
        assert!(matches!(**problem, ModelError::BadValue { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("`{}`: `width` = -1", path.display())), "{error}");
        let missing = folder.path().join("no");
        assert!(matches!(read_file(&missing, read).unwrap_err(), ModelError::Io { .. }));
        let json = serde_json::json!({});
        assert!(matches!(write_config(&json, &missing).unwrap_err(), ModelError::Io { .. }));
    }
}
