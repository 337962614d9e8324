//! HeliosScheduler and HeliosDMDScheduler: samples that pass through stages of growing size.

mod entry;
#[cfg(test)]
mod tests;

pub use entry::StageEntry;

use super::multistep::unipc;
use super::shift::shifted;
use super::{ConfigError, keys::Keys};
use crate::exponential::{Basis, UniPc};
use crate::plan::{Eval, Plan, Row, Set, Src, Term};
use crate::sigma::Euler;
use crate::solver::{PlanError, Solver};
use langevin_core::grid::{End, Stop};
use langevin_core::process::RectifiedFlow;
use langevin_core::{Grid, Level, Prediction, Process};

/// Classes that [`helios_from_config`] reads.
pub const HELIOS_CLASSES: [&str; 2] = ["HeliosScheduler", "HeliosDMDScheduler"];

/// A scheduler of stages, read from its configuration.
///
/// Each stage is a run of its own, over sigmas that begin anew at 0.999 while the network is told times of its part of the whole
/// range. Between two of them [`StageEntry::enter`] enlarges the samples and adds noise:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{Denoiser, Key, Load, NoiseSource, denoiser::from_fn, noise::Seeded};
/// use langevin_schedulers::{SamplerExt, diffusers::helios_from_config};
///
/// let helios = helios_from_config(r#"{"_class_name": "HeliosScheduler"}"#)?;
/// let denoiser = from_fn(helios.prediction(), |x: Tensor<4>, _levels| Ok(x.mul_scalar(0.1)));
/// let noise = Seeded::new(42);
/// let mut x: Tensor<4> = noise.normal(0..1, Key::INITIAL, 4 * 8 * 8, Load::on(&Device::flex()).options())?.reshape([1, 4, 8, 8]);
/// for (stage, steps) in [4, 3, 2].into_iter().enumerate() {
///     if let Some(entry) = helios.entry(stage)? {
///         x = entry.enter(x, &noise, 0)?;
///     }
///     x = helios.plan(stage, steps, None)?.start_from(0, x, &denoiser, &noise)?.finish()?;
/// }
/// assert_eq!(x.dims(), [1, 4, 32, 32]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Jin et al. 2024, "Pyramidal flow matching for efficient video generative modeling", section 3.2; the code of Helios in diffusers.
#[derive(Clone, Debug)]
pub struct Helios {
    class: String,
    process: RectifiedFlow,
    /// Steps of training.
    steps: usize,
    shift: Shift,
    gamma: f64,
    stages: Vec<Stage>,
    method: Method,
}

/// One stage.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stage {
    /// Where the stage before ends: its share of noise before it is enlarged.
    begin: f64,
    /// The first time and the last that the network may be told.
    times: (f64, f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shift {
    /// By the configuration, where there is one stage only: with more it is in their times.
    Static { factor: f64 },
    /// By an argument: e^μ, or μ.
    Dynamic { exponential: bool },
}

#[derive(Clone, Debug)]
enum Method {
    Euler(Euler),
    UniPc(UniPc),
    /// x̂_0, noised again by the state that the stage began with.
    Again,
}

/// The first sigma of stages.
const FIRST: f64 = 0.999;

/// The last time of training that is told.
const LATEST: f64 = 999.0;

/// `n` numbers from one to another.
fn line((from, to): (f64, f64), n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| if n == 1 { from } else { from + (to - from) * i as f64 / (n - 1) as f64 })
}

