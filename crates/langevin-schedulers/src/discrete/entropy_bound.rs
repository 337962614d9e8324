//! As many positions at once as depend little on each other (Ben-Hamu et al. 2025).

use super::draw::{self, REPLACEMENT, Sharpening, setting};
use super::{TokenContext, TokenMethod, TokenState, TokenStep, Vocabulary, host};
use crate::sampler::SampleError;
use crate::solver::PlanError;
use langevin_core::{Key, NoiseSource};
use std::ops::Range;

const NAME: &str = "EntropyBound";

/// Entropy-bounded unmasking: at each step a token is drawn at every position, and those of lowest entropy H are
/// accepted, as many as have `H_1 + … + H_k − max H ≤ bound`: their mutual information is at most that. At least one
/// is.
///
/// With [`masked`](Self::masked) tokens, as in the paper, what was accepted stays, and a sample is ready when no mask
/// is left; the last step accepts all that is left. With the bound 0, temperature 1 and enough steps the tokens have
/// the law of an exact denoiser's data. Without masks the other tokens are replaced by random ones, and each step
/// decides about all of them anew, for as many steps as there are: a token that is still uncertain in the last one
/// stays random.
///
/// The log-probabilities are divided by a temperature before all that, which falls from the first step to the last,
/// where it is one step short of its end. The steps of the denoiser's clock run from `steps − 1` to 0.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use langevin_core::{discrete::tokens_fn, noise::Seeded};
/// use langevin_schedulers::{EntropyBound, TokenMethod};
///
/// let denoiser = tokens_fn(|tokens: Tensor<2, Int>, _step| {
///     let sure = Tensor::<3>::from_data([[[-50.0], [-50.0], [0.0]]], &tokens.device());
///     Ok(sure.expand([tokens.dims()[0], 3, tokens.dims()[1]]))
/// });
/// // What is certain takes one step.
/// let sampler = EntropyBound::new(3, 32)?.bound(0.2)?.masked(3)?;
/// let (noise, device) = (Seeded::new(42), Device::flex());
/// let mut run = sampler.start([2, 6], &denoiser, &noise, &device)?;
/// assert_eq!(run.by_ref().count(), 1);
/// assert_eq!(run.finish()?.into_data().iter::<i64>().collect::<Vec<_>>(), [2; 12]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Ben-Hamu et al. 2025, "Accelerated sampling from masked diffusion models via entropy bounded unmasking", arXiv
/// 2505.24857.
#[derive(Clone, Debug, PartialEq)]
pub struct EntropyBound {
    classes: usize,
    steps: usize,
    bound: f64,
    temperature: (f64, f64),
    mask: Option<usize>,
}

impl EntropyBound {
    /// In at most `steps` steps over `classes` classes, with the bound 0.1 and a temperature from 0.8 to 0.4.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for fewer than 2 classes, [`PlanError::Grid`] without steps.
    pub fn new(classes: usize, steps: usize) -> Result<Self, PlanError> {
        draw::check_size(NAME, classes, steps)?;
        Ok(Self { classes, steps, bound: 0.1, temperature: (0.8, 0.4), mask: None })
    }

    /// In another number of steps.
    ///
    /// # Errors
    /// [`PlanError::Grid`] without steps.
    pub fn steps(self, steps: usize) -> Result<Self, PlanError> {
        draw::check_size(NAME, self.classes, steps)?;
        Ok(Self { steps, ..self })
    }

    /// With another bound, in nats; an infinite one accepts all.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for numbers below 0.
    pub fn bound(self, bound: f64) -> Result<Self, PlanError> {
        setting(NAME, "the bound of entropies", bound, bound >= 0.0, "a number, at least 0")?;
        Ok(Self { bound, ..self })
    }

    /// With a temperature that goes from one number to another.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless both are finite numbers above 0.
    pub fn temperature(self, from: f64, to: f64) -> Result<Self, PlanError> {
        for given in [from, to] {
            let fine = given > 0.0 && given.is_finite();
            setting(NAME, "the temperature", given, fine, "a finite number above 0")?;
        }
        Ok(Self { temperature: (from, to), ..self })
    }

