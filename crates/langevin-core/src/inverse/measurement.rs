//! What was measured, of what, how precisely.

use super::error::{InverseError, check_finite, check_rows};
use super::operator::LinearOperator;
use crate::denoiser::DenoiseError;
use crate::noise::{self, Domain, Key, NoiseSource};
use burn::tensor::Tensor;

/// A measurement `y = A·x_0 + s·z` with standard normal z.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::Load;
/// use langevin_core::inverse::{LinearOperator, Measurement, Separable};
/// use langevin_core::noise::Seeded;
/// let load = Load::on(&Device::flex());
/// let smaller = Separable::block_means(&[1, 8, 8], &[(1, 2), (2, 2)], &load)?;
/// // Of a sample that is known, to try a method: or `Measurement::new(smaller, y, 0.05)`.
/// let truth = Tensor::<4>::ones([3, 1, 8, 8], &Device::flex());
/// let measurement = Measurement::simulate(smaller, truth, 0.05, &Seeded::new(1), 0)?;
/// assert_eq!(measurement.y().dims(), [3, 1, 4, 4]);
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Measurement<O, const D: usize> {
    operator: O,
    y: Tensor<D>,
    noise: f64,
}

impl<O: LinearOperator<D>, const D: usize> Measurement<O, D> {
    /// The measurement y, `[rows, ..]`, one row for all samples or one for each, with noise of standard deviation `noise`, which
    /// may be 0. What y holds where the operator measures nothing is dropped.
    ///
    /// # Errors
    /// [`InverseError::NoiseLevel`] unless the noise is finite and at least 0, [`InverseError::NotFinite`] for values of y that
    /// are not finite, [`InverseError::Shape`] if y cannot be one of the operator's.
    pub fn new(operator: O, y: Tensor<D>, noise: f64) -> Result<Self, InverseError> {
        if !(noise >= 0.0 && noise.is_finite()) {
            return Err(InverseError::NoiseLevel { given: noise });
        }
        let y = operator.observed(y)?;
        check_finite("the measurement", y.to_data().iter::<f64>())?;
        Ok(Self { operator, y, noise })
    }

    /// What would be measured of samples `[batch, ..]`, whose numbers start at `first`.
    ///
    /// The noise has the domain of known regions and lane 1 there.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`DenoiseError::Noise`] if the source fails.
    pub fn simulate(
        operator: O,
        x0: Tensor<D>,
        noise: f64,
        source: &dyn NoiseSource,
        first: u64,
    ) -> Result<Self, DenoiseError> {
        let clean = operator.apply(x0)?;
        let key = Key { domain: Domain::KnownRegion, index: 0, lane: 1 };
        let y = if noise > 0.0 {
            let z = noise::like(source, &clean, first, key)?;
            clean.add(z.mul_scalar(noise))
        } else {
            clean
        };
        Ok(Self::new(operator, y, noise)?)
    }

    /// The operator A.
    pub fn operator(&self) -> &O {
        &self.operator
    }

    /// The measurement y, `[rows, ..]`.
    pub fn y(&self) -> Tensor<D> {
        self.y.clone()
    }

    /// Standard deviation of its noise.
    pub fn noise(&self) -> f64 {
        self.noise
    }

    /// Checks that samples of a shape, `[batch, ..]`, can have been measured so.
    ///
    /// # Errors
    /// [`InverseError::Shape`] and [`InverseError::Rows`] if not.
    pub fn check(&self, shape: &[usize]) -> Result<(), InverseError> {
        let Some((batch, sample)) = shape.split_first() else {
            let expected = "[batch, ..]".into();
            return Err(InverseError::Shape { what: "the list of samples", given: Vec::new(), expected });
        };
        let (given, expected) = (self.y.dims(), self.operator.measured_shape(sample)?);
        if given[1..] != expected[..] {
            let expected = format!("[rows] followed by {expected:?}, what the operator makes of samples {sample:?}");
            return Err(InverseError::Shape { what: "the measurement", given: given.to_vec(), expected });
        }
        check_rows("the measurement", given[0], *batch)
    }

