//! Sampling of a flow at a lower temperature, by a rescaled score.

use crate::ddpm::check_direction;
use crate::ode::check_joined;
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

const NAME: &str = "tempered flow";

/// How much noise there is, as a function of the share of signal `τ = α/(α + σ)`, before it is lowered with the temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TemperedNoise {
    /// `1/(τ + 0.01)`.
    #[default]
    Inverse,
    /// `π/2·sin(a)/(cos(a) + 0.01)` with `a = (1 − τ)·π/2`.
    Tangent,
}

impl TemperedNoise {
    fn at(self, tau: f64) -> f64 {
        let tau = tau.min(1.0 - 1e-5);
        match self {
            Self::Inverse => 1.0 / (tau + 1e-2),
            Self::Tangent => {
                let angle = (1.0 - tau) * FRAC_PI_2;
                FRAC_PI_2 * angle.sin() / (angle.cos() + 1e-2)
            }
        }
    }
}

/// Euler's method along a flow whose score is rescaled in time, which lowers the temperature of the samples: they keep to where
/// data are likely, at the price of variety.
///
/// With `τ = α/(α + σ)`, in which every process is the rectified flow from noise at τ = 0 to data at 1, the score is
/// multiplied by `r = (q·s² + 1)/(q·s²/k + 1)`, where `q = τ²/(1 − τ)²`: from 1 in pure noise towards k near data, the sooner the
/// larger s is. That is the score of data that are k times as cold, where they are like a Gaussian of standard deviation s. A
/// step of length h is `h·v_r`, where v_r is the velocity that the rescaled score means; within a window of τ, which is
/// `[0.02, 0.95]` unless said otherwise, Langevin noise comes with it: `+ g·r·score·h + √(2·g·h)·z` with
/// `g = noise(τ)/r²`. For k = 1 this is an SDE with the law of the flow.
///
/// The score is at σ = 0 infinite, and is not asked there; from pure noise a step is one of Euler.
///
/// ```
/// use langevin_core::{Grid, grid::End, process::RectifiedFlow};
/// use langevin_schedulers::{Solver, flow::{Tempered, TemperedNoise}};
/// let solver = Tempered::new(2.0, 0.5)?.noise(TemperedNoise::Tangent);
/// let plan = solver.plan(&RectifiedFlow::new(), &Grid::uniform(40).ending(End::Range))?;
/// assert!(plan.is_stochastic());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Xu et al. 2025, "Temporal score rescaling for temperature sampling in diffusion and flow models"; Geffner et al. 2025,
/// "Proteina: scaling flow-based protein structure generative models" (the noise and its window).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tempered {
    k: f64,
    s: f64,
    noise: TemperedNoise,
    window: Option<(f64, f64)>,
}

impl Tempered {
    /// For samples k times as cold as data of standard deviation s.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless both are positive and finite.
    pub fn new(k: f64, s: f64) -> Result<Self, PlanError> {
        let tempered = Self { k, s, noise: TemperedNoise::Inverse, window: Some((0.02, 0.95)) };
        tempered.check()?;
        Ok(tempered)
    }

    /// Another noise.
    pub fn noise(mut self, noise: TemperedNoise) -> Self {
        self.noise = noise;
        self
    }

    /// Noise while τ is within `[low, high]`, both included. A bound beyond 0 or 1, infinity too, is none; a window in which no
    /// step begins has no noise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for NaN, and if `low` is above `high`.
    pub fn noise_between(mut self, low: f64, high: f64) -> Result<Self, PlanError> {
        self.window = Some((low, high));
        self.check()?;
        Ok(self)
    }

    /// No noise in any step.
    pub fn without_noise(mut self) -> Self {
        self.window = None;
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        let bad = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
        for (setting, given) in [("k", self.k), ("s", self.s)] {
            if !(given > 0.0 && given.is_finite()) {
                return bad(setting, given, "a positive number");
            }
        }
        match self.window {
            Some((low, _)) if low.is_nan() => bad("lower bound of the noise", low, "a share of signal"),
            Some((low, high)) if !(low <= high) => {
                bad("upper bound of the noise", high, "a share of signal that is at least the lower bound")
            }
            _ => Ok(()),
        }
    }

    /// What the score is multiplied by.
    fn ratio(&self, tau: f64) -> f64 {
        let (signal, noise) = ((tau * self.s).powi(2), (1.0 - tau).powi(2));
        (signal + noise) / (signal / self.k + noise)
    }

    fn row(&self, index: usize, stop: &Stop) -> Result<Row, PlanError> {
        let (from, to) = (stop.from.level, stop.to.level);
        let share = |level: &Level| level.alpha / (level.alpha + level.sigma);
        let (tau, sigma) = (share(&from), from.sigma / (from.alpha + from.sigma));
        if !(sigma > 0.0) {
            let advice = "the score is infinite at σ = 0; leave this level out of the grid";
            return Err(PlanError::Singular {
                solver: NAME,
                t: stop.from.t,
                alpha: from.alpha,
                sigma: from.sigma,
                advice,
            });
        }
        let (scale, h) = (to.alpha + to.sigma, share(&to) - tau);
        // (1 − r)/τ, without 0/0 at τ = 0.
        let slope = -tau * self.s * self.s * (1.0 - 1.0 / self.k) / (sigma * sigma + (tau * self.s).powi(2) / self.k);
        let mut of_eps = to.sigma / scale + h * slope;
        let noisy = self.window.is_some_and(|(low, high)| tau >= low && tau <= high) && h > 0.0;
        let ratio = self.ratio(tau);
        let strength = if noisy { self.noise.at(tau) / (ratio * ratio) } else { 0.0 };
        of_eps -= strength * ratio * h / sigma;
        let mut sum = vec![Term::new(to.alpha, Src::X0(0)), Term::new(scale * of_eps, Src::Eps(0))];
        if noisy {
            sum.push(Term::new(scale * (2.0 * strength * h).sqrt(), Src::Z(0)));
        }
        Ok(Row::step(index, stop, 0, sum, noisy.then_some(Draw::WHITE)))
    }
}

