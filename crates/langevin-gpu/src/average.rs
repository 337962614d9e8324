//! A moving average of a tensor: one launch, in place.

mod kernels;
mod ops;

use burn::tensor::Tensor;

use ops::{AverageOps, Dispatch};

/// `decay·average + (1 − decay)·value`, computed in `f32`, in the average's type and order in memory. Both are on a device whose backend compiles
/// kernels ([`compiles_kernels`](crate::compiles_kernels)), of 16 or 32 bits, of one shape and without gradients. Where nothing else holds the average, it is overwritten.
///
/// # Panics
///
/// If the shapes differ.
#[must_use]
pub fn average<const D: usize>(average: Tensor<D>, value: Tensor<D>, decay: f32) -> Tensor<D> {
    assert_eq!(average.shape(), value.shape(), "the average and what is averaged");
    if average.shape().num_elements() == 0 {
        return average;
    }
    Tensor::from_dispatch(Dispatch::average(average.into_dispatch(), value.into_dispatch(), decay))
}
