//! Affine maps.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};
use langevin_kernels::linear::LinearSizes;
use langevin_kernels::sums::of_columns;

use super::weighted::{Weighted, apply};
use super::{numbers, tensor};

#[derive(Debug, Clone)]
struct Linear {
    sizes: LinearSizes,
    /// Shapes of the inputs and of the results.
    shapes: [Shape; 2],
}

impl Weighted for Linear {
    fn compute(&self, x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
        let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.map(FlexTensor::to_contiguous));
        let mut y = vec![0.0; self.sizes.rows * self.sizes.output];
        self.sizes.forward(numbers(&x), numbers(&weight), bias.as_ref().map(numbers), &mut y);
        tensor(y, self.shapes[1].clone())
    }

    fn gradients(
        &self,
        x: &FlexTensor,
        weight: &FlexTensor,
        gradient: &FlexTensor,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let LinearSizes { rows, input, output } = self.sizes;
        [
            of_x.then(|| {
                let mut of_x = vec![0.0; rows * input];
                self.sizes.input_gradient(numbers(gradient), numbers(&weight.to_contiguous()), &mut of_x);
                tensor(of_x, self.shapes[0].clone())
            }),
            of_weight.then(|| {
                let mut of_weight = vec![0.0; output * input];
                self.sizes.weight_gradient(numbers(&x.to_contiguous()), numbers(gradient), &mut of_weight);
                tensor(of_weight, [output, input])
            }),
        ]
    }

    fn bias_gradient(&self, gradient: &FlexTensor) -> FlexTensor {
        let output = self.sizes.output;
        tensor(of_columns(numbers(gradient), output), [output])
    }
}

/// Maps the last axis of `[.., input]` by a weight `[output, input]`, and adds the bias `[output]`.
pub(crate) fn map_last<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let [output, input] = weight.dims();
    let mut dims = x.dims();
    let rows = dims[..D - 1].iter().product();
    if dims[D - 1] != input || [rows, input, output].contains(&0) {
        return None;
    }
    let from = x.shape();
    dims[D - 1] = output;
    let linear = Linear { sizes: LinearSizes { rows, input, output }, shapes: [from, Shape::from(dims)] };
    apply(linear, x, weight, bias)
}