/// Reads the `scheduler_config.json` of a scheduler of Helios.
///
/// # Errors
/// [`ConfigError`] for files that cannot be read, other classes, options that are not there or that the original cannot
/// follow, and contradictions.
pub fn helios_from_config(json: &str) -> Result<Helios, ConfigError> {
    let mut keys = Keys::parse(json)?;
    let class = keys.class().to_owned();
    let again = match class.as_str() {
        "HeliosScheduler" => false,
        "HeliosDMDScheduler" => true,
        _ => return Err(ConfigError::Class { class, known: HELIOS_CLASSES.join(", ") }),
    };
    let steps = keys.count("num_train_timesteps", 1000)?;
    let (shift, gamma) = (keys.number("shift", 1.0)?, keys.number("gamma", 1.0 / 3.0)?);
    if steps < 2 {
        return Err(keys.bad("num_train_timesteps", steps, "at least 2"));
    }
    if !(shift > 0.0 && shift.is_finite()) {
        return Err(keys.bad("shift", shift, "a positive number"));
    }
    // Of four pixels no two can be further from each other.
    if !(gamma > 0.0 && gamma <= 1.0 / 3.0) {
        return Err(keys.bad(
            "gamma",
            gamma,
            "a number above 0 and at most 1/3: noise in blocks of four is correlated by -gamma",
        ));
    }
    keys.one_of("prediction_type", "flow_prediction", &["flow_prediction"], "flow_prediction")?;
    if !keys.flag("use_flow_sigmas", true)? {
        return Err(keys.bad("use_flow_sigmas", false, "true: the sigmas are those of a flow"));
    }
    let exponential = match keys.word("time_shift_type", if again { "linear" } else { "exponential" })?.as_str() {
        "exponential" => true,
        "linear" => false,
        other => return Err(keys.bad("time_shift_type", other, "exponential or linear")),
    };
    let dynamic = keys.flag("use_dynamic_shifting", false)?;
    if dynamic && shift != 1.0 {
        let reason = "sigmas are shifted once; leave the shift at 1 where it is an argument";
        return Err(keys.contradiction("use_dynamic_shifting", "shift", reason));
    }
    let method = if again { Method::Again } else { read_method(&mut keys)? };
    let stages = read_stages(&mut keys, steps, shift, gamma)?;
    keys.finish()?;
    let shift = match (dynamic, exponential) {
        (true, exponential) => Shift::Dynamic { exponential },
        // The original takes a shift of 1 for none.
        (false, true) if shift != 1.0 => Shift::Static { factor: libm::exp(shift) },
        (false, _) => Shift::Static { factor: shift },
    };
    let process = RectifiedFlow::new().network_time_scale(steps as f64)?;
    Ok(Helios { class, process, steps, shift, gamma, stages, method })
}

fn read_method(keys: &mut Keys) -> Result<Method, ConfigError> {
    let (basis, solver) = unipc(keys)?;
    if basis == Basis::Noise {
        return Err(keys.bad("predict_x0", false, "true: the original makes no noise of flow_prediction"));
    }
    if keys.flag("thresholding", false)? {
        return Err(keys.bad("thresholding", true, "false: the original has no settings for it"));
    }
    match keys.word("scheduler_type", "unipc")?.as_str() {
        "unipc" => Ok(Method::UniPc(solver)),
        "euler" => Ok(Method::Euler(Euler::new())),
        other => Err(keys.bad("scheduler_type", other, "euler or unipc; for dmd there is HeliosDMDScheduler")),
    }
}

