//! Data that has levels, such as 8-bit images.

use crate::MetricError;
use crate::read::{check_finite, values};
use burn::tensor::{Tensor, TensorData};
use langevin_core::NoiseSource;
use langevin_core::noise::{Domain, Key};
use serde::{Deserialize, Serialize};

/// How far a value may be from its level, in steps: more than the rounding of `f32` makes of 16 bits.
const SLACK: f64 = 0.05;

/// Data with n levels, spread evenly over a range: level i is the value `low + (high − low)·i/(n − 1)`.
///
/// A density of such data means nothing, as it may be infinite on the levels. Uniform dequantization (Theis et al.
/// 2016) gives each level a bin of its own: with u uniform in [0, 1), level i becomes `low + (high − low)·(i + u)/n`. A
/// density p of that has `E[ln p] + ln(bin width)` at most the logarithm of the probability of the level.
///
/// ```
/// use langevin_metrics::Quantization;
/// let images = Quantization::bits(8)?; // pixels in [-1, 1]
/// assert_eq!((images.levels(), images.bin_width()), (256, 2.0 / 256.0));
/// assert_eq!(images.offset_bits(), 7.0);
/// let digits = Quantization::with_levels(17)?.between(0.0, 1.0)?;
/// assert_eq!(digits.value(8), 0.5);
/// # Ok::<(), langevin_metrics::MetricError>(())
/// ```
///
/// # References
/// Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative models", section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantization {
    levels: usize,
    low: f64,
    high: f64,
}

impl Quantization {
    /// `2^bits` levels in [-1, 1].
    ///
    /// # Errors
    /// [`MetricError::Setting`] unless bits are 1 to 16.
    pub fn bits(bits: u32) -> Result<Self, MetricError> {
        if !(1..=16).contains(&bits) {
            let expected = "1 to 16";
            return Err(MetricError::Setting { setting: "bit depth", given: f64::from(bits), expected });
        }
        Self::with_levels(1 << bits)
    }

    /// Any number of levels in [-1, 1].
    ///
    /// # Errors
    /// [`MetricError::Setting`] unless they are 2 to 65536.
    pub fn with_levels(levels: usize) -> Result<Self, MetricError> {
        if !(2..=65536).contains(&levels) {
            let expected = "2 to 65536";
            return Err(MetricError::Setting { setting: "number of levels", given: levels as f64, expected });
        }
        Ok(Self { levels, low: -1.0, high: 1.0 })
    }

