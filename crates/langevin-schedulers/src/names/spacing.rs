//! Schedules by name: how programs space the levels of a sampler.

use super::error::NameError;
use super::resolve::resolve_spacing;
use langevin_core::grid::{AysTable, End};
use langevin_core::process::Edm;
use langevin_core::{Grid, GridError, Process};

/// How the levels of a named sampler are spaced.
///
/// Programs define these on the 1000 training steps of a model, with σ for σ/α. Here they are laid on any process: on a
/// chain over its own steps, elsewhere over its range of time. Spacings in σ/α go over the process's own range of it; on
/// one that ends in pure noise (rectified flow, zero terminal SNR), where σ/α is infinite, they space the share of noise
/// `σ/(α + σ)` instead, which on a flow is the time that programs call σ there. Where a process begins with clean data,
/// a thousandth of its range is left out there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spacing {
    /// What A1111 takes for the sampler where its schedule is "Automatic": Karras's or the exponential one for some, for
    /// others that of the name alone. A [`Named`](super::Named) knows which: its own spacing is never this one.
    Automatic,
    /// Equal steps in t, both ends asked, then clean. ComfyUI's "normal", A1111's "Uniform".
    Normal,
    /// As [`Normal`](Self::Normal) with one more level, the cleanest of which is left out.
    SgmUniform,
    /// Every (T/n)-th step of a chain from the last on, rounded upwards in time; elsewhere as [`SgmUniform`](Self::SgmUniform).
    Simple,
    /// Every (T div n)-th step of a chain from step 1 on: the noisiest are left out. Elsewhere n equal steps in t from the clean
    /// end on.
    DdimUniform,
    /// Karras et al. 2022 with ρ = 7: equal steps in `(σ/α)^(1/7)`.
    Karras,
    /// Equal steps in `ln(σ/α)`.
    Exponential,
    /// k-diffusion's polyexponential schedule with ρ = 1, which is [`Exponential`](Self::Exponential).
    Polyexponential,
    /// Equal steps in the time of the published VP SDE with the same σ/α: k-diffusion's `get_sigmas_vp`.
    Vp,
    /// Equal steps in `arctan(σ/α)` (Sabour et al. 2024, section 3.1).
    KlOptimal,
    /// Quantiles 1, 1 − 1/n, … of Beta(0.6, 0.6) in t (Lee et al. 2024).
    Beta,
    /// Half of the steps fall to 97.5% of σ/α in equal steps, the others to 0 as a square (Genmo's Mochi).
    LinearQuadratic,
    /// The table of Stable Diffusion 1.5 (Sabour et al. 2024).
    Ays,
    /// The table of Stable Diffusion XL.
    AysXl,
    /// The table of Stable Video Diffusion, whose σ/α of 700 few processes have.
    AysVideo,
    /// Whole steps of a chain as in [`Grid::leading`]; elsewhere as [`DdimUniform`](Self::DdimUniform).
    Leading,
    /// Whole steps of a chain as in [`Grid::trailing`]; elsewhere as [`SgmUniform`](Self::SgmUniform).
    Trailing,
    /// Whole steps of a chain as in [`Grid::linspace`]; elsewhere as [`Normal`](Self::Normal).
    Linspace,
    /// Equal steps in √t.
    Quadratic,
    /// Equal steps in λ, the last of which arrives at the clean end.
    UniformLambda,
}

/// A spacing's own name, other spellings, and a word on it.
pub(super) struct SpacingName {
    pub spacing: Spacing,
    pub name: &'static str,
    pub also: &'static [&'static str],
    pub what: &'static str,
}

