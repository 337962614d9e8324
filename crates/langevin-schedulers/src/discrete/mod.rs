//! Sampling tokens: every draw is one by the Gumbel-max trick, from one noise source.
//!
//! A [`TokenMethod`] makes one step after another; all are started, saved and resumed alike.
//!
//! * [`TokenSampler`]: reverse steps of a chain that masks and replaces.
//! * [`DiscreteDdim`]: the chain that replaces, by way of a drawn clean token, with correctors.
//! * [`MaskGit`]: masks are filled, and those that a denoiser is least sure of are masked again.
//! * [`EntropyBound`]: as many positions at once as depend little on each other.
//! * [`BlockRefinement`]: block after block, the surest positions first, with second thoughts.

mod block_refinement;
mod ddim;
mod draw;
mod entropy_bound;
mod host;
mod mask_git;
mod method;
mod run;

pub use block_refinement::BlockRefinement;
pub use ddim::{Corrector, DiscreteDdim, Selection};
pub use entropy_bound::EntropyBound;
pub use mask_git::{MaskGit, Masking};
pub use method::{TokenContext, TokenMethod, TokenState, TokenStep, Vocabulary};
pub use run::{SavedTokens, TokenRun};

use crate::sampler::SampleError;
use langevin_core::discrete::{MaskAndReplace, gumbel_max};
use langevin_core::{GridError, Key, NoiseSource};
use std::ops::Range;

/// Ancestral sampling of tokens: at each of its steps the denoiser says what the clean tokens may be, and tokens of the next
/// cleaner step are drawn from the posterior ([`MaskAndReplace::posterior`]); the last draw is of clean tokens.
///
/// All positions are drawn independently given the tokens before, so that tokens that depend on each other want steps that
/// change few of them at a time.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use langevin_core::discrete::{MaskAndReplace, tokens_fn};
/// use langevin_core::noise::Seeded;
/// use langevin_schedulers::{TokenMethod, TokenSampler};
///
/// // Three positions, of which each is class 2 for certain.
/// let denoiser = tokens_fn(|tokens: Tensor<2, Int>, _step| {
///     let sure = Tensor::<3>::from_data([[[-50.0], [-50.0], [0.0]]], &tokens.device());
///     Ok(sure.expand([tokens.dims()[0], 3, tokens.dims()[1]]))
/// });
/// let device = Device::flex();
/// let sampler = TokenSampler::new(MaskAndReplace::absorbing(3, 100)?).steps(10)?;
/// let noise = Seeded::new(42);
/// let tokens = sampler.start([4, 3], &denoiser, &noise, &device)?.finish()?;
/// assert_eq!(tokens.into_data().iter::<i64>().collect::<Vec<_>>(), [2; 12]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Gu et al. 2022, "Vector quantized diffusion model for text-to-image synthesis", algorithm 2; Austin et al. 2021,
/// "Structured denoising diffusion models in discrete state-spaces".
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSampler {
    chain: MaskAndReplace,
    times: Vec<usize>,
}

impl TokenSampler {
    /// Over every step of the chain.
    pub fn new(chain: MaskAndReplace) -> Self {
        let times = (0..chain.steps()).rev().collect();
        Self { chain, times }
    }

    /// In `n` steps, spread evenly over the chain and counted back from its last. A step over several of the chain takes
    /// their exact joint transition.
    ///
    /// # Errors
    /// [`GridError::ZeroSteps`], or [`GridError::TooManySteps`] if the chain has fewer.
    pub fn steps(self, n: usize) -> Result<Self, GridError> {
        let chain = self.chain.steps();
        if n == 0 {
            return Err(GridError::ZeroSteps);
        }
        if n > chain {
            return Err(GridError::TooManySteps { given: n, chain });
        }
        let times = (1..=n).rev().map(|i| (chain * i).div_ceil(n) - 1).collect();
        Ok(Self { times, ..self })
    }

