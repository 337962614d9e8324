//! Normalization of groups of channels.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, Tensor};
use langevin_kernels::normalization::{GroupSizes, Moments};

use super::{Operation, Value, numbers, run, tensor};

#[derive(Debug, Clone)]
struct Normalization {
    sizes: GroupSizes,
    shape: Shape,
}

impl Operation<3> for Normalization {
    type Saved = Arc<[Moments]>;

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let [x, weight, bias] = inputs.map(|input| input.to_contiguous());
        let mut y = vec![0.0; numbers(&x).len()];
        let moments = self.sizes.forward(numbers(&x), numbers(&weight), numbers(&bias), &mut y);
        (tensor(y, self.shape.clone()), moments.into())
    }

    fn backward(
        &self,
        inputs: [FlexTensor; 3],
        moments: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let [x, weight, bias] = inputs.map(|input| input.to_contiguous());
        let mut of_x = numbers(&gradient.to_contiguous()).to_vec();
        let [of_weight, of_bias] =
            self.sizes.gradient(numbers(&x), numbers(&weight), numbers(&bias), &moments, &mut of_x);
        let channels = [self.sizes.channels];
        let gradients = [tensor(of_x, self.shape.clone()), tensor(of_weight, channels), tensor(of_bias, channels)];
        let mut wanted = wanted.into_iter();
        gradients.map(|gradient| wanted.next().unwrap_or(false).then_some(gradient))
    }
}

/// Normalizes groups of channels of `[batch, channels, ..]`, scales and shifts each channel, and applies SiLU if asked for.
pub(crate) fn normalize_groups<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    groups: usize,
    epsilon: f64,
    silu: bool,
) -> Option<Tensor<D>> {
    let shape = x.shape();
    let [batch, channels] = [shape[0], shape[1]];
    let pixels = shape[2..].iter().product();
    if [batch, channels, pixels].contains(&0) {
        return None;
    }
    let sizes = GroupSizes { batch, channels, pixels, groups, epsilon: epsilon as f32, silu };
    Some(run(Normalization { sizes, shape }, [Value::of(x)?, Value::of(weight)?, Value::of(bias)?], x.dtype()))
}
