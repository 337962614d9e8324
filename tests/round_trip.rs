//! Every recorded network is saved as it was loaded: byte for byte, in the element type of its file, in one file and in shards.
//!
//! `LANGEVIN_FIXTURES` names another folder of networks, and what is saved stays in the folder that `LANGEVIN_SAVED` names:
//! `saved/README.md` says what for.

use burn::tensor::{DType, Device};
use langevin::core::Load;
use langevin::models::autoencoder::AutoencoderKlTemporalDecoder;
use langevin::models::text::{Bert, ClipText, ClipVision, T5Encoder};
use langevin::models::unet::video::{MotionAdapter, UNet3dConditional, UNetMotion, UNetSpatioTemporal};
use langevin::models::weights::{StoredWeights, write_shards};
use langevin::models::{
    AutoencoderKl, ControlNet, DiT, Flux, ModelError, PixArt, Prior, Sd3, T2iAdapter, TinyAutoencoder, UNet1d, UNet2d,
    UNet2dConditional, VqModel,
};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Type, shape and bytes of each tensor.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(files: &[PathBuf]) -> Tensors {
    let mut tensors = Tensors::new();
    for file in files {
        let bytes = std::fs::read(file).expect("weights");
        for (name, view) in SafeTensors::deserialize(&bytes).expect("safetensors").tensors() {
            tensors.insert(name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    tensors
}

/// The weight files of a folder: every safetensors file but the recorded inputs and outputs.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let weights =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "safetensors") && !path.ends_with("io.safetensors");
    let mut files: Vec<_> = entries.filter(weights).collect();
    files.sort();
    files
}

/// Loads a folder by its class and saves it twice, the second time in shards. `None` for classes that are not listed.
macro_rules! classes {
    ($($name:literal => $class:ty),* $(,)?) => {
        fn round_trip(class: &str, from: &Path, load: Load, to: &Path, shards: &Path) -> Option<Result<(), ModelError>> {
            Some(match class {
                $($name => <$class>::load(from, load).and_then(|net| {
                    net.save(to)?;
                    write_shards(&net, shards, "model", 2_000)
                }),)*
                _ => return None,
            })
        }
    };
}

classes! {
    "AutoencoderKL" => AutoencoderKl,
    "AutoencoderKLTemporalDecoder" => AutoencoderKlTemporalDecoder,
    "AutoencoderTiny" => TinyAutoencoder,
    "BertModel" => Bert,
    "CLIPTextModel" => ClipText,
    "CLIPTextModelWithProjection" => ClipText,
    "CLIPVisionModel" => ClipVision,
    "CLIPVisionModelWithProjection" => ClipVision,
    "ControlNetModel" => ControlNet,
    "DiTTransformer2DModel" => DiT,
    "FluxTransformer2DModel" => Flux,
    "MotionAdapter" => MotionAdapter,
    "PixArtTransformer2DModel" => PixArt,
    "PriorTransformer" => Prior,
    "SD3Transformer2DModel" => Sd3,
    "T2IAdapter" => T2iAdapter,
    "T5EncoderModel" => T5Encoder,
    "UNet1DModel" => UNet1d,
    "UNet2DConditionModel" => UNet2dConditional,
    "UNet2DModel" => UNet2d,
    "UNet3DConditionModel" => UNet3dConditional,
    "UNetMotionModel" => UNetMotion,
    "UNetSpatioTemporalConditionModel" => UNetSpatioTemporal,
    "VQModel" => VqModel,
}

fn config(folder: &Path) -> Option<serde_json::Value> {
    let config = std::fs::read(folder.join("config.json")).ok()?;
    Some(serde_json::from_slice(&config).expect("JSON"))
}

fn class_of(config: &serde_json::Value) -> Option<String> {
    Some(config["_class_name"].as_str().or_else(|| config["architectures"][0].as_str())?.to_owned())
}

/// The float type of a file, which has one.
fn dtype_of(tensors: &Tensors) -> Dtype {
    let float = |dtype: &Dtype| matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
    tensors.values().map(|tensor| tensor.0).find(float).expect("a float")
}

#[test]
fn what_is_loaded_is_saved_byte_for_byte() {
    let other = std::env::var_os("LANGEVIN_FIXTURES").map(PathBuf::from);
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let root = other.as_ref().unwrap_or(&fixtures).join("models");
    let (mut networks, mut halves) = (0, 0);
    for entry in std::fs::read_dir(&root).expect("fixtures") {
        let folder = entry.expect("an entry").path();
        let Some(config) = config(&folder) else { continue };
        let Some(class) = class_of(&config) else { continue };
        let stored = read(&files(&folder));
        let dtype = match dtype_of(&stored) {
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            _ => DType::F32,
        };
        let [one, several] = [(), ()].map(|()| tempfile::tempdir().expect("a folder"));
        let load = Load::on(&Device::flex()).dtype(dtype);
        let Some(result) = round_trip(&class, &folder, load, one.path(), several.path()) else {
            panic!("{class} is not in the list of classes")
        };
        result.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        if let Some(saved) = std::env::var_os("LANGEVIN_SAVED") {
            let kept = Path::new(&saved).join(folder.file_name().expect("a name"));
            std::fs::create_dir_all(&kept).expect("a folder");
            for file in std::fs::read_dir(one.path()).expect("a folder").map(|entry| entry.expect("an entry").path()) {
                std::fs::copy(&file, kept.join(file.file_name().expect("a name"))).expect("a copy");
            }
        }
        networks += 1;
        halves += usize::from(dtype == DType::F16);
        let written = self::config(one.path()).expect("a configuration");
        // A key that does not change the network may be left out, but none may change.
        for (key, value) in written.as_object().expect("an object") {
            let old = config.get(key).filter(|old| !old.is_null() && !value.is_null());
            // One value may stand for equal ones of all levels.
            let same = |old: &serde_json::Value| {
                let each = old.as_array().is_some_and(|old| old.iter().all(|old| old == value));
                old == value || each || old.as_f64().is_some_and(|old| value.as_f64() == Some(old))
            };
            assert!(old.is_none_or(same), "{}: {key} was {old:?} and is {value}", folder.display());
        }
        let saved = read(&files(one.path()));
        for (name, tensor) in &saved {
            // Some encoders are stored without the first part of their names, and get it back.
            let short =
                ["text_model.", "vision_model."].iter().find_map(|part| name.strip_prefix(part)).unwrap_or(name);
            let old = stored.get(name).or_else(|| stored.get(short));
            if tensor.0 == Dtype::F32 && dtype == DType::F16 {
                // The configuration asks for single precision, in which halves keep their values.
                assert_eq!(config["force_upcast"], true, "{}: {name}", folder.display());
                let halves = StoredWeights::open(&files(one.path())[0]).and_then(|file| file.read(name, dtype));
                let old = old.map(|tensor| &tensor.2[..]);
                assert_eq!(Some(halves.expect("halves").as_bytes()), old, "{}: {name}", folder.display());
                continue;
            }
            assert_eq!(Some(tensor), old, "{}: {name}", folder.display());
        }
        // What is not saved are no parameters: numbers of positions, and a table under its second name.
        let numbers = stored
            .iter()
            .filter(|(name, tensor)| tensor.0 == dtype_of(&stored) && !name.ends_with("embed_tokens.weight"));
        assert!(saved.len() >= numbers.count(), "{}: parameters are missing", folder.display());
        assert!(files(several.path()).len() > 1, "{}", folder.display());
        assert_eq!(read(&files(several.path())), saved, "{}: shards", folder.display());
    }
    assert!(networks > 0, "no networks in {}", root.display());
    if other.is_none() {
        assert!(networks >= 45, "only {networks} networks were tried");
        assert!(halves > 0, "none of them is stored in half precision");
    }
}
