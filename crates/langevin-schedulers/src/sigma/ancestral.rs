//! Ancestral steps: down further than asked, and up again by noise.

use super::frame::{first_row, landing, walk};
use crate::ddpm::{check_direction, ratio};
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::sigma::churn::Start;
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "Euler ancestral";

/// Splits a step from σ/α = `from` to `to` into one down to `down` and noise of deviation `up`, with
/// `up = min(to, η·√(to²·(from² − to²)/from²))` and `down² + up² = to²`.
///
/// `from` may be infinite (pure noise). For η = 1 the two together are the posterior of the step.
///
/// ```
/// let (down, up) = langevin_schedulers::sigma::ancestral_step(5.0, 3.0, 1.0);
/// assert!((down - 1.8).abs() < 1e-12 && (up - 2.4).abs() < 1e-12);
/// ```
pub fn ancestral_step(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let share = to / from;
    let up = (eta * to * ((1.0 - share) * (1.0 + share)).max(0.0).sqrt()).min(to);
    (((to - up) * (to + up)).sqrt(), up)
}

/// The two settings of ancestral solvers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noise {
    pub eta: f64,
    pub factor: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { eta: 1.0, factor: 1.0 }
    }
}

impl Noise {
    pub fn check(&self, solver: &'static str) -> Result<(), PlanError> {
        for (setting, given) in [("eta", self.eta), ("the noise factor", self.factor)] {
            if !(given >= 0.0 && given.is_finite()) {
                return Err(PlanError::Setting { solver, setting, given, expected: "a finite number, at least 0" });
            }
        }
        Ok(())
    }

    /// The level that a step goes down to, and the deviation of the noise that follows, in x.
    pub fn split(&self, from: &Level, to: &Level) -> (Level, f64) {
        let (down, up) = ancestral_step(ratio(from), ratio(to), self.eta);
        (Level { sigma: to.alpha * down, ..*to }, to.alpha * up * self.factor)
    }

    /// As [`split`](Self::split), but never down further than to σ/α = `floor`, which is not above the step's end.
    pub fn split_above(&self, from: &Level, to: &Level, floor: f64) -> (Level, f64) {
        let goal = ratio(to);
        let down = ancestral_step(ratio(from), goal, self.eta).0.max(floor.min(goal));
        let up = ((goal - down) * (goal + down)).max(0.0).sqrt();
        (Level { sigma: to.alpha * down, ..*to }, to.alpha * up * self.factor)
    }
}

/// Adds noise to a row's sum.
pub(super) fn with_noise(row: &mut Row, std: f64) {
    if std > 0.0 {
        row.draws.push(Draw::WHITE);
        for set in &mut row.post {
            set.sum.push(Term::new(std, Src::Z(0)));
        }
    }
}

/// Euler's method with ancestral noise: `x_s = α_s·(x̂_0 + down·ε̂ + up·z)`, split by [`ancestral_step`] in σ/α.
///
/// One evaluation a step, weak order 1. For η up to 1 and factor 1 it is DDIM with noise; η beyond adds noise until all
/// of the next level is noise that is new.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::EulerAncestral};
/// let plan = EulerAncestral::new().eta(0.6)?.plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert!(plan.is_stochastic());
/// assert!(EulerAncestral::new().eta(-1.0).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2021, "Score-based generative modeling through stochastic differential equations", appendix F; the split
/// is k-diffusion's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EulerAncestral {
    noise: Noise,
}

impl EulerAncestral {
    /// With η = 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// With noise of relative size η; 0 is [`Euler`](super::Euler).
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        self.noise.eta = eta;
        self.noise.check(NAME)?;
        Ok(self)
    }

    /// Factor on the added noise; 1 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn noise(mut self, factor: f64) -> Result<Self, PlanError> {
        self.noise.factor = factor;
        self.noise.check(NAME)?;
        Ok(self)
    }
}

impl Solver for EulerAncestral {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.noise.check(NAME)?;
        let (stops, _) = walk(process, grid)?;
        check_direction(NAME, &stops, true)?;
        let row = |(index, stop): (usize, &Stop)| {
            let (down, std) = self.noise.split(&stop.from.level, &stop.to.level);
            let mut row = first_row(Start::still(stop), 0, Some((index, stop.to, landing(&down, 0, &[]))));
            with_noise(&mut row, std);
            row
        };
        let rows = stops.iter().enumerate().map(row).collect();
        let name = format!("{NAME} (eta {})", self.noise.eta);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddim::Ddim;
    use crate::plan::Coef;
    use langevin_core::process::{Edm, VpSde};

    fn numbers(plan: &Plan) -> Vec<Vec<(Src, f64)>> {
        let term = |term: &Term| (term.of, if let Coef::C(c) = term.c { c } else { f64::NAN });
        plan.rows().iter().map(|row| row.post[0].sum.iter().map(term).collect()).collect()
    }

    #[test]
    fn up_to_eta_1_it_is_ddim() {
        for eta in [0.0, 0.4, 1.0] {
            let processes: [&dyn Process; 2] = [&VpSde::default(), &Edm::default()];
            for process in processes {
                let grid = Grid::uniform_lambda(9);
                let a = EulerAncestral::new().eta(eta).unwrap().plan(process, &grid).unwrap();
                let b = Ddim::new().eta(eta).unwrap().plan(process, &grid).unwrap();
                for (a, b) in numbers(&a).into_iter().zip(numbers(&b)) {
                    assert_eq!(a.len(), b.len());
                    for ((src, a), (other, b)) in a.into_iter().zip(b) {
                        assert!(src == other && (a - b).abs() < 1e-12 * (1.0 + b.abs()), "{src}: {a} and {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn splits_keep_the_level() {
        for (from, to) in [(f64::INFINITY, 4.0), (10.0, 4.0), (4.0, 3.9), (1.0, 0.0), (2.0, 2.0)] {
            for eta in [0.0, 0.5, 1.0, 3.0] {
                let (down, up) = ancestral_step(from, to, eta);
                assert!((down.hypot(up) - to).abs() < 1e-14 && down >= 0.0 && up >= 0.0, "{from} {to} {eta}");
            }
        }
        assert_eq!(ancestral_step(f64::INFINITY, 4.0, 1.0), (0.0, 4.0));
        // All noise is new beyond this.
        assert_eq!(ancestral_step(10.0, 4.0, 3.0), (0.0, 4.0));
    }
}
