//! The churn of FlowMatchHeunDiscreteScheduler, on the flow and as published.

use crate::ddpm::check_direction;
use crate::ode::check_joined;
use crate::plan::{Draw, Eval, Plan, Row, Set, Src, Term};
use crate::sigma::{Churn, ask_at_arrival};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Process};

const NAME: &str = "FlowMatchHeunDiscreteScheduler's churn";

/// Churn as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FlowChurn {
    /// As the original takes it.
    published: Churn,
    /// In σ/α.
    on_the_flow: Churn,
}

impl FlowChurn {
    pub fn new(amount: f64, (low, high): (f64, f64), noise: f64) -> Result<Self, PlanError> {
        let published = Churn::new(amount)?.between(low, high)?.noise(noise)?;
        let ratio = |sigma: f64| if sigma < 1.0 { sigma / (1.0 - sigma) } else { f64::INFINITY };
        // Pure noise is not raised, so that from σ = 1 on there is nothing to do.
        let on_the_flow = match ratio(low) {
            low if low.is_finite() => Churn::new(amount)?.between(low, ratio(high))?.noise(noise)?,
            _ => Churn::new(0.0)?,
        };
        Ok(Self { published, on_the_flow })
    }

    /// Around [`flow::Heun`](crate::flow::Heun) by [`Churned`](crate::sigma::Churned).
    pub fn along_the_flow(self) -> Churn {
        self.on_the_flow
    }

    pub fn published(self) -> RaisedHeun {
        RaisedHeun { churn: self.published }
    }
}

/// [`flow::Heun`](crate::flow::Heun) with noise as the original adds it.
///
/// The state is raised as if its data had factor 1 at every level, as EDM's has, where a flow's has 1 − σ; and the network is asked
/// before that, so that the step takes none of the noise away. Data that is one number c is not found: at the last step
/// the noise stays. `Churned` around `flow::Heun` raises along the flow and asks about what it has raised.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RaisedHeun {
    churn: Churn,
}

impl RaisedHeun {
    /// The rows of a step; `listed` is how many sigmas the original lists, less one.
    fn rows(&self, stops: &[Stop], index: usize, listed: usize) -> Vec<Row> {
        let stop = &stops[index];
        let (sigma, to) = (stop.from.level.sigma, stop.to);
        let rise = self.churn.rise(&Level { alpha: 1.0, ..stop.from.level }, listed);
        let (raised, std) = rise.map_or((sigma, 0.0), |rise| (rise.ratio, rise.std));
        let step = to.level.sigma - raised;
        // A velocity is ε̂ − x̂_0; the first one is divided by the raised σ, though it was found at σ.
        let along = |slot: u8, factor: f64| [Term::new(factor, Src::Eps(slot)), Term::new(-factor, Src::X0(slot))];
        let first = step * sigma / raised;
        let noisy = [Term::new(1.0, Src::X(0)), Term::new(std, Src::Z(0))];
        let mut row = Row {
            draws: if std > 0.0 { vec![Draw::WHITE] } else { vec![] },
            pre: vec![],
            eval: Some(Eval { at: stop.ask, x: 0, into: 0 }),
            post: vec![Set::new(1, noisy)],
            step: None,
            after: to,
            report: vec![],
        };
        let from_raised = |terms: &[[Term; 2]]| [&[Term::new(1.0, Src::X(1))], terms.as_flattened()].concat();
        if to.level.sigma == 0.0 {
            row.post.push(Set::new(0, from_raised(&[along(0, first)])));
            (row.step, row.report) = (Some(index as u32), vec![Term::new(1.0, Src::X0(0))]);
            return vec![row];
        }
        row.post.push(Set::new(2, from_raised(&[along(0, first)])));
        let second = Row {
            draws: vec![],
            pre: vec![],
            eval: Some(Eval { at: ask_at_arrival(stops, index), x: 2, into: 1 }),
            post: vec![Set::new(0, from_raised(&[along(0, 0.5 * first), along(1, 0.5 * step)]))],
            step: Some(index as u32),
            after: to,
            report: vec![Term::new(1.0, Src::X0(1))],
        };
        vec![row, second]
    }
}

impl Solver for RaisedHeun {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        check_joined(NAME, &stops)?;
        let listed = 2 * grid.clone().starting_at(0).stops(process)?.len() - 1;
        let rows = (0..stops.len()).flat_map(|index| self.rows(&stops, index, listed)).collect();
        Ok(Plan::new(NAME, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}
