//! Sums along an axis in `f32`, in one launch or two, whatever the type of what is summed and of the result.

mod kernels;
mod ops;

pub(crate) use kernels::summed;
pub(crate) use ops::SumOps;
