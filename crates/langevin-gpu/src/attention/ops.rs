//! Attention as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::{DType, Shape};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::scores::products_of_rows;
use super::{By, How, gradient_by_products, single};
#[cfg(feature = "vulkan")]
use super::{gradient_by_planes, planes};

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait AttentionOps: Backend {
    #[fusion(meta = output)]
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        how: How,
    ) -> FloatTensor<Self>;

    /// The same, and what the scores of each query begin with going back.
    #[fusion(meta = noted)]
    fn attend_noting(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        how: How,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of queries, keys and values from the output and its gradient, with the starts of the scores of each query.
    #[fusion(meta = like_inputs)]
    fn attend_back(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        how: How,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn output(query: &TensorSpec, _key: &TensorSpec, value: &TensorSpec, _how: &How) -> TensorSpec {
    TensorSpec::new(Shape::new([query.shape[0], query.shape[1], value.shape[2]]), query.dtype)
}

fn noted(query: &TensorSpec, key: &TensorSpec, value: &TensorSpec, how: &How) -> (TensorSpec, TensorSpec) {
    let starts = TensorSpec::new(Shape::new([query.shape[0], query.shape[1]]), DType::F32);
    (output(query, key, value, how), starts)
}

fn like_inputs(
    query: &TensorSpec,
    key: &TensorSpec,
    value: &TensorSpec,
    _output: &TensorSpec,
    _gradient: &TensorSpec,
    _starts: &TensorSpec,
    _how: &How,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (query.clone(), key.clone(), value.clone())
}

impl AttentionOps for CubeBackend {
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        how: How,
    ) -> FloatTensor<Self> {
        Self::attend_noting(query, key, value, how).0
    }

    fn attend_noting(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        how: How,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value] = [query, key, value].map(into_contiguous);
        let [y, starts] = match how.by {
            By::Single => single::attention(query, key, value, how.scale),
            #[cfg(feature = "vulkan")]
            By::Planes { .. } => planes::attention(query, key, value, how.scale),
        };
        (y, starts)
    }

    fn attend_back(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        how: How,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value, output, gradient] = [query, key, value, output, gradient].map(into_contiguous);
        // The mean of each query's gradients of weights under its weights.
        let of_rows = [starts, products_of_rows(&output, &gradient)];
        let tensors = [query, key, value, gradient];
        let [query, key, value] = match how.by {
            #[cfg(feature = "vulkan")]
            By::Planes { back: true } => gradient_by_planes::gradients(tensors, of_rows, how.scale),
            _ => gradient_by_products::gradients(tensors, of_rows, how),
        };
        (query, key, value)
    }
}

impl<B: Backend + AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        how: How,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attend;

        impl<B: Backend + AttentionOps> Backward<B, 3> for Attend {
            type State = Attended<B>;

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<B>(&ops.node);
                let Attended { inputs: [query, key, value], output, starts, how } = ops.state;
                let (query, key, value) = B::attend_back(query, key, value, output, gradient, starts, how);
                for (node, gradient) in ops.parents.into_iter().zip([query, key, value]) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let ((query, of_query), (key, of_key), (value, of_value)) =
            (query.into_parts(), key.into_parts(), value.into_parts());
        match Attend.prepare::<C>([of_query, of_key, of_value]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, starts) = B::attend_noting(query.clone(), key.clone(), value.clone(), how);
                prep.finish(Attended { inputs: [query, key, value], output: y.clone(), starts, how }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::attend(query, key, value, how)),
        }
    }

    fn attend_noting(
        _query: FloatTensor<Self>,
        _key: FloatTensor<Self>,
        _value: FloatTensor<Self>,
        _how: How,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("an operation of the backend below")
    }

    fn attend_back(
        _query: FloatTensor<Self>,
        _key: FloatTensor<Self>,
        _value: FloatTensor<Self>,
        _output: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _starts: FloatTensor<Self>,
        _how: How,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("Burn differentiates once")
    }
}

/// What attention keeps for its gradient.
#[derive(Clone, Debug)]
struct Attended<B: Backend> {
    /// Queries, keys and values.
    inputs: [FloatTensor<B>; 3],
    output: FloatTensor<B>,
    /// What the scores of each query begin with.
    starts: FloatTensor<B>,
    how: How,
}
