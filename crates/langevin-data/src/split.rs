//! Training and test parts.

use crate::DataError;
use crate::rng::{Purpose, Stream};

/// A training part and a test part of the same kind: two data sets, or two lists of indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Split<T> {
    /// What is trained on.
    pub train: T,
    /// What was held out.
    pub test: T,
}

/// Splits samples into a training and a test part, choosing within each class at random.
///
/// Of a class with `m` samples, `round(fraction * m)` go to the training part, so both parts have the same mixture of
/// classes up to one sample a class (and the training part in all is `fraction` up to half a sample a class). Which
/// ones is a pure function of `labels`, `fraction` and `seed`. Both lists of indices ascend: shuffling is
/// [`BatchOrder`](crate::BatchOrder)'s task.
///
/// # Errors
///
/// [`SplitFraction`](DataError::SplitFraction) for a fraction that is not strictly between 0 and 1 (NaN included),
/// [`EmptyPart`](DataError::EmptyPart) where rounding leaves nothing for a part,
/// [`LabelOutOfRange`](DataError::LabelOutOfRange), [`Empty`](DataError::Empty) without samples.
///
/// # Example
///
/// ```
/// use langevin_data::stratified_split;
///
/// // Ten samples of class 0, two of class 1.
/// let labels = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
/// let split = stratified_split(&labels, 2, 0.5, 7)?;
/// assert_eq!(split.train.len(), 6);
/// assert_eq!(split.train.iter().filter(|&&index| labels[index] == 1).count(), 1);
/// # Ok::<(), langevin_data::DataError>(())
/// ```
pub fn stratified_split(
    labels: &[usize],
    classes: usize,
    fraction: f64,
    seed: u64,
) -> Result<Split<Vec<usize>>, DataError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(DataError::SplitFraction { fraction });
    }
    if labels.is_empty() {
        return Err(DataError::Empty { what: "the set to split" });
    }
    crate::rows::check_labels(labels.len(), labels, classes)?;
    let mut members = std::collections::BTreeMap::<usize, Vec<usize>>::new();
    for (index, &label) in labels.iter().enumerate() {
        members.entry(label).or_default().push(index);
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (class, mut indices) in members {
        Stream::new(seed, Purpose::Split, class as u64).shuffle(&mut indices);
        let count = (fraction * indices.len() as f64).round() as usize;
        train.extend_from_slice(&indices[..count]);
        test.extend_from_slice(&indices[count..]);
    }
    for (part, indices) in [("train", &mut train), ("test", &mut test)] {
        if indices.is_empty() {
            return Err(DataError::EmptyPart { part, fraction, len: labels.len() });
        }
        indices.sort_unstable();
    }
    Ok(Split { train, test })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(indices: &[usize], labels: &[usize], class: usize) -> usize {
        indices.iter().filter(|&&index| labels[index] == class).count()
    }

    #[test]
    fn classes_are_rounded_one_by_one() {
        // 7, 5 and 1 samples: 0.7 of them are 4.9, 3.5 (a half rounds up) and 0.7.
        let labels = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2];
        let split = stratified_split(&labels, 4, 0.7, 1).unwrap();
        let counts = |part: &[usize]| [0, 1, 2, 3].map(|class| count(part, &labels, class));
        assert_eq!(counts(&split.train), [5, 4, 1, 0]);
        assert_eq!(counts(&split.test), [2, 1, 0, 0]);
    }

    #[test]
    fn the_seed_decides() {
        let labels = vec![0; 100];
        let split = |seed| stratified_split(&labels, 1, 0.5, seed).unwrap();
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }

    #[test]
    fn every_sample_is_held_out_equally_often() {
        let labels = vec![0; 10];
        let mut held_out = [0f64; 10];
        for seed in 0..2000 {
            for index in stratified_split(&labels, 1, 0.8, seed).unwrap().test {
                held_out[index] += 1.0;
            }
        }
        // Binomial with n = 2000, p = 0.2: five standard deviations.
        let bound = 5.0 * (2000.0f64 * 0.2 * 0.8).sqrt();
        assert!(held_out.iter().all(|count| (count - 400.0).abs() < bound), "{held_out:?}");
    }

    #[test]
    fn value_stability() {
        let split = stratified_split(&[0; 8], 1, 0.5, 7).unwrap();
        // Computed by an independent program, as for `permutation`.
        assert_eq!(split.train, [1, 2, 3, 6]);
    }

    #[test]
    fn fractions_outside_the_open_interval_are_rejected() {
        for fraction in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = stratified_split(&[0, 0], 1, fraction, 0).unwrap_err();
            assert!(matches!(error, DataError::SplitFraction { .. }), "{fraction}: {error}");
        }
    }

    #[test]
    fn empty_parts_are_rejected() {
        let error = stratified_split(&[0; 10], 1, 0.01, 0).unwrap_err();
        assert!(matches!(error, DataError::EmptyPart { part: "train", len: 10, .. }), "{error}");
        let error = stratified_split(&[0; 10], 1, 0.99, 0).unwrap_err();
        assert!(matches!(error, DataError::EmptyPart { part: "test", len: 10, .. }), "{error}");
        assert!(matches!(stratified_split(&[], 1, 0.5, 0), Err(DataError::Empty { .. })));
    }

    #[test]
    fn labels_must_be_classes() {
        let error = stratified_split(&[0, 2], 2, 0.5, 0).unwrap_err();
        assert!(matches!(error, DataError::LabelOutOfRange { index: 1, label: 2, classes: 2 }), "{error}");
    }

    proptest! {
        #[test]
        fn parts_partition_and_keep_the_mixture(
            labels in prop::collection::vec(0usize..5, 20..200),
            fraction in 0.2f64..0.8,
            seed: u64,
        ) {
            let split = stratified_split(&labels, 5, fraction, seed).unwrap();
            let mut all = [split.train.clone(), split.test].concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..labels.len()));
            for class in 0..5 {
                let total = labels.iter().filter(|&&label| label == class).count() as f64;
                let train = count(&split.train, &labels, class) as f64;
                prop_assert!((train - fraction * total).abs() <= 0.5);
            }
        }
    }
}
