//! How likely data is under a diffusion model.
//!
//! * [`likelihood`]: ln p(x) through the probability-flow ODE, exact or with Hutchinson's trace estimator, and what it
//!   leaves open as numbers of their own;
//! * [`bound`]: the variational bound of a discrete chain, term by term;
//! * [`quantization`]: data that has levels, such as 8-bit images: dequantization and bits per dimension.
//!
//! Values are in nats; bits per dimension divide by `ln 2` and the number of values in a sample.

pub mod bound;
mod error;
pub mod likelihood;
pub mod quantization;
mod read;

pub use bound::{Bound, Decoder, VariationalBound};
pub use error::MetricError;
pub use likelihood::{Gaps, Likelihood, LogDensity, Probe, SolverReport, Trace};
pub use quantization::Quantization;