const fn row(spacing: Spacing, name: &'static str, also: &'static [&'static str], what: &'static str) -> SpacingName {
    SpacingName { spacing, name, also, what }
}

/// All spacings.
#[rustfmt::skip]
pub(super) const SPACINGS: &[SpacingName] = &[
    row(Spacing::Automatic, "automatic", &[], "A1111's choice for the sampler: `karras`, `exponential` or what it has by its name alone"),
    row(Spacing::Normal, "normal", &["uniform"], "equal steps in t, both ends asked"),
    row(Spacing::SgmUniform, "sgm_uniform", &["sgm"], "the same with one more level, the cleanest left out"),
    row(Spacing::Simple, "simple", &[], "every (T/n)-th step, from the last on"),
    row(Spacing::DdimUniform, "ddim_uniform", &["ddim"], "every (T div n)-th step, from step 1 on"),
    row(Spacing::Karras, "karras", &["ka"], "equal steps in (σ/α)^(1/7)"),
    row(Spacing::Exponential, "exponential", &["exp"], "equal steps in ln(σ/α)"),
    row(Spacing::Polyexponential, "polyexponential", &[], "the same, with ρ = 1"),
    row(Spacing::Vp, "vp", &[], "equal steps in the time of a VP SDE with the same σ/α"),
    row(Spacing::KlOptimal, "kl_optimal", &[], "equal steps in arctan(σ/α)"),
    row(Spacing::Beta, "beta", &[], "quantiles of Beta(0.6, 0.6) in t"),
    row(Spacing::LinearQuadratic, "linear_quadratic", &[], "slow in σ/α at first, then as a square"),
    row(Spacing::Ays, "ays", &["align_your_steps", "ays_sd15"], "Stable Diffusion 1.5's table"),
    row(Spacing::AysXl, "ays_sdxl", &["align_your_steps_sdxl"], "Stable Diffusion XL's table"),
    row(Spacing::AysVideo, "ays_svd", &["align_your_steps_svd"], "Stable Video Diffusion's table"),
    row(Spacing::Leading, "leading", &[], "every (T div n)-th step, from step 0 on"),
    row(Spacing::Trailing, "trailing", &["turbo"], "every (T/n)-th step, back from the last"),
    row(Spacing::Linspace, "linspace", &[], "equally spaced whole steps, both ends asked"),
    row(Spacing::Quadratic, "quadratic", &[], "equal steps in √t"),
    row(Spacing::UniformLambda, "uniform_lambda", &["lambda"], "equal steps in λ, to the end of the range"),
];

/// Where a method can begin, arrive, and which levels it passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Whether it begins at α = 0.
    pub pure_noise: bool,
    pub arrival: Arrival,
    /// Whether one level more is laid and the cleanest passed over.
    pub passes_over: bool,
    pub inverted: bool,
}

/// Where the last step arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Clean,
    /// At the end of the range, even if that is clean data.
    Range,
    /// At the end of the range, where some noise is left.
    Noisy,
}

/// Share of the range that is left out at an end that has no finite σ/α, or none but 0.
const MARGIN: f64 = 1e-3;

/// β of the published VP SDE.
const VP: (f64, f64) = (0.1, 20.0);

impl Spacing {
    /// The spacing of a name, whatever its case and separators.
    ///
    /// # Errors
    /// [`NameError::UnknownSpacing`], with the nearest name if one is near.
    ///
    /// ```
    /// use langevin_schedulers::names::Spacing;
    /// assert_eq!(Spacing::from_name("SGM Uniform")?, Spacing::SgmUniform);
    /// assert_eq!(Spacing::from_name("sgm_uniform")?, Spacing::SgmUniform);
    /// # Ok::<(), langevin_schedulers::names::NameError>(())
    /// ```
    pub fn from_name(name: &str) -> Result<Self, NameError> {
        resolve_spacing(name)
    }

