//! Which noise levels the samples of a training step get.

use crate::TrainError;
use crate::error::require;
use crate::random::{Purpose, Stream};
use langevin_core::process::DiscreteChain;
use langevin_core::{Level, Levels, Process, ProcessError};
use serde::{Deserialize, Serialize};

/// How process times are drawn in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Times {
    /// Uniform: over the integer steps `0..T` of a chain, over the time range of a continuous process.
    #[default]
    Uniform,
    /// As [`Uniform`](Self::Uniform), but spread evenly over each batch: one uniform number `u` for the batch, sample
    /// `i` of `n` gets `(u + i)/n`. The same loss on average, with less noise between steps (Kingma et al. 2021,
    /// "Variational Diffusion Models", appendix I.1).
    Stratified,
    /// `ln(σ/α)` normal with this mean and standard deviation, restricted to the range of a continuous process: what
    /// EDM trains with, at mean −1.2 and deviation 1.2 (Karras et al. 2022, table 1).
    LogNormal {
        /// Mean of `ln(σ/α)`.
        mean: f64,
        /// Standard deviation of `ln(σ/α)`, > 0.
        std: f64,
    },
}

impl Times {
    /// Checks that these times exist on `process`.
    pub(crate) fn validate(self, process: &dyn Process) -> Result<Self, TrainError> {
        if let Times::LogNormal { mean, std } = self {
            require(mean.is_finite(), "mean of log-normal times", mean, "a finite number")?;
            require(std > 0.0 && std.is_finite(), "std of log-normal times", std, "a positive, finite number")?;
            if steps(process).is_some() {
                let reason = "a chain has levels at its steps only; use uniform or stratified times";
                return Err(TrainError::Times { times: "log-normal times", reason });
            }
            let (low, high) = log_range(process);
            // Rejection must end: at least one draw in a thousand or so has to fall into the range.
            let reaches = |z: f64| (z - mean) / std;
            if !(reaches(low) < 3.0 && reaches(high) > -3.0 && (high - low) / std > 1e-2) {
                let reason =
                    "nearly all of the distribution lies outside the levels of the process; change mean or std";
                return Err(TrainError::Times { times: "log-normal times", reason });
            }
        }
        Ok(self)
    }

    /// The levels of the `rows` samples of step `step`: a pure function of its arguments.
    pub(crate) fn levels(
        self,
        process: &dyn Process,
        seed: u64,
        step: u64,
        rows: usize,
    ) -> Result<Levels, ProcessError> {
        let mut stream = Stream::new(seed, Purpose::Times, step);
        let shared = stream.uniform();
        let levels = (0..rows)
            .map(|row| match self {
                Times::Uniform => Ok(uniform(process, stream.uniform())),
                Times::Stratified => Ok(uniform(process, (shared + row as f64) / rows as f64)),
                Times::LogNormal { mean, std } => log_normal(process, mean, std, &mut stream),
            })
            .collect::<Result<Vec<Level>, ProcessError>>()?;
        Ok(Levels::Each(levels))
    }
}

/// Number of steps of a chain, `None` for a continuous process.
pub(crate) fn steps(process: &dyn Process) -> Option<usize> {
    process.chain().map(DiscreteChain::steps)
}

/// The level a fraction `u` in `[0, 1)` up the process.
fn uniform(process: &dyn Process, u: f64) -> Level {
    match steps(process) {
        // The minimum guards the case that u·T rounds up to T.
        Some(steps) => process.level((u * steps as f64).floor().min(steps as f64 - 1.0)),
        None => {
            let (min, max) = process.time_range();
            process.level(min + u * (max - min))
        }
    }
}

/// `ln(σ/α)` at the clean and the noisy end.
fn log_range(process: &dyn Process) -> (f64, f64) {
    let (min, max) = process.time_range();
    (-process.lambda(min), -process.lambda(max))
}

fn log_normal(process: &dyn Process, mean: f64, std: f64, stream: &mut Stream) -> Result<Level, ProcessError> {
    let (low, high) = log_range(process);
    loop {
        // Box and Muller 1958; 1 − u is in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - stream.uniform()).ln()).sqrt();
        let log = mean + std * radius * (std::f64::consts::TAU * stream.uniform()).cos();
        if log > low && log < high {
            return Ok(process.level(process.time_at_lambda(-log)?));
        }
    }
}
