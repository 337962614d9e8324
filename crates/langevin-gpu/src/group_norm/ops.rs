//! The normalization as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, Shape, Slice};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::Normalization;
use super::kernels::{gradient_of_input, output, statistics, sums_of_gradient};
use super::whole::at_once;
use crate::sums::summed;

#[backend_extension(Cube, Autodiff, Fusion)]
pub(crate) trait GroupNormOps: Backend {
    #[fusion(dtype = x, shape = x)]
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        normalization: Normalization,
    ) -> FloatTensor<Self>;

    /// The gradients of input, weight and bias.
    #[fusion(meta = gradients)]
    fn group_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn gradients(
    x: &TensorSpec,
    weight: &TensorSpec,
    bias: &TensorSpec,
    _gradient: &TensorSpec,
    _normalization: &Normalization,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), weight.clone(), bias.clone())
}

/// The normalized image; all are contiguous.
pub(crate) fn normalized(
    x: &FloatTensor<CubeBackend>,
    weight: FloatTensor<CubeBackend>,
    bias: FloatTensor<CubeBackend>,
    normalization: Normalization,
) -> FloatTensor<CubeBackend> {
    at_once(x, weight.clone(), bias.clone(), normalization, None).unwrap_or_else(|| {
        let statistics = statistics(x, normalization);
        output(x, &statistics, weight, bias, normalization)
    })
}

impl GroupNormOps for CubeBackend {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        normalization: Normalization,
    ) -> FloatTensor<Self> {
        let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
        normalized(&x, weight, bias, normalization)
    }

    fn group_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [x, weight, bias, gradient] = [x, weight, bias, gradient].map(into_contiguous);
        let statistics = statistics(&x, normalization);
        let sums = sums_of_gradient(&x, &gradient, &statistics, [&weight, &bias], normalization);
        let [_, batch, strips, channels] = sums.meta.shape().dims();
        let sums = Self::float_reshape(sums, Shape::new([2 * batch, strips, channels]));
        let sums = Self::float_reshape(summed(&sums, DType::F32), Shape::new([2, batch, channels]));
        let of_parameters = summed(&sums, weight.dtype);
        let plane = |at: isize| {
            let slices = [Slice::new(at, Some(at + 1), 1), Slice::full(), Slice::full()];
            Self::float_reshape(Self::float_slice(of_parameters.clone(), &slices), Shape::new([channels]))
        };
        let (of_bias, of_weight) = (plane(0), plane(1));
        let sums = Self::float_reshape(sums, Shape::new([2, batch, 1, channels]));
        let of_x = gradient_of_input(&x, &gradient, &statistics, sums, [&weight, &bias], normalization);
        (of_x, of_weight, of_bias)
    }
}

impl<B: Backend + GroupNormOps, C: CheckpointStrategy> GroupNormOps for Autodiff<B, C> {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        normalization: Normalization,
    ) -> FloatTensor<Self> {
        /// The statistics are computed again: they cost less than the memory to keep what they come from.
        #[derive(Debug)]
        struct GroupNorm;

        impl<B: Backend + GroupNormOps> Backward<B, 3> for GroupNorm {
            type State = ([FloatTensor<B>; 3], Normalization);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_x, of_weight, of_bias] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([x, weight, bias], normalization) = ops.state;
                let found = B::group_norm_backward(x, weight, bias, gradient, normalization);
                for (node, gradient) in [(of_x, found.0), (of_weight, found.1), (of_bias, found.2)] {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let ((x, of_x), (weight, of_weight), (bias, of_bias)) =
            (x.into_parts(), weight.into_parts(), bias.into_parts());
        match GroupNorm.prepare::<C>([of_x, of_weight, of_bias]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([x.clone(), weight.clone(), bias.clone()], normalization);
                prep.finish(state, B::group_norm(x, weight, bias, normalization))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::group_norm(x, weight, bias, normalization)),
        }
    }

    fn group_norm_backward(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _bias: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("Burn differentiates once")
    }
}
