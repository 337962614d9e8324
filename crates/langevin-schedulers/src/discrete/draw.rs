//! Drawing tokens from what a denoiser answers.

use super::TokenContext;
use super::TokenState;
use crate::sampler::SampleError;
use crate::solver::PlanError;
use burn::tensor::{DType, Int, Tensor, activation::log_softmax};
use langevin_core::discrete::{DiscreteError, gumbel_max};
use langevin_core::noise::{Domain, zeros};
use langevin_core::{GridError, Key, NoiseSource};
use std::ops::Range;

/// The draw of classes.
pub(super) const CLASS: u32 = 0;
/// The draw that decides between positions, or between ways.
pub(super) const DECISION: u32 = 1;
/// The draw of tokens that mean nothing.
pub(super) const REPLACEMENT: u32 = 2;

/// Makes a distribution sharper, or cuts off what is unlikely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sharpening {
    /// Log-probabilities are divided by it; 0 takes the likeliest class.
    pub temperature: f64,
    /// Only so many classes, the likeliest.
    pub top_k: Option<usize>,
    /// Only the likeliest classes that together have this probability.
    pub top_p: Option<f64>,
}

impl Sharpening {
    pub const fn temperature(temperature: f64) -> Self {
        Self { temperature, top_k: None, top_p: None }
    }
}

/// What was drawn.
pub(super) struct Drawn {
    /// Normalized log-probabilities, `[batch, classes, positions]`.
    pub log_p: Tensor<3>,
    /// Tokens drawn from them, `[batch, positions]`.
    pub tokens: Tensor<2, Int>,
}

impl Drawn {
    /// Log-probabilities of the tokens, `[batch, positions]`.
    pub fn log_chosen(&self) -> Tensor<2> {
        self.log_p.clone().gather(1, self.tokens.clone().unsqueeze_dim::<3>(1)).squeeze_dim(1)
    }
}

/// The denoiser's normalized log-probabilities in `f32` or wider.
pub(super) fn ask(
    cx: &TokenContext<'_>,
    tokens: Tensor<2, Int>,
    asked: usize,
    classes: usize,
) -> Result<Tensor<3>, SampleError> {
    let [batch, positions] = tokens.dims();
    let answer = cx.denoiser.log_clean(tokens, asked)?;
    let given = answer.dims();
    if given != [batch, classes, positions] {
        let expected = format!("[{batch}, {classes}, {positions}]: for each class and position");
        return Err(DiscreteError::Shape { what: "the denoiser's answer", given: given.to_vec(), expected }.into());
    }
    let answer = if answer.dtype() == DType::F64 { answer } else { answer.cast(DType::F32) };
    Ok(log_softmax(answer, 1))
}

/// Draws one class at each position. A temperature of 0 draws nothing, and leaves the log-probabilities as they are.
pub(super) fn draw(
    log_p: Tensor<3>,
    sharpening: Sharpening,
    state: &TokenState,
    noise: &dyn NoiseSource,
    index: u64,
) -> Result<Drawn, SampleError> {
    let [batch, classes, positions] = log_p.dims();
    let Sharpening { temperature, top_k, top_p } = sharpening;
    if temperature == 0.0 {
        let tokens = log_p.clone().argmax(1).reshape([batch, positions]);
        return Ok(Drawn { log_p, tokens });
    }
    let mut log_p = scaled(log_p, temperature);
    if let Some(k) = top_k.filter(|k| *k < classes) {
        let least = log_p.clone().sort_descending(1).narrow(1, k - 1, 1);
        log_p = from(log_p, least);
    }
    if let Some(p) = top_p.filter(|p| *p < 1.0) {
        let sorted = log_p.clone().sort_descending(1);
        let probabilities = sorted.clone().exp();
        let before = probabilities.clone().cumsum(1).sub(probabilities);
        // The first one stays, whatever rounding says.
        let beyond = before.greater_scalar(p);
        let least = sorted.mask_fill(beyond, f64::INFINITY).min_dim(1);
        log_p = from(log_p, least);
    }
    let tokens = gumbel_max(log_p.clone(), noise, state.first, Key::step(index, CLASS))?;
    Ok(Drawn { log_p, tokens })
}

