//! Labeled images in memory.

use burn::tensor::{Device, Tensor, TensorData};

use crate::rows::{check_count, check_labels, gather};
use crate::{Batch, DataError, DataSet, Split, scale, stratified_split};

/// Labeled images in host memory: `[n, channels, height, width]` with pixels in `[-1, 1]`, and a class for each.
///
/// # Example
///
/// ```
/// use burn::tensor::Device;
/// use langevin_data::{DataSet, ImageSet};
///
/// // Two gray images of 1 by 2 pixels, of classes 0 and 1.
/// let set = ImageSet::from_u8(&[0, 255, 255, 0], [2, 1, 1, 2], vec![0, 1], 2)?;
/// assert_eq!(set.image(1)?, [1.0, -1.0]);
///
/// let batch = set.batch(&[1, 0, 1], &Device::flex())?;
/// assert_eq!(batch.x.dims(), [3, 1, 1, 2]);
/// assert_eq!(batch.labels, Some(vec![1, 0, 1]));
/// # Ok::<(), langevin_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSet {
    pixels: Vec<f32>,
    shape: [usize; 3],
    labels: Vec<usize>,
    classes: usize,
}

impl ImageSet {
    /// A set from `pixels` in `[-1, 1]`, row-major of `shape` `[n, channels, height, width]`, and one label in
    /// `0..classes` for each image. Data without classes: all labels 0 of 1 class.
    ///
    /// # Errors
    ///
    /// [`Empty`](DataError::Empty), [`ZeroExtent`](DataError::ZeroExtent), [`ValueCount`](DataError::ValueCount),
    /// [`LabelCount`](DataError::LabelCount), [`LabelOutOfRange`](DataError::LabelOutOfRange), and
    /// [`OutOfRange`](DataError::OutOfRange) for a pixel outside of `[-1, 1]` or NaN.
    pub fn new(pixels: Vec<f32>, shape: [usize; 4], labels: Vec<usize>, classes: usize) -> Result<Self, DataError> {
        check_count("the image set", &shape, pixels.len())?;
        check_labels(shape[0], &labels, classes)?;
        scale::check_range(&pixels, -1.0, 1.0)?;
        let [_, channels, height, width] = shape;
        Ok(Self { pixels, shape: [channels, height, width], labels, classes })
    }

    /// A set from bytes 0 to 255, which are scaled to `[-1, 1]`; the rest is as for [`ImageSet::new`].
    ///
    /// # Errors
    ///
    /// As [`ImageSet::new`].
    pub fn from_u8(pixels: &[u8], shape: [usize; 4], labels: Vec<usize>, classes: usize) -> Result<Self, DataError> {
        Self::new(scale::from_u8(pixels), shape, labels, classes)
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images (never: such a set cannot be made).
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The shape of one image: `[channels, height, width]`.
    pub fn image_shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The number of classes; labels are in `0..classes`. One class tells nothing: such a set has none.
    pub fn classes(&self) -> Option<usize> {
        (self.classes > 1).then_some(self.classes)
    }

    /// All pixels in `[-1, 1]`, row-major of `[n, channels, height, width]`.
    pub fn pixels(&self) -> &[f32] {
        &self.pixels
    }

    /// All labels.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The pixels of one image in `[-1, 1]`, row-major of `[channels, height, width]`.
    ///
    /// # Errors
    ///
    /// [`DataError::IndexOutOfRange`].
    pub fn image(&self, index: usize) -> Result<&[f32], DataError> {
        let size: usize = self.shape.iter().product();
        self.label(index)?;
        Ok(&self.pixels[index * size..(index + 1) * size])
    }

    /// The class of one image.
    ///
    /// # Errors
    ///
    /// [`DataError::IndexOutOfRange`].
    pub fn label(&self, index: usize) -> Result<usize, DataError> {
        let out_of_range = DataError::IndexOutOfRange { index, len: self.len() };
        self.labels.get(index).copied().ok_or(out_of_range)
    }

    /// The indices of all images of one class, in ascending order.
    ///
    /// # Errors
    ///
    /// [`DataError::ClassOutOfRange`].
    pub fn of_class(&self, class: usize) -> Result<Vec<usize>, DataError> {
        if class >= self.classes {
            return Err(DataError::ClassOutOfRange { class, classes: self.classes });
        }
        Ok((0..self.len()).filter(|&index| self.labels[index] == class).collect())
    }

    /// The set followed by the mirror image, left to right, of each of its images: twice as many.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        let mirrored: Vec<f32> =
            self.pixels.chunks_exact(self.shape[2]).flat_map(|row| row.iter().rev()).copied().collect();
        self.pixels.extend(mirrored);
        self.labels.extend_from_within(..);
        self
    }

