//! Counter-based noise from a seed.

use super::cells::{BLOCK, CELL, Draw, Rounded};
use super::parallel::{each_piece, in_shares};
use super::path::{check_interval, fill_path_block};
use super::{Domain, Key, NoiseError, NoiseSource, host_tensor};
use burn::tensor::{DType, Device, Tensor};
use std::ops::Range;

/// Noise that is a pure function of (seed, sample, key, element).
///
/// The ChaCha8 key is the concatenation of seed, sample, index, lane and domain (an injective map, so no two draws
/// share a key), the ChaCha stream is the number of the block of 4096 elements, and every value costs a fixed number
/// of words. Values are made by Box-Muller in `f64` with the polynomials of `libm`, hence have the same bits on every
/// platform, with and without vector instructions; they are rounded once, to the dtype of the tensor. Nothing is
/// remembered between calls: batch size, order of draws and threads do not matter, and a shorter draw is a prefix of a
/// longer one.
///
/// Brownian paths are bisected at nodes that do not depend on the steps of a solver, see
/// [`fill_path`](NoiseSource::fill_path) and the notes below.
///
/// ```
/// use langevin_core::noise::{Key, NoiseSource, Seeded};
/// let noise = Seeded::new(42);
/// let mut values = [0.0; 4];
/// noise.fill(0, Key::INITIAL, &mut values)?;
/// let mut again = [0.0; 2];
/// noise.fill(0, Key::INITIAL, &mut again)?;
/// assert_eq!(again, values[..2]);
/// # Ok::<(), langevin_core::NoiseError>(())
/// ```
///
/// # Brownian paths
/// Each sample has one Brownian motion `W` on the clock `[0, 2^512]`. It is drawn first at powers of two of the
/// clock, then by Brownian bridges at dyadic points inside the octave, 40 levels deep, and is linear inside the
/// last cell, whose width is at most 2⁻⁴⁰ of the clock. A query costs at most about 100 normal values per element and
/// keeps a handful of vectors. Two solvers with different steps, a rejected step, and overlapping intervals see the
/// same path.
///
/// # References
/// Bernstein 2008, "ChaCha, a variant of Salsa20"; Box & Muller 1958; Lévy's construction of Brownian motion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seeded {
    seed: u64,
}

impl Seeded {
    /// The noise that belongs to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }
}

impl Seeded {
    fn fill_rows<T: Rounded>(&self, first: u64, numel: usize, key: Key, values: &mut [T]) {
        let draw = Draw::new(self.seed, first, tag(key.domain), key.index, key.lane);
        in_shares(numel, CELL, 1 << 15, values, |cells, values| draw.fill_cells(numel, cells, values));
    }

    fn fill_path_rows(
        &self,
        first: u64,
        numel: usize,
        (from, until): (f64, f64),
        values: &mut [f64],
    ) -> Result<(), NoiseError> {
        check_interval(from, until)?;
        in_shares(numel, BLOCK, 1 << 10, values, |blocks, values| {
            each_piece(numel, BLOCK, blocks, values, |row, block, values| {
                fill_path_block(self.seed, first.wrapping_add(row as u64), block as u64, (from, until), values);
            });
        });
        Ok(())
    }
}

impl NoiseSource for Seeded {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        self.fill_rows(sample, out.len(), key, out);
        Ok(())
    }

    fn fill_path(&self, sample: u64, from: f64, until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        self.fill_path_rows(sample, out.len(), (from, until), out)
    }

    fn normal(
        &self,
        samples: Range<u64>,
        key: Key,
        numel: usize,
        out: (&Device, DType),
    ) -> Result<Tensor<2>, NoiseError> {
        let first = samples.start;
        // Every value is rounded once wherever it happens; straight to single precision saves a pass over memory.
        if out.1 == DType::F32 {
            return host_tensor::<f32>(samples, numel, out, |values| {
                self.fill_rows(first, numel, key, values);
                Ok(())
            });
        }
        host_tensor::<f64>(samples, numel, out, |values| {
            self.fill_rows(first, numel, key, values);
            Ok(())
        })
    }

    fn path(
        &self,
        samples: Range<u64>,
        interval: (f64, f64),
        numel: usize,
        out: (&Device, DType),
    ) -> Result<Tensor<2>, NoiseError> {
        let first = samples.start;
        host_tensor(samples, numel, out, |values| self.fill_path_rows(first, numel, interval, values))
    }
}

