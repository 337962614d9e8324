//! Matrix products, and affine maps of rows with what is added to them in one kernel.
//!
//! Nothing is tried out: Burn's product has dozens of variants, each of which is compiled and timed for every class of sizes, which takes
//! minutes for a network and its gradients. Where the hardware has no matrices of a type, `f32` above all, a kernel adds up products of
//! single numbers; in `f16`, with the feature `vulkan`, matrices of a workgroup or of a plane are multiplied.

mod map_rows;
mod multiply;
#[cfg(feature = "vulkan")]
pub(crate) mod planes;
pub(crate) mod single;
#[cfg(feature = "vulkan")]
pub(crate) mod workgroup;

use burn::tensor::{DType, Device, Tensor};

use crate::additions::Additions;
use map_rows::{Dispatch, ProductOps};
use multiply::MultiplyOps;
pub(crate) use multiply::times;
pub(crate) use single::{Kind, Reads, Window, product_of, reaches};

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
    crate::client(device).is_some_and(|client| single::is_product_of(&client, dtype))
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

/// Who computes an affine map of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum By {
    /// Single numbers.
    Single,
    /// Matrices of a workgroup.
    #[cfg(feature = "vulkan")]
    Workgroup,
}

impl By {
    fn of(device: &Device, dtype: DType, rows: usize, [input, output]: [usize; 2]) -> Option<Self> {
        #[cfg(feature = "vulkan")]
        if workgroup::maps_rows(rows, [input, output]) && crate::workgroup::multiplies(device, dtype, crate::THREADS) {
            return Some(Self::Workgroup);
        }
        // The gradients are products of these sizes in other orders.
        let reached = [[1, rows, input], [1, rows, output], [1, output, rows]];
        let others = [output, input, input];
        let mut reached = reached.into_iter().zip(others);
        let reached = multiplies(device, dtype) && reached.all(|(left, output)| single::reaches(left, output));
        reached.then_some(Self::Single)
    }
}

/// Whether [`map_rows`] can be asked for `rows` rows: of a device that [multiplies] by single numbers, or of a Vulkan driver with
/// `VK_NV_cooperative_matrix2` in `f16`, with input and output in multiples of 32; and no more rows than one launch of a kernel reaches.
#[must_use]
pub fn maps_rows(device: &Device, dtype: DType, rows: usize, sizes: [usize; 2]) -> bool {
    By::of(device, dtype, rows, sizes).is_some()
}

/// `x·weightᵀ + bias + added`.
///
/// # Shapes
///
/// - x: `[rows, input]`
/// - weight: `[output, input]`
/// - bias: `[output]`
/// - added and output: `[rows, output]`
///
/// # Panics
///
/// If it cannot be asked for ([`maps_rows`]), or a tensor has another type or shape than these.
#[must_use]
pub fn map_rows(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, added: Option<Tensor<2>>) -> Tensor<2> {
    let ([rows, input], [output, _], dtype) = (x.dims(), weight.dims(), x.dtype());
    let by = By::of(&x.device(), dtype, rows, [input, output]).expect("a kernel for this product");
    assert_eq!((weight.dims(), weight.dtype()), ([output, input], dtype), "the weight");
    let (bias, added, form) = Additions { bias, added }.with([rows, output], &weight);
    Tensor::from_dispatch(Dispatch::map_rows(x.into_dispatch(), weight.into_dispatch(), bias, added, form, by))
}
