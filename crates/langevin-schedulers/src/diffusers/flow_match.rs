//! FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, FlowMatchLCMScheduler and LTXEulerAncestralRFScheduler.

use super::configured::{Configured, Schedule, no_steps};
use super::method::Method;
use super::shift::{Shift, exponential, shifted, stretch, terminal};
use super::sigmas::{Conversion, conversion};
use super::{ConfigError, keys::Keys};
use crate::consistency::{Multistep, Resize};
use crate::sigma::{AncestralSplit, Euler, EulerAncestral};
use langevin_core::grid::End;
use langevin_core::process::{RectifiedFlow, ResolutionShift};
use langevin_core::{Grid, Level, Prediction};

/// Sigmas of a flow, rounded to float32.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FlowSigmas {
    class: String,
    /// Steps of training: the network is told σ times this.
    steps: usize,
    pub shift: Shift,
    /// Where the last asked σ is stretched to.
    terminal: Option<f64>,
    conversion: Conversion,
    /// Whether σ is listed as 1 − σ, and so told to the network.
    inverted: bool,
    lists: Lists,
}

/// Whether timesteps and sigmas may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    Refused,
    /// All are asked, after they have been shifted.
    Shifted,
    /// As they are, with the end; timesteps are sigmas.
    AsTheyAre,
}

fn rounded(number: f64) -> f64 {
    f64::from(number as f32)
}

impl FlowSigmas {
    fn bad<T>(&self, key: &'static str, given: impl ToString, expected: &'static str) -> Result<T, ConfigError> {
        Err(ConfigError::Value { class: self.class.clone(), key, given: given.to_string(), expected })
    }

