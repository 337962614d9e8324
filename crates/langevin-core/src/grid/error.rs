//! Errors of grids.

use crate::process::ProcessError;

/// A grid that cannot be, or does not fit its process.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GridError {
    /// The process is broken, or cannot find a time.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A grid without steps.
    #[error("a grid needs at least one step")]
    ZeroSteps,
    /// More steps than the chain has.
    #[error(
        "{given} sampling steps were asked for on a chain of {chain} training steps: take at most {chain}, or a grid that is not \
         tied to whole steps such as `uniform`"
    )]
    TooManySteps {
        /// Steps asked for.
        given: usize,
        /// Steps of the chain.
        chain: usize,
    },
    /// As many steps as the chain has, of a spacing that leaves out step 0.
    #[error(
        "`{spacing}` begins at step 1 of a chain, so on one of {chain} it has no {chain} steps: take at most {}, or a spacing that \
         begins at step 0 such as `leading`", .chain.saturating_sub(1)
    )]
    StepLeftOut {
        /// Name of the spacing.
        spacing: &'static str,
        /// Steps of the chain.
        chain: usize,
    },
    /// A grid or an option that only a discrete chain can have.
    #[error("{what} needs a discrete chain, the process is continuous: use a grid such as `uniform`")]
    NeedsChain {
        /// The grid or option.
        what: &'static str,
    },
    /// An option that a kind of grid does not have.
    #[error("`{option}` does not go with {grid}: {reason}")]
    Combination {
        /// The option.
        option: &'static str,
        /// The kind of grid.
        grid: &'static str,
        /// Why, in words.
        reason: &'static str,
    },
    /// A number that shapes the grid is out of range.
    #[error("{parameter} of the grid is {given}, expected {expected}")]
    Parameter {
        /// Which number.
        parameter: &'static str,
        /// Its value.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// A time outside the process's range.
    #[error("time {given} at position {index} of the grid is outside the process's range [{min}, {max}]{hint}")]
    TimeOutOfRange {
        /// Position in the grid.
        index: usize,
        /// The time.
        given: f64,
        /// Clean end of the range.
        min: f64,
        /// Noisy end of the range.
        max: f64,
        /// What to do, in words, or nothing.
        hint: &'static str,
    },
    /// Neighboring positions that run against the direction of sampling, or stand still.
    #[error(
        "the grid runs against its direction at position {index}: {quantity} {before} is followed by {after}; give it \
         strictly {expected}, from noise to data (`inverted` turns a whole grid round)"
    )]
    Direction {
        /// Position of the second one.
        index: usize,
        /// What runs the wrong way: "time" or "half-log-SNR".
        quantity: &'static str,
        /// Its value before.
        before: f64,
        /// Its value at `index`.
        after: f64,
        /// "falling" or "rising".
        expected: &'static str,
    },
    /// NaN or an infinity where a number is needed.
    #[error(
        "{quantity} at position {index} of the grid is {value}, expected a finite number, with alpha and sigma 0 or above"
    )]
    NotFinite {
        /// Which quantity.
        quantity: &'static str,
        /// Position in the grid.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// A grid in λ or σ/α over a range where these are infinite.
    #[error(
        "{grid} needs a finite half-log-SNR at both ends, but it is {lambda} at t = {t}: restrict the range with `between` \
         or the process's `range`, or use a grid in time (zero terminal SNR and pure noise have no finite half-log-SNR)"
    )]
    InfiniteLambda {
        /// The kind of grid.
        grid: &'static str,
        /// The end at which λ is infinite.
        t: f64,
        /// λ there.
        lambda: f64,
    },
    /// A published table with levels that the process has not.
    #[error(
        "the align-your-steps table of {table} has σ/α = {ratio}, but the process goes from {largest} to {smallest}: take the table \
         of another model, or a process with these levels, such as `Edm` from 0.002 to 700 for Stable Video Diffusion; levels beyond \
         a process can be given one by one, with the times to ask at, to `Grid::levels`, as `Configured::grid_of_sigmas` gives them"
    )]
    BeyondTable {
        /// The model of the table.
        table: &'static str,
        /// The level's σ/α.
        ratio: f64,
        /// σ/α at the clean end of the range.
        smallest: f64,
        /// σ/α at the noisy end.
        largest: f64,
    },
    /// Starting behind the last step.
    #[error("the grid has {steps} steps, it cannot start at step {start}: start at {} or before", steps - 1)]
    StartBeyond {
        /// The start index.
        start: usize,
        /// Steps of the whole grid.
        steps: usize,
    },
}
