//! Encoders of texts and images, as transformers writes them.

use super::classes::{Loaded, loaded};
use super::conditions::image;
use super::inputs::{Output, output};
use langevin::core::Load;
use langevin::models::ModelError;
use langevin::models::text::{Bert, ClipText, ClipVision, T5Encoder, Tokens};
use std::path::Path;

/// A text of the first few tokens.
fn text(length: usize, vocabulary: usize) -> Result<Tokens, ModelError> {
    Tokens::new([(0..length).map(|i| (i % vocabulary) as u32).collect()])
}

pub fn clip_text(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("ClipText", ClipText::load(folder, load)?, |net, _, tap| {
        let told = net.forward_with(&text(net.config().positions, net.config().vocabulary)?, tap)?;
        let mut outputs: Vec<Output> = vec![output("last_hidden_state", told.last_hidden_state)];
        outputs.extend(told.text_embeds.map(|embeds| output("text_embeds", embeds)));
        Ok(outputs)
    }))
}

pub fn clip_vision(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("ClipVision", ClipVision::load(folder, load)?, |net, inputs, tap| {
        let seen = net.forward_with(image(3, [net.config().image; 2], inputs), tap)?;
        let mut outputs: Vec<Output> = vec![output("last_hidden_state", seen.last_hidden_state)];
        outputs.extend(seen.image_embeds.map(|embeds| output("image_embeds", embeds)));
        Ok(outputs)
    }))
}

pub fn t5(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("T5Encoder", T5Encoder::load(folder, load)?, |net, _, tap| {
        Ok(vec![output("last_hidden_state", net.forward_with(&text(77, net.config().vocabulary)?, tap)?)])
    }))
}

pub fn bert(folder: &Path, load: Load) -> Result<Loaded, ModelError> {
    Ok(loaded("Bert", Bert::load(folder, load)?, |net, _, tap| {
        let told = net.forward_with(&text(net.config().positions.min(77), net.config().vocabulary)?, tap)?;
        Ok(vec![output("last_hidden_state", told.last_hidden_state)])
    }))
}
