//! The order of training, computed from a seed instead of drawn on the way.

use crate::DataError;
use crate::rng::{Purpose, Stream};

/// The order in which epoch `epoch` visits `len` samples: a uniformly random permutation of `0..len` that depends on
/// `(len, seed, epoch)` only. Linear time.
///
/// ```
/// let order = langevin_data::permutation(5, 7, 0);
/// assert_eq!(order, langevin_data::permutation(5, 7, 0));
/// assert_ne!(order, langevin_data::permutation(5, 7, 1));
/// ```
pub fn permutation(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    Stream::new(seed, Purpose::Order, epoch).shuffle(&mut order);
    order
}

/// The samples of the batch that global step `step` (from 0) trains on: [`BatchOrder::batch`] in one call.
///
/// # Errors
///
/// [`DataError::BatchSize`], [`DataError::Empty`].
pub fn batch_indices(len: usize, seed: u64, batch_size: usize, step: u64) -> Result<Vec<usize>, DataError> {
    Ok(BatchOrder::new(len, batch_size, seed)?.batch(step))
}

/// Which samples each training step gets.
///
/// An epoch visits the samples in the order of [`permutation`], `batch_size` at a time. What does not fill a batch at
/// the end of an epoch is left out of that epoch (other samples in each, as the order changes), so that all batches
/// have one size and none mixes two epochs. Step `s` belongs to epoch `s / batches_per_epoch`. Everything is a pure
/// function of `(len, batch_size, seed, step)`: training resumes at any step without a saved generator.
///
/// # Example
///
/// ```
/// use langevin_data::BatchOrder;
///
/// let order = BatchOrder::new(10, 4, 7)?;
/// assert_eq!(order.batches_per_epoch(), 2); // and 2 samples an epoch are left out
/// let all: Vec<_> = order.batches_from(0).take(5).collect();
/// let resumed: Vec<_> = order.batches_from(3).take(2).collect();
/// assert_eq!(all[3..], resumed);
/// # Ok::<(), langevin_data::DataError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOrder {
    len: usize,
    batch_size: usize,
    seed: u64,
}

impl BatchOrder {
    /// The order of batches of `batch_size` out of `len` samples.
    ///
    /// # Errors
    ///
    /// [`DataError::Empty`] without samples, [`DataError::BatchSize`] for a size that is 0 or more than `len`.
    pub fn new(len: usize, batch_size: usize, seed: u64) -> Result<Self, DataError> {
        if len == 0 {
            return Err(DataError::Empty { what: "the data set" });
        }
        if batch_size == 0 || batch_size > len {
            return Err(DataError::BatchSize { batch_size, len });
        }
        Ok(Self { len, batch_size, seed })
    }

    /// The number of full batches in an epoch, at least 1.
    pub fn batches_per_epoch(&self) -> u64 {
        (self.len / self.batch_size) as u64
    }

    /// The epoch that step `step` belongs to, from 0.
    pub fn epoch(&self, step: u64) -> u64 {
        step / self.batches_per_epoch()
    }

    /// The samples of step `step`. Takes time linear in the number of samples: to walk over many steps, use
    /// [`batches_from`](Self::batches_from).
    pub fn batch(&self, step: u64) -> Vec<usize> {
        self.cut(&permutation(self.len, self.seed, self.epoch(step)), step)
    }

    /// The samples of step `step`, of the one after it, and so on without end. An epoch's order is computed once.
    pub fn batches_from(&self, step: u64) -> Batches {
        Batches { order: *self, step, epoch: None }
    }

    fn cut(&self, permutation: &[usize], step: u64) -> Vec<usize> {
        let start = (step % self.batches_per_epoch()) as usize * self.batch_size;
        permutation[start..start + self.batch_size].to_vec()
    }
}

/// The batches of successive steps, made by [`BatchOrder::batches_from`].
#[derive(Debug, Clone)]
pub struct Batches {
    order: BatchOrder,
    step: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl Iterator for Batches {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let BatchOrder { len, seed, .. } = self.order;
        let epoch = self.order.epoch(self.step);
        let permutation = match self.epoch.take() {
            Some((held, permutation)) if held == epoch => permutation,
            _ => permutation(len, seed, epoch),
        };
        let batch = self.order.cut(&permutation, self.step);
        self.epoch = Some((epoch, permutation));
        self.step += 1;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn value_stability() {
        // Computed by an independent program from the definitions of ChaCha8, Lemire's method and Durstenfeld's shuffle.
        assert_eq!(permutation(8, 7, 0), [4, 2, 5, 1, 3, 7, 0, 6]);
        assert_eq!(permutation(8, 7, 1), [7, 1, 2, 0, 4, 3, 6, 5]);
        assert_eq!(permutation(1, 7, 0), [0]);
        assert!(permutation(0, 7, 0).is_empty());
    }

    #[test]
    fn permutations_are_uniform() {
        // All 24 orders of 4 items, over many epochs of one seed.
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..12_000 {
            *counts.entry(permutation(4, 42, epoch)).or_insert(0f64) += 1.0;
        }
        assert_eq!(counts.len(), 24);
        let chi_squared: f64 = counts.values().map(|count| (count - 500.0).powi(2) / 500.0).sum();
        // The 0.999 quantile of the chi-squared distribution with 23 degrees of freedom.
        assert!(chi_squared < 49.73, "{chi_squared}");
    }

    #[test]
    fn an_epoch_visits_no_sample_twice_and_drops_the_rest() {
        let order = BatchOrder::new(11, 3, 9).unwrap();
        assert_eq!(order.batches_per_epoch(), 3);
        for epoch in 0..4 {
            let mut seen: Vec<usize> = (0..3).flat_map(|batch| order.batch(3 * epoch + batch)).collect();
            assert_eq!(seen, permutation(11, 9, epoch)[..9]);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 9);
        }
        assert_eq!([0, 2, 3, 8, 9].map(|step| order.epoch(step)), [0, 0, 1, 2, 3]);
    }

    #[test]
    fn one_batch_can_be_the_whole_set() {
        let mut batch = batch_indices(5, 1, 5, 17).unwrap();
        batch.sort_unstable();
        assert_eq!(batch, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn batch_sizes_that_do_not_fit_are_rejected() {
        for batch_size in [0, 6, usize::MAX] {
            let error = BatchOrder::new(5, batch_size, 0).unwrap_err();
            assert!(matches!(error, DataError::BatchSize { len: 5, .. }), "{error}");
            assert!(batch_indices(5, 0, batch_size, 0).is_err());
        }
        assert!(matches!(BatchOrder::new(0, 1, 0), Err(DataError::Empty { what: "the data set" })));
    }

    proptest! {
        #[test]
        fn is_a_permutation(len in 0usize..300, seed: u64, epoch: u64) {
            let mut order = permutation(len, seed, epoch);
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..len));
        }

        #[test]
        fn resuming_anywhere_gives_the_same_batches(
            len in 1usize..60, part in 0.0f64..1.0, seed: u64, start in 0u64..1_000_000,
        ) {
            let batch_size = 1 + (part * (len - 1) as f64) as usize;
            let order = BatchOrder::new(len, batch_size, seed).unwrap();
            for (offset, batch) in order.batches_from(start).take(20).enumerate() {
                prop_assert_eq!(&batch, &order.batch(start + offset as u64));
                prop_assert_eq!(batch.len(), batch_size);
            }
        }
    }
}
