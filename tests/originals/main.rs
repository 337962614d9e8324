//! Networks loaded from the layouts they were trained in are the networks that diffusers' layout gives.
//!
//! The lists beside this file say how each recorded network is called there. `make.py` made them in the order in which the original
//! programs build their blocks, and proved them by diffusers' own converters; the library's tables are other data.

use langevin::core::Load;
use langevin::models::text::{ClipText, ClipTextConfig};
use langevin::models::weights::QkvOrder;
use langevin::models::{
    AutoencoderKl, AutoencoderKlConfig, ModelError, UNet2d, UNet2dConditional, UNet2dConditionalConfig, UNet2dConfig,
};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tensor: type, shape, bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/models").join(name)
}

fn config(name: &str) -> String {
    std::fs::read_to_string(fixture(name).join("config.json")).expect("a configuration")
}

fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).expect("weights");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let own = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    tensors.tensors().into_iter().map(|(name, view)| (name, own(view))).collect()
}

/// The recorded weights in the layout of the list.
fn original(name: &str, beginning: &str, head: Option<usize>) -> BTreeMap<String, Tensor> {
    let folder = fixture(name);
    let file = ["diffusion_pytorch_model.safetensors", "model.safetensors"].map(|file| folder.join(file));
    let recorded = read(file.iter().find(|file| file.exists()).expect("weights"));
    let list = std::fs::read_to_string(root().join(format!("tests/originals/{name}.txt"))).expect("a list");
    let (mut made, mut parts) = (BTreeMap::new(), BTreeMap::<String, [Option<Tensor>; 3]>::new());
    for line in list.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [ours, theirs, how] = words[..] else { panic!("{line}") };
        let (dtype, mut shape, bytes) = recorded[ours].clone();
        let name = format!("{beginning}{theirs}");
        match how.split_once(':') {
            Some((_, part)) => {
                parts.entry(name).or_default()[part.parse::<usize>().unwrap()] = Some((dtype, shape, bytes));
            }
            None => {
                let bytes = match how {
                    "transposed" => transposed(&shape, &bytes, dtype.bitsize() / 8),
                    _ => bytes,
                };
                match how {
                    "transposed" => shape.reverse(),
                    "pixel" => shape.push(1),
                    "image" => shape.extend([1, 1]),
                    _ => assert_eq!(how, "whole"),
                }
                made.insert(name, (dtype, shape, bytes));
            }
        }
    }
    for (name, thirds) in parts {
        let thirds = thirds.map(|third| third.expect("queries, keys and values"));
        let (dtype, mut shape, bytes) = thirds[0].clone();
        let row = bytes.len() / shape[0];
        // Without heads the whole of each is one.
        let rows = head.unwrap_or(shape[0]);
        let bytes = (0..shape[0] / rows)
            .flat_map(|i| thirds.iter().flat_map(move |third| third.2[i * rows * row..(i + 1) * rows * row].iter()))
            .copied()
            .collect();
        shape[0] *= 3;
        // As a convolution over a sequence.
        if shape.len() == 2 {
            shape.push(1);
        }
        made.insert(name, (dtype, shape, bytes));
    }
    made
}

fn transposed(shape: &[usize], bytes: &[u8], size: usize) -> Vec<u8> {
    let [rows, columns] = shape[..] else { panic!("{shape:?}") };
    let at = |row: usize, column: usize| &bytes[(row * columns + column) * size..][..size];
    (0..columns).flat_map(|column| (0..rows).flat_map(move |row| at(row, column))).copied().collect()
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, path).expect("written");
}

/// Adds what a whole Stable Diffusion file has beside the network.
fn among_others(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    for name in ["cond_stage_model.transformer.x.weight", "alphas_cumprod", "model_ema.decay", "other.weight"] {
        tensors.insert(name.to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
    }
    tensors
}

/// The tensors that a network saves.
fn saved(save: impl Fn(&Path) -> Result<(), ModelError>) -> BTreeMap<String, Tensor> {
    let folder = tempfile::tempdir().expect("a folder");
    save(folder.path()).expect("saved");
    let written = ["diffusion_pytorch_model.safetensors", "model.safetensors"].map(|file| folder.path().join(file));
    read(written.iter().find(|file| file.exists()).expect("weights"))
}

fn load() -> Load {
    Load::on(&burn::tensor::Device::flex())
}

fn same(name: &str, original: &BTreeMap<String, Tensor>, diffusers: &BTreeMap<String, Tensor>) {
    assert!(original.keys().eq(diffusers.keys()), "{name}");
    let differ: Vec<_> =
        original.iter().filter(|(key, tensor)| diffusers[*key] != **tensor).map(|(key, _)| key).collect();
    assert!(differ.is_empty(), "{name}: {differ:?}");
}

#[test]
fn guided_diffusion_in_both_orders_and_both_samplers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for name in ["unet2d_class_scale_shift", "unet2d_ddpm"] {
        let config = UNet2dConfig::from_json(&config(name)).unwrap();
        let expected = saved(|to| UNet2d::load(fixture(name), load())?.save(to));
        for (order, head) in [(QkvOrder::Separate, None), (QkvOrder::ByHead, config.head_dim)] {
            write(&path, &original(name, "", head));
            let net = UNet2d::load_original(&path, &config, order, load()).unwrap();
            same(name, &saved(|to| net.save(to)), &expected);
        }
    }
    // The orders differ where there are several heads.
    let name = "unet2d_class_scale_shift";
    let config = UNet2dConfig::from_json(&config(name)).unwrap();
    assert!(config.head_dim.is_some_and(|head| head < 8));
    write(&path, &original(name, "", None));
    let wrong = UNet2d::load_original(&path, &config, QkvOrder::ByHead, load()).unwrap();
    assert_ne!(saved(|to| wrong.save(to)), saved(|to| UNet2d::load(fixture(name), load())?.save(to)));
}

