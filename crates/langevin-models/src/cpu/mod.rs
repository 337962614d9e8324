//! Layers on the CPU, by the kernels of `langevin-kernels`: for `f32`, `f16` and `bf16` tensors of Burn's backend `flex`, with and
//! without gradients. 16-bit numbers are widened before a kernel and rounded once after it.
//!
//! Each function here answers `None` for other tensors, and the layer then computes with Burn's operations.

mod activation;
mod attention;
mod convolution;
mod halves;
mod linear;
mod normalization;
mod resampling;
mod rows;
#[cfg(test)]
mod tests;
mod weighted;

pub(crate) use activation::activate;
pub(crate) use attention::attend;
pub(crate) use convolution::{convolve, convolves};
pub(crate) use linear::map_last;
pub(crate) use normalization::normalize_groups;
pub(crate) use resampling::{double, halve};
pub(crate) use rows::normalize_rows;

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use halves::{narrow, widen};

/// A tensor in a graph of gradients.
type Tracked = <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive;

/// A tensor that the kernels can read.
pub(crate) enum Value {
    /// Without gradients.
    Plain(FlexTensor),
    /// With a place in the graph of gradients.
    Tracked(Tracked),
}

impl Value {
    /// `None` for tensors of other backends and element types, and where results are computed again going back.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        if !matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return None;
        }
        match x.clone().try_into_primitive::<Flex>() {
            Ok(plain) => Some(Self::Plain(plain)),
            Err(_) => x.clone().try_into_primitive::<Autodiff<Flex>>().ok().map(Self::Tracked),
        }
    }

    fn tensor<const D: usize>(self) -> Tensor<D> {
        match self {
            Self::Plain(tensor) => Tensor::from_primitive::<Flex>(tensor),
            Self::Tracked(tensor) => Tensor::from_primitive::<Autodiff<Flex>>(tensor),
        }
    }
}

/// Whether the kernels compute with a tensor.
pub(crate) fn computes<const D: usize>(x: &Tensor<D>) -> bool {
    Value::of(x).is_some()
}

/// Whether two tensors without gradients are the same numbers in the same memory.
pub(crate) fn is_same<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> bool {
    match (Value::of(a), Value::of(b)) {
        (Some(Value::Plain(a)), Some(Value::Plain(b))) => {
            Arc::ptr_eq(&a.data_arc(), &b.data_arc()) && a.layout() == b.layout() && a.dtype() == b.dtype()
        }
        _ => false,
    }
}

/// A function of `N` tensors of `f32` and its gradient.
trait Operation<const N: usize>: Debug + Clone + Send + 'static {
    /// What the gradient needs besides the inputs.
    type Saved: Debug + Clone + Send + 'static;

    /// Whether the gradient reads the inputs. If not they are not kept for it, and it is given empty ones.
    const READS_INPUTS: bool = true;

    /// The result.
    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Saved);

    /// The gradients with respect to the inputs that are wanted.
    fn backward(
        &self,
        inputs: [FlexTensor; N],
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// An operation in the graph of gradients.
#[derive(Debug)]
struct Node<O>(O);

impl<const N: usize, O: Operation<N>> Backward<Flex, N> for Node<O> {
    type State = (Option<[FlexTensor; N]>, [DType; N], O::Saved);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let (inputs, dtypes, saved) = ops.state;
        let inputs =
            inputs.map_or_else(|| std::array::from_fn(|_| tensor(Vec::new(), [0])), |inputs| inputs.map(widen));
        let of_inputs = self.0.backward(inputs, saved, widen(gradient), wanted);
        for ((parent, gradient), dtype) in ops.parents.into_iter().zip(of_inputs).zip(dtypes) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, narrow(gradient, dtype));
            }
        }
    }
}

/// Computes the result, of the given element type, and remembers what its gradient needs. Beside inputs with a place in the graph
/// others are constants.
fn run<const N: usize, const D: usize, O: Operation<N>>(operation: O, inputs: [Value; N], dtype: DType) -> Tensor<D> {
    if inputs.iter().all(|value| matches!(value, Value::Plain(_))) {
        let inputs = inputs.map(|value| match value {
            Value::Plain(tensor) => tensor,
            Value::Tracked(tensor) => tensor.into_primitive(),
        });
        let (result, _) = operation.forward(inputs.map(widen));
        return Value::Plain(narrow(result, dtype)).tensor();
    }
    let parts = inputs.map(|value| match value {
        Value::Tracked(tensor) => tensor.into_parts(),
        Value::Plain(tensor) => Tracked::new(tensor).into_parts(),
    });
    let inputs = parts.each_ref().map(|(tensor, _)| tensor.clone());
    let nodes = parts.map(|(_, node)| node);
    let result = match Node(operation.clone()).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (result, saved) = operation.forward(inputs.clone().map(widen));
            let dtypes = inputs.each_ref().map(FlexTensor::dtype);
            prep.finish((O::READS_INPUTS.then_some(inputs), dtypes, saved), narrow(result, dtype))
        }
        OpsKind::UnTracked(prep) => prep.finish(narrow(operation.forward(inputs.map(widen)).0, dtype)),
    };
    Value::Tracked(result).tensor()
}

/// The numbers of a contiguous tensor.
fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of f32")
}

/// A tensor of numbers.
fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, shape))
}

/// The sizes of a tensor.
fn sizes<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.layout().shape().dims()
}