    /// Its own name.
    pub fn name(self) -> &'static str {
        SPACINGS.iter().find(|row| row.spacing == self).map_or("", |row| row.name)
    }

    /// The grid of `n` steps on a process.
    pub(super) fn grid(self, process: &dyn Process, n: usize, reach: Reach) -> Result<Grid, GridError> {
        if n == 0 {
            return Err(GridError::ZeroSteps);
        }
        let grid = self.laid(process, n, reach)?;
        Ok(if reach.inverted { grid.inverted() } else { grid })
    }

    fn laid(self, process: &dyn Process, n: usize, reach: Reach) -> Result<Grid, GridError> {
        let line = Line::of(process, reach, self);
        let end = if reach.arrival == Arrival::Clean { End::Clean } else { End::Range };
        if let (Some(chain), true) = (process.chain(), line.restricted.is_none() && !reach.passes_over) {
            // A range ends at step 0, where these two would ask: they are laid with one step more, and arrive there.
            let asked = if end == End::Range { n + 1 } else { n };
            match self {
                Spacing::Leading => return Ok(Grid::leading(asked).ending(end)),
                Spacing::Linspace => return Ok(Grid::linspace(asked).ending(end)),
                Spacing::DdimUniform if n == chain.steps() => {
                    return Err(GridError::StepLeftOut { spacing: self.name(), chain: n });
                }
                Spacing::DdimUniform => return Ok(Grid::leading(n).offset(1).ending(end)),
                Spacing::Trailing => return Ok(Grid::trailing(n).ending(end)),
                Spacing::Simple => {
                    let steps = chain.steps();
                    if n > steps {
                        return Err(GridError::TooManySteps { given: n, chain: steps });
                    }
                    let asked = (0..n).map(|i| (steps - 1 - i * steps / n) as f64);
                    // The last step of as many as the chain has begins at step 0 and has nowhere to go in the range.
                    let arrival = (end == End::Range && n < steps).then_some(0.0);
                    return Ok(Grid::times(asked.chain(arrival).collect())?.ending(end));
                }
                _ => {}
            }
        }
        // Levels that are laid behind the asked ones: arrived at, or left out.
        let left_out = match self {
            _ if end == End::Range => 0,
            Spacing::SgmUniform | Spacing::Simple | Spacing::Trailing | Spacing::Beta => 1,
            _ => 0,
        } + usize::from(reach.passes_over);
        if left_out == 0
            && let Some(grid) = self.plain(&line, n)
        {
            return Ok(grid?.ending(end));
        }
        let kept = if end == End::Range { n + 1 } else { n };
        let mut times = self.times(process, &line, kept + left_out, n + usize::from(reach.passes_over), end)?;
        times.truncate(kept);
        Ok(Grid::times(times)?.ending(end))
    }

    /// The grid that is this spacing, where there is one.
    fn plain(self, line: &Line, n: usize) -> Option<Result<Grid, GridError>> {
        let grid = match self {
            Spacing::Automatic
            | Spacing::Normal
            | Spacing::Linspace
            | Spacing::SgmUniform
            | Spacing::Simple
            | Spacing::Trailing => Ok(Grid::uniform(n)),
            Spacing::Quadratic => Ok(Grid::quadratic(n)),
            Spacing::Beta => Grid::beta(n, 0.6, 0.6),
            Spacing::UniformLambda if line.finite => Ok(Grid::uniform_lambda(n)),
            _ if line.shares => return None,
            Spacing::Karras => Grid::karras(n, 7.0),
            Spacing::Exponential => Ok(Grid::exponential(n)),
            Spacing::Polyexponential => Grid::polyexponential(n, 1.0),
            Spacing::Vp => Grid::vp(n, VP.0, VP.1),
            Spacing::Ays if line.restricted.is_none() => Ok(Grid::ays(AysTable::StableDiffusion15, n)),
            Spacing::AysXl if line.restricted.is_none() => Ok(Grid::ays(AysTable::StableDiffusionXl, n)),
            Spacing::AysVideo if line.restricted.is_none() => Ok(Grid::ays(AysTable::StableVideoDiffusion, n)),
            _ => return None,
        };
        Some(grid.map(|grid| match line.restricted {
            Some((noisy, clean)) => grid.between(noisy, clean),
            None => grid,
        }))
    }

    /// `count` times from the noisy to the clean end. Spacings that are made for a number of steps are for `steps`.
    fn times(
        self,
        process: &dyn Process,
        line: &Line,
        count: usize,
        steps: usize,
        end: End,
    ) -> Result<Vec<f64>, GridError> {
        let asked = if end == End::Range { steps + 1 } else { steps };
        let (noisy, clean) = (line.noisy, line.clean);
        let share = |i: usize| i as f64 / (count - 1).max(1) as f64;
        let table = match self {
            Spacing::Ays => Some(AysTable::StableDiffusion15),
            Spacing::AysXl => Some(AysTable::StableDiffusionXl),
            Spacing::AysVideo => Some(AysTable::StableVideoDiffusion),
            _ => None,
        };
        if let Some(table) = table {
            let sigmas = table.interpolated(steps);
            return sigmas.iter().map(|sigma| line.time_of_table(process, table, *sigma)).collect();
        }
        let by_time = |time: &dyn Fn(usize) -> f64| {
            Ok((0..count).map(|i| line.end(i, count).unwrap_or_else(|| time(i))).collect())
        };
        let (most, least) = (line.noise(process, noisy), line.noise(process, clean));
        let mix = |from: f64, to: f64, share: f64| from + (to - from) * share;
        let by_noise = |noise: &dyn Fn(usize) -> f64| -> Result<Vec<f64>, GridError> {
            (0..count).map(|i| line.end(i, count).map_or_else(|| line.time_at(process, noise(i)), Ok)).collect()
        };
        match self {
            Spacing::DdimUniform | Spacing::Leading => {
                // Whole n-ths of the range from its clean end: its noisy end is left out, the last level asked.
                let time = |i: usize| clean + (noisy - clean) * (asked - 1 - i) as f64 / asked as f64;
                Ok((0..asked).map(time).collect())
            }
            Spacing::Quadratic => by_time(&|i| mix(noisy.sqrt(), clean.max(0.0).sqrt(), share(i)).powi(2)),
            Spacing::Beta => {
                let whole = Grid::beta(count - 1, 0.6, 0.6)?.between(noisy, clean).ending(End::Range);
                let stops = whole.stops(process)?;
                Ok(stops.iter().map(|stop| stop.from.t).chain(stops.last().map(|stop| stop.to.t)).collect())
            }
            Spacing::Karras => {
                let (most, least) = (most.powf(1.0 / 7.0), least.powf(1.0 / 7.0));
                by_noise(&|i| mix(most, least, share(i)).powi(7))
            }
            Spacing::Exponential | Spacing::Polyexponential | Spacing::UniformLambda => {
                by_noise(&|i| mix(most.ln(), least.ln(), share(i)).exp())
            }
            Spacing::Vp => {
                // Where it is spaced, noise is σ and its own time.
                let levels = Grid::vp((count - 1).max(1), VP.0, VP.1)?.ending(End::Range);
                let levels = levels.stops(&Edm::new(least, most)?)?;
                by_noise(&|i| levels[i].from.t)
            }
            Spacing::KlOptimal => by_noise(&|i| mix(most.atan(), least.atan(), share(i)).tan()),
            Spacing::LinearQuadratic => {
                let fallen = linear_quadratic(asked);
                (0..asked).map(|i| if i == 0 { Ok(noisy) } else { line.time_at(process, most * fallen[i]) }).collect()
            }
            _ => by_time(&|i| mix(noisy, clean, share(i))),
        }
    }
}