#[test]
fn text_conditional_unets_alone_and_in_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for name in ["unet_sd15", "unet_sdxl", "unet_sdxl_refiner", "unet_sd_unclip", "unet_sd_upscaler"] {
        let config = UNet2dConditionalConfig::from_json(&config(name)).unwrap();
        let expected = saved(|to| UNet2dConditional::load(fixture(name), load())?.save(to));
        write(&path, &original(name, "", None));
        let net = UNet2dConditional::load_original(&path, &config, load()).unwrap();
        same(name, &saved(|to| net.save(to)), &expected);
        write(&path, &among_others(original(name, "model.diffusion_model.", None)));
        let net = UNet2dConditional::load_original(&path, &config, load()).unwrap();
        same(name, &saved(|to| net.save(to)), &expected);
    }
}

#[test]
fn autoencoders_alone_and_in_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let name = "vae_kl_sd";
    let config = AutoencoderKlConfig::from_json(&config(name)).unwrap();
    let expected = saved(|to| AutoencoderKl::load(fixture(name), load())?.save(to));
    for beginning in ["first_stage_model.", "vae.", ""] {
        let mut tensors = original(name, beginning, None);
        if !beginning.is_empty() {
            tensors = among_others(tensors);
        }
        write(&path, &tensors);
        let net = AutoencoderKl::load_original(&path, &config, load()).unwrap();
        same(name, &saved(|to| net.save(to)), &expected);
    }
}

#[test]
fn text_encoders_of_open_clip_and_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let name = "clip_text_projection";
    let config = ClipTextConfig::from_json(&config(name)).unwrap();
    let expected = saved(|to| ClipText::load(fixture(name), load())?.save(to));
    let beginning = "conditioner.embedders.1.";
    let mut tensors = among_others(original(name, "conditioner.embedders.1.model.", None));
    for rest in ["logit_scale".to_owned(), format!("transformer.resblocks.{}.ln_1.weight", config.layers)] {
        tensors.insert(format!("{beginning}model.{rest}"), (Dtype::F32, vec![1], vec![0; 4]));
    }
    write(&path, &tensors);
    let net = ClipText::load_original(&path, beginning, &config, load()).unwrap();
    same(name, &saved(|to| net.save(to)), &expected);
    // A network without the projection leaves it alone, but not a layer in between.
    let without = ClipTextConfig { projection: None, ..config.clone() };
    assert!(ClipText::load_original(&path, beginning, &without, load()).unwrap().text_projection.is_none());
    let fewer = ClipTextConfig { layers: config.layers - 1, ..config };
    let error = ClipText::load_original(&path, beginning, &fewer, load()).unwrap_err();
    assert!(matches!(&error, ModelError::Weights { mismatch, .. } if mismatch.unused.len() == 1), "{error}");

    let name = "clip_text_sd15";
    let config = ClipTextConfig::from_json(&self::config(name)).unwrap();
    let expected = saved(|to| ClipText::load(fixture(name), load())?.save(to));
    let beginning = "cond_stage_model.";
    let mut tensors: BTreeMap<_, _> =
        expected.iter().map(|(name, tensor)| (format!("{beginning}transformer.{name}"), tensor.clone())).collect();
    let ids = "transformer.text_model.embeddings.position_ids";
    tensors.insert(format!("{beginning}{ids}"), (Dtype::I64, vec![1], vec![0; 8]));
    write(&path, &tensors);
    let net = ClipText::load_original(&path, beginning, &config, load()).unwrap();
    same(name, &saved(|to| net.save(to)), &expected);
}

#[test]
fn what_does_not_fit_is_listed_in_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let name = "unet2d_class_scale_shift";
    let config = UNet2dConfig::from_json(&config(name)).unwrap();
    let mut tensors = original(name, "", None);
    tensors.remove("out.2.bias").unwrap();
    tensors.insert("out.3.bias".into(), (Dtype::F32, vec![1], vec![0; 4]));
    tensors.insert("out.0.bias".into(), (Dtype::F32, vec![1], vec![0; 4]));
    let qkv = tensors.get_mut("middle_block.1.qkv.weight").unwrap();
    qkv.1[0] -= 1;
    let length = qkv.1.iter().product::<usize>() * qkv.0.bitsize() / 8;
    qkv.2.truncate(length);
    write(&path, &tensors);
    let error = UNet2d::load_original(&path, &config, QkvOrder::Separate, load()).unwrap_err();
    let ModelError::Weights { mismatch, .. } = error else { panic!("{error}") };
    assert_eq!(mismatch.missing, ["conv_out.bias"]);
    assert_eq!(mismatch.unused, ["out.3.bias"]);
    let misshapen: Vec<_> = mismatch.misshapen.iter().map(|m| m.name.as_str()).collect();
    let attention = ["to_q", "to_k", "to_v"].map(|layer| format!("mid_block.attentions.0.{layer}.weight"));
    assert_eq!(misshapen, [&attention[0], &attention[1], &attention[2], "conv_norm_out.bias"]);
}
