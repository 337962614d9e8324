//! Block after block, the surest positions first.

mod progress;

use super::draw::{self, REPLACEMENT, Sharpening, setting};
use super::{TokenContext, TokenMethod, TokenState, TokenStep, Vocabulary, host};
use crate::sampler::SampleError;
use crate::solver::PlanError;
use burn::tensor::{Bool, Int, Tensor};
use langevin_core::discrete::DiscreteError;
use langevin_core::{Key, NoiseSource};
use progress::{Answer, Progress};
use std::ops::Range;

const NAME: &str = "BlockRefinement";

/// Block refinement, as in block diffusion of language: a row of tokens is sampled in blocks from front to back, and
/// within a block by confidence. At each step a token is drawn at every position of the block. Those whose probability
/// is above a threshold are taken, but at least as many as spreads the block evenly over the steps, the surest ones.
/// The denoiser is given all tokens up to the end of the block.
///
/// With [`masked`](Self::masked) tokens the others stay masked, otherwise they are drawn at random again. With
/// [`editing`](Self::editing) tokens that were taken before are replaced where another one is sure enough: among masks
/// also after the last of them is filled ([`post_steps`](Self::post_steps)), until a step changes nothing.
///
/// Each sample goes its own way: it waits for the others of its batch at the end of a block, and stays as it is once it
/// has an [end token](Self::until). A step without anything left to decide is not made.
///
/// What is taken depends on what was drawn, so that this is a heuristic; blocks of one token at temperature 1 are the
/// chain rule, and exact. The steps of the denoiser's clock run from `steps − 1` to 0 in each block, where they stay
/// while edits go on.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use langevin_core::{discrete::tokens_fn, noise::Seeded};
/// use langevin_schedulers::{BlockRefinement, TokenMethod};
///
/// let denoiser = tokens_fn(|tokens: Tensor<2, Int>, _step| {
///     let sure = Tensor::<3>::from_data([[[-50.0], [-50.0], [0.0]]], &tokens.device());
///     Ok(sure.expand([tokens.dims()[0], 3, tokens.dims()[1]]))
/// });
/// // Blocks of 4 tokens in 4 steps behind a prompt of 2; 3 is the mask.
/// let sampler = BlockRefinement::new(3, 4, 4)?.masked(3)?.prompt(2).threshold(0.9)?;
/// let (noise, device) = (Seeded::new(42), Device::flex());
/// let tokens = Tensor::<2, Int>::from_data([[0, 1, 3, 3, 3, 3, 3, 3]], &device);
/// let mut run = sampler.start_from(0, tokens, &denoiser, &noise)?;
/// assert_eq!(run.by_ref().count(), 2);
/// assert_eq!(run.finish()?.into_data().iter::<i64>().collect::<Vec<_>>(), [0, 1, 2, 2, 2, 2, 2, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Arriola et al. 2025, "Block diffusion: interpolating between autoregressive and diffusion language models"; Nie et
/// al. 2025, "Large language diffusion models", section 2.4; Bie et al. 2025, "LLaDA2.0", for the threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockRefinement {
    classes: usize,
    block: usize,
    steps: usize,
    mask: Option<usize>,
    sharpening: Sharpening,
    threshold: f64,
    editing: Option<f64>,
    minimal: usize,
    prompt: usize,
    end: Option<usize>,
    post_steps: usize,
}

impl BlockRefinement {
    /// In blocks of `block` tokens over `classes` classes, in at most `steps` steps each: the likeliest tokens, with
    /// the threshold 0.95 and no edits.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for fewer than 2 classes or blocks without tokens, [`PlanError::Grid`] without steps.
    pub fn new(classes: usize, block: usize, steps: usize) -> Result<Self, PlanError> {
        draw::check_size(NAME, classes, steps)?;
        setting(NAME, "the length of a block", block as f64, block > 0, "at least 1")?;
        let sharpening = Sharpening::temperature(0.0);
        Ok(Self {
            classes,
            block,
            steps,
            mask: None,
            sharpening,
            threshold: 0.95,
            editing: None,
            minimal: 1,
            prompt: 0,
            end: None,
            post_steps: 16,
        })
    }

    /// In another number of steps a block.
    ///
    /// # Errors
    /// [`PlanError::Grid`] without steps, [`PlanError::Setting`] for more than 2^31.
    pub fn steps(self, steps: usize) -> Result<Self, PlanError> {
        draw::check_size(NAME, self.classes, steps)?;
        Ok(Self { steps, ..self })
    }

    /// In blocks of another length.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for 0.
    pub fn blocks_of(self, block: usize) -> Result<Self, PlanError> {
        setting(NAME, "the length of a block", block as f64, block > 0, "at least 1")?;
        Ok(Self { block, ..self })
    }

    /// With masks instead of random tokens. A mask that is one of the classes can be drawn, too: it counts as masked, and
    /// stays if it is left when the block's steps are over.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a mask of more than 31 bits.
    pub fn masked(self, mask: usize) -> Result<Self, PlanError> {
        draw::check_mask(NAME, mask)?;
        Ok(Self { mask: Some(mask), ..self })
    }

