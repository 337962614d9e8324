//! HeunDiscreteScheduler, KDPM2DiscreteScheduler and KDPM2AncestralDiscreteScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::options::{self, chain, clipping, prediction};
use super::sigmas::{Sigmas, conversion};
use super::{ConfigError, keys::Keys};
use crate::sigma::{Dpm2, Dpm2Ancestral, Heun};
use langevin_core::process::{DiscreteChain, Interpolation};

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    // The clipped x̂_0 makes the slope: ε̂ follows it.
    let threshold = clipping(keys, false)?;
    let (chain, mut sigmas) = sigmas(keys)?;
    sigmas.takes_times = true;
    let mut configured = configured(keys, chain, sigmas, Method::Heun(Heun::new()))?;
    configured.threshold = threshold;
    configured.rederive = true;
    Ok(configured)
}

pub(super) fn read_kdpm2(keys: &mut Keys, ancestral: bool) -> Result<Configured, ConfigError> {
    let (chain, mut sigmas) = sigmas(keys)?;
    sigmas.whole_karras_times = true;
    // Between the steps the original is linear in ln σ.
    let chain = chain.interpolation(Interpolation::LogSigma)?;
    let method = if ancestral { Method::Dpm2Ancestral(Dpm2Ancestral::new()) } else { Method::Dpm2(Dpm2::new()) };
    configured(keys, chain, sigmas, method)
}

fn sigmas(keys: &mut Keys) -> Result<(DiscreteChain, Sigmas), ConfigError> {
    let chain = chain(keys, options::LATENT)?;
    let mut sigmas = Sigmas::read(keys, &chain)?;
    sigmas.conversion = conversion(keys)?;
    Ok((chain, sigmas))
}

fn configured(
    keys: &mut Keys,
    chain: DiscreteChain,
    sigmas: Sigmas,
    method: Method,
) -> Result<Configured, ConfigError> {
    let prediction = prediction(keys)?;
    Ok(Configured::new(keys, chain, prediction, Schedule::Sigmas(sigmas), method))
}
