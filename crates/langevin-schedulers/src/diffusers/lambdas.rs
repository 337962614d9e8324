//! Schedules of the classes that integrate in λ: DPM-Solver, DEIS, UniPC and SA-Solver share them but for the end.
//!
//! As in [`sigmas`](super::sigmas), σ is the ratio σ/α, and numbers are rounded where the originals round. Timesteps are
//! whole numbers.

use super::euler::positive;
use super::options::{Spacing, spacing};
use super::shift::{Shift, exponential, shifted, stretch, terminal};
use super::sigmas::{Conversion, conversion, level, table, time_of};
use super::{ConfigError, keys::Keys};
use langevin_core::grid::End;
use langevin_core::process::DiscreteChain;
use langevin_core::{Grid, GridError, Level};

/// Where the last step arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Zero,
    /// At the chain's first σ.
    Smallest,
    /// At the last σ again where the sigmas are converted, else at the chain's first.
    Repeated,
}

/// How sigmas follow from timesteps, or timesteps from sigmas.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Those of the timesteps.
    Steps,
    Converted(Conversion),
    /// Even in λ, with rounded timesteps (Lu et al. 2022).
    Lu,
    /// Of a rectified flow, shifted.
    Flow {
        /// Whether the first σ is 1 less a millionth and the last step is left out, as UniPC has it.
        open: bool,
    },
    /// Karras's of the chain, taken for ratios σ/α of a rectified flow.
    KarrasFlow,
}

/// A class's schedule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lambdas {
    class: String,
    /// σ of each step of the chain, rising.
    table: Vec<f32>,
    /// Steps below which timesteps begin: fewer than the chain has where the noisiest are cut off.
    top: usize,
    spacing: Spacing,
    offset: usize,
    kind: Kind,
    /// Of a flow's sigmas.
    pub shift: Shift,
    /// Where the last asked σ of a flow is stretched to.
    terminal: Option<f64>,
    /// Ends of the converted sigmas, if they are not those of the chain.
    ends: (Option<f64>, Option<f64>),
    /// Whether timesteps of Karras and Lu sigmas are rounded and not cut off.
    rounded: bool,
    ending: Ending,
    /// Whether the levels rise.
    inverse: bool,
}

/// `use_dynamic_shifting`; `shift` is what holds without it.
fn dynamic(keys: &mut Keys, kind: Kind, shift: f64, unipc: bool) -> Result<Shift, ConfigError> {
    let exponential = exponential(keys)?;
    if !keys.flag("use_dynamic_shifting", false)? {
        return Ok(Shift::Static(shift));
    }
    if !matches!(kind, Kind::Flow { .. }) {
        let other = if kind == Kind::KarrasFlow { "use_karras_sigmas" } else { "use_flow_sigmas" };
        let reason = "only even sigmas of a flow are shifted: set use_flow_sigmas, and nothing that converts them";
        return Err(keys.contradiction("use_dynamic_shifting", other, reason));
    }
    if !unipc && !exponential {
        let reason = "the original of this class takes a mu for an exponential shift only";
        return Err(keys.contradiction("use_dynamic_shifting", "time_shift_type", reason));
    }
    // The others are shifted by `flow_shift` as long as nobody says more.
    Ok(Shift::Dynamic { exponential, resolution: None, otherwise: (!unipc).then_some(shift), mu: None })
}

/// `shift_terminal` of UniPC.
fn unipc_terminal(keys: &mut Keys, kind: Kind) -> Result<Option<f64>, ConfigError> {
    let given = terminal(keys)?;
    if given.is_some() && !matches!(kind, Kind::Flow { .. }) {
        let other = if kind == Kind::KarrasFlow { "use_karras_sigmas" } else { "use_flow_sigmas" };
        let reason = "only even sigmas of a flow are stretched: set use_flow_sigmas, and nothing that converts them";
        return Err(keys.contradiction("shift_terminal", other, reason));
    }
    Ok(given)
}

