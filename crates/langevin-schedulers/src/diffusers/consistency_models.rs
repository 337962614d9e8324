//! CMStochasticIterativeScheduler, SCMScheduler and ConsistencyDecoderScheduler.

use super::configured::{Configured, Schedule, no_steps};
use super::method::Method;
use super::{ConfigError, keys::Keys};
use crate::consistency::Multistep;
use langevin_core::denoiser::Threshold;
use langevin_core::grid::End;
use langevin_core::process::{Betas, DiscreteChain, Edm, TrigFlow};
use langevin_core::{Grid, GridError, Level, Prediction};
use std::f64::consts::FRAC_PI_2;

/// Sigmas of Karras that a consistency model was trained on, by their position from the noisy end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrainedSigmas {
    class: String,
    steps: usize,
    min: f64,
    pub max: f64,
    rho: f64,
}

impl TrainedSigmas {
    /// The grid of `n` steps: every so many-th of the trained sigmas, from the noisiest on.
    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        if n == 0 {
            return Err(no_steps());
        }
        if n > self.steps {
            return Err(GridError::TooManySteps { given: n, chain: self.steps }.into());
        }
        self.at((0..n).map(|i| (i * (self.steps / n)) as f64))
    }

    /// The grid of given positions, falling, whose last is the noisiest.
    pub fn grid_at(&self, times: &[f64]) -> Result<Grid, ConfigError> {
        // Checks that they are numbers and fall.
        Grid::times(times.to_vec())?;
        let most = (self.steps - 1) as f64;
        if let Some(given) = times.iter().find(|time| !(0.0..=most).contains(*time) || time.fract() != 0.0) {
            return Err(ConfigError::Value {
                class: self.class.clone(),
                key: "timesteps",
                given: given.to_string(),
                expected: "whole numbers from 0 on, below num_train_timesteps",
            });
        }
        self.at(times.iter().rev().copied())
    }

    fn at(&self, positions: impl Iterator<Item = f64>) -> Result<Grid, ConfigError> {
        let root = |sigma: f64| libm::pow(sigma, 1.0 / self.rho);
        let (high, low, last) = (root(self.max), root(self.min), (self.steps - 1) as f64);
        let level = |position: f64| {
            let sigma = libm::pow(high + position / last * (low - high), self.rho);
            Level { alpha: 1.0, sigma: f64::from(sigma as f32), time: 250.0 * libm::log(sigma) }
        };
        let mut levels: Vec<Level> = positions.map(level).collect();
        let end = Level { alpha: 1.0, sigma: f64::from(self.min as f32), time: 250.0 * libm::log(self.min) };
        // Ends that float32 could tell apart by their last digit only are one and the same.
        let same = levels.last().filter(|last| (last.sigma - end.sigma).abs() <= 1e-6 * end.sigma);
        levels.push(same.copied().unwrap_or(end));
        Ok(Grid::levels(levels)?.ending(End::Range))
    }
}

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let steps = keys.count("num_train_timesteps", 40)?;
    if steps < 2 {
        return Err(keys.bad("num_train_timesteps", steps, "at least 2"));
    }
    let (min, max) = (keys.number("sigma_min", 0.002)?, keys.number("sigma_max", 80.0)?);
    let rho = keys.number("rho", 7.0)?;
    if !(rho > 0.0 && rho.is_finite()) {
        return Err(keys.bad("rho", rho, "a positive number"));
    }
    let sigma_data = keys.number("sigma_data", 0.5)?;
    let prediction = Prediction::Consistency { sigma_data, sigma_min: min };
    let process = keys.made(&["sigma_min", "sigma_max"], Edm::new(min, max))?;
    if prediction.validate().is_err() {
        return Err(keys.bad("sigma_data", sigma_data, "a positive number"));
    }
    let noise = keys.number("s_noise", 1.0)?;
    let solver = keys.made(&["sigma_min"], Multistep::new().ending_at(min))?;
    let solver = keys.made(&["s_noise"], solver.noise(noise))?;
    let clip = keys.flag("clip_denoised", true)?;
    let sigmas = TrainedSigmas { class: keys.class().to_owned(), steps, min, max, rho };
    let schedule = Schedule::Trained(sigmas);
    let mut configured = Configured::new(keys, process, prediction, schedule, Method::Consistency(solver));
    configured.threshold = clip.then_some(Threshold::Static { range: 1.0 });
    Ok(configured)
}

