//! Recorded noise.

use super::{Domain, Key, NoiseError, NoiseSource};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Replays recorded draws, matched by [`Key`] and sample (never by the order of calls).
///
/// A draw that was not recorded is an error; so are, in [`finish`](Self::finish), recorded draws that nobody asked
/// for. A draw may be asked for any number of times.
///
/// ```
/// use langevin_core::noise::{Injected, Key, NoiseSource};
/// let noise = Injected::new().with(Key::step(3, 0), 0..2, vec![0.1, 0.2, 0.3, 0.4])?;
/// let mut values = [0.0; 2];
/// noise.fill(1, Key::step(3, 0), &mut values)?;
/// assert_eq!(values, [0.3, 0.4]);
/// assert!(noise.finish().is_err()); // sample 0 was never asked for
/// # Ok::<(), langevin_core::NoiseError>(())
/// ```
#[derive(Debug, Default)]
pub struct Injected {
    white: BTreeMap<(Key, u64), Draw>,
    /// Path increments by the bits of the interval's ends; the recorded number names them in errors.
    path: BTreeMap<(u64, u64, u64), (u64, Draw)>,
    paths: u64,
    allow_extra: bool,
}

#[derive(Debug)]
struct Draw {
    values: Vec<f64>,
    used: AtomicBool,
}

impl Draw {
    fn copy(&self, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        if self.values.len() != out.len() {
            return Err(NoiseError::Size { key, expected: out.len(), found: self.values.len() });
        }
        out.copy_from_slice(&self.values);
        self.used.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Injected {
    /// No recorded draws.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the values of one draw, `[samples, numel]` in row-major order.
    ///
    /// # Errors
    /// [`NoiseError::Uneven`] if the values cannot be divided evenly among the samples, [`NoiseError::Duplicate`]
    /// if a sample has this draw already.
    pub fn with(mut self, key: Key, samples: Range<u64>, values: Vec<f64>) -> Result<Self, NoiseError> {
        for (sample, draw) in rows(key, samples, &values)? {
            if self.white.insert((key, sample), draw).is_some() {
                return Err(NoiseError::Duplicate { key, sample });
            }
        }
        Ok(self)
    }

    /// Adds increments `W(until) − W(from)`, `[samples, numel]`; they are matched by exactly these ends.
    ///
    /// Errors name a path draw by `Domain::Path` and the order in which it was recorded.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub fn with_path(
        mut self,
        (from, until): (f64, f64),
        samples: Range<u64>,
        values: Vec<f64>,
    ) -> Result<Self, NoiseError> {
        let key = Key { domain: Domain::Path, index: self.paths, lane: 0 };
        for (sample, draw) in rows(key, samples, &values)? {
            if self.path.insert((from.to_bits(), until.to_bits(), sample), (self.paths, draw)).is_some() {
                return Err(NoiseError::Duplicate { key, sample });
            }
        }
        self.paths += 1;
        Ok(self)
    }

    /// Tolerates recorded draws that are never used (some programs draw noise they do not use).
    pub fn allow_extra(mut self) -> Self {
        self.allow_extra = true;
        self
    }

    /// Checks at the end of a run that every recorded draw was used.
    ///
    /// # Errors
    /// [`NoiseError::LeftOver`] if some were not, unless [`allow_extra`](Self::allow_extra) was called.
    pub fn finish(&self) -> Result<(), NoiseError> {
        if self.allow_extra {
            return Ok(());
        }
        let unused = |draw: &Draw| !draw.used.load(Ordering::Relaxed);
        let white = self.white.iter().filter(|(_, draw)| unused(draw)).map(|((key, _), _)| *key);
        let path = self.path.values().filter(|(_, draw)| unused(draw));
        let path = path.map(|(index, _)| Key { domain: Domain::Path, index: *index, lane: 0 });
        let mut left: Vec<Key> = white.chain(path).collect();
        left.sort_unstable();
        match left.first() {
            Some(&first) => Err(NoiseError::LeftOver { count: left.len(), first }),
            None => Ok(()),
        }
    }
}

fn rows(
    key: Key,
    samples: Range<u64>,
    values: &[f64],
) -> Result<impl Iterator<Item = (u64, Draw)> + use<'_>, NoiseError> {
    let count = samples.end.saturating_sub(samples.start);
    if count == 0 || values.is_empty() || !(values.len() as u64).is_multiple_of(count) {
        return Err(NoiseError::Uneven { key, values: values.len(), samples: count });
    }
    let numel = values.len() / count as usize;
    Ok(samples
        .zip(values.chunks(numel))
        .map(|(sample, row)| (sample, Draw { values: row.to_vec(), used: AtomicBool::new(false) })))
}

