//! DPMSolverSDEScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::options::{self, chain, prediction};
use super::sigmas::{Sigmas, conversion};
use super::{ConfigError, keys::Keys};
use crate::exponential::DpmSolverSde;
use langevin_core::Prediction;
use langevin_core::process::Interpolation;

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    // Inner stages have the timesteps that belong to their σ: linear in ln σ, as in KDPM2.
    let chain = chain(keys, options::LATENT)?.interpolation(Interpolation::LogSigma)?;
    let prediction = prediction(keys)?;
    if prediction == Prediction::Sample {
        return Err(keys.bad("prediction_type", "sample", "epsilon or v_prediction"));
    }
    let mut sigmas = Sigmas::read(keys, &chain)?;
    sigmas.conversion = conversion(keys)?;
    let seed = match keys.optional("noise_sampler_seed")? {
        None => None,
        Some(seed) if seed >= 0.0 && seed.fract() == 0.0 && seed < 9.0e15 => Some(seed as u64),
        Some(seed) => return Err(keys.bad("noise_sampler_seed", seed, "null or a whole number, at least 0")),
    };
    let method = Method::DpmSde(DpmSolverSde::new(), seed);
    Ok(Configured::new(keys, chain, prediction, Schedule::Sigmas(sigmas), method))
}
