//! What can be wrong with a file.

use image::ImageError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file that cannot be used, and why.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

impl FileError {
    pub(crate) fn new(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_path_buf(), problem }
    }
}

/// What can be wrong with a file or folder.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system refused.
    #[error("cannot {action} it: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A folder without any file of the kinds that can be read.
    #[error("there is no {kinds} file in it, nor in its folders: give the folder that holds the data")]
    EmptyFolder {
        /// What was looked for.
        kinds: &'static str,
    },
    /// A name that is not UTF-8.
    #[error("its name is not UTF-8: rename it, names of folders become names of classes")]
    Name,
    /// Images lie beside folders of images.
    #[error("images lie beside folders of images: either every image has a folder for its class, or none has")]
    MixedFolder,
    /// A compressed file that is damaged or cut short.
    #[error("the compressed data are damaged or cut short ({source}): fetch the file again")]
    Compressed {
        /// What the decoder said.
        source: io::Error,
    },
    /// Less data than the header promises.
    #[error(
        "the header promises {promised} bytes of data, {found} are there: the file is cut short or its header is damaged"
    )]
    Truncated {
        /// The bytes that the header promises.
        promised: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// More data than the header promises.
    #[error("there are more than the {promised} bytes of data that the header promises: the header is damaged")]
    Trailing {
        /// The bytes that the header promises.
        promised: u64,
    },
    /// More data than this reader takes.
    #[error("the header promises more than {limit} values: split the file")]
    TooLarge {
        /// The largest number of values.
        limit: u64,
    },
    /// The file does not begin as its format does.
    #[error("it is not {expected}: it begins with {found:02x?}")]
    Format {
        /// The format expected.
        expected: &'static str,
        /// The first bytes.
        found: Vec<u8>,
    },
    /// A header that cannot be understood.
    #[error("its header is damaged: {given:?}, expected {expected}")]
    Header {
        /// What was found.
        given: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Values of a type that this reader does not take.
    #[error("its values are of type {given}: convert them to {expected}")]
    ValueType {
        /// The type, as the format writes it.
        given: String,
        /// Types that can be read.
        expected: &'static str,
    },
    /// A shape that does not fit.
    #[error("its shape is {given:?}, expected {expected}")]
    Shape {
        /// The shape of the data.
        given: Vec<usize>,
        /// What was expected.
        expected: &'static str,
    },
    /// Images and labels do not belong together.
    #[error("it has {labels} labels for {images} images: the files do not belong together")]
    Labels {
        /// The number of images.
        images: usize,
        /// The number of labels.
        labels: usize,
    },
    /// An image that cannot be decoded.
    #[error("the image cannot be decoded ({source}): repair or remove it, or skip what is unreadable")]
    Image {
        /// What the decoder said.
        source: ImageError,
    },
    /// An image with more pixels than allowed.
    #[error(
        "the image is {width}x{height}: more than the limit of {limit} pixels, which can be raised with `max_pixels`"
    )]
    Pixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The most pixels allowed.
        limit: u64,
    },
    /// An image of another size than the others, and no rule for it.
    #[error(
        "the image is {}x{}, the first one {}x{}: give a size with `resize`, `stretch` or `crop`",
        given[0], given[1], expected[0], expected[1]
    )]
    Size {
        /// Width and height of this image.
        given: [u32; 2],
        /// Width and height of the first image.
        expected: [u32; 2],
    },
    /// An image smaller than what is to be cut from it.
    #[error("the image is {}x{}, smaller than the crop of {}x{}: use `resize`", given[0], given[1], crop[0], crop[1])]
    Crop {
        /// Width and height of this image.
        given: [u32; 2],
        /// Width and height of the crop.
        crop: [u32; 2],
    },
    /// No line of a table holds data.
    #[error("it has no data lines")]
    NoLines,
    /// A line with another number of fields than the first.
    #[error("line {line} has {given} fields, the lines before have {expected}")]
    Ragged {
        /// The line, counted from 1.
        line: u64,
        /// Fields in this line.
        given: usize,
        /// Fields in the lines before.
        expected: usize,
    },
    /// A field that is not a number.
    #[error("line {line}, column {column}: {text:?} is not a finite number; name a column of labels with `labels`")]
    NotANumber {
        /// The line, counted from 1.
        line: u64,
        /// The column, counted from 1.
        column: usize,
        /// The field.
        text: String,
    },
    /// A table that cannot be read as text.
    #[error("line {line} is not valid UTF-8 text")]
    Text {
        /// The line, counted from 1.
        line: u64,
    },
    /// A column that is not there.
    #[error("there is no column {name:?}; there are: {known}")]
    NoColumn {
        /// The column asked for.
        name: String,
        /// The columns that there are.
        known: String,
    },
}
