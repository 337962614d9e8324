//! RFD4ProteinaScheduler.

use super::{ConfigError, keys::Keys};
use crate::flow::{Tempered, TemperedNoise};
use crate::plan::Plan;
use crate::solver::Solver;
use langevin_core::grid::End;
use langevin_core::process::RectifiedFlow;
use langevin_core::{Grid, Prediction};

const CLASS: &str = "RFD4ProteinaScheduler";

/// The smallest share of signal: where schedules begin.
const START: f64 = 1e-3;

/// The most times that are computed for a grid, of which it may keep few.
const MOST: usize = 1 << 24;

/// A scheduler of one modality of RFD4-Proteina, read from its configuration: times and [`Tempered`].
///
/// Its time is 0 in noise and 1 in data; the process here is the [`RectifiedFlow`], whose time is 1 less that, and so is what
/// networks are told. They predict [`Prediction::FlowToData`]. The original's `emit_mask` sets tokens to 0 after each step: that
/// is a constraint, `constraint_fn(|x, _| x * mask)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rfd4Proteina {
    logarithmic: bool,
    /// The number of steps at the end that are finer, and how much finer.
    tail: (usize, usize),
    solver: Tempered,
}

/// Reads the `scheduler_config.json` of an `RFD4ProteinaScheduler`.
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, other classes, and options that are not there or out of range.
///
/// ```
/// let config = r#"{"_class_name": "RFD4ProteinaScheduler", "schedule_mode": "log", "noise_mode": "1/t",
///     "tsr_k": 2.0, "tsr_sigma": 0.5}"#;
/// let scheduler = langevin_schedulers::diffusers::rfd4_proteina_from_config(config)?;
/// assert_eq!(scheduler.plan(100)?.steps(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rfd4_proteina_from_config(json: &str) -> Result<Rfd4Proteina, ConfigError> {
    let mut keys = Keys::parse(json)?;
    if keys.class() != CLASS {
        return Err(ConfigError::Class { class: keys.class().to_owned(), known: CLASS.to_owned() });
    }
    let logarithmic = match keys.word("schedule_mode", "")?.as_str() {
        "log" => true,
        "power" => false,
        other => return Err(keys.bad("schedule_mode", format!("'{other}'"), "'log' or 'power'")),
    };
    let noise = match keys.word("noise_mode", "")?.as_str() {
        "1/t" => TemperedNoise::Inverse,
        "tan" => TemperedNoise::Tangent,
        other => return Err(keys.bad("noise_mode", format!("'{other}'"), "'1/t' or 'tan'")),
    };
    let (Some(k), Some(s)) = (keys.optional("tsr_k")?, keys.optional("tsr_sigma")?) else {
        return Err(keys.bad(
            "tsr_k",
            "missing, or tsr_sigma is",
            "two numbers: the original has no defaults for them",
        ));
    };
    let (steps, finer) = (keys.count("tail_steps", 10)?, keys.count("tail_step_multiplier", 2)?);
    if steps > 0 && !(2..=1 << 10).contains(&finer) {
        return Err(keys.bad("tail_step_multiplier", finer, "2 or more, at most 1024"));
    }
    let (high, low) = (keys.number("t_lim_ode", 0.95)?, keys.number("t_lim_ode_below", 0.02)?);
    let solver = Tempered::new(k, s)?.noise(noise).noise_between(low, high)?;
    keys.finish()?;
    Ok(Rfd4Proteina { logarithmic, tail: (steps, finer), solver })
}

impl Rfd4Proteina {
    /// What networks predict.
    pub fn prediction(&self) -> Prediction {
        Prediction::FlowToData
    }

    /// The solver.
    pub fn solver(&self) -> &Tempered {
        &self.solver
    }

    /// The original's times of so many steps, from 0.001 to 1.
    fn times(&self, steps: usize) -> Result<Vec<f64>, ConfigError> {
        let (tail, finer) = self.tail;
        if tail == 0 {
            return Ok(self.plain(steps));
        }
        let coarse = steps.checked_sub((finer - 1).saturating_mul(tail)).filter(|coarse| *coarse >= tail);
        let Some(coarse) = coarse else {
            let (key, expected) = ("tail_steps", "so few that, times tail_step_multiplier, they are at most the steps");
            return Err(ConfigError::Value { class: CLASS.to_owned(), key, given: tail.to_string(), expected });
        };
        if coarse.saturating_mul(finer) > MOST {
            let (key, expected) = ("tail_step_multiplier", "so little that, times the steps, it is at most 2^24");
            return Err(ConfigError::Value { class: CLASS.to_owned(), key, given: finer.to_string(), expected });
        }
        let begin = (coarse - tail) * finer;
        let fine = self.plain(coarse * finer);
        Ok(fine.into_iter().enumerate().filter(|(i, _)| *i >= begin || i % finer == 0).map(|(_, time)| time).collect())
    }

    fn plain(&self, steps: usize) -> Vec<f64> {
        let n = steps as f64;
        if !self.logarithmic {
            let first = START.sqrt();
            return (0..=steps).map(|i| (first + (1.0 - first) * i as f64 / n).powi(2)).collect();
        }
        // Exponents from 0.001 down to −2.
        let power = |i: f64| 1.0 - 10f64.powf(-2.0 + (START + 2.0) * (n - i) / n);
        let (low, high) = (power(0.0), power(n));
        (0..=steps).map(|i| (power(i as f64) - low + START) / (high - low + START)).collect()
    }

