//! IDX, the format of MNIST and Fashion-MNIST: a big-endian header and bytes; plain or compressed with gzip, which is
//! told by content and not by name.
//!
//! ```no_run
//! // Four files, as they are published: train-images-idx3-ubyte (or .gz), train-labels-idx1-ubyte, t10k-…
//! let data = langevin_data::idx::open("/usr/share/datasets/fashion-mnist")?;
//! assert_eq!(data.train.image_shape(), [1, 28, 28]);
//! # Ok::<(), langevin_data::DataError>(())
//! ```
//!
//! The format: LeCun, Cortes & Burges, "The MNIST database of handwritten digits",
//! <https://web.archive.org/web/2024/http://yann.lecun.com/exdb/mnist/>.

use super::{FileError, Problem, open as open_file, read_error, read_promised};
use crate::{DataError, ImageSet, Split};
use flate2::read::MultiGzDecoder;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The most values in one file: 4 GiB of bytes.
const MOST: u64 = 1 << 32;

/// What is in an IDX file of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// The extents, the first of them counting samples.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub values: Vec<u8>,
}

/// Reads one file.
///
/// # Errors
///
/// [`DataError::File`]: it cannot be read, is not IDX, holds other values than unsigned bytes, is damaged, or holds
/// less or more than its header promises.
pub fn read(path: impl AsRef<Path>) -> Result<Idx, DataError> {
    let path = path.as_ref();
    let mut reader = BufReader::new(open_file(path)?);
    let compressed = reader.fill_buf().map_err(|source| read_error(path, source))?.starts_with(&[0x1f, 0x8b]);
    let idx = if compressed { parse(MultiGzDecoder::new(reader), path) } else { parse(reader, path) };
    Ok(idx?)
}

fn parse(mut reader: impl Read, path: &Path) -> Result<Idx, FileError> {
    let bad = |problem| FileError::new(path, problem);
    let mut header = |bytes: &mut [u8]| match reader.read_exact(bytes) {
        Ok(()) => Ok(()),
        Err(source) => Err(read_error(path, source)),
    };
    let mut magic = [0; 4];
    header(&mut magic)?;
    let [0, 0, code, dimensions] = magic else {
        return Err(bad(Problem::Format { expected: "an IDX file", found: magic.to_vec() }));
    };
    if code != 0x08 {
        return Err(bad(Problem::ValueType { given: format!("{code:#04x}"), expected: "unsigned bytes (0x08)" }));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let mut extent = [0; 4];
        header(&mut extent)?;
        shape.push(u32::from_be_bytes(extent) as usize);
    }
    let promised = shape.iter().fold(1u64, |product, extent| product.saturating_mul(*extent as u64));
    if promised > MOST {
        return Err(bad(Problem::TooLarge { limit: MOST }));
    }
    let values = read_promised(reader, promised, path)?;
    Ok(Idx { shape, values })
}

/// Gray images from a file of extents `[n, height, width]`, and their classes from one of extent `[n]`; the number of
/// classes is the largest label and one.
///
/// # Errors
///
/// As [`read`]; [`DataError::File`] too if the files have other extents or do not belong together.
pub fn images(images: impl AsRef<Path>, labels: Option<&Path>) -> Result<ImageSet, DataError> {
    let path = images.as_ref();
    let Idx { shape, values } = read(path)?;
    let &[count, height, width] = shape.as_slice() else {
        return Err(FileError::new(path, Problem::Shape { given: shape, expected: "[n, height, width]" }).into());
    };
    let shape = [count, 1, height, width];
    let Some(labels) = labels else { return ImageSet::from_u8(&values, shape, vec![0; count], 1) };
    let Idx { shape: extents, values: classes } = read(labels)?;
    let bad = |problem| DataError::from(FileError::new(labels, problem));
    if extents.len() != 1 {
        return Err(bad(Problem::Shape { given: extents, expected: "[n]" }));
    }
    if extents[0] != count {
        return Err(bad(Problem::Labels { images: count, labels: extents[0] }));
    }
    let classes: Vec<usize> = classes.into_iter().map(usize::from).collect();
    let number = classes.iter().max().map_or(1, |largest| largest + 1);
    ImageSet::from_u8(&values, shape, classes, number)
}

/// Whether a folder holds the four files of [`open`].
pub fn is_in(folder: impl AsRef<Path>) -> bool {
    find(folder.as_ref(), "train-images", 3).is_ok()
}

/// The four files of MNIST's kind in one folder, `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
/// `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each plain or with `.gz`: the training part and the test part
/// as they are published.
///
/// # Errors
///
/// As [`images`]; [`DataError::File`] if one of the files is missing.
pub fn open(folder: impl AsRef<Path>) -> Result<Split<ImageSet>, DataError> {
    let folder = folder.as_ref();
    let part = |name: &str| {
        let labels = find(folder, &format!("{name}-labels"), 1)?;
        images(find(folder, &format!("{name}-images"), 3)?, Some(&labels))
    };
    Ok(Split { train: part("train")?, test: part("t10k")? })
}

