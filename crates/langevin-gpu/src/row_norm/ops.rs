//! The normalization as an operation of Burn's backends, with its gradients.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Shape;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::kernels::{gradients, normalized};
use super::{Affine, RowNormalization};
use crate::additions::{Form, register_additions};
use crate::sums::{SumOps, summed};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait RowNormOps: Backend {
    #[fusion(dtype = x, shape = x)]
    fn row_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        normalization: RowNormalization,
        affine: Affine,
    ) -> FloatTensor<Self>;

    /// The gradients of rows and weight, from that of the output; the latter means nothing if it is not asked for.
    #[fusion(meta = found)]
    fn row_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        normalization: RowNormalization,
        affine: Affine,
        asked: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn found(
    x: &TensorSpec,
    _weight: &TensorSpec,
    _gradient: &TensorSpec,
    _normalization: &RowNormalization,
    _affine: &Affine,
    _asked: &bool,
) -> (TensorSpec, TensorSpec) {
    (x.clone(), TensorSpec::new(Shape::new([x.shape[1]]), x.dtype))
}

impl RowNormOps for CubeBackend {
    fn row_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        normalization: RowNormalization,
        affine: Affine,
    ) -> FloatTensor<Self> {
        // What is not there is not read.
        let weight = if affine.weight { into_contiguous(weight) } else { weight };
        let bias = if affine.bias { into_contiguous(bias) } else { bias };
        normalized(into_contiguous(x), [weight, bias], normalization, affine)
    }

    fn row_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        normalization: RowNormalization,
        affine: Affine,
        asked: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let weight = if affine.weight { into_contiguous(weight) } else { weight };
        let dtype = x.dtype;
        let (x, gradient) = (into_contiguous(x), into_contiguous(gradient));
        let (of_x, parts) = gradients(x, weight, gradient, normalization, affine, asked);
        let [rows, width] = parts.meta.shape().dims();
        let parts = Self::float_reshape(parts, Shape::new([1, rows, width]));
        let of_weight = if asked { summed(&parts, dtype) } else { parts };
        (of_x, Self::float_reshape(of_weight, Shape::new([width])))
    }
}

impl<B: Backend + RowNormOps + SumOps, C: CheckpointStrategy> RowNormOps for Autodiff<B, C> {
    fn row_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        normalization: RowNormalization,
        affine: Affine,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RowNorm;

        impl<B: Backend + RowNormOps + SumOps> Backward<B, 3> for RowNorm {
            type State = ([FloatTensor<B>; 2], RowNormalization, Affine);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_x, of_weight, of_bias] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([x, weight], normalization, affine) = ops.state;
                let form = Form { bias: affine.bias, ..Form::default() };
                register_additions::<B>(grads, &gradient, form, [of_bias.map(|node| node.id), None]);
                let of_weight = of_weight.filter(|_| affine.weight);
                if of_x.is_none() && of_weight.is_none() {
                    return;
                }
                let found = B::row_norm_backward(x, weight, gradient, normalization, affine, of_weight.is_some());
                for (node, gradient) in [(of_x, found.0), (of_weight, found.1)] {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let ((x, of_x), (weight, of_weight)) = (x.into_parts(), weight.into_parts());
        let (bias, of_bias) = bias.into_parts();
        match RowNorm.prepare::<C>([of_x, of_weight, of_bias]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([x.clone(), weight.clone()], normalization, affine);
                prep.finish(state, B::row_norm(x, weight, bias, normalization, affine))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::row_norm(x, weight, bias, normalization, affine)),
        }
    }

    fn row_norm_backward(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _normalization: RowNormalization,
        _affine: Affine,
        _asked: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("Burn differentiates once")
    }
}
