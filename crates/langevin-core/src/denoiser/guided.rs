//! Guidance: away from one answer, towards another.

use super::combine::{dot, extrapolate, keep_parts, rows, select, with_output};
use super::each::in_one_call;
use super::estimate::in_f32;
use super::{Answers, DenoiseError, Denoiser, Estimate, Projection, Query};
use crate::level::{Level, Levels, Scalars};
use crate::noise::NoiseSource;
use crate::prediction::Prediction;
use burn::tensor::Tensor;
use std::sync::Arc;

/// Guidance `without + scale·(with − without)`: away from the answer `without`, towards and beyond `with`. Scale 1 is
/// `with` alone.
///
/// Made by [`Bound::guided`](super::Bound::guided) (classifier-free guidance: without and with the condition, one network
/// call) and [`DenoiserExt::autoguided`](super::DenoiserExt::autoguided) (a worse and a better network). What follows
/// in a chain says how; [`projected`](Self::projected), [`zero_star`](Self::zero_star) and [`plus_plus`](Self::plus_plus)
/// exclude each other.
///
/// A plain sum is the same on outputs, x̂_0 or ε̂. What is not linear says what it works on. Where nothing is guided (outside
/// [`between`](Self::between), at scale 1) only `with` is asked. A learned variance is the one of `with`: extrapolating it
/// has no meaning.
///
/// ```
/// # use burn::tensor::Tensor;
/// # use langevin_core::{DenoiseError, Network, Prediction};
/// # #[derive(Clone)]
/// # struct Net;
/// # impl Network<2> for Net {
/// #     type Cond = ();
/// #     fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> { Ok(x) }
/// #     fn for_sampling(&self) -> Self { Net }
/// # }
/// # let (net, cond, uncond) = (Net, (), ());
/// let denoiser = net.denoiser(Prediction::Velocity, cond)?.guided(uncond, 7.5)?.rescaled(0.7)?.between(0.3, 5.0)?;
/// # Ok::<(), DenoiseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Guided<A> {
    answers: A,
    scale: f64,
    schedule: Option<Schedule>,
    interval: Option<(f64, f64)>,
    rescale: f64,
    rule: Rule,
}

#[derive(Clone)]
struct Schedule(Arc<dyn Fn(&Level) -> f64 + Send + Sync>);

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schedule(..)")
    }
}

/// How the two answers become one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    Plain,
    Projected(Projection),
    ZeroStar { still: usize },
    PlusPlus,
}

impl Rule {
    fn name(&self) -> &'static str {
        match self {
            Rule::Plain => "plain guidance",
            Rule::Projected(_) => "projected guidance",
            Rule::ZeroStar { .. } => "CFG-Zero*",
            Rule::PlusPlus => "CFG++",
        }
    }
}

/// Why what works on outputs refuses answers that are not theirs.
const ON_OUTPUTS: &str = "it works on outputs, which know nothing of that; guide first, threshold afterwards";

/// The numbers of the two answers.
const WITHOUT: usize = 0;
const WITH: usize = 1;

impl<A> Guided<A> {
    pub(super) fn new(answers: A, scale: f64) -> Result<Self, DenoiseError> {
        if !scale.is_finite() {
            return Err(DenoiseError::Setting { setting: "guidance scale", given: scale, expected: "a finite number" });
        }
        Ok(Self { answers, scale, schedule: None, interval: None, rescale: 0.0, rule: Rule::Plain })
    }

    /// Brings the standard deviation of a sample's guided output back to that of the conditional one, for the share `phi`:
    /// `φ·guided·std(with)/std(guided) + (1 − φ)·guided` (Lin et al. 2023, equations 15 and 16; φ = 0.7 there). It works
    /// on the network's output, so predictions differ; the paper's is v. An output that is constant has no deviation to
    /// bring back and stays.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless φ is in [0, 1].
    pub fn rescaled(mut self, phi: f64) -> Result<Self, DenoiseError> {
        if !(0.0..=1.0).contains(&phi) {
            let setting = "rescaling of guidance";
            return Err(DenoiseError::Setting { setting, given: phi, expected: "a number in [0, 1]" });
        }
        self.rescale = phi;
        Ok(self)
    }

