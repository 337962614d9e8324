//! Networks for videos.

use super::classes::{Loaded, loaded};
use super::conditions::TOKENS;
use super::inputs::output;
use langevin::core::Load;
use langevin::models::autoencoder::AutoencoderKlTemporalDecoder;
use langevin::models::unet::video::{PerLevel, Sides};
use langevin::models::{ModelError, TextCondition, UNet3dConditional, UNetMotion, UNetSpatioTemporal};
use std::path::Path;

const FRAMES: usize = 4;

fn sides(sample: Option<Sides>) -> [usize; 2] {
    sample.map_or([64; 2], Into::into)
}

/// The width of the first level, which is that of all.
fn width(context: &PerLevel<usize>) -> usize {
    match context {
        PerLevel::Same(width) => *width,
        PerLevel::Each(widths) => widths.first().copied().unwrap_or(1),
    }
}

pub fn unet3d(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("UNet3dConditional", UNet3dConditional::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let [height, width] = sides(config.sample_size);
        let x = inputs.noise([1, config.in_channels, FRAMES, height, width]);
        let cond = TextCondition::new(inputs.noise([1, TOKENS, config.cross_attention_dim]));
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &cond, tap)?)])
    }))
}

pub fn motion(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("UNetMotion", UNetMotion::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let [height, wide] = sides(config.sample_size);
        let frames = FRAMES.min(config.motion_max_seq_length);
        let x = inputs.noise([1, config.in_channels, frames, height, wide]);
        let cond = TextCondition::new(inputs.noise([1, TOKENS, width(&config.cross_attention_dim)]));
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &cond, tap)?)])
    }))
}

pub fn spatio_temporal(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("UNetSpatioTemporal", UNetSpatioTemporal::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let [height, wide] = sides(config.sample_size);
        let x = inputs.noise([1, FRAMES, config.out_channels, height, wide]);
        // One embedding of the image, the image itself beside each frame, and frames a second, motion and noise.
        let cond = TextCondition::new(inputs.noise([1, 1, width(&config.cross_attention_dim)]));
        let beside = config.in_channels - config.out_channels;
        let cond = cond.image(inputs.noise([1, beside, height, wide])).sizes([vec![6.0, 127.0, 0.02]]);
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &cond, tap)?)])
    }))
}

pub fn temporal_decoder(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    let net = AutoencoderKlTemporalDecoder::load(folder, load)?;
    Ok(loaded("AutoencoderKlTemporalDecoder", net, |net, inputs, tap| {
        let [height, wide] = net.config().sample_size;
        let latents = net.encode_with(inputs.noise([FRAMES, net.config().in_channels, height, wide]), tap)?.mode();
        let decoded = net.decode_with(latents.clone(), FRAMES, tap)?;
        Ok(vec![output("latents", latents), output("decoded", decoded)])
    }))
}
