//! Diffusion transformers.

use super::classes::{Loaded, loaded};
use super::conditions::{TOKENS, image};
use super::inputs::output;
use langevin::core::Load;
use langevin::models::{DiT, Flux, Labels, ModelError, PixArt, Prior, Sd3, TextCondition};
use std::path::Path;

pub fn dit(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("DiT", DiT::load(folder, load)?, |net, inputs, tap| {
        let x = image(net.config().in_channels, [net.config().sample_size; 2], inputs);
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &Labels::of([0]), tap)?)])
    }))
}

pub fn pixart(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("PixArt", PixArt::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let mut cond = TextCondition::new(inputs.noise([1, TOKENS, config.caption_channels.unwrap_or(config.context)]));
        if config.sizes {
            cond = cond.sizes([vec![1024.0, 1024.0, 1.0]]);
        }
        let x = image(config.in_channels, [config.sample_size; 2], inputs);
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &cond, tap)?)])
    }))
}

pub fn sd3(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("Sd3", Sd3::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let cond = TextCondition::new(inputs.noise([1, TOKENS, config.text_width]));
        let cond = cond.pooled(inputs.noise([1, config.pooled_width]));
        let x = image(config.in_channels, [config.sample_size; 2], inputs);
        Ok(vec![output("sample", net.forward_with(x, inputs.time(), &cond, tap)?)])
    }))
}

pub fn flux(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("Flux", Flux::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let mut cond = TextCondition::new(inputs.noise([1, TOKENS, config.text_width]));
        cond = cond.pooled(inputs.noise([1, config.pooled_width]));
        if config.guidance {
            cond = cond.guidance([3.5]);
        }
        // Latents are told in squares of two by two; what is beyond the channels of the output is an image beside them.
        let beside = (config.in_channels - config.out_channels) / 4;
        if beside > 0 {
            cond = cond.image(image(beside, [64; 2], inputs));
        }
        let x = image(config.out_channels / 4, [64; 2], inputs);
        Ok(vec![output("sample", net.forward_latents(x, inputs.time(), &cond, tap)?)])
    }))
}

pub fn prior(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("Prior", Prior::load(folder, load)?, |net, inputs, tap| {
        let config = net.config();
        let cond = TextCondition::new(inputs.noise([1, config.tokens, config.embedding_width]));
        let cond = cond.pooled(inputs.noise([1, config.text_width]));
        let x = inputs.noise([1, config.embedding_width]);
        Ok(vec![output("embedding", net.forward_with(x, inputs.time(), &cond, tap)?)])
    }))
}