impl NoiseSource for Injected {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        match self.white.get(&(key, sample)) {
            Some(draw) => draw.copy(key, out),
            None => Err(NoiseError::Missing { key, sample }),
        }
    }

    /// Recorded values as they are: those of a draw that is asked for as uniform are uniform.
    fn fill_uniform(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        self.fill(sample, key, out)
    }

    fn fill_path(&self, sample: u64, from: f64, until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        match self.path.get(&(from.to_bits(), until.to_bits(), sample)) {
            Some((index, draw)) => draw.copy(Key { domain: Domain::Path, index: *index, lane: 0 }, out),
            None => Err(NoiseError::MissingPath { sample, from, until }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    const KEY: Key = Key::step(2, 1);

    fn recorded() -> Injected {
        Injected::new().with(KEY, 4..6, vec![1.0, 2.0, 3.0, 4.0]).unwrap()
    }

    #[test]
    fn replays_by_key_and_sample() {
        let noise = recorded().with_path((0.5, 2.0), 4..5, vec![7.0]).unwrap();
        let tensor = noise.normal(4..6, KEY, 2, (&Device::flex(), DType::F32)).unwrap();
        assert_eq!(tensor.into_data().as_slice::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let mut value = [0.0];
        assert!(matches!(noise.finish(), Err(NoiseError::LeftOver { count: 1, .. })));
        noise.fill_path(4, 0.5, 2.0, &mut value).unwrap();
        assert_eq!(value, [7.0]);
        noise.finish().unwrap();
    }

    #[test]
    fn missing_draws_are_errors() {
        let noise = recorded().with_path((0.5, 2.0), 4..5, vec![7.0]).unwrap();
        let mut out = [0.0; 2];
        let missing = |key, sample| Err(NoiseError::Missing { key, sample });
        assert_eq!(noise.fill(6, KEY, &mut out), missing(KEY, 6));
        assert_eq!(noise.fill(4, Key::step(2, 0), &mut out), missing(Key::step(2, 0), 4));
        assert_eq!(noise.fill(4, Key::step(1, 1), &mut out), missing(Key::step(1, 1), 4));
        let domain = Key { domain: Domain::Probe, ..KEY };
        assert_eq!(noise.fill(4, domain, &mut out), missing(domain, 4));
        assert_eq!(
            noise.fill_path(4, 0.5, 1.0, &mut out[..1]),
            Err(NoiseError::MissingPath { sample: 4, from: 0.5, until: 1.0 })
        );
    }

    #[test]
    fn sizes_must_fit() {
        let mut out = [0.0; 3];
        assert_eq!(recorded().fill(4, KEY, &mut out), Err(NoiseError::Size { key: KEY, expected: 3, found: 2 }));
        let uneven = Injected::new().with(KEY, 0..2, vec![0.0; 3]).unwrap_err();
        assert_eq!(uneven, NoiseError::Uneven { key: KEY, values: 3, samples: 2 });
        assert!(matches!(Injected::new().with(KEY, 0..0, vec![0.0]), Err(NoiseError::Uneven { .. })));
        assert!(matches!(Injected::new().with(KEY, 0..1, vec![]), Err(NoiseError::Uneven { .. })));
    }

    #[test]
    fn nothing_is_recorded_twice() {
        let again = recorded().with(KEY, 5..6, vec![0.0, 0.0]).unwrap_err();
        assert_eq!(again, NoiseError::Duplicate { key: KEY, sample: 5 });
        let path = Injected::new().with_path((0.0, 1.0), 0..1, vec![0.0]).unwrap();
        assert!(matches!(path.with_path((0.0, 1.0), 0..1, vec![0.0]), Err(NoiseError::Duplicate { sample: 0, .. })));
    }

    #[test]
    fn left_over_draws_are_errors_unless_allowed() {
        let noise = recorded().with(Key::INITIAL, 0..1, vec![0.5]).unwrap();
        noise.fill(5, KEY, &mut [0.0; 2]).unwrap();
        assert_eq!(noise.finish(), Err(NoiseError::LeftOver { count: 2, first: Key::INITIAL }));
        noise.allow_extra().finish().unwrap();
        // A draw that failed for its size was not used.
        let noise = Injected::new().with(KEY, 0..1, vec![0.5]).unwrap();
        assert!(noise.fill(0, KEY, &mut [0.0; 2]).is_err());
        assert_eq!(noise.finish(), Err(NoiseError::LeftOver { count: 1, first: KEY }));
    }
}