fn read_stages(keys: &mut Keys, steps: usize, shift: f64, gamma: f64) -> Result<Vec<Stage>, ConfigError> {
    let count = keys.count("stages", 3)?;
    let range = keys.numbers("stage_range")?.unwrap_or_else(|| vec![0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
    if count == 0 || count >= range.len() {
        return Err(keys.bad("stages", count, "at least 1, and one less than stage_range has numbers at most"));
    }
    let rises = range.windows(2).all(|pair| pair[0] < pair[1]) && range[0] >= 0.0 && range[range.len() - 1] <= 1.0;
    let indices: Vec<usize> = range.iter().map(|share| (share * steps as f64) as usize).collect();
    if !rises || indices[..=count].windows(2).any(|pair| pair[0] >= pair[1]) {
        let expected = "numbers that rise from 0 to 1, with a step of training between any two";
        return Err(keys.bad("stage_range", format!("{range:?}"), expected));
    }
    // From noise to data, without the end.
    let sigma = |i: usize| {
        let alpha = 1.0 + (1.0 / steps as f64 - 1.0) * (steps - i) as f64 / steps as f64;
        shifted(shift, 1.0 - alpha)
    };
    let ends: Vec<(f64, f64, f64)> = indices[..=count]
        .windows(2)
        .enumerate()
        .map(|(stage, pair)| {
            let begin = sigma(pair[0]);
            let end = if pair[1] < steps { sigma(pair[1]) } else { 0.0 };
            let signal = 1.0 - begin;
            // Enlarging makes signal and noise of what was noise.
            let raised = if stage == 0 { begin } else { 1.0 - entry::scale(signal, gamma) * signal };
            (begin, raised, end)
        })
        .collect();
    let lengths: Vec<f64> = ends.iter().map(|(_, raised, end)| raised - end).collect();
    let whole: f64 = lengths.iter().sum();
    let time = |i: usize| sigma(i.min(steps - 1)) * steps as f64;
    let index = |share: f64| (share * steps as f64) as usize;
    let stage = |(i, (begin, ..)): (usize, &(f64, f64, f64))| {
        let share = |lengths: &[f64]| lengths.iter().sum::<f64>() / whole;
        let first = if i == 0 { 0.0 } else { share(&lengths[..i]) };
        let last = if i + 1 == count { 1.0 - f64::EPSILON / 2.0 } else { share(&lengths[..=i]) };
        let (first, end) = (time(index(first)).min(LATEST), time(index(last)));
        // The end is not told.
        let last = first + (end - first) * (steps - 1) as f64 / steps as f64;
        Stage { begin: *begin, times: (first, last) }
    };
    Ok(ends.iter().enumerate().map(stage).collect())
}

impl Helios {
    /// The class that the configuration names.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The flow of each stage; the network is told times of its own.
    pub fn process(&self) -> &dyn Process {
        &self.process
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        Prediction::Flow
    }

    /// How many stages there are.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    fn bad<T>(&self, key: &'static str, given: impl ToString, expected: &'static str) -> Result<T, ConfigError> {
        Err(ConfigError::Value { class: self.class.clone(), key, given: given.to_string(), expected })
    }

    fn stage(&self, stage: usize) -> Result<Stage, ConfigError> {
        match self.stages.get(stage) {
            Some(stage) => Ok(*stage),
            None => self.bad("stage_index", stage, "the number of a stage, from 0 on"),
        }
    }

    /// How samples enter a stage; nothing for the first, which begins with noise.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a stage that is not there.
    pub fn entry(&self, stage: usize) -> Result<Option<StageEntry>, ConfigError> {
        let begin = self.stage(stage)?.begin;
        Ok((stage > 0).then(|| StageEntry::new(stage, 1.0 - begin, self.gamma)))
    }

    /// The grid of a stage in `steps` steps: `num_inference_steps` of `set_timesteps`, twice that for chunks that
    /// HeliosDMDScheduler amplifies. μ is that of a dynamic shift. The times that the network is told are those that the scheduler lists;
    /// the original's pipeline cuts off what is behind the point.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a stage that is not there, for μ out of range, missing, or without `use_dynamic_shifting`;
    /// [`ConfigError::Grid`] for no steps.
    pub fn grid(&self, stage: usize, steps: usize, mu: Option<f64>) -> Result<Grid, ConfigError> {
        let times = self.stage(stage)?.times;
        if steps == 0 {
            return Err(super::configured::no_steps());
        }
        let factor = match (self.shift, mu) {
            (Shift::Static { factor }, None) => factor,
            (Shift::Static { .. }, Some(mu)) => {
                return self.bad("mu", mu, "nothing unless use_dynamic_shifting is set");
            }
            (Shift::Dynamic { .. }, None) => {
                return self.bad("mu", "missing", "a number, because use_dynamic_shifting is set");
            }
            (Shift::Dynamic { exponential: true }, Some(mu)) if (-30.0..=30.0).contains(&mu) => libm::exp(mu),
            (Shift::Dynamic { exponential: false }, Some(mu)) if mu > 0.0 && mu.is_finite() => mu,
            (Shift::Dynamic { .. }, Some(mu)) => {
                return self.bad(
                    "mu",
                    mu,
                    "a number in [-30, 30] where its exponential is the shift, or a positive number",
                );
            }
        };
        let dynamic = matches!(self.shift, Shift::Dynamic { .. });
        let training = self.steps as f64;
        // One more is laid, and the cleanest left out.
        let laid = if matches!(self.method, Method::Again) { steps + 1 } else { steps };
        let levels: Vec<(f64, f64)> = if self.stages.len() == 1 {
            let even = line((1.0, 1.0 / training), laid + 1);
            even.map(|sigma| shifted(factor, f64::from(sigma as f32))).map(|sigma| (sigma, sigma * training)).collect()
        } else {
            let sigmas = line((FIRST, FIRST / training), laid);
            let of_share = |sigma: f64| times.1 + sigma * (times.0 - times.1);
            let told = line(times, laid);
            let both = sigmas.zip(told).map(|(sigma, time)| match (dynamic, shifted(factor, sigma)) {
                (true, sigma) => (sigma, of_share(sigma)),
                (false, _) => (sigma, time),
            });
            both.collect()
        };
        let level = |(sigma, time): (f64, f64)| Level { alpha: 1.0 - sigma, sigma, time };
        let end = Level { alpha: 1.0, sigma: 0.0, time: if self.stages.len() == 1 { 0.0 } else { times.1 } };
        let asked = levels.into_iter().take(steps).map(level);
        Ok(Grid::levels(asked.chain([end]).collect())?.ending(End::Range))
    }

    /// The plan of a stage, on its [`grid`](Self::grid).
    ///
    /// # Errors
    /// As of the grid, and [`ConfigError::Plan`] where the solver does not go along it.
    pub fn plan(&self, stage: usize, steps: usize, mu: Option<f64>) -> Result<Plan, ConfigError> {
        let grid = self.grid(stage, steps, mu)?;
        let plan = match &self.method {
            Method::Euler(solver) => solver.plan(&self.process, &grid)?,
            Method::UniPc(solver) => solver.plan(&self.process, &grid)?,
            Method::Again => self.again(&grid)?,
        };
        Ok(plan.with_prior(1.0).map_err(PlanError::from)?)
    }

    /// `x' = (1 − σ')·x̂_0 + σ'·x_T`, where x_T is the state that the stage began with.
    fn again(&self, grid: &Grid) -> Result<Plan, PlanError> {
        const BEGIN: Src = Src::X(1);
        let stops = grid.stops(&self.process)?;
        let row = |(index, stop): (usize, &Stop)| {
            let to = stop.to.level;
            let mut sum = vec![Term::new(to.alpha, Src::X0(0))];
            if to.sigma > 0.0 {
                sum.push(Term::new(to.sigma, BEGIN));
            }
            let kept = index == 0 && stops.len() > 1;
            Row {
                draws: vec![],
                pre: if kept { vec![Set::new(1, [Term::new(1.0, Src::X(0))])] } else { vec![] },
                eval: Some(Eval { at: stop.ask, x: 0, into: 0 }),
                post: vec![Set::new(0, sum)],
                step: Some(index as u32),
                after: stop.to,
                report: vec![Term::new(1.0, Src::X0(0))],
            }
        };
        let rows = stops.iter().enumerate().map(row).collect();
        Ok(Plan::new("data, noised again by the beginning", stops[0].from, 1.0, rows)?.on(&self.process))
    }
}
