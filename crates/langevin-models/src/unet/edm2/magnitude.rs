//! Functions and layers that preserve the magnitude of what passes through them: where the entries of an input have
//! a mean square of one, so have those of the output, as long as they are uncorrelated.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, Distribution, Shape, Tensor, activation};
use std::f64::consts::{PI, SQRT_2};

use crate::error::{ModelError, at_least_one};
use crate::layers::{convolve, multiply, random, sin_cos, widen};

/// Added to a norm before dividing by it.
const EPSILON: f64 = 1e-4;

/// Root of the mean square of `silu(x)` over a standard normal x.
const SILU: f64 = 0.596;

/// SiLU, divided by 0.596 so that a standard normal input has an output of magnitude one (equation 81).
pub fn mp_silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::silu(x) / SILU
}

/// `((1 - t)·a + t·b) / √((1 - t)² + t²)` (equation 88).
pub fn mp_sum<const D: usize>(a: Tensor<D>, b: Tensor<D>, t: f64) -> Tensor<D> {
    let size = ((1.0 - t).powi(2) + t.powi(2)).sqrt();
    a * ((1.0 - t) / size) + b * (t / size)
}

/// Concatenates channels so that `a` and `b` contribute as `1 - t` to `t` whatever their numbers of channels, and the
/// whole has magnitude one (equation 103).
pub fn mp_cat(a: Tensor<4>, b: Tensor<4>, t: f64) -> Tensor<4> {
    let (na, nb) = (a.dims()[1] as f64, b.dims()[1] as f64);
    let size = ((na + nb) / ((1.0 - t).powi(2) + t.powi(2))).sqrt();
    Tensor::cat(vec![a * (size * (1.0 - t) / na.sqrt()), b * (size * t / nb.sqrt())], 1)
}

/// Divides by the root mean square along one axis (equation 30, over channels). Half precision is normalized in `f32`.
pub fn unit_magnitude<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let dtype = x.dtype();
    let x = widen(x);
    let size = x.clone().square().mean_dim(axis).sqrt() + EPSILON;
    (x / size).cast(dtype)
}

/// Each row of weights with a root mean square of one, in `f32` or wider (algorithm 1).
fn normalized<const D: usize>(weight: Tensor<D>) -> Tensor<D> {
    let shape = weight.dims();
    let rows = widen(weight).reshape([shape[0], shape[1..].iter().product()]);
    unit_magnitude(rows, 1).reshape(shape)
}

/// The parameter with normalized rows, no longer part of any graph.
fn force<const D: usize>(weight: Param<Tensor<D>>) -> Param<Tensor<D>> {
    weight.map(|weight| {
        let (dtype, trained) = (weight.dtype(), weight.is_require_grad());
        normalized(weight.detach()).cast(dtype).detach().set_require_grad(trained)
    })
}

/// A linear layer without bias whose rows are normalized whenever it is used: only their directions count.
#[derive(Module, Debug)]
pub struct MpLinear {
    /// `[output, input]`
    pub weight: Param<Tensor<2>>,
}

impl MpLinear {
    pub(super) fn new(input: usize, output: usize, device: &Device) -> Result<Self, ModelError> {
        at_least_one("input", input)?;
        at_least_one("output", output)?;
        Ok(Self { weight: random([output, input], Distribution::Normal(0.0, 1.0), device) })
    }

    /// Applies the map: `[batch, input]` to `[batch, output]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [_, input] = self.weight.dims();
        let weight = normalized(self.weight.val()) / (input as f64).sqrt();
        let dtype = x.dtype();
        multiply(x, weight.cast(dtype), true)
    }

    /// The outputs for one-hot inputs of magnitude one; index `input` stands for an input of zeros. `[rows, output]`.
    pub(super) fn columns(&self, indices: &[i64]) -> Tensor<2> {
        let weight = self.weight.val();
        let [output, _] = weight.dims();
        let (device, dtype) = (weight.device(), weight.dtype());
        // The root of the number of inputs, by which the one is scaled, cancels that of the layer.
        let table = normalized(weight).transpose();
        let zeros = Tensor::zeros([1, output], (&device, table.dtype()));
        Tensor::cat(vec![table, zeros], 0).select(0, Tensor::from_data(indices, &device)).cast(dtype)
    }

    pub(super) fn force(self) -> Self {
        Self { weight: force(self.weight) }
    }
}

