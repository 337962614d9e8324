//! Everything is measured: denoising.

use super::{LinearOperator, SingularValues, Svd};
use crate::inverse::error::InverseError;
use burn::tensor::Tensor;

/// A = 1, for measurements that are the samples with noise, of any shape.
///
/// ```
/// use langevin_core::inverse::{Identity, LinearOperator};
/// let shape = LinearOperator::<4>::measured_shape(&Identity, &[3, 8, 8])?;
/// assert_eq!(shape, [3, 8, 8]);
/// # Ok::<(), langevin_core::inverse::InverseError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity;

impl<const D: usize> LinearOperator<D> for Identity {
    fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError> {
        Ok(sample.to_vec())
    }
    fn apply(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        Ok(x)
    }
    fn transpose(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        Ok(y)
    }
    fn svd(&self) -> Option<&dyn Svd<D>> {
        Some(self)
    }
}

impl<const D: usize> Svd<D> for Identity {
    fn right(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        Ok(x)
    }
    fn right_inverse(&self, spectrum: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        Ok(spectrum)
    }
    fn left(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        Ok(y)
    }
    fn singular_values(&self, sample: &[usize]) -> Result<SingularValues, InverseError> {
        SingularValues::new(1, vec![1.0; sample.iter().product()])
    }
}
