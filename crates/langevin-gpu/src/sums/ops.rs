//! Sums of rows as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
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
    /// The sums over the rows of `[groups, rows, columns]`: `[groups, 1, columns]`, added up in `f32`.
    #[fusion(meta = sums)]
    fn sum_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn sums(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::new([x.shape[0], 1, x.shape[2]]), x.dtype)
}

impl SumOps for CubeBackend {
    fn sum_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype;
        summed(&into_contiguous(x), dtype)
    }
}

impl<B: Backend + SumOps, C: CheckpointStrategy> SumOps for Autodiff<B, C> {
    fn sum_rows(_x: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }
}
