//! The diffusion transformer for classes.

use super::{Seen, load, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{DiT, Labels};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, DiT::load)?;
    let classes = network.config().classes;
    // The reference counts "no class" as the one behind the last.
    let label = |label: &f64| (*label as usize != classes).then_some(*label as usize);
    let labels = Labels::optional(case.need("in.class_labels").data.iter().map(label));
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.hidden_states"), time(case), &labels, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
