//! The UNet of DDPM, ADM and NCSN++.

use super::{Seen, load, optional, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::unet::Classes;
use langevin::models::{Labels, UNet2d};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, UNet2d::load)?;
    let x = tensor::<4>(case, "in.sample");
    let batch = x.dims()[0];
    let labels = match network.config().classes {
        Classes::Identity => optional(case, "in.class_labels").map(Labels::embeddings),
        Classes::Timestep => case.tensor("in.class_labels").map(|l| Labels::values(l.data.iter().copied())),
        _ => case.tensor("in.class_labels").map(|l| Labels::of(l.data.iter().map(|label| *label as usize))),
    };
    let labels = labels.unwrap_or_else(|| Labels::none(batch));
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(x, time(case), &labels, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
