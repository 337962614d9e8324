//! UnCLIPScheduler.

use super::configured::{Configured, Schedule};
use super::method::Method;
use super::options::clipping;
use super::{ConfigError, keys::Keys};
use crate::ddpm::check_direction;
use crate::plan::{Coef, Draw, Plan, Row, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::process::{Betas, DiscreteChain};
use langevin_core::{Grid, Prediction, Process};

/// [`Ddpm`](crate::Ddpm) in the arithmetic of the published code: float32, in which 1 − ᾱ of the first steps and 1 − β of
/// the last long step keep few digits. The formulas are those of `Ddpm`, which is the method; this is what `compat` makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnClip {
    pub learned: bool,
}

impl UnClip {
    /// Coefficients of x, x̂_0 and the noise.
    fn coefficients(self, chain: &DiscreteChain, t: usize, before: Option<usize>) -> (f32, f32, Coef) {
        let bar = |t: usize| chain.alphas_cumprod()[t] as f32;
        let (bar_t, bar_s) = (bar(t), before.map_or(1.0, bar));
        let (left_t, left_s) = (1.0 - bar_t, 1.0 - bar_s);
        let beta = if before.map_or(0, |s| s + 1) == t { chain.betas()[t] as f32 } else { 1.0 - bar_t / bar_s };
        let variance = f64::from(left_s / left_t * beta);
        let std = if self.learned {
            Coef::LearnedStd { slot: 0, log_min: libm::log(variance), log_max: libm::log(f64::from(beta)) }
        } else {
            Coef::C(variance.max(1e-20).sqrt())
        };
        ((1.0 - beta).sqrt() * left_s / left_t, bar_s.sqrt() * beta / left_t, std)
    }

    fn row(self, chain: &DiscreteChain, index: usize, stop: &Stop) -> Row {
        let before = (stop.to.level.sigma > 0.0).then_some(stop.to.t as usize);
        let (of_x, of_x0, std) = self.coefficients(chain, stop.from.t as usize, before);
        let mut sum = vec![Term::new(f64::from(of_x), Src::X(0)), Term::new(f64::from(of_x0), Src::X0(0))];
        let noisy = before.is_some();
        if noisy {
            sum.push(Term { c: std, of: Src::Z(0) });
        }
        Row::step(index, stop, 0, sum, noisy.then_some(Draw::WHITE))
    }
}

impl Solver for UnClip {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        check_direction("unCLIP", &stops, true)?;
        let Some(chain) = process.chain() else {
            let reason = "its coefficients are those of a chain's steps";
            return Err(PlanError::Combination { first: "unCLIP".into(), second: format!("{process:?}"), reason });
        };
        let rows = stops.iter().enumerate().map(|(index, stop)| self.row(chain, index, stop)).collect();
        Ok(Plan::new("unCLIP", stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

pub(super) fn read(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let steps = keys.count("num_train_timesteps", 1000)?;
    keys.one_of("beta_schedule", "squaredcos_cap_v2", &["squaredcos_cap_v2"], "squaredcos_cap_v2")?;
    let chain = DiscreteChain::new(Betas::SquaredCosine, steps).and_then(|chain| chain.compat_f32());
    let chain = keys.made(&["num_train_timesteps"], chain)?;
    let learned = match keys.word("variance_type", "fixed_small_log")?.as_str() {
        "fixed_small_log" => false,
        "learned_range" => true,
        other => return Err(keys.bad("variance_type", other, "fixed_small_log or learned_range")),
    };
    let prediction = match keys.word("prediction_type", "epsilon")?.as_str() {
        "epsilon" => Prediction::Epsilon,
        "sample" => Prediction::Sample,
        other => return Err(keys.bad("prediction_type", other, "epsilon or sample")),
    };
    let threshold = clipping(keys, true)?;
    let method = Method::UnClip { learned };
    let mut configured = Configured::new(keys, chain, prediction, Schedule::FirstToLast, method);
    configured.threshold = threshold;
    Ok(configured)
}

#[cfg(test)]
mod tests {
    use super::super::from_config;
    use super::*;
    use crate::{Ddpm, Variance};

    /// Up to what float32 leaves of a number near 1.
    #[test]
    fn it_is_ddpm() {
        let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).unwrap();
        for (learned, variance) in [(false, Variance::FixedSmall), (true, Variance::LearnedRange)] {
            for grid in [Grid::linspace(8), Grid::linspace(1000)] {
                let mine = UnClip { learned }.plan(&chain, &grid).unwrap();
                let exact = Ddpm::new().variance(variance).plan(&chain, &grid).unwrap();
                for (a, b) in mine.rows().iter().zip(exact.rows()) {
                    let near = |a: f64, b: f64| (a - b).abs() < 2e-3;
                    for (a, b) in a.post[0].sum.iter().zip(&b.post[0].sum) {
                        assert_eq!(a.of, b.of);
                        assert!(match (a.c, b.c) {
                            (Coef::C(a), Coef::C(b)) => near(a, b),
                            (
                                Coef::LearnedStd { log_min: a, log_max: c, .. },
                                Coef::LearnedStd { log_min: b, log_max: d, .. },
                            ) => near(a.exp(), b.exp()) && near(c.exp(), d.exp()),
                            _ => false,
                        });
                    }
                    assert_eq!((a.draws.len(), a.after, a.eval), (b.draws.len(), b.after, b.eval));
                }
            }
        }
    }

    fn read(options: &str) -> Result<Configured, ConfigError> {
        from_config(&format!(r#"{{"_class_name": "UnCLIPScheduler"{options}}}"#))
    }

    /// From the last step of the chain to the first, without noise where it arrives.
    #[test]
    fn steps_are_the_first_and_the_last_and_some_between() {
        let plan = read("").unwrap().plan(8).unwrap();
        let times: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval).map(|eval| eval.at.time).collect();
        assert_eq!(times, [999.0, 856.0, 714.0, 571.0, 428.0, 285.0, 143.0, 0.0]);
        let noisy: Vec<bool> = plan.rows().iter().map(|row| !row.draws.is_empty()).collect();
        assert_eq!(noisy, [true, true, true, true, true, true, true, false]);
        assert!(read(r#", "variance_type": "learned_range""#).unwrap().learns_variance());
    }

    #[test]
    fn options_that_cannot_be_honored_are_refused() {
        for (options, named) in [
            (r#", "beta_schedule": "linear""#, "squaredcos_cap_v2"),
            (r#", "variance_type": "fixed_large""#, "learned_range"),
            (r#", "prediction_type": "v_prediction""#, "epsilon or sample"),
            (r#", "clip_sample_range": 0.0"#, "clip_sample_range"),
            (r#", "thresholding": true"#, "thresholding"),
        ] {
            let error = read(options).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let scheduler = read("").unwrap();
        assert!(scheduler.grid(1).unwrap_err().to_string().contains("at least 2") && scheduler.grid(0).is_err());
        assert!(scheduler.plan(1001).is_err() && scheduler.grid_at(&[3.0]).is_err());
    }
}