/// `sigma_min` and `sigma_max` of UniPC.
fn ends(keys: &mut Keys, kind: Kind, table: &[f32]) -> Result<(Option<f64>, Option<f64>), ConfigError> {
    let (min, max) = (positive(keys, "sigma_min")?, positive(keys, "sigma_max")?);
    let first = if min.is_some() { "sigma_min" } else { "sigma_max" };
    if (min.is_some() || max.is_some()) && !matches!(kind, Kind::Converted(_) | Kind::KarrasFlow) {
        let reason =
            "these are ends of converted sigmas; set use_karras_sigmas, use_exponential_sigmas or use_beta_sigmas";
        return Err(keys.contradiction(first, "use_karras_sigmas", reason));
    }
    let highest = table.last().map_or(0.0, |sigma| f64::from(*sigma));
    if !(min.unwrap_or(f64::from(table[0])) < max.unwrap_or(highest)) {
        let reason = "sigmas fall from the second to the first, which are the chain's ends unless given";
        return Err(keys.contradiction("sigma_min", "sigma_max", reason));
    }
    Ok((min, max))
}

impl Lambdas {
    /// Reads the options that choose sigmas; `cosine` tells whether the betas are the squared cosine's.
    pub fn read(keys: &mut Keys, chain: &DiscreteChain, ending: Ending, cosine: bool) -> Result<Self, ConfigError> {
        let class = keys.class().to_owned();
        let single = class == "DPMSolverSinglestepScheduler";
        let multi = class == "DPMSolverMultistepScheduler";
        let inverse = class == "DPMSolverMultistepInverseScheduler";
        let stochastic = class == "SASolverScheduler";
        let unipc = class == "UniPCMultistepScheduler";
        let (spacing, offset) =
            if single { (Spacing::Linspace, 0) } else { (spacing(keys, "linspace")?, keys.count("steps_offset", 0)?) };
        let clips = single || multi || inverse || stochastic;
        let lowest = if clips { keys.number("lambda_min_clipped", f64::NEG_INFINITY)? } else { f64::NEG_INFINITY };
        let mut kind = match conversion(keys)? {
            Conversion::None => Kind::Steps,
            conversion => Kind::Converted(conversion),
        };
        let shift = keys.number("flow_shift", 1.0)?;
        for (key, chosen) in [("use_lu_lambdas", Kind::Lu), ("use_flow_sigmas", Kind::Flow { open: unipc })] {
            if (multi || key != "use_lu_lambdas") && keys.flag(key, false)? {
                if unipc && kind == Kind::Converted(Conversion::Karras) {
                    kind = Kind::KarrasFlow;
                    continue;
                }
                if kind != Kind::Steps {
                    let other = match kind {
                        Kind::Lu => "use_lu_lambdas",
                        Kind::Converted(Conversion::Exponential) => "use_exponential_sigmas",
                        Kind::Converted(Conversion::Beta) => "use_beta_sigmas",
                        _ => "use_karras_sigmas",
                    };
                    return Err(keys.contradiction(key, other, "both choose the sigmas; take one of them"));
                }
                kind = chosen;
            }
        }
        if !(shift > 0.0 && shift.is_finite()) {
            return Err(keys.bad("flow_shift", shift, "a positive number"));
        }
        let shift = if stochastic || inverse { Shift::Static(shift) } else { dynamic(keys, kind, shift, unipc)? };
        let terminal = if unipc { unipc_terminal(keys, kind)? } else { None };
        let table = table(chain);
        let ends = if unipc { ends(keys, kind, &table)? } else { (None, None) };
        // Steps whose λ is lower than the bound are cut off at the noisy end.
        let cut = table.iter().filter(|sigma| -libm::log(f64::from(**sigma)) < lowest).count();
        let top = table.len() - cut;
        let rounded = !multi || !cosine;
        Ok(Self { class, table, top, spacing, offset, kind, shift, terminal, ends, rounded, ending, inverse })
    }

    /// Whether the sigmas are those of a rectified flow.
    pub fn is_flow(&self) -> bool {
        matches!(self.kind, Kind::Flow { .. } | Kind::KarrasFlow)
    }

