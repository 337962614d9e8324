//! What a planning solver implements.

use crate::plan::{Plan, TableError};
use crate::sigma::{Churn, already_noisy};
use langevin_core::inverse::InverseError;
use langevin_core::process::DiscreteChain;
use langevin_core::{Grid, GridError, Node, PredictionError, Process, ProcessError};

/// A solver that is linear in states, estimates and noises: it turns a process and a grid into a [`Plan`].
pub trait Solver {
    /// Makes the table.
    ///
    /// # Errors
    /// [`PlanError`] for settings out of range, grids the solver cannot walk, and singular levels.
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError>;

    /// Makes the table with [`Churn`] before each step, for [`Churned`](crate::sigma::Churned). By default a solver cannot.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); [`PlanError::Combination`] if the solver draws noise of its own, or does not raise steps.
    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let plan = self.plan(process, grid)?;
        if plan.is_stochastic() {
            return already_noisy(churn, plan.name());
        }
        Err(PlanError::Combination {
            first: churn.to_string(),
            second: plan.name().into(),
            reason: "the solver does not know how to step from a raised level; it would have to say so by `Solver::churned`",
        })
    }
}

/// Standard deviation of the noise that a plan from `start` begins with: the process's own at the noisy end of its
/// range, less in the ratio of σ where the grid begins later. Chains begin with their own everywhere.
pub fn prior_std(process: &dyn Process, start: &Node) -> f64 {
    let noisy = process.time_range().1;
    if start.t == noisy || process.chain().is_some() || !(start.level.sigma > 0.0) {
        return process.prior_std();
    }
    process.prior_std() * start.level.sigma / process.sigma(noisy)
}

/// Whether a process is a chain whose last step is pure noise.
pub(crate) fn has_zero_terminal_snr(process: &dyn Process) -> bool {
    process.chain().is_some_and(DiscreteChain::has_zero_terminal_snr)
}

/// Why a solver cannot plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The grid cannot be laid on the process.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The process cannot answer.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A conversion is singular.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// The rows do not make a table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// An operator or a measurement does not fit the method.
    #[error(transparent)]
    Inverse(#[from] InverseError),
    /// A setting is out of range.
    #[error("{setting} of {solver} is {given}, expected {expected}")]
    Setting {
        /// The solver.
        solver: &'static str,
        /// The setting.
        setting: &'static str,
        /// Its value.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// Two parts that do not go together.
    #[error("{first} cannot be combined with {second}: {reason}")]
    Combination {
        /// One part.
        first: String,
        /// The other.
        second: String,
        /// Why they do not.
        reason: &'static str,
    },
    /// The levels run the wrong way.
    #[error(
        "{solver} needs {expected} noise levels, but step {step} goes from σ/α = {from} to σ/α = {to}: check the order of \
         the grid; only solvers without noise run upwards, on a grid that is `.inverted()`"
    )]
    Direction {
        /// The solver.
        solver: &'static str,
        /// "falling" or "rising".
        expected: &'static str,
        /// The step.
        step: usize,
        /// σ/α before.
        from: f64,
        /// σ/α after.
        to: f64,
    },
    /// A time that the solver has to visit lies outside the process's range.
    #[error(
        "{solver} has to visit t = {t}, but the process is defined on [{clean}, {noisy}]; stay inside, for instance with `.ending(End::Range)`"
    )]
    TimeRange {
        /// The solver.
        solver: &'static str,
        /// The time.
        t: f64,
        /// Clean end of the range.
        clean: f64,
        /// Noisy end of the range.
        noisy: f64,
    },
    /// A step does not start where the one before ended.
    #[error(
        "{solver} integrates without gaps, but step {step} of the grid ends at t = {reached} and the next starts at {next}; use a grid whose steps join: one without `.strided()`, such as leading or uniform spacing"
    )]
    Gap {
        /// The solver.
        solver: &'static str,
        /// The step before the gap.
        step: usize,
        /// Where it ends.
        reached: f64,
        /// Where the next starts.
        next: f64,
    },
    /// A step is so long that the method multiplies the state by a number far from that of the equation.
    #[error(
        "{solver} multiplies the state by {factor} in step {step}, from t = {from} to t = {to}, where {limit} is the limit: \
         noise that grows so in one step never leaves again; take more steps there, or leave the noisiest levels out with \
         `Grid::between` (on grids of whole steps `.starting_at`)"
    )]
    StepTooLong {
        /// The solver.
        solver: &'static str,
        /// The step.
        step: usize,
        /// Where it begins.
        from: f64,
        /// Where it ends.
        to: f64,
        /// What the state is multiplied by.
        factor: f64,
        /// The largest factor that is accepted.
        limit: f64,
    },
    /// The solver divides by something that is zero at a level.
    #[error("{solver} is singular at t = {t} (α = {alpha}, σ = {sigma}): {advice}")]
    Singular {
        /// The solver.
        solver: &'static str,
        /// Process time.
        t: f64,
        /// α there.
        alpha: f64,
        /// σ there.
        sigma: f64,
        /// What to do.
        advice: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ddim;
    use langevin_core::process::{Betas, DiscreteChain, Edm, VpSde};

    fn prior(process: &dyn Process, grid: Grid) -> f64 {
        Ddim::new().plan(process, &grid).expect("a plan").prior_deviation()
    }

    #[test]
    fn a_grid_that_starts_later_starts_from_less_noise() {
        let edm = Edm::default();
        assert_eq!(prior(&edm, Grid::uniform(5)), 80.0);
        assert!((prior(&edm, Grid::uniform(5).between(14.6, 0.1)) - 14.6).abs() < 1e-12);
        assert_eq!(prior(&VpSde::default(), Grid::uniform(5)), 1.0);
        // A chain's prior is its own: leading grids start below the last step.
        let chain = DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain");
        assert_eq!(prior(&chain, Grid::leading(10)), 1.0);
    }
}
