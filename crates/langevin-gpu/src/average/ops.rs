//! The average as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;

pub(super) use burn::backend::Dispatch;

use super::kernels::overwrite;
use crate::memory::{compact, laid_as, owned};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait AverageOps: Backend {
    #[fusion(meta = blended)]
    fn average(average: FloatTensor<Self>, value: FloatTensor<Self>, decay: f32) -> FloatTensor<Self>;
}

fn blended(average: &TensorSpec, _value: &TensorSpec, _decay: &f32) -> TensorSpec {
    average.clone()
}

impl AverageOps for CubeBackend {
    fn average(average: FloatTensor<Self>, value: FloatTensor<Self>, decay: f32) -> FloatTensor<Self> {
        let (average, axes) = compact(owned(average));
        let value = laid_as(&average, &axes, value);
        overwrite(&average, &value, decay);
        average
    }
}

impl<B: Backend + AverageOps, C: CheckpointStrategy> AverageOps for Autodiff<B, C> {
    fn average(_average: FloatTensor<Self>, _value: FloatTensor<Self>, _decay: f32) -> FloatTensor<Self> {
        panic!("a moving average has no gradient")
    }
}