    /// A set of the images at `indices`, in that order.
    ///
    /// # Errors
    ///
    /// [`DataError::Empty`] for no indices, [`DataError::IndexOutOfRange`].
    pub fn subset(&self, indices: &[usize]) -> Result<Self, DataError> {
        let (pixels, labels) = self.gather("the subset", indices)?;
        Ok(Self { pixels, labels, shape: self.shape, classes: self.classes })
    }

    /// Splits off a test set, with the same share of each class in both parts: see [`stratified_split`].
    ///
    /// # Errors
    ///
    /// [`DataError::SplitFraction`], [`DataError::EmptyPart`].
    pub fn split(&self, fraction: f64, seed: u64) -> Result<Split<Self>, DataError> {
        let split = stratified_split(&self.labels, self.classes, fraction, seed)?;
        Ok(Split { train: self.subset(&split.train)?, test: self.subset(&split.test)? })
    }

    fn gather(&self, what: &'static str, indices: &[usize]) -> Result<(Vec<f32>, Vec<usize>), DataError> {
        let pixels = gather(what, &self.pixels, self.shape.iter().product(), indices)?;
        Ok((pixels, indices.iter().map(|&index| self.labels[index]).collect()))
    }
}

impl DataSet<4> for ImageSet {
    fn len(&self) -> usize {
        self.len()
    }