    /// Guides only where `low < σ/α <= high`; elsewhere the conditional answer is asked alone, without the doubled batch
    /// (Kynkäänniemi et al. 2024, whose σ is σ/α here). `high` may be infinite.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless `0 <= low < high`.
    pub fn between(mut self, low: f64, high: f64) -> Result<Self, DenoiseError> {
        if !(low >= 0.0 && low.is_finite()) {
            let (setting, expected) =
                ("lower end of the guidance interval", "σ/α of a level: a finite number, 0 or more");
            return Err(DenoiseError::Setting { setting, given: low, expected });
        }
        if !(high > low) {
            let (setting, expected) = ("upper end of the guidance interval", "a number above the lower end");
            return Err(DenoiseError::Setting { setting, given: high, expected });
        }
        self.interval = Some((low, high));
        Ok(self)
    }

    /// Guides with the scale `1 + (scale − 1)·factor(level)`: all of it where the factor is 1, not at all where it is 0.
    /// A factor that is not finite is an error when it is met.
    pub fn scheduled(mut self, factor: impl Fn(&Level) -> f64 + Send + Sync + 'static) -> Self {
        self.schedule = Some(Schedule(Arc::new(factor)));
        self
    }

    /// Adaptive projected guidance (Sadat et al. 2024): see [`Projection`].
    ///
    /// # Errors
    /// [`DenoiseError::Combination`] with CFG-Zero* or CFG++.
    pub fn projected(self, projection: Projection) -> Result<Self, DenoiseError> {
        self.ruled(Rule::Projected(projection))
    }

    /// CFG-Zero* (Fan et al. 2025), for flow and velocity networks: the unconditional output is scaled by
    /// `s* = ⟨with, without⟩/|without|²` of each sample before it is led away from, and in the first `still` evaluations of
    /// a run the output is 0, so that the sample stands still (4% of the steps in the paper; 0 for none).
    ///
    /// # Errors
    /// [`DenoiseError::Combination`] with projected guidance or CFG++.
    pub fn zero_star(self, still: usize) -> Result<Self, DenoiseError> {
        self.ruled(Rule::ZeroStar { still })
    }

    /// CFG++ (Chung et al. 2024): x̂_0 is guided, and the noise that goes on top is the unconditional ε̂. The scale is the
    /// paper's λ, between 0 and 1.
    ///
    /// x̂_0 and ε̂ then belong to different questions, so it takes a sampler that goes on from the two alone, such as DDIM;
    /// runs of others end with an error before they start.
    ///
    /// # Errors
    /// [`DenoiseError::Combination`] with projected guidance or CFG-Zero*.
    pub fn plus_plus(self) -> Result<Self, DenoiseError> {
        self.ruled(Rule::PlusPlus)
    }

    fn ruled(mut self, rule: Rule) -> Result<Self, DenoiseError> {
        if self.rule != Rule::Plain {
            return Err(DenoiseError::Combination {
                first: self.rule.name(),
                second: rule.name(),
                reason: "each says how the two answers become one; leave one of them out",
            });
        }
        self.rule = rule;
        Ok(self)
    }

    /// The scale at a level, `None` where nothing is guided.
    fn scale_at(&self, level: &Level) -> Result<Option<f64>, DenoiseError> {
        let ratio = level.sigma / level.alpha;
        if self.interval.is_some_and(|(low, high)| !(ratio > low && ratio <= high)) {
            return Ok(None);
        }
        let factor = self.schedule.as_ref().map_or(1.0, |schedule| (schedule.0)(level));
        if !factor.is_finite() {
            let (setting, expected) = ("factor of a guidance schedule", "a finite number");
            return Err(DenoiseError::Setting { setting, given: factor, expected });
        }
        let scale = if factor == 1.0 { self.scale } else { 1.0 + (self.scale - 1.0) * factor };
        // CFG++ at scale 1 still has the unconditional noise.
        let none = factor == 0.0 || (scale == 1.0 && self.rule != Rule::PlusPlus);
        Ok((!none).then_some(scale))
    }

