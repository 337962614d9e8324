//! Which files of a model folder are its weights.

use std::fs::canonicalize;
use std::path::{Path, PathBuf};

use super::stored::StoredWeights;
use crate::error::ModelError;

/// Beginnings of the names of safetensors files: what diffusers and transformers write.
const SAFETENSORS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// Beginnings of the names of PyTorch files.
const PYTORCH: [&str; 2] = ["diffusion_pytorch_model", "pytorch_model"];

/// Opens the weights of a model folder: the safetensors if there are any, otherwise the PyTorch files. A single file
/// beside an index, or files under both names, would be a guess and are refused.
pub(super) fn open(folder: &Path, variant: Option<&str>) -> Result<StoredWeights, ModelError> {
    // An empty path is the present folder.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names = names(folder)?;
    let candidates = candidates(variant);
    for format in &candidates {
        let found: Vec<&String> = format.iter().filter(|name| names.binary_search(name).is_ok()).collect();
        match &found[..] {
            [] => {}
            [one] => return StoredWeights::open(inside(folder, one)?),
            _ => {
                let found = found.into_iter().cloned().collect();
                return Err(ModelError::SeveralWeights { folder: folder.to_owned(), found });
            }
        }
    }
    Err(ModelError::NoWeights {
        folder: folder.to_owned(),
        expected: candidates.map(|format| format[0].clone()).to_vec(),
        found: names.into_iter().filter(|name| is_weights(name)).collect(),
    })
}

/// Names of files that are the weights on their own: safetensors, then PyTorch files.
fn candidates(variant: Option<&str>) -> [Vec<String>; 2] {
    let dot = variant.map(|variant| format!(".{variant}")).unwrap_or_default();
    let names = |stems: [&str; 2], end: &str| {
        let mut names = Vec::new();
        for stem in stems {
            names.push(format!("{stem}{dot}.{end}"));
            names.push(format!("{stem}.{end}.index{dot}.json"));
            if variant.is_some() {
                names.push(format!("{stem}{dot}.{end}.index.json"));
            }
        }
        names
    };
    [names(SAFETENSORS, "safetensors"), names(PYTORCH, "bin")]
}

