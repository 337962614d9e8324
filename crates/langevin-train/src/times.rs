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

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::process::{Betas, Edm, RectifiedFlow, VpSde};

    fn chain(steps: usize) -> DiscreteChain {
        DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, steps).unwrap()
    }

    /// Network times of many steps of a run.
    fn times(times: Times, process: &dyn Process, seed: u64, steps: u64, rows: usize) -> Vec<f64> {
        (0..steps)
            .flat_map(|step| match times.levels(process, seed, step, rows).unwrap() {
                Levels::Each(levels) => levels.into_iter().map(|level| level.time),
                Levels::Shared(_) => unreachable!(),
            })
            .collect()
    }

    #[test]
    fn a_chain_is_visited_uniformly_from_the_first_step_to_the_last() {
        for way in [Times::Uniform, Times::Stratified] {
            let mut counts = [0f64; 10];
            for time in times(way, &chain(10), 3, 200, 100) {
                assert_eq!(time, time.floor());
                counts[time as usize] += 1.0;
            }
            let chi_squared: f64 = counts.iter().map(|count| (count - 2000.0).powi(2) / 2000.0).sum();
            // The 0.999 quantile of the chi-squared distribution with 9 degrees of freedom.
            assert!(chi_squared < 27.88, "{way:?}: {counts:?}");
        }
    }

    #[test]
    fn the_levels_are_those_of_the_process() {
        let process = chain(7);
        let Levels::Each(levels) = Times::Uniform.levels(&process, 1, 2, 50).unwrap() else { unreachable!() };
        for level in levels {
            assert_eq!(level, process.level(level.time));
        }
    }

    #[test]
    fn a_continuous_range_is_covered_uniformly() {
        let process = RectifiedFlow::new().range(0.2, 0.8).unwrap();
        let drawn = times(Times::Uniform, &process, 9, 100, 100);
        assert!(drawn.iter().all(|t| (0.2..=0.8).contains(t)));
        let n = drawn.len() as f64;
        let mean = drawn.iter().sum::<f64>() / n;
        let variance = drawn.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / n;
        // Four standard errors of the mean, 0.6/sqrt(12·n); the variance is 0.36/12.
        assert!((mean - 0.5).abs() < 4.0 * 0.6 / (12.0 * n).sqrt(), "{mean}");
        assert!((variance / 0.03 - 1.0).abs() < 0.04, "{variance}");
    }

    #[test]
    fn stratified_times_put_one_sample_into_each_part() {
        let drawn = times(Times::Stratified, &RectifiedFlow::new(), 9, 1, 8);
        for (row, t) in drawn.iter().enumerate() {
            assert!((row as f64 / 8.0..(row + 1) as f64 / 8.0).contains(t), "{drawn:?}");
        }
    }

    #[test]
    fn log_normal_times_have_the_moments_asked_for() {
        let process = Edm::new(0.002, 80.0).unwrap();
        let way = Times::LogNormal { mean: -1.2, std: 1.2 }.validate(&process).unwrap();
        let logs: Vec<f64> = (0..100)
            .flat_map(|step| match way.levels(&process, 4, step, 100).unwrap() {
                Levels::Each(levels) => levels.into_iter().map(|level| (level.sigma / level.alpha).ln()),
                Levels::Shared(_) => unreachable!(),
            })
            .collect();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let std = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n).sqrt();
        // The range cuts off 4e-6 of the distribution; four standard errors of each.
        assert!((mean + 1.2).abs() < 4.0 * 1.2 / n.sqrt(), "{mean}");
        assert!((std - 1.2).abs() < 4.0 * 1.2 / (2.0 * n).sqrt(), "{std}");
    }

    #[test]
    fn draws_are_functions_of_seed_step_and_row() {
        let process = VpSde::default();
        let draw = |seed, rows| times(Times::Uniform, &process, seed, 3, rows);
        assert_eq!(draw(1, 4), draw(1, 4));
        assert_ne!(draw(1, 4), draw(2, 4));
        // A larger batch begins with the samples of a smaller one.
        assert_eq!(draw(1, 4)[..4], draw(1, 6)[..4]);
        assert_ne!(draw(1, 4)[..4], draw(1, 4)[4..8]);
    }

    #[test]
    fn log_normal_times_that_cannot_be_are_rejected() {
        let edm = Edm::new(0.002, 80.0).unwrap();
        let rejected = |times: Times, process: &dyn Process| times.validate(process).unwrap_err();
        let log_normal = |mean, std| Times::LogNormal { mean, std };
        assert!(matches!(rejected(log_normal(f64::NAN, 1.0), &edm), TrainError::Setting { .. }));
        for std in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(rejected(log_normal(0.0, std), &edm), TrainError::Setting { .. }));
        }
        assert!(matches!(rejected(log_normal(50.0, 1.0), &edm), TrainError::Times { .. }));
        assert!(matches!(rejected(log_normal(0.0, 1e9), &edm), TrainError::Times { .. }));
        assert!(matches!(rejected(log_normal(0.0, 1.0), &chain(10)), TrainError::Times { .. }));
    }
}
