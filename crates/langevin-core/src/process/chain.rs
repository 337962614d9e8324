//! The discrete chain of DDPM.

use super::error::range_with_lambda;
use super::{Betas, Interpolation, Process, ProcessError};
use crate::level::{Level, Node};
use serde::{Deserialize, Serialize};

/// The Markov chain of DDPM (Ho et al. 2020): `x_i = √(1 − β_i)·x_{i−1} + √β_i·ε` for steps 0 to T − 1.
///
/// At step t, `α = √ᾱ_t` and `σ = √(1 − ᾱ_t)` with `ᾱ_t = Π_{i ≤ t} (1 − β_i)`, and the network is fed t. As a
/// [`Process`] the time is real, in `[0, T − 1]`; between the steps the [`Interpolation`] decides. What comes before step
/// 0 is the [`ChainEnd`], at time −1; times in `[−1, 0]` are interpolated in the angle from there.
///
/// With zero terminal SNR the drift and the diffusion of the chain as an SDE are infinite at the last step.
///
/// ```
/// use langevin_core::Process;
/// use langevin_core::process::{Betas, DiscreteChain};
/// let chain = DiscreteChain::new(Betas::SquaredCosine, 1000)?;
/// assert_eq!(chain.steps(), 1000);
/// let level = chain.level(499.0);
/// assert!((level.alpha * level.alpha - chain.alphas_cumprod()[499]).abs() < 1e-15);
/// # Ok::<(), langevin_core::ProcessError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct DiscreteChain {
    form: Form,
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    alpha: Vec<f64>,
    sigma: Vec<f64>,
    /// The interpolated quantity at each step; strictly rising.
    clock: Vec<f64>,
}

/// What is one step before step 0, where sampling arrives at last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainEnd {
    /// Clean data, ᾱ = 1 (`set_alpha_to_one` of published configurations).
    #[default]
    Clean,
    /// The level of step 0 once more (Stable Diffusion).
    FirstStep,
}

/// Everything that defines a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    betas: Betas,
    steps: usize,
    zero_terminal_snr: bool,
    compat_f32: bool,
    interpolation: Interpolation,
    end: ChainEnd,
}

impl DiscreteChain {
    /// A chain of `steps` training steps, computed in `f64`, interpolated in the angle, ending in clean data.
    ///
    /// # Errors
    /// [`ProcessError::TooFewSteps`] below 2 steps; [`ProcessError::CustomLength`]; [`ProcessError::Beta`] for a beta that
    /// is not in (0, 1); [`ProcessError::NotNoisier`] if betas are so small or so large that two steps are one level.
    pub fn new(betas: Betas, steps: usize) -> Result<Self, ProcessError> {
        Self::build(Form {
            betas,
            steps,
            zero_terminal_snr: false,
            compat_f32: false,
            interpolation: Interpolation::default(),
            end: ChainEnd::default(),
        })
    }

    /// Moves ᾱ so that the last step is pure noise and the first stays (Lin et al. 2023, algorithm 1).
    ///
    /// # Errors
    /// [`ProcessError::Interpolation`] unless the interpolation is the angle; [`ProcessError::NotNoisier`].
    pub fn rescale_zero_terminal_snr(self) -> Result<Self, ProcessError> {
        Self::build(Form { zero_terminal_snr: true, ..self.form })
    }

    /// Computes the schedule as torch does in float32, because published values were computed so: betas, and ᾱ as their
    /// product, are rounded to float32. The exact schedule differs from it in the seventh digit, near a zero terminal SNR
    /// in the fifth.
    ///
    /// # Errors
    /// [`ProcessError::Beta`] or [`ProcessError::NotNoisier`] for betas that float32 cannot hold.
    pub fn compat_f32(self) -> Result<Self, ProcessError> {
        Self::build(Form { compat_f32: true, ..self.form })
    }

    /// What is linear between the steps.
    ///
    /// # Errors
    /// [`ProcessError::Interpolation`] for anything but the angle with zero terminal SNR.
    pub fn interpolation(self, interpolation: Interpolation) -> Result<Self, ProcessError> {
        Self::build(Form { interpolation, ..self.form })
    }

    /// What is one step before step 0.
    pub fn ending(mut self, end: ChainEnd) -> Self {
        self.form.end = end;
        self
    }

