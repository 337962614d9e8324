//! Masked tokens, filled by confidence (Chang et al. 2022).

use super::draw::{self, DECISION, Sharpening, setting};
use super::{TokenContext, TokenMethod, TokenState, TokenStep, Vocabulary, host};
use crate::sampler::SampleError;
use crate::solver::PlanError;
use burn::tensor::{Int, Tensor};
use langevin_core::discrete::gumbel;
use langevin_core::{Key, NoiseSource};
use std::ops::Range;

const NAME: &str = "MaskGIT";

/// How many tokens are still masked after a share r of the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masking {
    /// The share cos(πr/2).
    #[default]
    Cosine,
    /// The share 1 − r.
    Linear,
}

/// MaskGIT: at each step every masked token is drawn from what the denoiser says, and those that it is least sure of
/// are masked again, as many as a schedule says. Tokens that are not masked stay.
///
/// The confidence of a token is `ln p + T·g`, with the probability that it was drawn with, Gumbel noise g, and a choice
/// temperature T that runs in a straight line over the steps. At least one token is masked again before the last step,
/// and fewer than were masked before.
///
/// It is a heuristic: what is kept depends on what was drawn, so that likely tokens come too often even with an exact
/// denoiser and one token a step. Only as the choice temperature grows does the choice become a random one, and one
/// token a step exact. The steps of the denoiser's clock run from `steps − 1` to 0.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use langevin_core::{discrete::tokens_fn, noise::Seeded};
/// use langevin_schedulers::{MaskGit, TokenMethod};
///
/// let denoiser = tokens_fn(|tokens: Tensor<2, Int>, _step| {
///     let sure = Tensor::<3>::from_data([[[-50.0], [-50.0], [0.0]]], &tokens.device());
///     Ok(sure.expand([tokens.dims()[0], 3, tokens.dims()[1]]))
/// });
/// // Three classes, 9 for the mask, in 4 steps.
/// let sampler = MaskGit::new(3, 9, 4)?.temperature(4.0, 0.01)?;
/// let tokens = sampler.start([2, 6], &denoiser, &Seeded::new(42), &Device::flex())?.finish()?;
/// assert_eq!(tokens.into_data().iter::<i64>().collect::<Vec<_>>(), [2; 12]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Chang et al. 2022, "MaskGIT: Masked generative image transformer", section 3.2; Patil et al. 2024, "aMUSEd: An open
/// MUSE reproduction".
#[derive(Clone, Debug, PartialEq)]
pub struct MaskGit {
    classes: usize,
    mask: usize,
    steps: usize,
    masking: Masking,
    temperature: (f64, f64),
    ratio: f64,
    skipped: usize,
}

impl MaskGit {
    /// In `steps` steps over `classes` classes, with the token `mask` for what is masked; the cosine schedule, and a
    /// choice temperature from 2 to 0. A mask that is one of the classes can be drawn, too: it counts as masked, and
    /// stays if the last step draws it.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for fewer than 2 classes or a mask of more than 31 bits, [`PlanError::Grid`] without
    /// steps.
    pub fn new(classes: usize, mask: usize, steps: usize) -> Result<Self, PlanError> {
        draw::check_size(NAME, classes, steps)?;
        draw::check_mask(NAME, mask)?;
        let (masking, temperature) = (Masking::default(), (2.0, 0.0));
        Ok(Self { classes, mask, steps, masking, temperature, ratio: 1.0, skipped: 0 })
    }

    /// With another schedule of masks.
    pub fn masking(self, masking: Masking) -> Self {
        Self { masking, ..self }
    }

    /// With a choice temperature that goes from one number to another, in equal parts over the steps.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for numbers below 0 or infinite ones.
    pub fn temperature(self, from: f64, to: f64) -> Result<Self, PlanError> {
        draw::check_temperature(NAME, from)?;
        draw::check_temperature(NAME, to)?;
        Ok(Self { temperature: (from, to), ..self })
    }

    /// For samples of which only a share is masked at the beginning: the schedule is scaled by it.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is in (0, 1].
    pub fn starting_ratio(self, ratio: f64) -> Result<Self, PlanError> {
        setting(NAME, "the share that is masked", ratio, ratio > 0.0 && ratio <= 1.0, "a number in (0, 1]")?;
        Ok(Self { ratio, ..self })
    }

    /// Leaves out the first `n` steps, for runs that start from tokens [masked so far](Self::noised).
    ///
    /// # Errors
    /// [`PlanError::Setting`] if no step would be left.
    pub fn after(self, n: usize) -> Result<Self, PlanError> {
        setting(NAME, "the number of steps to leave out", n as f64, n < self.steps, "fewer than there are")?;
        Ok(Self { skipped: n, ..self })
    }

    /// The share of tokens that is masked after `n` steps.
    pub fn share(&self, n: usize) -> f64 {
        let done = n as f64 / self.steps as f64;
        match self.masking {
            // Cosines of right angles are rounding.
            Masking::Cosine if n >= self.steps => 0.0,
            Masking::Cosine => libm::cos(done * std::f64::consts::FRAC_PI_2),
            Masking::Linear => (1.0 - done).max(0.0),
        }
    }

