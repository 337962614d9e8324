//! RePaintScheduler.

use super::configured::{Configured, Schedule, Walk};
use super::method::Method;
use super::options::{self, Spacing, chain};
use super::{ConfigError, keys::Keys};
use crate::ddim::Ddim;
use crate::jumps::RePaint;
use langevin_core::Prediction;
use langevin_core::denoiser::Threshold;

/// The class has no prediction type: its networks predict ε. How it jumps is an argument of `set_timesteps`, and so
/// [`Configured::jumps`].
pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let chain = chain(keys, options::DDPM)?;
    let eta = keys.number("eta", 0.0)?;
    let ddim = keys.made(&["eta"], Ddim::new().eta(eta))?;
    let clip = keys.flag("clip_sample", true)?;
    let schedule = Schedule::Steps { spacing: Spacing::Leading, offset: 0, walk: Walk::Joined };
    let method = Method::RePaint(RePaint::around(ddim));
    let mut configured = Configured::new(keys, chain, Prediction::Epsilon, schedule, method);
    configured.threshold = clip.then_some(Threshold::Static { range: 1.0 });
    Ok(configured)
}
