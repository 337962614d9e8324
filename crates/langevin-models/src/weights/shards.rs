//! Weights that are split over several files.

use std::path::Path;

use burn::module::Module;
use safetensors::View;
use serde_json::{Map, json};

use super::config::write_json;
use super::write::{Stored, collect, write_file};
use crate::error::ModelError;

/// Writes the parameters of a network to a folder, in one file if they fit into `limit` bytes and otherwise in
/// several with an index, named as diffusers names them: `{stem}.safetensors`, or
/// `{stem}-00001-of-00003.safetensors` and `{stem}.safetensors.index.json`.
///
/// A file takes the parameters in their order up to the limit; one that is larger has a file of its own. What another
/// number of files left in the folder under the same names is removed at the end, so that the folder holds one set of weights.
///
/// # Errors
///
/// Those of [`write_weights`](super::write_weights).
///
/// # Example
///
/// ```
/// use langevin_models::layers::LinearConfig;
/// use langevin_models::weights::{read_weights, write_shards};
/// use langevin_core::Load;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// # let folder = tempfile::tempdir()?;
/// let layer = LinearConfig::new(300, 500).init(&device)?;
/// write_shards(&layer, folder.path(), "model", 500_000)?;
/// assert!(folder.path().join("model-00002-of-00002.safetensors").exists());
/// let same = read_weights(LinearConfig::new(300, 500).init(&device)?, folder.path(), &Load::on(&device))?;
/// assert_eq!(same.weight.to_data(), layer.weight.to_data());
/// # Ok(()) }
/// ```
pub fn write_shards<M: Module>(module: &M, folder: impl AsRef<Path>, stem: &str, limit: u64) -> Result<(), ModelError> {
    let folder = folder.as_ref();
    let shards = split(collect(module)?, limit);
    let count = shards.len();
    let name = |i: usize| match count {
        1 => format!("{stem}.safetensors"),
        _ => format!("{stem}-{:05}-of-{count:05}.safetensors", i + 1),
    };
    let index = format!("{stem}.safetensors.index.json");
    let (mut map, mut total) = (Map::new(), 0);
    let mut written = Vec::new();
    for (i, shard) in shards.into_iter().enumerate() {
        for (tensor, stored) in &shard {
            map.insert(tensor.clone(), name(i).into());
            total += stored.data_len() as u64;
        }
        write_file(shard, &folder.join(name(i)))?;
        written.push(name(i));
    }
    if count > 1 {
        write_json(&json!({ "metadata": { "total_size": total }, "weight_map": map }), folder, &index)?;
        written.push(index);
    }
    remove_others(folder, stem, &written).map_err(|source| ModelError::Io { path: folder.to_owned(), source })
}

fn split(tensors: Vec<(String, Stored)>, limit: u64) -> Vec<Vec<(String, Stored)>> {
    let (mut shards, mut bytes) = (vec![Vec::new()], 0);
    for (name, stored) in tensors {
        let more = stored.data_len() as u64;
        let last = shards.len() - 1;
        if bytes + more > limit && !shards[last].is_empty() {
            shards.push(vec![(name, stored)]);
            bytes = more;
        } else {
            shards[last].push((name, stored));
            bytes += more;
        }
    }
    shards
}

/// Removes the files of other sets of weights under the same names.
fn remove_others(folder: &Path, stem: &str, written: &[String]) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Some(rest) = name.strip_prefix(stem) else { continue };
        if is_of_a_set(rest) && !written.contains(&name) {
            std::fs::remove_file(folder.join(&name))?;
        }
    }
    Ok(())
}