    /// At given steps of the chain, falling. The tokens that a run starts from belong to the first of them.
    ///
    /// # Errors
    /// [`GridError::ZeroSteps`] for an empty list, [`GridError::TimeOutOfRange`] for steps that the chain does not have,
    /// [`GridError::Direction`] unless they fall.
    pub fn at(self, times: Vec<usize>) -> Result<Self, GridError> {
        let Some(first) = times.first() else { return Err(GridError::ZeroSteps) };
        if *first >= self.chain.steps() {
            let max = (self.chain.steps() - 1) as f64;
            return Err(GridError::TimeOutOfRange { index: 0, given: *first as f64, min: 0.0, max, hint: "" });
        }
        for (index, pair) in times.windows(2).enumerate() {
            if pair[1] >= pair[0] {
                let (before, after) = (pair[0] as f64, pair[1] as f64);
                let (index, quantity, expected) = (index + 1, "the step", "falling");
                return Err(GridError::Direction { index, quantity, before, after, expected });
            }
        }
        Ok(Self { times, ..self })
    }

    /// The chain.
    pub fn chain(&self) -> &MaskAndReplace {
        &self.chain
    }

    /// The steps of the chain at which the denoiser is asked, in order.
    pub fn times(&self) -> &[usize] {
        &self.times
    }
}

