//! Sums of rows as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Shape;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::kernels::summed;

#[backend_extension(Cube, Autodiff, Fusion)]
pub(crate) trait SumOps: Backend {
    /// The sums over the rows of `[.., channels]`, or of as many groups of them as `to`, `[.., channels]` too, has rows: added up in `f32`. One
    /// operation, without those that change shapes: Burn's queue takes as long for each of them as for this.
    #[fusion(meta = sums)]
    fn sum_rows(x: FloatTensor<Self>, to: Shape) -> FloatTensor<Self>;
}

fn sums(x: &TensorSpec, to: &Shape) -> TensorSpec {
    TensorSpec::new(to.clone(), x.dtype)
}

impl SumOps for CubeBackend {
    fn sum_rows(x: FloatTensor<Self>, to: Shape) -> FloatTensor<Self> {
        let (dtype, numbers, channels) = (x.dtype, x.meta.shape().num_elements(), to[to.num_dims() - 1]);
        let groups = to.num_elements() / channels;
        let rows = Shape::new([groups, numbers / to.num_elements(), channels]);
        let sums = summed(&Self::float_reshape(into_contiguous(x), rows), dtype);
        Self::float_reshape(sums, to)
    }
}

impl<B: Backend + SumOps, C: CheckpointStrategy> SumOps for Autodiff<B, C> {
    fn sum_rows(_x: FloatTensor<Self>, _to: Shape) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }
}
