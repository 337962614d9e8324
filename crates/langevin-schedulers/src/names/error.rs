//! Errors of names.

use crate::solver::PlanError;
use langevin_core::GridError;

/// A name that does not become a sampler.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NameError {
    /// A name that is not in the table.
    #[error("no sampler is named '{given}'; the nearest name is '{nearest}' (`names::solvers` lists all of them)")]
    Unknown {
        /// The name given.
        given: String,
        /// The name in the table that it is nearest to.
        nearest: String,
    },
    /// A schedule that is not in the table.
    #[error("no schedule is named '{given}'; the nearest name is '{nearest}' (`names::spacings` lists all of them)")]
    UnknownSpacing {
        /// The name given.
        given: String,
        /// The name in the table that it is nearest to.
        nearest: String,
    },
    /// A name that says too little for a plan.
    #[error("'{given}' cannot be had by its name alone: {advice}")]
    Elsewhere {
        /// The name given.
        given: String,
        /// What it needs, and how it is made.
        advice: &'static str,
    },
    /// A strength of noise for a sampler that takes none.
    #[error(
        "'{name}' takes no eta, but {eta} was given: leave it out, or take a sampler with noise such as 'euler_ancestral'"
    )]
    NoEta {
        /// The sampler.
        name: &'static str,
        /// The value given.
        eta: f64,
    },
    /// A plan of a sampler that looks at the data.
    #[error("'{name}' chooses its steps as it goes and has no plan: start it with `Named::sampler`")]
    NoPlan {
        /// The sampler.
        name: &'static str,
    },
    /// The schedule does not fit the process or the number of steps.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The solver does not fit the process.
    #[error(transparent)]
    Plan(PlanError),
}

impl From<PlanError> for NameError {
    /// A grid that does not fit is one error, whoever lays it.
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Grid(error) => Self::Grid(error),
            error => Self::Plan(error),
        }
    }
}
