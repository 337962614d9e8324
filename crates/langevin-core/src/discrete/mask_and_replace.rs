//! The mask-and-replace chain (Gu et al. 2022).

use super::DiscreteError;
use serde::{Deserialize, Serialize};

/// Probabilities of a transition of one token.
///
/// From an unmasked class: to itself with `keep + replace`, to each other class with `replace`, to the mask with `mask`.
/// What is masked stays masked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// α: nothing happens.
    pub keep: f64,
    /// β: drawn anew, for each class.
    pub replace: f64,
    /// γ: masked.
    pub mask: f64,
}

/// ln(1e-30), which stands for the logarithm of 0: published code has it, and no infinity ever meets a zero.
pub(super) const LOG_ZERO: f64 = -69.077_552_789_821_37;

/// Smaller sums of replacement are rounding.
const ROUNDING: f64 = 1e-12;

impl Rates {
    /// Nothing happens at all.
    const NONE: Self = Self { keep: 1.0, replace: 0.0, mask: 0.0 };

    /// With the replacement that is left for each of `classes`.
    fn with_rest(keep: f64, mask: f64, classes: usize) -> Self {
        let rest = 1.0 - keep - mask;
        let replace = if rest.abs() < ROUNDING { 0.0 } else { rest / classes as f64 };
        Self { keep, replace, mask }
    }

    /// Natural logarithms of `keep`, `replace` and `mask`; −∞ for 0.
    pub fn logs(&self) -> [f64; 3] {
        [libm::log(self.keep), libm::log(self.replace), libm::log(self.mask)]
    }

    /// The transition matrix, rows from, columns to, `[classes + 1][classes + 1]`; the mask is the last.
    pub fn matrix(&self, classes: usize) -> Vec<Vec<f64>> {
        let to = |from: usize, to: usize| match (from == classes, to == classes) {
            (true, true) => 1.0,
            (true, false) => 0.0,
            (false, true) => self.mask,
            (false, false) => self.replace + if from == to { self.keep } else { 0.0 },
        };
        (0..=classes).map(|from| (0..=classes).map(|column| to(from, column)).collect()).collect()
    }
}

/// Cumulative probabilities in a straight line from the first step to the last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cumulative {
    /// ᾱ, that a token is still itself: at the first and at the last step.
    pub keep: (f64, f64),
    /// γ̄, that it is masked.
    pub mask: (f64, f64),
}

impl Default for Cumulative {
    /// As published: from 0.99999 to 9e-6, and from 9e-6 to 0.99999.
    fn default() -> Self {
        Self { keep: (0.99999, 9e-6), mask: (9e-6, 0.99999) }
    }
}

/// A chain in which each token is masked, or replaced by a random class, independently of the others.
///
/// Steps are `0..steps`, step 0 after the first transition; `None` is clean. Between any two of them the transition has the
/// same form, so that a sampler may leave steps out.
///
/// ```
/// use langevin_core::discrete::{Cumulative, MaskAndReplace};
/// let chain = MaskAndReplace::linear(4096, 100, Cumulative::default())?;
/// let last = chain.cumulative(Some(99))?;
/// assert!(last.mask > 0.9999);
/// // Masked diffusion: every token is itself or masked.
/// let absorbing = MaskAndReplace::absorbing(27, 1000)?;
/// assert_eq!(absorbing.cumulative(Some(499))?.replace, 0.0);
/// # Ok::<(), langevin_core::discrete::DiscreteError>(())
/// ```
///
/// # References
/// Gu et al. 2022, "Vector quantized diffusion model for text-to-image synthesis", section 4.1; Austin et al. 2021,
/// "Structured denoising diffusion models in discrete state-spaces".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct MaskAndReplace {
    classes: usize,
    keep: Vec<f64>,
    mask: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    classes: usize,
    keep: Vec<f64>,
    mask: Vec<f64>,
}

impl TryFrom<Form> for MaskAndReplace {
    type Error = DiscreteError;
    fn try_from(form: Form) -> Result<Self, DiscreteError> {
        Self::from_cumulative(form.classes, form.keep, form.mask)
    }
}