    /// The values of the lowest and the highest level.
    ///
    /// # Errors
    /// [`MetricError::Setting`] unless both are finite and `low < high`.
    pub fn between(mut self, low: f64, high: f64) -> Result<Self, MetricError> {
        if !low.is_finite() {
            let expected = "a finite number";
            return Err(MetricError::Setting { setting: "lowest level", given: low, expected });
        }
        if !(high > low && (high - low).is_finite()) {
            let expected = "a finite number above the lowest level";
            return Err(MetricError::Setting { setting: "highest level", given: high, expected });
        }
        (self.low, self.high) = (low, high);
        Ok(self)
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// The values of the lowest and the highest level.
    pub fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The value of level `level`, counted from 0.
    pub fn value(&self, level: usize) -> f64 {
        self.low + self.step() * level as f64
    }

    /// From one level to the next.
    pub fn step(&self) -> f64 {
        (self.high - self.low) / (self.levels - 1) as f64
    }

    /// Width of a level's bin after dequantization.
    pub fn bin_width(&self) -> f64 {
        (self.high - self.low) / self.levels as f64
    }

    /// Bits per dimension of the levels beyond those of the density: `−log2(bin width)`; 7 for 8 bits in [-1, 1].
    pub fn offset_bits(&self) -> f64 {
        -libm::log2(self.bin_width())
    }

    /// The level of each value, for `rows` samples behind one another.
    ///
    /// # Errors
    /// [`MetricError::NotFinite`], [`MetricError::OutOfRange`] and [`MetricError::NotALevel`], naming the sample.
    pub fn levels_of(&self, values: &[f64], rows: usize) -> Result<Vec<usize>, MetricError> {
        check_finite("the data", values, rows, "clean the data first")?;
        let numel = (values.len() / rows.max(1)).max(1);
        let top = (self.levels - 1) as f64;
        let one = |(index, &given): (usize, &f64)| {
            let (sample, low, high) = (index / numel, self.low, self.high);
            let position = (given - low) / self.step();
            if !(position >= -SLACK && position <= top + SLACK) {
                return Err(MetricError::OutOfRange { sample, given, low, high });
            }
            let level = position.round();
            if (position - level).abs() > SLACK {
                return Err(MetricError::NotALevel { sample, given, levels: self.levels, low, high });
            }
            Ok(level as usize)
        };
        values.iter().enumerate().map(one).collect()
    }

    /// Uniform noise in every bin: samples `[batch, ..]` on levels become samples in the same range, with no gaps.
    ///
    /// Sample i of the batch is number `first + i`; its noise is that of the domain
    /// [`Dequantize`](langevin_core::noise::Domain::Dequantize), lane 0, taken through the normal distribution function.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use langevin_core::noise::Seeded;
    /// use langevin_metrics::Quantization;
    /// let black = Tensor::<2>::full([1, 3], -1.0, &Device::flex());
    /// let x = Quantization::bits(1)?.dequantize(black, 0, &Seeded::new(0))?;
    /// assert!(x.max().into_scalar::<f32>() < 0.0); // the lower half of [-1, 1]
    /// # Ok::<(), langevin_metrics::MetricError>(())
    /// ```
    ///
    /// # Errors
    /// As [`levels_of`](Self::levels_of), and [`MetricError::Noise`].
    pub fn dequantize<const D: usize>(
        &self,
        x: Tensor<D>,
        first: u64,
        noise: &dyn NoiseSource,
    ) -> Result<Tensor<D>, MetricError> {
        let dims = x.dims();
        if dims.contains(&0) {
            return Err(MetricError::EmptyShape { shape: dims.to_vec() });
        }
        let levels = self.levels_of(&values(&x)?, dims[0])?;
        let key = Key { domain: Domain::Dequantize, index: 0, lane: 0 };
        let mut out = vec![0.0; levels.len()];
        let numel = levels.len() / dims[0];
        for (row, sample) in out.chunks_mut(numel).zip(first..) {
            noise.fill(sample, key, row)?;
        }
        for (value, level) in out.iter_mut().zip(levels) {
            let u = 0.5 * libm::erfc(-*value / std::f64::consts::SQRT_2);
            *value = self.low + self.bin_width() * (level as f64 + u.min(1.0 - f64::EPSILON));
        }
        Ok(Tensor::from_data(TensorData::new(out, dims), (&x.device(), x.dtype())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};
    use langevin_core::noise::Seeded;

    fn tensor(values: &[f64], shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Device::flex(), DType::F64))
    }

    #[test]
    fn noise_is_uniform_in_the_bins() {
        let quantization = Quantization::with_levels(5).unwrap().between(0.0, 4.0).unwrap();
        let x: Vec<f64> = (0..5000).map(|i| f64::from(i % 5)).collect();
        let y = quantization.dequantize(tensor(&x, [10, 500]), 3, &Seeded::new(1)).unwrap();
        let y = values(&y).unwrap();
        let u: Vec<f64> = x.iter().zip(&y).map(|(x, y)| y / 0.8 - x).collect();
        assert!(u.iter().all(|u| (0.0..1.0).contains(u)));
        // Mean and variance of a uniform distribution, within four standard errors.
        let n = u.len() as f64;
        let mean = u.iter().sum::<f64>() / n;
        let variance = u.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / n;
        assert!((mean - 0.5).abs() < 4.0 / (12.0 * n).sqrt(), "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 4.0 * (1.0 / 180.0 / n).sqrt(), "{variance}");
        // Noise belongs to the sample's number, not to its row.
        let alone = quantization.dequantize(tensor(&x[500..1000], [1, 500]), 4, &Seeded::new(1)).unwrap();
        assert_eq!(values(&alone).unwrap(), y[500..1000]);
    }

    #[test]
    fn levels_are_found_in_f32() {
        for quantization in [Quantization::bits(16).unwrap(), Quantization::with_levels(17).unwrap()] {
            let stored: Vec<f64> =
                (0..quantization.levels()).map(|level| f64::from(quantization.value(level) as f32)).collect();
            let levels = quantization.levels_of(&stored, 1).unwrap();
            assert!(levels.iter().enumerate().all(|(i, level)| i == *level));
        }
    }

    #[test]
    fn bad_settings_and_data_are_errors() {
        let setting = |result: Result<Quantization, MetricError>| match result {
            Err(MetricError::Setting { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        for bits in [0, 17, u32::MAX] {
            assert_eq!(setting(Quantization::bits(bits)), "bit depth");
        }
        for levels in [0, 1, 65537] {
            assert_eq!(setting(Quantization::with_levels(levels)), "number of levels");
        }
        let eight = Quantization::bits(8).unwrap();
        for low in [f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(setting(eight.between(low, 1.0)), "lowest level");
        }
        for high in [f64::NAN, -1.0, -2.0, f64::INFINITY] {
            assert_eq!(setting(eight.between(-1.0, high)), "highest level");
        }
        let read = |values: &[f64]| eight.dequantize(tensor(values, [2, 1]), 0, &Seeded::new(0)).map(|x| x.dims());
        assert_eq!(read(&[-1.0, 1.0]), Ok([2, 1]));
        let out = read(&[0.0 + 1.0 / 255.0, 1.1]);
        assert!(matches!(out, Err(MetricError::OutOfRange { sample: 1, given: 1.1, low: -1.0, high: 1.0 })));
        assert!(matches!(read(&[-1.1, 1.0]), Err(MetricError::OutOfRange { sample: 0, .. })));
        assert!(matches!(read(&[1.0, 0.0]), Err(MetricError::NotALevel { sample: 1, levels: 256, .. })));
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(matches!(read(&[1.0, bad]), Err(MetricError::NotFinite { sample: 1, .. })));
        }
        let empty = eight.dequantize(Tensor::<2>::zeros([0, 3], &Device::flex()), 0, &Seeded::new(0));
        assert!(matches!(empty, Err(MetricError::EmptyShape { shape }) if shape == [0, 3]));
    }
}
