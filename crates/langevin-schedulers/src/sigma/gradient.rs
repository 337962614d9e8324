//! Gradient estimation: Euler's method with the change of the slope taken further.

use super::churn::{self, Churn};
use super::frame::{first_row, landing, length, walk};
use crate::ddpm::{check_direction, falls};
use crate::ode::check_joined;
use crate::plan::{Plan, Slot};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "gradient estimation";

/// Steps of Euler in σ/α with the slope `γ·ε̂ + (1 − γ)·ε̂_before`, which takes the change since the last step γ − 1 times
/// further. One evaluation a step.
///
/// Denoising is gradient descent on the squared distance to the data, and ε̂ an estimate of its gradient that has an error; the
/// combination cancels the part of the error that two steps share. As a solver of the probability flow its order is 1 for
/// every γ but 3/2, with which it is the method of Adams and Bashforth on equal steps. The first step, the one after pure
/// noise and a step to clean data are those of Euler.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::GradientEstimation};
/// let plan = GradientEstimation::new().plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert_eq!((plan.steps(), plan.evaluations()), (10, 10));
/// assert!(GradientEstimation::new().gamma(f64::NAN).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Permenter & Yuan 2024, "Interpreting and improving diffusion models from an optimization perspective", section 5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradientEstimation {
    gamma: f64,
    churn: Option<Churn>,
}

impl Default for GradientEstimation {
    fn default() -> Self {
        Self { gamma: 2.0, churn: None }
    }
}

impl GradientEstimation {
    /// With γ = 2, as in the paper.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another γ; 1 is [`Euler`](super::Euler).
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is finite and at least 1.
    pub fn gamma(mut self, gamma: f64) -> Result<Self, PlanError> {
        self.gamma = gamma;
        self.check()?;
        Ok(self)
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        if self.gamma >= 1.0 && self.gamma.is_finite() {
            return self.churn.iter().try_for_each(Churn::check);
        }
        let expected = "a finite number, at least 1";
        Err(PlanError::Setting { solver: NAME, setting: "gamma", given: self.gamma, expected })
    }
}

impl Solver for GradientEstimation {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.check()?;
        let (stops, steps) = walk(process, grid)?;
        check_direction(NAME, &stops, self.churn.is_some() || falls(&stops))?;
        check_joined(NAME, &stops)?;
        let mut rows = Vec::with_capacity(stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            let (slot, to) = ((index % 2) as Slot, &stop.to.level);
            // Out of clean data and pure noise, and into them, the last slope says nothing.
            let told = index > 0 && stops[index - 1].from.level.lambda().is_finite();
            let weight = (1.0 - self.gamma) * length(&start.level, to);
            let told = told && weight != 0.0 && weight.is_finite() && to.sigma > 0.0;
            let others = told.then_some((1 - slot, weight));
            rows.push(first_row(start, slot, Some((index, stop.to, landing(to, slot, others.as_slice())))));
        }
        let name = churn::name(format!("{NAME} (gamma {})", self.gamma), self.churn.as_ref());
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        churn::add(churn, (self, self.churn.is_some()), Self::churn, process, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Euler, Lms};
    use super::*;
    use crate::plan::HostAnswer;
    use langevin_core::Level;
    use langevin_core::grid::End;
    use langevin_core::noise::Injected;
    use langevin_core::process::{Edm, RectifiedFlow};

    fn denoise(x: f64, sigma: f64) -> f64 {
        0.3 * x + (0.4 * x + sigma).sin()
    }

    fn end(solver: &dyn Solver, times: &[f64]) -> f64 {
        let model = |x: &[f64], at: &Level| {
            let x0 = denoise(x[0], at.sigma);
            HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
        };
        let plan = solver.plan(&Edm::default(), &Grid::times(times.to_vec()).unwrap()).unwrap();
        plan.run_host(vec![7.0], 0, &Injected::new(), model).unwrap()[0]
    }

    /// The published lines, in σ.
    #[test]
    fn steps_are_the_published_ones() {
        let times = [10.0f64, 4.0, 1.5, 0.3];
        let (mut x, mut old) = (7.0, None);
        for pair in times.windows(2) {
            let (d, dt) = ((x - denoise(x, pair[0])) / pair[0], pair[1] - pair[0]);
            x += d * dt + old.map_or(0.0, |old: f64| (2.0 - 1.0) * (d - old) * dt);
            old = Some(d);
        }
        let found = end(&GradientEstimation::new(), &times);
        assert!((found - x).abs() < 1e-12, "{found} and {x}");
    }

    #[test]
    fn some_gammas_have_other_names() {
        let times = [10.0f64, 8.0, 6.0, 4.0, 2.0];
        let of = |gamma| end(&GradientEstimation::new().gamma(gamma).unwrap(), &times);
        assert!((of(1.0) - end(&Euler::new(), &times)).abs() < 1e-12);
        // On equal steps.
        assert!((of(1.5) - end(&Lms::new(2).unwrap(), &times)).abs() < 1e-12);
    }

    #[test]
    fn the_ends_are_steps_of_euler() {
        let (flow, grid) = (RectifiedFlow::new(), Grid::uniform(5).ending(End::Clean));
        let plan = GradientEstimation::new().plan(&flow, &grid).unwrap();
        let asks_back: Vec<bool> = plan.rows().iter().map(|row| row.post[0].sum.len() > 2).collect();
        assert_eq!(asks_back, [false, false, true, false]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for bad in [0.5, -1.0, f64::NAN, f64::INFINITY] {
            let error = GradientEstimation::new().gamma(bad).unwrap_err();
            assert!(matches!(error, PlanError::Setting { setting: "gamma", .. }), "{error}");
        }
    }
}