impl TokenMethod for TokenSampler {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { classes: self.chain.classes(), mask: Some(self.chain.masked()) }
    }

    /// Masked, or of random classes as far as the chain replaces.
    fn prior(&self, noise: &dyn NoiseSource, samples: Range<u64>, positions: usize) -> Result<Vec<i64>, SampleError> {
        Ok(self.chain.prior(noise, samples, positions)?)
    }

    fn advance(&self, state: &mut TokenState, cx: &TokenContext<'_>) -> Result<Option<TokenStep>, SampleError> {
        let index = state.done;
        let Some(&asked) = self.times.get(index) else { return Ok(None) };
        let reached = self.times.get(index + 1).copied();
        let answer = cx.denoiser.log_clean(state.tokens.clone(), asked)?;
        let log_p = self.chain.posterior(answer, &state.tokens, reached, asked)?;
        let tokens = gumbel_max(log_p.clone(), cx.noise, state.first, Key::step(index as u64, 0))?;
        let (drawn, positions) = (tokens.clone(), 0..tokens.dims()[1]);
        let accepted = host::to_flags(vec![true; tokens.shape().num_elements()], tokens.dims(), &tokens.device());
        Ok(Some(TokenStep { index, asked, reached, tokens, positions, log_p, drawn, accepted }))
    }

    fn check_state(&self, state: &TokenState) -> bool {
        state.done <= self.times.len() && state.memory.is_empty()
    }

    fn fingerprint(&self) -> u64 {
        let rates = (0..self.chain.steps()).filter_map(|t| self.chain.cumulative(Some(t)).ok());
        let rates = rates.flat_map(|rates| [rates.keep, rates.mask]);
        let times = self.times.iter().map(|t| *t as f64);
        crate::ode::fingerprint(std::iter::once(self.chain.classes() as f64).chain(rates).chain(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int, Tensor};
    use langevin_core::discrete::{Cumulative, tokens_fn};
    use langevin_core::noise::Seeded;

    fn chain() -> MaskAndReplace {
        MaskAndReplace::linear(3, 20, Cumulative { keep: (0.95, 0.01), mask: (0.01, 0.9) }).expect("a chain")
    }

    /// Leans on the neighbor: log-probabilities that depend on tokens and step.
    fn leaning(tokens: Tensor<2, Int>, step: usize) -> Tensor<3> {
        let x = tokens.float().mul_scalar(0.7).add_scalar(0.1 * step as f64).unsqueeze_dim::<3>(1);
        Tensor::cat(vec![x.clone().sin(), x.clone().cos(), x.mul_scalar(0.3)], 1)
    }

    fn numbers(tokens: Tensor<2, Int>) -> Vec<i64> {
        tokens.into_data().iter::<i64>().collect()
    }

    #[test]
    fn steps_are_spread_from_the_noisy_end() {
        let times = |n| TokenSampler::new(chain()).steps(n).expect("steps").times().to_vec();
        assert_eq!(times(4), [19, 14, 9, 4]);
        assert_eq!(times(3), [19, 13, 6]);
        assert_eq!(times(1), [19]);
        assert_eq!(times(20), TokenSampler::new(chain()).times());
    }

    #[test]
    fn a_resumed_run_draws_the_same_tokens_and_batches_do_not_matter() {
        let denoiser = tokens_fn(|tokens, step| Ok(leaning(tokens, step)));
        let (sampler, noise, device) =
            (TokenSampler::new(chain()).steps(7).expect("steps"), Seeded::new(4), Device::flex());
        let start = || sampler.start_at(5, [3, 6], &denoiser, &noise, &device).expect("a run");
        let whole: Vec<Vec<i64>> = start().map(|step| numbers(step.expect("a step").tokens)).collect();
        assert_eq!(whole.len(), 7);
        for pause in 0..=7 {
            let mut run = start();
            for step in run.by_ref().take(pause) {
                step.expect("a step");
            }
            let text = serde_json::to_string(&run.save().expect("a saved run")).expect("data");
            let saved: SavedTokens = serde_json::from_str(&text).expect("data");
            let rest = sampler.resume(&saved, &denoiser, &noise, &device).expect("a resumed run");
            let rest: Vec<Vec<i64>> = rest.map(|step| numbers(step.expect("a step").tokens)).collect();
            assert_eq!(rest, whole[pause..], "paused after {pause}");
        }
        let alone: Vec<i64> = (5..8)
            .flat_map(|sample| {
                let run = sampler.start_at(sample, [1, 6], &denoiser, &noise, &device).expect("a run");
                numbers(run.finish().expect("tokens"))
            })
            .collect();
        assert_eq!(alone, whole[6]);
        // Values that must not change, of the first sample.
        assert_eq!(whole[6][..6], GOLDEN);
        assert!(whole[6].iter().all(|token| *token < 3), "the last draw is of clean tokens");
    }

    const GOLDEN: [i64; 6] = [2, 1, 1, 1, 0, 0];

    #[test]
    fn what_does_not_fit_is_refused() {
        let sampler = || TokenSampler::new(chain());
        assert_eq!(sampler().steps(0), Err(GridError::ZeroSteps));
        assert_eq!(sampler().steps(21), Err(GridError::TooManySteps { given: 21, chain: 20 }));
        assert_eq!(sampler().at(vec![]), Err(GridError::ZeroSteps));
        assert!(matches!(sampler().at(vec![20, 3]), Err(GridError::TimeOutOfRange { .. })));
        assert!(matches!(sampler().at(vec![7, 7]), Err(GridError::Direction { index: 1, .. })));
        let denoiser = tokens_fn(|tokens, step| Ok(leaning(tokens, step)));
        let (sampler, noise, device) = (sampler().steps(3).expect("steps"), Seeded::new(4), Device::flex());
        let shape = sampler.start([0, 2], &denoiser, &noise, &device).map(|_| ()).expect_err("nothing");
        assert!(matches!(shape, SampleError::EmptyShape { .. }));
        let error = sampler.start_at(u64::MAX, [2, 2], &denoiser, &noise, &device).map(|_| ()).expect_err("numbers");
        assert!(matches!(error, SampleError::SampleNumbers { .. }));
        for given in [-1, 4] {
            let tokens = Tensor::<2, Int>::from_data([[0, given]], &device);
            let error = sampler.start_from(0, tokens, &denoiser, &noise).map(|_| ()).expect_err("no token");
            assert_eq!(error, SampleError::Token { given, classes: 3, mask: Some(3) });
            assert!(error.to_string().contains("0 to 2") && error.to_string().contains("3 for the mask"), "{error}");
        }
        let saved = sampler.start([1, 2], &denoiser, &noise, &device).expect("a run").save().expect("a saved run");
        let other = TokenSampler::new(chain());
        let error = other.resume(&saved, &denoiser, &noise, &device).map(|_| ()).expect_err("another");
        assert!(matches!(error, SampleError::OtherSampler { .. }));
        // Answers for another number of classes, and no numbers at all.
        let narrow = tokens_fn(|tokens, step| Ok(leaning(tokens, step).narrow(1, 0, 2)));
        let mut run = sampler.start([1, 2], &narrow, &noise, &device).expect("a run");
        assert!(matches!(run.next(), Some(Err(SampleError::Discrete(_)))) && run.next().is_none());
        assert_eq!(run.finish().map(|_| ()).expect_err("no result"), SampleError::Unfinished { step: 0 });
        let broken =
            tokens_fn(|tokens, step| Ok(leaning(tokens, step).mul_scalar(if step == 19 { f64::NAN } else { 1.0 })));
        let run = sampler.start([1, 2], &broken, &noise, &device).expect("a run");
        assert_eq!(run.finish().map(|_| ()).expect_err("NaN"), SampleError::NotFinite { step: 3 });
    }
}