    /// `y − A·x`: what samples `[batch, ..]` leave unexplained.
    ///
    /// # Errors
    /// [`InverseError`] if `x` does not fit.
    pub fn residual(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check(&x.dims())?;
        let y = if self.y.dtype() == x.dtype() { self.y() } else { self.y().cast(x.dtype()) };
        Ok(y.sub(self.operator.apply(x)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inverse::{Identity, Masking, Separable};
    use crate::load::Load;
    use crate::noise::Seeded;
    use burn::tensor::{DType, Device};

    fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::zeros(shape, (&Device::flex(), DType::F64))
    }

    #[test]
    fn what_the_operator_cannot_measure_is_refused() {
        let means = || Separable::<4>::block_means(&[1, 8, 8], &[(1, 2)], &Load::on(&Device::flex())).unwrap();
        assert!(Measurement::new(means(), Tensor::zeros([1, 1, 4, 8], &Device::flex()), 0.1).is_ok());
        for shape in [[1, 1, 8, 8], [1, 1, 16, 8], [1, 2, 4, 8]] {
            let error = Measurement::new(means(), Tensor::zeros(shape, &Device::flex()), 0.1).unwrap_err();
            assert!(matches!(error, InverseError::Shape { .. }), "{error}");
        }
    }

    #[test]
    fn noise_levels_and_values_are_checked() {
        for given in [-1e-9, f64::NAN, f64::INFINITY] {
            let error = Measurement::new(Identity, zeros([1, 2]), given).unwrap_err();
            assert!(matches!(error, InverseError::NoiseLevel { .. }), "{error}");
            assert!(error.to_string().contains(&format!("is {given}, expected a standard deviation")), "{error}");
        }
        let broken = zeros([1, 2]).slice_fill([0..1, 1..2], f64::NAN);
        let error = Measurement::new(Identity, broken, 0.1).unwrap_err();
        assert_eq!(error, InverseError::NotFinite { what: "the measurement", index: 1 });
    }

    #[test]
    fn shapes_are_checked() {
        let load = Load::on(&Device::flex()).dtype(DType::F64);
        let means = Separable::<3>::block_means(&[4, 4], &[(0, 2)], &load).unwrap();
        let measurement = Measurement::new(&means, zeros([3, 2, 4]), 0.0).unwrap();
        assert_eq!(measurement.check(&[3, 4, 4]), Ok(()));
        assert_eq!(measurement.residual(zeros([3, 4, 4])).unwrap().dims(), [3, 2, 4]);
        let rows = InverseError::Rows { what: "the measurement", rows: 3, batch: 2 };
        assert_eq!(measurement.check(&[2, 4, 4]), Err(rows));
        assert!(matches!(measurement.check(&[3, 4, 2]), Err(InverseError::Shape { what: "the sample", .. })));
        assert!(matches!(measurement.check(&[]), Err(InverseError::Shape { .. })));
        let error = Measurement::new(&means, zeros([1, 4, 4]), 0.0).unwrap_err();
        assert!(error.to_string().contains("the measurement has shape [1, 4, 4], expected [batch] followed by [2, 4]"));
        assert_eq!(Measurement::new(&means, zeros([1, 2, 4]), 0.0).unwrap().check(&[9, 4, 4]), Ok(()));
    }

    #[test]
    fn simulated_measurements_have_their_noise_and_unmeasured_values_are_dropped() {
        let noise = Seeded::new(3);
        let truth = zeros([200, 50]).add_scalar(0.5);
        let noisy = Measurement::simulate(Identity, truth.clone(), 0.2, &noise, 0).unwrap();
        let residual = noisy.residual(truth.clone()).unwrap();
        let variance = residual.powf_scalar(2.0).mean().into_scalar::<f64>();
        // 10⁴ values: a relative standard error of 1.4%.
        assert!((variance / 0.04 - 1.0).abs() < 0.06, "{variance}");
        let clean = Measurement::simulate(Identity, truth.clone(), 0.0, &noise, 0).unwrap();
        assert_eq!(clean.residual(truth).unwrap().abs().max().into_scalar::<f64>(), 0.0);
        let mask = Masking::new(Tensor::<2>::from_data([[1.0, 0.0]], (&Device::flex(), DType::F64))).unwrap();
        let y = zeros([1, 2]).add_scalar(7.0);
        let kept: Vec<f64> = Measurement::new(mask, y, 0.0).unwrap().y().into_data().iter::<f64>().collect();
        assert_eq!(kept, [7.0, 0.0]);
    }
}
