//! The affine map of rows, with what is added to it, as an operation of Burn's backends, with its gradients.

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

#[cfg(feature = "vulkan")]
use super::workgroup;
use super::{By, Turned, single, times};
use crate::additions::{Added, Form, register_additions};
use crate::sums::SumOps;

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait ProductOps: Backend {
    #[fusion(meta = output)]
    fn map_rows(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        form: Form,
        by: By,
    ) -> FloatTensor<Self>;

    /// The gradient of the rows, from that of the output.
    #[fusion(meta = rows)]
    fn gradient_of_rows(gradient: FloatTensor<Self>, weight: FloatTensor<Self>, by: By) -> FloatTensor<Self>;

    /// The gradient of the weight, from that of the output.
    #[fusion(meta = weight)]
    fn gradient_of_map(x: FloatTensor<Self>, gradient: FloatTensor<Self>, by: By) -> FloatTensor<Self>;
}

fn output(
    x: &TensorSpec,
    weight: &TensorSpec,
    _bias: &TensorSpec,
    _added: &TensorSpec,
    _form: &Form,
    _by: &By,
) -> TensorSpec {
    TensorSpec::new(Shape::new([x.shape[0], weight.shape[0]]), x.dtype)
}

fn rows(gradient: &TensorSpec, weight: &TensorSpec, _by: &By) -> TensorSpec {
    TensorSpec::new(Shape::new([gradient.shape[0], weight.shape[1]]), gradient.dtype)
}

fn weight(x: &TensorSpec, gradient: &TensorSpec, _by: &By) -> TensorSpec {
    TensorSpec::new(Shape::new([gradient.shape[1], x.shape[1]]), x.dtype)
}

/// A matrix as a batch of one, contiguous.
fn alone(x: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    let [rows, columns] = x.meta.shape().dims();
    CubeBackend::float_reshape(into_contiguous(x), Shape::new([1, rows, columns]))
}

fn flat(y: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    let [_, rows, columns] = y.meta.shape().dims();
    CubeBackend::float_reshape(y, Shape::new([rows, columns]))
}

impl ProductOps for CubeBackend {
    fn map_rows(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        form: Form,
        by: By,
    ) -> FloatTensor<Self> {
        let (more, turned) = (Added::new(bias, added, form), Turned { left: false, right: true });
        let y = match by {
            By::Single => single::product(alone(x), alone(weight), turned, more),
            #[cfg(feature = "vulkan")]
            By::Workgroup => workgroup::product(alone(x), alone(weight), turned, more),
        };
        flat(y)
    }

    fn gradient_of_rows(gradient: FloatTensor<Self>, weight: FloatTensor<Self>, by: By) -> FloatTensor<Self> {
        let (gradient, weight, turned) = (alone(gradient), alone(weight), Turned { left: false, right: false });
        let found = match by {
            By::Single => times(gradient, weight, turned),
            #[cfg(feature = "vulkan")]
            By::Workgroup => {
                let nothing = Added::nothing(&weight);
                workgroup::product(gradient, weight, turned, nothing)
            }
        };
        flat(found)
    }

    fn gradient_of_map(x: FloatTensor<Self>, gradient: FloatTensor<Self>, by: By) -> FloatTensor<Self> {
        match by {
            By::Single => flat(times(alone(gradient), alone(x), Turned { left: true, right: false })),
            #[cfg(feature = "vulkan")]
            By::Workgroup => {
                let ([rows, input], dtype) = (x.meta.shape().dims(), x.dtype);
                let output = gradient.meta.shape()[1];
                let around = workgroup::Around { rows, places: 1, line: 0, lead: 0 };
                let parts = workgroup::gradient_of_weight(into_contiguous(x), into_contiguous(gradient), around);
                let parts = Self::float_reshape(parts.clone(), Shape::new([1, parts.meta.shape()[0], output * input]));
                Self::float_reshape(crate::sums::summed(&parts, dtype), Shape::new([output, input]))
            }
        }
    }
}

impl<B: Backend + ProductOps + SumOps, C: CheckpointStrategy> ProductOps for Autodiff<B, C> {
    fn map_rows(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        added: FloatTensor<Self>,
        form: Form,
        by: By,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct MapRows;

        impl<B: Backend + ProductOps + SumOps> Backward<B, 4> for MapRows {
            type State = ([FloatTensor<B>; 2], Form, By);

            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_x, of_weight, of_bias, of_added] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([x, weight], form, by) = ops.state;
                if let Some(node) = of_x {
                    grads.register::<B>(node.id, B::gradient_of_rows(gradient.clone(), weight, by));
                }
                if let Some(node) = of_weight {
                    grads.register::<B>(node.id, B::gradient_of_map(x, gradient.clone(), by));
                }
                let nodes = [of_bias, of_added].map(|node| node.map(|node| node.id));
                register_additions::<B>(grads, &gradient, form, nodes);
            }
        }

        let ((x, of_x), (weight, of_weight)) = (x.into_parts(), weight.into_parts());
        let ((bias, of_bias), (added, of_added)) = (bias.into_parts(), added.into_parts());
        match MapRows.prepare::<C>([of_x, of_weight, of_bias, of_added]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([x.clone(), weight.clone()], form, by);
                prep.finish(state, B::map_rows(x, weight, bias, added, form, by))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::map_rows(x, weight, bias, added, form, by)),
        }
    }

    fn gradient_of_rows(_gradient: FloatTensor<Self>, _weight: FloatTensor<Self>, _by: By) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }

    fn gradient_of_map(_x: FloatTensor<Self>, _gradient: FloatTensor<Self>, _by: By) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }
}