    /// The grid of `n` steps.
    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        // The ends are shifted in training already, by a static shift only.
        let end = |sigma: f64| match self.shift {
            Shift::Static(shift) => rounded(shifted(shift, rounded(sigma))),
            Shift::Dynamic { .. } => rounded(sigma),
        };
        let (max, min) = (end(1.0), end(1.0 / self.steps as f64));
        let share = |i: usize| if n == 1 { 0.0 } else { i as f64 / (n - 1) as f64 };
        let sigmas: Vec<f64> = (0..n).map(|i| max + (min - max) * share(i)).collect();
        self.over(&sigmas, None)
    }

    /// The grid of given sigmas, which are shifted.
    pub fn grid_of(&self, sigmas: &[f64]) -> Result<Grid, ConfigError> {
        self.check_list("sigmas", sigmas, 1.0, "falling numbers in [0, 1]")?;
        if self.lists == Lists::AsTheyAre {
            return self.as_they_are(sigmas);
        }
        self.over(&sigmas.iter().map(|sigma| rounded(*sigma)).collect::<Vec<_>>(), None)
    }

    /// The grid of given timesteps, which are told as they are; the sigmas that follow from them are shifted.
    pub fn grid_at(&self, times: &[f64]) -> Result<Grid, ConfigError> {
        if self.lists == Lists::AsTheyAre {
            self.check_list(
                "timesteps",
                times,
                1.0,
                "falling numbers in [0, 1]: this class takes timesteps for sigmas",
            )?;
            return self.as_they_are(times);
        }
        let steps = self.steps as f64;
        self.check_list("timesteps", times, steps, "falling numbers between 0 and num_train_timesteps")?;
        let sigmas: Vec<f64> = times.iter().map(|time| rounded(rounded(*time) / steps)).collect();
        self.over(&sigmas, Some(times))
    }

    /// The grid of given sigmas, which are shifted, and of the timesteps that the network is told at them.
    pub fn grid_of_both(&self, sigmas: &[f64], times: &[f64]) -> Result<Grid, ConfigError> {
        if self.lists == Lists::AsTheyAre {
            return self.bad(
                "timesteps",
                "a list beside sigmas",
                "one of the two: this class takes timesteps for sigmas",
            );
        }
        self.check_list("sigmas", sigmas, 1.0, "falling numbers in [0, 1]")?;
        self.check_list("timesteps", times, f64::INFINITY, "numbers from 0 on")?;
        if sigmas.len() != times.len() {
            return self.bad("timesteps", format!("a list of {}", times.len()), "as many as there are sigmas");
        }
        self.over(&sigmas.iter().map(|sigma| rounded(*sigma)).collect::<Vec<_>>(), Some(times))
    }

    fn check_list(&self, key: &'static str, list: &[f64], most: f64, range: &'static str) -> Result<(), ConfigError> {
        if self.lists == Lists::Refused {
            return self.bad(key, "a list", "nothing: this class chooses them itself");
        }
        match list.iter().find(|value| !(0.0..=most).contains(*value)) {
            Some(value) => self.bad(key, value, range),
            None => Ok(()),
        }
    }

    fn as_they_are(&self, sigmas: &[f64]) -> Result<Grid, ConfigError> {
        let level = |sigma: &f64| {
            let sigma = rounded(*sigma);
            Level { alpha: 1.0 - sigma, sigma, time: rounded(sigma * self.steps as f64) }
        };
        Ok(Grid::levels(sigmas.iter().map(level).collect())?.ending(End::Range))
    }

    fn over(&self, sigmas: &[f64], told: Option<&[f64]>) -> Result<Grid, ConfigError> {
        if sigmas.is_empty() {
            return Err(no_steps());
        }
        let factor = self.shift.factor(&self.class)?;
        let mut sigmas: Vec<f64> = sigmas.iter().map(|sigma| shifted(factor, *sigma)).collect();
        let last = sigmas.len() - 1;
        if let Some(terminal) = self.terminal {
            stretch(&self.class, &mut sigmas, terminal)?;
        }
        if self.conversion != Conversion::None {
            sigmas = self.conversion.sigmas(last + 1, sigmas[0], sigmas[last])?;
        }
        let steps = self.steps as f64;
        let level = |(i, sigma): (usize, &f64)| {
            let sigma = rounded(*sigma);
            // What is listed is rounded, and so what is left of it.
            let listed = if self.inverted { rounded(1.0 - sigma) } else { sigma };
            let (alpha, sigma) = if self.inverted { (listed, 1.0 - listed) } else { (1.0 - sigma, sigma) };
            let time = match told {
                Some(told) if !self.inverted => rounded(told[i]),
                _ => rounded(listed * steps),
            };
            Level { alpha, sigma, time }
        };
        let mut levels: Vec<Level> = sigmas.iter().enumerate().map(level).collect();
        // Nobody asks where sampling arrives.
        levels.push(Level { alpha: 1.0, sigma: 0.0, time: if self.inverted { steps } else { 0.0 } });
        Ok(Grid::levels(levels)?.ending(End::Range))
    }
}

fn steps(keys: &mut Keys) -> Result<usize, ConfigError> {
    match keys.count("num_train_timesteps", 1000)? {
        0 => Err(keys.bad("num_train_timesteps", 0, "at least 1")),
        steps => Ok(steps),
    }
}

fn static_shift(keys: &mut Keys) -> Result<f64, ConfigError> {
    let shift = keys.number("shift", 1.0)?;
    if shift > 0.0 && shift.is_finite() { Ok(shift) } else { Err(keys.bad("shift", shift, "a positive number")) }
}

fn dynamic(keys: &mut Keys, fallback: f64) -> Result<Shift, ConfigError> {
    let (base, max) = (keys.number("base_shift", 0.5)?, keys.number("max_shift", 1.15)?);
    let (small, large) = (keys.count("base_image_seq_len", 256)?, keys.count("max_image_seq_len", 4096)?);
    let exponential = exponential(keys)?;
    if !keys.flag("use_dynamic_shifting", false)? {
        return Ok(Shift::Static(fallback));
    }
    let resolution = Some(ResolutionShift::Linear { base: (small, base), max: (large, max) });
    Ok(Shift::Dynamic { exponential, resolution, otherwise: None, mu: None })
}

