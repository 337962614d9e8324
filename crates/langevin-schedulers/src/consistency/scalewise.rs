//! Samples that grow from step to step.

use super::Resize;
use crate::plan::{Coef, Draw, Memory, Plan, Reg, Row, Src};
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use crate::solver::PlanError;
use langevin_core::{Denoiser, Key, Level, Levels, noise};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NAME: &str = "scale-wise sampling";

/// Few-step sampling that begins small: after each step but the last x̂_0 is resized, and noise is added at the new size.
///
/// The first steps, of which noise hides all but the coarse, are taken where they cost little. It goes over any plan of a solver
/// that jumps to data and adds all noise anew, [`Multistep`](super::Multistep) or [`Lcm`](super::Lcm), on any process and
/// grid, and needs a network that was distilled for it.
///
/// Factors are those of each step but the last: after step k the sides are the first ones times `factors[k]`, rounded (half to
/// even); 1 is the size that the run starts with. So a run is started at the smallest size, and a batch of shape
/// `[batch, channels, sides..]` ends at that times the last factor. Noise of step k has the values that any run of the plan
/// at that size has.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{Grid, Load, Prediction, denoiser, grid::End, noise::Seeded, process::RectifiedFlow};
/// use langevin_schedulers::consistency::{Multistep, Resize, Scalewise};
/// use langevin_schedulers::{SamplerExt, Solver};
///
/// let plan = Multistep::new().plan(&RectifiedFlow::new(), &Grid::uniform(4).ending(End::Range))?;
/// let sampler = Scalewise::over(plan, vec![1.25, 1.5, 2.0])?.by(Resize::Bilinear);
/// let denoiser = denoiser::from_fn(Prediction::Sample, |x: Tensor<4>, _levels| Ok(x.tanh()));
/// let noise = Seeded::new(42);
/// let run = sampler.start([1, 4, 32, 32], &denoiser, &noise, Load::on(&Device::flex()))?;
/// let sides: Vec<_> = run.map(|step| Ok(step?.x.dims()[3])).collect::<Result<_, langevin_schedulers::SampleError>>()?;
/// assert_eq!(sides, [40, 48, 64, 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Runs fail with [`SampleError::ResizedRank`] where the samples have dimensions that the [`Resize`] is not for,
/// [`SampleError::ResizedSide`] where a side becomes nothing or too long, and [`SampleError::Unsupported`] for denoisers with
/// memory, whose answers before have other sizes.
///
/// # References
/// Starodubcev et al. 2025, "Scale-wise distillation of diffusion models".
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct Scalewise {
    settings: Settings,
    jumps: Vec<Jump>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    plan: Plan,
    factors: Vec<f64>,
    #[serde(default)]
    resize: Resize,
}

/// A step, as `x' = of_x·x + of_x0·x̂_0 + of_noise·z`.
#[derive(Clone, Copy, Debug)]
struct Jump {
    at: Level,
    of_x: f64,
    of_x0: f64,
    of_noise: f64,
    lane: u8,
}

/// The longest side.
const LONGEST: usize = 1 << 16;

/// How much of the old noise a state may keep that is resized, in parts of the noise that is added.
const KEPT: f64 = 0.01;

impl TryFrom<Settings> for Scalewise {
    type Error = PlanError;

    fn try_from(settings: Settings) -> Result<Self, PlanError> {
        let Settings { plan, factors, .. } = &settings;
        let setting = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
        if factors.is_empty() {
            return setting("number of scale factors", 0.0, "at least 1; without any, run the plan itself");
        }
        if let Some(factor) = factors.iter().find(|factor| !(**factor > 0.0 && factor.is_finite())) {
            return setting("scale factor", *factor, "a positive number");
        }
        if factors.len() + 1 != plan.steps() {
            let expected = "one for each step of the plan but the last";
            return setting("number of scale factors", factors.len() as f64, expected);
        }
        let jump = |(index, row)| Jump::of(row, index + 1 < plan.rows().len());
        let jumps = plan.rows().iter().enumerate().map(jump).collect::<Result<_, _>>();
        let refused = |reason| PlanError::Combination { first: NAME.into(), second: plan.name().into(), reason };
        let jumps = jumps.map_err(refused)?;
        Ok(Self { settings, jumps })
    }
}

impl From<Scalewise> for Settings {
    fn from(sampler: Scalewise) -> Self {
        sampler.settings
    }
}

impl Jump {
    /// What a row does; `resized`, if its end is.
    fn of(row: &Row, resized: bool) -> Result<Self, &'static str> {
        let form = "its steps are more than one question, a jump to data, and white noise; take Multistep or Lcm";
        let (Some(eval), Some(_), []) = (row.eval, row.step, &row.pre[..]) else { return Err(form) };
        let (to, lane) = match row.draws[..] {
            [] => (None, 0),
            [Draw::White { to, lane }] => (Some(to), lane),
            _ => return Err(form),
        };
        // Of x, x̂_0 and noise.
        let mut registers: BTreeMap<Reg, [f64; 3]> = BTreeMap::from([(0, [1.0, 0.0, 0.0])]);
        for set in &row.post {
            let mut sum = [0.0; 3];
            for term in &set.sum {
                let parts = match term.of {
                    Src::X(register) => registers.get(&register).copied(),
                    Src::X0(slot) if slot == eval.into => Some([0.0, 1.0, 0.0]),
                    Src::Z(register) if to == Some(register) => Some([0.0, 0.0, 1.0]),
                    _ => None,
                };
                let (Coef::C(factor), Some(parts), None) = (term.c, parts, set.mask) else { return Err(form) };
                sum.iter_mut().zip(parts).for_each(|(sum, part)| *sum += factor * part);
            }
            registers.insert(set.to, sum);
        }
        let [of_x, of_x0, of_noise] = registers[&0];
        if eval.x != 0 {
            return Err(form);
        }
        if resized && !((of_x * eval.at.sigma).abs() <= KEPT * of_noise.abs()) {
            return Err(
                "a step keeps noise of the state before, and resized noise is no longer white; take a solver that \
                        adds all noise anew, Multistep or Lcm",
            );
        }
        Ok(Self { at: eval.at, of_x, of_x0, of_noise, lane })
    }
}

