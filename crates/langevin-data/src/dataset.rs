//! What a trainer needs of a data set.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::DataError;

/// Some samples of a data set on a device.
#[derive(Debug, Clone)]
pub struct Batch<const D: usize> {
    /// The samples: `[batch, channels, height, width]` for images, `[batch, dim]` for vectors, in the device's default
    /// float type.
    pub x: Tensor<D>,
    /// The class of each sample, or `None` where the data have no classes.
    pub labels: Option<Vec<usize>>,
}

/// A source of training samples, addressed by index.
///
/// The order of training is not the data set's business (see [`BatchOrder`](crate::BatchOrder)): `batch` answers the
/// same for the same indices, at any time and on any thread. The trait is object-safe; references, boxes and arcs of a
/// data set are data sets.
///
/// # Example
///
/// A data set that makes its samples on the fly:
///
/// ```
/// use burn::tensor::{Device, Tensor, TensorData};
/// use langevin_data::{Batch, DataError, DataSet};
///
/// /// Points on the unit circle, `len` of them.
/// struct Circle(usize);
///
/// impl DataSet<2> for Circle {
///     fn len(&self) -> usize {
///         self.0
///     }
///     fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<2>, DataError> {
///         let mut values = Vec::new();
///         for &index in indices {
///             if index >= self.0 {
///                 return Err(DataError::IndexOutOfRange { index, len: self.0 });
///             }
///             let (sin, cos) = (index as f32 / self.0 as f32 * std::f32::consts::TAU).sin_cos();
///             values.extend([cos, sin]);
///         }
///         let x = Tensor::from_data(TensorData::new(values, [indices.len(), 2]), device);
///         Ok(Batch { x, labels: None })
///     }
/// }
///
/// let data: Box<dyn DataSet<2>> = Box::new(Circle(4));
/// let batch = data.batch(&[1, 3], &Device::flex())?;
/// assert_eq!(batch.x.dims(), [2, 2]);
/// # Ok::<(), DataError>(())
/// ```
pub trait DataSet<const D: usize>: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of classes, where the samples have labels; labels are in `0..classes`.
    fn classes(&self) -> Option<usize> {
        None
    }

    /// The samples at `indices`, in that order, on `device`. An index may occur more than once.
    ///
    /// # Errors
    ///
    /// An index that does not exist, no index at all, or whatever else keeps the samples from being read.
    fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<D>, DataError>;
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<const D: usize, T: DataSet<D> + ?Sized> DataSet<D> for $pointer {
            fn len(&self) -> usize {
                (**self).len()
            }
            fn is_empty(&self) -> bool {
                (**self).is_empty()
            }
            fn classes(&self) -> Option<usize> {
                (**self).classes()
            }
            fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<D>, DataError> {
                (**self).batch(indices, device)
            }
        }
    )*};
}

forward!(&T, Box<T>, Arc<T>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageSet, VectorSet};

    fn images() -> ImageSet {
        ImageSet::new(vec![-1.0, 0.5], [2, 1, 1, 1], vec![1, 0], 2).unwrap()
    }

    /// Reads through the trait only, as a trainer does.
    fn read<const D: usize>(data: impl DataSet<D>) -> (usize, bool, Option<usize>, Vec<f32>, Option<Vec<usize>>) {
        let batch = data.batch(&[1, 0, 1], &Device::flex()).unwrap();
        let values = batch.x.try_into_vec_as::<f32>().unwrap();
        (data.len(), data.is_empty(), data.classes(), values, batch.labels)
    }

    #[test]
    fn pointers_forward() {
        let expected = (2, false, Some(2), vec![0.5, -1.0, 0.5], Some(vec![0, 1, 0]));
        assert_eq!(read::<4>(images()), expected);
        assert_eq!(read::<4>(&images()), expected);
        assert_eq!(read::<4>(Box::new(images())), expected);
        assert_eq!(read::<4>(Arc::new(images())), expected);
        assert_eq!(read::<4>(Box::new(images()) as Box<dyn DataSet<4>>), expected);
        assert_eq!(read::<4>(&images() as &dyn DataSet<4>), expected);
    }

    #[test]
    fn sets_without_labels_have_no_classes() {
        let vectors = VectorSet::new(vec![1.0, 2.0, 3.0, 4.0], [2, 2]).unwrap();
        let expected = (2, false, None, vec![3.0, 4.0, 1.0, 2.0, 3.0, 4.0], None);
        assert_eq!(read::<2>(vectors), expected);
    }
}
