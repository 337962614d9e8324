//! Stable Diffusion 3 and 3.5.

use super::{Seen, load, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{Sd3, TextCondition};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, Sd3::load)?;
    let text = TextCondition::new(tensor(case, "in.encoder_hidden_states"));
    let text = text.pooled(tensor(case, "in.pooled_projections"));
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.hidden_states"), time(case), &text, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
