//! What can go wrong when a model is measured.

use langevin_core::exact::ExactError;
use langevin_core::{DenoiseError, GridError, NoiseError, PredictionError, ProcessError};
use langevin_schedulers::{PlanError, SampleError};

/// Why a metric cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// The times, the grid or the method do not fit the process.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The integration failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The denoiser failed, or cannot take these samples.
    #[error(transparent)]
    Denoise(#[from] DenoiseError),
    /// Noise could not be delivered.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The estimate does not determine what is needed.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// The process is not one.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The grid cannot be laid on the process.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// A problem with a known density has no answer.
    #[error(transparent)]
    Exact(#[from] ExactError),
    /// A setting is out of range.
    #[error("{setting} is {given}, expected {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// Samples of a shape that has nothing in it.
    #[error("samples of shape {shape:?} cannot be measured: every dimension must be at least 1")]
    EmptyShape {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Sample numbers that do not fit into 64 bits.
    #[error("{rows} samples cannot be numbered from {first} on: start at a smaller number")]
    SampleNumbers {
        /// Number of the first sample.
        first: u64,
        /// Samples of the batch.
        rows: usize,
    },
    /// A NaN or an infinity.
    #[error("{what} of sample {sample} is not finite: {advice}")]
    NotFinite {
        /// What was looked at.
        what: &'static str,
        /// Row of the batch.
        sample: usize,
        /// What to do.
        advice: &'static str,
    },
    /// A value outside the range of the data.
    #[error("sample {sample} has the value {given}, but data lies in [{low}, {high}]: scale it, or set the range")]
    OutOfRange {
        /// Row of the batch.
        sample: usize,
        /// The value.
        given: f64,
        /// Least value of data.
        low: f64,
        /// Largest value of data.
        high: f64,
    },
    /// A value between two levels.
    #[error(
        "sample {sample} has the value {given}, which is none of the {levels} levels of data in [{low}, {high}]: set the \
         number of levels or bits that the data has, and do not add noise to it beforehand"
    )]
    NotALevel {
        /// Row of the batch.
        sample: usize,
        /// The value.
        given: f64,
        /// Number of levels.
        levels: usize,
        /// Least value of data.
        low: f64,
        /// Largest value of data.
        high: f64,
    },
    /// Two things that do not go together.
    #[error("{metric} cannot be computed with {what}: {advice}")]
    Unsupported {
        /// What was to be computed.
        metric: &'static str,
        /// What it does not go with.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The device could not be read.
    #[error("the device could not be read: {message}")]
    Read {
        /// What the backend said.
        message: String,
    },
}
