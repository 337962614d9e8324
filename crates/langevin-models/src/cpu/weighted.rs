//! Maps of an input by a weight, to which a bias may be added: operations of two tensors, or of three.

use std::fmt::Debug;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::{Operation, Value, run};

/// A map of an input by a weight.
pub(super) trait Weighted: Debug + Clone + Send + 'static {
    /// The result.
    fn compute(&self, x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor;

    /// The gradients with respect to the input and the weight, of those that are wanted. The gradient of the result is contiguous.
    fn gradients(
        &self,
        x: &FlexTensor,
        weight: &FlexTensor,
        gradient: &FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2];

    /// The gradient with respect to the bias.
    fn bias_gradient(&self, gradient: &FlexTensor) -> FlexTensor;
}

/// Computes a map. `None` for tensors that the kernels do not read, and of different types: for those Burn has a message.
pub(super) fn apply<W: Weighted, const D: usize, const E: usize>(
    map: W,
    x: &Tensor<D>,
    weight: &Tensor<E>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let dtype = x.dtype();
    if weight.dtype() != dtype || bias.is_some_and(|bias| bias.dtype() != dtype) {
        return None;
    }
    let (x, weight) = (Value::of(x)?, Value::of(weight)?);
    Some(match bias {
        Some(bias) => run(By(map), [x, weight, Value::of(bias)?], dtype),
        None => run(By(map), [x, weight], dtype),
    })
}

/// A map as an operation.
#[derive(Debug, Clone)]
struct By<W>(W);

impl<W: Weighted> Operation<2> for By<W> {
    type Saved = ();

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, ()) {
        (self.0.compute(&x, &weight, None), ())
    }

    fn backward(
        &self,
        [x, weight]: [FlexTensor; 2],
        (): (),
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        self.0.gradients(&x, &weight, &gradient.to_contiguous(), wanted)
    }
}

impl<W: Weighted> Operation<3> for By<W> {
    type Saved = ();

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, ()) {
        (self.0.compute(&x, &weight, Some(&bias)), ())
    }

    fn backward(
        &self,
        [x, weight, _]: [FlexTensor; 3],
        (): (),
        gradient: FlexTensor,
        [of_x, of_weight, of_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = gradient.to_contiguous();
        let of_bias = of_bias.then(|| self.0.bias_gradient(&gradient));
        let [of_x, of_weight] = self.0.gradients(&x, &weight, &gradient, [of_x, of_weight]);
        [of_x, of_weight, of_bias]
    }
}