    /// The grid of so many steps; with a start time in [0, 1) of so many steps from about there on.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for no steps, more than 2^16, fewer than the fine ones at the end take, a start time out of range, and
    /// where the original would compute more than 2^24 times: for a start time near 1, or a large `tail_step_multiplier`.
    pub fn grid(&self, steps: usize, start_time: Option<f64>) -> Result<Grid, ConfigError> {
        let bad =
            |key, given: String, expected| Err(ConfigError::Value { class: CLASS.to_owned(), key, given, expected });
        if !(1..=1 << 16).contains(&steps) {
            return bad("num_inference_steps", steps.to_string(), "between 1 and 2^16");
        }
        let times = match start_time {
            None => self.times(steps)?,
            Some(start) if (0.0..1.0).contains(&start) => {
                let dense = (100 * steps).max(1000);
                let first = self.times(dense)?.iter().position(|time| *time >= start - 1e-6).unwrap_or(dense);
                let whole = (steps * dense) as f64 / (dense - first).max(1) as f64;
                let finer = if self.tail.0 == 0 { 1 } else { self.tail.1 };
                if whole * finer as f64 > MOST as f64 {
                    let expected = "so early that the whole schedule with steps as short has at most 2^24 times";
                    return bad("start_time", start.to_string(), expected);
                }
                let times = self.times(whole.round_ties_even() as usize)?;
                times[times.len() - (steps + 1)..].to_vec()
            }
            Some(start) => return bad("start_time", start.to_string(), "a number in [0, 1)"),
        };
        Ok(Grid::times(times.iter().map(|time| 1.0 - time).collect())?.ending(End::Range))
    }

    /// The plan of so many steps from pure noise.
    ///
    /// # Errors
    /// [`ConfigError`] as of [`grid`](Self::grid).
    pub fn plan(&self, steps: usize) -> Result<Plan, ConfigError> {
        let plan = self.solver.plan(&RectifiedFlow::new(), &self.grid(steps, None)?)?;
        Ok(plan.with_prior(1.0).map_err(crate::solver::PlanError::from)?)
    }

    /// The plan of so many steps from a start time on, for data that were noised to [`Plan::start_node`].
    ///
    /// # Errors
    /// [`ConfigError`] as of [`grid`](Self::grid).
    pub fn plan_from(&self, steps: usize, start_time: f64) -> Result<Plan, ConfigError> {
        Ok(self.solver.plan(&RectifiedFlow::new(), &self.grid(steps, Some(start_time))?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlanError;

    const MODES: &str = "\"schedule_mode\": \"log\", \"noise_mode\": \"tan\"";

    fn read(options: &str) -> Result<Rfd4Proteina, ConfigError> {
        rfd4_proteina_from_config(&format!("{{\"_class_name\": \"{CLASS}\", {options}}}"))
    }

    #[test]
    fn options_are_honored_or_refused() {
        let said = read(&format!(
            "{MODES}, \"tsr_k\": 2, \"tsr_sigma\": 0.5, \"tail_steps\": 3, \"tail_step_multiplier\": 4, \"t_lim_ode\": 0.9, \
             \"t_lim_ode_below\": 0.1"
        ));
        let solver = Tempered::new(2.0, 0.5).map(|solver| solver.noise(TemperedNoise::Tangent));
        let solver = solver.and_then(|solver| solver.noise_between(0.1, 0.9)).unwrap();
        let scheduler = Rfd4Proteina { logarithmic: true, tail: (3, 4), solver };
        assert_eq!(said.unwrap(), scheduler);
        let key = |result: Result<Rfd4Proteina, ConfigError>| match result {
            Err(ConfigError::Value { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(read("\"noise_mode\": \"tan\"")), "schedule_mode");
        assert_eq!(key(read("\"schedule_mode\": \"log\"")), "noise_mode");
        assert_eq!(key(read(MODES)), "tsr_k");
        let numbers = format!("{MODES}, \"tsr_k\": 2, \"tsr_sigma\": 0.5");
        assert_eq!(key(read(&format!("{numbers}, \"tail_step_multiplier\": 1"))), "tail_step_multiplier");
        let unknown = read(&format!("{numbers}, \"eta\": 1"));
        assert!(matches!(unknown, Err(ConfigError::UnknownKey { key, .. }) if key == "eta"));
        let cold = read(&format!("{MODES}, \"tsr_k\": 0, \"tsr_sigma\": 0.5"));
        assert!(matches!(cold, Err(ConfigError::Plan(PlanError::Setting { setting: "k", .. }))));
        let refused = |steps, start| match scheduler.grid(steps, start) {
            Err(ConfigError::Value { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(0, None), "num_inference_steps");
        assert_eq!(refused(11, None), "tail_steps");
        for start in [-0.1, 1.0, f64::NAN] {
            assert_eq!(refused(20, Some(start)), "start_time");
        }
        // A start so late, and steps so fine, that there would be billions of times.
        assert_eq!(refused(4096, Some(1.0 - 1e-7)), "start_time");
        let finest = |tail| Rfd4Proteina { tail, ..scheduler.clone() };
        let refused = |scheduler: Rfd4Proteina, steps, start| match scheduler.grid(steps, start) {
            Err(ConfigError::Value { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(finest((1, 1 << 10)), 1 << 16, None), "tail_step_multiplier");
        assert_eq!(refused(finest((1, 1 << 10)), 1 << 12, Some(0.1)), "tail_step_multiplier");
        assert_eq!(refused(finest((usize::MAX, 1 << 10)), 1 << 10, None), "tail_steps");
        assert_eq!(finest((1, 1 << 10)).plan(2048).unwrap().steps(), 2048);
        let other = rfd4_proteina_from_config("{\"_class_name\": \"PNDMScheduler\"}");
        assert!(matches!(other, Err(ConfigError::Class { .. })));
    }
}