fn schedule(keys: &mut Keys) -> Result<FlowSigmas, ConfigError> {
    let shift = static_shift(keys)?;
    let terminal = terminal(keys)?;
    Ok(FlowSigmas {
        class: keys.class().to_owned(),
        steps: steps(keys)?,
        shift: dynamic(keys, shift)?,
        terminal,
        conversion: conversion(keys)?,
        inverted: keys.flag("invert_sigmas", false)?,
        lists: Lists::Shifted,
    })
}

fn configured(keys: &Keys, sigmas: FlowSigmas, method: Method) -> Result<Configured, ConfigError> {
    let process = RectifiedFlow::new().network_time_scale(sigmas.steps as f64)?;
    // Sigmas are listed the other way round for networks whose output points to the data.
    let prediction = if sigmas.inverted { Prediction::FlowToData } else { Prediction::Flow };
    Ok(Configured::new(keys, process, prediction, Schedule::Flow(sigmas), method))
}

pub(super) fn read_euler(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let sigmas = schedule(keys)?;
    if keys.flag("stochastic_sampling", false)? {
        if sigmas.inverted {
            let reason =
                "noise follows the listed sigmas, which rise when they are inverted: the original ends in noise";
            return Err(keys.contradiction("invert_sigmas", "stochastic_sampling", reason));
        }
        return configured(keys, sigmas, Method::Consistency(Multistep::new()));
    }
    configured(keys, sigmas, Method::FlowEuler(Euler::new()))
}

pub(super) fn read_heun(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let shift = Shift::Static(static_shift(keys)?);
    let (class, steps) = (keys.class().to_owned(), steps(keys)?);
    let (terminal, conversion, inverted, lists) = (None, Conversion::None, false, Lists::Refused);
    let sigmas = FlowSigmas { class, steps, shift, terminal, conversion, inverted, lists };
    configured(keys, sigmas, Method::FlowHeun(None))
}

pub(super) fn read_lcm(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let sigmas = schedule(keys)?;
    if sigmas.inverted {
        let expected =
            "false: noise follows the listed sigmas, which rise when they are inverted, and the original ends in noise";
        return Err(keys.bad("invert_sigmas", true, expected));
    }
    let no_mode = keys.is_null("upscale_mode");
    let mode = keys.optional_word("upscale_mode", Resize::default().name())?;
    // Without factors it is not used.
    let Some(resize) = Resize::from_name(&mode) else {
        return Err(keys.bad("upscale_mode", mode, "a mode of torch's interpolate, such as bicubic or nearest-exact"));
    };
    let factors = keys.numbers("scale_factors")?;
    let scheduler = configured(keys, sigmas, Method::Consistency(Multistep::new()))?;
    match factors {
        None => Ok(scheduler),
        Some(_) if no_mode => {
            let reason = "without a mode the original resizes nothing; leave the mode out, or the factors";
            Err(keys.contradiction("scale_factors", "upscale_mode", reason))
        }
        Some(factors) => scheduler.scale_factors(factors, resize),
    }
}

pub(super) fn read_ancestral(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (eta, factor) = (keys.number("eta", 1.0)?, keys.number("s_noise", 1.0)?);
    // A configuration of FlowMatchEulerDiscreteScheduler is one of this class, too: it lays the grid.
    let sigmas = FlowSigmas { lists: Lists::AsTheyAre, ..schedule(keys)? };
    if !(0.0..=1.0).contains(&eta) {
        return Err(keys.bad("eta", eta, "a number in [0, 1]: with more, steps go down below σ = 0"));
    }
    if sigmas.inverted {
        let expected = "false: inverted sigmas rise, and the original divides by their first, 0";
        return Err(keys.bad("invert_sigmas", true, expected));
    }
    if keys.flag("stochastic_sampling", false)? {
        let expected = "false: the noise of this class is another, and the original does not look at it";
        return Err(keys.bad("stochastic_sampling", true, expected));
    }
    if eta > 0.0 && factor == 0.0 {
        let reason = "without noise the original leaves the state below the level that it tells the network; for a path \
                      without noise take eta 0";
        return Err(keys.contradiction("eta", "s_noise", reason));
    }
    let solver = keys.made(&["eta"], EulerAncestral::new().eta(eta))?;
    let solver = keys.made(&["s_noise"], solver.noise(factor))?.split(AncestralSplit::Share);
    configured(keys, sigmas, Method::EulerAncestral(solver))
}

