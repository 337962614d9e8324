//! MiniMaxH3Scheduler and FlowMapEulerDiscreteScheduler: equal steps of a flow, shifted.

use super::configured::{Configured, Schedule, no_steps};
use super::method::Method;
use super::{ConfigError, keys::Keys};
use crate::sigma::Euler;
use langevin_core::grid::End;
use langevin_core::process::RectifiedFlow;
use langevin_core::{Grid, Level, Prediction, Process, ProcessError};

/// Equal steps, shifted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EvenSigmas {
    class: String,
    shift: f64,
    count: Count,
}

/// What is counted, and what the network is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Count {
    /// Sigmas with both ends, rounded to float32; it is told 1 − σ. Given ones are as they are.
    Sigmas,
    /// Steps; it is told σ times this. Given sigmas are shifted, and the end follows them.
    Steps(f64),
}

fn rounded(number: f64) -> f64 {
    f64::from(number as f32)
}

impl EvenSigmas {
    fn bad<T>(&self, key: &'static str, given: impl ToString, expected: &'static str) -> Result<T, ConfigError> {
        Err(ConfigError::Value { class: self.class.clone(), key, given: given.to_string(), expected })
    }

    fn shifted(&self, sigma: f64) -> f64 {
        self.shift * sigma / (1.0 + (self.shift - 1.0) * sigma)
    }

    /// The grid of what is counted.
    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        match self.count {
            Count::Sigmas if n < 2 => {
                let expected = "at least 2: the class counts sigmas with both ends, one more than there are steps";
                self.bad("num_inference_steps", n, expected)
            }
            Count::Sigmas => {
                let even = |i: usize| rounded((n - 1 - i) as f64 / (n - 1) as f64);
                let mut sigmas: Vec<f64> = (0..n).map(|i| rounded(self.shifted(even(i)))).collect();
                // Where the shift leaves no room for float32.
                sigmas.dedup();
                self.through(sigmas)
            }
            Count::Steps(_) => self.ended((0..n).map(|i| (n - i) as f64 / n as f64)),
        }
    }

    /// The grid of given sigmas.
    pub fn grid_of(&self, sigmas: &[f64]) -> Result<Grid, ConfigError> {
        if let Some(wrong) = sigmas.iter().find(|sigma| !(0.0..=1.0).contains(*sigma)) {
            return self.bad("sigmas", wrong, "falling numbers in [0, 1]");
        }
        match self.count {
            Count::Sigmas if sigmas.len() < 2 || sigmas.last() != Some(&0.0) => {
                self.bad("sigmas", format!("{sigmas:?}"), "at least two falling numbers, of which the last is 0")
            }
            Count::Sigmas => self.through(sigmas.iter().map(|sigma| rounded(*sigma)).collect()),
            Count::Steps(_) => self.ended(sigmas.iter().copied()),
        }
    }

    /// The grid of given timesteps, which are sigmas times the steps of training, before they are shifted.
    pub fn grid_at(&self, times: &[f64]) -> Result<Grid, ConfigError> {
        let Count::Steps(steps) = self.count else {
            return self.bad("timesteps", "a list", "nothing: this class is given sigmas");
        };
        match times.iter().find(|time| !(0.0..=steps).contains(*time)) {
            Some(wrong) => self.bad("timesteps", wrong, "falling numbers between 0 and num_train_timesteps"),
            None => self.ended(times.iter().map(|time| time / steps)),
        }
    }

    fn ended(&self, sigmas: impl Iterator<Item = f64>) -> Result<Grid, ConfigError> {
        self.through(sigmas.map(|sigma| self.shifted(sigma)).chain([0.0]).collect())
    }

    fn through(&self, sigmas: Vec<f64>) -> Result<Grid, ConfigError> {
        if sigmas.len() < 2 {
            return Err(no_steps());
        }
        let level = |sigma: f64| {
            let time = match self.count {
                Count::Sigmas => rounded(1.0 - sigma),
                Count::Steps(steps) => sigma * steps,
            };
            Level { alpha: 1.0 - sigma, sigma, time }
        };
        Ok(Grid::levels(sigmas.into_iter().map(level).collect())?.ending(End::Range))
    }
}

/// The flow, as told to networks that count from noise to data.
#[derive(Clone, Debug)]
struct FromNoise(RectifiedFlow);

impl Process for FromNoise {
    fn alpha(&self, t: f64) -> f64 {
        self.0.alpha(t)
    }
    fn sigma(&self, t: f64) -> f64 {
        self.0.sigma(t)
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        self.0.alpha_dot(t)
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.0.sigma_dot(t)
    }
    fn time_range(&self) -> (f64, f64) {
        self.0.time_range()
    }
    fn network_time(&self, t: f64) -> f64 {
        self.0.alpha(t)
    }
    fn lambda(&self, t: f64) -> f64 {
        self.0.lambda(t)
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        self.0.time_at_lambda(lambda)
    }
    fn drift(&self, t: f64) -> f64 {
        self.0.drift(t)
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        self.0.diffusion_squared(t)
    }
}

fn schedule(keys: &mut Keys, shift: f64, count: Count) -> Result<Schedule, ConfigError> {
    let shift = keys.number("shift", shift)?;
    if !(shift > 0.0 && shift.is_finite()) {
        return Err(keys.bad("shift", shift, "a positive number"));
    }
    Ok(Schedule::Even(EvenSigmas { class: keys.class().to_owned(), shift, count }))
}

