//! The classes that load, by the names that configurations give them.

use super::conditions::{for_encoder, image};
use super::encoders::{bert, clip_text, clip_vision, t5};
use super::inputs::{Inputs, Output, output};
use super::transformers::{dit, flux, pixart, prior, sd3};
use super::videos::{motion, spatio_temporal, temporal_decoder, unet3d};
use burn::module::Module;
use langevin::core::Load;
use langevin::models::control::ControlOptions;
use langevin::models::unet::Classes;
use langevin::models::weights::ModuleTree;
use langevin::models::{
    AutoencoderKl, ControlNet, Labels, ModelError, T2iAdapter, Tap, TinyAutoencoder, UNet1d, UNet2d, UNet2dConditional,
    VqModel,
};
use std::error::Error;
use std::path::Path;

type Run = Box<dyn Fn(&Inputs, &mut Tap<'_>) -> Result<Vec<Output>, ModelError>>;

/// A network of any class.
pub struct Loaded {
    pub tree: ModuleTree,
    pub run: Run,
}

/// The class that a model folder names.
pub fn class_of(folder: &Path) -> Result<String, Box<dyn Error>> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let config: serde_json::Value = serde_json::from_str(&text)?;
    let name = config["_class_name"].as_str().or_else(|| config["architectures"][0].as_str());
    Ok(name.ok_or_else(|| format!("{} names no class", path.display()))?.to_owned())
}

pub fn load(class: &str, folder: &Path, load: Load) -> Result<Loaded, Box<dyn Error>> {
    let known = CLASSES.iter().find(|(name, _)| *name == class);
    let Some((_, by)) = known else {
        let names: Vec<_> = CLASSES.iter().map(|(name, _)| *name).collect();
        return Err(format!("`{class}` does not load here; these do: {}", names.join(", ")).into());
    };
    Ok(by(folder, load)?)
}

type Loader = fn(&Path, Load) -> Result<Loaded, ModelError>;

const CLASSES: &[(&str, Loader)] = &[
    ("AutoencoderKL", autoencoder),
    ("AutoencoderKLTemporalDecoder", temporal_decoder),
    ("AutoencoderTiny", tiny),
    ("BertModel", bert),
    ("CLIPTextModel", clip_text),
    ("CLIPTextModelWithProjection", clip_text),
    ("CLIPVisionModel", clip_vision),
    ("CLIPVisionModelWithProjection", clip_vision),
    ("ControlNetModel", controlnet),
    ("DiTTransformer2DModel", dit),
    ("FluxTransformer2DModel", flux),
    ("PixArtTransformer2DModel", pixart),
    ("PriorTransformer", prior),
    ("SD3Transformer2DModel", sd3),
    ("T2IAdapter", adapter),
    ("T5EncoderModel", t5),
    ("UNet1DModel", unet1d),
    ("UNet2DConditionModel", unet2d_conditional),
    ("UNet2DModel", unet2d),
    ("UNet3DConditionModel", unet3d),
    ("UNetMotionModel", motion),
    ("UNetSpatioTemporalConditionModel", spatio_temporal),
    ("VQModel", vq),
];

/// Puts a network and a way to run it together.
pub fn loaded<M: Module + 'static>(
    class: &str,
    net: M,
    run: impl Fn(&M, &Inputs, &mut Tap<'_>) -> Result<Vec<Output>, ModelError> + 'static,
) -> Loaded {
    let tree = ModuleTree::of(class, &net);
    Loaded { tree, run: Box::new(move |inputs, tap| run(&net, inputs, tap)) }
}

fn unet2d(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("UNet2d", UNet2d::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let labels = match config.classes {
            Classes::None => Labels::none(1),
            Classes::Table { .. } => Labels::of([0]),
            Classes::Timestep => Labels::values([1.0]),
            Classes::Identity => {
                Labels::embeddings(inputs.noise([1, config.time_width.unwrap_or(4 * config.channels[0])]))
            }
        };
        let x = image(config.in_channels, config.sample_size.unwrap_or([64; 2]), inputs);
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &labels, tap)?)])
    }))
}

fn unet1d(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("UNet1d", UNet1d::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let x = inputs.noise([1, config.input_channels(), config.sample_size]);
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &Labels::none(1), tap)?)])
    }))
}

fn unet2d_conditional(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("UNet2dConditional", UNet2dConditional::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let cond = for_encoder(&config.encoder, inputs);
        let x = image(config.encoder.in_channels, config.sample_size.unwrap_or([64; 2]), inputs);
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &cond, tap)?)])
    }))
}

fn autoencoder(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("AutoencoderKl", AutoencoderKl::load(folder, load)?, |net, inputs, tap| {
        let x = image(net.config().in_channels, net.config().sample_size, inputs);
        let latents = net.encode_with(x, tap)?.mode();
        let decoded = net.decode_with(latents.clone(), tap)?;
        Ok(vec![output("latents", latents), output("decoded", decoded)])
    }))
}

fn tiny(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("TinyAutoencoder", TinyAutoencoder::load(folder, load)?, |net, inputs, tap| {
        let latents = net.encode_with(image(net.config().in_channels, [256; 2], inputs), tap)?;
        let decoded = net.decode_with(latents.clone(), tap)?;
        Ok(vec![output("latents", latents), output("decoded", decoded)])
    }))
}

fn vq(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("VqModel", VqModel::load(folder, load)?, |net, inputs, tap| {
        let latents = net.encode_with(image(net.config().in_channels, net.config().sample_size, inputs), tap)?;
        let decoded = net.decode_with(latents.clone(), tap)?;
        Ok(vec![output("latents", latents), output("decoded", decoded)])
    }))
}

fn controlnet(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("ControlNet", ControlNet::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let side = 64;
        let larger = side << (config.embedding_channels.len() - 1);
        let cond = for_encoder(&config.encoder, inputs);
        let (x, hint) =
            (image(config.encoder.in_channels, [side; 2], inputs), image(config.image_channels, [larger; 2], inputs));
        let options = ControlOptions { scale: 1.0, guess: false };
        let told = net.forward_with(x, inputs.time(), &cond, hint, &options, tap)?;
        let mut outputs: Vec<_> =
            told.down.into_iter().enumerate().map(|(i, down)| output(format!("down.{i}"), down)).collect();
        outputs.push(output("mid", told.mid));
        Ok(outputs)
    }))
}

fn adapter(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("T2iAdapter", T2iAdapter::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let side = config.downscale << config.channels.len();
        let features = net.forward_with(image(config.in_channels, [side; 2], inputs), tap)?;
        Ok(features.into_iter().enumerate().map(|(i, level)| output(format!("level {i}"), level)).collect())
    }))
}