    /// With tokens drawn at a temperature. At 0 the likeliest are taken, and neither [`top_k`](Self::top_k) nor
    /// [`top_p`](Self::top_p) changes anything.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for numbers below 0 or infinite ones.
    pub fn temperature(mut self, temperature: f64) -> Result<Self, PlanError> {
        draw::check_temperature(NAME, temperature)?;
        self.sharpening.temperature = temperature;
        Ok(self)
    }

    /// Draws from the `k` likeliest classes, and those that are as likely as the last of them.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for 0.
    pub fn top_k(mut self, k: usize) -> Result<Self, PlanError> {
        setting(NAME, "top_k", k as f64, k > 0, "at least 1")?;
        self.sharpening.top_k = Some(k);
        Ok(self)
    }

    /// Draws from the likeliest classes that together reach the probability `p`; after [`top_k`](Self::top_k) if there
    /// are both.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `p` is in (0, 1].
    pub fn top_p(mut self, p: f64) -> Result<Self, PlanError> {
        setting(NAME, "top_p", p, p > 0.0 && p <= 1.0, "a number in (0, 1]")?;
        self.sharpening.top_p = Some(p);
        Ok(self)
    }

    /// Takes every token of a larger probability; above 1 only as many as there must be.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for numbers below 0 and NaN.
    pub fn threshold(self, threshold: f64) -> Result<Self, PlanError> {
        setting(NAME, "the threshold", threshold, threshold >= 0.0, "a number, at least 0")?;
        Ok(Self { threshold, ..self })
    }

    /// Replaces tokens that were taken before, but none of the prompt, where another one has a larger probability than
    /// this.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is above 0.
    pub fn editing(self, threshold: f64) -> Result<Self, PlanError> {
        setting(NAME, "the threshold of edits", threshold, threshold > 0.0, "a number above 0")?;
        Ok(Self { editing: Some(threshold), ..self })
    }

    /// Fills at least so many masks in a step that fills any.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for 0.
    pub fn minimal(self, tokens: usize) -> Result<Self, PlanError> {
        setting(NAME, "the smallest number of tokens a step", tokens as f64, tokens > 0, "at least 1")?;
        Ok(Self { minimal: tokens, ..self })
    }

    /// The first `positions` of every sample are given and stay. Runs begin with
    /// [`start_from`](TokenMethod::start_from) then.
    pub fn prompt(self, positions: usize) -> Self {
        Self { prompt: positions, ..self }
    }

    /// A sample is ready when this class stands behind the prompt and no mask is before it; without masks, when a block
    /// that has it is ready. What follows is left as it was.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for a number that is no class.
    pub fn until(self, end: usize) -> Result<Self, PlanError> {
        setting(NAME, "the end token", end as f64, end < self.classes, "one of the classes")?;
        Ok(Self { end: Some(end), ..self })
    }

    /// The number of steps that a block may be edited for when no mask is left; one more shows that nothing changes.
    /// There are none if the last mask was filled in the last of the block's own steps.
    pub fn post_steps(self, steps: u32) -> Self {
        Self { post_steps: steps as usize, ..self }
    }

    /// Noises clean tokens `[batch, positions]` for training: in each block behind the prompt (they are counted from
    /// its end) a share is drawn, the same for all its tokens, and each of them is masked with that probability. The
    /// second answer has the other tokens masked. Padding, where `valid` is false, is never masked. Samples are
    /// numbered from `first` on; `step` is that of the training run, so that a sample is masked elsewhere whenever it
    /// comes again.
    ///
    /// # Errors
    /// [`SampleError::Unsupported`] without a mask, [`SampleError::Discrete`] if `valid` has another shape,
    /// [`SampleError::SampleNumbers`] if the numbers do not fit into 64 bits, [`SampleError::Noise`] if the source
    /// cannot deliver uniform noise.
    pub fn noised(
        &self,
        tokens: &Tensor<2, Int>,
        valid: Option<&Tensor<2, Bool>>,
        noise: &dyn NoiseSource,
        first: u64,
        step: u64,
    ) -> Result<[Tensor<2, Int>; 2], SampleError> {
        let Some(mask) = self.mask else {
            let (what, advice) = ("`noised`", "without masks there is nothing to mask; use `masked`");
            return Err(SampleError::Unsupported { sampler: "BlockRefinement of random tokens", what, advice });
        };
        let shape = tokens.dims();
        let mut masked = vec![false; shape[0] * shape[1]];
        for (sample, row) in draw::numbers(first, shape[0])?.zip(masked.chunks_mut(shape[1].max(1))) {
            let behind = row.get_mut(self.prompt..).unwrap_or_default();
            for (draws, masked) in (0..).step_by(2).zip(behind.chunks_mut(self.block)) {
                let (mut share, mut uniform) = ([0.0], vec![0.0; masked.len()]);
                noise.fill_uniform(sample, draw::training(step, draws), &mut share)?;
                noise.fill_uniform(sample, draw::training(step, draws + 1), &mut uniform)?;
                masked.iter_mut().zip(uniform).for_each(|(masked, u)| *masked = u < share[0]);
            }
        }
        let device = tokens.device();
        let behind = (0..shape[0] * shape[1]).map(|i| i % shape[1] >= self.prompt).collect();
        let mut may = host::to_flags(behind, shape, &device);
        if let Some(valid) = valid {
            if valid.dims() != shape {
                let (given, expected) = (valid.dims().to_vec(), format!("{shape:?}, that of the tokens"));
                return Err(DiscreteError::Shape { what: "the flags of padding", given, expected }.into());
            }
            may = may.bool_and(valid.clone());
        }
        let masked = host::to_flags(masked, shape, &device);
        let with = |flags: Tensor<2, Bool>| tokens.clone().mask_fill(flags.bool_and(may.clone()), mask as i64);
        Ok([with(masked.clone()), with(masked.bool_not())])
    }