/// The noisy and the clean time between which a method goes that chooses its own steps.
pub(super) fn ends(process: &dyn Process, reach: Reach) -> (f64, f64) {
    let line = Line::of(process, reach, Spacing::UniformLambda);
    (line.noisy, line.clean)
}

/// Shares of the noise that are left at `n` levels: the first half of the steps take away 2.5%, the second half the rest as
/// a square that goes on from there with the same slope.
fn linear_quadratic(n: usize) -> Vec<f64> {
    const THRESHOLD: f64 = 0.025;
    let linear = n / 2;
    if linear == 0 {
        return vec![1.0; n];
    }
    let (first, rest) = (linear as f64, (n - linear) as f64);
    let slope = THRESHOLD / first;
    // a + b·j + c·j² for the j-th step behind the first half, with a = threshold, b = slope, and 1 at the end.
    let bend = (1.0 - THRESHOLD - slope * rest) / (rest * rest);
    let taken = |i: usize| match i.checked_sub(linear) {
        None => i as f64 * slope,
        Some(j) => THRESHOLD + (slope + bend * j as f64) * j as f64,
    };
    (0..n).map(|i| 1.0 - taken(i)).collect()
}

/// The stretch of a process that is spaced, and the measure of noise on it.
struct Line {
    noisy: f64,
    clean: f64,
    /// Ends that are not those of the process's range.
    restricted: Option<(f64, f64)>,
    /// Whether noise is measured by σ/(α + σ), and not by σ/α.
    shares: bool,
    /// Whether λ is finite at both ends.
    finite: bool,
}

