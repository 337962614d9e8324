//! The product of batches of matrices as an operation of Burn's backends, with its gradients.

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
use burn_cubecl::tensor::CubeTensor;

use super::Turned;
use super::single::{is_product_of, product, reaches, sides};
use crate::additions::Added;

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait MultiplyOps: Backend {
    /// Products of batches of matrices, of which either factor may be there as its transpose.
    #[fusion(meta = multiplied)]
    fn multiply(left: FloatTensor<Self>, right: FloatTensor<Self>, turned: Turned) -> FloatTensor<Self>;
}

fn multiplied(left: &TensorSpec, right: &TensorSpec, turned: &Turned) -> TensorSpec {
    let (rows, columns) = (left.shape[1 + usize::from(turned.left)], right.shape[2 - usize::from(turned.right)]);
    TensorSpec::new(Shape::new([left.shape[0], rows, columns]), left.dtype)
}

/// `left·right`: by the kernel here where the device has no matrices of the type in hardware, and else, or where one launch does not reach all
/// of the result, by Burn's.
pub(crate) fn times(left: CubeTensor, right: CubeTensor, turned: Turned) -> CubeTensor {
    let ([batch, rows, input], [_, _, output]) = (sides(&left, turned.left), sides(&right, turned.right));
    if is_product_of(&left.client, left.dtype) && reaches([batch, rows, input], output) {
        let nothing = Added::nothing(&right);
        return product(into_contiguous(left), into_contiguous(right), turned, nothing);
    }
    let turn = |x, turned| if turned { CubeBackend::float_swap_dims(x, 1, 2) } else { x };
    CubeBackend::float_matmul(turn(left, turned.left), turn(right, turned.right))
}

impl MultiplyOps for CubeBackend {
    fn multiply(left: FloatTensor<Self>, right: FloatTensor<Self>, turned: Turned) -> FloatTensor<Self> {
        times(left, right, turned)
    }
}

impl<B: Backend + MultiplyOps, C: CheckpointStrategy> MultiplyOps for Autodiff<B, C> {
    fn multiply(left: FloatTensor<Self>, right: FloatTensor<Self>, turned: Turned) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Multiply;

        impl<B: Backend + MultiplyOps> Backward<B, 2> for Multiply {
            type State = ([FloatTensor<B>; 2], Turned);

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [of_left, of_right] = ops.parents;
                let gradient = grads.consume::<B>(&ops.node);
                let ([left, right], turned) = ops.state;
                // With y = l·r: of l it is g·rᵀ, of r it is lᵀ·g, and the transposes of these where the factors are there as theirs.
                if let Some(node) = of_left {
                    let (g, r) = (gradient.clone(), right);
                    let found = if turned.left {
                        B::multiply(r, g, Turned { left: turned.right, right: true })
                    } else {
                        B::multiply(g, r, Turned { left: false, right: !turned.right })
                    };
                    grads.register::<B>(node.id, found);
                }
                if let Some(node) = of_right {
                    let (g, l) = (gradient, left);
                    let found = if turned.right {
                        B::multiply(g, l, Turned { left: true, right: turned.left })
                    } else {
                        B::multiply(l, g, Turned { left: !turned.left, right: false })
                    };
                    grads.register::<B>(node.id, found);
                }
            }
        }

        let ((left, of_left), (right, of_right)) = (left.into_parts(), right.into_parts());
        match Multiply.prepare::<C>([of_left, of_right]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = ([left.clone(), right.clone()], turned);
                prep.finish(state, B::multiply(left, right, turned))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::multiply(left, right, turned)),
        }
    }
}
