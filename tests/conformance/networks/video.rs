//! Networks for videos.

use super::{Seen, load, optional, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{TextCondition, UNet3dConditional, UNetMotion, UNetSpatioTemporal};

/// The text of a case.
fn text(case: &Case<'_>) -> TextCondition {
    TextCondition::new(tensor(case, "in.encoder_hidden_states"))
}

/// Numbers for each sample.
fn rows(case: &Case<'_>, field: &str) -> Option<Vec<Vec<f64>>> {
    let array = case.tensor(field)?;
    Some(array.data.chunks(array.shape[1].max(1)).map(<[f64]>::to_vec).collect())
}

pub fn conditional(case: &Case<'_>) -> Outcome {
    let network = load(case, UNet3dConditional::load)?;
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.sample"), time(case), &text(case), tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

pub fn motion(case: &Case<'_>) -> Outcome {
    let network = load(case, UNetMotion::load)?;
    let mut cond = text(case);
    cond.pooled = optional(case, "in.text_embeds");
    cond.sizes = rows(case, "in.time_ids");
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.sample"), time(case), &cond, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

pub fn spatio_temporal(case: &Case<'_>) -> Outcome {
    let network = load(case, UNetSpatioTemporal::load)?;
    let mut cond = text(case);
    cond.sizes = rows(case, "in.added_time_ids");
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.sample"), time(case), &cond, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
