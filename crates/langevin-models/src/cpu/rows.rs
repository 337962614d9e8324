//! Normalization of the last axis.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};
use langevin_kernels::normalization::Moments;
use langevin_kernels::rows::RowSizes;

use super::{Operation, Value, numbers, run, tensor};

#[derive(Debug, Clone)]
struct Rows {
    sizes: RowSizes,
    shape: Shape,
}

impl Rows {
    fn compute(&self, x: &FlexTensor, parameters: [Option<&FlexTensor>; 2]) -> (FlexTensor, Arc<[Moments]>) {
        let x = x.to_contiguous();
        let parameters = parameters.map(|parameter| parameter.map(FlexTensor::to_contiguous));
        let [weight, bias] = parameters.each_ref().map(|parameter| parameter.as_ref().map(numbers));
        let mut y = vec![0.0; numbers(&x).len()];
        let moments = self.sizes.forward(numbers(&x), weight, bias, &mut y);
        (tensor(y, self.shape.clone()), moments.into())
    }

    /// The gradients with respect to the input, the weight and the bias.
    fn gradients(
        &self,
        x: &FlexTensor,
        weight: Option<&FlexTensor>,
        moments: &[Moments],
        gradient: &FlexTensor,
    ) -> [FlexTensor; 3] {
        let (x, weight) = (x.to_contiguous(), weight.map(FlexTensor::to_contiguous));
        let mut of_x = numbers(&gradient.to_contiguous()).to_vec();
        let parameters = self.sizes.gradient(numbers(&x), weight.as_ref().map(numbers), moments, &mut of_x);
        let [of_weight, of_bias] = parameters.map(|of| tensor(of, [self.sizes.width]));
        [tensor(of_x, self.shape.clone()), of_weight, of_bias]
    }
}

/// The gradients that are wanted.
fn of_those<const N: usize>(gradients: [FlexTensor; 3], wanted: [bool; N]) -> [Option<FlexTensor>; N] {
    let mut gradients = gradients.into_iter();
    wanted.map(|wanted| gradients.next().filter(|_| wanted))
}

impl Operation<1> for Rows {
    type Saved = Arc<[Moments]>;

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, Self::Saved) {
        self.compute(&x, [None, None])
    }

    fn backward(
        &self,
        [x]: [FlexTensor; 1],
        moments: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        of_those(self.gradients(&x, None, &moments, &gradient), wanted)
    }
}

impl Operation<2> for Rows {
    type Saved = Arc<[Moments]>;

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        self.compute(&x, [Some(&weight), None])
    }

    fn backward(
        &self,
        [x, weight]: [FlexTensor; 2],
        moments: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        of_those(self.gradients(&x, Some(&weight), &moments, &gradient), wanted)
    }
}

impl Operation<3> for Rows {
    type Saved = Arc<[Moments]>;

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        self.compute(&x, [Some(&weight), Some(&bias)])
    }

    fn backward(
        &self,
        [x, weight, _]: [FlexTensor; 3],
        moments: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        of_those(self.gradients(&x, Some(&weight), &moments, &gradient), wanted)
    }
}

/// Normalizes the last axis, with the mean taken away where it is `centered`, and scales and shifts it. `None` also for a bias
/// without a weight.
pub(crate) fn normalize_rows<const D: usize>(
    x: &Tensor<D>,
    parameters: [Option<&Tensor<1>>; 2],
    centered: bool,
    epsilon: f64,
) -> Option<Tensor<D>> {
    let shape = x.shape();
    let (width, count, dtype) = (shape[D - 1], shape.num_elements(), x.dtype());
    if count == 0 || parameters.iter().flatten().any(|parameter| parameter.dims() != [width]) {
        return None;
    }
    let sizes = RowSizes { rows: count / width, width, centered, epsilon: epsilon as f32 };
    let (rows, x) = (Rows { sizes, shape }, Value::of(x)?);
    match parameters {
        [None, None] => Some(run(rows, [x], dtype)),
        [Some(weight), None] => Some(run(rows, [x, Value::of(weight)?], dtype)),
        [Some(weight), Some(bias)] => Some(run(rows, [x, Value::of(weight)?, Value::of(bias)?], dtype)),
        [None, Some(_)] => None,
    }
}
