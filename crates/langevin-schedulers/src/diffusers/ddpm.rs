//! DDPMScheduler.

use super::configured::{Configured, Schedule, Walk};
use super::method::Method;
use super::options::{self, chain, check_zero_snr, clipping, prediction, spacing, thresholding};
use super::{ConfigError, keys::Keys};
use crate::ddpm::{Ddpm, Variance};
use std::sync::Arc;

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let variance = variance(keys)?;
    let chain = chain(keys, options::DDPM)?;
    let chain = options::rescaled(keys, chain)?;
    let prediction = prediction(keys)?;
    check_zero_snr(keys, &chain, prediction)?;
    let clip = clipping(keys, true)?;
    let threshold = thresholding(keys)?.or(clip);
    let offset = keys.count("steps_offset", 0)?;
    let spacing = spacing(keys, "leading")?;
    Ok(Configured {
        class: keys.class().to_owned(),
        process: Arc::new(chain),
        prediction,
        threshold,
        rederive: false,
        drops_variance: false,
        compat: false,
        ignored: Vec::new(),
        schedule: Schedule::Steps { spacing, offset, walk: Walk::Joined },
        method: Method::Ddpm(Ddpm::new().variance(variance)),
    })
}

fn variance(keys: &mut Keys) -> Result<Variance, ConfigError> {
    match keys.word("variance_type", "fixed_small")?.as_str() {
        "fixed_small" | "fixed_small_log" => Ok(Variance::FixedSmall),
        "fixed_large" => Ok(Variance::FixedLarge),
        "learned" => Ok(Variance::Learned),
        "learned_range" => Ok(Variance::LearnedRange),
        other => Err(keys.bad(
            "variance_type",
            other,
            "fixed_small, fixed_small_log, fixed_large, learned or learned_range (fixed_large_log takes a logarithm \
             for a variance and gives NaN in the original)",
        )),
    }
}
