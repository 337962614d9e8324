//! Restart sampling (Xu et al. 2023): noise on the path of a deterministic solver.

use super::pieces::Pieces;
use super::{number, rise};
use crate::plan::{Plan, Row};
use crate::solver::{PlanError, Solver};
use langevin_core::{Grid, Level, Node, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "Restart";

/// Restart around a deterministic solver: where the path leaves an interval of noise levels, it is raised to the interval's
/// noisy end again by the forward process, and integrated down once more, a few times.
///
/// Noise forgets the errors that were made before, as that of an SDE does; the ODE in between makes small ones. Levels are
/// ratios σ/α, which are the times of the paper.
///
/// ```
/// use langevin_core::{Grid, process::Edm};
/// use langevin_schedulers::{Heun, Restart, Solver};
/// // Once more from σ = 2 to σ = 0.5, and then three times from 0.3 to 0.06 in steps of its own.
/// let restart = Restart::around(Heun::new()).interval(0.5, 2.0, 1)?.interval_of_steps(0.06, 0.3, 3, 4)?;
/// let plan = restart.plan(&Edm::default(), &Grid::karras(18, 7.0)?)?;
/// assert!(plan.is_stochastic());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Xu et al. 2023, "Restart sampling for improving generative processes", algorithm 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart<S> {
    inner: S,
    intervals: Vec<Interval>,
}

/// An interval of noise levels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Interval {
    low: f64,
    high: f64,
    times: usize,
    /// Steps of its own; those of the grid if there are none.
    steps: Option<usize>,
}

/// ρ of the steps inside an interval that has its own.
const RHO: f64 = 7.0;

impl<S> Restart<S> {
    /// Without intervals, which is the solver itself.
    pub fn around(inner: S) -> Self {
        Self { inner, intervals: Vec::new() }
    }

    /// Restarts `times` times from the noise level `high` once `low` is reached, over the grid's own steps. Both are ratios
    /// σ/α, and count as the nodes of the grid that are nearest in their logarithms.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `0 < low < high < ∞` and `times` is at least 1.
    pub fn interval(mut self, low: f64, high: f64, times: usize) -> Result<Self, PlanError> {
        self.intervals.push(Interval { low, high, times, steps: None });
        self.check()?;
        Ok(self)
    }

    /// As [`interval`](Self::interval), in `steps` steps from exactly `high` to the node nearest to `low`, spaced as on
    /// [`Grid::karras`] with ρ = 7: what the paper does.
    ///
    /// # Errors
    /// As [`interval`](Self::interval), and [`PlanError::Setting`] for no steps.
    pub fn interval_of_steps(mut self, low: f64, high: f64, times: usize, steps: usize) -> Result<Self, PlanError> {
        self.intervals.push(Interval { low, high, times, steps: Some(steps) });
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        for Interval { low, high, times, steps } in &self.intervals {
            let bad = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
            if !(*low > 0.0 && low.is_finite()) {
                return bad("low level", *low, "a ratio σ/α above 0");
            }
            if !(*high > *low && high.is_finite()) {
                return bad("high level", *high, "a ratio σ/α above the low one");
            }
            if *times == 0 {
                return bad("number of restarts", 0.0, "1 or more");
            }
            if *steps == Some(0) {
                return bad("number of steps", 0.0, "1 or more");
            }
        }
        Ok(())
    }
}

fn ratio(node: &Node) -> f64 {
    node.level.sigma / node.level.alpha
}

