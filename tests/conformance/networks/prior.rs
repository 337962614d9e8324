//! The prior of unCLIP.

use super::{Seen, load, optional, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{Prior, TextCondition};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, Prior::load)?;
    let mut seen = Seen::default();
    let field = "out.predicted_image_embedding";
    if case.tensor("in.x").is_some() {
        match network.post_process(tensor(case, "in.x")) {
            Ok(output) => seen.output("out", &output),
            Err(error) => case.fail(error.to_string()),
        }
        return seen.compare(case);
    }
    let embedding = tensor(case, "in.proj_embedding");
    let states = optional(case, "in.encoder_hidden_states");
    // One embedding a sample is what the network is for; some denoise many tokens, without a text.
    let result = match states {
        Some(states) => {
            let mut text = TextCondition::new(states).pooled(embedding);
            text.mask = optional(case, "in.attention_mask");
            let x = tensor(case, "in.hidden_states");
            let output = seen.tap(|tap| network.forward_with(x, time(case), &text, tap));
            output.map(|output| seen.output(field, &output))
        }
        None => {
            let x = tensor(case, "in.hidden_states");
            let output = seen.tap(|tap| network.forward_tokens(x, time(case), embedding, None, tap));
            output.map(|output| seen.output(field, &output))
        }
    };
    if let Err(error) = result {
        case.fail(error.to_string());
    }
    seen.compare(case)
}