    /// β of each step; after [`rescale_zero_terminal_snr`](Self::rescale_zero_terminal_snr) the rescaled ones.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// ᾱ of each step, the product of `1 − β` up to it.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// Number of training steps T.
    pub fn steps(&self) -> usize {
        self.form.steps
    }

    /// Whether the last step is pure noise by rescaling.
    pub fn has_zero_terminal_snr(&self) -> bool {
        self.form.zero_terminal_snr
    }

    /// The level one step before step 0, at time −1.
    pub fn final_level(&self) -> Node {
        let (alpha, sigma) = match self.form.end {
            ChainEnd::Clean => (1.0, 0.0),
            ChainEnd::FirstStep => (self.alpha[0], self.sigma[0]),
        };
        Node { t: -1.0, level: Level { alpha, sigma, time: -1.0 } }
    }

    fn build(form: Form) -> Result<Self, ProcessError> {
        let (needed, steps) = (2, form.steps);
        if steps < needed {
            return Err(ProcessError::TooFewSteps { given: steps, needed });
        }
        let table = if form.compat_f32 { Table::rounded(&form)? } else { Table::exact(&form)? };
        let Table { betas, alphas_cumprod, variances } = table;
        let alpha: Vec<f64> = alphas_cumprod.iter().map(|a| a.sqrt()).collect();
        let sigma: Vec<f64> = variances.iter().map(|v| v.sqrt()).collect();
        if form.interpolation != Interpolation::Angle && alpha[steps - 1] == 0.0 {
            return Err(ProcessError::Interpolation { interpolation: form.interpolation.name() });
        }
        let clock: Vec<f64> = alpha.iter().zip(&sigma).map(|(&a, &s)| form.interpolation.clock(a, s)).collect();
        if let Some(step) = (1..steps).find(|&i| !(clock[i] > clock[i - 1])) {
            let arithmetic = if form.compat_f32 { "float32" } else { "float64" };
            return Err(ProcessError::NotNoisier { step, beta: betas[step], arithmetic });
        }
        Ok(Self { form, betas, alphas_cumprod, alpha, sigma, clock })
    }

    /// (α, σ, α̇, σ̇) at a real time; NaN outside `[−1, T − 1]`.
    fn at(&self, t: f64) -> [f64; 4] {
        let last = self.steps() - 1;
        if !(t >= -1.0 && t <= last as f64) {
            return [f64::NAN; 4];
        }
        if t < 0.0 {
            return self.before_first(t);
        }
        let by = self.form.interpolation;
        // At a step the derivative is that of the cleaner side, where a sampler goes next.
        let below = (t.ceil() as usize).saturating_sub(1).min(last - 1);
        let speed = self.clock[below + 1] - self.clock[below];
        let (alpha, sigma) = if t.fract() == 0.0 {
            (self.alpha[t as usize], self.sigma[t as usize])
        } else {
            by.coefficients(self.clock[below] + (t - below as f64) * speed)
        };
        let (alpha_dot, sigma_dot) = by.derivatives(alpha, sigma, speed);
        [alpha, sigma, alpha_dot, sigma_dot]
    }

    /// As [`at`](Self::at), for times in `[−1, 0)`: the angle goes from the end of the chain to step 0.
    fn before_first(&self, t: f64) -> [f64; 4] {
        let by = Interpolation::Angle;
        let end = self.final_level().level;
        let (from, to) = (by.clock(end.alpha, end.sigma), by.clock(self.alpha[0], self.sigma[0]));
        let (alpha, sigma) = by.coefficients(from + (t + 1.0) * (to - from));
        let (alpha_dot, sigma_dot) = by.derivatives(alpha, sigma, to - from);
        [alpha, sigma, alpha_dot, sigma_dot]
    }
}

/// The numbers of a chain, in one of the two arithmetics.
struct Table {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    /// 1 − ᾱ.
    variances: Vec<f64>,
}

fn check(betas: impl Iterator<Item = f64>) -> Result<(), ProcessError> {
    for (step, given) in betas.enumerate() {
        if !(given > 0.0 && given < 1.0) {
            return Err(ProcessError::Beta { step, given });
        }
    }
    Ok(())
}

