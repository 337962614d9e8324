//! Improved pseudo linear multistep steps, which need no start.

use super::churn::{self, Churn};
use super::frame::{first_row, landing, length, walk};
use super::pndm::ADAMS;
use crate::ddpm::{check_direction, falls};
use crate::ode::check_joined;
use crate::plan::{Plan, Slot, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "iPNDM";

/// [`Pndm`](super::Pndm)'s steps from the first one on: as many slopes as there are, up to four, with constant
/// Adams-Bashforth weights. One evaluation a step, order 2 on smooth grids.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Solver, sigma::Ipndm};
/// let plan = Ipndm::new().plan(&VpSde::default(), &Grid::uniform(20))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (20, 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Zhang & Chen 2023, "Fast sampling of diffusion models with exponential integrator", appendix B; Liu et al. 2022.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipndm {
    churn: Option<Churn>,
    blank: bool,
}

impl Ipndm {
    /// Without churn.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }

    /// Takes x̂_0 = 0 in a step from pure noise, as diffusers does; the network's own x̂_0 otherwise.
    pub fn blank_start(mut self) -> Self {
        self.blank = true;
        self
    }
}

impl Solver for Ipndm {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let (stops, steps) = walk(process, grid)?;
        self.churn.iter().try_for_each(Churn::check)?;
        check_direction(NAME, &stops, self.churn.is_some() || falls(&stops))?;
        check_joined(NAME, &stops)?;
        let mut rows = Vec::with_capacity(stops.len());
        for (index, stop) in stops.iter().enumerate() {
            let start = churn::start(self.churn.as_ref(), NAME, process, stop, steps)?;
            let slot_of = |back: usize| ((index - back) % ADAMS.len()) as Slot;
            let (slot, level, to) = (slot_of(0), start.level, &stop.to.level);
            let sum = if level.alpha == 0.0 {
                let mut sum = landing(to, slot, &[]);
                sum.retain(|term| !(self.blank && matches!(term.of, Src::X0(_))));
                sum
            } else {
                let weights = ADAMS[(index + 1).min(ADAMS.len()) - 1];
                let h = length(&level, to);
                let others: Vec<(Slot, f64)> =
                    weights.iter().enumerate().skip(1).map(|(back, weight)| (slot_of(back), h * weight)).collect();
                landing(to, slot, &others)
            };
            let mut row = first_row(start, slot, Some((index, stop.to, sum)));
            if self.blank && level.alpha == 0.0 {
                row.report = vec![Term::new(0.0, Src::Eps(slot))];
            }
            rows.push(row);
        }
        let name = churn::name(NAME, self.churn.as_ref());
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        churn::add(churn, (self, self.churn.is_some()), Self::churn, process, grid)
    }
}
