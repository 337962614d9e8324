//! Trajectory consistency distillation.

use crate::ddpm::check_direction;
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::sigma::{Churn, plan_raised};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::process::Transition;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "TCD";

/// Strategic stochastic sampling of a trajectory consistency model: jump along the flow beyond the next level, then noise
/// up to it.
///
/// With γ a step to time s jumps to s' = (1 − γ)·s (rounded down on a chain) by `α·x̂_0 + σ·ε̂`, and returns to s by the
/// forward transition. γ = 0 is deterministic, γ = 1 jumps to clean data every time.
///
/// ```
/// use langevin_core::{Grid, grid::End, process::{Betas, DiscreteChain}};
/// use langevin_schedulers::{Solver, consistency::Tcd};
/// let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
/// let grid = Grid::times(vec![999.0, 759.0, 499.0, 259.0, 0.0])?.ending(End::Range);
/// assert_eq!(Tcd::new(0.3)?.plan(&chain, &grid)?.steps(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Zheng et al. 2024, "Trajectory consistency distillation", algorithm 4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tcd {
    gamma: f64,
}

impl Tcd {
    /// With γ in [0, 1] (0.3 is published).
    ///
    /// # Errors
    /// [`PlanError::Setting`] outside [0, 1].
    pub fn new(gamma: f64) -> Result<Self, PlanError> {
        let solver = Self { gamma };
        solver.check()?;
        Ok(solver)
    }

    fn check(&self) -> Result<(), PlanError> {
        if (0.0..=1.0).contains(&self.gamma) {
            return Ok(());
        }
        let expected = "a number in [0, 1]: 0 adds no noise, 1 jumps to clean data";
        Err(PlanError::Setting { solver: NAME, setting: "gamma", given: self.gamma, expected })
    }

    /// Name and rows of the plan for these steps.
    fn table(&self, process: &dyn Process, stops: &[Stop]) -> (String, Vec<Row>) {
        let rows = stops.iter().enumerate();
        let rows = rows.map(|(index, stop)| self.row(process, index, stop, index + 1 == stops.len())).collect();
        (format!("{NAME} (gamma {})", self.gamma), rows)
    }

    fn row(&self, process: &dyn Process, index: usize, stop: &Stop, last: bool) -> Row {
        let clean = process.time_range().0;
        let share = 1.0 - self.gamma;
        let time = match process.chain() {
            // A product that should be whole can fall below it: as in the published code, which multiplies in float32.
            Some(_) => clean + f64::from((share as f32 * (stop.to.t - clean) as f32).floor()),
            None => clean + share * (stop.to.t - clean),
        };
        // Beyond the range there is only the end of the grid itself.
        let jump = if stop.to.t < clean { stop.to.level } else { process.level(time) };
        let noisy = self.gamma > 0.0 && !last;
        let back =
            if noisy { Transition::between(&jump, &stop.to.level) } else { Transition { scale: 1.0, variance: 0.0 } };
        let of = |c: f64, src| Term::new(back.scale * c, src);
        let mut sum = vec![of(jump.alpha, Src::X0(0)), of(jump.sigma, Src::Eps(0))];
        if back.variance > 0.0 {
            sum.push(Term::new(back.variance.sqrt(), Src::Z(0)));
        }
        Row::step(index, stop, 0, sum, (back.variance > 0.0).then_some(Draw::WHITE))
    }
}

impl Solver for Tcd {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        let (name, rows) = self.table(process, &stops);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        plan_raised(churn, NAME, process, grid, |stops| Ok(self.table(process, stops)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Coef;
    use crate::{Ddim, Ddpm};
    use langevin_core::grid::End;
    use langevin_core::process::{Betas, DiscreteChain, VpSde};

    fn numbers(plan: &Plan) -> Vec<f64> {
        let terms = plan.rows().iter().flat_map(|row| &row.post[0].sum);
        terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    #[test]
    fn without_noise_it_is_ddim() {
        let grid = Grid::uniform(5);
        let tcd = Tcd::new(0.0).unwrap().plan(&VpSde::default(), &grid).unwrap();
        assert_eq!(numbers(&tcd), numbers(&Ddim::new().plan(&VpSde::default(), &grid).unwrap()));
        assert!(!tcd.is_stochastic() && Ddpm::new().plan(&VpSde::default(), &grid).unwrap().is_stochastic());
    }

    /// What is jumped to and what is added have together the variance of the level.
    #[test]
    fn noise_fills_the_level() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap();
        let grid = Grid::times(vec![999.0, 700.0, 401.0, 0.0]).unwrap().ending(End::Range);
        for gamma in [0.3, 1.0] {
            let plan = Tcd::new(gamma).unwrap().plan(&chain, &grid).unwrap();
            for row in &plan.rows()[..2] {
                let number = |of| {
                    row.post[0].sum.iter().find(|term| term.of == of).map_or(0.0, |term| match term.c {
                        Coef::C(c) => c,
                        _ => f64::NAN,
                    })
                };
                let level = row.after.level;
                assert!((number(Src::X0(0)) - level.alpha).abs() < 1e-12);
                let variance = number(Src::Eps(0)).powi(2) + number(Src::Z(0)).powi(2);
                assert!((variance - level.sigma * level.sigma).abs() < 1e-12);
            }
            assert!(plan.rows()[2].draws.is_empty());
        }
    }

    /// `torch.floor((1 - eta) * prev_timestep)` of diffusers 0.42.1, where float64 says the one before or after.
    #[test]
    fn steps_of_a_chain_are_cut_off_as_published() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap();
        let jump = |t: f64, gamma: f64| {
            let grid = Grid::times(vec![999.0, t, 0.0]).unwrap().ending(End::Range);
            let plan = Tcd::new(gamma).unwrap().plan(&chain, &grid).unwrap();
            let eps = |row: &Row| row.post[0].sum.iter().find(|term| term.of == Src::Eps(0)).map(|term| term.c);
            let at = |time: f64| {
                let (jump, level) = (chain.level(time), chain.level(t));
                Some(Coef::C(Transition::between(&jump, &level).scale * jump.sigma))
            };
            (0..1000).find(|time| eps(&plan.rows()[0]) == at(f64::from(*time)))
        };
        for (t, gamma, expected) in [(170.0, 0.3, 119), (660.0, 0.3, 462), (730.0, 0.3, 511)] {
            assert_eq!(jump(t, gamma), Some(expected), "{gamma} of {t}");
        }
    }

    #[test]
    fn gamma_out_of_range_is_refused() {
        for gamma in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(Tcd::new(gamma), Err(PlanError::Setting { setting: "gamma", .. })));
        }
    }
}