impl Solver for Tempered {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        // Deserialized settings have not been checked yet.
        self.check()?;
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        check_joined(NAME, &stops)?;
        let rows = stops.iter().enumerate().map(|(index, stop)| self.row(index, stop)).collect::<Result<_, _>>()?;
        let name = format!("{NAME} (k = {}, s = {})", self.k, self.s);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ddim;
    use crate::plan::Coef;
    use langevin_core::grid::End;
    use langevin_core::process::{RectifiedFlow, VpSde};

    fn numbers(row: &Row) -> Vec<f64> {
        row.post[0].sum.iter().map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    #[test]
    fn at_the_temperature_of_the_data_without_noise_it_is_ddim() {
        let plain = Tempered::new(1.0, 0.7).expect("settings").without_noise();
        for process in [&RectifiedFlow::new() as &dyn Process, &VpSde::default()] {
            let grid = Grid::uniform(5).ending(End::Range);
            let (plan, ddim) = (plain.plan(process, &grid), Ddim::new().plan(process, &grid));
            for (row, ddim) in plan.expect("a plan").rows().iter().zip(ddim.expect("a plan").rows()) {
                for (found, expected) in numbers(row).iter().zip(numbers(ddim)) {
                    assert!((found - expected).abs() < 1e-14, "{found}, {expected}");
                }
            }
        }
    }

    /// `x + (v_r + g·r·score)·h + √(2gh)·z` in terms of x and the velocity, as published.
    #[test]
    fn steps_are_the_formula() {
        let (k, s) = (3.0, 0.6);
        let solver = Tempered::new(k, s).and_then(|solver| solver.noise_between(0.15, 0.75)).expect("settings");
        let plan = solver.plan(&RectifiedFlow::new(), &Grid::uniform(10).ending(End::Range)).expect("a plan");
        for row in plan.rows() {
            let (t, to) = (row.eval.expect("a question").at.sigma, row.after.level.sigma);
            let (tau, h, x, v) = (1.0 - t, t - to, 0.8, -0.3);
            let (x0, eps) = (x + t * v, x - tau * v);
            let z = if row.draws.is_empty() { 0.0 } else { 1.7 };
            let found: f64 = numbers(row).iter().zip([x0, eps, z]).map(|(c, value)| c * value).sum();
            let q = (tau / t).powi(2);
            let r = (q * s * s + 1.0) / (q * s * s / k + 1.0);
            let score = (tau * v - x) / t;
            let rescaled = if tau > 0.0 { (x + t * r * score) / tau } else { v };
            assert_eq!(z == 0.0, !(0.15..=0.75).contains(&tau), "{tau}");
            let g = if z == 0.0 { 0.0 } else { 1.0 / (tau + 0.01) / (r * r) };
            let expected = x + (rescaled + g * r * score) * h + (2.0 * g * h).sqrt() * z;
            assert!((found - expected).abs() < 1e-12, "τ = {tau}: {found}, {expected}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Tempered::new(bad, 1.0), Err(PlanError::Setting { setting: "k", .. })));
            assert!(matches!(Tempered::new(1.0, bad), Err(PlanError::Setting { setting: "s", .. })));
        }
        let solver = Tempered::new(2.0, 1.0).expect("settings");
        let refused = |low, high| match solver.clone().noise_between(low, high) {
            Err(PlanError::Setting { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(f64::NAN, 0.5), "lower bound of the noise");
        for (low, high) in [(0.9, 0.1), (0.5, f64::NAN)] {
            assert_eq!(refused(low, high), "upper bound of the noise");
        }
        // Saved settings are checked when they are used.
        let mut saved = serde_json::to_value(&solver).expect("JSON");
        saved["window"] = serde_json::json!([0.9, 0.1]);
        let saved: Tempered = serde_json::from_value(saved).expect("settings");
        let plan = saved.plan(&RectifiedFlow::new(), &Grid::uniform(5).ending(End::Range));
        assert!(matches!(plan, Err(PlanError::Setting { setting: "upper bound of the noise", .. })));
        // Bounds beyond what there is are none: noise in every step.
        let (inside, beyond) = (solver.clone().noise_between(0.0, 1.0), solver.clone().noise_between(-5.0, 7.0));
        let plan = |solver: Result<Tempered, PlanError>| {
            solver.and_then(|solver| solver.plan(&RectifiedFlow::new(), &Grid::uniform(5).ending(End::Range)))
        };
        let rows = plan(beyond).expect("a plan").rows().to_vec();
        assert!(rows.iter().all(|row| row.draws.len() == 1));
        assert_eq!(rows, plan(inside).expect("a plan").rows());
        let rising = solver.plan(&RectifiedFlow::new(), &Grid::uniform(5).ending(End::Range).inverted());
        assert!(matches!(rising, Err(PlanError::Direction { .. })));
    }
}
