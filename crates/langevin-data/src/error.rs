//! The errors of this crate.

use std::path::PathBuf;

use burn::tensor::TensorReadError;
use thiserror::Error;

/// What can be wrong with data, with how they are asked for, or with writing them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// There is nothing to work on.
    #[error("{what} has no samples: give at least one")]
    Empty {
        /// What is empty: "the image set", "the batch" ...
        what: &'static str,
    },
    /// One extent of a shape is zero.
    #[error("shape {shape:?} has an extent of 0: every extent must be at least 1")]
    ZeroExtent {
        /// The shape given.
        shape: Vec<usize>,
    },
    /// The number of values is not what the shape says.
    #[error("shape {shape:?} needs {expected} values, {given} were given: pass all samples one after another")]
    ValueCount {
        /// The shape given.
        shape: Vec<usize>,
        /// The number of values this shape has.
        expected: usize,
        /// The number of values given.
        given: usize,
    },
    /// The name of a picture does not end as a format that is written.
    #[error("`{}` has the extension \"{extension}\", but pictures are written as PNG: call it `.png`", .path.display())]
    PictureFormat {
        /// The file.
        path: std::path::PathBuf,
        /// What its name ends with.
        extension: String,
    },
    /// There are not as many labels as samples.
    #[error("{samples} samples need {samples} labels, {labels} were given: pass one label for each sample")]
    LabelCount {
        /// The number of samples.
        samples: usize,
        /// The number of labels.
        labels: usize,
    },
    /// A label is not a class.
    #[error("label {label} of sample {index} is out of range: with {classes} classes labels are 0..{classes}")]
    LabelOutOfRange {
        /// The sample that has it.
        index: usize,
        /// The label given.
        label: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A class that the set does not have was asked for.
    #[error("class {class} is out of range: with {classes} classes give one of 0..{classes}")]
    ClassOutOfRange {
        /// The class asked for.
        class: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A value lies outside its range (NaN lies outside every range).
    #[error(
        "value {value} at position {index} is not in [{low}, {high}]: scale the data first (see `langevin_data::scale`)"
    )]
    OutOfRange {
        /// The position in the values given.
        index: usize,
        /// The value found there.
        value: f32,
        /// The lowest value allowed.
        low: f32,
        /// The highest value allowed.
        high: f32,
    },
    /// A value is infinite or NaN.
    #[error("value {value} at position {index} is not finite: find out where it was made, it cannot be used")]
    NonFinite {
        /// The position in the values given, in row-major order.
        index: usize,
        /// The value found there.
        value: f32,
    },
    /// More values than there is memory for.
    #[error("{samples} samples of {values} values are more than there is memory for: make fewer")]
    TooMany {
        /// The samples asked for.
        samples: usize,
        /// Values of each.
        values: usize,
    },
    /// A sample that the set does not have was asked for.
    #[error("sample {index} does not exist: the set has {len} samples, give one of 0..{len}")]
    IndexOutOfRange {
        /// The index asked for.
        index: usize,
        /// The number of samples.
        len: usize,
    },
    /// The fraction of a split does not lie strictly between 0 and 1.
    #[error(
        "split fraction {fraction} is not strictly between 0 and 1: give the share of training samples, such as 0.9"
    )]
    SplitFraction {
        /// The fraction given.
        fraction: f64,
    },
    /// A split leaves one of its parts empty.
    #[error(
        "splitting {len} samples at {fraction} leaves the {part} part empty: choose another fraction or give more samples"
    )]
    EmptyPart {
        /// "train" or "test".
        part: &'static str,
        /// The fraction given.
        fraction: f64,
        /// The number of samples to split.
        len: usize,
    },
    /// The batch size is zero, or larger than the set.
    #[error("batch size {batch_size} does not fit a set of {len} samples: give one of 1..={len}")]
    BatchSize {
        /// The batch size given.
        batch_size: usize,
        /// The number of samples.
        len: usize,
    },
    /// A noise level is negative, infinite or NaN.
    #[error("noise level {noise} is not usable: give a finite standard deviation of at least 0")]
    NoiseLevel {
        /// The noise level given.
        noise: f64,
    },
    /// A column has no spread, so it cannot be brought to unit variance.
    #[error(
        "column {column} has the same value in every sample and cannot be standardized: remove it or give more samples"
    )]
    ConstantColumn {
        /// The column without spread.
        column: usize,
    },
    /// Vectors have another number of columns than expected.
    #[error("vectors have {given} columns, {expected} were expected")]
    Columns {
        /// The number of columns expected.
        expected: usize,
        /// The number of columns given.
        given: usize,
    },
    /// Images have a number of channels that cannot be shown.
    #[error("images with {channels} channels cannot be shown: give 1 (gray) or 3 (red, green, blue)")]
    Channels {
        /// The number of channels given.
        channels: usize,
    },
    /// Columns of images that are to stand beside one another differ in rows, height or width.
    #[error("a column of images is {given:?}, the first {first:?}: rows, height and width must be the same")]
    Beside {
        /// Shape of the column.
        given: [usize; 4],
        /// Shape of the first one.
        first: [usize; 4],
    },
    /// A setting of an image grid is zero.
    #[error("{setting} of an image grid is 0: it must be at least 1")]
    GridSetting {
        /// "columns" or "upscale".
        setting: &'static str,
    },
    /// An image grid would have more pixels than is sensible for a PNG.
    #[error("the image grid would have more than {limit} pixels: show fewer images, or lower upscale or padding")]
    GridTooLarge {
        /// The largest number of pixels allowed.
        limit: usize,
    },
    /// The embedded digits cannot be unpacked: the crate's asset was altered.
    #[error("the embedded digits are damaged ({reason}): restore crates/langevin-data/assets/digits.planes.gz")]
    DamagedDigits {
        /// What was found.
        reason: String,
    },
    /// A tensor could not be read back from its device.
    #[error("cannot read the tensor back from its device")]
    Read {
        /// What the backend said.
        #[source]
        source: TensorReadError,
    },
    /// A file of data cannot be used.
    #[error(transparent)]
    File(#[from] crate::FileError),
    /// A file could not be written.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn read_errors_keep_their_source() {
        let source = TensorReadError::InvalidShape { expected: 4, actual: 3 };
        let error = DataError::Read { source };
        assert_eq!(error.source().unwrap().to_string(), "Expected 4 tensor element(s), but got 3");
    }

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<DataError>();
    }
}
