//! Some values are measured, the others are not: inpainting.

use super::{LinearOperator, SingularValues, Svd};
use crate::inverse::error::{InverseError, check_rows};
use burn::tensor::Tensor;

/// `A·x = m·x` with a mask m that is 1 where the sample is known and 0 elsewhere.
///
/// Measurements have the shape of samples; what they hold outside of the known region is not read. (Some programs have masks
/// of the region to fill instead: take `1 − m` of theirs.)
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::inverse::{LinearOperator, Masking};
/// // The right half of images of 4x4 pixels in any number of channels.
/// let mask = Tensor::<4>::zeros([1, 1, 4, 4], &Device::flex()).slice_fill([0..1, 0..1, 0..4, 2..4], 1.0);
/// let right = Masking::new(mask)?;
/// assert_eq!(right.measured_shape(&[3, 4, 4])?, [3, 4, 4]);
/// let y = right.apply(Tensor::ones([2, 3, 4, 4], &Device::flex()))?;
/// assert_eq!(y.sum().into_scalar::<f32>(), 48.0);
/// # Ok::<(), langevin_core::inverse::InverseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Masking<const D: usize> {
    mask: Tensor<D>,
    /// The mask on the host.
    known: Vec<f64>,
}

impl<const D: usize> Masking<D> {
    /// A mask `[rows, ..]`: one row for all samples or one for each; a dimension of 1 stands for any size.
    ///
    /// # Errors
    /// [`InverseError::Mask`] at the first value that is neither 0 nor 1.
    pub fn new(mask: Tensor<D>) -> Result<Self, InverseError> {
        let known: Vec<f64> = mask.to_data().iter::<f64>().collect();
        if let Some(index) = known.iter().position(|value| *value != 0.0 && *value != 1.0) {
            return Err(InverseError::Mask { index, given: known[index] });
        }
        Ok(Self { mask, known })
    }

    /// The mask, as it was given.
    pub fn mask(&self) -> Tensor<D> {
        self.mask.clone()
    }

    /// The mask in the dtype of `x`, if it fits.
    pub(crate) fn mask_for(&self, x: &Tensor<D>) -> Result<Tensor<D>, InverseError> {
        check_rows("the mask", self.mask.dims()[0], x.dims()[0])?;
        self.mask_for_sample(x)
    }

    /// The mask for rows of known values, of which there may be one for many masks.
    pub(crate) fn mask_for_sample(&self, y: &Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check(&y.dims()[1..])?;
        if y.dims()[0] != 1 {
            check_rows("the mask", self.mask.dims()[0], y.dims()[0])?;
        }
        let mask = self.mask.clone();
        Ok(if mask.dtype() == y.dtype() { mask } else { mask.cast(y.dtype()) })
    }

    fn check(&self, sample: &[usize]) -> Result<(), InverseError> {
        let mask = self.mask.dims();
        let fits = sample.len() == D - 1 && mask[1..].iter().zip(sample).all(|(m, s)| *m == 1 || m == s);
        if fits {
            return Ok(());
        }
        let expected = format!("{sample:?} behind the rows, as the samples; a dimension of 1 stands for any size");
        Err(InverseError::Shape { what: "the mask", given: mask.to_vec(), expected })
    }
}

impl<const D: usize> LinearOperator<D> for Masking<D> {
    fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError> {
        self.check(sample)?;
        Ok(sample.to_vec())
    }
    fn apply(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        let mask = self.mask_for(&x)?;
        Ok(x.mul(mask))
    }
    fn transpose(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.apply(y)
    }
    fn observed(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        let mask = self.mask_for_sample(&y)?;
        Ok(y.mul(mask))
    }
    fn svd(&self) -> Option<&dyn Svd<D>> {
        Some(self)
    }
}

impl<const D: usize> Svd<D> for Masking<D> {
    fn right(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check(&x.dims()[1..])?;
        Ok(x)
    }
    fn right_inverse(&self, spectrum: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.right(spectrum)
    }
    fn left(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.right(y)
    }
    fn singular_values(&self, sample: &[usize]) -> Result<SingularValues, InverseError> {
        self.check(sample)?;
        let (mask, numel) = (self.mask.dims(), sample.iter().product::<usize>());
        let mut full = mask;
        full[1..].copy_from_slice(sample);
        let value = |index: usize| {
            // From the last dimension to the first: where this value lies in the mask.
            let (mut rest, mut stride, mut at) = (index, 1, 0);
            for (m, s) in mask.iter().zip(&full).rev() {
                at += if *m == 1 { 0 } else { rest % s } * stride;
                (rest, stride) = (rest / s, stride * m);
            }
            self.known[at]
        };
        SingularValues::new(mask[0], (0..mask[0] * numel).map(value).collect())
    }
}
