//! Heun's method in σ/α.

use super::churn::{self, Churn};
use super::frame::{ask_at_arrival, finish, first_row, inner_row, is_plain, landing, length, walk};
use crate::ddpm::{check_direction, falls};
use crate::ode::check_joined;
use crate::plan::Plan;
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "Heun";

/// Heun's method for `d(x/α) = ε̂ d(σ/α)`: a step of Euler, then the same step with the mean of the slopes at both ends.
/// Two evaluations a step, order 2.
///
/// A step to σ = 0 or from α = 0 (infinite σ/α), where there is no second slope, is one of Euler. With
/// [churn](Churn) it is the stochastic sampler of Karras et al.
///
/// This is not [`ProbabilityFlow::heun`](crate::ProbabilityFlow::heun), which takes its steps in the process's time.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::Heun};
/// let plan = Heun::new().plan(&Edm::default(), &Grid::karras(18, 7.0)?)?;
/// assert_eq!((plan.steps(), plan.evaluations()), (18, 35));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", algorithms 1 and 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heun {
    churn: Option<Churn>,
}

impl Heun {
    /// Without churn.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }
}

impl Solver for Heun {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let (stops, steps) = walk(process, grid)?;
        self.churn.iter().try_for_each(Churn::check)?;
        check_direction(NAME, &stops, self.churn.is_some() || falls(&stops))?;
        check_joined(NAME, &stops)?;
        let mut rows = Vec::with_capacity(2 * stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            let (level, to) = (start.level, &stop.to.level);
            let euler = landing(to, 0, &[]);
            if is_plain(&level, to) {
                rows.push(first_row(start, 0, Some((index, stop.to, euler))));
                continue;
            }
            rows.push(first_row(start, 0, None));
            let second = inner_row(stop.to, ask_at_arrival(&stops, index), euler, 1);
            let sum = landing(to, 0, &[(1, 0.5 * length(&level, to))]);
            rows.push(finish(second, index, stop.to, sum));
        }
        let name = churn::name(format!("{NAME} in σ/α"), self.churn.as_ref());
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        churn::add(churn, (self, self.churn.is_some()), Self::churn, process, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HostAnswer;
    use langevin_core::Level;
    use langevin_core::noise::Injected;
    use langevin_core::process::{Edm, RectifiedFlow};

    /// Algorithm 1 of Karras et al. in its own symbols.
    #[test]
    fn steps_are_those_of_the_paper() {
        let edm = Edm::default();
        let denoise = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
        let times = [10.0, 4.0, 1.5, 0.3];
        let plan = Heun::new().plan(&edm, &Grid::times(times.to_vec()).unwrap()).unwrap();
        let model = |x: &[f64], at: &Level| {
            let x0 = denoise(x[0], at.sigma);
            HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
        };
        let found = plan.run_host(vec![7.0], 0, &Injected::new(), model).unwrap();
        let mut x = 7.0;
        for pair in times.windows(2) {
            let (t, next) = (pair[0], pair[1]);
            let d = (x - denoise(x, t)) / t;
            let euler = x + (next - t) * d;
            let other = (euler - denoise(euler, next)) / next;
            x += (next - t) * 0.5 * (d + other);
        }
        assert!((found[0] - x).abs() < 1e-12, "{} and {x}", found[0]);
    }

    /// Pure noise and clean data cost one evaluation each.
    #[test]
    fn the_ends_are_steps_of_euler() {
        let flow = RectifiedFlow::new();
        let grid = Grid::uniform(5).ending(langevin_core::grid::End::Clean);
        let plan = Heun::new().plan(&flow, &grid).unwrap();
        let asked: Vec<bool> = plan.rows().iter().map(|row| row.step.is_some()).collect();
        assert_eq!(plan.start_node().level.alpha, 0.0);
        assert!(asked[0] && !asked[1]);
        assert_eq!(plan.evaluations(), 2 * plan.steps() - 2);
    }
}
