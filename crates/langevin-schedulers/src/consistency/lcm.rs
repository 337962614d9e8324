//! Latent consistency models.

use crate::ddpm::check_direction;
use crate::plan::{Draw, Eval, Plan, Row, Set, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "LCM";

/// Multistep sampling of a latent consistency model: jump to clean data, add noise anew, jump again.
///
/// A jump from x at network time t is `f = c_out·x̂_0 + c_skip·x` with `c_skip = σ_d²/(τ² + σ_d²)`,
/// `c_out = τ/√(τ² + σ_d²)` and `τ = scale·t`, which is x itself at t = 0; the next state is `α·f + σ·z` at the next
/// level, and f at the end. Where networks are told times below 0, as EDM's `¼·ln σ`, t is the time of the process: x̂_0 would
/// be turned over.
///
/// ```
/// use langevin_core::{Grid, process::{Betas, DiscreteChain}};
/// use langevin_schedulers::{Solver, consistency::Lcm};
/// let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
/// let plan = Lcm::new().plan(&chain, &Grid::times(vec![999.0, 759.0, 499.0, 259.0])?)?;
/// assert_eq!((plan.steps(), plan.evaluations()), (4, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Luo et al. 2023, "Latent consistency models", algorithm 3 and appendix D; Song et al. 2023, "Consistency models",
/// algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lcm {
    scale: f64,
    sigma_data: f64,
}

impl Default for Lcm {
    fn default() -> Self {
        Self { scale: 10.0, sigma_data: 0.5 }
    }
}

impl Lcm {
    /// With the published boundary: time scaled by 10, σ_d = ½.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another boundary.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless both are positive and finite.
    pub fn boundary(mut self, scale: f64, sigma_data: f64) -> Result<Self, PlanError> {
        (self.scale, self.sigma_data) = (scale, sigma_data);
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        for (setting, given) in [("time scale", self.scale), ("sigma_data", self.sigma_data)] {
            if !(given > 0.0 && given.is_finite()) {
                return Err(PlanError::Setting { solver: NAME, setting, given, expected: "a positive number" });
            }
        }
        Ok(())
    }
}

impl Solver for Lcm {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        let told = process.network_time(process.time_range().0) >= 0.0;
        let time = |stop: &Stop| if told { stop.ask.time } else { stop.from.t };
        if let Some(negative) = stops.iter().map(time).find(|time| *time < 0.0) {
            let reason = "its jump is the state itself at time 0, and would turn samples over below; give the process, or the levels, \
                          times from 0 on, or take `consistency::Multistep`";
            let second = format!("a question at time {negative}");
            return Err(PlanError::Combination { first: NAME.into(), second, reason });
        }
        let row = |(index, stop): (usize, &Stop)| {
            let (time, data) = (self.scale * time(stop), self.sigma_data);
            let norm = time.hypot(data);
            let (skip, out) = ((data / norm).powi(2), time / norm);
            let jump = Set::new(1, [Term::new(out, Src::X0(0)), Term::new(skip, Src::X(0))]);
            let to = stop.to.level;
            // At the end of the grid the jump itself is the sample, wherever the grid ends.
            let last = index + 1 == stops.len();
            let next = if last {
                Set::new(0, [Term::new(1.0, Src::X(1))])
            } else {
                Set::new(0, [Term::new(to.alpha, Src::X(1)), Term::new(to.sigma, Src::Z(0))])
            };
            Row {
                draws: if last { vec![] } else { vec![Draw::WHITE] },
                pre: vec![],
                eval: Some(Eval { at: stop.ask, x: 0, into: 0 }),
                post: vec![jump, next],
                step: Some(index as u32),
                after: stop.to,
                report: vec![Term::new(1.0, Src::X(1))],
            }
        };
        let rows = stops.iter().enumerate().map(row).collect();
        Ok(Plan::new(NAME, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Coef;
    use langevin_core::Level;
    use langevin_core::process::{Betas, DiscreteChain, Edm};

    /// On every process x̂_0 has a weight above 0: EDM's networks are told times below 0.
    #[test]
    fn samples_are_not_turned_over() {
        let edm = Edm::default();
        let plan = Lcm::new().plan(&edm, &Grid::karras(8, 7.0).unwrap()).unwrap();
        let asked: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval).map(|eval| eval.at.time).collect();
        assert!(asked.last().is_some_and(|time| *time < 0.0), "{asked:?}");
        for row in plan.rows() {
            let sigma = 10.0 * row.eval.unwrap().at.sigma;
            let Coef::C(out) = row.post[0].sum[0].c else { panic!("a number") };
            assert!((out - sigma / sigma.hypot(0.5)).abs() < 1e-9, "{out} at {sigma}");
        }
        let level = |sigma: f64, time: f64| Level { alpha: 1.0, sigma, time };
        let grid = Grid::levels(vec![level(1.0, 3.0), level(0.5, -2.0), level(0.1, -3.0)]).unwrap();
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap();
        let error = Lcm::new().plan(&chain, &grid).unwrap_err().to_string();
        assert!(error.starts_with("LCM cannot be combined with a question at time -2"), "{error}");
    }

    #[test]
    fn jumps_keep_what_is_clean_and_steps_are_noised_anew() {
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap();
        let plan = Lcm::new().plan(&chain, &Grid::times(vec![999.0, 499.0, 0.0]).unwrap()).unwrap();
        let numbers = |row: usize, set: usize| -> Vec<f64> {
            let terms = plan.rows()[row].post[set].sum.iter();
            terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
        };
        let [out, skip] = numbers(0, 0)[..] else { panic!("two terms") };
        assert!((skip - 0.25 / (9990.0 * 9990.0 + 0.25)).abs() < 1e-18);
        assert!((out * out + skip - 1.0).abs() < 1e-12);
        let level = chain.level(499.0);
        assert_eq!(numbers(0, 1), [level.alpha, level.sigma]);
        // At time 0 a consistency function is the identity: x̂_0 has no weight.
        assert_eq!((numbers(2, 0), numbers(2, 1)), (vec![1.0], vec![1.0]));
        assert!(plan.rows()[2].draws.is_empty());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (scale, data) in [(0.0, 0.5), (10.0, -1.0), (f64::NAN, 0.5), (10.0, f64::INFINITY)] {
            assert!(matches!(Lcm::new().boundary(scale, data), Err(PlanError::Setting { .. })));
        }
    }
}
