//! Matrix products in half precision, by matrices of a workgroup: an affine map of rows, and what is added to it, in one kernel.

pub(crate) mod any;
pub(crate) mod kernels;
mod ops;

use burn::tensor::{DType, Device, Tensor};

use crate::workgroup;
use ops::{Dispatch, ProductOps};

/// Whether [`map_rows`] can be asked for `rows` rows: a Vulkan driver with `VK_NV_cooperative_matrix2`, `f16`, input and output in
/// multiples of 32, and no more rows than one launch of a kernel reaches.
#[must_use]
pub fn maps_rows(device: &Device, dtype: DType, rows: usize, [input, output]: [usize; 2]) -> bool {
    let whole = [input, output].iter().all(|size| *size > 0 && size.is_multiple_of(32));
    // Indices in kernels are of 32 bits.
    let reached = rows.next_multiple_of(kernels::ROWS).saturating_mul(input.max(output)) <= i32::MAX as usize
        && input.saturating_mul(output) <= i32::MAX as usize;
    let counts = [rows.div_ceil(kernels::ROWS), output / 32].iter().all(|count| *count <= crate::LARGEST_COUNT);
    let fits = whole && reached && counts && rows > 0;
    fits && workgroup::multiplies(device, dtype, crate::THREADS)
}

/// What a product adds to its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// A number for each column.
    bias: bool,
    /// A matrix of the output's shape.
    added: bool,
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
    assert!(maps_rows(&x.device(), dtype, rows, [input, output]), "no kernel for this product");
    assert_eq!((weight.dims(), weight.dtype()), ([output, input], dtype), "the weight");
    if let Some(bias) = &bias {
        assert_eq!((bias.dims(), bias.dtype()), ([output], dtype), "the bias");
    }
    if let Some(added) = &added {
        assert_eq!((added.dims(), added.dtype()), ([rows, output], dtype), "what is added");
    }
    let form = Form { bias: bias.is_some(), added: added.is_some() };
    // What the form does not name is not read.
    let bias = bias.map_or_else(|| weight.clone().into_dispatch(), Tensor::into_dispatch);
    let added = added.map_or_else(|| weight.clone().into_dispatch(), Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::map_rows(x.into_dispatch(), weight.into_dispatch(), bias, added, form))
}