/// Angles of a TrigFlow, rounded to float32.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Angles {
    class: String,
    steps: usize,
    sigma_data: f64,
    max: f64,
    /// Of a grid of two steps.
    middle: Option<f64>,
}

/// The first angle of published code, π/2 in four digits.
#[allow(clippy::approx_constant, reason = "four digits are what is told to networks")]
const FIRST: f64 = 1.5708;

/// How far beyond π/2 an angle may be by its digits.
const BEYOND: f64 = 1e-5;

impl Angles {
    /// Sets the first angle, and the middle one of two steps.
    pub fn set(&mut self, max: f64, middle: Option<f64>) -> Result<(), ConfigError> {
        (self.max, self.middle) = (max, middle);
        self.check("max_timesteps", &[max])?;
        self.check("intermediate_timesteps", &middle.map_or(vec![], |middle| vec![middle]))
    }

    fn check(&self, key: &'static str, angles: &[f64]) -> Result<(), ConfigError> {
        match angles.iter().find(|angle| !(0.0..=FRAC_PI_2 + BEYOND).contains(*angle)) {
            None => Ok(()),
            Some(angle) => {
                let (given, expected) = (angle.to_string(), "an angle in [0, π/2]");
                Err(ConfigError::Value { class: self.class.clone(), key, given, expected })
            }
        }
    }

    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        if n == 0 {
            return Err(no_steps());
        }
        if n > self.steps {
            return Err(GridError::TooManySteps { given: n, chain: self.steps }.into());
        }
        match self.middle {
            Some(middle) if n == 2 => self.grid_at(&[self.max, middle, 0.0]),
            _ => self.grid_at(&(0..=n).map(|i| self.max * (n - i) as f64 / n as f64).collect::<Vec<_>>()),
        }
    }

    /// The grid of given angles, falling; the last is where sampling arrives.
    pub fn grid_at(&self, angles: &[f64]) -> Result<Grid, ConfigError> {
        self.check("timesteps", angles)?;
        let level = |angle: &f64| {
            let time = f64::from(*angle as f32);
            Level { alpha: libm::sin(FRAC_PI_2 - time).max(0.0), sigma: self.sigma_data * libm::sin(time), time }
        };
        Ok(Grid::levels(angles.iter().map(level).collect())?.ending(End::Range))
    }
}

pub(super) fn read_continuous(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let steps = keys.count("num_train_timesteps", 1000)?;
    keys.one_of("prediction_type", "trigflow", &["trigflow"], "trigflow")?;
    let sigma_data = keys.number("sigma_data", 0.5)?;
    let process = keys.made(&["sigma_data"], TrigFlow::new(sigma_data))?;
    let angles = Angles { class: keys.class().to_owned(), steps, sigma_data, max: FIRST, middle: Some(1.3) };
    let method = Method::Consistency(Multistep::new());
    let prediction = Prediction::EdmVelocity { sigma_data };
    Ok(Configured::new(keys, process, prediction, Schedule::Angles(angles), method))
}

/// Steps of the chain that the consistency decoder is asked at.
pub(super) const DECODER: [f64; 2] = [1008.0, 512.0];

pub(super) fn read_decoder(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let steps = keys.count("num_train_timesteps", 1024)?;
    if steps <= DECODER[0] as usize {
        return Err(keys.bad("num_train_timesteps", steps, "at least 1009: the network is asked at step 1008"));
    }
    let process = DiscreteChain::new(Betas::SquaredCosine, steps).and_then(|chain| chain.compat_f32());
    let process = keys.made(&["num_train_timesteps"], process)?;
    let sigma_data = keys.number("sigma_data", 0.5)?;
    // Its skip, output and input scales are EDM's of x/α.
    let prediction = Prediction::Edm { sigma_data };
    if prediction.validate().is_err() {
        return Err(keys.bad("sigma_data", sigma_data, "a positive number"));
    }
    let method = Method::Consistency(Multistep::new());
    Ok(Configured::new(keys, process, prediction, Schedule::Decoder, method))
}

#[cfg(test)]
mod tests {
    use super::super::from_config;
    use super::*;