/// A convolution without bias, with zeros around the image, whose filters are normalized whenever it is used.
#[derive(Module, Debug)]
pub struct MpConv2d {
    /// `[output, input, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
}

impl MpConv2d {
    pub(super) fn new(input: usize, output: usize, kernel: usize, device: &Device) -> Result<Self, ModelError> {
        at_least_one("input", input)?;
        at_least_one("output", output)?;
        let shape = [output, input, kernel, kernel];
        Ok(Self { weight: random(shape, Distribution::Normal(0.0, 1.0), device) })
    }

    /// Convolves: `[batch, input, height, width]` to `[batch, output, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, input, kernel, _] = self.weight.dims();
        let weight = normalized(self.weight.val()) / ((input * kernel * kernel) as f64).sqrt();
        let dtype = x.dtype();
        convolve(x, weight.cast(dtype), None, [1; 2], [kernel / 2; 2])
    }

    pub(super) fn force(self) -> Self {
        Self { weight: force(self.weight) }
    }
}

/// `√2·cos(f·x + φ)` with random frequencies and phases that are drawn once and never trained (equation 75). Both are
/// stored with their factor of 2π.
#[derive(Module, Debug)]
pub struct MpFourier {
    /// `[features]`, `2π` times standard normal.
    pub freqs: Param<Tensor<1>>,
    /// `[features]`, `2π` times uniform on [0, 1].
    pub phases: Param<Tensor<1>>,
}

impl MpFourier {
    pub(super) fn new(features: usize, device: &Device) -> Result<Self, ModelError> {
        at_least_one("noise_channels", features)?;
        let drawn = |distribution| {
            let draw = move |device: &Device, _| Tensor::random([features], distribution, device) * (2.0 * PI);
            Param::uninitialized(ParamId::new(), draw, device.clone(), false, Shape::from([features]))
        };
        Ok(Self { freqs: drawn(Distribution::Normal(0.0, 1.0)), phases: drawn(Distribution::Uniform(0.0, 1.0)) })
    }

    /// The features of each number: `[batch]` to `[batch, features]`, in `f32`.
    pub fn forward(&self, x: Tensor<1>) -> Tensor<2> {
        let wide = |x: Tensor<1>| x.cast(DType::F32);
        let ([batch], [features]) = (x.dims(), self.freqs.dims());
        let angles = wide(x).reshape([batch, 1]) * wide(self.freqs.val()).reshape([1, features]);
        let (_, cosine) = sin_cos(angles + wide(self.phases.val()).reshape([1, features]));
        cosine * SQRT_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use langevin_core::noise::{Key, Seeded, like};

    /// Standard normal entries.
    fn normal<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        like(&Seeded::new(seed), &Tensor::zeros(shape, &flex()), 0, Key::INITIAL).unwrap()
    }

