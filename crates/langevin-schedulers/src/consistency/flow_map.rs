//! Networks that are told where a step ends.

use crate::plan::{Coef, Plan, Row, Src};
use crate::sigma::node_at_lambda;
use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::{DenoiseError, Denoiser, Estimate, Level, Levels, Prediction, Process, denoiser::Query};

const NAME: &str = "flow map";

/// A network that is told where a step ends, beside where it begins, and was trained to get there at once: MeanFlow, consistency
/// trajectory models, AnyFlow.
///
/// Its answer is in a [`prediction`](Self::prediction) as that of other networks, but says where the straight line leads that
/// ends in the right place: `x_r = α_r·x̂_0 + σ_r·ε̂`. In terms of a mean velocity, which is [`Prediction::Flow`], on a flow
/// `x_r = x_t − (t − r)·u(x_t, t, r)`, and on every process the same in `x/(α + σ)` over `σ/(α + σ)`. A consistency trajectory model
/// (`G = (s/t)·x + (1 − s/t)·g`) answers g, in [`Prediction::Sample`].
///
/// [`Along`] makes a denoiser of it; [`map_fn`] makes one of a closure.
///
/// # References
/// Geng et al. 2025, "Mean flows for one-step generative modeling", eq. 3 and 12; Kim et al. 2024, "Consistency trajectory
/// models", eq. 7.
pub trait FlowMap<const D: usize>: Send + Sync {
    /// The answer for the states `x`, `[batch, ..]`, on the way from one level to another, in the shape of `x`. What the network
    /// is told are the two levels' times.
    ///
    /// # Errors
    /// [`DenoiseError`]: wrong shapes or conditions, or a failure inside a network.
    fn answer(&self, x: Tensor<D>, from: &Level, to: &Level) -> Result<Tensor<D>, DenoiseError>;

    /// What the answer is; a mean velocity unless said otherwise.
    fn prediction(&self) -> Prediction {
        Prediction::Flow
    }

    /// Checks a batch's shape, `[batch, ..]`, before a run starts.
    ///
    /// # Errors
    /// [`DenoiseError`] if states of this shape could not be answered.
    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        let _ = shape;
        Ok(())
    }
}

impl<const D: usize, T: FlowMap<D> + ?Sized> FlowMap<D> for &T {
    fn answer(&self, x: Tensor<D>, from: &Level, to: &Level) -> Result<Tensor<D>, DenoiseError> {
        (**self).answer(x, from, to)
    }
    fn prediction(&self) -> Prediction {
        (**self).prediction()
    }
    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        (**self).check(shape)
    }
}

/// A flow map from a function of (states, begin, end) that returns the answer in `prediction`, both `[batch, ..]`.
pub fn map_fn<const D: usize, F>(prediction: Prediction, f: F) -> MapFn<F>
where
    F: Fn(Tensor<D>, &Level, &Level) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    MapFn { prediction, f }
}

/// A closure as a flow map; made by [`map_fn`].
#[derive(Clone, Debug)]
pub struct MapFn<F> {
    prediction: Prediction,
    f: F,
}

impl<const D: usize, F> FlowMap<D> for MapFn<F>
where
    F: Fn(Tensor<D>, &Level, &Level) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    fn answer(&self, x: Tensor<D>, from: &Level, to: &Level) -> Result<Tensor<D>, DenoiseError> {
        (self.f)(x, from, to)
    }
    fn prediction(&self) -> Prediction {
        self.prediction
    }
}

/// A [`FlowMap`] along a plan: a denoiser that tells the network, at each level that the plan asks about, where the plan's step goes.
///
/// The plan is one of a solver whose steps are one question and a straight line, [`Euler`](crate::sigma::Euler) or
/// [`Ddim`](crate::Ddim), in any number of steps, since every jump is good by itself. With noise the network is told the level
/// below, from which noise leads up again: [`EulerAncestral`](crate::sigma::EulerAncestral) is the γ-sampling of consistency
/// trajectory models, [`Multistep`](super::Multistep) jumps to data each time, as with a consistency model. Guidance and
/// other combinators go around it as around any denoiser, but it is for this plan alone: another that asks about the same levels,
/// as one of Heun does, would be answered for these steps. x̂_0 of a step is the end of its line, and that of data only if the
/// step goes there.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{Grid, Level, Load, Prediction, grid::End, noise::Seeded, process::RectifiedFlow};
/// use langevin_schedulers::consistency::{Along, map_fn};
/// use langevin_schedulers::{SamplerExt, Solver, sigma::Euler};
///
/// // Of data that is 0.7 everywhere: the same velocity all the way.
/// let map = map_fn(Prediction::Flow, |x: Tensor<2>, from: &Level, _to: &Level| Ok(x.sub_scalar(0.7).div_scalar(from.sigma)));
/// let flow = RectifiedFlow::new();
/// let plan = Euler::new().plan(&flow, &Grid::uniform(2).ending(End::Range))?;
/// let denoiser = Along::new(map, &flow, &plan)?;
/// let x = plan.start([3, 4], &denoiser, &Seeded::new(1), Load::on(&Device::flex()))?.finish()?;
/// let off: f32 = x.sub_scalar(0.7).abs().max().into_scalar();
/// assert!(off < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Along<M> {
    map: M,
    /// What is asked about, and where the step goes.
    ways: Vec<(Level, Level)>,
}