    /// Whole timesteps, in the arithmetic of the published code: falling, of the levels where steps begin; or, from the
    /// cleanest on, rising.
    fn timesteps(&self, n: usize, rising: bool) -> Result<Vec<f64>, GridError> {
        if n == 0 {
            return Err(GridError::ZeroSteps);
        }
        if n > self.top {
            return Err(GridError::TooManySteps { given: n, chain: self.top });
        }
        // Of n + 1 times the falling ones leave out the cleanest, the rising ones the noisiest.
        let kept = if rising { 0..n } else { 1..n + 1 };
        let top = self.top as f64;
        let mut steps: Vec<f64> = match self.spacing {
            Spacing::Linspace => {
                let increment = (top - 1.0) / n as f64;
                let at = |i: usize| if i == n { top - 1.0 } else { i as f64 * increment };
                kept.map(|i| at(i).round_ties_even()).collect()
            }
            Spacing::Leading => {
                let stride = self.top / (n + 1);
                kept.map(|i| (i * stride + self.offset) as f64).collect()
            }
            Spacing::Trailing => {
                let stride = self.table.len() as f64 / n as f64;
                let count = (top / stride).ceil() as usize;
                let increment = (top - stride) - top;
                (0..count).rev().map(|i| (top + i as f64 * increment).round_ties_even() - 1.0).collect()
            }
        };
        if !rising {
            steps.reverse();
        }
        Ok(steps)
    }