/// The node whose noise level is nearest, in the logarithm.
fn nearest(nodes: &[Node], level: f64) -> Option<usize> {
    let distance = |index: &usize| (libm::log(ratio(&nodes[*index])) - libm::log(level)).abs();
    let regular = (0..nodes.len()).filter(|index| distance(index).is_finite());
    regular.min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// An interval on a grid: the node where it ends, and the way to come down again.
struct Way {
    end: usize,
    times: usize,
    start: Node,
    rows: Vec<Row>,
}

impl<S: Solver> Restart<S> {
    fn way(&self, pieces: &mut Pieces<'_>, process: &dyn Process, interval: &Interval) -> Result<Way, PlanError> {
        let nodes = pieces.nodes().to_vec();
        let found = (nearest(&nodes, interval.low), nearest(&nodes, interval.high));
        let (Some(end), Some(start)) = found else {
            return Err(pieces.refuse("this grid", "none of its nodes has both data and noise"));
        };
        let Some(steps) = interval.steps else {
            if start >= end {
                let reason = "no step of the grid lies inside the interval; take more steps, a wider interval, or one with \
                              steps of its own (`interval_of_steps`)";
                return Err(pieces.refuse(&format!("the interval from {} to {}", interval.low, interval.high), reason));
            }
            return Ok(Way { end, times: interval.times, start: nodes[start], rows: pieces.rows(start, end)? });
        };
        let (low, high) = (ratio(&nodes[end]), interval.high);
        if !(high > low) {
            let reason = "the node nearest to its low end is above its high end; take more steps there";
            return Err(pieces.refuse(&format!("the interval from {} to {}", interval.low, interval.high), reason));
        }
        let (noisy, clean) = (high.powf(1.0 / RHO), low.powf(1.0 / RHO));
        let mut levels = Vec::with_capacity(steps + 1);
        for i in 0..steps {
            let ratio = (noisy + (clean - noisy) * i as f64 / steps as f64).powf(RHO);
            levels.push(process.node(process.time_at_lambda(-libm::log(ratio))?));
        }
        let start = levels[0];
        let levels: Vec<Level> = levels.iter().map(|node| node.level).chain([nodes[end].level]).collect();
        let grid = Grid::levels(levels)?.ending(langevin_core::grid::End::Range);
        let plan = self.inner.plan(process, &grid)?;
        let mut rows = plan.rows().to_vec();
        if let Some(last) = rows.last_mut() {
            last.after = nodes[end];
        }
        Ok(Way { end, times: interval.times, start, rows })
    }
}

impl<S: Solver> Solver for Restart<S> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        // Deserialized settings have not been checked yet.
        self.check()?;
        let mut pieces = Pieces::of(NAME, &self.inner, process, grid)?;
        if pieces.whole().is_stochastic() {
            let reason = "it adds its own noise to a deterministic path; take a solver without noise";
            return Err(pieces.refuse(pieces.whole().name(), reason));
        }
        let mut ways = Vec::new();
        for interval in &self.intervals {
            ways.push(self.way(&mut pieces, process, interval)?);
        }
        // From noisy to clean; intervals that end at one node in the order in which they were given.
        ways.sort_by_key(|way| way.end);
        let nodes = pieces.nodes().to_vec();
        let (mut rows, mut at) = (Vec::new(), 0);
        for way in &ways {
            if way.end > at {
                rows.append(&mut pieces.rows(at, way.end)?);
                at = way.end;
            }
            for _ in 0..way.times {
                rows.push(rise(NAME, (&nodes[at].level, &way.start.level), way.start, 0)?);
                rows.extend_from_slice(&way.rows);
            }
        }
        let last = nodes.len() - 1;
        if at < last {
            rows.append(&mut pieces.rows(at, last)?);
        }
        number(&mut rows);
        let whole = pieces.whole();
        let times: usize = self.intervals.iter().map(|interval| interval.times).sum();
        let name = format!("{NAME} around {} ({times} restarts)", whole.name());
        Ok(Plan::new(name, whole.start_node(), whole.prior_deviation(), rows)?.on(process).split_as(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Src, Term};
    use crate::{Ddim, Ddpm, DpmSolver, Heun};
    use langevin_core::process::{Betas, DiscreteChain, Edm, RectifiedFlow, VpSde};

    fn restart<S>(inner: S) -> Restart<S> {
        Restart::around(inner).interval(0.5, 2.0, 2).expect("an interval")
    }

    /// Levels after each step.
    fn ratios(plan: &Plan) -> Vec<f64> {
        plan.rows().iter().filter(|row| row.step.is_some()).map(|row| ratio(&row.after)).collect()
    }

    #[test]
    fn the_path_goes_down_up_and_down_again() {
        let edm = Edm::default();
        let levels: Vec<Level> =
            [4.0, 2.0, 1.0, 0.5, 0.25].map(|sigma| Level { alpha: 1.0, sigma, time: sigma }).to_vec();
        let grid = Grid::levels(levels).expect("rising λ");
        let plan = restart(Ddim::new()).plan(&edm, &grid).expect("a plan");
        assert_eq!(ratios(&plan), [2.0, 1.0, 0.5, 2.0, 1.0, 0.5, 2.0, 1.0, 0.5, 0.25]);
        // The rise of the paper: √(t_max² − t_min²).
        let rise = &plan.rows()[3];
        assert!(rise.eval.is_none());
        assert_eq!(rise.post[0].sum[0], Term::new(1.0, Src::X(0)));
        let crate::plan::Coef::C(std) = rise.post[0].sum[1].c else { panic!("a number") };
        assert!((std - (4.0f64 - 0.25).sqrt()).abs() < 1e-14);
        // Steps of its own: from exactly the high level.
        let own = Restart::around(Heun::new()).interval_of_steps(0.45, 1.5, 1, 3).expect("an interval");
        let found = ratios(&own.plan(&edm, &grid).expect("a plan"));
        assert_eq!(found.len(), 3 + 1 + 3 + 1);
        assert!((found[3] - 1.5).abs() < 1e-12 && found[6] == 0.5, "{found:?}");
        let third = (1.5f64.powf(1.0 / 7.0) * 2.0 / 3.0 + 0.5f64.powf(1.0 / 7.0) / 3.0).powi(7);
        assert!((found[4] - third).abs() < 1e-12);
    }

    /// Multistep solvers begin anew after a rise: what they remember is of another path.
    #[test]
    fn memories_end_where_a_restart_begins() {
        let vp = VpSde::default();
        let multi = DpmSolver::multistep(2).expect("an order");
        let plan = restart(multi).plan(&vp, &Grid::uniform_lambda(20)).expect("a plan");
        let rises: Vec<usize> = (0..plan.rows().len()).filter(|row| plan.rows()[*row].eval.is_none()).collect();
        assert_eq!(rises.len(), 2);
        for rise in rises {
            let slots =
                |row: usize| plan.rows()[row].post[0].sum.iter().filter(|term| matches!(term.of, Src::X0(_))).count();
            assert_eq!((slots(rise + 1), slots(rise + 2)), (1, 2));
        }
    }

    #[test]
    fn every_process_takes_restarts() {
        let chain = DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain");
        let on: [(&dyn Process, Grid); 3] = [
            (&chain, Grid::leading(20)),
            (&RectifiedFlow::new(), Grid::uniform(20)),
            (&Edm::default(), Grid::karras(20, 7.0).expect("in range")),
        ];
        for (process, grid) in on {
            let own = restart(Heun::new()).interval_of_steps(0.1, 0.4, 3, 4).expect("an interval");
            let plan = own.plan(process, &grid).expect("a plan");
            assert_eq!(plan.rows().iter().filter(|row| row.eval.is_none() && row.step.is_some()).count(), 5);
        }
    }

    #[test]
    fn settings_and_solvers_that_do_not_fit_are_refused() {
        for (low, high, times) in [
            (0.0, 1.0, 1),
            (-1.0, 1.0, 1),
            (f64::NAN, 1.0, 1),
            (1.0, 1.0, 1),
            (1.0, f64::INFINITY, 1),
            (0.5, f64::NAN, 1),
            (0.5, 1.0, 0),
        ] {
            let error = Restart::around(Ddim::new()).interval(low, high, times).expect_err("out of range");
            assert!(matches!(error, PlanError::Setting { solver: NAME, .. }), "{error}");
        }
        assert!(Restart::around(Ddim::new()).interval_of_steps(0.5, 1.0, 1, 0).is_err());
        let vp = VpSde::default();
        let error = restart(Ddpm::new()).plan(&vp, &Grid::uniform(20)).expect_err("noise");
        assert!(error.to_string().contains("a solver without noise"), "{error}");
        let narrow = Restart::around(Ddim::new()).interval(1.0, 1.01, 1).expect("an interval");
        let error = narrow.plan(&vp, &Grid::uniform(4)).expect_err("one node for both ends");
        assert!(error.to_string().contains("no step of the grid lies inside"), "{error}");
    }
}
