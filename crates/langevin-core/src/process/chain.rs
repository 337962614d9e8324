//! The discrete chain of DDPM.

use super::error::range_with_lambda;
use super::table::Table;
use super::{Betas, Interpolation, Process, ProcessError};
use crate::level::{Level, Node};
use serde::{Deserialize, Serialize};
use std::fmt;

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
#[derive(Clone, PartialEq, Serialize, Deserialize)]
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

/// What defines it, without the tables, which have a number for each step.
impl fmt::Debug for DiscreteChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Form { betas, steps, zero_terminal_snr, compat_f32, interpolation, end } = &self.form;
        let mut shown = f.debug_struct("DiscreteChain");
        match betas {
            Betas::Custom(_) => shown.field("betas", &format_args!("Custom(..)")),
            named => shown.field("betas", named),
        };
        shown.field("steps", steps).field("zero_terminal_snr", zero_terminal_snr).field("compat_f32", compat_f32);
        shown.field("interpolation", interpolation).field("end", end).finish()
    }
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

/// Training steps of a chain at most: each has a few numbers in memory, and a configuration may ask for any.
const MOST_STEPS: usize = 1 << 20;

impl DiscreteChain {
    /// A chain of `steps` training steps, computed in `f64`, interpolated in the angle, ending in clean data.
    ///
    /// # Errors
    /// [`ProcessError::TooFewSteps`] below 2 steps; [`ProcessError::Parameter`] above 2^20; [`ProcessError::CustomLength`]; [`ProcessError::Beta`] for a beta that
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
    /// product, are rounded to float32, to the same bits for most schedules; the sigmoid and the rescaled ones pass through
    /// torch's own exponential and square root and agree to 5e-6. The exact schedule differs from the rounded one in the
    /// seventh digit, near a zero terminal SNR in the fifth.
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
        if steps > MOST_STEPS {
            return Err(ProcessError::Parameter {
                process: "a discrete chain",
                parameter: "number of training steps",
                given: steps as f64,
                expected: "at most 1048576",
            });
        }
        let make = if form.compat_f32 { Table::rounded } else { Table::exact };
        let Table { betas, alphas_cumprod, variances } = make(&form.betas, steps, form.zero_terminal_snr)?;
        let alpha: Vec<f64> = alphas_cumprod.iter().map(|a| a.sqrt()).collect();
        let sigma: Vec<f64> = variances.iter().map(|v| v.sqrt()).collect();
        if form.interpolation != Interpolation::Angle && alpha[steps - 1] == 0.0 {
            return Err(ProcessError::Interpolation { interpolation: form.interpolation.name() });
        }
        let clock: Vec<f64> = alpha.iter().zip(&sigma).map(|(&a, &s)| form.interpolation.clock(a, s)).collect();
        if let Some(step) = (1..steps).find(|&i| clock[i] <= clock[i - 1]) {
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

#[cfg(test)]
mod tests {
    use super::super::checks::{assert_close, obeys_the_laws, round_trips};
    use super::*;
    use proptest::prelude::*;

    const ALL: [Interpolation; 4] =
        [Interpolation::Angle, Interpolation::Sigma, Interpolation::LogSigma, Interpolation::LogAlpha];

    fn ddpm(steps: usize) -> DiscreteChain {
        DiscreteChain::new(Betas::DDPM, steps).unwrap()
    }

    #[test]
    fn a_chain_is_shown_without_its_tables() {
        let shown = format!("{:?}", ddpm(1000).ending(ChainEnd::FirstStep));
        assert!(
            shown.starts_with("DiscreteChain { betas: Linear { start: 0.0001, end: 0.02 }, steps: 1000,"),
            "{shown}"
        );
        assert!(shown.ends_with("interpolation: Angle, end: FirstStep }") && shown.len() < 200, "{shown}");
        let custom = DiscreteChain::new(Betas::Custom(vec![0.01; 500]), 500).unwrap();
        assert!(format!("{custom:?}").starts_with("DiscreteChain { betas: Custom(..), steps: 500,"));
    }

    proptest! {
        #[test]
        fn laws_between_the_steps(step in 0usize..99, part in 0.1f64..0.9, kind in 0usize..4) {
            let chain = DiscreteChain::new(Betas::Linear { start: 1e-3, end: 0.1 }, 100).unwrap();
            obeys_the_laws(&chain.interpolation(ALL[kind]).unwrap(), step as f64 + part, 1e-4);
        }

        #[test]
        fn the_inverse_of_lambda_is_exact(t in 0.0f64..999.0, kind in 0usize..4) {
            let chain = ddpm(1000).interpolation(ALL[kind]).unwrap();
            prop_assert!((chain.time_at_lambda(chain.lambda(t)).unwrap() - t).abs() < 1e-7);
        }
    }

    #[test]
    fn steps_are_exact_in_every_interpolation() {
        for kind in ALL {
            let chain = ddpm(1000).interpolation(kind).unwrap();
            for i in [0, 1, 17, 500, 998, 999] {
                let bar = chain.alphas_cumprod()[i];
                assert_eq!(chain.alpha(i as f64), bar.sqrt());
                assert_close(chain.sigma(i as f64), (1.0 - bar).sqrt(), 1e-12, "sigma");
                let t = chain.time_at_lambda(chain.lambda(i as f64)).unwrap();
                assert!((t - i as f64).abs() < 1e-8, "{kind:?}: {i} came back as {t}");
            }
        }
    }

    #[test]
    fn halfway_is_halfway_in_the_interpolated_quantity() {
        let quantity = |kind, l: Level| match kind {
            Interpolation::Angle => l.sigma.atan2(l.alpha),
            Interpolation::Sigma => l.sigma / l.alpha,
            Interpolation::LogSigma => (l.sigma / l.alpha).ln(),
            Interpolation::LogAlpha => l.alpha.ln(),
        };
        for kind in ALL {
            let chain = ddpm(1000).interpolation(kind).unwrap();
            let at = |t| quantity(kind, chain.level(t));
            assert_close(at(300.5), 0.5 * (at(300.0) + at(301.0)), 1e-12, "middle");
            let Level { alpha, sigma, time } = chain.level(300.5);
            assert_close(alpha * alpha + sigma * sigma, 1.0, 1e-14, "variance");
            assert_eq!(time, 300.5);
        }
    }

    #[test]
    fn derivatives_at_a_step_look_towards_the_data() {
        let chain = ddpm(1000);
        for i in [1.0, 500.0, 999.0] {
            assert_close(chain.sigma_dot(i), chain.sigma_dot(i - 1e-9), 1e-6, "sigma_dot");
        }
        assert_close(chain.sigma_dot(0.0), chain.sigma_dot(1e-9), 1e-6, "sigma_dot at the first step");
    }

    #[test]
    fn zero_terminal_snr_is_finite_in_the_angle() {
        let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).unwrap().rescale_zero_terminal_snr().unwrap();
        assert_eq!((chain.alpha(999.0), chain.sigma(999.0), chain.lambda(999.0)), (0.0, 1.0, f64::NEG_INFINITY));
        assert!(chain.alpha_dot(999.0) < 0.0 && chain.alpha_dot(999.0).is_finite());
        assert_close(chain.time_at_lambda(-20.0).unwrap(), 999.0, 1e-5, "time near the end");
        obeys_the_laws(&chain, 998.5, 1e-4);
        for kind in &ALL[1..] {
            let refused = chain.clone().interpolation(*kind);
            assert!(matches!(refused, Err(ProcessError::Interpolation { .. })), "{kind:?}");
            let refused = ddpm(10).interpolation(*kind).unwrap().rescale_zero_terminal_snr();
            assert!(matches!(refused, Err(ProcessError::Interpolation { .. })), "{kind:?}");
        }
    }

    #[test]
    fn the_end_is_one_step_before_the_first() {
        let chain = ddpm(1000);
        let clean = chain.clean();
        assert_eq!((clean.t, clean.level.alpha, clean.level.sigma), (-1.0, 1.0, 0.0));
        assert_eq!((chain.alpha(-1.0), chain.sigma(-1.0)), (1.0, 0.0));
        let phi = chain.sigma(0.0).atan2(chain.alpha(0.0));
        assert_close(chain.sigma(-0.5), (0.5 * phi).sin(), 1e-14, "between");
        assert_close(chain.sigma_dot(-0.5), phi * (0.5 * phi).cos(), 1e-14, "slope");

        let first = chain.ending(ChainEnd::FirstStep);
        assert_eq!(first.final_level().level.alpha, first.alphas_cumprod()[0].sqrt());
        assert_close(first.alpha(-0.5), first.alpha(0.0), 1e-15, "alpha");
        assert_eq!(first.sigma_dot(-0.5), 0.0);
    }

    #[test]
    fn outside_there_is_nothing() {
        for t in [-1.1, 999.1, f64::NAN] {
            assert!(ddpm(1000).alpha(t).is_nan() && ddpm(1000).sigma_dot(t).is_nan());
        }
    }

    #[test]
    fn float32_chains_differ_in_the_seventh_digit() {
        let (exact, compat) = (ddpm(1000), ddpm(1000).compat_f32().unwrap());
        assert_eq!(compat.alphas_cumprod()[999], 4.035830352222547e-05);
        assert_ne!(exact.alphas_cumprod()[999], compat.alphas_cumprod()[999]);
        assert_close(exact.alphas_cumprod()[999], compat.alphas_cumprod()[999], 1e-6, "last");
    }

    #[test]
    fn bad_betas() {
        for bad in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
            match DiscreteChain::new(Betas::Custom(vec![0.1, bad, 0.2]), 3) {
                Err(ProcessError::Beta { step: 1, given }) => assert!(given == bad || bad.is_nan()),
                other => panic!("{bad}: {other:?}"),
            }
        }
        let linear = |start, end| DiscreteChain::new(Betas::Linear { start, end }, 10);
        assert!(matches!(linear(f64::NAN, 0.02), Err(ProcessError::Beta { step: 0, .. })));
        assert!(matches!(linear(1e-4, 1.2), Err(ProcessError::Beta { .. })));
        assert!(matches!(linear(0.0, 0.02), Err(ProcessError::Beta { step: 0, .. })));
        let scaled = Betas::ScaledLinear { start: -1.0, end: 0.1 };
        assert!(matches!(DiscreteChain::new(scaled, 10), Err(ProcessError::Beta { step: 0, .. })));
    }