    fn magnitude<const D: usize>(x: &Tensor<D>) -> f64 {
        let values = values(x);
        (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn functions_preserve_magnitude() {
        let (a, b) = (normal([8, 6, 24, 24], 1), normal([8, 18, 24, 24], 2));
        assert!((magnitude(&mp_silu(a.clone())) - 1.0).abs() < 0.02);
        for t in [0.1, 0.3, 0.5, 1.0] {
            assert!((magnitude(&mp_sum(a.clone(), b.clone().narrow(1, 0, 6), t)) - 1.0).abs() < 0.02);
            let both = mp_cat(a.clone(), b.clone(), t);
            assert!((magnitude(&both) - 1.0).abs() < 0.02, "{t}");
            // The parts weigh as 1 - t to t, though one has three times the channels.
            let sum = |x: Tensor<4>| magnitude(&x) * (x.dims()[1] as f64).sqrt();
            let ratio = sum(both.clone().narrow(1, 6, 18)) / sum(both.clone()).max(1e-9);
            assert!((ratio - t / ((1.0 - t).powi(2) + t.powi(2)).sqrt()).abs() < 0.02, "{t}: {ratio}");
        }
        let scaled = unit_magnitude(a * 7.0, 1);
        let each = scaled.square().mean_dim(1);
        assert_close(&each, &vec![1.0; 8 * 24 * 24], 1e-3);
    }

    #[test]
    fn layers_preserve_magnitude_whatever_the_scale_of_their_weights() {
        let device = flex();
        let mut linear = MpLinear::new(200, 300, &device).unwrap();
        let x = normal([64, 200], 3);
        assert!((magnitude(&linear.forward(x.clone())) - 1.0).abs() < 0.03);
        let before = values(&linear.forward(x.clone()));
        linear.weight = linear.weight.map(|w| w * 50.0);
        assert_close(&linear.forward(x), &before, 1e-3);
        let conv = MpConv2d::new(16, 24, 3, &device).unwrap();
        // Zeros outside the image make its border weaker.
        let y = conv.forward(normal([8, 16, 24, 24], 4)).narrow(2, 1, 22).narrow(3, 1, 22);
        assert!((magnitude(&y) - 1.0).abs() < 0.03);
        let fourier = MpFourier::new(2000, &device).unwrap();
        let features = fourier.forward(Tensor::from_data([-1.4, 0.0, 0.7], &device));
        assert!((magnitude(&features) - 1.0).abs() < 0.05);
        assert!(!fourier.freqs.val().is_require_grad());
    }

    #[test]
    fn normalized_weights_do_the_same() {
        let device = flex();
        let conv = MpConv2d::new(3, 4, 3, &device).unwrap();
        let scaled = MpConv2d { weight: conv.weight.clone().map(|w| w * 3.0) };
        let x = tensor([2, 3, 5, 5], 0.3, &device);
        let forced = scaled.clone().force();
        assert_close(&forced.forward(x.clone()), &values(&scaled.forward(x)), 1e-3);
        assert!((magnitude(&forced.weight.val()) - 1.0).abs() < 1e-3);
        let linear = MpLinear::new(6, 4, &device).unwrap();
        let x = tensor([2, 6], 0.3, &device);
        assert_close(&linear.clone().force().forward(x.clone()), &values(&linear.forward(x)), 1e-3);
        assert!((magnitude(&linear.force().weight.val()) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn gradients_are_orthogonal_to_the_filters() {
        // The length of a filter does not change the output.
        let device = flex().autodiff();
        let conv = MpConv2d::new(3, 4, 3, &device).unwrap();
        let y = conv.forward(tensor([2, 3, 5, 5], 0.3, &device));
        let gradients = (y.clone() * tensor(y.dims(), 0.9, &device)).sum().backward();
        let gradient = values(&conv.weight.grad(&gradients).unwrap());
        for (g, w) in gradient.chunks(27).zip(values(&conv.weight.val()).chunks(27)) {
            assert!(g.iter().any(|g| g.abs() > 0.01));
            let along: f64 = g.iter().zip(w).map(|(g, w)| g * w).sum();
            assert!(along.abs() < 5e-3, "{along}");
        }
        let forced = conv.force();
        assert!(forced.weight.val().is_require_grad());
    }

    #[test]
    fn a_class_is_a_column() {
        let device = flex();
        let layer = MpLinear::new(5, 3, &device).unwrap();
        let one_hot = Tensor::<2>::from_data([[0.0, 0.0, 5f64.sqrt(), 0.0, 0.0], [0.0; 5]], &device);
        assert_close(&layer.columns(&[2, 5]), &values(&layer.forward(one_hot)), 1e-5);
    }

    #[test]
    fn features_follow_the_formula() {
        let device = flex();
        let fourier =
            MpFourier { freqs: Param::from_data([0.5, -2.0], &device), phases: Param::from_data([0.25, 3.0], &device) };
        let y = fourier.forward(Tensor::from_data([0.7, -1.0], &device));
        let expected = [(0.7, 0.5, 0.25), (0.7, -2.0, 3.0), (-1.0, 0.5, 0.25), (-1.0, -2.0, 3.0)]
            .map(|(x, f, phase): (f64, f64, f64)| 2f64.sqrt() * (f * x + phase).cos());
        assert_close(&y, &expected, 1e-6);
    }

    #[test]
    fn half_precision_does_not_overflow() {
        let x = Tensor::<2>::from_data([[600.0, -600.0]], &flex()).cast(DType::F16);
        let y = unit_magnitude(x, 1);
        assert_eq!(y.dtype(), DType::F16);
        assert_close(&y, &[1.0, -1.0], 1e-3);
    }
}
