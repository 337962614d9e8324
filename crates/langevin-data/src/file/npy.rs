//! NumPy's `.npy` files of numbers, `[n, dim]` or `[n]`.
//!
//! The format: NumPy Enhancement Proposal 1, versions 1.0 to 3.0, <https://numpy.org/neps/nep-0001-npy-format.html>.
//! Numbers of 1 to 8 bytes, integer or floating point, of either byte order, in rows (C) or in columns (Fortran).
//!
//! ```no_run
//! let vectors = langevin_data::npy::open("points.npy")?.standardize()?;
//! # Ok::<(), langevin_data::DataError>(())
//! ```

use super::{FileError, Problem, open as open_file, read_error, read_promised};
use crate::{DataError, VectorSet};
use std::io::{BufReader, Read};
use std::path::Path;

/// The most values in one file.
const MOST: u64 = 1 << 31;
/// The longest header: the text of a dictionary with three entries.
const LONGEST_HEADER: u32 = 1 << 16;
const TYPES: &str = "f4, f8, i1, i2, i4, i8, u1, u2, u4 or u8";

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    kind: u8,
    size: usize,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

/// Reads vectors. Values become `f32`; `[n]` is taken as n vectors of one number.
///
/// # Errors
///
/// [`DataError::File`]: it cannot be read, is not `.npy`, holds other than real numbers, has another shape, or holds
/// less or more than its header promises. [`DataError::NonFinite`] for NaN, infinity, or a number beyond `f32`.
pub fn open(path: impl AsRef<Path>) -> Result<VectorSet, DataError> {
    let path = path.as_ref();
    let bad = |problem| FileError::new(path, problem);
    let mut reader = BufReader::new(open_file(path)?);
    let header = header(&mut reader, path)?;
    let [rows, columns] = match header.shape.as_slice() {
        &[rows] => [rows, 1],
        &[rows, columns] => [rows, columns],
        other => return Err(bad(Problem::Shape { given: other.to_vec(), expected: "[n, dim] or [n]" }).into()),
    };
    let count = (rows as u64).saturating_mul(columns as u64);
    if count > MOST {
        return Err(bad(Problem::TooLarge { limit: MOST }).into());
    }
    let bytes = read_promised(reader, count * header.size as u64, path)?;
    let mut values: Vec<f32> = bytes.chunks_exact(header.size).map(|bytes| number(&header, bytes) as f32).collect();
    if header.fortran && columns > 1 {
        values = (0..rows * columns).map(|at| values[(at % columns) * rows + at / columns]).collect();
    }
    VectorSet::new(values, [rows, columns])
}

/// One number.
fn number(header: &Header, bytes: &[u8]) -> f64 {
    let mut little = [0; 8];
    let size = header.size;
    for (place, byte) in bytes.iter().enumerate() {
        little[if header.big_endian { size - 1 - place } else { place }] = *byte;
    }
    let unsigned = u64::from_le_bytes(little);
    // Shifted up and down again, the sign fills the upper bytes.
    let shift = 64 - 8 * size as u32;
    match (header.kind, size) {
        (b'f', 4) => f64::from(f32::from_bits(unsigned as u32)),
        (b'f', _) => f64::from_bits(unsigned),
        (b'i', _) => (((unsigned << shift) as i64) >> shift) as f64,
        _ => unsigned as f64,
    }
}

fn header(reader: &mut impl Read, path: &Path) -> Result<Header, FileError> {
    let bad = |problem| FileError::new(path, problem);
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(|source| read_error(path, source))?;
    if start[..6] != *b"\x93NUMPY" || !(1..=3).contains(&start[6]) {
        return Err(bad(Problem::Format { expected: "a .npy file of version 1 to 3", found: start.to_vec() }));
    }
    let mut length = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..width]).map_err(|source| read_error(path, source))?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST_HEADER {
        let given = format!("a header of {length} bytes");
        return Err(bad(Problem::Header { given, expected: "at most 65536 bytes" }));
    }
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text).map_err(|source| read_error(path, source))?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    parse(&text).map_err(bad)
}

