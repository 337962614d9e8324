//! Heun's method in σ/(α + σ).

use crate::ddpm::{check_direction, falls};
use crate::ode::check_joined;
use crate::plan::{Plan, Row, Src, Term};
use crate::sigma::{Churn, ask_at_arrival, finish, first_row, inner_row, landing, plan_raised, still};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "flow Heun";

/// Heun's method for `dz/du = ε̂ − x̂_0` in `z = x/(α + σ)` over `u = σ/(α + σ)`: a step of Euler, then the same step with
/// the mean of the slopes at both ends. Two evaluations a step, order 2.
///
/// On the [rectified flow](langevin_core::process::RectifiedFlow) it is Heun's method for the flow's own velocity, with
/// any shift. It leaves pure noise as any other level; a step to σ = 0, where few networks are asked, is one of Euler.
/// A grid that rises encodes data to noise; its first step from σ = 0 is one of Euler. With
/// [`Churned`](crate::sigma::Churned) around it each step begins at a raised level, on every process.
///
/// ```
/// use langevin_core::{Grid, grid::End, process::RectifiedFlow};
/// use langevin_schedulers::{Solver, flow::Heun};
/// let flow = RectifiedFlow::new().shift(3.0)?;
/// let plan = Heun::new().plan(&flow, &Grid::uniform(8).ending(End::Range))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (8, 15));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Hairer, Nørsett & Wanner, "Solving ordinary differential equations I", II.1; Liu et al. 2022, "Flow straight and fast".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heun {}

impl Heun {
    /// The method has no settings.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Position u of a level between data and noise.
fn position(level: &Level) -> f64 {
    level.sigma / (level.alpha + level.sigma)
}

/// The state at `to` after half a step with the slope of slot 0 and half with that of slot 1.
fn mean_of_slopes(from: &Level, to: &Level) -> Vec<Term> {
    let half = 0.5 * (to.alpha + to.sigma) * (position(to) - position(from));
    vec![
        Term::new(to.alpha + half, Src::X0(0)),
        Term::new(to.sigma - half, Src::Eps(0)),
        Term::new(-half, Src::X0(1)),
        Term::new(half, Src::Eps(1)),
    ]
}

impl Heun {
    /// Name and rows of the plan for these steps.
    fn table(self, stops: &[Stop]) -> (String, Vec<Row>) {
        let mut rows = Vec::with_capacity(2 * stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let (from, to) = (&stop.from.level, &stop.to.level);
            let euler = landing(to, 0, &[]);
            if from.sigma == 0.0 || to.sigma == 0.0 {
                rows.push(first_row(still(stop), 0, Some((index, stop.to, euler))));
                continue;
            }
            rows.push(first_row(still(stop), 0, None));
            let second = inner_row(stop.to, ask_at_arrival(stops, index), euler, 1);
            rows.push(finish(second, index, stop.to, mean_of_slopes(from, to)));
        }
        ("Heun in σ/(α+σ)".into(), rows)
    }
}

impl Solver for Heun {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, falls(&stops))?;
        check_joined(NAME, &stops)?;
        let (name, rows) = self.table(&stops);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        plan_raised(churn, NAME, process, grid, |stops| Ok(self.table(stops)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HostAnswer;
    use langevin_core::grid::End;
    use langevin_core::noise::Injected;
    use langevin_core::process::RectifiedFlow;
    use langevin_core::{Level, Prediction};

    /// On the flow: the trapezoidal rule for its velocity, whatever the shift of the grid.
    #[test]
    fn steps_are_those_of_the_velocity() {
        let velocity = |x: f64, u: f64| 0.4 * x + (0.7 * x - 2.0 * u).sin();
        let model = |x: &[f64], at: &Level| {
            let v = velocity(x[0], at.sigma);
            let (of_x0, of_eps) = (Prediction::Flow.x0(at).unwrap(), Prediction::Flow.eps(at).unwrap());
            HostAnswer {
                x0: vec![of_x0.x * x[0] + of_x0.output * v],
                eps: vec![of_eps.x * x[0] + of_eps.output * v],
                variance: None,
            }
        };
        for shift in [1.0, 3.0] {
            let flow = RectifiedFlow::new().shift(shift).unwrap();
            let plan = Heun::new().plan(&flow, &Grid::uniform(5).ending(End::Range)).unwrap();
            let found = plan.run_host(vec![0.8], 0, &Injected::new(), model).unwrap()[0];
            let mut x = 0.8;
            for i in (0..5).rev() {
                let (u, next) = (flow.sigma(f64::from(i + 1) / 5.0), flow.sigma(f64::from(i) / 5.0));
                let slope = velocity(x, u);
                let other = if next > 0.0 { velocity(x + (next - u) * slope, next) } else { slope };
                x += 0.5 * (next - u) * (slope + other);
            }
            assert!((found - x).abs() < 1e-12, "shift {shift}: {found} and {x}");
        }
    }

    /// Pure noise is left with two evaluations, clean data reached with one; upwards the same from the other side.
    #[test]
    fn only_clean_data_is_plain() {
        let grid = Grid::uniform(5).ending(End::Range);
        let ends = |grid: &Grid| -> Vec<bool> {
            let plan = Heun::new().plan(&RectifiedFlow::new(), grid).unwrap();
            plan.rows().iter().map(|row| row.step.is_some()).collect()
        };
        assert_eq!(ends(&grid), [false, true, false, true, false, true, false, true, true]);
        assert_eq!(ends(&grid.inverted()), [true, false, true, false, true, false, true, false, true]);
    }
}