/// Whether the end of a name is that of weights: alone, a shard or an index.
fn is_of_a_set(rest: &str) -> bool {
    let Some(rest) = rest.strip_suffix(".index.json").unwrap_or(rest).strip_suffix(".safetensors") else {
        return false;
    };
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let shard = rest.strip_prefix('-').and_then(|rest| rest.split_once("-of-"));
    rest.is_empty() || shard.is_some_and(|(i, count)| number(i) && number(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Linear, LinearConfig};
    use crate::testing::flex;
    use crate::weights::{FileProblem, read_weights};
    use langevin_core::Load;
    use serde_json::Value;

    /// Parameters of 24, 8, 48 and 16 bytes.
    fn layers() -> Vec<Linear> {
        [(3, 2), (3, 4)].map(|(i, o)| LinearConfig::new(i, o).init(&flex()).unwrap()).into()
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn load(path: &Path) -> Result<Vec<Linear>, ModelError> {
        read_weights(layers(), path, &Load::on(&flex()))
    }

    #[test]
    fn shards_are_filled_to_the_limit_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let layers = layers();
        for (limit, sizes) in [
            (96, vec![4]),
            (1 << 40, vec![4]),
            (95, vec![3, 1]),
            (40, vec![2, 1, 1]),
            (32, vec![2, 1, 1]),
            (0, vec![1; 4]),
        ] {
            std::fs::write(path.join("model.fp16.safetensors"), "another set").unwrap();
            std::fs::write(path.join("model-card.safetensors"), "no shard").unwrap();
            write_shards(&layers, path, "model", limit).unwrap();
            let mut names = files(path);
            assert!(
                names.contains(&"model.fp16.safetensors".into()) && names.contains(&"model-card.safetensors".into())
            );
            names.retain(|name| !name.contains("fp16") && !name.contains("card"));
            if sizes.len() == 1 {
                assert_eq!(names, ["model.safetensors"]);
            } else {
                let count = sizes.len();
                let mut expected: Vec<_> =
                    (1..=count).map(|i| format!("model-{i:05}-of-{count:05}.safetensors")).collect();
                expected.push("model.safetensors.index.json".into());
                assert_eq!(names, expected, "{limit}");
                let index: Value =
                    serde_json::from_slice(&std::fs::read(path.join("model.safetensors.index.json")).unwrap()).unwrap();
                assert_eq!(index["metadata"]["total_size"], 96);
                let map = index["weight_map"].as_object().unwrap();
                for (file, size) in expected.iter().zip(&sizes) {
                    assert_eq!(map.values().filter(|value| *value == file).count(), *size, "{limit} {file}");
                }
            }
            for (read, layer) in load(path).unwrap().iter().zip(&layers) {
                assert_eq!(read.weight.to_data(), layer.weight.to_data());
            }
        }
    }

    /// A folder with two shards, and the index as JSON.
    fn sharded() -> (tempfile::TempDir, Value) {
        let folder = tempfile::tempdir().unwrap();
        write_shards(&layers(), folder.path(), "model", 48).unwrap();
        let index = std::fs::read(folder.path().join("model.safetensors.index.json")).unwrap();
        (folder, serde_json::from_slice(&index).unwrap())
    }

    fn problem(folder: &Path, index: &Value) -> FileProblem {
        std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        match load(folder).unwrap_err() {
            ModelError::WeightsFile { problem, .. } => problem,
            error => panic!("{error}"),
        }
    }

    #[test]
    fn an_index_that_is_wrong_about_its_files_is_refused() {
        let (folder, index) = sharded();
        let folder = folder.path();
        let first = "model-00001-of-00003.safetensors";
        let mut moved = index.clone();
        moved["weight_map"]["1.weight"] = first.into();
        let expected = FileProblem::Index { name: "1.weight".into(), file: first.into() };
        assert_eq!(problem(folder, &moved), expected);
        let mut more = index.clone();
        more["weight_map"]["2.weight"] = first.into();
        assert_eq!(problem(folder, &more), FileProblem::Index { name: "2.weight".into(), file: first.into() });
        let mut less = index.clone();
        less["weight_map"].as_object_mut().unwrap().remove("0.weight");
        assert_eq!(problem(folder, &less), FileProblem::Index { name: "0.weight".into(), file: first.into() });
        let mut away = index.clone();
        away["weight_map"]["0.weight"] = format!("../{first}").into();
        assert_eq!(problem(folder, &away), FileProblem::FileName { name: format!("../{first}") });
        // The same tensors in two files.
        std::fs::copy(folder.join(first), folder.join("again.safetensors")).unwrap();
        let mut twice = index.clone();
        twice["weight_map"]["x"] = "again.safetensors".into();
        assert!(matches!(problem(folder, &twice), FileProblem::Duplicate { .. }));
    }

    #[test]
    fn a_missing_or_damaged_shard_is_named() {
        let (folder, _) = sharded();
        let shard = folder.path().join("model-00002-of-00003.safetensors");
        let whole = std::fs::read(&shard).unwrap();
        std::fs::write(&shard, &whole[..whole.len() - 1]).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(matches!(&error, ModelError::WeightsFile { path, .. } if path == &shard), "{error}");
        std::fs::remove_file(&shard).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(matches!(&error, ModelError::Io { path, .. } if path == &shard), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_shard_may_not_be_a_link_out_of_the_folder() {
        let (folder, _) = sharded();
        let elsewhere = tempfile::tempdir().unwrap();
        let shard = folder.path().join("model-00001-of-00003.safetensors");
        let target = elsewhere.path().join("x");
        std::fs::rename(&shard, &target).unwrap();
        std::os::unix::fs::symlink(&target, &shard).unwrap();
        for path in [folder.path().to_owned(), folder.path().join("model.safetensors.index.json")] {
            let error = load(&path).unwrap_err();
            assert!(matches!(error, ModelError::OutsideFolder { .. }), "{error}");
        }
    }
}