    fn classes(&self) -> Option<usize> {
        self.classes()
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<4>, DataError> {
        let (pixels, labels) = self.gather("the batch", indices)?;
        let [channels, height, width] = self.shape;
        let data = TensorData::new(pixels, [indices.len(), channels, height, width]);
        Ok(Batch { x: Tensor::from_data(data, device), labels: self.classes().map(|_| labels) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three images of 2 channels and 1 by 2 pixels; pixel `k` of image `i` is `(4 i + k) / 100`.
    fn set() -> ImageSet {
        let pixels = (0..12).map(|k| k as f32 / 100.0).collect();
        ImageSet::new(pixels, [3, 2, 1, 2], vec![2, 0, 2], 3).unwrap()
    }

    #[test]
    fn images_labels_and_classes() {
        let set = set();
        assert_eq!((set.len(), set.is_empty(), set.classes(), set.image_shape()), (3, false, Some(3), [2, 1, 2]));
        assert_eq!(set.image(1).unwrap(), [0.04, 0.05, 0.06, 0.07]);
        assert_eq!(set.label(2).unwrap(), 2);
        assert_eq!(set.labels(), [2, 0, 2]);
        assert_eq!(set.pixels().len(), 12);
        assert_eq!(set.of_class(2).unwrap(), [0, 2]);
        assert!(set.of_class(1).unwrap().is_empty());
    }

    #[test]
    fn batches_follow_the_indices() {
        let Batch { x, labels } = set().batch(&[2, 1, 2], &Device::flex()).unwrap();
        assert_eq!(x.dims(), [3, 2, 1, 2]);
        let expected = [0.08, 0.09, 0.10, 0.11, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10, 0.11];
        assert_eq!(x.try_into_vec_as::<f32>().unwrap(), expected);
        assert_eq!(labels, Some(vec![2, 0, 2]));
        // One class is none.
        let plain = ImageSet::new(vec![0.0; 2], [2, 1, 1, 1], vec![0; 2], 1).unwrap();
        assert_eq!((plain.classes(), DataSet::classes(&plain)), (None, None));
        assert_eq!(plain.batch(&[1], &Device::flex()).unwrap().labels, None);
    }

    #[test]
    fn mirror_images_follow_the_images() {
        let set = set().mirrored();
        assert_eq!((set.len(), set.labels()), (6, &[2, 0, 2, 2, 0, 2][..]));
        assert_eq!(set.image(4).unwrap(), [0.05, 0.04, 0.07, 0.06]);
    }

    #[test]
    fn subsets_keep_shape_and_classes() {
        let subset = set().subset(&[1]).unwrap();
        assert_eq!(subset, ImageSet::new(vec![0.04, 0.05, 0.06, 0.07], [1, 2, 1, 2], vec![0], 3).unwrap());
    }

    #[test]
    fn split_parts_are_the_set() {
        let labels: Vec<usize> = (0..30).map(|i| i % 3).collect();
        let pixels: Vec<f32> = (0..30).map(|i| i as f32 / 30.0).collect();
        let set = ImageSet::new(pixels.clone(), [30, 1, 1, 1], labels, 3).unwrap();
        let split = set.split(0.8, 5).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (24, 6));
        let mut all = [split.train.pixels(), split.test.pixels()].concat();
        all.sort_by(f32::total_cmp);
        assert_eq!(all, pixels);
        // Labels stay with their images.
        for part in [&split.train, &split.test] {
            for index in 0..part.len() {
                let original = (part.image(index).unwrap()[0] * 30.0).round() as usize;
                assert_eq!(part.label(index).unwrap(), original % 3);
            }
        }
    }

    #[test]
    fn bytes_are_scaled() {
        let set = ImageSet::from_u8(&[0, 255, 51], [3, 1, 1, 1], vec![0; 3], 1).unwrap();
        assert_eq!(set.pixels(), [-1.0, 1.0, 51.0 / 127.5 - 1.0]);
    }

    #[test]
    fn construction_rejects_bad_input() {
        let new = |pixels: &[f32], shape, labels: &[usize], classes| {
            ImageSet::new(pixels.to_vec(), shape, labels.to_vec(), classes).unwrap_err()
        };
        assert!(matches!(new(&[], [0, 1, 1, 1], &[], 1), DataError::Empty { what: "the image set" }));
        let error = new(&[], [1, 1, 0, 1], &[0], 1);
        assert!(matches!(&error, DataError::ZeroExtent { shape } if *shape == [1, 1, 0, 1]), "{error}");
        let error = new(&[0.0; 7], [2, 1, 2, 2], &[0, 0], 1);
        assert!(matches!(error, DataError::ValueCount { expected: 8, given: 7, .. }), "{error}");
        let error = new(&[0.0; 2], [2, 1, 1, 1], &[0], 1);
        assert!(matches!(error, DataError::LabelCount { samples: 2, labels: 1 }), "{error}");
        let error = new(&[0.0; 2], [2, 1, 1, 1], &[0, 10], 10);
        assert!(matches!(error, DataError::LabelOutOfRange { index: 1, label: 10, classes: 10 }), "{error}");
        let error = new(&[0.0, 1.5], [2, 1, 1, 1], &[0, 0], 1);
        assert!(matches!(error, DataError::OutOfRange { index: 1, value: 1.5, .. }), "{error}");
        let error = new(&[0.0, f32::NAN], [2, 1, 1, 1], &[0, 0], 1);
        assert!(matches!(error, DataError::OutOfRange { index: 1, .. }), "{error}");
        // A shape whose number of values does not fit a usize cannot be matched by any slice.
        let error = new(&[0.0], [2, usize::MAX, 2, 2], &[0, 0], 1);
        assert!(matches!(error, DataError::ValueCount { given: 1, .. }), "{error}");
    }

    #[test]
    fn asking_for_what_is_not_there() {
        let (set, device) = (set(), Device::flex());
        assert!(matches!(set.image(3), Err(DataError::IndexOutOfRange { index: 3, len: 3 })));
        assert!(matches!(set.label(3), Err(DataError::IndexOutOfRange { index: 3, len: 3 })));
        assert!(matches!(set.of_class(3), Err(DataError::ClassOutOfRange { class: 3, classes: 3 })));
        assert!(matches!(set.batch(&[], &device), Err(DataError::Empty { what: "the batch" })));
        assert!(matches!(set.batch(&[0, 3], &device), Err(DataError::IndexOutOfRange { index: 3, len: 3 })));
        assert!(matches!(set.subset(&[]), Err(DataError::Empty { what: "the subset" })));
        assert!(matches!(set.subset(&[9]), Err(DataError::IndexOutOfRange { index: 9, len: 3 })));
    }
}
