//! FLUX.1, over packed tokens.

use super::{Seen, load, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{Flux, FluxTokens, TextCondition};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, Flux::load)?;
    let text = TextCondition::new(tensor(case, "in.encoder_hidden_states"));
    let mut text = text.pooled(tensor(case, "in.pooled_projections"));
    text.guidance = case.tensor("in.guidance").map(|scales| scales.data.clone());
    let positions = |field| case.need(field).data.chunks(3).map(|p| [p[0], p[1], p[2]]).collect();
    let tokens = FluxTokens {
        values: tensor(case, "in.hidden_states"),
        positions: positions("in.img_ids"),
        text_positions: positions("in.txt_ids"),
    };
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tokens, time(case), &text, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