impl<M> Along<M> {
    /// A flow map along a plan on a process.
    ///
    /// # Errors
    /// [`PlanError::Combination`] for plans whose steps are not one question and a line from there, whose lines miss the level of
    /// their step though no noise leads there, or that ask at one level for two ends; [`PlanError::Singular`] where a way down ends beyond the process.
    pub fn new(map: M, process: &dyn Process, plan: &Plan) -> Result<Self, PlanError> {
        let refused = |reason| PlanError::Combination { first: NAME.into(), second: plan.name().into(), reason };
        if plan.needs_split() {
            return Err(refused("the two answers of CFG++ are not those of one way"));
        }
        let mut ways: Vec<(Level, Level)> = Vec::with_capacity(plan.steps());
        for row in plan.rows().iter().filter(|row| row.eval.is_some()) {
            let way = way(row, process)?.ok_or_else(|| {
                refused(
                    "its steps are more than one question and a line from there to a level; take Euler, DDIM or Euler \
                     ancestral",
                )
            })?;
            match ways.iter().find(|(from, _)| *from == way.0) {
                Some((_, to)) if *to != way.1 => {
                    return Err(refused("it asks at one level for ways to two"));
                }
                Some(_) => {}
                None => ways.push(way),
            }
        }
        Ok(Self { map, ways })
    }
}

/// Where a row asks, and where its line goes before noise; none if it has another form.
fn way(row: &Row, process: &dyn Process) -> Result<Option<(Level, Level)>, PlanError> {
    let (Some(eval), [], [set]) = (row.eval, &row.pre[..], &row.post[..]) else { return Ok(None) };
    if eval.x != 0 || set.to != 0 || set.mask.is_some() || row.step.is_none() {
        return Ok(None);
    }
    let (mut alpha, mut sigma, mut noisy) = (0.0, 0.0, false);
    for term in &set.sum {
        let Coef::C(factor) = term.c else { return Ok(None) };
        match term.of {
            Src::X0(slot) if slot == eval.into => alpha += factor,
            Src::Eps(slot) if slot == eval.into => sigma += factor,
            Src::Z(_) => noisy |= factor != 0.0,
            _ => return Ok(None),
        }
    }
    let after = row.after.level;
    // One and the same up to rounding.
    if (alpha * after.sigma - sigma * after.alpha).abs() <= 1e-9 * (alpha * after.sigma).abs() {
        return Ok(Some((eval.at, after)));
    }
    // A line that ends elsewhere must have noise to lead on from there, and a level to end at.
    if !(noisy && alpha > 0.0 && sigma >= 0.0) {
        return Ok(None);
    }
    if sigma == 0.0 {
        let clean = process.time_range().0;
        return Ok(Some((eval.at, Level { alpha, sigma, time: process.network_time(clean) })));
    }
    let down = node_at_lambda(NAME, process, libm::log(alpha) - libm::log(sigma))?;
    Ok(Some((eval.at, down.level)))
}

impl<const D: usize, M: FlowMap<D>> Denoiser<D> for Along<M> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let refused = |second| {
            let reason = "its network is told where a step ends, and knows only the levels of the plan it was made for: run that";
            Err(DenoiseError::Combination { first: "a flow map along a plan", second, reason })
        };
        let Levels::Shared(level) = query.levels else { return refused("a level for each sample") };
        let Some((from, to)) = self.ways.iter().find(|(from, _)| from == level) else {
            return refused("a question at a level that its plan does not ask about");
        };
        let output = self.map.answer(query.x.clone(), from, to)?;
        if output.dims() != query.x.dims() {
            return Err(DenoiseError::Shape {
                what: "the flow map's answer".into(),
                given: output.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", query.x.dims()),
            });
        }
        Ok(Estimate::new(query.x, output, query.levels.clone(), self.map.prediction()))
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.map.check(shape)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
