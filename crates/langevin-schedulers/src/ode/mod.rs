//! The probability-flow ODE: deterministic sampling, encoding and interpolation.
//!
//! Along `dx/dt = α̇·x̂_0 + σ̇·ε̂` states have the same distribution at every time as under the SDE (Song et al. 2021,
//! section 4.3, in the form that stays finite where `f·x − ½g²·score` is ∞ − ∞).
//!
//! * [`ProbabilityFlow`] takes a fixed grid: any explicit [`Tableau`], as a plan.
//! * [`DormandPrince`] chooses its steps: an error bound for each sample, and output at any time.
//! * Both also solve any other equation on tensors, a [`Field`]: what is integrated along a trajectory, for instance.

mod adaptive;
mod control;
mod drive;
mod host;
mod parts;
mod probability_flow;
mod sampler;
mod tableau;
mod tensors;

pub use adaptive::{AdaptiveFlow, DormandPrince};
pub(crate) use control::{Clock, Control, Trial};
pub use host::HostSolution;
pub use parts::{Field, Solution};
pub use probability_flow::ProbabilityFlow;
pub(crate) use probability_flow::check_joined;
pub use tableau::Tableau;
pub use tensors::flow_slope;

/// 64-bit FNV-1a over the bits of numbers: tells samplers apart in saved runs.
pub(crate) fn fingerprint(numbers: impl IntoIterator<Item = f64>) -> u64 {
    let bytes = numbers.into_iter().flat_map(|number| number.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
