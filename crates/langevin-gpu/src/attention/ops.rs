//! Attention as an operation of Burn's backends.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Scalar, Shape, Slice};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

pub(super) use burn::backend::Dispatch;

use super::gradient::{gradients, serves};
use super::kernels::attention;
use crate::additions::Added;
use crate::product::any::{product_of_any, reaches};
use crate::product::kernels::{multiplies, product};
use crate::product::{Turned, times};

/// Scores that are held at once going back: 64 Mi, which is 256 MiB in `f32`.
const LARGEST_SCORES: usize = 1 << 26;

#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait AttentionOps: Backend {
    #[fusion(meta = output)]
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;

    /// The same, and what the scores of each query begin with going back.
    #[fusion(meta = noted)]
    fn attend_noting(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of queries, keys and values from that of the output, with the starts and the mean of each query's row.
    #[fusion(meta = like_inputs)]
    fn attend_back(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        means: FloatTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Products of batches of matrices, of which either factor may be there as its transpose. `wide` ones are in `f32`.
    #[fusion(meta = multiplied)]
    fn products(left: FloatTensor<Self>, right: FloatTensor<Self>, turned: Turned, wide: bool) -> FloatTensor<Self>;
}

fn multiplied(left: &TensorSpec, right: &TensorSpec, turned: &Turned, wide: &bool) -> TensorSpec {
    let (rows, columns) = (left.shape[1 + usize::from(turned.left)], right.shape[2 - usize::from(turned.right)]);
    TensorSpec::new(Shape::new([left.shape[0], rows, columns]), if *wide { DType::F32 } else { left.dtype })
}

fn output(query: &TensorSpec, _key: &TensorSpec, value: &TensorSpec, _scale: &f64) -> TensorSpec {
    TensorSpec::new(Shape::new([query.shape[0], query.shape[1], value.shape[2]]), query.dtype)
}

fn noted(query: &TensorSpec, key: &TensorSpec, value: &TensorSpec, scale: &f64) -> (TensorSpec, TensorSpec) {
    let starts = TensorSpec::new(Shape::new([query.shape[0], query.shape[1]]), DType::F32);
    (output(query, key, value, scale), starts)
}

fn like_inputs(
    query: &TensorSpec,
    key: &TensorSpec,
    value: &TensorSpec,
    _gradient: &TensorSpec,
    _starts: &TensorSpec,
    _means: &TensorSpec,
    _scale: &f64,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (query.clone(), key.clone(), value.clone())
}

impl AttentionOps for CubeBackend {
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        Self::attend_noting(query, key, value, scale).0
    }

    fn attend_noting(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value] = [query, key, value].map(into_contiguous);
        let [y, starts] = attention(query, key, value, scale);
        (y, starts)
    }

    fn attend_back(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        means: FloatTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let tensors = [query, key, value, gradient].map(into_contiguous);
        let [query, key, value] = gradients(tensors, [starts, means].map(into_contiguous), scale);
        (query, key, value)
    }

    fn products(left: FloatTensor<Self>, right: FloatTensor<Self>, turned: Turned, wide: bool) -> FloatTensor<Self> {
        if !wide && multiplies(&left, &right, turned) {
            let (left, right) = (into_contiguous(left), into_contiguous(right));
            let nothing = Added::nothing(&right);
            return product(left, right, turned, nothing);
        }
        let to = if wide { DType::F32 } else { left.dtype };
        // Attention was by matrices of a plane, so that there are some; Burn's products would be tried out first, for seconds.
        if reaches(&left, &right, turned) {
            return product_of_any(into_contiguous(left), into_contiguous(right), turned, to);
        }
        Self::float_cast(times(left, right, turned), FloatDType::from(to))
    }
}

impl<B: Backend + AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attend;

        impl<B: Backend + AttentionOps> Backward<B, 3> for Attend {
            type State = Attended<B>;

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<B>(&ops.node);
                let found = ops.state.gradients(gradient);
                for (node, gradient) in ops.parents.into_iter().zip(found) {
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
                let (y, starts) = B::attend_noting(query.clone(), key.clone(), value.clone(), scale);
                let output = serves(query.shape().dims(), value.shape().dims()).then(|| (y.clone(), starts));
                prep.finish(Attended { inputs: [query, key, value], output, scale }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::attend(query, key, value, scale)),
        }
    }

    fn attend_noting(
        _query: FloatTensor<Self>,
        _key: FloatTensor<Self>,
        _value: FloatTensor<Self>,
        _scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("an operation of the backend below")
    }

    fn attend_back(
        _query: FloatTensor<Self>,
        _key: FloatTensor<Self>,
        _value: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
        _starts: FloatTensor<Self>,
        _means: FloatTensor<Self>,
        _scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("Burn differentiates once")
    }

    fn products(
        _left: FloatTensor<Self>,
        _right: FloatTensor<Self>,
        _turned: Turned,
        _wide: bool,
    ) -> FloatTensor<Self> {
        panic!("Burn differentiates once")
    }
}