    #[test]
    fn too_many_steps() {
        for given in [MOST_STEPS + 1, 1 << 40, usize::MAX] {
            let refused = DiscreteChain::new(Betas::DDPM, given);
            assert!(matches!(refused, Err(ProcessError::Parameter { parameter: "number of training steps", .. })));
        }
    }

    #[test]
    fn too_few_steps() {
        for given in [0, 1] {
            let refused = DiscreteChain::new(Betas::SquaredCosine, given);
            assert_eq!(refused, Err(ProcessError::TooFewSteps { given, needed: 2 }));
        }
        let refused = DiscreteChain::new(Betas::Custom(vec![0.1]), 2);
        assert_eq!(refused, Err(ProcessError::CustomLength { given: 1, steps: 2 }));
    }

    #[test]
    fn steps_that_are_one_level() {
        let tiny = Betas::Custom(vec![0.1, 1e-9, 0.1]);
        let chain = DiscreteChain::new(tiny, 3).unwrap();
        assert!(matches!(chain.compat_f32(), Err(ProcessError::NotNoisier { step: 1, .. })));
        // All signal is gone long before the last of 200 steps.
        let drowned = DiscreteChain::new(Betas::Custom(vec![0.999; 200]), 200);
        assert!(matches!(drowned, Err(ProcessError::NotNoisier { .. })));
    }

    #[test]
    fn serde() {
        let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 50)
            .unwrap()
            .rescale_zero_terminal_snr()
            .unwrap()
            .compat_f32()
            .unwrap()
            .ending(ChainEnd::FirstStep);
        round_trips(&chain, &[("50", "1"), ("0.012", "1.2"), ("Angle", "Sigma"), ("\"end\"", "\"ending\"")]);
    }
}