/// Reads `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }`.
fn parse(text: &str) -> Result<Header, Problem> {
    let damaged = |expected| Problem::Header { given: text.chars().take(200).collect(), expected };
    let after = |key: &str| {
        let at = text.find(&format!("'{key}'"))?;
        text[at + key.len() + 2..].trim_start().strip_prefix(':').map(str::trim_start)
    };
    let descr = after("descr").ok_or_else(|| damaged("an entry 'descr'"))?;
    let descr = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
    // Records have a list here.
    let descr = descr.ok_or_else(|| Problem::ValueType { given: "a record".into(), expected: TYPES })?;
    let unsupported = || Problem::ValueType { given: descr.chars().take(40).collect(), expected: TYPES };
    let &[order, kind, size] = descr.as_bytes() else { return Err(unsupported()) };
    let size = usize::from(size.wrapping_sub(b'0'));
    let known = match kind {
        b'f' => matches!(size, 4 | 8),
        b'i' | b'u' => matches!(size, 1 | 2 | 4 | 8),
        _ => false,
    };
    if !known || !matches!(order, b'<' | b'>' | b'|') {
        return Err(unsupported());
    }
    let fortran = match after("fortran_order").ok_or_else(|| damaged("an entry 'fortran_order'"))? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return Err(damaged("'fortran_order' to be True or False")),
    };
    let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| damaged("an entry 'shape' with extents in parentheses"))?;
    let extents = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    let shape: Result<Vec<usize>, _> = extents.map(str::parse).collect();
    let shape = shape.map_err(|_| damaged("extents that are whole numbers"))?;
    Ok(Header { kind, size, big_endian: order == b'>', fortran, shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn load(bytes: &[u8]) -> Result<VectorSet, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        std::fs::write(&path, bytes).unwrap();
        open(&path)
    }

    fn problem(bytes: &[u8]) -> Problem {
        match load(bytes).unwrap_err() {
            DataError::File(error) => error.problem,
            other => panic!("{other}"),
        }
    }

    fn dictionary(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}          \n")
    }

    #[test]
    fn every_type_and_order() {
        let numbers = [1i32, -2, 3, 4, 5, 6];
        let collect = |f: &dyn Fn(i32) -> Vec<u8>| numbers.iter().flat_map(|n| f(*n)).collect::<Vec<u8>>();
        let cases: [(&str, Vec<u8>); 8] = [
            ("<f4", collect(&|n| (n as f32).to_le_bytes().to_vec())),
            (">f4", collect(&|n| (n as f32).to_be_bytes().to_vec())),
            ("<f8", collect(&|n| f64::from(n).to_le_bytes().to_vec())),
            (">f8", collect(&|n| f64::from(n).to_be_bytes().to_vec())),
            ("|i1", collect(&|n| vec![n as u8])),
            (">i2", collect(&|n| (n as i16).to_be_bytes().to_vec())),
            ("<i4", collect(&|n| n.to_le_bytes().to_vec())),
            ("<i8", collect(&|n| i64::from(n).to_le_bytes().to_vec())),
        ];
        for (descr, data) in &cases {
            for version in 1..=3 {
                let set = load(&file(version, &dictionary(descr, "False", "(3, 2)"), data)).unwrap();
                assert_eq!(set.values(), [1.0, -2.0, 3.0, 4.0, 5.0, 6.0], "{descr}");
                assert_eq!(set.dim(), 2);
            }
        }
        let unsigned = load(&file(1, &dictionary("|u1", "False", "(2,)"), &[255, 7])).unwrap();
        assert_eq!((unsigned.values(), unsigned.dim()), (&[255.0, 7.0][..], 1));
        // Columns first: (1, 3, 5) and (-2, 4, 6).
        let columns: Vec<u8> = [1.0f32, 3.0, 5.0, -2.0, 4.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let set = load(&file(1, &dictionary("<f4", "True", "(3, 2)"), &columns)).unwrap();
        assert_eq!(set.values(), [1.0, -2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn headers_that_lie() {
        let short = file(1, &dictionary("<f4", "False", "(3, 2)"), &[0; 23]);
        assert!(matches!(problem(&short), Problem::Truncated { promised: 24, found: 23 }));
        let long = file(1, &dictionary("<f4", "False", "(3, 2)"), &[0; 25]);
        assert!(matches!(problem(&long), Problem::Trailing { promised: 24 }));
        let huge = file(1, &dictionary("<f8", "False", "(4000000000, 4000000000)"), &[]);
        assert!(matches!(problem(&huge), Problem::TooLarge { .. }));
        // A gigabyte that is not there is not allocated.
        let absent = file(1, &dictionary("|u1", "False", "(1000000000, 2)"), &[]);
        assert!(matches!(problem(&absent), Problem::Truncated { promised: 2_000_000_000, found: 0 }));
        let endless = [b"\x93NUMPY\x02\x00".as_slice(), &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(problem(&endless), Problem::Header { .. }));
    }

    #[test]
    fn what_is_not_a_matrix_of_numbers() {
        assert!(matches!(problem(b"\x93NUMPX\x01\x00\x00\x00"), Problem::Format { .. }));
        for descr in ["<c8", "|O", "<U3", "<f2", "<i3", "?b1"] {
            let bytes = file(1, &dictionary(descr, "False", "(1,)"), &[0; 8]);
            assert!(matches!(problem(&bytes), Problem::ValueType { .. }), "{descr}");
        }
        let record = file(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]);
        assert!(matches!(problem(&record), Problem::ValueType { .. }));
        for shape in ["()", "(1, 2, 3)"] {
            let bytes = file(1, &dictionary("<f4", "False", shape), &[0; 24]);
            assert!(matches!(problem(&bytes), Problem::Shape { .. }), "{shape}");
        }
        for header in ["", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': maybe, 'shape': (1,)}"] {
            assert!(matches!(problem(&file(1, header, &[])), Problem::Header { .. }), "{header}");
        }
        for shape in ["(-1, 2)", "(1.5,)", "(1, 2", "3"] {
            let bytes = file(1, &dictionary("<f4", "False", shape), &[0; 8]);
            assert!(matches!(problem(&bytes), Problem::Header { .. }), "{shape}");
        }
        let nan = file(1, &dictionary("<f4", "False", "(2,)"), &[0, 0, 0, 0, 0, 0, 0xc0, 0x7f]);
        assert!(matches!(load(&nan), Err(DataError::NonFinite { index: 1, .. })));
        let beyond = file(1, &dictionary("<f8", "False", "(1,)"), &1e300f64.to_le_bytes());
        assert!(matches!(load(&beyond), Err(DataError::NonFinite { index: 0, .. })));
        assert!(matches!(load(&file(1, &dictionary("<f4", "False", "(0, 2)"), &[])), Err(DataError::Empty { .. })));
    }
}
