//! PNDMScheduler.

use super::configured::{Configured, Schedule, Walk};
use super::method::Method;
use super::options::{self, chain, ending, prediction, spacing};
use super::{ConfigError, keys::Keys};
use crate::sigma::Pndm;
use langevin_core::Prediction;

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let ending = ending(keys, false)?;
    let chain = chain(keys, options::DDPM)?.ending(ending);
    let prediction = prediction(keys)?;
    if prediction == Prediction::Sample {
        return Err(keys.bad("prediction_type", "sample", "epsilon or v_prediction"));
    }
    let solver = if keys.flag("skip_prk_steps", false)? { Pndm::new() } else { Pndm::runge_kutta() };
    let offset = keys.count("steps_offset", 0)?;
    let spacing = spacing(keys, "leading")?;
    Ok(Configured::new(
        keys,
        chain,
        prediction,
        Schedule::Steps { spacing, offset, walk: Walk::Strided },
        Method::Pndm(solver),
    ))
}
