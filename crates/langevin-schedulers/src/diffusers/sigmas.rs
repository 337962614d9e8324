//! Schedules of sigmas over a chain, rounded where the originals round.
//!
//! σ is the ratio σ/α of a level here, as in the published code. Sigmas and timesteps are kept in float32 there; levels
//! have the same numbers.

use super::options::{Spacing, spacing};
use super::{ConfigError, keys::Keys};
use langevin_core::grid::{End, Stop};
use langevin_core::process::{DiscreteChain, Edm};
use langevin_core::{Grid, GridError, Level};

/// What the published code puts for ᾱ = 0.
const SMALLEST_ALPHA_BAR: f32 = 1.0 / 16_777_216.0;

/// How the sigmas between the ends are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    /// Those of the timesteps.
    None,
    Karras,
    Exponential,
    Beta,
}

/// Where the last step arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Zero,
    /// σ of the chain's first step.
    Smallest,
}

/// A class's schedule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sigmas {
    pub class: String,
    /// σ of each step of the chain, rising.
    table: Vec<f32>,
    pub spacing: Spacing,
    pub offset: usize,
    pub conversion: Conversion,
    /// Ends of the converted sigmas, if they are not those of the timesteps.
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Sigmas evenly spaced in their logarithm over the whole chain; there is one more than timesteps.
    pub log_linear: bool,
    pub last: Last,
    /// The network is told ln(σ)/4.
    pub continuous: bool,
    /// Timesteps of Karras sigmas are rounded.
    pub whole_karras_times: bool,
    /// Whether timesteps may be given.
    pub takes_times: bool,
    /// Whether sigmas may be given.
    pub takes_sigmas: bool,
}

/// σ of each step of a chain, in float32.
pub(super) fn table(chain: &DiscreteChain) -> Vec<f32> {
    let sigma = |bar: &f64| {
        let bar = if *bar == 0.0 { SMALLEST_ALPHA_BAR } else { *bar as f32 };
        ((1.0 - bar) / bar).sqrt()
    };
    chain.alphas_cumprod().iter().map(sigma).collect()
}

