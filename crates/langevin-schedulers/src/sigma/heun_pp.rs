//! Heun++, steps that look one level further than they go.

use super::churn::{self, Churn};
use super::frame::{finish, first_row, inner_row, is_plain, landing, length, walk};
use crate::ddpm::{check_direction, ratio};
use crate::ode::check_joined;
use crate::plan::{Plan, Row, Slot, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "Heun++";

/// Steps of Euler whose slope is a mean over the levels ahead: the state is carried on to the end of the step and to the end
/// of the next, and the slopes ε̂ found there are weighed by how noisy those levels are. Up to three evaluations a step.
///
/// With `s = σ/α`, the grid's first s_0 and the levels s, s', s'' ahead, the slope is
/// `(1 − w' − w'')·ε̂ + w'·ε̂' + w''·ε̂''` with `w' = s'/(3·s_0)` and `w'' = s''/(3·s_0)`. In the last step but one it is
/// `(1 − w')·ε̂ + w'·ε̂'` with `w' = s'/(2·s_0)`, in the last ε̂. The weights are no quadrature: they favor the slopes ahead in
/// the noisy part, and the order is 1 whatever the steps ahead cost. [`Heun`](super::Heun) has order 2 for fewer.
///
/// From pure noise the weights are 0 all along, and the steps are those of Euler. Grids have to fall.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Solver, sigma::HeunPp};
/// let plan = HeunPp::new().plan(&Edm::default(), &Grid::karras(10, 7.0)?)?;
/// assert_eq!((plan.steps(), plan.evaluations()), (10, 8 * 3 + 2 + 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Published as `heunpp2` by its author (Carzit, "sd-webui-samplers-scheduler") and in ComfyUI, without a paper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeunPp {
    churn: Option<Churn>,
}

impl HeunPp {
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

impl Solver for HeunPp {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let (stops, steps) = walk(process, grid)?;
        self.churn.iter().try_for_each(Churn::check)?;
        check_direction(NAME, &stops, true)?;
        check_joined(NAME, &stops)?;
        let first = ratio(&stops[0].from.level);
        let mut rows: Vec<Row> = Vec::with_capacity(3 * stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            let (level, to) = (start.level, stop.to);
            // The levels ahead, as far as a slope is asked for there: not at the end of the grid.
            let plain = is_plain(&level, &to.level) || !first.is_finite();
            let ahead: &[Stop] = if plain { &[] } else { &stops[index + 1..stops.len().min(index + 3)] };
            let count = (ahead.len() + 1) as f64;
            let weight = |at: f64| at / (count * first) * length(&level, &to.level);
            let others: Vec<(Slot, f64)> =
                ahead.iter().enumerate().map(|(k, at)| (k as Slot + 1, weight(ratio(&at.from.level)))).collect();
            let sum: Vec<Term> = landing(&to.level, 0, &others);
            if ahead.is_empty() {
                rows.push(first_row(start, 0, Some((index, to, sum))));
                continue;
            }
            rows.push(first_row(start, 0, None));
            for (k, at) in ahead.iter().enumerate() {
                rows.push(inner_row(at.from, at.ask, landing(&at.from.level, k as Slot, &[]), k as Slot + 1));
            }
            if let Some(last) = rows.pop() {
                rows.push(finish(last, index, to, sum));
            }
        }
        let name = churn::name(NAME, self.churn.as_ref());
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
    use langevin_core::process::Edm;

    /// The published lines, in σ.
    #[test]
    fn steps_are_the_published_ones() {
        let denoise = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
        let model = |x: &[f64], at: &Level| {
            let x0 = denoise(x[0], at.sigma);
            HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
        };
        let slope = |x: f64, sigma: f64| (x - denoise(x, sigma)) / sigma;
        let s = [10.0f64, 6.0, 4.0, 1.5, 0.3];
        let mut x = 7.0;
        for i in 0..4 {
            let (d, dt) = (slope(x, s[i]), s[i + 1] - s[i]);
            let d_prime = match i {
                3 => d,
                2 => {
                    let w2 = s[3] / (2.0 * s[0]);
                    (1.0 - w2) * d + w2 * slope(x + d * dt, s[3])
                }
                _ => {
                    let x2 = x + d * dt;
                    let d2 = slope(x2, s[i + 1]);
                    let d3 = slope(x2 + d2 * (s[i + 2] - s[i + 1]), s[i + 2]);
                    let (w2, w3) = (s[i + 1] / (3.0 * s[0]), s[i + 2] / (3.0 * s[0]));
                    (1.0 - w2 - w3) * d + w2 * d2 + w3 * d3
                }
            };
            x += d_prime * dt;
        }
        let plan = HeunPp::new().plan(&Edm::default(), &Grid::times(s.to_vec()).unwrap()).unwrap();
        let found = plan.run_host(vec![7.0], 0, &Injected::new(), model).unwrap();
        assert!((found[0] - x).abs() < 1e-12, "{} and {x}", found[0]);
        assert_eq!(plan.evaluations(), 3 + 3 + 2 + 1);
    }

    /// From pure noise s_0 is infinite, and the slopes ahead weigh nothing.
    #[test]
    fn from_pure_noise_it_is_euler() {
        let (flow, grid) = (langevin_core::process::RectifiedFlow::new(), Grid::uniform(6));
        let (plan, euler) =
            (HeunPp::new().plan(&flow, &grid).unwrap(), super::super::Euler::new().plan(&flow, &grid).unwrap());
        assert_eq!(plan.rows(), euler.rows());
    }
}