impl Scalewise {
    /// Over a plan, with a factor for each of its steps but the last, resized by [`Resize::Bicubic`].
    ///
    /// # Errors
    /// [`PlanError::Setting`] for factors that are not positive and finite, for none, and for another number of them;
    /// [`PlanError::Combination`] for plans whose steps keep noise, or are more than a jump and noise.
    pub fn over(plan: Plan, factors: Vec<f64>) -> Result<Self, PlanError> {
        Settings { plan, factors, resize: Resize::default() }.try_into()
    }

    /// Resized another way.
    pub fn by(mut self, resize: Resize) -> Self {
        self.settings.resize = resize;
        self
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Plan {
        &self.settings.plan
    }

    /// The sides after a step, of those that the run started with.
    fn sides(&self, step: usize, first: &[f64]) -> Result<Option<Vec<usize>>, SampleError> {
        let Some(factor) = self.settings.factors.get(step) else { return Ok(None) };
        let side = |first: &f64| {
            let side = (factor * first).round_ties_even();
            if side >= 1.0 && side <= LONGEST as f64 {
                return Ok(side as usize);
            }
            Err(SampleError::ResizedSide { step, side: *first as usize, factor: *factor, longest: LONGEST })
        };
        first.iter().map(side).collect::<Result<_, _>>().map(Some)
    }
}

/// A shape with other sides.
fn resized<const D: usize>(dims: [usize; D], sides: &[usize]) -> [usize; D] {
    let mut dims = dims;
    dims[2..].copy_from_slice(sides);
    dims
}

impl<const D: usize> Sampler<D> for Scalewise {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let row = state.row();
        let (Some(jump), Some(after)) = (self.jumps.get(row), self.plan().rows().get(row).map(|row| row.after)) else {
            return Ok(None);
        };
        let resize = self.settings.resize;
        if !resize.dimensions().contains(&D) {
            let expected = resize.dimensions_in_words();
            return Err(SampleError::ResizedRank { resize: resize.name(), expected, given: D });
        }
        self.check_denoiser(cx.denoiser, &state.x().dims())?;
        let x = state.x();
        if row == 0 {
            state.numbers = x.dims()[2..].iter().map(|side| *side as f64).collect();
        }
        if state.numbers.len() + 2 != D {
            return Err(SampleError::Incomplete { row });
        }
        // Before anything is asked, whether all sizes to come can be.
        for step in row..self.settings.factors.len() {
            if let Some(sides) = self.sides(step, &state.numbers)? {
                cx.denoiser.check(&resized(x.dims(), &sides))?;
            }
        }
        let x0 = cx.ask(state, x.clone(), &Levels::Shared(jump.at))?.x0()?;
        let mut next = x0.clone().mul_scalar(jump.of_x0);
        if jump.of_x != 0.0 {
            next = next.add(x.mul_scalar(jump.of_x));
        }
        if let Some(sides) = self.sides(row, &state.numbers)? {
            next = resize.apply(next, &sides);
        }
        if jump.of_noise != 0.0 {
            let key = Key::step(row as u64, u32::from(jump.lane));
            next = next.clone().add(noise::like(cx.noise, &next, state.first_sample(), key)?.mul_scalar(jump.of_noise));
        }
        state.commit(row + 1, Memory::new(next));
        Ok(Some(state.step(Levels::Shared(after.level), Some(x0))))
    }

    fn start_levels(&self) -> Levels {
        Sampler::<D>::start_levels(self.plan())
    }

    fn prior_std(&self) -> f64 {
        self.plan().prior_deviation()
    }

    fn name(&self) -> String {
        NAME.into()
    }

    fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, _: &[usize]) -> Result<(), SampleError> {
        if denoiser.memory() > 0 {
            let (what, advice) = ("a denoiser with memory", "what it remembers has other sizes; run the plan itself");
            return Err(SampleError::Unsupported { sampler: NAME, what, advice });
        }
        Ok(())
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.plan().steps())
    }

    fn takes_split(&self) -> bool {
        Sampler::<D>::takes_split(self.plan())
    }

    fn zero_terminal_snr(&self) -> bool {
        self.plan().has_zero_terminal_snr()
    }

    fn fingerprint(&self) -> u64 {
        let resize = Resize::ALL.iter().position(|other| *other == self.settings.resize);
        let settings = self.settings.factors.iter().copied().chain(resize.map(|resize| resize as f64));
        self.plan().fingerprint() ^ crate::ode::fingerprint(settings).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