    /// With masks instead of random tokens. A mask that is one of the classes can be drawn, too: it counts as masked, and
    /// stays if the last step draws it.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a mask of more than 31 bits.
    pub fn masked(self, mask: usize) -> Result<Self, PlanError> {
        draw::check_mask(NAME, mask)?;
        Ok(Self { mask: Some(mask), ..self })
    }

    /// Which of the candidates are accepted, given their entropies.
    fn accept(&self, candidates: impl Iterator<Item = usize>, entropy: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut order = host::ascending(candidates, &entropy);
        let mut before = 0.0;
        // In rising order the largest is the last one, so that the others are those before it.
        let accepted = order.iter().take_while(|i| {
            let fits = before <= self.bound;
            before += entropy(**i);
            fits
        });
        let accepted = accepted.count();
        order.truncate(accepted);
        order
    }
}

impl TokenMethod for EntropyBound {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { classes: self.classes, mask: self.mask }
    }

    /// All masked, or random.
    fn prior(&self, noise: &dyn NoiseSource, samples: Range<u64>, positions: usize) -> Result<Vec<i64>, SampleError> {
        match self.mask {
            Some(mask) => draw::masks(samples, mask, positions),
            None => draw::anything(noise, samples, Key::INITIAL, self.classes, positions),
        }
    }

    fn advance(&self, state: &mut TokenState, cx: &TokenContext<'_>) -> Result<Option<TokenStep>, SampleError> {
        if state.done >= self.steps {
            return Ok(None);
        }
        let shape = state.tokens.dims();
        let candidate: Vec<bool> = match self.mask {
            Some(mask) => host::tokens(&state.tokens)?.iter().map(|token| *token == mask as i64).collect(),
            None => vec![true; shape[0] * shape[1]],
        };
        if !candidate.contains(&true) {
            return Ok(None);
        }
        let (index, asked, device) = (state.done, self.steps - 1 - state.done, state.tokens.device());
        let (from, to) = self.temperature;
        let temperature = to + (from - to) * (asked + 1) as f64 / self.steps as f64;
        let log_p = draw::scaled(draw::ask(cx, state.tokens.clone(), asked, self.classes)?, temperature);
        let drawn = draw::draw(log_p, Sharpening::temperature(1.0), state, cx.noise, index as u64)?;
        // Classes that cannot be have no part in it.
        let p = drawn.log_p.clone().exp();
        let entropy = host::numbers(drawn.log_p.clone().clamp_min(-1e4).mul(p).sum_dim(1).neg())?;
        let mut accepted = vec![false; candidate.len()];
        for (row, accepted) in accepted.chunks_mut(shape[1]).enumerate() {
            let at = row * shape[1];
            let candidates = (0..shape[1]).filter(|i| candidate[at + i]);
            if self.mask.is_some() && asked == 0 {
                candidates.for_each(|i| accepted[i] = true);
            } else {
                self.accept(candidates, |i| entropy[at + i]).into_iter().for_each(|i| accepted[i] = true);
            }
        }
        let accepted = host::to_flags(accepted, shape, &device);
        let others = match self.mask {
            Some(_) => state.tokens.clone(),
            None => {
                let key = Key::step(index as u64, REPLACEMENT);
                let any = draw::anything(cx.noise, state.samples(), key, self.classes, shape[1])?;
                host::to_tokens(any, shape, &device)
            }
        };
        let tokens = others.mask_where(accepted.clone(), drawn.tokens.clone());
        let (reached, positions, log_p, drawn) = (asked.checked_sub(1), 0..shape[1], drawn.log_p, drawn.tokens);
        Ok(Some(TokenStep { index, asked, reached, tokens, positions, log_p, drawn, accepted }))
    }

    fn check_state(&self, state: &TokenState) -> bool {
        state.done <= self.steps && state.memory.is_empty()
    }

    fn fingerprint(&self) -> u64 {
        let mask = self.mask.map_or(-1.0, |mask| mask as f64);
        let (from, to) = self.temperature;
        crate::ode::fingerprint([-3.0, self.classes as f64, self.steps as f64, self.bound, from, to, mask])
    }
}
