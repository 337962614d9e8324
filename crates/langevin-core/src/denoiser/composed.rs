//! Composition of answers: "and" and "not".

use super::combine::{extrapolate, keep_parts};
use super::{Answers, DenoiseError, Denoiser, Estimate, Query};
use crate::level::Scalars;

/// Several answers composed: `ε̂ + Σ weight·(ε̂_i − ε̂)`; made by [`Bound::composed`](super::Bound::composed) and
/// [`DenoiserExt::composed_with`](super::DenoiserExt::composed_with).
///
/// Positive weights ask for what all conditions have in common, negative ones for what a condition excludes. The densities
/// at a level are composed, not those of the data: away from clean data `p(x)·Π (p(x|c_i)/p(x))^weight` is what the scores
/// belong to, so samples are those of the composition only approximately. Answers with weight 0 are not asked for.
/// A learned variance is that of the base.
///
/// # References
/// Liu, Li, Du, Torralba & Tenenbaum 2022, "Compositional visual generation with composable diffusion models",
/// equations 11 (conjunction) and 13 (negation).
#[derive(Clone, Debug)]
pub struct Composed<A> {
    answers: A,
    weights: Vec<f64>,
}

impl<A> Composed<A> {
    pub(super) fn new(answers: A, weights: Vec<f64>) -> Result<Self, DenoiseError> {
        if weights.is_empty() {
            return Err(DenoiseError::Empty { what: "the list of what is composed" });
        }
        match weights.iter().find(|weight| !weight.is_finite()) {
            Some(&given) => {
                Err(DenoiseError::Setting { setting: "weight of a composition", given, expected: "a finite number" })
            }
            None => Ok(Self { answers, weights }),
        }
    }
}

impl<const D: usize, A: Answers<D>> Denoiser<D> for Composed<A> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let past = query.past;
        let weights = self.weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
        let (asked, weights): (Vec<usize>, Vec<f64>) =
            std::iter::once((0, 1.0)).chain(weights.map(|(i, weight)| (i + 1, *weight))).unzip();
        let all = self.answers.answers(&asked, query)?;
        let parts: Vec<_> = asked.iter().copied().zip(&all).collect();
        let terms: Vec<_> = weights[1..].iter().map(|weight| Scalars::Shared(*weight)).zip(&all[1..]).collect();
        Ok(keep_parts(extrapolate(&all[0], &terms)?, past, &parts))
    }

    fn memory(&self) -> usize {
        self.answers.memory()
    }

    fn is_split(&self) -> bool {
        self.answers.is_split()
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        self.answers.beyond_autodiff()
    }

    fn beyond_output(&self) -> Option<&'static str> {
        self.answers.beyond_output()
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        self.answers.beyond_eps()
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.answers.check(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::testing::{Counting, Numbers, always, ask, close, level, output, state, values};
    use crate::denoiser::{DenoiserExt, Network};
    use crate::level::Levels;
    use crate::prediction::Prediction;
    use std::sync::atomic::Ordering;

    #[test]
    fn conditions_are_composed_in_one_call() {
        let net = Counting::default();
        let one = |cond: f64| net.denoiser(Prediction::Epsilon, Numbers(vec![cond])).unwrap();
        let levels = Levels::Shared(level(10.0));
        let composed = one(0.5)
            .composed(vec![(Numbers(vec![1.0, 2.0]), 3.0), (Numbers(vec![7.0]), 0.0), (Numbers(vec![4.0]), -1.5)])
            .unwrap();
        let before = (net.calls.load(Ordering::Relaxed), net.rows.load(Ordering::Relaxed));
        let got = output(&composed, &levels);
        // Two samples under three conditions: the one with weight 0 is not asked.
        assert_eq!(net.calls.load(Ordering::Relaxed) - before.0, 1);
        assert_eq!(net.rows.load(Ordering::Relaxed) - before.1, 6);
        // x² + 10·condition.
        let condition = [0.5, 0.5, 0.5, 0.5];
        let and = [1.0, 1.0, 2.0, 2.0];
        let expected: Vec<f64> = values(state())
            .iter()
            .zip(condition.iter().zip(and))
            .map(|(x, (base, and))| x * x + 10.0 * (base + 3.0 * (and - base) - 1.5 * (4.0 - base)))
            .collect();
        close(&got, &expected);
        // One condition is classifier-free guidance.
        let guided = one(2.0).guided(Numbers(vec![0.5]), 7.5).unwrap();
        let composed = one(0.5).composed(vec![(Numbers(vec![2.0]), 7.5)]).unwrap();
        assert_eq!(output(&composed, &levels), output(&guided, &levels));
        assert!(composed.check(&[2, 2]).is_ok() && composed.check(&[2, 3]).is_err());
    }

    #[test]
    fn denoisers_are_composed_whatever_they_predict() {
        let levels = Levels::Shared(level(10.0));
        let parts = [
            always(Prediction::Velocity, [[1.0, 2.0], [-1.0, 0.5]]),
            always(Prediction::Velocity, [[0.0, 2.5], [1.0, 0.5]]),
        ];
        let base = always(Prediction::Epsilon, [[0.3, 0.1], [-0.2, 0.8]]);
        let composed = (&base).composed_with(vec![(&parts[0], 2.0), (&parts[1], -0.5)]).unwrap();
        let estimate = ask(&composed, state(), &levels).unwrap();
        let x0 = |denoiser: &dyn Denoiser<2>| values(ask(&denoiser, state(), &levels).unwrap().x0().unwrap());
        let (base, a, b) = (x0(&base), x0(&parts[0]), x0(&parts[1]));
        let expected: Vec<f64> = (0..4).map(|i| base[i] + 2.0 * (a[i] - base[i]) - 0.5 * (b[i] - base[i])).collect();
        close(&values(estimate.x0().unwrap()), &expected);
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        let one = always(Prediction::Epsilon, [[0.0; 2]; 2]);
        let none: Vec<(Box<dyn Denoiser<2>>, f64)> = Vec::new();
        let error = DenoiserExt::<2>::composed_with(one.clone(), none).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "the list of what is composed is empty: give at least one");
        for weight in [f64::NAN, f64::INFINITY] {
            let error =
                DenoiserExt::<2>::composed_with(one.clone(), vec![(one.clone(), weight)]).map(|_| ()).unwrap_err();
            assert!(matches!(error, DenoiseError::Setting { setting: "weight of a composition", .. }));
        }
        let net = Counting::default();
        let bound = || net.denoiser(Prediction::Epsilon, Numbers(vec![0.0])).unwrap();
        assert!(matches!(bound().composed(Vec::new()), Err(DenoiseError::Empty { .. })));
        assert!(matches!(bound().composed(vec![(Numbers(vec![0.0]), f64::NAN)]), Err(DenoiseError::Setting { .. })));
        // Three rows for two samples.
        let composed = bound().composed(vec![(Numbers(vec![0.0; 3]), 1.0)]).unwrap();
        assert_eq!(composed.check(&[2, 2]), Err(DenoiseError::ConditionRows { condition: 3, batch: 2 }));
    }
}
