//! EDMEulerScheduler, CosineDPMSolverMultistepScheduler, and the schedule of EDM's classes.

use super::configured::{Configured, Schedule, no_steps};
use super::euler::final_sigma;
use super::method::Method;
use super::sigmas::Last;
use super::{ConfigError, keys::Keys};
use crate::sigma::Euler;
use langevin_core::grid::End;
use langevin_core::process::Edm;
use langevin_core::{Grid, GridError, Level, Prediction};
use std::f64::consts::FRAC_2_PI;

/// What the network is told of σ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// ln(σ)/4.
    Logarithm,
    /// 2/π·arctan(σ).
    Angle,
}

impl Told {
    fn time(self, sigma: f64) -> f64 {
        let time = match self {
            Told::Logarithm => 0.25 * libm::log(sigma),
            Told::Angle => libm::atan(sigma) * FRAC_2_PI,
        };
        f64::from(time as f32)
    }
}

/// Sigmas over EDM's range, rounded to float32.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EdmSigmas {
    told: Told,
    /// Whether Karras's schedule is one in float64.
    wide: bool,
    min: f64,
    max: f64,
    /// Karras's ρ, or none for even steps in ln σ.
    rho: Option<f64>,
    last: Last,
}

impl EdmSigmas {
    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        if n == 0 {
            return Err(no_steps());
        }
        let sigmas: Vec<f64> = match self.rho {
            Some(rho) if self.wide => (0..n).map(|i| self.karras(i as f64 / (n - 1).max(1) as f64, rho)).collect(),
            Some(rho) => (0..n).map(|i| self.karras(f64::from(linspace(0.0, 1.0, n, i)), rho)).collect(),
            None => {
                let (low, high) = (libm::log(self.min) as f32, libm::log(self.max) as f32);
                // One step begins at the clean end, as published.
                (0..n).rev().map(|i| libm::exp(f64::from(linspace(low, high, n, i)))).collect()
            }
        };
        self.levels(&sigmas)
    }

    /// Deviation of data and noise together at a level; float32 does not quite begin at `sigma_max`.
    pub fn prior(&self, level: &Level) -> f64 {
        let begins = (level.sigma - self.max).abs() <= 1e-5 * self.max;
        libm::hypot(level.alpha, if begins { self.max } else { level.sigma })
    }

    /// σ at a position on Karras's schedule, whose root is one in float32 but for EDMEulerScheduler.
    fn karras(&self, position: f64, rho: f64) -> f64 {
        let (high, low) = (libm::pow(self.max, 1.0 / rho), libm::pow(self.min, 1.0 / rho));
        let narrow = || f64::from(high as f32 + position as f32 * ((low - high) as f32));
        libm::pow(if self.wide { high + position * (low - high) } else { narrow() }, rho)
    }

    /// At given positions, 0 at the noisy and 1 at the clean end. Even steps in ln σ only use their number.
    pub fn grid_on(&self, positions: &[f64]) -> Result<Grid, ConfigError> {
        let Some(rho) = self.rho else { return self.grid(positions.len()) };
        if positions.is_empty() {
            return Err(no_steps());
        }
        if let Some(index) = positions.iter().position(|position| !position.is_finite()) {
            return Err(GridError::NotFinite { quantity: "the position", index, value: positions[index] }.into());
        }
        self.levels(&positions.iter().map(|position| self.karras(*position, rho)).collect::<Vec<_>>())
    }

    fn levels(&self, sigmas: &[f64]) -> Result<Grid, ConfigError> {
        let level = |sigma: &f64| {
            let sigma = f64::from(*sigma as f32);
            Level { alpha: 1.0, sigma, time: self.told.time(sigma) }
        };
        let mut levels: Vec<Level> = sigmas.iter().map(level).collect();
        let last = levels.last().copied().ok_or_else(no_steps)?;
        levels.push(match self.last {
            Last::Zero => Level { sigma: 0.0, ..last },
            Last::Smallest => last,
        });
        Ok(Grid::levels(levels)?.ending(End::Range))
    }
}

/// Number `i` of `n` even ones, in float32: counted from the nearer end.
fn linspace(start: f32, end: f32, n: usize, i: usize) -> f32 {
    let step = (end - start) / (n - 1).max(1) as f32;
    if i < n / 2 || n == 1 { start + step * i as f32 } else { end - step * (n - 1 - i) as f32 }
}

/// What a class of EDM's takes unless its configuration says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub told: Told,
    pub sigmas: (f64, f64),
    pub sigma_data: f64,
    pub schedule: &'static str,
    pub prediction: &'static str,
}

/// Those of Karras et al.
pub(super) const KARRAS: Defaults = Defaults {
    told: Told::Logarithm,
    sigmas: (0.002, 80.0),
    sigma_data: 0.5,
    schedule: "karras",
    prediction: "epsilon",
};

/// Those of Stable Audio.
pub(super) const COSINE: Defaults = Defaults {
    told: Told::Angle,
    sigmas: (0.3, 500.0),
    sigma_data: 1.0,
    schedule: "exponential",
    prediction: "v_prediction",
};

/// `sigma_min`, `sigma_max`, `sigma_data`, `sigma_schedule`, `rho` and `final_sigmas_type`.
pub(super) fn edm(keys: &mut Keys, defaults: Defaults) -> Result<(Edm, EdmSigmas, Prediction), ConfigError> {
    // The number of training steps has no say in sampling.
    keys.count("num_train_timesteps", 1000)?;
    let (min, max) = (keys.number("sigma_min", defaults.sigmas.0)?, keys.number("sigma_max", defaults.sigmas.1)?);
    let sigma_data = keys.number("sigma_data", defaults.sigma_data)?;
    let rho = keys.number("rho", 7.0)?;
    if !(rho > 0.0) {
        return Err(keys.bad("rho", rho, "a positive number"));
    }
    let rho = match keys.word("sigma_schedule", defaults.schedule)?.as_str() {
        "karras" => Some(rho),
        "exponential" => None,
        other => return Err(keys.bad("sigma_schedule", other, "karras or exponential")),
    };
    let prediction = match keys.word("prediction_type", defaults.prediction)?.as_str() {
        "epsilon" => Prediction::Edm { sigma_data },
        "v_prediction" => Prediction::EdmVelocity { sigma_data },
        other => return Err(keys.bad("prediction_type", other, "epsilon or v_prediction")),
    };
    if prediction.validate().is_err() {
        return Err(keys.bad("sigma_data", sigma_data, "a positive number"));
    }
    let last = final_sigma(keys)?;
    let process = keys.made(&["sigma_min", "sigma_max"], Edm::new(min, max))?;
    Ok((process, EdmSigmas { told: defaults.told, wide: false, min, max, rho, last }, prediction))
}

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (process, mut sigmas, prediction) = edm(keys, KARRAS)?;
    sigmas.wide = true;
    Ok(Configured::new(keys, process, prediction, Schedule::Edm(sigmas), Method::Euler(Euler::new())))
}