impl Table {
    fn exact(form: &Form) -> Result<Self, ProcessError> {
        let mut betas = form.betas.values(form.steps)?;
        check(betas.iter().copied())?;
        if form.zero_terminal_snr {
            betas = rescaled(&betas);
        }
        let (mut product, mut variance) = (1.0, 0.0);
        let (mut alphas_cumprod, mut variances) = (Vec::new(), Vec::new());
        for beta in &betas {
            // 1 − ᾱ as a sum of positive terms: nothing cancels at the first steps.
            variance += product * beta;
            product *= 1.0 - beta;
            alphas_cumprod.push(product);
            variances.push(if product == 0.0 { 1.0 } else { variance.min(1.0) });
        }
        Ok(Self { betas, alphas_cumprod, variances })
    }

    fn rounded(form: &Form) -> Result<Self, ProcessError> {
        let mut betas = form.betas.values_f32(form.steps)?;
        check(betas.iter().map(|&beta| f64::from(beta)))?;
        if form.zero_terminal_snr {
            betas = rescaled_f32(&betas);
        }
        let alphas_cumprod: Vec<f64> = cumprod_f32(&betas).into_iter().map(f64::from).collect();
        let variances = alphas_cumprod.iter().map(|a| 1.0 - a).collect();
        Ok(Self { betas: betas.into_iter().map(f64::from).collect(), alphas_cumprod, variances })
    }
}

/// Betas whose √ᾱ is moved to 0 at the last step and stretched back to its old value at the first.
fn rescaled(betas: &[f64]) -> Vec<f64> {
    let mut product = 1.0;
    let roots: Vec<f64> = betas
        .iter()
        .map(|beta| {
            product *= 1.0 - beta;
            f64::sqrt(product)
        })
        .collect();
    let last = roots[roots.len() - 1];
    let scale = roots[0] / (roots[0] - last);
    let moved: Vec<f64> = roots.iter().map(|root| (root - last) * scale).collect();
    let mut out = vec![betas[0]];
    out.extend(moved.windows(2).map(|w| (w[0] - w[1]) * (w[0] + w[1]) / (w[0] * w[0])));
    out
}

/// torch's cumulative product: accumulated in double precision, each result rounded.
fn cumprod_f32(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0f64;
    let mut times = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(&mut times).collect()
}

/// As [`rescaled`], with torch's float32 operations.
fn rescaled_f32(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumprod_f32(betas).into_iter().map(f32::sqrt).collect();
    let last = roots[roots.len() - 1];
    let scale = roots[0] / (roots[0] - last);
    let squares: Vec<f32> = roots.iter().map(|root| ((root - last) * scale).powi(2)).collect();
    let mut out = vec![1.0 - squares[0]];
    out.extend(squares.windows(2).map(|w| 1.0 - w[1] / w[0]));
    out
}

impl Process for DiscreteChain {
    fn alpha(&self, t: f64) -> f64 {
        self.at(t)[0]
    }
    fn sigma(&self, t: f64) -> f64 {
        self.at(t)[1]
    }
    fn alpha_dot(&self, t: f64) -> f64 {
        self.at(t)[2]
    }
    fn sigma_dot(&self, t: f64) -> f64 {
        self.at(t)[3]
    }
    fn time_range(&self) -> (f64, f64) {
        (0.0, (self.steps() - 1) as f64)
    }
    fn prior_std(&self) -> f64 {
        1.0
    }
    fn time_at_lambda(&self, lambda: f64) -> Result<f64, ProcessError> {
        let (min, max) = range_with_lambda(self, lambda)?;
        let y = self.form.interpolation.clock_at_lambda(lambda);
        let above = self.clock.partition_point(|&c| c <= y).clamp(1, self.steps() - 1);
        let (c0, c1) = (self.clock[above - 1], self.clock[above]);
        Ok(((above - 1) as f64 + (y - c0) / (c1 - c0)).clamp(min, max))
    }
    fn clean(&self) -> Node {
        self.final_level()
    }
    fn chain(&self) -> Option<&DiscreteChain> {
        Some(self)
    }
}

impl TryFrom<Form> for DiscreteChain {
    type Error = ProcessError;
    fn try_from(form: Form) -> Result<Self, ProcessError> {
        Self::build(form)
    }
}

impl From<DiscreteChain> for Form {
    fn from(chain: DiscreteChain) -> Self {
        chain.form
    }
}