impl From<MaskAndReplace> for Form {
    fn from(chain: MaskAndReplace) -> Self {
        Self { classes: chain.classes, keep: chain.keep, mask: chain.mask }
    }
}

/// Steps of a chain at most: each has two numbers in memory, and a configuration may ask for any.
const MOST_STEPS: usize = 1 << 20;

/// Checks a number of steps before there is memory for them.
fn check_steps(given: usize) -> Result<usize, DiscreteError> {
    if given <= MOST_STEPS { Ok(given) } else { Err(DiscreteError::TooManySteps { given, most: MOST_STEPS }) }
}

impl MaskAndReplace {
    /// A chain of `steps` steps over `classes` classes (the mask not counted), with cumulative probabilities in straight
    /// lines.
    ///
    /// # Errors
    /// As [`from_cumulative`](Self::from_cumulative), [`DiscreteError::Steps`] for fewer than 2, and
    /// [`DiscreteError::TooManySteps`] for more than 2^20.
    pub fn linear(classes: usize, steps: usize, schedule: Cumulative) -> Result<Self, DiscreteError> {
        let steps = check_steps(steps)?;
        if steps < 2 {
            return Err(DiscreteError::Steps { given: steps, needed: 2 });
        }
        let line = |(start, end): (f64, f64)| -> Vec<f64> {
            (0..steps).map(|t| start + (end - start) * t as f64 / (steps - 1) as f64).collect()
        };
        Self::from_cumulative(classes, line(schedule.keep), line(schedule.mask))
    }

    /// Masks only: at step t a token is masked with probability (t + 1)/T, and itself otherwise.
    ///
    /// # Errors
    /// As [`from_cumulative`](Self::from_cumulative), and [`DiscreteError::TooManySteps`] for more than 2^20.
    pub fn absorbing(classes: usize, steps: usize) -> Result<Self, DiscreteError> {
        let steps = check_steps(steps)?;
        let mask: Vec<f64> = (0..steps).map(|t| (t + 1) as f64 / steps as f64).collect();
        Self::from_cumulative(classes, mask.iter().map(|mask| 1.0 - mask).collect(), mask)
    }

    /// Replaces only: at step t a token is itself with probability 1 − (t + 1)/T, and any class otherwise. It ends in tokens
    /// that say nothing of the clean ones.
    ///
    /// # Errors
    /// As [`from_cumulative`](Self::from_cumulative), and [`DiscreteError::TooManySteps`] for more than 2^20.
    ///
    /// # References
    /// Austin et al. 2021, section 3.1 (uniform transitions).
    pub fn uniform(classes: usize, steps: usize) -> Result<Self, DiscreteError> {
        let steps = check_steps(steps)?;
        let keep = (1..=steps).map(|t| (steps - t) as f64 / steps as f64).collect();
        Self::from_cumulative(classes, keep, vec![0.0; steps])
    }

    /// A chain of given cumulative probabilities, one of each for every step: `keep[t]` = ᾱ_t that a token is still itself,
    /// `mask[t]` = γ̄_t that it is masked. The rest is spread over all classes.
    ///
    /// # Errors
    /// [`DiscreteError::Classes`] for fewer than 2 classes, [`DiscreteError::Steps`] without steps,
    /// [`DiscreteError::Lengths`] for lists of different lengths, [`DiscreteError::Cumulative`] for numbers that are no
    /// probabilities, [`DiscreteError::Step`] where a single step is no transition.
    pub fn from_cumulative(classes: usize, keep: Vec<f64>, mask: Vec<f64>) -> Result<Self, DiscreteError> {
        if classes < 2 {
            return Err(DiscreteError::Classes { given: classes });
        }
        if keep.len() != mask.len() {
            return Err(DiscreteError::Lengths { keep: keep.len(), mask: mask.len() });
        }
        if keep.is_empty() {
            return Err(DiscreteError::Steps { given: 0, needed: 1 });
        }
        let unit = |value: f64| (0.0..=1.0).contains(&value);
        for (step, (&keep, &mask)) in keep.iter().zip(&mask).enumerate() {
            if !(unit(keep) && unit(mask) && keep + mask <= 1.0 + ROUNDING) {
                return Err(DiscreteError::Cumulative { step, keep, mask });
            }
        }
        let chain = Self { classes, keep, mask };
        for step in 0..chain.steps() {
            let Rates { keep, replace, mask } = chain.between_unchecked(step.checked_sub(1), step);
            if !(unit(keep) && unit(mask) && (0.0..=1.0).contains(&replace)) {
                return Err(DiscreteError::Step { step, keep, replace, mask });
            }
        }
        Ok(chain)
    }

