//! Denoising diffusion implicit models, DDIM (Song, Meng & Ermon 2021).

use crate::ddpm::{Posterior, check_direction, falls};
use crate::ode::check_joined;
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::sigma::{Churn, plan_raised};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

/// DDIM on any process: `x_s = α_s·x̂_0 + √(σ_s² − η²v)·ε̂ + η√v·z`, where v is the posterior's variance.
///
/// η = 0 is deterministic (the exponential integrator of order 1), η = 1 draws from DDPM's posterior. A grid that
/// rises ([`Grid::inverted`]) inverts: it encodes data to noise. Its steps must join; see [`with_gaps`](Self::with_gaps).
///
/// # Example
///
/// ```
/// use langevin_core::Grid;
/// use langevin_core::process::{Betas, DiscreteChain};
/// use langevin_schedulers::{Ddim, Solver};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
/// let plan = Ddim::new().eta(0.5)?.plan(&chain, &Grid::trailing(50))?;
/// assert_eq!(plan.rows().len(), 50);
/// # Ok(()) }
/// ```
///
/// # References
///
/// Song, Meng & Ermon 2021, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502), eq. 12, with η of eq. 16.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ddim {
    eta: f64,
    #[serde(default)]
    gaps: bool,
}

impl Ddim {
    /// Deterministic, η = 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// With noise of relative size η in [0, 1].
    ///
    /// # Errors
    /// [`PlanError::Setting`] outside [0, 1].
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        self.eta = eta;
        self.check()?;
        Ok(self)
    }

    /// Inverts on grids whose steps do not join, too: `Grid::trailing(n).strided().inverted()` is then diffusers'
    /// `DDIMInverseScheduler`, also where n does not divide T. A step starts at another level than that which the last one
    /// reached, so the noise found is not the one that leads back to the data.
    pub fn with_gaps(mut self) -> Self {
        self.gaps = true;
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        if (0.0..=1.0).contains(&self.eta) {
            return Ok(());
        }
        Err(PlanError::Setting {
            solver: "DDIM",
            setting: "eta",
            given: self.eta,
            expected: "a number in [0, 1]: 0 is deterministic, 1 is DDPM",
        })
    }

    /// Name and rows of the plan for these steps.
    fn table(&self, stops: &[Stop]) -> Result<(String, Vec<Row>), PlanError> {
        let rows = stops.iter().enumerate().map(|(index, stop)| self.row(index, stop)).collect::<Result<_, _>>()?;
        Ok((format!("DDIM (eta {})", self.eta), rows))
    }

    fn row(&self, index: usize, stop: &Stop) -> Result<Row, PlanError> {
        let s = &stop.to.level;
        let (of_eps, variance) = if self.eta > 0.0 {
            let posterior = Posterior::of("DDIM", stop)?;
            // σ_s² − η²v, as a sum of positive terms: at η = 1 what is left of ε̂ is the posterior's part of x_t.
            let kept = posterior.of_x * stop.from.level.sigma;
            let eta = self.eta * self.eta;
            ((kept * kept + (1.0 - eta) * posterior.variance).sqrt(), eta * posterior.variance)
        } else {
            (s.sigma, 0.0)
        };
        let mut sum = vec![Term::new(s.alpha, Src::X0(0)), Term::new(of_eps, Src::Eps(0))];
        if variance > 0.0 {
            sum.push(Term::new(variance.sqrt(), Src::Z(0)));
        }
        Ok(Row::step(index, stop, 0, sum, (variance > 0.0).then_some(Draw::WHITE)))
    }
}

