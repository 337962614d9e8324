//! Noise from a device's own generator.

use super::cells::Draw;
use super::seeded::{TAG_DEVICE, tag};
use super::{Key, NoiseError, NoiseSource};
use burn::tensor::{DType, Device, Distribution, Tensor};
use std::ops::Range;

/// Noise made by Burn's generator on the device: fast, for training, and not portable.
///
/// Each draw seeds the device's generator from (seed, first sample, key) and then draws, so a training run that
/// repeats the same calls repeats its noise. But values differ between backends and versions of Burn, a sample's
/// values depend on the batch it is in, and on several backends the generator that is seeded belongs to the whole
/// process: draws from several threads at once race, and later draws of others (dropout) follow from this seed too.
/// For sampling use [`Seeded`](super::Seeded).
///
/// There are no host values and no Brownian paths: [`fill`](NoiseSource::fill) is
/// [`NoiseError::HostUnsupported`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNoise {
    seed: u64,
}

impl DeviceNoise {
    /// The noise that belongs to `seed` on one kind of device.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl NoiseSource for DeviceNoise {
    fn fill(&self, _sample: u64, _key: Key, _out: &mut [f64]) -> Result<(), NoiseError> {
        Err(NoiseError::HostUnsupported)
    }

    fn normal(
        &self,
        samples: Range<u64>,
        key: Key,
        numel: usize,
        (device, dtype): (&Device, DType),
    ) -> Result<Tensor<2>, NoiseError> {
        if !dtype.is_float() {
            return Err(NoiseError::DType { dtype });
        }
        let rows = samples.end.saturating_sub(samples.start);
        // How much memory the device has is not known here.
        let bytes = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(numel)?.checked_mul(dtype.size()));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(NoiseError::TooMany { rows, numel });
        }
        let lane = u64::from(key.lane) << 32 | u64::from(tag(key.domain));
        let seed = Draw::new(self.seed, samples.start, TAG_DEVICE, key.index, 0).word();
        device.seed(Draw::new(seed, lane, TAG_DEVICE, 0, 1).word());
        Ok(Tensor::random([rows as usize, numel], Distribution::Normal(0.0, 1.0), (device, dtype)))
    }

    fn path(
        &self,
        _samples: Range<u64>,
        _interval: (f64, f64),
        _numel: usize,
        _out: (&Device, DType),
    ) -> Result<Tensor<2>, NoiseError> {
        Err(NoiseError::PathUnsupported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;
    use std::sync::Mutex;

    /// Flex has one generator for the whole process.
    static GENERATOR: Mutex<()> = Mutex::new(());

    fn draw(seed: u64, samples: Range<u64>, key: Key) -> Vec<f32> {
        let tensor = DeviceNoise::new(seed).normal(samples, key, 5000, (&Device::flex(), DType::F32)).unwrap();
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn repeats_itself_and_depends_on_seed_sample_and_key() {
        let _alone = GENERATOR.lock().unwrap();
        let reference = draw(1, 0..2, Key::step(3, 0));
        assert_eq!(reference, draw(1, 0..2, Key::step(3, 0)));
        for other in [
            draw(2, 0..2, Key::step(3, 0)),
            draw(1, 2..4, Key::step(3, 0)),
            draw(1, 0..2, Key::step(4, 0)),
            draw(1, 0..2, Key::step(3, 1)),
            draw(1, 0..2, Key { domain: super::super::Domain::Training, ..Key::step(3, 0) }),
        ] {
            assert_ne!(reference, other);
        }
        let n = reference.len() as f64;
        let mean = reference.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = reference.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 4.0 / n.sqrt() && (square - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "{mean} {square}");
    }

    #[test]
    fn host_values_paths_and_integers_are_errors() {
        let noise = DeviceNoise::new(0);
        assert_eq!(noise.fill(0, Key::INITIAL, &mut [0.0]), Err(NoiseError::HostUnsupported));
        assert_eq!(noise.fill_path(0, 0.0, 1.0, &mut [0.0]), Err(NoiseError::PathUnsupported));
        let device = Device::flex();
        assert_eq!(noise.path(0..1, (0.0, 1.0), 1, (&device, DType::F32)).unwrap_err(), NoiseError::PathUnsupported);
        let dtype = Tensor::<1, Int>::zeros([1], &device).dtype();
        let error = noise.normal(0..1, Key::INITIAL, 1, (&device, dtype)).unwrap_err();
        assert_eq!(error, NoiseError::DType { dtype });
    }
}
