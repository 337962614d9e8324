//! Products of batches of matrices without matrices in hardware: by sums and products of single numbers, added up in `f32`.
//!
//! Nothing is tried out: Burn's product has dozens of variants, each of which is compiled and timed for every class of sizes, which takes
//! minutes for a network and its gradients.

mod kernels;
mod ops;

use burn::tensor::{DType, Device, Tensor};

pub(crate) use kernels::sides;
pub(crate) use ops::times;
use ops::{Dispatch, MultiplyOps};

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Turned {
    /// Whether the left one is there as its transpose.
    pub left: bool,
    /// Whether the right one is.
    pub right: bool,
}

/// Whether [`multiply`] is the product of a device: it compiles kernels, and has no matrices of this type in hardware.
#[must_use]
pub fn multiplies(device: &Device, dtype: DType) -> bool {
    let kernels = matches!(device.clone().inner().as_dispatch(), burn::backend::DispatchDevice::Cube(_));
    kernels && matches!(dtype, DType::F32 | DType::F16 | DType::BF16) && !crate::has_tensor_cores(device, dtype)
}

/// `left·right` of each of a batch, with gradients.
///
/// # Shapes
///
/// - left: `[batch, rows, input]`, or `[batch, input, rows]` if it is turned
/// - right: `[batch, input, output]`, or `[batch, output, input]` if it is turned
/// - output: `[batch, rows, output]`
///
/// # Panics
///
/// If the shapes or types do not fit.
#[must_use]
pub fn multiply(left: Tensor<3>, right: Tensor<3>, turned: Turned) -> Tensor<3> {
    let ([batch, a, b], [others, c, d]) = (left.dims(), right.dims());
    let (inner, outer) = (if turned.left { a } else { b }, if turned.right { d } else { c });
    assert_eq!((batch, inner, left.dtype()), (others, outer, right.dtype()), "the factors");
    Tensor::from_dispatch(Dispatch::multiply(left.into_dispatch(), right.into_dispatch(), turned))
}
