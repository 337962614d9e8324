//! IPNDMScheduler.

use super::configured::{Configured, Schedule, no_steps};
use super::method::Method;
use super::{ConfigError, keys::Keys};
use crate::sigma::Ipndm;
use langevin_core::grid::End;
use langevin_core::{Grid, Level, Prediction, Process};
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// The process on the unit circle whose time is the angle: `α = cos(πt/2)`, `σ = sin(πt/2)`, t in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Circle;

impl Process for Circle {
    fn alpha(&self, t: f64) -> f64 {
        // Exactly zero at 1.
        libm::sin(FRAC_PI_2 * (1.0 - t))
    }
    fn sigma(&self, t: f64) -> f64 {
        libm::sin(FRAC_PI_2 * t)
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        -FRAC_PI_2 * self.sigma(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        FRAC_PI_2 * self.alpha(t)
    }
    fn time_range(&self) -> (f64, f64) {
        (0.0, 1.0)
    }
}

/// The schedule `σ = sin²(πu/2)`, u from 1 to 0 in equal steps, or given sigmas; rounded as the original rounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Crash {
    given: Option<Vec<f64>>,
}

impl Crash {
    pub fn grid(&self, steps: usize) -> Result<Grid, ConfigError> {
        if steps == 0 {
            return Err(no_steps());
        }
        let sine = |i: usize| {
            let u = (1.0 - i as f64 / steps as f64) as f32;
            let sine = libm::sin(f64::from(u * std::f32::consts::FRAC_PI_2)) as f32;
            sine * sine
        };
        let sigmas: Vec<f32> = match &self.given {
            Some(given) => given.iter().map(|sigma| *sigma as f32).collect(),
            None => (0..=steps).map(sine).collect(),
        };
        let level = |sigma: &f32| {
            let alpha = (1.0 - sigma * sigma).sqrt();
            let time = libm::atan2(f64::from(*sigma), f64::from(alpha)) * FRAC_2_PI;
            Level { alpha: f64::from(alpha), sigma: f64::from(*sigma), time: f64::from(time as f32) }
        };
        Ok(Grid::levels(sigmas.iter().map(level).collect())?.ending(End::Range))
    }
}

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    // The number of training steps has no say in sampling: times are continuous.
    keys.count("num_train_timesteps", 1000)?;
    let given = keys.numbers("trained_betas")?;
    Ok(Configured::new(
        keys,
        Circle,
        Prediction::Velocity,
        Schedule::Crash(Crash { given }),
        Method::Ipndm(Ipndm::new()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circle_is_one() {
        for t in [0.0, 0.2, 0.5, 0.9, 1.0] {
            assert!((Circle.alpha(t).hypot(Circle.sigma(t)) - 1.0).abs() < 1e-15);
            assert!(
                (Circle.lambda(t).is_infinite()) || (Circle.time_at_lambda(Circle.lambda(t)).unwrap() - t).abs() < 1e-9
            );
        }
        let d = 1e-6;
        for t in [0.3, 0.7] {
            let slope = |f: &dyn Fn(f64) -> f64| (f(t + d) - f(t - d)) / (2.0 * d);
            assert!((slope(&|t| Circle.alpha(t)) - Circle.alpha_dot(t)).abs() < 1e-8);
            assert!((slope(&|t| Circle.sigma(t)) - Circle.sigma_dot(t)).abs() < 1e-8);
        }
    }

    #[test]
    fn given_sigmas_are_taken_as_they_are() {
        let crash = Crash { given: Some(vec![0.9, 0.5, 0.1]) };
        let stops = crash.grid(7).unwrap().stops(&Circle).unwrap();
        let sigmas: Vec<f64> = stops.iter().map(|stop| stop.to.level.sigma).collect();
        assert_eq!(sigmas, [0.5, f64::from(0.1f32)]);
        assert!(Crash { given: Some(vec![0.5, 0.9]) }.grid(2).is_err());
        assert!(Crash { given: None }.grid(0).is_err());
    }
}