/// Whether a name looks like that of weights.
fn is_weights(name: &str) -> bool {
    [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json"].iter().any(|end| name.ends_with(end))
        && (!name.ends_with(".json") || name.contains(".index."))
}

/// Names of the files in a folder, sorted. Names that are no UTF-8 are none that are looked for.
fn names(folder: &Path) -> Result<Vec<String>, ModelError> {
    let io = |source| ModelError::Io { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        names.extend(entry.map_err(io)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The path of a file in a model folder, if it does not lead out of it.
///
/// A link may stay in the folder, or lead from `snapshots/..` to the `blobs` beside `snapshots`: that is how the
/// caches of the Hugging Face hub are laid out. `name` is a plain name.
pub(super) fn inside(folder: &Path, name: &str) -> Result<PathBuf, ModelError> {
    let path = folder.join(name);
    let io = |source| ModelError::Io { path: path.clone(), source };
    let target = canonicalize(&path).map_err(io)?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // An empty path is the present folder.
    let folder = canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).map_err(io)?;
    let blobs = folder.ancestors().find(|parent| parent.ends_with("snapshots")).and_then(Path::parent);
    if target.starts_with(&folder) || blobs.is_some_and(|cache| target.starts_with(cache.join("blobs"))) {
        return Ok(path);
    }
    Err(ModelError::OutsideFolder { path, target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ModelError;
    use crate::layers::{Linear, LinearConfig};
    use crate::testing::flex;
    use crate::weights::{read_weights, write_weights};
    use langevin_core::Load;

    fn layer() -> Linear {
        LinearConfig::new(3, 2).init(&flex()).unwrap()
    }

    fn load(folder: &Path) -> Result<Linear, ModelError> {
        read_weights(layer(), folder, &Load::on(&flex()))
    }

    #[test]
    fn every_name_is_found() {
        for name in ["diffusion_pytorch_model.safetensors", "model.safetensors"] {
            let folder = tempfile::tempdir().unwrap();
            let layer = layer();
            write_weights(&layer, folder.path().join(name)).unwrap();
            assert_eq!(load(folder.path()).unwrap().weight.to_data(), layer.weight.to_data());
        }
    }

    #[test]
    fn a_variant_is_read_when_it_is_asked_for_and_named_when_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        write_weights(&layer(), folder.path().join("model.fp16.safetensors")).unwrap();
        let error = load(folder.path()).unwrap_err();
        let text = error.to_string();
        let ModelError::NoWeights { found, .. } = error else { panic!("{text}") };
        assert_eq!(found, ["model.fp16.safetensors"]);
        assert!(text.contains("model.fp16.safetensors") && text.contains("Load::variant"), "{text}");
        let asked = Load::on(&flex()).variant("fp16");
        read_weights(layer(), folder.path(), &asked).unwrap();
        // The weights without a variant are not taken for it.
        std::fs::rename(folder.path().join("model.fp16.safetensors"), folder.path().join("model.safetensors")).unwrap();
        assert!(matches!(read_weights(layer(), folder.path(), &asked), Err(ModelError::NoWeights { .. })));
        read_weights(layer(), folder.path(), &Load::on(&flex())).unwrap();
    }

    #[test]
    fn two_sets_of_weights_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
        for name in names {
            write_weights(&layer(), folder.path().join(name)).unwrap();
        }
        let error = load(folder.path()).unwrap_err();
        assert!(matches!(&error, ModelError::SeveralWeights { found, .. } if found == &names), "{error}");
        // A path says which.
        read_weights(layer(), folder.path().join(names[0]), &Load::on(&flex())).unwrap();
        // A PyTorch file beside safetensors holds the same again.
        std::fs::remove_file(folder.path().join(names[1])).unwrap();
        std::fs::write(folder.path().join("diffusion_pytorch_model.bin"), "no pickle").unwrap();
        load(folder.path()).unwrap();
        // An index beside a single file does not say that it holds the same.
        std::fs::write(folder.path().join("model.safetensors.index.json"), "{}").unwrap();
        assert!(matches!(load(folder.path()).unwrap_err(), ModelError::SeveralWeights { .. }));
    }

    #[test]
    fn no_weights_and_no_folder_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load(folder.path()).unwrap_err(), ModelError::NoWeights { found, .. } if found.is_empty()));
        assert!(matches!(load(&folder.path().join("no")).unwrap_err(), ModelError::Io { .. }));
    }

    #[cfg(unix)]
    #[test]
    fn links_may_not_leave_the_folder_but_for_the_blobs_of_a_hub_cache() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let cache = root.path().join("models--me--mine");
        let (blobs, folder) = (cache.join("blobs"), cache.join("snapshots/0123/unet"));
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        write_weights(&layer(), blobs.join("abcd")).unwrap();
        let link = folder.join("model.safetensors");
        let point = |target: &Path| {
            let _ = std::fs::remove_file(&link);
            symlink(target, &link).unwrap();
        };
        point(Path::new("../../../blobs/abcd"));
        load(&folder).unwrap();
        // Into the same folder.
        write_weights(&layer(), folder.join("other")).unwrap();
        point(Path::new("other"));
        load(&folder).unwrap();
        // Elsewhere: beside the cache, beside its blobs, and to blobs of nobody.
        for (target, folder_of) in [(root.path().join("secret"), &folder), (cache.join("blob"), &folder)] {
            write_weights(&layer(), &target).unwrap();
            point(&target);
            let error = load(folder_of).unwrap_err();
            assert!(matches!(error, ModelError::OutsideFolder { .. }), "{error}");
            // Whoever gives the path of the link itself means it.
            read_weights(layer(), &link, &Load::on(&flex())).unwrap();
        }
        let plain = root.path().join("plain");
        std::fs::create_dir_all(&plain).unwrap();
        symlink(blobs.join("abcd"), plain.join("model.safetensors")).unwrap();
        assert!(matches!(load(&plain).unwrap_err(), ModelError::OutsideFolder { .. }));
        point(Path::new("nowhere"));
        assert!(matches!(load(&folder).unwrap_err(), ModelError::Io { .. }));
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_not_read() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        symlink("/dev/zero", folder.path().join("model.safetensors")).unwrap();
        assert!(matches!(load(folder.path()).unwrap_err(), ModelError::OutsideFolder { .. }));
        assert!(matches!(load(&folder.path().join("model.safetensors")).unwrap_err(), ModelError::Io { .. }));
    }
}