/// What attention keeps for its gradient.
#[derive(Clone, Debug)]
struct Attended<B: Backend> {
    /// Queries, keys and values.
    inputs: [FloatTensor<B>; 3],
    /// The output, and what the scores of each query begin with, where a kernel goes back.
    output: Option<(FloatTensor<B>, FloatTensor<B>)>,
    scale: f64,
}

impl<B: Backend + AttentionOps> Attended<B> {
    fn gradients(self, gradient: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        let Self { inputs: [query, key, value], output, scale } = self;
        let Some((y, starts)) = output else {
            return going_back::<B>([&query, &key, &value, &gradient], scale, LARGEST_SCORES);
        };
        let wide = |x| B::float_cast(x, FloatDType::F32);
        // The mean of each query's gradients of weights under its weights.
        let means = B::float_sum_dim(B::float_mul(wide(gradient.clone()), wide(y)), 2);
        let (query, key, value) = B::attend_back(query, key, value, gradient, starts, means, scale);
        [query, key, value]
    }
}

/// The gradients of queries, keys and values, some heads or some queries of a head at a time: `largest` scores.
fn going_back<B: AttentionOps>(
    [query, key, value, gradient]: [&FloatTensor<B>; 4],
    scale: f64,
    largest: usize,
) -> [FloatTensor<B>; 3] {
    let [heads, queries, _] = query.shape().dims();
    let [_, keys, _] = key.shape().dims();
    let together = (largest / (queries * keys)).clamp(1, heads);
    let portion = (largest / keys).clamp(1, queries);
    let part = |x: &FloatTensor<B>, heads: [usize; 2], tokens: [usize; 2]| {
        let slices = [Slice::from(heads[0]..heads[1]), Slice::from(tokens[0]..tokens[1]), Slice::full()];
        B::float_slice(x.clone(), &slices)
    };
    let mut found: [Vec<FloatTensor<B>>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for head in (0..heads).step_by(together) {
        let some = [head, (head + together).min(heads)];
        let (key, value) = (part(key, some, [0, keys]), part(value, some, [0, keys]));
        let mut of_queries = Vec::new();
        let mut of_others: Option<[FloatTensor<B>; 2]> = None;
        for from in (0..queries).step_by(portion) {
            let tokens = [from, (from + portion).min(queries)];
            let (query, gradient) = (part(query, some, tokens), part(gradient, some, tokens));
            let [of_query, of_key, of_value] = of_part::<B>(query, &key, &value, gradient, scale);
            of_queries.push(of_query);
            of_others = Some(match of_others {
                None => [of_key, of_value],
                Some([keys, values]) => [B::float_add(keys, of_key), B::float_add(values, of_value)],
            });
        }
        found[0].push(joined::<B>(of_queries, 1));
        let [of_key, of_value] = of_others.expect("a portion of the queries");
        found[1].push(of_key);
        found[2].push(of_value);
    }
    found.map(|parts| joined::<B>(parts, 0))
}

fn joined<B: Backend>(mut parts: Vec<FloatTensor<B>>, axis: usize) -> FloatTensor<B> {
    if parts.len() == 1 { parts.remove(0) } else { B::float_cat(parts, axis) }
}

/// With P = softmax(scale·Q·Kᵀ) and the gradient G of P·V: Pᵀ·G for the values, and with S = P ∘ (G·Vᵀ - its mean under P)
/// scale·S·K for the queries and scale·Sᵀ·Q for the keys.
fn of_part<B: AttentionOps>(
    query: FloatTensor<B>,
    key: &FloatTensor<B>,
    value: &FloatTensor<B>,
    gradient: FloatTensor<B>,
    scale: f64,
) -> [FloatTensor<B>; 3] {
    let dtype = FloatDType::from(query.dtype());
    let product = |left: &FloatTensor<B>, right: &FloatTensor<B>, turned: [bool; 2], wide| {
        B::products(left.clone(), right.clone(), Turned { left: turned[0], right: turned[1] }, wide)
    };
    let times = |left: &FloatTensor<B>, right: &FloatTensor<B>, turned| product(left, right, turned, false);
    // Scores and their gradients are not rounded: what is subtracted from them is about as large.
    let scores = B::float_mul_scalar(product(&query, key, [false, true], true), Scalar::from(scale));
    let most = B::float_max_dim(scores.clone(), 2);
    let weights = B::float_exp(B::float_sub(scores, most));
    let weights = B::float_div(weights.clone(), B::float_sum_dim(weights, 2));
    let narrow = B::float_cast(weights.clone(), dtype);
    let of_value = times(&narrow, &gradient, [true, false]);
    let of_weights = product(&gradient, value, [false, true], true);
    let mean = B::float_sum_dim(B::float_mul(weights.clone(), of_weights.clone()), 2);
    let of_scores = B::float_cast(B::float_mul(weights, B::float_sub(of_weights, mean)), dtype);
    let scaled = |x| B::float_mul_scalar(x, Scalar::from(scale));
    let of_key = scaled(times(&of_scores, &query, [true, false]));
    let of_query = scaled(times(&of_scores, key, [false, false]));
    [of_query, of_key, of_value]
}
