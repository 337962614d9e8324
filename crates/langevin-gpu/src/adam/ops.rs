//! The update as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

pub(super) use burn::backend::Dispatch;

use super::AdamStep;
use super::kernels::overwrite;

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait AdamOps: Backend {
    #[fusion(meta = updated)]
    fn adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn updated(
    parameter: &TensorSpec,
    _gradient: &TensorSpec,
    mean: &TensorSpec,
    square: &TensorSpec,
    _step: &AdamStep,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (parameter.clone(), mean.clone(), square.clone())
}

/// The axes of a tensor from the slowest in memory to the fastest, if there are no gaps.
fn order(x: &CubeTensor) -> Option<Vec<usize>> {
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

/// The same tensor with its numbers in the order of `like`, whose axes are these from the slowest to the fastest.
fn laid_as(like: &CubeTensor, axes: &[usize], x: CubeTensor) -> CubeTensor {
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
fn owned(x: CubeTensor) -> CubeTensor {
    if x.can_mut() { x } else { x.copy() }
}

impl AdamOps for CubeBackend {
    fn adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let parameter = owned(parameter);
        let (parameter, axes) = match order(&parameter) {
            Some(axes) => (parameter, axes),
            None => (into_contiguous(parameter), (0..gradient.meta.num_dims()).collect()),
        };
        let gradient = laid_as(&parameter, &axes, gradient);
        let [mean, square] = [mean, square].map(|moment| laid_as(&parameter, &axes, owned(moment)));
        overwrite(&parameter, gradient, [&mean, &square], step);
        (parameter, mean, square)
    }
}

impl<B: Backend + AdamOps, C: CheckpointStrategy> AdamOps for Autodiff<B, C> {
    fn adam(
        _parameter: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _mean: FloatTensor<Self>,
        _square: FloatTensor<Self>,
        _step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("an update has no gradient")
    }
}
