//! CogVideoXDDIMScheduler and CogVideoXDPMScheduler.

use super::configured::{Configured, Schedule, Walk};
use super::method::Method;
use super::options::{self, check_zero_snr, clipping, ending, prediction, rescaled, spacing};
use super::{ConfigError, keys::Keys};
use crate::ddim::Ddim;
use crate::exponential::DpmSolver;
use langevin_core::process::{Betas, DiscreteChain};

/// DDIM, or DPM-Solver++ 2M for the reverse SDE, on a chain whose signal-to-noise ratios are divided by a number.
pub(super) fn read(keys: &mut Keys, sde: bool) -> Result<Configured, ConfigError> {
    let ending = ending(keys, true)?;
    let chain = shifted(keys)?;
    let chain = rescaled(keys, chain)?.ending(ending);
    let prediction = prediction(keys)?;
    check_zero_snr(keys, &chain, prediction)?;
    // The original has these options and does not look at them.
    clipping(keys, true)?;
    keys.number("sample_max_value", 1.0)?;
    let offset = keys.count("steps_offset", 0)?;
    let spacing = spacing(keys, "leading")?;
    let method = if sde {
        Method::Multistep(DpmSolver::multistep(2)?.lower_order_below(0).euler_at_final(true).sde(1.0)?)
    } else {
        Method::Shifted(Ddim::new())
    };
    let schedule = Schedule::Steps { spacing, offset, walk: Walk::Strided };
    Ok(Configured::new(keys, chain, prediction, schedule, method))
}

/// The chain with ᾱ/(1 − ᾱ) divided by `snr_shift_scale`.
fn shifted(keys: &mut Keys) -> Result<DiscreteChain, ConfigError> {
    let scale = keys.number("snr_shift_scale", 3.0)?;
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(keys.bad("snr_shift_scale", scale, "a positive number"));
    }
    let bars = options::latent_chain(keys)?;
    let bars: Vec<f64> = bars.alphas_cumprod().iter().map(|bar| bar / (scale + (1.0 - scale) * bar)).collect();
    let before = std::iter::once(1.0).chain(bars.iter().copied());
    let betas = bars.iter().zip(before).map(|(bar, before)| 1.0 - bar / before).collect::<Vec<_>>();
    let steps = betas.len();
    keys.made(&["snr_shift_scale"], DiscreteChain::new(Betas::Custom(betas), steps))
}
