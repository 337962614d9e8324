//! Pixels to `[-1, 1]` and back.
//!
//! Diffusion models work on images in `[-1, 1]` (Ho et al., "Denoising Diffusion Probabilistic Models", 2020, section
//! 3.3, <https://arxiv.org/abs/2006.11239>): noise of unit variance then has about the size of the data.
//!
//! ```
//! use langevin_data::scale;
//!
//! let x = scale::from_u8(&[0, 255]);
//! assert_eq!(x, [-1.0, 1.0]);
//! assert_eq!(scale::to_u8(&x)?, [0, 255]);
//! assert_eq!(scale::from_unit(&[0.0, 0.25])?, [-1.0, -0.5]);
//! # Ok::<(), langevin_data::DataError>(())
//! ```

use crate::DataError;
use burn::tensor::Tensor;

/// Bytes 0 to 255 to `[-1, 1]`: `p / 127.5 - 1`.
pub fn from_u8(pixels: &[u8]) -> Vec<f32> {
    pixels.iter().map(|&pixel| f32::from(pixel) / 127.5 - 1.0).collect()
}

/// `[-1, 1]` to bytes, each value to the nearest byte: undoes [`from_u8`] exactly.
///
/// For display: samples of a model may lie a little outside of `[-1, 1]`, and values beyond it become 0 or 255.
///
/// # Errors
///
/// [`DataError::NonFinite`] for an infinite value or NaN.
pub fn to_u8(values: &[f32]) -> Result<Vec<u8>, DataError> {
    let byte = |(index, &value): (usize, &f32)| {
        if !value.is_finite() {
            return Err(DataError::NonFinite { index, value });
        }
        Ok(((value.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8)
    };
    values.iter().enumerate().map(byte).collect()
}

/// `[0, 1]` to `[-1, 1]`: `2 u - 1`.
///
/// # Errors
///
/// [`DataError::OutOfRange`] for a value outside of `[0, 1]`, or NaN.
pub fn from_unit(values: &[f32]) -> Result<Vec<f32>, DataError> {
    check_range(values, 0.0, 1.0)?;
    Ok(values.iter().map(|value| 2.0 * value - 1.0).collect())
}

/// `[-1, 1]` to `[0, 1]`: `(x + 1) / 2`.
///
/// # Errors
///
/// [`DataError::OutOfRange`] for a value outside of `[-1, 1]`, or NaN: clamp samples of a model first.
pub fn to_unit(values: &[f32]) -> Result<Vec<f32>, DataError> {
    check_range(values, -1.0, 1.0)?;
    Ok(values.iter().map(|value| 0.5 * (value + 1.0)).collect())
}

/// Gray images `[n, 1, height, width]` in `[-1, 1]` as red, green and blue, `[n, 3, height, width]`, with `color` for the
/// brightest pixels: to tell images in a picture apart. Values beyond the range become its nearer end.
///
/// # Errors
///
/// [`DataError::Channels`] for images that are not gray, [`DataError::OutOfRange`] for a color outside of `[0, 1]`.
pub fn tinted(images: &Tensor<4>, color: [f32; 3]) -> Result<Tensor<4>, DataError> {
    check_range(&color, 0.0, 1.0)?;
    if images.dims()[1] != 1 {
        return Err(DataError::Channels { channels: images.dims()[1] });
    }
    let light = images.clone().clamp(-1.0, 1.0).add_scalar(1.0);
    Ok(Tensor::cat(color.map(|share| light.clone().mul_scalar(share).sub_scalar(1.0)).to_vec(), 1))
}

/// Checks that every value is in `[low, high]` (which NaN never is).
pub(crate) fn check_range(values: &[f32], low: f32, high: f32) -> Result<(), DataError> {
    match values.iter().position(|value| !(low..=high).contains(value)) {
        Some(index) => Err(DataError::OutOfRange { index, value: values[index], low, high }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_round_trips() {
        let bytes: Vec<u8> = (0..=255).collect();
        let values = from_u8(&bytes);
        assert_eq!((values[0], values[255]), (-1.0, 1.0));
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(to_u8(&values).unwrap(), bytes);
        assert_eq!(to_u8(&from_unit(&to_unit(&values).unwrap()).unwrap()).unwrap(), bytes);
    }

    #[test]
    fn bytes_are_the_nearest_and_saturate() {
        // 127.5 lies between two bytes and rounds away from zero.
        assert_eq!(to_u8(&[-1.5, -0.999, 0.0, 0.999, 7.0]).unwrap(), [0, 0, 128, 255, 255]);
    }

    #[test]
    fn known_values() {
        assert_eq!(from_unit(&[0.0, 0.5, 0.75, 1.0]).unwrap(), [-1.0, 0.0, 0.5, 1.0]);
        assert_eq!(to_unit(&[-1.0, 0.0, 0.5, 1.0]).unwrap(), [0.0, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn non_finite_values_are_not_pixels() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = to_u8(&[0.0, bad]).unwrap_err();
            assert!(matches!(error, DataError::NonFinite { index: 1, .. }), "{error}");
            assert!(matches!(from_unit(&[bad]), Err(DataError::OutOfRange { index: 0, .. })));
        }
    }

    #[test]
    fn values_outside_the_range_are_named() {
        let error = from_unit(&[0.5, 128.0]).unwrap_err();
        assert!(matches!(error, DataError::OutOfRange { index: 1, value: 128.0, low: 0.0, high: 1.0 }));
        assert!(error.to_string().contains("128 at position 1 is not in [0, 1]"), "{error}");
        assert!(matches!(to_unit(&[-1.01]), Err(DataError::OutOfRange { low: -1.0, high: 1.0, .. })));
    }

    proptest! {
        #[test]
        fn unit_round_trips(values in prop::collection::vec(-1.0f32..=1.0, 0..50)) {
            let back = from_unit(&to_unit(&values).unwrap()).unwrap();
            for (a, b) in values.iter().zip(&back) {
                prop_assert!((a - b).abs() <= f32::EPSILON);
            }
        }

        #[test]
        fn to_u8_errs_by_half_a_step(value in -1.0f32..=1.0) {
            let byte = to_u8(&[value]).unwrap();
            prop_assert!((from_u8(&byte)[0] - value).abs() <= 0.5 / 127.5 + 1e-6);
        }
    }
}