impl Solver for Ddim {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        // Deserialized settings have not been checked yet.
        self.check()?;
        let stops = grid.stops(process)?;
        // A grid that rises inverts; with noise there is nothing to invert.
        let falling = self.eta > 0.0 || falls(&stops);
        check_direction("DDIM", &stops, falling)?;
        if !falling && !self.gaps {
            check_joined("DDIM inversion", &stops)?;
        }
        let (name, rows) = self.table(&stops)?;
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        plan_raised(churn, "DDIM", process, grid, |stops| self.table(stops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Coef;
    use langevin_core::process::{Betas, DiscreteChain};

    fn chain() -> DiscreteChain {
        DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain")
    }

    fn numbers(row: &Row) -> Vec<f64> {
        row.post[0].sum.iter().map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    /// Equations 12 and 16 of Song, Meng & Ermon, in their own symbols.
    #[test]
    fn rows_are_the_formula_of_the_paper() {
        let chain = chain();
        for eta in [0.0, 0.3, 1.0] {
            let plan = Ddim::new().eta(eta).expect("in range").plan(&chain, &Grid::leading(50)).expect("a plan");
            for (i, row) in plan.rows().iter().enumerate().take(49) {
                let t = 980 - 20 * i;
                let (now, next) = (chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 20]);
                let sigma = eta * ((1.0 - next) / (1.0 - now)).sqrt() * (1.0 - now / next).sqrt();
                let mut expected = vec![next.sqrt(), (1.0 - next - sigma * sigma).sqrt()];
                if eta > 0.0 {
                    expected.push(sigma);
                }
                let found = numbers(row);
                assert_eq!(found.len(), expected.len());
                for (a, b) in found.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-12, "eta {eta}, t = {t}: {found:?} and {expected:?}");
                }
            }
            assert_eq!(numbers(&plan.rows()[49]), [1.0]);
        }
    }

    /// diffusers' inverse steps from t − T div n to t; where n does not divide T that leaves gaps, which is an error
    /// unless asked for.
    #[test]
    fn inversion_with_gaps_is_asked_for() {
        let (chain, n) = (chain(), 7);
        let gapped = Grid::trailing(n).strided().inverted();
        let error = Ddim::new().plan(&chain, &gapped).expect_err("gaps");
        assert!(matches!(error, PlanError::Gap { step: 0, .. }), "{error:?}");
        assert!(error.to_string().contains("without `.strided()`"), "{error}");
        let plan = Ddim::new().with_gaps().plan(&chain, &gapped).expect("a plan");
        for (row, t) in plan.rows().iter().zip([142, 285, 428, 570, 713, 856, 999]) {
            let asked = row.eval.expect("an evaluation").at;
            let from = t - 1000 / 7;
            let bar = if from < 0 { 1.0 } else { chain.alphas_cumprod()[from as usize] };
            assert!((asked.alpha - bar.sqrt()).abs() < 1e-12 && asked.time == f64::from(t));
            let next = chain.alphas_cumprod()[t as usize];
            let found = numbers(row);
            assert!((found[0] - next.sqrt()).abs() < 1e-12 && (found[1] - (1.0 - next).sqrt()).abs() < 1e-12);
        }
        // Without the stride the steps join, and where it changes nothing it is no error.
        assert!(Ddim::new().plan(&chain, &Grid::trailing(n).inverted()).is_ok());
        assert!(Ddim::new().plan(&chain, &Grid::trailing(8).strided().inverted()).is_ok());
        // Settings from before there were any gaps.
        let old: Ddim = serde_json::from_str(r#"{"eta": 0.0}"#).expect("settings");
        assert_eq!(old, Ddim::new());
    }

    /// Walking up and down the same levels with one and the same estimate comes back.
    #[test]
    fn inversion_undoes_a_step() {
        let up = Ddim::new().plan(&chain(), &Grid::leading(10).inverted()).expect("a plan");
        let down = Ddim::new().plan(&chain(), &Grid::leading(10)).expect("a plan");
        for (up, down) in up.rows().iter().rev().zip(down.rows()) {
            let asked = down.eval.expect("an evaluation").at;
            assert_eq!(numbers(up), [asked.alpha, asked.sigma]);
            assert_eq!((up.after.t, up.after.level.sigma), (asked.time, asked.sigma));
        }
    }
}