/// Divided by a temperature and normalized. The largest becomes 0 first, so that no temperature overflows.
pub(super) fn scaled(log_p: Tensor<3>, temperature: f64) -> Tensor<3> {
    if temperature == 1.0 {
        return log_p;
    }
    let shape = log_p.dims();
    let most = log_p.clone().max_dim(1).expand(shape);
    // Smaller ones are 0 in `f32`.
    log_softmax(log_p.sub(most).div_scalar(temperature.max(1e-30)), 1)
}

/// Classes of at least this log-probability, normalized.
fn from(log_p: Tensor<3>, least: Tensor<3>) -> Tensor<3> {
    let cut = log_p.clone().lower(least.expand(log_p.dims()));
    log_softmax(log_p.mask_fill(cut, f64::NEG_INFINITY), 1)
}

/// Draw `n` of a step of training. The first lane is that of the noise of batches.
pub(super) const fn training(step: u64, n: u32) -> Key {
    Key { domain: Domain::Training, index: step, lane: n + 1 }
}

/// The numbers of a batch's samples.
pub(super) fn numbers(first: u64, rows: usize) -> Result<Range<u64>, SampleError> {
    let last = first.checked_add(rows as u64).ok_or(SampleError::SampleNumbers { first, rows })?;
    Ok(first..last)
}

/// Tokens of random classes, each as likely as any other.
pub(super) fn anything(
    noise: &dyn NoiseSource,
    samples: Range<u64>,
    key: Key,
    classes: usize,
    positions: usize,
) -> Result<Vec<i64>, SampleError> {
    let mut tokens = zeros(&samples, positions)?;
    let mut uniform = zeros(&(0..1), positions)?;
    for (sample, tokens) in samples.zip(tokens.chunks_mut(positions.max(1))) {
        noise.fill_uniform(sample, key, &mut uniform)?;
        let drawn = uniform.iter().map(|u| ((u * classes as f64) as i64).min(classes as i64 - 1));
        tokens.iter_mut().zip(drawn).for_each(|(token, drawn)| *token = drawn);
    }
    Ok(tokens)
}

/// Masks alone.
pub(super) fn masks(samples: Range<u64>, mask: usize, positions: usize) -> Result<Vec<i64>, SampleError> {
    let mut tokens = zeros(&samples, positions)?;
    tokens.fill(mask as i64);
    Ok(tokens)
}

/// A setting that must be as `fine` says.
pub(super) fn setting(
    solver: &'static str,
    setting: &'static str,
    given: f64,
    fine: bool,
    expected: &'static str,
) -> Result<(), PlanError> {
    if fine { Ok(()) } else { Err(PlanError::Setting { solver, setting, given, expected }) }
}

/// At least two classes and one step, and numbers of steps that can be multiplied.
pub(super) fn check_size(solver: &'static str, classes: usize, steps: usize) -> Result<(), PlanError> {
    setting(solver, "the number of classes", classes as f64, classes >= 2, "at least 2")?;
    setting(solver, "the number of steps", steps as f64, i32::try_from(steps).is_ok(), "a number below 2^31")?;
    if steps == 0 { Err(GridError::ZeroSteps.into()) } else { Ok(()) }
}

/// A temperature that may be 0.
pub(super) fn check_temperature(solver: &'static str, given: f64) -> Result<(), PlanError> {
    setting(solver, "the temperature", given, given >= 0.0 && given.is_finite(), "a finite number, at least 0")
}

/// A mask is a number of 32 bits, which tensors of whole numbers hold on every device.
pub(super) fn check_mask(solver: &'static str, mask: usize) -> Result<(), PlanError> {
    setting(solver, "the mask", mask as f64, i32::try_from(mask).is_ok(), "a token: a number below 2^31")
}
