//! DDPMWuerstchenScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::{ConfigError, keys::Keys};
use crate::ddpm::Ddpm;
use langevin_core::Prediction;
use langevin_core::process::Cosine;

/// Steps of the posterior in continuous time; the last one takes its mean. Networks predict ε and are told t.
pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let scaler = keys.number("scaler", 1.0)?;
    let s = keys.number("s", 0.008)?;
    let process = keys.made(&["s"], Cosine::new(s))?;
    let process = keys.made(&["scaler"], process.scaler(scaler))?;
    let method = Method::Ddpm(Ddpm::new().mean_at_end());
    Ok(Configured::new(keys, process, Prediction::Epsilon, Schedule::Uniform, method))
}
