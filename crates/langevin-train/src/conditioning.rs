//! From the labels of a batch to the network's condition.

use crate::random::{Purpose, Stream};
use langevin_core::{Condition, DenoiseError};
use langevin_models::Labels;

/// A condition that can be made from class labels.
///
/// [`Trainer::new`](crate::Trainer::new) uses it; for conditions that need more than a function of the labels (an
/// embedding table of text, say) use [`Trainer::conditioned`](crate::Trainer::conditioned).
pub trait FromLabels: Condition {
    /// The condition of a batch; `None` is "no class", for samples whose label was dropped and for data without
    /// labels.
    ///
    /// # Errors
    /// [`DenoiseError`] for a label that the network cannot know.
    fn from_labels(labels: &[Option<usize>]) -> Result<Self, DenoiseError>;
}

/// Unconditional networks leave labels aside.
impl FromLabels for () {
    fn from_labels(_labels: &[Option<usize>]) -> Result<Self, DenoiseError> {
        Ok(())
    }
}

/// Class labels become rows of the embedding, "no class" the row that guidance uses.
///
/// A network without classes takes no labels: train it on labeled data with a
/// [`condition_dropout`](crate::Trainer::condition_dropout) of 1.
impl FromLabels for Labels {
    fn from_labels(labels: &[Option<usize>]) -> Result<Self, DenoiseError> {
        Ok(Labels::optional(labels.iter().copied()))
    }
}

/// The labels of the `rows` samples of step `step`, each replaced by "no class" with probability `dropout`: what
/// classifier-free guidance trains on (Ho & Salimans 2022, algorithm 1). A pure function of its arguments; the draw
/// of a sample does not depend on the others.
pub(crate) fn drop_labels(
    labels: Option<Vec<usize>>,
    rows: usize,
    dropout: f64,
    seed: u64,
    step: u64,
) -> Vec<Option<usize>> {
    let Some(labels) = labels else {
        return vec![None; rows];
    };
    let mut stream = Stream::new(seed, Purpose::ConditionDropout, step);
    labels.into_iter().map(|label| if stream.uniform() < dropout { None } else { Some(label) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dropped_at_the_rate_asked_for() {
        let (steps, rows) = (200, 100);
        let mut dropped = 0;
        for step in 0..steps {
            let labels: Vec<usize> = (0..rows).collect();
            for (row, label) in drop_labels(Some(labels), rows, 0.1, 5, step).into_iter().enumerate() {
                match label {
                    Some(label) => assert_eq!(label, row),
                    None => dropped += 1,
                }
            }
        }
        // Binomial(20000, 0.1): mean 2000, standard deviation 42.4; four of them.
        assert!((1830..=2170).contains(&dropped), "{dropped}");
    }

    #[test]
    fn the_draw_is_a_function_of_seed_and_step() {
        let draw = |seed, step, dropout| drop_labels(Some(vec![3; 64]), 64, dropout, seed, step);
        assert_eq!(draw(1, 2, 0.5), draw(1, 2, 0.5));
        assert_ne!(draw(1, 2, 0.5), draw(1, 3, 0.5));
        assert_ne!(draw(1, 2, 0.5), draw(2, 2, 0.5));
        assert_eq!(draw(1, 2, 0.0), vec![Some(3); 64]);
        assert_eq!(draw(1, 2, 1.0), vec![None; 64]);
        assert_eq!(drop_labels(None, 3, 0.0, 1, 2), vec![None; 3]);
    }
}