    /// A number for each step of each block, however many steps are made.
    fn key(&self, progress: &Progress) -> u64 {
        (progress.block * (self.steps + self.post_steps + 2) + progress.call) as u64
    }
}

impl TokenMethod for BlockRefinement {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { classes: self.classes, mask: self.mask }
    }

    /// All masked, or random.
    fn prior(&self, noise: &dyn NoiseSource, samples: Range<u64>, positions: usize) -> Result<Vec<i64>, SampleError> {
        if self.prompt > 0 {
            let what = "a start from noise alone";
            let advice = "the prompt has to come from somewhere; use `start_from` with tokens that begin with it";
            return Err(SampleError::Unsupported { sampler: "BlockRefinement with a prompt", what, advice });
        }
        match self.mask {
            Some(mask) => draw::masks(samples, mask, positions),
            None => draw::anything(noise, samples, Key::INITIAL, self.classes, positions),
        }
    }

    fn check_positions(&self, positions: usize) -> Result<(), SampleError> {
        let (block, prompt) = (self.block, self.prompt);
        if positions.is_multiple_of(block) && positions > prompt {
            return Ok(());
        }
        Err(SampleError::Blocks { positions, prompt, block })
    }

    fn advance(&self, state: &mut TokenState, cx: &TokenContext<'_>) -> Result<Option<TokenStep>, SampleError> {
        let [batch, positions] = state.tokens.dims();
        let Some(mut progress) = Progress::read(self, &state.memory, batch) else {
            return Err(SampleError::Incomplete { row: state.done });
        };
        if progress.block * self.block >= positions || progress.rows.iter().all(|row| row.finished) {
            return Ok(None);
        }
        let (device, end) = (state.tokens.device(), (progress.block + 1) * self.block);
        let block = end - self.block..end;
        let asked = self.steps - 1 - progress.call.min(self.steps - 1);
        let answer = draw::ask(cx, state.tokens.clone().narrow(1, 0, end), asked, self.classes)?;
        let answer = answer.narrow(2, block.start, self.block);
        let key = self.key(&progress);
        let drawn = draw::draw(answer, self.sharpening, state, cx.noise, key)?;
        let any = match self.mask {
            Some(_) => Vec::new(),
            None => {
                let key = Key::step(key, REPLACEMENT);
                draw::anything(cx.noise, state.samples(), key, self.classes, self.block)?
            }
        };
        let mut tokens = host::tokens(&state.tokens)?;
        let candidates = host::tokens(&drawn.tokens)?;
        let confidence = host::numbers(drawn.log_chosen().exp())?;
        let mut accepted = vec![false; candidates.len()];
        for (row, accepted) in accepted.chunks_mut(self.block).enumerate() {
            let here = row * self.block..(row + 1) * self.block;
            let answer = Answer {
                drawn: &candidates[here.clone()],
                confidence: &confidence[here.clone()],
                any: any.get(here).unwrap_or_default(),
            };
            progress.refine(self, row, &mut tokens[row * positions..][..end], answer, accepted);
        }
        let reached = progress.next(self);
        state.memory = progress.write();
        Ok(Some(TokenStep {
            index: state.done,
            asked,
            reached,
            tokens: host::to_tokens(tokens, [batch, positions], &device),
            positions: block,
            log_p: drawn.log_p,
            drawn: drawn.tokens,
            accepted: host::to_flags(accepted, [batch, self.block], &device),
        }))
    }

    fn check_state(&self, state: &TokenState) -> bool {
        Progress::read(self, &state.memory, state.tokens.dims()[0]).is_some()
    }

    fn fingerprint(&self) -> u64 {
        let or_none = |count: Option<usize>| count.map_or(-1.0, |count| count as f64);
        let Sharpening { temperature, top_k, top_p } = self.sharpening;
        let counts = [self.classes, self.block, self.steps, self.minimal, self.prompt, self.post_steps];
        let numbers = [-4.0, or_none(self.mask), or_none(self.end), or_none(top_k), temperature, self.threshold];
        let rest = [top_p.unwrap_or(-1.0), self.editing.unwrap_or(-1.0)];
        let counts = counts.into_iter().map(|count| count as f64);
        crate::ode::fingerprint(numbers.into_iter().chain(rest).chain(counts))
    }
}
