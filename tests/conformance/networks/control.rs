//! ControlNets and T2I adapters.

use super::unet2d_conditional::condition;
use super::{Seen, load, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::control::ControlOptions;
use langevin::models::{ControlNet, T2iAdapter};

pub fn controlnet(case: &Case<'_>) -> Outcome {
    let network = load(case, ControlNet::load)?;
    let cond = condition(case, network.config().encoder.classes);
    let scalars = &case.value["scalars"];
    let options = ControlOptions {
        scale: scalars["conditioning_scale"].as_f64().unwrap_or(1.0),
        guess: scalars["guess_mode"].as_bool().unwrap_or(false),
    };
    let (x, image) = (tensor(case, "in.sample"), tensor(case, "in.controlnet_cond"));
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(x, time(case), &cond, image, &options, tap)) {
        Ok(residuals) => {
            for (i, residual) in residuals.down.iter().enumerate() {
                seen.output(&format!("out.down_block_res_samples.{i}"), residual);
            }
            seen.output("out.mid_block_res_sample", &residuals.mid);
        }
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

pub fn adapter(case: &Case<'_>) -> Outcome {
    let network = load(case, T2iAdapter::load)?;
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.x"), tap)) {
        Ok(features) => {
            for (i, feature) in features.iter().enumerate() {
                seen.output(&format!("out.{i}"), feature);
            }
        }
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}
