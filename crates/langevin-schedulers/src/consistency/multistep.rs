//! Consistency models.

use crate::ddpm::{check_direction, ratio};
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "consistency multistep";

/// Multistep sampling of a consistency model: jump to data, add noise anew, jump again.
///
/// `x_s = α_s·(x̂_0 + √(s² − s_min²)·z)` with `s = σ/α`. A model whose answers are data with noise s_min left in them says
/// so by [`ending_at`](Self::ending_at); otherwise s_min = 0 and `x_s = α_s·x̂_0 + σ_s·z`. No noise is added at the end.
///
/// Every step forgets what was before but for x̂_0, so this is no discretization of an equation and has no order: it is as
/// good as the network's jumps. Consistency models on EDM's process predict
/// [`Prediction::Consistency`](langevin_core::Prediction::Consistency), continuous-time ones on
/// [`TrigFlow`](langevin_core::process::TrigFlow) [`Prediction::EdmVelocity`](langevin_core::Prediction::EdmVelocity),
/// distilled flows [`Prediction::Flow`](langevin_core::Prediction::Flow).
///
/// ```
/// use langevin_core::{Grid, grid::End, process::Edm};
/// use langevin_schedulers::{Solver, consistency::Multistep};
/// let grid = Grid::karras(2, 7.0)?.ending(End::Range);
/// let plan = Multistep::new().ending_at(0.002)?.plan(&Edm::default(), &grid)?;
/// assert_eq!((plan.evaluations(), plan.rows()[1].draws.len()), (2, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2023, "Consistency models", algorithm 1; Lu & Song 2025, "Simplifying, stabilizing and scaling
/// continuous-time consistency models".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multistep {
    end: f64,
    factor: f64,
}

impl Default for Multistep {
    fn default() -> Self {
        Self { end: 0.0, factor: 1.0 }
    }
}

impl Multistep {
    /// For models whose answers are clean.
    pub fn new() -> Self {
        Self::default()
    }

    /// For models that end at the noise-to-signal ratio `s_min`: noise is added from there on, none below it.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn ending_at(mut self, s_min: f64) -> Result<Self, PlanError> {
        self.end = s_min;
        self.check()?;
        Ok(self)
    }

    /// Factor on the added noise; 1 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless finite and at least 0.
    pub fn noise(mut self, factor: f64) -> Result<Self, PlanError> {
        self.factor = factor;
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        for (setting, given) in [("the model's end", self.end), ("the noise factor", self.factor)] {
            if !(given >= 0.0 && given.is_finite()) {
                let expected = "a finite number, at least 0";
                return Err(PlanError::Setting { solver: NAME, setting, given, expected });
            }
        }
        Ok(())
    }

    fn row(&self, index: usize, stop: &Stop) -> Row {
        let to = stop.to.level;
        let s = ratio(&to);
        // s² − s_min², without cancelling; levels at the end by rounding are there.
        let square = if s <= self.end * (1.0 + 1e-6) { 0.0 } else { (s - self.end) * (s + self.end) };
        let std = self.factor * to.alpha * square.sqrt();
        let mut sum = vec![Term::new(to.alpha, Src::X0(0))];
        if std > 0.0 {
            sum.push(Term::new(std, Src::Z(0)));
        }
        Row::step(index, stop, 0, sum, (std > 0.0).then_some(Draw::WHITE))
    }
}

impl Solver for Multistep {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        let rows = stops.iter().enumerate().map(|(index, stop)| self.row(index, stop)).collect();
        Ok(Plan::new(NAME, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Coef;
    use langevin_core::grid::End;
    use langevin_core::process::{Edm, RectifiedFlow, TrigFlow};

    fn numbers(plan: &Plan, row: usize) -> Vec<f64> {
        let terms = plan.rows()[row].post[0].sum.iter();
        terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    /// Lines 4 and 5 of the paper's algorithm 1.
    #[test]
    fn noise_is_added_from_where_the_model_ends() {
        let solver = Multistep::new().ending_at(0.002).unwrap();
        let grid = Grid::times(vec![80.0, 24.4, 5.84, 0.9, 0.002]).unwrap();
        let plan = solver.plan(&Edm::default(), &grid).unwrap();
        for (row, tau) in [24.4f64, 5.84, 0.9].into_iter().enumerate() {
            let [of_x0, of_z] = numbers(&plan, row)[..] else { panic!("two terms") };
            assert_eq!(of_x0, 1.0);
            assert!((of_z - (tau * tau - 0.002 * 0.002).sqrt()).abs() < 1e-14 * tau);
        }
        assert_eq!(numbers(&plan, 3), [1.0]);
        assert!(plan.rows()[3].draws.is_empty());
        let louder = solver.noise(1.5).unwrap().plan(&Edm::default(), &grid).unwrap();
        assert!((numbers(&louder, 0)[1] - 1.5 * numbers(&plan, 0)[1]).abs() < 1e-12);
    }

    /// With clean answers a state has exactly the level's law given x̂_0.
    #[test]
    fn clean_answers_are_noised_to_the_level() {
        let (flow, circle) = (RectifiedFlow::new().shift(3.0).unwrap(), TrigFlow::new(0.5).unwrap());
        let processes: [&dyn Process; 2] = [&flow, &circle];
        for process in processes {
            let plan = Multistep::new().plan(process, &Grid::uniform(4).ending(End::Range)).unwrap();
            for (row, step) in plan.rows()[..3].iter().enumerate() {
                let level = step.after.level;
                let found = numbers(&plan, row);
                assert!((found[0] - level.alpha).abs() < 1e-15 && (found[1] - level.sigma).abs() < 1e-15);
            }
            assert_eq!(numbers(&plan, 3), [1.0]);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for given in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(Multistep::new().ending_at(given), Err(PlanError::Setting { .. })));
            assert!(matches!(Multistep::new().noise(given), Err(PlanError::Setting { .. })));
        }
    }

    #[test]
    fn data_is_not_noised_upwards() {
        let grid = Grid::uniform(4).ending(End::Range).inverted();
        let error = Multistep::new().plan(&RectifiedFlow::new(), &grid).unwrap_err();
        assert!(matches!(error, PlanError::Direction { expected: "falling", .. }), "{error}");
    }
}
