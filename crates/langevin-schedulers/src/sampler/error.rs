//! Errors of samplers and runs.

use langevin_core::discrete::DiscreteError;
use langevin_core::{DenoiseError, NoiseError, Prediction, PredictionError, ProcessError};

/// What can go wrong while sampling.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// The denoiser failed.
    #[error(transparent)]
    Denoise(#[from] DenoiseError),
    /// Noise could not be delivered.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The estimate does not determine what the solver needs.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// The process cannot answer.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The state has a NaN or an infinity.
    #[error(
        "the state after {step} steps has a NaN or an infinity: `check_finite_every(1)` names the step where that began. Look at \
         what the network answers there (`Tap::first_not_finite` names the module) and at \
         the guidance scale"
    )]
    NotFinite {
        /// Steps done when it was looked at.
        step: usize,
    },
    /// A shape with a dimension of zero.
    #[error("cannot sample the shape {shape:?}: every dimension must be at least 1")]
    EmptyShape {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Global sample numbers that do not fit into 64 bits.
    #[error("{rows} samples cannot be numbered from {first} on: start at a smaller number")]
    SampleNumbers {
        /// Number of the first sample.
        first: u64,
        /// Samples of the batch.
        rows: usize,
    },
    /// A saved run was made by another sampler.
    #[error(
        "the saved run belongs to another plan or sampler (fingerprint {given:016x}, this one is {expected:016x}): resume \
         it with the process, grid and settings that it was started with"
    )]
    OtherSampler {
        /// Fingerprint of this sampler.
        expected: u64,
        /// Fingerprint in the saved run.
        given: u64,
    },
    /// A saved run has tensors of another rank.
    #[error("the saved run has tensors of {given} dimensions, expected {expected}")]
    Rank {
        /// Dimensions expected.
        expected: usize,
        /// Dimensions saved.
        given: usize,
    },
    /// A run carries a value whose shape is not that of the samples.
    #[error(
        "the run carries a value of shape {given:?} beside samples of shape {expected:?}: the saved run was edited, or the \
         samples were replaced by others"
    )]
    CarriedShape {
        /// The shape of the tensor.
        given: Vec<usize>,
        /// The shape of the samples.
        expected: Vec<usize>,
    },
    /// A discrete process could not answer.
    #[error(transparent)]
    Discrete(#[from] DiscreteError),
    /// A number that is no token.
    #[error("{given} is no token: they are 0 to {} for the classes{}", classes.saturating_sub(1), and_mask(*mask))]
    Token {
        /// The number.
        given: i64,
        /// Classes.
        classes: usize,
        /// The token that means masked, if there is one.
        mask: Option<usize>,
    },
    /// Rows of tokens that are no whole number of blocks, or end before what is to be sampled.
    #[error(
        "{positions} positions, of which {prompt} are given, cannot be sampled in blocks of {block}: take a multiple of {block} \
         that is more than {prompt}"
    )]
    Blocks {
        /// Positions of a row.
        positions: usize,
        /// Positions at its front that are given.
        prompt: usize,
        /// Positions of a block.
        block: usize,
    },
    /// The plan reads a tensor that the run was not given.
    #[error(
        "the plan reads {name}, which the run was not given: call `.known(image, mask)` or `.given(..)` before its first step"
    )]
    NotGiven {
        /// What is missing.
        name: String,
    },
    /// The run was given a tensor that its sampler does not read.
    #[error(
        "the run was given {name}, which its sampler does not read: plan it with a solver that does, such as `RePaint`"
    )]
    NotRead {
        /// What was given.
        name: String,
    },
    /// The run was given a tensor after its first step.
    #[error("the run was given {name} after {step} steps: give it before the first one; a resumed run has it already")]
    GivenLate {
        /// What was given.
        name: String,
        /// Steps done.
        step: usize,
    },
    /// A tensor that a run was given does not fit its samples.
    #[error(
        "{name} has the shape {given:?}, but the samples have {expected:?}: every dimension must be the same, or 1"
    )]
    GivenShape {
        /// What was given.
        name: String,
        /// Its shape.
        given: Vec<usize>,
        /// The shape of the samples.
        expected: Vec<usize>,
    },
    /// A tensor that a run was given has a NaN or an infinity.
    #[error("{name} has a NaN or an infinity: where nothing is known put a number, 0 for instance")]
    GivenNotFinite {
        /// What was given.
        name: String,
    },
    /// A mask has values outside [0, 1].
    #[error("the mask has values from {least} to {most}, expected 1 where the sample is known and 0 where it is not")]
    MaskRange {
        /// The smallest value.
        least: f64,
        /// The largest value.
        most: f64,
    },
    /// A run lacks values that its sampler needs.
    #[error(
        "the run lacks values that row {row} of its plan reads: the saved run was cut short or edited, or another sampler \
         has worked on the state"
    )]
    Incomplete {
        /// The row that cannot run.
        row: usize,
    },
    /// A run that stopped on an error was asked for its result.
    #[error("the run stopped on an error after {step} steps: it has no result")]
    Unfinished {
        /// Steps done.
        step: usize,
    },
    /// The device could not be read.
    #[error("the device could not be read: {message}")]
    Read {
        /// What the backend said.
        message: String,
    },
    /// An adaptive method cannot reach its tolerance.
    #[error(
        "the step size fell to {step} at t = {t} (sample {sample}): the tolerance cannot be reached; raise it, or use a process without a singular end"
    )]
    StepSize {
        /// The step size.
        step: f64,
        /// Process time.
        t: f64,
        /// The sample.
        sample: u64,
    },
    /// A time of dense output lies outside the run.
    #[error("output was asked for at t = {t}, but the run goes from {start} to {end}")]
    OutputTime {
        /// The time.
        t: f64,
        /// Where the run starts.
        start: f64,
        /// Where it ends.
        end: f64,
    },
    /// A network whose output says nothing of the sample in pure noise, on a chain that ends there.
    #[error(
        "the chain's zero terminal SNR and {prediction} contradict each other: the last step of the chain is pure noise, of \
         which such an output says nothing about the sample, and sampling that starts a step later starts from a state that \
         the network was not trained on; use a network with velocity or sample prediction, or a chain without \
         `rescale_zero_terminal_snr`"
    )]
    ZeroTerminalSnr {
        /// What the network predicts.
        prediction: Prediction,
    },
    /// Two things that do not go together.
    #[error("{sampler} cannot be combined with {what}: {advice}")]
    Unsupported {
        /// The sampler.
        sampler: &'static str,
        /// What it was combined with.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A denoiser whose x̂_0 and ε̂ answer different questions, under a sampler that takes them for one answer.
    #[error(
        "CFG++ cannot be combined with {sampler}: it needs a sampler that goes on from x̂_0 and ε̂ alone, and this one uses the \
         state as well, or only one of the two; take DDIM or Euler in σ/α, `PlusPlus::around` the solver, or plain guidance"
    )]
    Split {
        /// The sampler.
        sampler: String,
    },
    /// What changes x̂_0 alone, under a sampler that does not read it.
    #[error(
        "{change} cannot be combined with {sampler}: it changes x̂_0 alone, and this sampler reads only ε̂; let ε̂ follow x̂_0 \
         (`.rederive_eps()` for thresholds, no `.keep_eps()` for a filled region), or take a solver in x̂_0, such as DPM-Solver++"
    )]
    Unseen {
        /// The sampler.
        sampler: String,
        /// What changes x̂_0.
        change: &'static str,
    },
    /// A sampler of CFG++ under a denoiser whose x̂_0 and ε̂ are one answer.
    #[error(
        "{sampler} cannot be combined with a denoiser without CFG++: it guides x̂_0 and puts the unconditional ε̂ back on, and \
         the denoiser gives one answer for both; call `.plus_plus()` on the guided denoiser, or take the solver without CFG++"
    )]
    NotSplit {
        /// The sampler.
        sampler: String,
    },
    /// Samples of dimensions that they cannot be resized in.
    #[error(
        "`{resize}` resizes samples of {expected} dimensions, batch and channels counted, and these have {given}: take one \
         for them, such as `nearest-exact` (3 to 5) or `bilinear` (4)"
    )]
    ResizedRank {
        /// How they should have been resized.
        resize: &'static str,
        /// The dimensions that it is for, in words.
        expected: &'static str,
        /// Those of the samples.
        given: usize,
    },
    /// Samples that make no blocks of two by two.
    #[error("samples of height {height} and width {width} make no blocks of two by two: take even sides")]
    OddSides {
        /// Their height.
        height: usize,
        /// Their width.
        width: usize,
    },
    /// A side that becomes nothing, or too long.
    #[error(
        "step {step} resizes a side of {side} by {factor}, and sides have 1 to {longest} pixels: start at another size, or \
         take other factors"
    )]
    ResizedSide {
        /// The step.
        step: usize,
        /// The side that the run started with.
        side: usize,
        /// The factor.
        factor: f64,
        /// The longest side.
        longest: usize,
    },
    /// A network that answers with another number of velocities than its sampler expects.
    #[error(
        "the network gave {given} answers, and the sampler expects {expected}: make it with `PiFlow::new` of as many as the \
         network has"
    )]
    Answers {
        /// The number given.
        given: usize,
        /// The number expected.
        expected: usize,
    },
    /// An adaptive method took too many steps.
    #[error("more than {limit} steps were needed: raise the limit or the tolerance")]
    TooManySteps {
        /// The limit.
        limit: usize,
    },
}

fn and_mask(mask: Option<usize>) -> String {
    mask.map(|mask| format!(", and {mask} for the mask")).unwrap_or_default()
}
