//! The affine map `y = x·Wᵀ + b`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, module};

use super::initial::fan_in_uniform;
use super::swapped;
use crate::error::{ModelError, at_least_one};

/// Configuration of a [`Linear`] layer.
///
/// # Example
///
/// ```
/// use langevin_models::layers::LinearConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = LinearConfig::new(3, 5).init(&device)?;
/// assert_eq!(layer.weight.dims(), [5, 3]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearConfig {
    /// Size of the last axis of the input.
    pub input: usize,
    /// Size of the last axis of the output.
    pub output: usize,
    /// Whether a bias is added. Default: `true`.
    pub bias: bool,
}

impl LinearConfig {
    /// A layer from `input` to `output` features, with a bias.
    #[must_use]
    pub fn new(input: usize, output: usize) -> Self {
        Self { input, output, bias: true }
    }

    /// Sets whether a bias is added.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Makes the layer, uniform on `±1/√input`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero.
    pub fn init(&self, device: &Device) -> Result<Linear, ModelError> {
        at_least_one("input", self.input)?;
        at_least_one("output", self.output)?;
        Ok(Linear {
            weight: fan_in_uniform([self.output, self.input], self.input, device),
            bias: self.bias.then(|| fan_in_uniform([self.output], self.input, device)),
        })
    }
}

/// The affine map `y = x·Wᵀ + b`. Made by [`LinearConfig::init`].
#[derive(Module, Debug)]
pub struct Linear {
    /// `[output, input]`
    pub weight: Param<Tensor<2>>,
    /// `[output]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Applies the map to the last axis.
    ///
    /// # Shapes
    ///
    /// - input: `[.., input]`
    /// - output: `[.., output]`
    ///
    /// # Panics
    ///
    /// If the input is of another width or type.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let ([output, input], dtype) = (self.weight.dims(), self.weight.val().dtype());
        let fits = x.dims()[D - 1] == input && x.dtype() == dtype;
        assert!(fits, "a map of {input} numbers to {output} in {dtype:?} was given {:?} in {:?}", x.dims(), x.dtype());
        map_last(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }
}

/// `x·Wᵀ + b` on the last axis, by the kernels of this library where there are some.
pub(crate) fn map_last<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::cpu::map_last(&x, &weight, bias.as_ref()) {
        return y;
    }
    map_adding(x, weight, bias, None)
}

/// The same and what is added, but not on the CPU.
pub(super) fn map_adding<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    added: Option<Tensor<D>>,
) -> Tensor<D> {
    #[cfg(feature = "cube")]
    if let Some(y) = mapped(&x, &weight, bias.as_ref(), added.as_ref()) {
        return y;
    }
    let mut shape = x.dims();
    let y = if D > 2 && shape[..D - 2].contains(&0) {
        // Burn's product of no matrices reads beyond its memory on the CPU. They have no results, and no gradient.
        shape[D - 1] = weight.dims()[0];
        Tensor::zeros(shape, (&x.device(), x.dtype()))
    } else {
        module::linear(x, swapped(weight, 0), bias)
    };
    match added {
        Some(added) => y + added,
        None => y,
    }
}

/// The map of the last axis, and what is added to it, by one kernel, where there is one.
#[cfg(feature = "cube")]
pub(super) fn mapped<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    added: Option<&Tensor<D>>,
) -> Option<Tensor<D>> {
    let (mut shape, [output, input]) = (x.dims(), weight.dims());
    let rows = shape[..D - 1].iter().product();
    if weight.dtype() != x.dtype() || !langevin_gpu::maps_rows(&x.device(), x.dtype(), rows, [input, output]) {
        return None;
    }
    shape[D - 1] = output;
    let added = added.map(|added| added.clone().reshape([rows, output]));
    let y = langevin_gpu::map_rows(x.clone().reshape([rows, input]), weight.clone(), bias.cloned(), added);
    Some(y.reshape(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, values};
    use burn::tensor::DType;

    #[test]
    fn multiplies_by_the_transposed_weight() {
        let device = flex();
        let layer = Linear {
            weight: Param::from_data([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]], &device),
            bias: Some(Param::from_data([10.0, 20.0], &device)),
        };
        let x = Tensor::<2>::from_data([[1.0, 1.0, 1.0], [2.0, -2.0, 4.0]], &device);
        assert_close(&layer.forward(x.clone()), &[16.0, 19.5, 20.0, 17.0], 1e-6);
        let tokens = layer.forward(x.reshape([1, 2, 3]));
        assert_eq!(tokens.dims(), [1, 2, 2]);
        assert_close(&tokens, &[16.0, 19.5, 20.0, 17.0], 1e-6);
    }

    #[test]
    fn nothing_is_mapped_to_nothing() {
        let weight = LinearConfig::new(8, 5).init(&flex()).unwrap().weight.val();
        for device in [flex(), flex().autodiff()] {
            for dtype in [DType::F32, DType::F16] {
                let x = Tensor::<3>::zeros([0, 64, 8], (&device, dtype));
                let y = map_last(x, weight.clone().cast(dtype), None);
                assert_eq!((y.dims(), y.dtype()), ([0, 64, 5], dtype));
            }
        }
    }

    #[test]
    fn starts_uniform_on_one_over_root_fan_in() {
        let layer = LinearConfig::new(16, 4000).init(&flex()).unwrap();
        for data in [values(&layer.weight.val()), values(&layer.bias.as_ref().unwrap().val())] {
            let n = data.len() as f64;
            let largest = data.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(largest <= 0.25 && largest > 0.249, "{largest}");
            // The variance of a uniform distribution on ±b is b²/3.
            let variance = data.iter().map(|v| v * v).sum::<f64>() / n;
            assert!((variance * 48.0 - 1.0).abs() < 0.1, "{variance}");
        }
    }

    #[test]
    fn refuses_empty_sizes() {
        for (input, output, name) in [(0, 2, "input"), (2, 0, "output")] {
            let error = LinearConfig::new(input, output).init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
    }
}