    /// The grid of `n` steps.
    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        // The original's flow sigmas fall even in the inverse, which then samples.
        if self.inverse && !self.is_flow() {
            return self.rising(n);
        }
        let steps = self.timesteps(n, false)?;
        let (highest, smallest) = (f64::from(self.table[self.table.len() - 1]), f64::from(self.table[0]));
        let (min, max) = (self.ends.0.unwrap_or(smallest), self.ends.1.unwrap_or(highest));
        let (sigmas, times): (Vec<f64>, Vec<f64>) = match self.kind {
            Kind::Steps => {
                let last = self.table.len() - 1;
                (steps.iter().map(|t| f64::from(self.table[(*t as usize).min(last)])).collect(), steps)
            }
            Kind::Converted(conversion) => {
                let sigmas = conversion.sigmas(n, max, min)?;
                let times = sigmas.iter().map(|sigma| self.time(*sigma, conversion == Conversion::Karras)).collect();
                (sigmas, times)
            }
            Kind::Lu => {
                let sigmas = Conversion::Exponential.sigmas(n, max, min)?;
                let times = sigmas.iter().map(|sigma| self.time(*sigma, true)).collect();
                (sigmas, times)
            }
            Kind::Flow { open } => self.told(self.flow(n, open)?),
            Kind::KarrasFlow => {
                let ratios = Conversion::Karras.sigmas(n, max, min)?;
                self.told(ratios.iter().map(|ratio| ratio / (ratio + 1.0)).collect())
            }
        };
        self.laid(&sigmas, &times)
    }

    /// The grid of given timesteps, cut off to whole ones, with the sigmas of the chain there.
    pub fn grid_at(&self, times: &[f64]) -> Result<Grid, ConfigError> {
        let takes = ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"].contains(&self.class.as_str());
        let class = || self.class.clone();
        if !takes {
            let expected = "nothing: this class chooses them itself";
            return Err(ConfigError::Value { class: class(), key: "timesteps", given: "a list".to_owned(), expected });
        }
        let second = match self.kind {
            Kind::Steps => None,
            Kind::Converted(Conversion::Exponential) => Some("use_exponential_sigmas"),
            Kind::Converted(Conversion::Beta) => Some("use_beta_sigmas"),
            Kind::Converted(_) | Kind::KarrasFlow => Some("use_karras_sigmas"),
            Kind::Lu => Some("use_lu_lambdas"),
            Kind::Flow { .. } => Some("use_flow_sigmas"),
        };
        if let Some(second) = second {
            let reason = "the option chooses the timesteps itself";
            return Err(ConfigError::Contradiction { class: class(), first: "timesteps", second, reason });
        }
        if times.is_empty() {
            return Err(GridError::ZeroSteps.into());
        }
        let last = self.table.len() - 1;
        if let Some(given) = times.iter().find(|t| !(0.0..(last + 1) as f64).contains(*t)) {
            let expected = "times of the chain, from 0 on and below its number of steps";
            return Err(ConfigError::Value { class: class(), key: "timesteps", given: given.to_string(), expected });
        }
        let steps: Vec<f64> = times.iter().map(|t| t.trunc()).collect();
        let sigmas: Vec<f64> = steps.iter().map(|t| f64::from(self.table[*t as usize])).collect();
        self.laid(&sigmas, &steps)
    }

    /// The grid through sigmas, asked at these times, to the end.
    fn laid(&self, sigmas: &[f64], times: &[f64]) -> Result<Grid, ConfigError> {
        let smallest = f64::from(self.table[0]);
        let end = match (self.ending, self.kind) {
            (Ending::Zero, _) => 0.0,
            (Ending::Repeated, Kind::Steps) | (Ending::Smallest, _) => smallest,
            (Ending::Repeated, _) => sigmas[sigmas.len() - 1],
        };
        let of = |sigma: f64, time: f64| -> Level {
            let sigma = f64::from(sigma as f32);
            if self.is_flow() { Level { alpha: 1.0 - sigma, sigma, time } } else { level(sigma, time) }
        };
        let mut levels: Vec<Level> = sigmas.iter().zip(times).map(|(sigma, time)| of(*sigma, *time)).collect();
        // Ends that float32 could tell apart by their last digit only are one and the same.
        let last = sigmas[sigmas.len() - 1];
        levels.push(of(if (last - end).abs() <= 1e-6 * last { last } else { end }, -1.0));
        Ok(Grid::levels(levels)?.ending(End::Range))
    }

    /// The inverted grid of `n` steps, fewer where two of them would ask at one time. It arrives at the noisiest step, or,
    /// where sigmas are converted, stands still in its last step.
    fn rising(&self, n: usize) -> Result<Grid, ConfigError> {
        let (steps, last) = (self.timesteps(n, true)?, self.table.len() - 1);
        let (max, min) = (f64::from(self.table[last]), f64::from(self.table[0]));
        let (mut sigmas, mut times): (Vec<f64>, Vec<f64>) = if let Kind::Converted(conversion) = self.kind {
            let mut sigmas = conversion.sigmas(n, max, min)?;
            sigmas.reverse();
            let time = |sigma: &f64| match time_of(&self.table, *sigma) {
                time if conversion == Conversion::Karras => time.round_ties_even(),
                time => time,
            };
            let times = sigmas.iter().map(time).collect();
            sigmas.push(sigmas[n - 1]);
            (sigmas, times)
        } else {
            let mut sigmas: Vec<f64> = steps.iter().map(|t| f64::from(self.table[(*t as usize).min(last)])).collect();
            sigmas.push(f64::from(self.table[self.top - 1]));
            (sigmas, steps)
        };
        times.dedup();
        sigmas.truncate(times.len() + 1);
        // Nobody asks where it arrives.
        times.push(-1.0);
        let levels = sigmas.iter().zip(&times).map(|(sigma, time)| level(f64::from(*sigma as f32), time.trunc()));
        Ok(Grid::levels(levels.rev().collect())?.inverted().ending(End::Range))
    }

    fn time(&self, sigma: f64, may_round: bool) -> f64 {
        let time = time_of(&self.table, sigma);
        if may_round && self.rounded { time.round_ties_even() } else { time.trunc() }
    }

    /// A flow's sigmas, with the timesteps that the network is told.
    fn told(&self, sigmas: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
        let times = sigmas.iter().map(|sigma| (sigma * self.table.len() as f64).trunc()).collect();
        (sigmas, times)
    }

    fn flow(&self, n: usize, open: bool) -> Result<Vec<f64>, ConfigError> {
        let (count, shift) = (n as f64, self.shift.factor(&self.class)?);
        let lowest = 1.0 / self.table.len() as f64;
        // From 1 down, or from 1 − 1/T down to above 0: n of n + 1 even values, of which the last is exact, since times are cut off to whole
        // ones.
        let at = |i: usize| {
            let even = if i == n { lowest } else { 1.0 + i as f64 * ((lowest - 1.0) / count) };
            if open { even } else { 1.0 - even }
        };
        let mut sigmas: Vec<f64> = if open {
            (0..n).map(|i| shifted(shift, at(i))).collect()
        } else {
            (1..=n).rev().map(|i| shifted(shift, at(i))).collect()
        };
        if let Some(terminal) = self.terminal {
            stretch(&self.class, &mut sigmas, terminal)?;
        }
        if open && (sigmas[0] - 1.0).abs() < 1e-6 {
            sigmas[0] -= 1e-6;
        }
        Ok(sigmas)
    }
}