    /// Tokens `[batch, positions]` of which each is masked with probability [`share(n)`](Self::share), independently.
    /// Samples are numbered from `first` on; `step` is that of the training run, so that a sample is masked elsewhere
    /// whenever it comes again.
    ///
    /// # Errors
    /// [`SampleError::SampleNumbers`] if the numbers do not fit into 64 bits, [`SampleError::Noise`] if the source
    /// cannot deliver uniform noise.
    pub fn noised(
        &self,
        tokens: &Tensor<2, Int>,
        n: usize,
        noise: &dyn NoiseSource,
        first: u64,
        step: u64,
    ) -> Result<Tensor<2, Int>, SampleError> {
        let [batch, positions] = tokens.dims();
        let (key, share) = (draw::training(step, 0), self.share(n));
        let mut masked = Vec::with_capacity(batch * positions);
        let mut uniform = vec![0.0; positions];
        for sample in draw::numbers(first, batch)? {
            noise.fill_uniform(sample, key, &mut uniform)?;
            masked.extend(uniform.iter().map(|u| *u < share));
        }
        let masked = host::to_flags(masked, [batch, positions], &tokens.device());
        Ok(tokens.clone().mask_fill(masked, self.mask as i64))
    }

    fn temperature_at(&self, step: usize) -> f64 {
        let (from, to) = self.temperature;
        if self.steps == 1 { from } else { from + (to - from) * step as f64 / (self.steps - 1) as f64 }
    }

    /// How many of `positions` are masked after step `step`, if `masked` were before.
    fn masked_after(&self, step: usize, positions: usize, masked: usize) -> usize {
        // Products that are whole numbers but for rounding.
        let planned = (positions as f64 * self.ratio * self.share(step + 1) + 1e-9).floor() as usize;
        planned.min(masked.saturating_sub(1)).max(1).min(masked)
    }
}

/// ln(1e-20): confidences are not smaller.
const LEAST: f64 = -46.051_701_859_880_914;

impl TokenMethod for MaskGit {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { classes: self.classes, mask: Some(self.mask) }
    }

    /// All masked.
    fn prior(&self, _noise: &dyn NoiseSource, samples: Range<u64>, positions: usize) -> Result<Vec<i64>, SampleError> {
        draw::masks(samples, self.mask, positions)
    }

    fn advance(&self, state: &mut TokenState, cx: &TokenContext<'_>) -> Result<Option<TokenStep>, SampleError> {
        let step = self.skipped + state.done;
        if step >= self.steps {
            return Ok(None);
        }
        let asked = self.steps - 1 - step;
        let (device, shape) = (state.tokens.device(), state.tokens.dims());
        let log_p = draw::ask(cx, state.tokens.clone(), asked, self.classes)?;
        let drawn = draw::draw(log_p, Sharpening::temperature(1.0), state, cx.noise, step as u64)?;
        let masked = state.tokens.clone().equal_elem(self.mask as i64);
        let accepted = if asked == 0 {
            masked
        } else {
            let temperature = self.temperature_at(step);
            let before = host::tokens(&state.tokens)?;
            let mut confidence = host::numbers(drawn.log_chosen())?;
            let key = Key::step(step as u64, DECISION);
            let chance = gumbel(cx.noise, state.samples(), key, shape[1])?;
            confidence.iter_mut().zip(chance).for_each(|(p, chance)| *p = p.max(LEAST) + temperature * chance);
            let mut accepted: Vec<bool> = before.iter().map(|token| *token == self.mask as i64).collect();
            for (accepted, confidence) in accepted.chunks_mut(shape[1]).zip(confidence.chunks(shape[1])) {
                let masked = (0..shape[1]).filter(|i| accepted[*i]);
                let order = host::ascending(masked, |i| confidence[i]);
                let again = self.masked_after(step, shape[1], order.len());
                order[..again].iter().for_each(|i| accepted[*i] = false);
            }
            host::to_flags(accepted, shape, &device)
        };
        let tokens = state.tokens.clone().mask_where(accepted.clone(), drawn.tokens.clone());
        let (index, reached, positions) = (state.done, asked.checked_sub(1), 0..shape[1]);
        let (log_p, drawn) = (drawn.log_p, drawn.tokens);
        Ok(Some(TokenStep { index, asked, reached, tokens, positions, log_p, drawn, accepted }))
    }

    fn check_state(&self, state: &TokenState) -> bool {
        state.done <= self.steps - self.skipped && state.memory.is_empty()
    }

    fn fingerprint(&self) -> u64 {
        let masking = f64::from(u8::from(self.masking == Masking::Linear));
        let counts = [self.classes, self.mask, self.steps, self.skipped].map(|count| count as f64);
        let numbers = [-1.0, masking, self.temperature.0, self.temperature.1, self.ratio];
        crate::ode::fingerprint(numbers.into_iter().chain(counts))
    }
}
