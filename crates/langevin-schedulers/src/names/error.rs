//! Errors of names.

use crate::solver::PlanError;
use langevin_core::GridError;

/// A name that does not become a sampler.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NameError {
    /// A name that is not in the table.
    #[error("no sampler is named '{given}'{} (`names::solvers` lists all of them)", suggested(nearest.as_deref()))]
    Unknown {
        /// The name given.
        given: String,
        /// The name in the table that it is nearest to, if one is near.
        nearest: Option<String>,
    },
    /// A schedule without a sampler.
    #[error("'{given}' is a schedule: put it behind the name of a sampler, as in 'euler {given}'")]
    ScheduleAlone {
        /// The name given.
        given: String,
    },
    /// A sampler with two schedules.
    #[error("'{given}' has two schedules, '{first}' and '{second}': '{sampler}' takes one of them")]
    TwoSchedules {
        /// The name given.
        given: String,
        /// The sampler in it.
        sampler: &'static str,
        /// The schedule behind it.
        first: &'static str,
        /// The schedule behind that.
        second: &'static str,
    },
    /// A pipeline of diffusers.
    #[error(
        "'{given}' is a pipeline and no sampler: give `diffusers::from_config` the text of the file \
         scheduler/scheduler_config.json in its folder, or take the name of the class in it"
    )]
    Pipeline {
        /// The name given.
        given: String,
    },
    /// A schedule that is not in the table.
    #[error("no schedule is named '{given}'{} (`names::spacings` lists all of them)", suggested(nearest.as_deref()))]
    UnknownSpacing {
        /// The name given.
        given: String,
        /// The name in the table that it is nearest to, if one is near.
        nearest: Option<String>,
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

fn suggested(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; the nearest name is '{name}'")).unwrap_or_default()
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
