//! The sum as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;

pub(super) use burn::backend::Dispatch;

use super::kernels::overwrite;
use crate::memory::{compact, owned};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait SquareOps: Backend {
    /// `total`, with the squares of `x` added to its numbers.
    #[fusion(meta = more)]
    fn add_squares(total: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn more(total: &TensorSpec, _x: &TensorSpec) -> TensorSpec {
    total.clone()
}

impl SquareOps for CubeBackend {
    fn add_squares(total: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (total, _) = compact(owned(total));
        // In whichever order.
        overwrite(&total, compact(x).0);
        total
    }
}

impl<B: Backend + SquareOps, C: CheckpointStrategy> SquareOps for Autodiff<B, C> {
    fn add_squares(_total: FloatTensor<Self>, _x: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("a sum of squares has no gradient")
    }
}
