//! EulerDiscreteScheduler and EulerAncestralDiscreteScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::options::{self, chain, check_zero_snr, prediction, rescaled};
use super::sigmas::{Last, Sigmas, conversion};
use super::{ConfigError, keys::Keys};
use crate::sigma::{Euler, EulerAncestral};
use langevin_core::Prediction;

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let chain = chain(keys, options::DDPM)?;
    let chain = rescaled(keys, chain)?;
    let prediction = prediction(keys)?;
    check_zero_snr(keys, &chain, prediction)?;
    let mut sigmas = Sigmas::read(keys, &chain)?;
    sigmas.conversion = conversion(keys)?;
    sigmas.min = positive(keys, "sigma_min")?;
    sigmas.max = positive(keys, "sigma_max")?;
    sigmas.log_linear = choice(keys, "interpolation_type", ["linear", "log_linear"], "linear or log_linear")?;
    let continuous = choice(keys, "timestep_type", ["discrete", "continuous"], "discrete or continuous")?;
    // Elsewhere the option has no effect in the original.
    sigmas.continuous = continuous && prediction == Prediction::Velocity;
    sigmas.last = final_sigma(keys)?;
    (sigmas.takes_times, sigmas.takes_sigmas) = (true, true);
    Ok(Configured::new(keys, chain, prediction, Schedule::Sigmas(sigmas), Method::Euler(Euler::new())))
}

pub(super) fn read_ancestral(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let chain = chain(keys, options::DDPM)?;
    let chain = rescaled(keys, chain)?;
    let prediction = prediction(keys)?;
    check_zero_snr(keys, &chain, prediction)?;
    let sigmas = Sigmas::read(keys, &chain)?;
    Ok(Configured::new(
        keys,
        chain,
        prediction,
        Schedule::Sigmas(sigmas),
        Method::EulerAncestral(EulerAncestral::new()),
    ))
}

/// Whether the second of two words is chosen; the first is the default.
fn choice(keys: &mut Keys, key: &'static str, words: [&str; 2], expected: &'static str) -> Result<bool, ConfigError> {
    let word = keys.word(key, words[0])?;
    match words.iter().position(|known| *known == word) {
        Some(index) => Ok(index == 1),
        None => Err(keys.bad(key, word, expected)),
    }
}

pub(super) fn positive(keys: &mut Keys, key: &'static str) -> Result<Option<f64>, ConfigError> {
    match keys.optional(key)? {
        Some(sigma) if !(sigma > 0.0 && sigma.is_finite()) => Err(keys.bad(key, sigma, "a positive number")),
        sigma => Ok(sigma),
    }
}

/// `final_sigmas_type`.
pub(super) fn final_sigma(keys: &mut Keys) -> Result<Last, ConfigError> {
    let smallest = choice(keys, "final_sigmas_type", ["zero", "sigma_min"], "zero or sigma_min")?;
    Ok(if smallest { Last::Smallest } else { Last::Zero })
}