    /// Classes, the mask not counted.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The token that means masked: the number after the last class.
    pub fn masked(&self) -> usize {
        self.classes
    }

    /// Steps of the chain.
    pub fn steps(&self) -> usize {
        self.keep.len()
    }

    /// From clean tokens to a step; of `None`, nothing happens.
    ///
    /// # Errors
    /// [`DiscreteError::Order`] for a step that is not there.
    pub fn cumulative(&self, step: Option<usize>) -> Result<Rates, DiscreteError> {
        match step {
            None => Ok(Rates::NONE),
            Some(step) => self.between(None, step),
        }
    }

    /// From one step (or clean, `None`) to a later one.
    ///
    /// # Errors
    /// [`DiscreteError::Order`] unless `later` is after `earlier` and in the chain.
    pub fn between(&self, earlier: Option<usize>, later: usize) -> Result<Rates, DiscreteError> {
        let steps = self.steps();
        if later >= steps || earlier.is_some_and(|earlier| earlier >= later) {
            return Err(DiscreteError::Order { earlier, later, steps });
        }
        Ok(self.between_unchecked(earlier, later))
    }

    fn between_unchecked(&self, earlier: Option<usize>, later: usize) -> Rates {
        let (keep, mask) = (self.keep[later], self.mask[later]);
        let Some(earlier) = earlier else { return Rates::with_rest(keep, mask, self.classes) };
        let keep = keep / self.keep[earlier];
        Rates::with_rest(keep, 1.0 - (1.0 - mask) / (1.0 - self.mask[earlier]), self.classes)
    }