    fn scales(&self, levels: &Levels) -> Result<Vec<Option<f64>>, DenoiseError> {
        match levels {
            Levels::Shared(level) => Ok(vec![self.scale_at(level)?]),
            Levels::Each(levels) => levels.iter().map(|level| self.scale_at(level)).collect(),
        }
    }

    /// What is not linear in the answers, and works on outputs.
    fn on_outputs(&self) -> Option<&'static str> {
        match self.rule {
            Rule::ZeroStar { .. } => Some(self.rule.name()),
            Rule::Projected(projection) if projection.is_on_outputs() => Some("projected guidance of outputs"),
            _ if self.rescale > 0.0 => Some("rescaled guidance"),
            _ => None,
        }
    }

    fn combine<const D: usize>(
        &self,
        without: &Estimate<D>,
        with: &Estimate<D>,
        scale: &Scalars,
        past: &[Estimate<D>],
    ) -> Result<Estimate<D>, DenoiseError> {
        if let Some(first) = self.on_outputs().filter(|_| without.is_replaced() || with.is_replaced()) {
            return Err(DenoiseError::Combination {
                first,
                second: "answers whose x̂_0 or ε̂ was replaced",
                reason: ON_OUTPUTS,
            });
        }
        let guided = match self.rule {
            Rule::Plain | Rule::PlusPlus => extrapolate(without, &[(scale.clone(), with)])?,
            Rule::Projected(projection) => projection.guide(without, with, scale, past)?,
            Rule::ZeroStar { .. } => zero_star(without, with, scale)?,
        };
        let guided = if self.rescale > 0.0 { rescale(guided, with, self.rescale)? } else { guided };
        let guided = if self.rule == Rule::PlusPlus { without.clone().with_x0(guided.x0()?) } else { guided };
        Ok(match with.variance() {
            Ok(variance) => guided.with_variance(variance),
            Err(_) => guided,
        })
    }
}

/// `s*·without + scale·(with − s*·without)`, where s* is the projection of one output on the other.
fn zero_star<const D: usize>(
    without: &Estimate<D>,
    with: &Estimate<D>,
    scale: &Scalars,
) -> Result<Estimate<D>, DenoiseError> {
    /// Keeps an output of zeros from dividing by 0, as published.
    const TINY: f64 = 1e-8;
    let cond = with.output();
    let uncond = without.output_as(with.prediction())?;
    let share = dot(&cond, &uncond).div(dot(&uncond, &uncond).add_scalar(TINY));
    let base = in_f32(uncond, |uncond| uncond.mul(share));
    Ok(with_output(with, base.clone().add(scale.times(cond.sub(base)))))
}

/// The output with the deviation of the conditional one, mixed with what it was.
fn rescale<const D: usize>(guided: Estimate<D>, with: &Estimate<D>, phi: f64) -> Result<Estimate<D>, DenoiseError> {
    // With where it is 0: a root has no slope there, and gradients would be NaN.
    let deviation = |output: &Tensor<D>| {
        let dims = output.dims();
        let numel: usize = dims[1..].iter().product();
        let ones = output.ones_like();
        let mean = dot(output, &ones).div_scalar(numel as f64);
        let centered = in_f32(output.clone(), |output| output.sub(mean.clone()));
        let squares = dot(&centered, &centered);
        let constant = squares.clone().equal_elem(0.0);
        (squares.mask_fill(constant.clone(), 1.0).sqrt(), constant)
    };
    let output = guided.output();
    let (of_with, still) = deviation(&with.output_as(guided.prediction())?);
    let (of_guided, constant) = deviation(&output);
    let ratio = of_with.mask_fill(still, 0.0).div(of_guided).mask_fill(constant, 1.0);
    let factor = ratio.mul_scalar(phi).add_scalar(1.0 - phi);
    let rescaled = with_output(&guided, in_f32(output, |output| output.mul(factor)));
    Ok(guided
        .parts()
        .kept
        .iter()
        .fold(rescaled, |estimate, (name, value)| estimate.keeping(name.clone(), value.clone())))
}

