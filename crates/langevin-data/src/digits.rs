//! The embedded handwritten digits.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::{DataError, ImageSet};

const SAMPLES: usize = 1797;
const SIDE: usize = 8;
const CLASSES: usize = 10;
/// Pixels count the set points of a 4 by 4 block.
const BRIGHTEST: u8 = 16;

/// 1797 handwritten digits: images `[1, 8, 8]`, ten classes, ink 1 on a ground of -1.
///
/// They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998, UCI Machine
/// Learning Repository, <https://doi.org/10.24432/C50P49>, CC BY 4.0) in the order of scikit-learn's `load_digits`,
/// written by 13 people; a pixel has one of 17 levels, `k / 8 - 1` for `k` in `0..=16`. The data are embedded in the
/// crate (39 kB) and unpacked at each call. Their notice is in `assets/NOTICE`.
///
/// # Errors
///
/// [`DataError::DamagedDigits`] if the embedded file was altered.
///
/// # Example
///
/// ```
/// let digits = langevin_data::digits()?;
/// assert_eq!((digits.len(), digits.classes()), (1797, Some(10)));
/// assert_eq!(digits.image_shape(), [1, 8, 8]);
/// # Ok::<(), langevin_data::DataError>(())
/// ```
pub fn digits() -> Result<ImageSet, DataError> {
    unpack(include_bytes!("../assets/digits.planes.gz"))
}

/// Reads 64 pixel planes and a plane of labels, each with one byte a sample (see `assets/README.md`).
fn unpack(packed: &[u8]) -> Result<ImageSet, DataError> {
    let damaged = |reason: String| DataError::DamagedDigits { reason };
    let mut planes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut planes).map_err(|error| damaged(error.to_string()))?;
    let pixels = SIDE * SIDE;
    if planes.len() != (pixels + 1) * SAMPLES {
        return Err(damaged(format!("{} bytes instead of {}", planes.len(), (pixels + 1) * SAMPLES)));
    }
    let (planes, labels) = planes.split_at(pixels * SAMPLES);
    if let Some(level) = planes.iter().find(|&&level| level > BRIGHTEST) {
        return Err(damaged(format!("pixel level {level} above {BRIGHTEST}")));
    }
    let level = |sample: usize, pixel: usize| f32::from(planes[pixel * SAMPLES + sample]);
    let values =
        (0..SAMPLES).flat_map(|sample| (0..pixels).map(move |pixel| level(sample, pixel) / 8.0 - 1.0)).collect();
    let labels = labels.iter().map(|&label| usize::from(label)).collect();
    ImageSet::new(values, [SAMPLES, 1, SIDE, SIDE], labels, CLASSES).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn pack(planes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(planes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_digits_are_those_of_the_csv() {
        let digits = digits().unwrap();
        assert_eq!((digits.len(), digits.classes(), digits.image_shape()), (1797, Some(10), [1, 8, 8]));
        let counts: Vec<usize> = (0..10).map(|class| digits.of_class(class).unwrap().len()).collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(digits.labels()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
        // The first line of the CSV, a zero.
        let first: Vec<u8> = digits.image(0).unwrap().iter().map(|x| ((x + 1.0) * 8.0) as u8).collect();
        let expected = [
            [0, 0, 5, 13, 9, 1, 0, 0],
            [0, 0, 13, 15, 10, 15, 5, 0],
            [0, 3, 15, 2, 0, 11, 8, 0],
            [0, 4, 12, 0, 0, 8, 8, 0],
            [0, 5, 8, 0, 0, 9, 8, 0],
            [0, 4, 11, 0, 1, 12, 7, 0],
            [0, 2, 14, 5, 10, 12, 0, 0],
            [0, 0, 6, 13, 10, 0, 0, 0],
        ];
        assert_eq!(first, expected.concat());
        // The sum of all 115,008 levels of the CSV; k / 8 - 1 is exact, so levels come back exactly.
        let levels: f64 = digits.pixels().iter().map(|&x| (f64::from(x) + 1.0) * 8.0).sum();
        assert_eq!(levels, 561_718.0);
    }

    #[test]
    fn damage_is_found() {
        let good = include_bytes!("../assets/digits.planes.gz");
        let mut flipped = good.to_vec();
        flipped[20_000] ^= 1;
        let too_bright = pack(&[17; 65 * SAMPLES]);
        let bad_label = pack(&[10; 65 * SAMPLES]);
        let cases: [(&[u8], &str); 6] = [
            (&good[..good.len() / 2], ""),
            (&flipped, ""),
            (b"not gzip", ""),
            (&pack(&[0; 100]), "100 bytes instead of 116805"),
            (&too_bright, "pixel level 17 above 16"),
            (&bad_label, "label 10 of sample 0"),
        ];
        for (bytes, message) in cases {
            let error = unpack(bytes).unwrap_err();
            assert!(matches!(error, DataError::DamagedDigits { .. }));
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