/// The plain file of this name, or the compressed one.
fn find(folder: &Path, name: &str, dimensions: u8) -> Result<PathBuf, DataError> {
    let plain = folder.join(format!("{name}-idx{dimensions}-ubyte"));
    let compressed = folder.join(format!("{name}-idx{dimensions}-ubyte.gz"));
    match [&plain, &compressed].into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            Err(FileError::new(&plain, Problem::Io { action: "find", source }).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn bytes(code: u8, shape: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, code, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|extent| extent.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn problem(bytes: &[u8]) -> Problem {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        match read(&path).unwrap_err() {
            DataError::File(error) => {
                assert_eq!(error.path, path);
                error.problem
            }
            other => panic!("{other}"),
        }
    }

    fn publish(folder: &Path, ending: &str, pack: fn(&[u8]) -> Vec<u8>) {
        for (part, count) in [("train", 3u8), ("t10k", 2)] {
            let pixels: Vec<u8> = (0..count * 6).map(|i| i * 5).collect();
            let images = bytes(8, &[count.into(), 2, 3], &pixels);
            let labels = bytes(8, &[count.into()], &(0..count).collect::<Vec<_>>());
            for (name, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
                std::fs::write(folder.join(format!("{part}-{name}-ubyte{ending}")), pack(&bytes)).unwrap();
            }
        }
    }

    #[test]
    fn plain_and_compressed_folders_are_the_same() {
        let [plain, compressed] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        publish(plain.path(), "", <[u8]>::to_vec);
        publish(compressed.path(), ".gz", gzip);
        assert!(is_in(plain.path()) && is_in(compressed.path()));
        let data = open(plain.path()).unwrap();
        assert_eq!(data, open(compressed.path()).unwrap());
        assert_eq!((data.train.len(), data.test.len()), (3, 2));
        assert_eq!((data.train.image_shape(), data.train.classes()), ([1, 2, 3], Some(3)));
        assert_eq!(data.train.labels(), [0, 1, 2]);
        assert_eq!(data.train.image(1).unwrap()[0], 30.0 / 127.5 - 1.0);
        // Without labels there are no classes.
        let images = images(plain.path().join("t10k-images-idx3-ubyte"), None).unwrap();
        assert_eq!((images.len(), images.classes()), (2, None));
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), "", <[u8]>::to_vec);
        std::fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("t10k-labels-idx1-ubyte") && error.contains("cannot find it"), "{error}");
        assert!(!is_in(folder.path().join("none")));
    }

    #[test]
    fn a_header_that_promises_more_than_there_is() {
        assert!(matches!(problem(&bytes(8, &[3, 2, 2], &[0; 11])), Problem::Truncated { promised: 12, found: 11 }));
        // Nothing of the size promised is allocated: these four billion bytes are not there.
        let huge = bytes(8, &[u32::MAX, 1], &[7; 9]);
        assert!(matches!(problem(&huge), Problem::Truncated { promised: 4_294_967_295, found: 9 }));
        let overflowing = bytes(8, &[u32::MAX; 5], &[7; 9]);
        assert!(matches!(problem(&overflowing), Problem::TooLarge { limit: MOST }));
        // A compressed file may not hide more either.
        let compressed = gzip(&bytes(8, &[3, 2, 2], &[0; 11]));
        assert!(matches!(problem(&compressed), Problem::Truncated { promised: 12, found: 11 }));
    }

    #[test]
    fn more_than_the_header_promises() {
        assert!(matches!(problem(&bytes(8, &[2, 2], &[0; 5])), Problem::Trailing { promised: 4 }));
        // A compressed file that unpacks to far more is not unpacked to its end.
        let bomb = gzip(&bytes(8, &[2, 2], &vec![0; 50_000_000]));
        assert!(matches!(problem(&bomb), Problem::Trailing { promised: 4 }));
    }

    #[test]
    fn compressed_files_cut_short() {
        let whole = gzip(&bytes(8, &[100, 10], &(0..1000).map(|i| (i * i % 251) as u8).collect::<Vec<_>>()));
        for length in [5, 12, 40, whole.len() / 2, whole.len() - 4] {
            let problem = problem(&whole[..length]);
            assert!(matches!(problem, Problem::Compressed { .. }), "{length}: {problem}");
        }
        let mut flipped = whole.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 1; // the checksum
        assert!(matches!(problem(&flipped), Problem::Compressed { .. }));
    }

    #[test]
    fn other_files_are_not_idx() {
        assert!(matches!(problem(b"PK\x03\x04 a zip"), Problem::Format { .. }));
        assert!(matches!(problem(b"ab"), Problem::Compressed { .. } | Problem::Truncated { .. }));
        assert!(matches!(problem(&bytes(0x0d, &[1], &[0; 4])), Problem::ValueType { .. }));
        let missing = read("/nowhere/at/all").unwrap_err();
        assert!(matches!(missing, DataError::File(FileError { problem: Problem::Io { action: "open", .. }, .. })));
    }

    #[test]
    fn files_that_do_not_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let pixels = file("images", &bytes(8, &[2, 1, 1], &[0, 1]));
        let three = file("three", &bytes(8, &[3], &[0, 1, 2]));
        let matrix = file("matrix", &bytes(8, &[2, 1], &[0, 1]));
        let problem = |result: Result<ImageSet, DataError>| match result.unwrap_err() {
            DataError::File(error) => error.problem,
            other => panic!("{other}"),
        };
        assert!(matches!(problem(images(&pixels, Some(&three))), Problem::Labels { images: 2, labels: 3 }));
        assert!(matches!(problem(images(&pixels, Some(&matrix))), Problem::Shape { expected: "[n]", .. }));
        assert!(matches!(problem(images(&three, None)), Problem::Shape { expected: "[n, height, width]", .. }));
    }
}
