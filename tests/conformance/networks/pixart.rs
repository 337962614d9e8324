//! PixArt, with and without sizes.

use super::{Seen, load, optional, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{PixArt, TextCondition};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, PixArt::load)?;
    let mut text = TextCondition::new(tensor(case, "in.encoder_hidden_states"));
    text.mask = optional(case, "in.encoder_attention_mask");
    if network.config().sizes {
        let resolution = case.need("in.added_cond_kwargs.resolution").data.chunks(2);
        let aspect = &case.need("in.added_cond_kwargs.aspect_ratio").data;
        text = text.sizes(resolution.zip(aspect).map(|(sides, aspect)| vec![sides[0], sides[1], *aspect]));
    }
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.hidden_states"), time(case), &text, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
