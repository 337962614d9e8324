//! Errors of discrete processes.

use crate::noise::NoiseError;

/// Why a discrete process cannot be made, or asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DiscreteError {
    /// Too few classes.
    #[error("a discrete process needs at least 2 classes beside the mask, got {given}")]
    Classes {
        /// Classes given.
        given: usize,
    },
    /// A chain without steps, or with too few for its formula.
    #[error("the chain needs at least {needed} steps, got {given}")]
    Steps {
        /// Steps given.
        given: usize,
        /// Steps needed.
        needed: usize,
    },
    /// A chain with more steps than it is computed for.
    #[error("a chain of {given} steps was asked for, and has {most} at most: take fewer")]
    TooManySteps {
        /// Steps given.
        given: usize,
        /// The most that there are.
        most: usize,
    },
    /// Lists of different lengths.
    #[error("{keep} values of keeping and {mask} of masking were given: give one of each for every step")]
    Lengths {
        /// Length of the list of keeping.
        keep: usize,
        /// Length of the list of masking.
        mask: usize,
    },
    /// A cumulative schedule that is no probability.
    #[error(
        "at step {step} tokens are kept with probability {keep} and masked with {mask}: both must be in [0, 1], and so must \
         their sum"
    )]
    Cumulative {
        /// The step.
        step: usize,
        /// ᾱ there.
        keep: f64,
        /// γ̄ there.
        mask: f64,
    },
    /// A single step that is no transition: the cumulative schedule runs backwards there.
    #[error(
        "step {step} of the chain would keep a token with probability {keep}, replace it by each class with {replace} and \
         mask it with {mask}: keeping must not become more likely with the steps, masking not less likely, and every token \
         must be kept with some probability until the last step"
    )]
    Step {
        /// The step.
        step: usize,
        /// α there.
        keep: f64,
        /// β there.
        replace: f64,
        /// γ there.
        mask: f64,
    },
    /// Steps of the chain that are asked for and are not there, or in the wrong order.
    #[error("step {later} cannot follow step {earlier:?}: steps rise from clean (`None`) through 0..{steps}")]
    Order {
        /// The cleaner step, `None` for clean tokens.
        earlier: Option<usize>,
        /// The noisier step.
        later: usize,
        /// Steps of the chain.
        steps: usize,
    },
    /// What the other tokens say of one that is never replaced.
    #[error(
        "at step {step} no token is ever replaced, so that a denoiser's answer says nothing of a token's law given the others: \
         take a chain that replaces, such as `MaskAndReplace::uniform`"
    )]
    LeaveOneOut {
        /// The step.
        step: usize,
    },
    /// A tensor has the wrong shape.
    #[error("{what} has the shape {given:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// What was expected, in words.
        expected: String,
    },
    /// Global sample numbers that do not fit into 64 bits.
    #[error("{rows} samples cannot be numbered from {first} on: start at a smaller number")]
    SampleNumbers {
        /// Number of the first sample.
        first: u64,
        /// Samples of the batch.
        rows: usize,
    },
    /// Noise could not be delivered.
    #[error(transparent)]
    Noise(#[from] NoiseError),
}