pub(super) fn read_minimax(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let schedule = schedule(keys, 12.0, Count::Sigmas)?;
    let (process, method) = (FromNoise(RectifiedFlow::new()), Method::FlowEuler(Euler::new()));
    Ok(Configured::new(keys, process, Prediction::FlowToData, schedule, method))
}

pub(super) fn read_flow_map(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let steps = match keys.count("num_train_timesteps", 1000)? {
        0 => return Err(keys.bad("num_train_timesteps", 0, "at least 1")),
        steps => steps as f64,
    };
    let schedule = schedule(keys, 1.0, Count::Steps(steps))?;
    let process = RectifiedFlow::new().network_time_scale(steps)?;
    Ok(Configured::new(keys, process, Prediction::Flow, schedule, Method::FlowEuler(Euler::new())))
}

#[cfg(test)]
mod tests {
    use super::super::from_config;
    use super::*;

    fn read(class: &str, options: &str) -> Result<Configured, ConfigError> {
        from_config(&format!(r#"{{"_class_name": "{class}Scheduler"{options}}}"#))
    }

    fn asked(scheduler: &Configured, grid: Result<Grid, ConfigError>) -> Vec<(f64, f64)> {
        let stops = grid.unwrap().stops(scheduler.process()).unwrap();
        assert_eq!(stops[stops.len() - 1].to.level.sigma, 0.0);
        stops.iter().map(|stop| (stop.ask.sigma, stop.ask.time)).collect()
    }

    #[test]
    fn one_class_counts_sigmas_and_the_other_steps() {
        let near = |found: Vec<(f64, f64)>, expected: &[(f64, f64)]| {
            assert_eq!(found.len(), expected.len());
            for ((a, b), (x, y)) in found.iter().zip(expected) {
                assert!((a - x).abs() < 1e-6 && (b - y).abs() < 1e-6 * (1.0 + y), "{found:?} is not {expected:?}");
            }
        };
        let video = read("MiniMaxH3", "").unwrap();
        let shifted = |s: f64, u: f64| s * u / (1.0 + (s - 1.0) * u);
        let (a, b) = (shifted(12.0, 2.0 / 3.0), shifted(12.0, 1.0 / 3.0));
        near(asked(&video, video.grid(4)), &[(1.0, 0.0), (a, 1.0 - a), (b, 1.0 - b)]);
        near(asked(&video, video.grid_of_sigmas(&[0.9, 0.3, 0.0])), &[(0.9, 0.1), (0.3, 0.7)]);
        assert_eq!(video.process().network_time(0.25), 0.75);
        assert_eq!(video.plan(9).unwrap().steps(), 8);
        // Of sigmas that float32 does not tell apart one is left.
        let steep = read("MiniMaxH3", r#", "shift": 1e9"#).unwrap();
        assert!(asked(&steep, steep.grid(9)).len() < 8);
        let map = read("FlowMapEulerDiscrete", r#", "shift": 5.0, "num_train_timesteps": 100"#).unwrap();
        let c = shifted(5.0, 0.5);
        near(asked(&map, map.grid(2)), &[(1.0, 100.0), (c, 100.0 * c)]);
        near(asked(&map, map.grid_of_sigmas(&[0.5])), &[(c, 100.0 * c)]);
        near(asked(&map, map.grid_at(&[100.0, 50.0])), &[(1.0, 100.0), (c, 100.0 * c)]);
    }

    #[test]
    fn options_that_cannot_be_honored_are_refused() {
        for (class, options, named) in [
            ("MiniMaxH3", r#", "shift": 0.0"#, "shift"),
            ("MiniMaxH3", r#", "num_train_timesteps": 1000"#, "num_train_timesteps"),
            ("FlowMapEulerDiscrete", r#", "shift": -1.0"#, "shift"),
            ("FlowMapEulerDiscrete", r#", "num_train_timesteps": 0"#, "num_train_timesteps"),
            ("FlowMapEulerDiscrete", r#", "use_dynamic_shifting": true"#, "use_dynamic_shifting"),
        ] {
            let error = read(class, options).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let (video, map) = (read("MiniMaxH3", "").unwrap(), read("FlowMapEulerDiscrete", "").unwrap());
        for (wrong, key) in [
            (video.grid(1), "num_inference_steps"),
            (video.grid_of_sigmas(&[0.9, 0.3]), "sigmas"),
            (video.grid_of_sigmas(&[0.0]), "sigmas"),
            (video.grid_at(&[1.0, 0.0]), "timesteps"),
            (map.grid_of_sigmas(&[1.2]), "sigmas"),
            (map.grid_at(&[f64::NAN]), "timesteps"),
            (map.grid_of_sigmas_at(&[1.0], &[1000.0]), "sigmas"),
        ] {
            assert!(matches!(&wrong, Err(ConfigError::Value { key: named, .. }) if *named == key), "{wrong:?}");
        }
        assert!(map.grid(0).is_err() && map.grid_of_sigmas(&[]).is_err());
        assert!(matches!(video.grid_of_sigmas(&[0.3, 0.9, 0.0]), Err(ConfigError::Grid(_))));
    }
}
