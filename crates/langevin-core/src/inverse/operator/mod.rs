//! Linear operators: what was measured of a sample.
//!
//! A method that only follows gradients needs `A·x` and `Aᵀ·y`. One that inverts needs the singular value decomposition
//! `A = U·S·Vᵀ`, too, which the operators here know in closed form or from small matrices.

mod axis;
mod identity;
mod jacobi;
mod masking;
mod separable;
mod svd;

pub use identity::Identity;
pub use masking::Masking;
pub use separable::{Separable, gaussian_kernel};
pub use svd::{SingularValues, Svd};

use super::error::InverseError;
use burn::tensor::Tensor;

/// A linear map A from samples `[batch, ..]` to measurements `[batch, ..]` of the same rank.
///
/// Write your own with three functions; [`Dps`](crate::inverse::Dps) needs no more. Methods that need its [`svd`](Self::svd), too,
/// say so. `&T` and `Box<T>` forward.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::inverse::{InverseError, LinearOperator};
///
/// /// Differences of neighbors: of n values n − 1 are measured.
/// struct Differences;
///
/// impl LinearOperator<2> for Differences {
///     fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError> {
///         Ok(vec![sample[0] - 1])
///     }
///     fn apply(&self, x: Tensor<2>) -> Result<Tensor<2>, InverseError> {
///         let n = x.dims()[1];
///         Ok(x.clone().narrow(1, 1, n - 1) - x.narrow(1, 0, n - 1))
///     }
///     fn transpose(&self, y: Tensor<2>) -> Result<Tensor<2>, InverseError> {
///         let zero = Tensor::zeros([y.dims()[0], 1], (&y.device(), y.dtype()));
///         Ok(Tensor::cat(vec![zero.clone(), y.clone()], 1) - Tensor::cat(vec![y, zero], 1))
///     }
/// }
///
/// let x = Tensor::<2>::from_floats([[1.0, 3.0, 2.0]], &Device::flex());
/// let y = Differences.apply(x.clone())?;
/// // ⟨A·x, y⟩ = ⟨x, Aᵀ·y⟩
/// let (left, right) = ((y.clone() * y.clone()).sum(), (x * Differences.transpose(y)?).sum());
/// assert_eq!(left.into_scalar::<f32>(), right.into_scalar::<f32>());
/// # Ok::<(), InverseError>(())
/// ```
pub trait LinearOperator<const D: usize>: Send + Sync {
    /// Shape of the measurement of one sample, both without the batch.
    ///
    /// # Errors
    /// [`InverseError::Shape`] if such samples cannot be measured.
    fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError>;

    /// `A·x`.
    ///
    /// # Errors
    /// [`InverseError::Shape`] or [`InverseError::Rows`] if `x` does not fit.
    fn apply(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError>;

    /// `Aᵀ·y`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn transpose(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError>;

    /// A measurement `[rows, ..]` without what it holds where nothing is measured, such as outside of a mask.
    ///
    /// # Errors
    /// [`InverseError::Shape`] if it cannot be one of the operator's.
    fn observed(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        // What is no measurement has no place that it came from.
        self.transpose(y.clone())?;
        Ok(y)
    }

    /// The singular value decomposition, if it is known.
    fn svd(&self) -> Option<&dyn Svd<D>> {
        None
    }

    /// `A⁺·y`, the pseudo-inverse (Moore 1920, Penrose 1955): the smallest x among those whose measurement is nearest y.
    ///
    /// # Errors
    /// [`InverseError::NoSvd`] unless the operator knows its decomposition or overrides this; otherwise as
    /// [`apply`](Self::apply).
    fn pseudo_inverse(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        let svd = self.svd().ok_or(InverseError::NoSvd { method: "the pseudo-inverse" })?;
        let spectrum = svd.left(y)?;
        let values = svd.singular_values(&spectrum.dims()[1..])?;
        svd.right_inverse(values.times(spectrum, |s| if s > 0.0 { 1.0 / s } else { 0.0 })?)
    }
}

macro_rules! forward {
    ($($t:ty),*) => {$(
        impl<const D: usize, T: LinearOperator<D> + ?Sized> LinearOperator<D> for $t {
            fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError> {
                (**self).measured_shape(sample)
            }
            fn apply(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
                (**self).apply(x)
            }
            fn transpose(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
                (**self).transpose(y)
            }
            fn observed(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
                (**self).observed(y)
            }
            fn svd(&self) -> Option<&dyn Svd<D>> {
                (**self).svd()
            }
            fn pseudo_inverse(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
                (**self).pseudo_inverse(y)
            }
        }
    )*};
}

forward!(&T, Box<T>);

#[cfg(test)]
mod tests;
