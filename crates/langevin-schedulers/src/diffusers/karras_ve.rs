//! KarrasVeScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::{ConfigError, keys::Keys};
use crate::sigma::{Churn, Heun};
use langevin_core::grid::End;
use langevin_core::process::{VeInput, VeSde};
use langevin_core::{Grid, Level, Prediction};

/// The published list for variance-exploding networks: in Karras et al. 2022, table 1, `σ_max²·(σ_min²/σ_max²)^(i/(n−1))` are
/// times whose noise level is their root.
///
/// The class takes them for noise levels, from σ_max² down to σ_min², and starts from noise of deviation σ_max nonetheless.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Squares {
    class: String,
    min: f64,
    pub max: f64,
}

impl Squares {
    /// With `compat` the times are taken for the levels.
    pub fn grid(&self, n: usize, compat: bool) -> Result<Grid, ConfigError> {
        if n < 2 {
            return Err(ConfigError::Value {
                class: self.class.clone(),
                key: "num_inference_steps",
                given: n.to_string(),
                expected: "at least 2",
            });
        }
        let (first, ratio) = (self.max * self.max, (self.min / self.max).powi(2));
        let level = |i: usize| {
            let time = first * libm::pow(ratio, i as f64 / (n - 1) as f64);
            let sigma = f64::from(if compat { time } else { time.sqrt() } as f32);
            Level { alpha: 1.0, sigma, time: sigma }
        };
        let mut levels: Vec<Level> = (0..n).map(level).collect();
        levels.push(Level { alpha: 1.0, sigma: 0.0, time: 0.0 });
        Ok(Grid::levels(levels)?.ending(End::Range))
    }
}

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (min, max) = (keys.number("sigma_min", 0.02)?, keys.number("sigma_max", 100.0)?);
    let (low, high) = (keys.number("s_min", 0.05)?, keys.number("s_max", 50.0)?);
    let (amount, noise) = (keys.number("s_churn", 80.0)?, keys.number("s_noise", 1.007)?);
    let churn = keys.made(&["s_churn"], Churn::new(amount))?;
    let churn = keys.made(&["s_min", "s_max"], churn.between(low, high))?;
    let churn = keys.made(&["s_noise"], churn.noise(noise))?;
    for (key, sigma) in [("sigma_min", min), ("sigma_max", max)] {
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(keys.bad(key, sigma, "a positive number"));
        }
    }
    let process = keys.made(&["sigma_min", "sigma_max"], VeSde::new(min * min, max * max))?;
    let process = process.network_input(VeInput::Sigma).range(0.0, 1.0)?;
    let schedule = Schedule::Squares(Squares { class: keys.class().to_owned(), min, max });
    let method = Method::Heun(Heun::new().churn(churn));
    Ok(Configured::new(keys, process, Prediction::ScaledScore, schedule, method))
}

#[cfg(test)]
mod tests {
    use super::super::from_config;

    #[test]
    fn squares_are_taken_for_levels_only_as_published() {
        let scheduler = from_config(r#"{"_class_name": "KarrasVeScheduler", "s_churn": 0.0}"#).unwrap();
        // Two questions a step but in the last.
        let roots = [100.0, 2f64.sqrt(), 2f64.sqrt(), 0.02, 0.02];
        for (compat, expected) in [(false, roots), (true, [1e4, 2.0, 2.0, 4e-4, 4e-4])] {
            let scheduler = if compat { scheduler.clone().compat_diffusers() } else { scheduler.clone() };
            let plan = scheduler.plan(3).unwrap();
            let asked: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval).map(|eval| eval.at.time).collect();
            let near = |(a, b): (&f64, f64)| (a / b - 1.0).abs() < 1e-6;
            assert!(asked.len() == 5 && asked.iter().zip(expected).all(near), "{asked:?}");
            assert_eq!(plan.prior_deviation(), 100.0);
        }
        assert!(scheduler.grid(1).is_err() && scheduler.grid_at(&[3.0]).is_err());
    }

    #[test]
    fn options_that_cannot_be_honored_are_refused() {
        for (options, named) in [
            (r#""sigma_min": 0.0"#, "sigma_min"),
            (r#""sigma_min": 200.0"#, "sigma_max"),
            (r#""s_churn": -1.0"#, "churn"),
            (r#""s_noise": -1.0"#, "noise"),
            (r#""s_min": 60.0"#, "upper end"),
            (r#""rho": 7.0"#, "rho"),
        ] {
            let error = from_config(&format!(r#"{{"_class_name": "KarrasVeScheduler", {options}}}"#)).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
