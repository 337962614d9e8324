//! The towers of CLIP, and the encoder of T5.

use super::{Seen, load, tensor};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::text::{ClipText, ClipVision, T5Encoder, Tokens};

/// The tokens of a case and their mask.
fn tokens(case: &Case<'_>) -> Tokens {
    let ids = case.need("in.input_ids");
    let rows = (0..ids.rows()).map(|row| ids.row(row).iter().map(|id| *id as u32).collect());
    let tokens = Tokens::new(rows).expect("rows of tokens");
    match case.tensor("in.attention_mask") {
        Some(mask) => {
            let rows = (0..mask.rows()).map(|row| mask.row(row).iter().map(|seen| *seen != 0.0).collect());
            tokens.mask(rows.collect()).expect("a mask of the same shape")
        }
        None => tokens,
    }
}

pub fn clip_text(case: &Case<'_>) -> Outcome {
    let network = load(case, ClipText::load)?;
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(&tokens(case), tap)) {
        Ok(output) => {
            seen.output("out.last_hidden_state", &output.last_hidden_state);
            seen.output("out.pooler_output", &output.pooler_output);
            for (i, states) in output.hidden_states.iter().enumerate() {
                seen.output(&format!("out.hidden_states.{i}"), states);
            }
            if let Some(embeds) = &output.text_embeds {
                seen.output("out.text_embeds", embeds);
            }
        }
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

pub fn clip_vision(case: &Case<'_>) -> Outcome {
    let network = load(case, ClipVision::load)?;
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.pixel_values"), tap)) {
        Ok(output) => {
            seen.output("out.last_hidden_state", &output.last_hidden_state);
            seen.output("out.pooler_output", &output.pooler_output);
            for (i, states) in output.hidden_states.iter().enumerate() {
                seen.output(&format!("out.hidden_states.{i}"), states);
            }
            seen.output("out.penultimate", &output.hidden_states[output.hidden_states.len() - 2]);
            if let Some(embeds) = &output.image_embeds {
                seen.output("out.image_embeds", embeds);
            }
        }
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

pub fn t5(case: &Case<'_>) -> Outcome {
    let network = load(case, T5Encoder::load)?;
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(&tokens(case), tap)) {
        Ok(output) => seen.output("out", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