    fn read(class: &str, options: &str) -> Result<Configured, ConfigError> {
        from_config(&format!(r#"{{"_class_name": "{class}Scheduler"{options}}}"#))
    }

    #[test]
    fn positions_count_from_the_noisy_end() {
        let model = read("CMStochasticIterative", "").unwrap();
        let stops = model.grid_at(&[39.0, 22.0, 0.0]).unwrap().stops(model.process()).unwrap();
        assert_eq!(stops[0].ask.sigma, 80.0);
        assert!((stops[0].ask.time - 250.0 * 80f64.ln()).abs() < 1e-9);
        // The last of them is the end itself: that step stands still.
        assert_eq!((stops.len(), stops[2].from.level.sigma), (3, stops[2].to.level.sigma));
        assert!(model.threshold().is_some());
        assert_eq!(model.plan(5).unwrap().prior_deviation(), 80.0);
        for wrong in [&[0.0, 22.0][..], &[40.0, 0.0], &[22.5, 0.0], &[f64::NAN]] {
            assert!(model.grid_at(wrong).is_err(), "{wrong:?}");
        }
        assert!(model.grid(41).is_err() && model.grid(0).is_err());
        assert!(!read("CMStochasticIterative", r#", "s_noise": 0.0"#).unwrap().plan(3).unwrap().is_stochastic());
    }

    #[test]
    fn angles_fall_to_clean_data() {
        let model = read("SCM", r#", "sigma_data": 1.0"#).unwrap();
        let times = |model: &Configured, n| -> Vec<f64> {
            let stops = model.grid(n).unwrap().stops(model.process()).unwrap();
            stops.iter().map(|stop| stop.ask.time).collect()
        };
        let near = |found: Vec<f64>, expected: &[f64]| {
            assert!(found.len() == expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} and {expected:?}");
        };
        near(times(&model, 2), &[FIRST, 1.3]);
        near(times(&model, 3), &[FIRST, 2.0 * FIRST / 3.0, FIRST / 3.0]);
        near(times(&model.clone().angles(1.56, None).unwrap(), 2), &[1.56, 0.78]);
        near(times(&model.clone().angles(1.56, Some(1.1)).unwrap(), 2), &[1.56, 1.1]);
        assert_eq!(model.plan(1).unwrap().start_node().level.alpha, 0.0);
        for (max, middle) in [(1.6, None), (f64::NAN, None), (1.5, Some(-0.1))] {
            assert!(matches!(model.clone().angles(max, middle), Err(ConfigError::Value { .. })));
        }
        assert!(matches!(model.clone().angles(1.0, Some(1.2)).unwrap().grid(2), Err(ConfigError::Grid(_))));
        assert!(model.grid_at(&[1.5, 1.7]).is_err() && model.grid(1001).is_err() && model.grid(0).is_err());
        assert!(read("CMStochasticIterative", "").unwrap().angles(1.0, None).is_err());
    }

    #[test]
    fn options_that_cannot_be_honored_are_refused() {
        for (class, options, named) in [
            ("CMStochasticIterative", r#", "num_train_timesteps": 1"#, "num_train_timesteps"),
            ("CMStochasticIterative", r#", "rho": 0.0"#, "rho"),
            ("CMStochasticIterative", r#", "sigma_data": 0.0"#, "sigma_data"),
            ("CMStochasticIterative", r#", "sigma_min": 90.0"#, "sigma_max"),
            ("CMStochasticIterative", r#", "s_noise": -1.0"#, "noise"),
            ("ConsistencyDecoder", r#", "num_train_timesteps": 1000"#, "num_train_timesteps"),
            ("ConsistencyDecoder", r#", "sigma_data": 0.0"#, "sigma_data"),
            ("ConsistencyDecoder", r#", "beta_schedule": "linear""#, "beta_schedule"),
            ("SCM", r#", "prediction_type": "epsilon""#, "prediction_type"),
            ("SCM", r#", "sigma_data": -0.5"#, "sigma_data"),
            ("SCM", r#", "rho": 7.0"#, "rho"),
        ] {
            let error = read(class, options).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let decoder = read("ConsistencyDecoder", "").unwrap();
        for wrong in [decoder.grid(1), decoder.grid(3), decoder.grid_at(&[1008.0]), decoder.grid_of_sigmas(&[1.0])] {
            assert!(matches!(wrong, Err(ConfigError::Value { .. })), "{wrong:?}");
        }
    }
}