impl Line {
    fn of(process: &dyn Process, reach: Reach, spacing: Spacing) -> Self {
        let (min, max) = process.time_range();
        let margin = if process.chain().is_some() { 1.0 } else { MARGIN * (max - min) };
        let logarithmic =
            matches!(spacing, Spacing::Exponential | Spacing::Polyexponential | Spacing::UniformLambda | Spacing::Vp);
        let noisy_end = reach.arrival != Arrival::Range || logarithmic;
        let noisy = if !reach.pure_noise && process.alpha(max) == 0.0 { max - margin } else { max };
        let clean = if noisy_end && process.sigma(min) == 0.0 { min + margin } else { min };
        Self {
            noisy,
            clean,
            restricted: (noisy != max || clean != min).then_some((noisy, clean)),
            // Whatever the method can do: a spacing is one of the process.
            shares: process.alpha(max) == 0.0,
            finite: process.alpha(noisy) > 0.0 && process.sigma(clean) > 0.0,
        }
    }

    /// The ends are exact, whatever rounding a formula does.
    fn end(&self, i: usize, count: usize) -> Option<f64> {
        match i {
            0 => Some(self.noisy),
            i if i + 1 == count => Some(self.clean),
            _ => None,
        }
    }

    fn noise(&self, process: &dyn Process, t: f64) -> f64 {
        let (alpha, sigma) = (process.alpha(t), process.sigma(t));
        if self.shares { sigma / (alpha + sigma) } else { sigma / alpha }
    }

    fn time_at(&self, process: &dyn Process, noise: f64) -> Result<f64, GridError> {
        self.time_at_ratio(process, if self.shares { noise / (1.0 - noise) } else { noise })
    }

    /// A table prints three decimals, so that its ends may lie beyond the process's by half of the last.
    fn time_of_table(&self, process: &dyn Process, table: AysTable, ratio: f64) -> Result<f64, GridError> {
        let at = |t: f64| process.sigma(t) / process.alpha(t);
        let (most, least) = (at(self.noisy), at(self.clean));
        let near = |end: f64| (ratio - end).abs() <= AysTable::HALF_DIGIT;
        if ratio > most && near(most) {
            return Ok(self.noisy);
        }
        if ratio < least && near(least) {
            return Ok(self.clean);
        }
        // A level that only the margin leaves out is moved to its end.
        let (min, max) = process.time_range();
        let (smallest, largest) = (at(min), at(max));
        if !(ratio <= largest && ratio >= smallest) {
            return Err(GridError::BeyondTable { table: table.model(), ratio, smallest, largest });
        }
        self.time_at_ratio(process, ratio)
    }

    fn time_at_ratio(&self, process: &dyn Process, ratio: f64) -> Result<f64, GridError> {
        let t = process.time_at_lambda(-libm::log(ratio))?;
        Ok(t.clamp(self.clean, self.noisy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_square_goes_on_where_the_line_ends() {
        let shares = linear_quadratic(20);
        assert_eq!(shares[0], 1.0);
        assert!((shares[10] - 0.975).abs() < 1e-15);
        // In the published form: a·i² + b·i + c with a = (k − 0.025·n)/(k·q²), k linear and q quadratic steps.
        let (k, q, n) = (10.0, 10.0, 20.0);
        let difference = k - 0.025 * n;
        let a = difference / (k * q * q);
        let b = 0.025 / k - 2.0 * difference / (q * q);
        for (i, share) in shares.iter().enumerate().skip(10) {
            let i = i as f64;
            assert!((1.0 - share - (a * i * i + b * i + a * k * k)).abs() < 1e-14, "{i}");
        }
        assert_eq!(linear_quadratic(1), [1.0]);
    }
}
