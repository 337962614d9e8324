//! The norm of all gradients together, and what it scales them by. Nothing is read from the device.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
#[cfg(feature = "cube")]
use langevin_gpu::Squares;

/// Gradients that are still to be multiplied by a number.
pub(crate) struct Scaled {
    pub(crate) gradients: GradientsParams,
    /// One number in `f32` on the device; none is one.
    pub(crate) factor: Option<Tensor<1>>,
}

/// The sum of the squares of all gradients, in `f32`; none where there is no gradient.
pub(crate) fn sum_of_squares<M: Module>(gradients: &GradientsParams, network: &M) -> Option<Tensor<1>> {
    let mut sum = Sum {
        gradients,
        #[cfg(feature = "cube")]
        squares: None,
        by_operations: None,
    };
    network.visit(&mut sum);
    #[cfg(feature = "cube")]
    if let Some(squares) = sum.squares.take() {
        sum.add(squares.sum());
    }
    sum.by_operations
}

struct Sum<'a> {
    gradients: &'a GradientsParams,
    #[cfg(feature = "cube")]
    squares: Option<Squares>,
    by_operations: Option<Tensor<1>>,
}

impl Sum<'_> {
    fn add(&mut self, more: Tensor<1>) {
        self.by_operations = Some(match self.by_operations.take() {
            Some(sum) => sum.add(more),
            None => more,
        });
    }
}

impl ModuleVisitor for Sum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        #[cfg(feature = "cube")]
        if gradient.dtype() != DType::F64 {
            // A network is on one device.
            let squares = self.squares.take().or_else(|| Squares::on(&gradient.device()));
            if let Some(squares) = squares {
                self.squares = Some(squares.and(gradient));
                return;
            }
        }
        self.add(gradient.cast(DType::F32).square().sum());
    }
}

/// What gradients of `scale` times the loss, the sum of whose squares is `squares`, are multiplied by: `1/scale`, and less where their norm
/// would be larger than `max_norm`, by `max_norm/(norm + 1e-6)` as torch's `clip_grad_norm_`. One number; none where it is one.
pub(crate) fn factor(squares: Tensor<1>, scale: f32, max_norm: Option<f64>) -> Option<Tensor<1>> {
    let scale = f64::from(scale);
    match max_norm {
        Some(most) => {
            let norm = squares.sqrt().div_scalar(scale);
            Some(norm.add_scalar(1e-6).recip().mul_scalar(most).clamp_max(1.0).div_scalar(scale))
        }
        None if scale == 1.0 => None,
        None => Some(Tensor::full([1], 1.0 / scale, (&squares.device(), DType::F32))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<1>>,
        b: Param<Tensor<2>>,
    }

    #[test]
    fn gradients_are_scaled_together() {
        let device = Device::flex();
        let network = Two { a: Param::from_data([1.0, 2.0], &device), b: Param::from_data([[-1.0]], &device) }.train();
        let mut gradients = GradientsParams::new();
        assert!(sum_of_squares(&gradients, &network).is_none());
        // The norm of (2, −3, 6) is 7, whatever the types.
        gradients.register(network.a.id, Tensor::<1>::from_data([2.0, -3.0], &device));
        gradients.register(network.b.id, Tensor::<2>::from_data([[6.0]], &device).cast(DType::F16));
        let squares = sum_of_squares(&gradients, &network).expect("gradients");
        assert_eq!(squares.clone().into_scalar::<f32>(), 49.0);
        let given = |scale, most| factor(squares.clone(), scale, most).map(Tensor::into_scalar::<f32>);
        for (scale, most, expected) in [(1.0, 1.0, 1.0 / 7.0), (1.0, 8.0, 1.0), (2.0, 8.0, 0.5), (2.0, 1.75, 0.25)] {
            let found = given(scale, Some(most)).expect("a number");
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
        assert_eq!((given(1.0, None), given(4.0, None)), (None, Some(0.25)));
    }
}
