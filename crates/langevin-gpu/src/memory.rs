//! How numbers lie in memory.

use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// The axes of a tensor from the slowest in memory to the fastest, if there are no gaps.
pub(crate) fn order(x: &CubeTensor) -> Option<Vec<usize>> {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let mut axes: Vec<usize> = (0..shape.num_dims()).collect();
    axes.sort_by_key(|&axis| std::cmp::Reverse((strides[axis], shape[axis])));
    let mut next = 1;
    for &axis in axes.iter().rev().filter(|&&axis| shape[axis] > 1) {
        if strides[axis] != next {
            return None;
        }
        next *= shape[axis];
    }
    Some(axes)
}

/// The tensor without gaps in memory, and its [`order`].
pub(crate) fn compact(x: CubeTensor) -> (CubeTensor, Vec<usize>) {
    match order(&x) {
        Some(axes) => (x, axes),
        None => {
            let axes = (0..x.meta.num_dims()).collect();
            (into_contiguous(x), axes)
        }
    }
}

/// The same tensor with its numbers in the order of `like`, whose axes are these from the slowest to the fastest.
pub(crate) fn laid_as(like: &CubeTensor, axes: &[usize], x: CubeTensor) -> CubeTensor {
    let shape = like.meta.shape();
    let same = |axis: usize| shape[axis] == 1 || x.meta.strides()[axis] == like.meta.strides()[axis];
    if (0..shape.num_dims()).all(same) {
        return x;
    }
    let mut back = vec![0; axes.len()];
    for (place, &axis) in axes.iter().enumerate() {
        back[axis] = place;
    }
    let turned = into_contiguous(CubeBackend::float_permute(x, axes));
    CubeBackend::float_permute(turned, &back)
}

/// A tensor that may be overwritten.
pub(crate) fn owned(x: CubeTensor) -> CubeTensor {
    if x.can_mut() { x } else { x.copy() }
}

/// How many numbers are read at once where there are so many in a row: 4 or 1.
pub(crate) fn vector_of(size: usize) -> usize {
    if size.is_multiple_of(4) { 4 } else { 1 }
}