#[cfg(test)]
mod tests {
    use super::super::from_config;
    use super::*;
    use crate::solver::PlanError;

    fn read(class: &str, options: &str) -> Result<Configured, ConfigError> {
        from_config(&format!(r#"{{"_class_name": "FlowMatch{class}Scheduler"{options}}}"#))
    }

    fn sigmas(scheduler: &Configured, n: usize) -> Vec<f64> {
        let stops = scheduler.grid(n).unwrap().stops(scheduler.process()).unwrap();
        stops.iter().map(|stop| stop.from.level.sigma).chain(stops.last().map(|stop| stop.to.level.sigma)).collect()
    }

    #[test]
    fn shifts_are_static_or_given() {
        let plain = read("EulerDiscrete", "").unwrap();
        for (found, expected) in sigmas(&plain, 4).into_iter().zip([1.0, 0.667, 0.334, 0.001, 0.0]) {
            assert!((found - expected).abs() < 1e-7, "{found} and {expected}");
        }
        // The smallest σ is shifted twice.
        let shifted = read("HeunDiscrete", r#", "shift": 3.0"#).unwrap();
        let once = 0.003 / 1.002;
        assert!((sigmas(&shifted, 2)[1] - 3.0 * once / (1.0 + 2.0 * once)).abs() < 1e-8);
        let dynamic = r#", "use_dynamic_shifting": true"#;
        let exponential = read("EulerDiscrete", dynamic).unwrap();
        let missing = exponential.grid(4).unwrap_err().to_string();
        assert!(missing.contains("'mu'") && missing.contains("missing"), "{missing}");
        let by_mu = exponential.clone().mu(0.83).unwrap();
        let s = 0.83f64.exp();
        assert!((sigmas(&by_mu, 3)[1] - s * 0.5005 / (1.0 + (s - 1.0) * 0.5005)).abs() < 1e-7);
        assert_eq!(
            sigmas(&exponential.clone().image_tokens(4096).unwrap(), 5),
            sigmas(&exponential.mu(1.15).unwrap(), 5)
        );
        let linear = read("LCM", &format!(r#"{dynamic}, "time_shift_type": "linear""#)).unwrap();
        assert!((sigmas(&linear.clone().mu(0.7).unwrap(), 3)[1] - 0.7 * 0.5005 / (1.0 - 0.3 * 0.5005)).abs() < 1e-7);
        assert!(linear.mu(-0.7).is_err());
        for refused in [plain.clone().mu(0.5), plain.image_tokens(256)] {
            assert!(refused.unwrap_err().to_string().contains("use_dynamic_shifting"));
        }
    }

    #[test]
    fn times_may_be_told_that_are_not_those_of_the_sigmas() {
        let scheduler = read("EulerDiscrete", r#", "shift": 2.0"#).unwrap();
        let asked = |grid: Grid| -> Vec<(f64, f64)> {
            let stops = grid.stops(scheduler.process()).unwrap();
            stops.iter().map(|stop| (stop.ask.sigma, stop.ask.time)).collect()
        };
        let third = f64::from((2.0 * 0.5 / 1.5) as f32);
        assert_eq!(asked(scheduler.grid_at(&[1000.0, 500.0]).unwrap()), [(1.0, 1000.0), (third, 500.0)]);
        assert_eq!(asked(scheduler.grid_of_sigmas(&[1.0, 0.5]).unwrap())[1].1, f64::from((third * 1000.0) as f32));
        let both = scheduler.grid_of_sigmas_at(&[1.0, 0.5], &[900.0, 7.0]).unwrap();
        assert_eq!(asked(both), [(1.0, 900.0), (third, 7.0)]);
        for wrong in [
            scheduler.grid_of_sigmas(&[1.5, 0.5]),
            scheduler.grid_of_sigmas(&[f64::NAN]),
            scheduler.grid_at(&[1001.0]),
            scheduler.grid_of_sigmas_at(&[1.0, 0.5], &[900.0]),
            read("HeunDiscrete", "").unwrap().grid_at(&[1000.0]),
        ] {
            assert!(matches!(wrong, Err(ConfigError::Value { .. })), "{wrong:?}");
        }
        assert!(matches!(scheduler.grid_of_sigmas(&[0.5, 0.7]), Err(ConfigError::Grid(_))));
    }

    #[test]
    fn inverted_sigmas_are_those_of_networks_that_point_to_data() {
        let mochi = read("EulerDiscrete", r#", "invert_sigmas": true"#).unwrap();
        assert_eq!(mochi.prediction(), Prediction::FlowToData);
        let stops = mochi.grid(3).unwrap().stops(mochi.process()).unwrap();
        assert_eq!((stops[0].ask.alpha, stops[0].ask.time), (0.0, 0.0));
        assert!((stops[2].ask.time - 999.0).abs() < 1e-3 && stops[2].to.level.sigma == 0.0);
    }

    #[test]
    fn sigmas_of_the_ancestral_class_are_taken_as_they_are() {
        let ancestral =
            |options: &str| from_config(&format!(r#"{{"_class_name": "LTXEulerAncestralRFScheduler"{options}}}"#));
        // Its own grid is that of Euler's class, whose options it takes.
        let options = r#", "shift": 3.0, "shift_terminal": 0.1, "num_train_timesteps": 100"#;
        let scheduler = ancestral(options).unwrap();
        let euler = read("EulerDiscrete", options).unwrap();
        assert_eq!(sigmas(&scheduler, 5), sigmas(&euler, 5));
        for grid in [scheduler.grid_of_sigmas(&[1.0, 0.5, 0.0]), scheduler.grid_at(&[1.0, 0.5, 0.0])] {
            let stops = grid.unwrap().stops(scheduler.process()).unwrap();
            let asked: Vec<(f64, f64)> = stops.iter().map(|stop| (stop.ask.sigma, stop.ask.time)).collect();
            assert_eq!(asked, [(1.0, 100.0), (0.5, 50.0)]);
            assert_eq!(stops[1].to.level.sigma, 0.0);
        }
        for (wrong, key) in [
            (scheduler.grid_at(&[100.0, 50.0, 0.0]), "timesteps"),
            (scheduler.grid_of_sigmas(&[1.5, 0.0]), "sigmas"),
            (scheduler.grid_of_sigmas_at(&[1.0, 0.0], &[1.0, 0.0]), "timesteps"),
        ] {
            assert!(matches!(&wrong, Err(ConfigError::Value { key: named, .. }) if *named == key), "{wrong:?}");
        }
        for (options, named) in [
            (r#", "eta": 1.5"#, "eta"),
            (r#", "eta": -0.1"#, "eta"),
            (r#", "s_noise": -1.0"#, "noise"),
            (r#", "s_noise": 0.0"#, "s_noise"),
            (r#", "invert_sigmas": true"#, "invert_sigmas"),
            (r#", "stochastic_sampling": true"#, "stochastic_sampling"),
            (r#", "gamma": 1.0"#, "gamma"),
        ] {
            let error = ancestral(options).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(!ancestral(r#", "eta": 0.0, "s_noise": 0.0"#).unwrap().plan(5).unwrap().is_stochastic());
    }

    #[test]
    fn options_that_cannot_be_honored_are_refused() {
        for (class, options, named) in [
            ("EulerDiscrete", r#", "shift": 0.0"#, "shift"),
            ("EulerDiscrete", r#", "shift_terminal": 1.0"#, "shift_terminal"),
            ("EulerDiscrete", r#", "time_shift_type": "cubic""#, "time_shift_type"),
            ("EulerDiscrete", r#", "num_train_timesteps": 0"#, "num_train_timesteps"),
            ("EulerDiscrete", r#", "use_beta_sigmas": true, "use_karras_sigmas": true"#, "use_beta_sigmas"),
            ("EulerDiscrete", r#", "invert_sigmas": true, "stochastic_sampling": true"#, "stochastic_sampling"),
            ("EulerDiscrete", r#", "scale_factors": [2.0]"#, "scale_factors"),
            ("HeunDiscrete", r#", "use_dynamic_shifting": true"#, "use_dynamic_shifting"),
            ("LCM", r#", "scale_factors": []"#, "an empty list"),
            ("LCM", r#", "scale_factors": [0.5, 0.0]"#, "scale_factors"),
            ("LCM", r#", "scale_factors": [-2.0]"#, "scale_factors"),
            ("LCM", r#", "scale_factors": 2.0"#, "scale_factors"),
            ("LCM", r#", "scale_factors": ["big"]"#, "scale_factors"),
            ("LCM", r#", "upscale_mode": "lanczos""#, "upscale_mode"),
            ("LCM", r#", "upscale_mode": null, "scale_factors": [2.0]"#, "contradict"),
            ("LCM", r#", "invert_sigmas": true"#, "invert_sigmas"),
        ] {
            let error = read(class, options).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let grown = read("LCM", r#", "scale_factors": [1.5, 2.0], "upscale_mode": "area""#).unwrap();
        assert_eq!(grown.scalewise(3).unwrap().plan().steps(), 3);
        // A plan's samples have one size; factors are for all steps but the last.
        let of_steps = [grown.plan(3).map(drop), grown.scalewise(2).map(drop), grown.scalewise(4).map(drop)];
        for error in of_steps.map(Result::unwrap_err) {
            assert!(matches!(error, ConfigError::Plan(_)) && error.to_string().contains("scale"), "{error}");
        }
        let plain = read("LCM", "").unwrap();
        assert!(matches!(plain.scalewise(3), Err(ConfigError::Plan(PlanError::Setting { .. }))));
        let set = |class, factors| read(class, "").unwrap().scale_factors(factors, Resize::Nearest);
        assert_eq!(set("LCM", vec![2.0]).unwrap().scalewise(2).unwrap().plan().steps(), 2);
        for wrong in [set("LCM", vec![]), set("LCM", vec![f64::NAN]), set("EulerDiscrete", vec![2.0])] {
            assert!(matches!(wrong, Err(ConfigError::Value { key: "scale_factors", .. })), "{wrong:?}");
        }
        let stretched = read("EulerDiscrete", r#", "shift_terminal": 0.1"#).unwrap();
        assert!((sigmas(&stretched, 6)[5] - 0.1).abs() < 1e-7);
        assert!(stretched.grid(1).unwrap_err().to_string().contains("two steps"));
        assert!(stretched.grid(0).is_err());
        assert!(stretched.clone().churn(1.0, (0.0, 1.0), 1.0).is_err() && stretched.clone().eta(0.5).is_err());
        assert!(matches!(stretched.churn(1.0, (0.0, 1.0), 1.0), Err(ConfigError::Value { key: "s_churn", .. })));
        let heun = || read("HeunDiscrete", "").unwrap();
        for (amount, interval, noise) in [(-1.0, (0.0, 1.0), 1.0), (1.0, (1.0, 0.5), 1.0), (1.0, (0.0, 1.0), f64::NAN)]
        {
            assert!(matches!(heun().churn(amount, interval, noise), Err(ConfigError::Plan(_))));
        }
    }
}
