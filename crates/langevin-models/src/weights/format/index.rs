//! The index of weights that are split over several files.

use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::FileProblem;
use super::safetensors::parse;
use super::unique::Unique;

/// What an index says: where each tensor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The files, sorted. Each is a plain name: a file in the folder of the index.
    pub files: Vec<String>,
    /// Name of each tensor and its file, as a place in `files`.
    pub tensors: Vec<(String, usize)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default, rename = "metadata")]
    _metadata: IgnoredAny,
    weight_map: Unique<String>,
}

/// Reads an index: `{"metadata": .., "weight_map": {tensor: file}}`.
///
/// # Errors
///
/// A [`FileProblem`] for other JSON, for tensors that are named twice and for files that are no plain names.
pub fn read_index(json: &[u8]) -> Result<Index, FileProblem> {
    let Stored { weight_map: Unique(map), .. } = parse(json)?;
    let mut files: Vec<String> = map.iter().map(|(_, file)| file.clone()).collect();
    files.sort();
    files.dedup();
    if let Some(name) = files.iter().find(|name| !is_plain(name)) {
        return Err(FileProblem::FileName { name: name.clone() });
    }
    let place = |file: &String| files.binary_search(file).unwrap_or_default();
    let tensors = map.iter().map(|(name, file)| (name.clone(), place(file))).collect();
    Ok(Index { files, tensors })
}

/// Whether a name is that of a file in the same folder, on any system.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    one && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(file: &str) -> Result<Index, FileProblem> {
        read_index(format!(r#"{{"weight_map": {{"a": {}}}}}"#, serde_json::Value::from(file)).as_bytes())
    }

    #[test]
    fn an_index_says_where_tensors_are() {
        let json = br#"{"metadata": {"total_size": 12}, "weight_map": {"b": "2.safetensors", "a": "1.safetensors", "c": "2.safetensors"}}"#;
        let index = read_index(json).unwrap();
        assert_eq!(index.files, ["1.safetensors", "2.safetensors"]);
        assert_eq!(index.tensors, [("b".to_owned(), 1), ("a".to_owned(), 0), ("c".to_owned(), 1)]);
    }

    #[test]
    fn files_elsewhere_are_refused() {
        for name in ["../x", "/etc/passwd", "a/b", "..", ".", "", "a/", "./a", "C:\\x", "c:x", "a\\b", "a\0"] {
            let problem = FileProblem::FileName { name: name.to_owned() };
            assert_eq!(with_file(name).unwrap_err(), problem, "{name:?}");
        }
        assert!(with_file("..a.safetensors").is_ok());
    }

    #[test]
    fn other_json_is_refused() {
        for json in
            ["", "[]", "{}", r#"{"weight_map": 1}"#, r#"{"weight_map": {"a": 1}}"#, r#"{"weight_map": {}, "x": 1}"#]
        {
            let problem = read_index(json.as_bytes()).unwrap_err();
            assert!(matches!(problem, FileProblem::Header { .. }), "{json}: {problem}");
        }
        let problem = read_index(b"{\"weight_map\": {\"a\xff\": \"b\"}}").unwrap_err();
        assert!(matches!(problem, FileProblem::Header { .. }), "{problem}");
        let problem = read_index(br#"{"weight_map": {"a": "b", "a": "c"}}"#).unwrap_err();
        assert_eq!(problem, FileProblem::Duplicate { name: "a".into() });
    }
}