/// The output 0 of a flow or velocity network, with which a sample stands still.
fn standing_still<const D: usize>(estimate: &Estimate<D>) -> Result<Estimate<D>, DenoiseError> {
    if !matches!(estimate.prediction(), Prediction::Flow | Prediction::Velocity) {
        return Err(DenoiseError::Combination {
            first: "CFG-Zero* with still first evaluations",
            second: "a network that predicts neither flow nor velocity",
            reason: "an output of 0 stands still for those two alone; use `zero_star(0)`",
        });
    }
    // A product, so that gradients go through it: x̂_0 depends on the state.
    Ok(with_output(estimate, estimate.output().mul_scalar(0.0)))
}

impl<const D: usize, A: Answers<D>> Denoiser<D> for Guided<A> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let (past, levels) = (query.past, query.levels);
        let still = matches!(self.rule, Rule::ZeroStar { still } if past.len() < still);
        let scales = self.scales(levels)?;
        if still || scales.iter().all(Option::is_none) {
            let answers = self.answers.answers(&[WITH], query)?;
            let estimate = if still { standing_still(&answers[0])? } else { answers[0].clone() };
            return Ok(keep_parts(estimate, past, &[(WITH, &answers[0])]));
        }
        let answers = self.answers.answers(&[WITHOUT, WITH], query)?;
        let (without, with) = (&answers[0], &answers[1]);
        let weight = match scales[0] {
            Some(scale) if scales.iter().all(|other| *other == Some(scale)) => Scalars::Shared(scale),
            _ => Scalars::Each(scales.iter().map(|scale| scale.unwrap_or(1.0)).collect()),
        };
        let guided = self.combine(without, with, &weight, past)?;
        let chosen: Vec<bool> = scales.iter().map(Option::is_some).collect();
        let all = chosen.iter().all(|chosen| *chosen);
        let estimate = if all { guided.clone() } else { select(&chosen, &guided, with)? };
        let mut kept = keep_parts(estimate, past, &[(WITHOUT, without), (WITH, with)]);
        for (name, value) in guided.parts().kept {
            // Samples that are not guided here keep what they had.
            let value = match kept.kept(name) {
                Some(before) if !all => rows(&chosen, value.clone(), before),
                None if !all => rows(&chosen, value.clone(), value.zeros_like()),
                _ => value.clone(),
            };
            kept = kept.keeping(name.clone(), value);
        }
        Ok(kept)
    }

    fn denoise_each(
        &self,
        states: &[Tensor<D>],
        levels: &[Level],
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Estimate<D>>, DenoiseError> {
        in_one_call(self, states, levels, noise)
    }

    fn memory(&self) -> usize {
        let own = match self.rule {
            Rule::Projected(projection) => projection.memory(),
            Rule::ZeroStar { still } => still,
            Rule::Plain | Rule::PlusPlus => 0,
        };
        own.max(self.answers.memory())
    }

    fn is_split(&self) -> bool {
        self.rule == Rule::PlusPlus || self.answers.is_split()
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        self.answers.beyond_autodiff()
    }

    fn beyond_output(&self) -> Option<&'static str> {
        match self.rule {
            Rule::PlusPlus => Some(self.rule.name()),
            _ => self.answers.beyond_output(),
        }
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        self.answers.beyond_eps()
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        if let (Some(first), Some(second)) = (self.on_outputs(), self.answers.beyond_output()) {
            return Err(DenoiseError::Combination { first, second, reason: ON_OUTPUTS });
        }
        self.answers.check(shape)
    }
}

#[cfg(test)]
mod tests;
