//! Images of twice and of half the size.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use langevin_kernels::resampling::{repeat_quads, sum_quads};

use super::{Operation, Value, numbers, run, sizes, tensor};

/// Each repeats blocks of 2 x 2 pixels one way and sums them up the other.
#[derive(Debug, Clone, Copy)]
enum Resample {
    Double,
    Halve,
}

impl Resample {
    fn doubled(x: &FlexTensor, scale: f32) -> FlexTensor {
        let [batch, channels, height, width] = sizes(x);
        let mut y = vec![0.0; 4 * batch * channels * height * width];
        repeat_quads(numbers(&x.to_contiguous()), width, scale, &mut y);
        tensor(y, [batch, channels, 2 * height, 2 * width])
    }

    fn halved(x: &FlexTensor, scale: f32) -> FlexTensor {
        let [batch, channels, height, width] = sizes(x);
        let mut y = vec![0.0; batch * channels * height * width / 4];
        sum_quads(numbers(&x.to_contiguous()), width / 2, scale, &mut y);
        tensor(y, [batch, channels, height / 2, width / 2])
    }
}

impl Operation<1> for Resample {
    type Saved = ();

    const READS_INPUTS: bool = false;

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        let y = match self {
            Self::Double => Self::doubled(&x, 1.0),
            Self::Halve => Self::halved(&x, 0.25),
        };
        (y, ())
    }

    fn backward(&self, _: [FlexTensor; 1], (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(match self {
            Self::Double => Self::halved(&gradient, 1.0),
            Self::Halve => Self::doubled(&gradient, 0.25),
        })]
    }
}

/// Repeats the pixels of `[batch, channels, height, width]`.
pub(crate) fn double(x: &Tensor<4>) -> Option<Tensor<4>> {
    of(Resample::Double, x)
}

/// Averages blocks of 2 x 2 pixels of `[batch, channels, height, width]`, whose sides are even.
pub(crate) fn halve(x: &Tensor<4>) -> Option<Tensor<4>> {
    of(Resample::Halve, x)
}

fn of(resample: Resample, x: &Tensor<4>) -> Option<Tensor<4>> {
    let [_, _, height, width] = x.dims();
    // What cannot be halved is refused by Burn's own reshape.
    let even = height % 2 + width % 2 == 0;
    if x.shape().num_elements() == 0 || (matches!(resample, Resample::Halve) && !even) {
        return None;
    }
    Some(run(resample, [Value::of(x)?], x.dtype()))
}
