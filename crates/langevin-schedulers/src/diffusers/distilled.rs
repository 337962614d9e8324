//! LCMScheduler and TCDScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::options::{check_zero_snr, clipping, ending, prediction, rescaled, scaled_chain, spacing, thresholding};
use super::{ConfigError, keys::Keys};
use crate::consistency::{Lcm, Tcd};
use langevin_core::grid::End;
use langevin_core::{Grid, GridError};
use std::sync::Arc;

/// Steps chosen among those that a network was distilled on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Distilled {
    /// Steps of the chain.
    pub steps: usize,
    /// How many of them the network was distilled on.
    pub original: usize,
    /// Whether the last step arrives at step 0 of the chain, and not at clean data.
    pub to_first: bool,
}

impl Distilled {
    /// The grid of `n` steps: every so many-th of the distilled ones, counted from the noisy end.
    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        if n == 0 {
            return Err(GridError::ZeroSteps.into());
        }
        if n > self.original {
            return Err(GridError::TooManySteps { given: n, chain: self.original }.into());
        }
        let stride = self.steps / self.original;
        let distilled = |from_end: usize| ((self.original - from_end) * stride - 1) as f64;
        let share = self.original as f64 / n as f64;
        self.grid_at(&(0..n).map(|i| distilled((i as f64 * share).floor() as usize)).collect::<Vec<_>>())
    }

    /// The grid of given steps.
    pub fn grid_at(&self, times: &[f64]) -> Result<Grid, ConfigError> {
        let mut times = times.to_vec();
        if !self.to_first {
            return Ok(Grid::times(times)?);
        }
        if times.last() != Some(&0.0) {
            times.push(0.0);
        }
        Ok(Grid::times(times)?.ending(End::Range))
    }
}

pub(super) fn read(keys: &mut Keys, trajectory: bool) -> Result<Configured, ConfigError> {
    // All steps are followed by the next asked one: these decide nothing.
    ending(keys, true)?;
    spacing(keys, "leading")?;
    keys.count("steps_offset", 0)?;
    let clip = clipping(keys, false)?;
    let threshold = thresholding(keys)?.or(clip);
    let chain = scaled_chain(keys)?;
    let chain = rescaled(keys, chain)?;
    let prediction = prediction(keys)?;
    check_zero_snr(keys, &chain, prediction)?;
    let original = keys.count("original_inference_steps", 50)?;
    if original == 0 {
        return Err(keys.bad("original_inference_steps", original, "at least 1"));
    }
    if original > chain.steps() {
        let reason =
            "the network was distilled on at most the steps of the chain; on 50 unless the file says otherwise";
        return Err(keys.contradiction("original_inference_steps", "num_train_timesteps", reason));
    }
    let scale = keys.number("timestep_scaling", 10.0)?;
    let method = if trajectory {
        Method::Tcd(Tcd::new(0.3)?)
    } else {
        Method::Lcm(keys.made(&["timestep_scaling"], Lcm::new().boundary(scale, 0.5))?)
    };
    let schedule = Distilled { steps: chain.steps(), original, to_first: trajectory };
    Ok(Configured {
        class: keys.class().to_owned(),
        process: Arc::new(chain),
        prediction,
        // TCD has the options, and thresholds nothing.
        threshold: if trajectory { None } else { threshold },
        rederive: false,
        drops_variance: false,
        compat: false,
        ignored: Vec::new(),
        schedule: Schedule::Distilled(schedule),
        method,
    })
}
