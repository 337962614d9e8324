//! The UNet for audio, trajectories and values.

use super::{Seen, load, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{Labels, UNet1d};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, UNet1d::load)?;
    let x = tensor::<3>(case, "in.sample");
    let labels = Labels::none(x.dims()[0]);
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(x, time(case), &labels, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