/// `use_karras_sigmas`, `use_exponential_sigmas` and `use_beta_sigmas`: one of them, or none.
pub(super) fn conversion(keys: &mut Keys) -> Result<Conversion, ConfigError> {
    let mut chosen: Option<(&'static str, Conversion)> = None;
    for (key, conversion) in [
        ("use_karras_sigmas", Conversion::Karras),
        ("use_exponential_sigmas", Conversion::Exponential),
        ("use_beta_sigmas", Conversion::Beta),
    ] {
        if keys.flag(key, false)? {
            if let Some((first, _)) = chosen {
                return Err(keys.contradiction(first, key, "both choose the sigmas; take one of them"));
            }
            chosen = Some((key, conversion));
        }
    }
    Ok(chosen.map_or(Conversion::None, |(_, conversion)| conversion))
}

/// Timesteps of `n` steps on a chain of `steps`, falling, in the arithmetic of the published code.
pub(super) fn timesteps(spacing: Spacing, n: usize, steps: usize, offset: usize) -> Result<Vec<f32>, GridError> {
    if n == 0 {
        return Err(GridError::ZeroSteps);
    }
    if n > steps {
        return Err(GridError::TooManySteps { given: n, chain: steps });
    }
    let (top, count) = (steps as f64, n as f64);
    let last = top - 1.0;
    Ok(match spacing {
        Spacing::Linspace => {
            let increment = last / (count - 1.0).max(1.0);
            let at = |i: usize| if n > 1 && i == n - 1 { last } else { i as f64 * increment };
            (0..n).rev().map(|i| at(i) as f32).collect()
        }
        Spacing::Leading => (0..n).rev().map(|i| (i * (steps / n)) as f32 + offset as f32).collect(),
        Spacing::Trailing => {
            // Ranges of floating-point numbers go on by the difference of their first two.
            let increment = (top - top / count) - top;
            (0..n).map(|i| (top + i as f64 * increment).round_ties_even() as f32 - 1.0).collect()
        }
    })
}

/// The level of a sigma, with α² + σ² = 1.
pub(super) fn level(sigma: f64, time: f64) -> Level {
    let alpha = 1.0 / libm::hypot(1.0, sigma);
    Level { alpha, sigma: sigma * alpha, time }
}

/// `n` sigmas from `max` to `min`, by a grid on the process whose time is σ.
pub(super) fn spread(grid: Grid, n: usize, max: f64, min: f64) -> Result<Vec<f64>, ConfigError> {
    if n == 1 {
        return Ok(vec![max]);
    }
    let stops = grid.ending(End::Clean).stops(&Edm::new(min, max)?)?;
    Ok(stops.iter().map(|stop: &Stop| stop.from.level.sigma).collect())
}

/// The timestep of a sigma: linear in ln σ between the steps of a chain, whose σ are in `table`, not beyond them.
pub(super) fn time_of(table: &[f32], sigma: f64) -> f64 {
    let logarithm = |sigma: f32| libm::log(f64::from(sigma)) as f32;
    let wanted = libm::log(sigma.max(1e-10));
    let above = table.partition_point(|sigma| f64::from(logarithm(*sigma)) <= wanted);
    let low = above.saturating_sub(1).min(table.len() - 2);
    let (from, to) = (logarithm(table[low]), logarithm(table[low + 1]));
    let weight = ((f64::from(from) - wanted) / f64::from(from - to)).clamp(0.0, 1.0);
    (1.0 - weight) * low as f64 + weight * (low + 1) as f64
}

impl Conversion {
    /// `n` sigmas from `max` to `min`.
    pub fn sigmas(self, n: usize, max: f64, min: f64) -> Result<Vec<f64>, ConfigError> {
        let grid = match self {
            Conversion::Karras => Grid::karras(n, 7.0)?,
            Conversion::Beta => Grid::beta(n, 0.6, 0.6)?,
            Conversion::Exponential | Conversion::None => Grid::exponential(n),
        };
        spread(grid, n, max, min)
    }
}

impl Sigmas {
    /// Plain sigmas of a chain, to be changed by a class's options.
    pub fn of(class: &str, chain: &DiscreteChain, spacing: Spacing, offset: usize) -> Self {
        Self {
            class: class.to_owned(),
            table: table(chain),
            spacing,
            offset,
            conversion: Conversion::None,
            min: None,
            max: None,
            log_linear: false,
            last: Last::Zero,
            continuous: false,
            whole_karras_times: false,
            takes_times: false,
            takes_sigmas: false,
        }
    }

    /// As [`of`](Self::of), with the class's `timestep_spacing` and `steps_offset`.
    pub fn read(keys: &mut Keys, chain: &DiscreteChain) -> Result<Self, ConfigError> {
        let offset = keys.count("steps_offset", 0)?;
        let spacing = spacing(keys, "linspace")?;
        Ok(Self::of(keys.class(), chain, spacing, offset))
    }

    /// Whether there is a sigma that no step uses.
    pub fn has_spare(&self) -> bool {
        self.log_linear && self.conversion == Conversion::None
    }

    /// Whether a grid that arrives at this level was spread over the chain: given sigmas have no spare one.
    pub fn ends_before_spare(&self, last: &Level) -> bool {
        (last.sigma / last.alpha / f64::from(self.table[0]) - 1.0).abs() < 1e-5
    }

    /// The timestep of a sigma.
    pub fn time_of(&self, sigma: f64) -> f64 {
        time_of(&self.table, sigma)
    }

    /// σ at a real timestep, linear between the steps.
    fn sigma_at(&self, time: f32) -> f64 {
        let last = self.table.len() - 1;
        let time = f64::from(time).clamp(0.0, last as f64);
        let below = (time as usize).min(last - 1);
        let (from, to) = (f64::from(self.table[below]), f64::from(self.table[below + 1]));
        from + (to - from) * (time - below as f64)
    }

    /// The grid of `n` steps.
    pub fn grid(&self, n: usize) -> Result<Grid, ConfigError> {
        self.over(timesteps(self.spacing, n, self.table.len(), self.offset)?)
    }

    /// The grid of given timesteps.
    pub fn grid_at(&self, times: &[f64]) -> Result<Grid, ConfigError> {
        let contradiction = |second, reason| {
            Err(ConfigError::Contradiction { class: self.class.clone(), first: "timesteps", second, reason })
        };
        let key = match self.conversion {
            Conversion::None => None,
            Conversion::Karras => Some("use_karras_sigmas"),
            Conversion::Exponential => Some("use_exponential_sigmas"),
            Conversion::Beta => Some("use_beta_sigmas"),
        };
        match key {
            Some(key) => contradiction(key, "the option chooses the timesteps itself"),
            None if self.continuous => contradiction("timestep_type", "continuous times are those of the sigmas"),
            None if !self.takes_times => self.not_taken("timesteps"),
            None if times.is_empty() => Err(GridError::ZeroSteps.into()),
            None => {
                // Checks that they are numbers and fall.
                Grid::times(times.to_vec())?;
                self.over(times.iter().map(|time| *time as f32).collect())
            }
        }
    }

    /// The grid of given sigmas; the last is where sampling arrives.
    pub fn grid_of(&self, sigmas: &[f64]) -> Result<Grid, ConfigError> {
        if !self.takes_sigmas {
            return self.not_taken("sigmas");
        }
        let asked: Vec<f64> = sigmas.iter().map(|sigma| f64::from(*sigma as f32)).collect();
        let Some((last, asked)) = asked.split_last() else { return Err(GridError::ZeroSteps.into()) };
        let times: Vec<f64> = asked.iter().map(|sigma| f64::from(self.time_of(*sigma) as f32)).collect();
        self.levels(asked, &times, *last)
    }

    fn not_taken(&self, key: &'static str) -> Result<Grid, ConfigError> {
        let expected = "nothing: this class chooses them itself";
        Err(ConfigError::Value { class: self.class.clone(), key, given: "a list".to_owned(), expected })
    }

    /// The sigmas that belong to timesteps, and the timesteps that belong to those.
    fn over(&self, times: Vec<f32>) -> Result<Grid, ConfigError> {
        let n = times.len();
        let plain: Vec<f64> = if self.log_linear {
            let (max, min) = (f64::from(self.table[self.table.len() - 1]), f64::from(self.table[0]));
            let sigmas = Conversion::Exponential.sigmas(n + 1, max, min)?;
            sigmas.into_iter().map(|sigma| f64::from(sigma as f32)).collect()
        } else {
            times.iter().map(|time| self.sigma_at(*time)).collect()
        };
        let end = match self.last {
            Last::Zero => 0.0,
            Last::Smallest => f64::from(self.table[0]),
        };
        let rounded = |sigmas: &[f64]| -> Vec<f64> { sigmas.iter().map(|sigma| f64::from(*sigma as f32)).collect() };
        if self.conversion == Conversion::None {
            let times: Vec<f64> = times.into_iter().map(f64::from).collect();
            // Steps have the first sigmas, whatever is left over.
            let end = plain.get(n).copied().unwrap_or(end);
            return self.levels(&rounded(&plain[..n]), &times, f64::from(end as f32));
        }
        let (max, min) = (self.max.unwrap_or(plain[0]), self.min.unwrap_or(plain[plain.len() - 1]));
        let sigmas = self.conversion.sigmas(n, max, min)?;
        let whole = self.whole_karras_times && self.conversion == Conversion::Karras;
        let time = |sigma: &f64| {
            let time = self.time_of(*sigma);
            f64::from(if whole { time.round_ties_even() } else { time } as f32)
        };
        let times: Vec<f64> = sigmas.iter().map(time).collect();
        self.levels(&rounded(&sigmas), &times, end)
    }

    fn levels(&self, sigmas: &[f64], times: &[f64], end: f64) -> Result<Grid, ConfigError> {
        let told = |sigma: f64, time: f64| {
            if self.continuous { f64::from((0.25 * libm::log(sigma)) as f32) } else { time }
        };
        let mut levels: Vec<Level> =
            sigmas.iter().zip(times).map(|(sigma, time)| level(*sigma, told(*sigma, *time))).collect();
        // Ends that float32 could tell apart by their last digit only are one and the same.
        let end = sigmas.last().copied().filter(|last| (last - end).abs() <= 1e-6 * last).unwrap_or(end);
        // Nobody asks where sampling arrives.
        levels.push(level(end, -1.0));
        Ok(Grid::levels(levels)?.ending(End::Range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::process::Betas;

    fn chain() -> DiscreteChain {
        DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).unwrap().compat_f32().unwrap()
    }

    #[test]
    fn published_timesteps() {
        let of = |spacing| timesteps(spacing, 8, 1000, 1).unwrap();
        assert_eq!(of(Spacing::Leading), [876.0, 751.0, 626.0, 501.0, 376.0, 251.0, 126.0, 1.0]);
        assert_eq!(of(Spacing::Trailing), [999.0, 874.0, 749.0, 624.0, 499.0, 374.0, 249.0, 124.0]);
        let linspace = of(Spacing::Linspace);
        assert_eq!((linspace[0], linspace[7]), (999.0, 0.0));
        assert!((linspace[1] - 856.2857).abs() < 1e-4);
        assert_eq!(timesteps(Spacing::Linspace, 1, 1000, 0).unwrap(), [0.0]);
        assert_eq!(timesteps(Spacing::Leading, 0, 1000, 0), Err(GridError::ZeroSteps));
        assert_eq!(timesteps(Spacing::Leading, 11, 10, 0), Err(GridError::TooManySteps { given: 11, chain: 10 }));
    }

    #[test]
    fn sigmas_and_times_belong_together() {
        let sigmas = Sigmas::of("test", &chain(), Spacing::Linspace, 0);
        assert!((sigmas.table[999] - 14.614_647).abs() < 1e-4 && (sigmas.table[0] - 0.029_167).abs() < 1e-5);
        for step in [0usize, 1, 500, 998, 999] {
            assert!((sigmas.time_of(f64::from(sigmas.table[step])) - step as f64).abs() < 1e-4);
        }
        // Not beyond the chain.
        assert_eq!((sigmas.time_of(700.0), sigmas.time_of(0.0)), (999.0, 0.0));
    }

    /// Every schedule ends at the chain's first σ if it is told to, though the formulas round on their way there.
    #[test]
    fn every_schedule_can_end_at_the_smallest_sigma() {
        for conversion in [Conversion::None, Conversion::Karras, Conversion::Exponential, Conversion::Beta] {
            for n in 2..60 {
                let mut sigmas = Sigmas::of("test", &chain(), Spacing::Linspace, 0);
                (sigmas.conversion, sigmas.last) = (conversion, Last::Smallest);
                let stops = sigmas.grid(n).unwrap().stops(&chain()).unwrap();
                assert_eq!(stops.len(), n);
                assert_eq!(stops[n - 1].from.level.sigma, stops[n - 1].to.level.sigma, "{conversion:?} {n}");
            }
        }
    }

    #[test]
    fn zero_terminal_snr_has_a_finite_sigma() {
        let table = table(&chain().rescale_zero_terminal_snr().unwrap());
        assert!((table[999] - 4096.0).abs() < 1e-3);
    }
}
