//! The update as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;

pub(super) use burn::backend::Dispatch;

use super::AdamStep;
use super::kernels::overwrite;
use crate::memory::{compact, laid_as, owned};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait AdamOps: Backend {
    #[fusion(meta = updated)]
    fn adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        step: AdamStep,
        scaled: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn updated(
    parameter: &TensorSpec,
    _gradient: &TensorSpec,
    mean: &TensorSpec,
    square: &TensorSpec,
    _factor: &TensorSpec,
    _step: &AdamStep,
    _scaled: &bool,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (parameter.clone(), mean.clone(), square.clone())
}

impl AdamOps for CubeBackend {
    fn adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        step: AdamStep,
        scaled: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (parameter, axes) = compact(owned(parameter));
        let gradient = laid_as(&parameter, &axes, gradient);
        let [mean, square] = [mean, square].map(|moment| laid_as(&parameter, &axes, owned(moment)));
        overwrite(&parameter, gradient, [&mean, &square], factor, step, scaled);
        (parameter, mean, square)
    }
}

impl<B: Backend + AdamOps, C: CheckpointStrategy> AdamOps for Autodiff<B, C> {
    fn adam(
        _parameter: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _mean: FloatTensor<Self>,
        _square: FloatTensor<Self>,
        _factor: FloatTensor<Self>,
        _step: AdamStep,
        _scaled: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("an update has no gradient")
    }
}
