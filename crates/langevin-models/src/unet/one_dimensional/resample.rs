//! Halving and doubling signals by a filter that is not trained.

use burn::module::{Module, Param, ParamId};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Shape, Tensor};

/// The cubic filter of eight taps: symmetric, with sum 1.
const CUBIC: [f64; 8] = [
    -0.011_718_75,
    -0.035_156_25,
    0.113_281_25,
    0.433_593_75,
    0.433_593_75,
    0.113_281_25,
    -0.035_156_25,
    -0.011_718_75,
];

/// A cubic filter for halving or doubling signals, stored with the weights but never trained. The signal is mirrored at
/// its ends.
#[derive(Module, Debug)]
pub struct FixedFilter {
    /// The taps `[8]`.
    pub kernel: Param<Tensor<1>>,
    doubles: bool,
}

impl FixedFilter {
    pub(super) fn halving(device: &Device) -> Self {
        Self::new(1.0, false, device)
    }

    pub(super) fn doubling(device: &Device) -> Self {
        Self::new(2.0, true, device)
    }

    fn new(gain: f64, doubles: bool, device: &Device) -> Self {
        let kernel = Param::uninitialized(
            ParamId::new(),
            move |device, _| Tensor::from_data(CUBIC.map(|tap| tap * gain), device),
            device.clone(),
            false,
            Shape::from([CUBIC.len()]),
        );
        Self { kernel, doubles }
    }

    /// Halves or doubles the signal.
    ///
    /// # Shapes
    ///
    /// - input: `[batch, channels, length]`, even and at least 4 for halving, at least 3 for doubling
    /// - output: `[batch, channels, length/2]` or `[batch, channels, 2·length]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        if self.doubles { self.double(x) } else { self.halve(x) }
    }

    fn tap(&self, k: usize, like: &Tensor<3>) -> Tensor<3> {
        self.kernel.val().narrow(0, k, 1).reshape([1, 1, 1]).cast(like.dtype())
    }

    /// `y_i = Σ_k w_k·x_{2i + k - 3}`, read from the even and the odd entries.
    fn halve(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, channels, length] = x.dims();
        let pairs = x.pad([(3, 3)], PadMode::Reflect).reshape([batch, channels, length / 2 + 3, 2]);
        let entries = |k: usize| {
            let entries = pairs.clone().narrow(3, k % 2, 1).reshape([batch, channels, length / 2 + 3]);
            entries.narrow(2, k / 2, length / 2)
        };
        self.sum((0..8).map(|k| (k, entries(k))))
    }

    /// Every entry adds the taps to the output, two apart: even outputs get the odd taps and odd ones the even taps.
    fn double(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, channels, length] = x.dims();
        let x = x.pad([(2, 2)], PadMode::Reflect);
        let from = |m: usize| x.clone().narrow(2, m, length);
        let even = self.sum((0..4).map(|m| (7 - 2 * m, from(m))));
        let odd = self.sum((1..5).map(|m| (8 - 2 * m, from(m))));
        Tensor::stack::<4>(vec![even, odd], 3).reshape([batch, channels, 2 * length])
    }

    fn sum(&self, terms: impl Iterator<Item = (usize, Tensor<3>)>) -> Tensor<3> {
        let terms = terms.map(|(k, x)| {
            let tap = self.tap(k, &x);
            x * tap
        });
        terms.reduce(|sum, term| sum + term).expect("a filter has taps")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    /// An entry of the mirrored signal.
    fn mirrored(x: &[f64], i: isize) -> f64 {
        let last = x.len() as isize - 1;
        let i = i.abs();
        x[(if i > last { 2 * last - i } else { i }) as usize]
    }

    #[test]
    fn halving_agrees_with_the_definition() {
        let x = tensor([2, 3, 10], 0.4, &flex());
        let expected: Vec<f64> = (values(&x).chunks(10))
            .flat_map(|x| (0..5).map(|i| (0..8).map(|k| CUBIC[k] * mirrored(x, (2 * i + k) as isize - 3)).sum()))
            .collect();
        assert_close(&FixedFilter::halving(&flex()).forward(x), &expected, 1e-6);
    }

    #[test]
    fn doubling_agrees_with_the_definition() {
        // A transposed convolution with stride 2 of the signal mirrored by two, of which 7 entries are cut off.
        let x = tensor([2, 3, 5], 0.4, &flex());
        let expected: Vec<f64> = (values(&x).chunks(5))
            .flat_map(|x| {
                let mut y = [0.0; 24];
                for m in 0..9 {
                    for (k, tap) in CUBIC.iter().enumerate() {
                        y[2 * m + k] += 2.0 * tap * mirrored(x, m as isize - 2);
                    }
                }
                y[7..17].to_vec()
            })
            .collect();
        assert_close(&FixedFilter::doubling(&flex()).forward(x), &expected, 1e-6);
    }

    #[test]
    fn constants_stay_and_the_filter_is_not_trained() {
        let device = flex().autodiff();
        let x = Tensor::<3>::full([1, 2, 8], 0.7, &device);
        for (filter, length) in [(FixedFilter::halving(&device), 4), (FixedFilter::doubling(&device), 16)] {
            assert!(!filter.kernel.val().is_require_grad());
            assert_close(&filter.forward(x.clone()), &vec![0.7; 2 * length], 1e-6);
        }
    }
}