/// Number of a domain in the ChaCha key. Never change one: it changes every seeded result.
pub(super) const fn tag(domain: Domain) -> u32 {
    match domain {
        Domain::Initial => 1,
        Domain::Step => 2,
        Domain::Path => 3,
        Domain::KnownRegion => 4,
        Domain::Probe => 5,
        Domain::Dequantize => 6,
        Domain::Autoencoder => 7,
        Domain::Training => 8,
    }
}

/// Tag of the nodes of Brownian paths, apart from every [`Domain`].
pub(super) const TAG_PATH_NODE: u32 = 256;
/// Tag of the seeds that device generators are given.
pub(super) const TAG_DEVICE: u32 = 257;
/// Tag of samples of exact problems.
pub(crate) const TAG_EXACT: u32 = 258;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::DeviceNoise;
    use burn::tensor::{DType, Device, Int, Tensor};

    fn draw(seed: u64, sample: u64, key: Key, numel: usize) -> Vec<f64> {
        let mut values = vec![0.0; numel];
        Seeded::new(seed).fill(sample, key, &mut values).unwrap();
        values
    }

    #[test]
    fn more_values_than_memory() {
        let device = Device::flex();
        for (last, numel) in [(u64::MAX, 8), (3, usize::MAX), (1, 1 << 61), (1 << 62, 1)] {
            let error = Seeded::new(1).normal(0..last, Key::INITIAL, numel, (&device, DType::F32)).unwrap_err();
            assert_eq!(error, NoiseError::TooMany { rows: last, numel });
            let error = DeviceNoise::new(1).normal(0..last, Key::INITIAL, numel, (&device, DType::F32)).unwrap_err();
            assert_eq!(error, NoiseError::TooMany { rows: last, numel });
        }
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let base = Key::step(5, 1);
        let reference = draw(7, 3, base, 8);
        assert_eq!(reference, draw(7, 3, base, 8));
        let mut others = vec![
            draw(8, 3, base, 8),
            draw(7, 4, base, 8),
            draw(7, 3, Key::step(6, 1), 8),
            draw(7, 3, Key::step(5, 2), 8),
            draw(7 + (1 << 32), 3, base, 8),
            draw(7, 3 + (1 << 32), base, 8),
            draw(7, 3, Key::step(5 + (1 << 32), 1), 8),
        ];
        for domain in [
            Domain::Initial,
            Domain::Path,
            Domain::KnownRegion,
            Domain::Probe,
            Domain::Dequantize,
            Domain::Autoencoder,
            Domain::Training,
        ] {
            others.push(draw(7, 3, Key { domain, ..base }, 8));
        }
        others.push(reference);
        for (i, a) in others.iter().enumerate() {
            for b in &others[..i] {
                assert!(a.iter().zip(b).all(|(a, b)| a != b), "draws share values: {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_short_draw_is_a_prefix_and_blocks_differ() {
        let long = draw(1, 0, Key::INITIAL, 3 * BLOCK + 5);
        for numel in [0, 1, 2, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3] {
            assert_eq!(draw(1, 0, Key::INITIAL, numel), long[..numel]);
        }
        assert_ne!(long[..BLOCK], long[BLOCK..2 * BLOCK]);
    }

    #[test]
    fn the_batch_does_not_matter() {
        let noise = Seeded::new(11);
        let out = (&Device::flex(), DType::F32);
        let all = noise.normal(5..9, Key::step(2, 0), 10, out).unwrap();
        for row in 0..4 {
            let sample = 5 + row as u64;
            let one = noise.normal(sample..sample + 1, Key::step(2, 0), 10, out).unwrap();
            one.into_data().assert_eq(&all.clone().narrow(0, row, 1).into_data(), true);
        }
        let x = Tensor::<3>::zeros([4, 5, 2], &Device::flex());
        let like = super::super::like(&noise, &x, 5, Key::step(2, 0)).unwrap();
        like.into_data().assert_eq(&all.reshape([4, 5, 2]).into_data(), true);
    }

    #[test]
    fn each_dtype_is_rounded_once() {
        let exact = draw(3, 0, Key::INITIAL, 4096);
        let tensor = |dtype| Seeded::new(3).normal(0..1, Key::INITIAL, 4096, (&Device::flex(), dtype)).unwrap();
        let double = tensor(DType::F64).into_data();
        let single = tensor(DType::F32).into_data();
        let half = tensor(DType::F16).into_data();
        assert_eq!((double.dtype(), single.dtype(), half.dtype()), (DType::F64, DType::F32, DType::F16));
        assert_eq!(double.as_slice::<f64>().unwrap(), exact);
        for (value, exact) in single.as_slice::<f32>().unwrap().iter().zip(&exact) {
            assert_eq!(*value, *exact as f32);
        }
        for (value, exact) in half.iter::<f64>().zip(&exact) {
            // Half a unit in the last of f16's 11 bits: nearest, in one rounding.
            let half_ulp = libm::ldexp(1.0, libm::ilogb(*exact).max(-14) - 11);
            assert!((value - exact).abs() <= half_ulp, "{exact} became {value}");
        }
    }

    #[test]
    fn integers_and_empty_draws() {
        let device = Device::flex();
        let dtype = Tensor::<1, Int>::zeros([1], &device).dtype();
        assert_eq!(
            Seeded::new(0).normal(0..1, Key::INITIAL, 4, (&device, dtype)).unwrap_err(),
            NoiseError::DType { dtype }
        );
        let empty = Seeded::new(0).normal(3..3, Key::INITIAL, 4, (&device, DType::F32)).unwrap();
        assert_eq!(empty.dims(), [0, 4]);
        let narrow = Seeded::new(0).normal(0..3, Key::INITIAL, 0, (&device, DType::F32)).unwrap();
        assert_eq!(narrow.dims(), [3, 0]);
    }

    /// Computed by an independent implementation of ChaCha8 and Box-Muller in another language.
    #[test]
    #[expect(clippy::excessive_precision, reason = "shortest digits that round-trip from the other program")]
    fn golden_values() {
        let expected = [
            (
                draw(0, 0, Key::INITIAL, 4),
                [1.41365365836462, 2.0838268257859167, 0.28789073180307728, -0.19014952348420294],
            ),
            (
                draw(42, 7, Key::step(3, 1), 4),
                [2.3047240298948242, -1.1244242582883617, 0.68765089931805079, 0.40589995555858438],
            ),
            (
                draw(42, 7, Key::step(3, 1), 4098)[4094..].to_vec(),
                [-0.48837276569209209, -2.4211992512048788, 0.81420970497749878, 3.2911442496600634],
            ),
        ];
        for (values, expected) in expected {
            for (value, expected) in values.iter().zip(expected) {
                // The last bit of a logarithm may differ between mathematical libraries.
                assert!((value - expected).abs() < 4e-16 * expected.abs(), "{value:?} {expected:?}");
            }
        }
        let bits = draw(42, 7, Key::step(3, 1), 4).iter().fold(0u64, |h, v| h.rotate_left(7) ^ v.to_bits());
        assert_eq!(bits, 12_814_052_029_633_959_067, "bits of the noise changed");
    }
}
