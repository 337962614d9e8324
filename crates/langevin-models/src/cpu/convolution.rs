//! Convolution.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use langevin_kernels::convolution::{ConvolutionSizes, TransformedKernels};
use langevin_kernels::sums::of_channels;

use super::halves::widen;
use super::weighted::{Weighted, apply};
use super::{Value, computes, numbers, sizes, tensor};
use crate::layers::{Kept, Transform};

#[derive(Debug, Clone)]
struct Convolution(ConvolutionSizes, Option<Arc<TransformedKernels>>);

impl Weighted for Convolution {
    fn compute(&self, x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
        let ConvolutionSizes { batch, output, .. } = self.0;
        let [rows, columns] = self.0.result();
        let (x, bias) = (x.to_contiguous(), bias.map(FlexTensor::to_contiguous));
        let (x, bias) = (numbers(&x), bias.as_ref().map(numbers));
        let mut y = vec![0.0; batch * output * rows * columns];
        match &self.1 {
            Some(kernels) => self.0.forward_transformed(x, kernels, bias, &mut y),
            None => self.0.forward(x, numbers(&weight.to_contiguous()), bias, &mut y),
        }
        tensor(y, [batch, output, rows, columns])
    }

    fn gradients(
        &self,
        x: &FlexTensor,
        weight: &FlexTensor,
        gradient: &FlexTensor,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let like = |of: &FlexTensor| vec![0.0; numbers(of).len()];
        [
            of_x.then(|| {
                let mut of_x = like(&x);
                self.0.input_gradient(numbers(gradient), numbers(&weight), &mut of_x);
                tensor(of_x, sizes::<4>(&x))
            }),
            of_weight.then(|| {
                let mut of_weight = like(&weight);
                self.0.weight_gradient(numbers(&x), numbers(gradient), &mut of_weight);
                tensor(of_weight, sizes::<4>(&weight))
            }),
        ]
    }

    fn bias_gradient(&self, gradient: &FlexTensor) -> FlexTensor {
        let output = self.0.output;
        let [rows, columns] = self.0.result();
        tensor(of_channels(numbers(gradient), output, rows * columns), [output])
    }
}

/// Convolves `[batch, input, height, width]` with `[output, input, rows, columns]`, and adds the bias `[output]`, with transforms of
/// the weight that are kept, if they are.
pub(crate) fn convolve(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    stride: [usize; 2],
    padding: [usize; 2],
    kept: Option<&Kept>,
) -> Option<Tensor<4>> {
    let sizes = sizes_of(x, weight, stride, padding)?;
    let kernels = kept.and_then(|kept| transformed(kept, weight, sizes));
    apply(Convolution(sizes, kernels), x, weight, bias)
}

/// What has no pixels, or a kernel beyond the border, is left to Burn and its messages.
fn sizes_of(x: &Tensor<4>, weight: &Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> Option<ConvolutionSizes> {
    let ([batch, input, height, width], [output, _, k, l]) = (x.dims(), weight.dims());
    let fits = height + 2 * padding[0] >= k && width + 2 * padding[1] >= l;
    if !fits || [batch, input, height, width, output, k, l].contains(&0) || weight.dims()[1] != input {
        return None;
    }
    Some(ConvolutionSizes { batch, input, output, image: [height, width], kernel: [k, l], stride, padding })
}

/// Whether [`convolve`] computes it.
pub(crate) fn convolves(x: &Tensor<4>, weight: &Tensor<4>, stride: [usize; 2], padding: [usize; 2]) -> bool {
    let readable = x.dtype() == weight.dtype() && computes(x) && computes(weight);
    readable && sizes_of(x, weight, stride, padding).is_some()
}

/// The kernels of a weight that has no gradients, transformed, where the convolution goes by tiles.
fn transformed(kept: &Kept, weight: &Tensor<4>, sizes: ConvolutionSizes) -> Option<Arc<TransformedKernels>> {
    let fits = |transform: &Transform| match transform {
        Transform::Cpu(kernels) => sizes.takes(kernels),
        #[cfg(feature = "cube")]
        Transform::Gpu(_) => false,
    };
    let make = || {
        let Some(Value::Plain(weight)) = Value::of(weight) else { return None };
        let kernels = sizes.transform(numbers(&widen(weight).to_contiguous()))?;
        Some(Transform::Cpu(Arc::new(kernels)))
    };
    match kept.transform(weight, fits, make)? {
        Transform::Cpu(kernels) => Some(kernels),
        #[cfg(feature = "cube")]
        Transform::Gpu(_) => None,
    }
}