    /// The law of a token at the last step, if it is no longer itself: where sampling starts. The probability of the mask.
    pub fn prior_mask(&self) -> f64 {
        let last = self.between_unchecked(None, self.steps() - 1);
        let noise = 1.0 - last.keep;
        if noise > 0.0 { (last.mask / noise).min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn product(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let n = a.len();
        (0..n).map(|i| (0..n).map(|j| (0..n).map(|k| a[i][k] * b[k][j]).sum()).collect()).collect()
    }

    fn chains() -> Vec<MaskAndReplace> {
        vec![
            MaskAndReplace::linear(5, 100, Cumulative::default()).unwrap(),
            MaskAndReplace::linear(3, 20, Cumulative { keep: (0.9, 0.0), mask: (0.05, 0.6) }).unwrap(),
            MaskAndReplace::absorbing(4, 50).unwrap(),
            // Replaces only.
            MaskAndReplace::linear(3, 20, Cumulative { keep: (0.95, 0.01), mask: (0.0, 0.0) }).unwrap(),
            MaskAndReplace::uniform(6, 25).unwrap(),
        ]
    }

    proptest! {
        /// Rows of every transition matrix are probabilities, and transitions compose.
        #[test]
        fn transitions_are_stochastic_and_compose(which in 0usize..5, a in 0usize..20, b in 0usize..20, c in 0usize..20) {
            let chain = &chains()[which];
            let mut steps = [a, b, c];
            steps.sort_unstable();
            prop_assume!(steps[0] < steps[1] && steps[1] < steps[2]);
            let matrix = |from: Option<usize>, to: usize| chain.between(from, to).unwrap().matrix(chain.classes());
            let whole = matrix(Some(steps[0]), steps[2]);
            for row in whole.iter().chain(&matrix(None, steps[1])) {
                prop_assert!(row.iter().all(|p| (0.0..=1.0).contains(p)));
                prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
            let parts = product(&matrix(Some(steps[0]), steps[1]), &matrix(Some(steps[1]), steps[2]));
            let cumulative = product(&matrix(None, steps[0]), &matrix(Some(steps[0]), steps[2]));
            for (i, row) in parts.iter().enumerate() {
                for (j, part) in row.iter().enumerate() {
                    prop_assert!((part - whole[i][j]).abs() < 1e-12, "{part} and {}", whole[i][j]);
                    prop_assert!((cumulative[i][j] - matrix(None, steps[2])[i][j]).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn the_absorbing_chain_never_replaces() {
        let chain = MaskAndReplace::absorbing(4, 50).unwrap();
        for t in 0..50usize {
            let step = chain.between(t.checked_sub(1), t).unwrap();
            assert_eq!(step.replace, 0.0);
            // Of those that are left, one in T − t.
            assert!((step.mask - 1.0 / (50 - t) as f64).abs() < 1e-12);
        }
        assert_eq!(chain.prior_mask(), 1.0);
        let uniform = &chains()[3];
        assert_eq!(uniform.prior_mask(), 0.0);
        assert_eq!(chain.masked(), 4);
    }

    #[test]
    fn schedules_that_are_none_are_refused() {
        type Error = DiscreteError;
        let of = |keep: &[f64], mask: &[f64]| MaskAndReplace::from_cumulative(3, keep.to_vec(), mask.to_vec());
        assert_eq!(MaskAndReplace::absorbing(1, 5).unwrap_err(), Error::Classes { given: 1 });
        assert_eq!(MaskAndReplace::absorbing(3, 0).unwrap_err(), Error::Steps { given: 0, needed: 1 });
        let one = MaskAndReplace::linear(3, 1, Cumulative::default());
        assert_eq!(one.unwrap_err(), Error::Steps { given: 1, needed: 2 });
        let most = MaskAndReplace::uniform(2, 1 << 20).expect("a chain");
        assert_eq!(most.steps(), 1 << 20);
        for given in [(1 << 20) + 1, usize::MAX] {
            for made in [
                MaskAndReplace::linear(3, given, Cumulative::default()),
                MaskAndReplace::absorbing(3, given),
                MaskAndReplace::uniform(3, given),
            ] {
                assert_eq!(made.unwrap_err(), Error::TooManySteps { given, most: 1 << 20 });
            }
        }
        assert_eq!(of(&[0.5], &[0.1, 0.2]).unwrap_err(), Error::Lengths { keep: 1, mask: 2 });
        for (keep, mask) in [(1.5, 0.0), (-0.1, 0.5), (0.5, -0.1), (0.7, 0.4), (f64::NAN, 0.1), (0.1, f64::NAN)] {
            assert!(matches!(of(&[keep], &[mask]), Err(Error::Cumulative { step: 0, .. })), "{keep}, {mask}");
        }
        // Keeping more, masking less, or leaving nothing for a later step.
        for (keep, mask) in
            [([0.5, 0.6], [0.1, 0.2]), ([0.5, 0.4], [0.2, 0.1]), ([0.0, 0.0], [0.2, 0.3]), ([0.0, 0.0], [1.0, 1.0])]
        {
            assert!(matches!(of(&keep, &mask), Err(Error::Step { step: 1, .. })), "{keep:?}, {mask:?}");
        }
        // More is kept than masking leaves.
        assert!(matches!(of(&[0.5, 0.5], &[0.1, 0.5]), Err(Error::Step { step: 1, .. })));
        let chain = of(&[0.5, 0.1], &[0.1, 0.8]).unwrap();
        for (earlier, later) in [(Some(1), 1), (Some(1), 0), (None, 2)] {
            assert_eq!(chain.between(earlier, later).unwrap_err(), Error::Order { earlier, later, steps: 2 });
        }
        let json = serde_json::to_string(&chain).unwrap();
        assert_eq!(serde_json::from_str::<MaskAndReplace>(&json).unwrap(), chain);
        assert!(serde_json::from_str::<MaskAndReplace>(&json.replace("0.8", "0.95")).is_err());
    }
}
