//! Reverse steps of the chain that replaces, by way of a clean token (Austin et al. 2021), with correctors.

use super::draw::{self, DECISION, REPLACEMENT, Sharpening, setting};
use super::{TokenContext, TokenMethod, TokenState, TokenStep, Vocabulary, host};
use crate::sampler::SampleError;
use crate::solver::PlanError;
use burn::tensor::{Bool, Int, Tensor};
use langevin_core::discrete::{MaskAndReplace, gumbel, gumbel_max};
use langevin_core::{Key, NoiseSource};
use std::ops::Range;
use std::sync::OnceLock;

const NAME: &str = "DiscreteDdim";
const CORRECTOR: &str = "Corrector";

/// Which positions a corrector draws anew: those where a score is largest, which is divided by τ and has Gumbel noise
/// added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// How much likelier the likeliest other class is than the present one, as a difference of logarithms.
    #[default]
    LowestLogMargin,
    /// How unlikely the likeliest class is.
    LowestMaxProb,
    /// How unlikely the present class is.
    LowestCurrentProb,
    /// Any position, each as likely as any other; τ means nothing then.
    Random,
}

/// Sweeps after a step that draw a few tokens anew, given all others ([`MaskAndReplace::conditional`]).
///
/// With random positions, one a sweep, the law of the tokens stays exactly as it is. Positions that depend on the
/// tokens, and several that are drawn at once, keep it approximately.
///
/// # References
/// "Uniform Diffusion Models Revisited: Leave-One-Out Denoiser and Absorbing State Reformulation", arXiv 2605.22765.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrector {
    sweeps: usize,
    positions: usize,
    selection: Selection,
    tau: f64,
}

impl Corrector {
    /// So many sweeps after a step, of one position by the lowest log margin, with τ = 1.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for none, or 2^31 and more.
    pub fn new(sweeps: usize) -> Result<Self, PlanError> {
        let fine = sweeps > 0 && i32::try_from(sweeps).is_ok();
        setting(CORRECTOR, "the number of sweeps", sweeps as f64, fine, "at least 1 and below 2^31")?;
        Ok(Self { sweeps, positions: 1, selection: Selection::default(), tau: 1.0 })
    }

    /// So many positions a sweep; all, if there are fewer.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for none.
    pub fn positions(self, positions: usize) -> Result<Self, PlanError> {
        setting(CORRECTOR, "the number of positions", positions as f64, positions > 0, "at least 1")?;
        Ok(Self { positions, ..self })
    }

    /// Other positions.
    pub fn selection(self, selection: Selection) -> Self {
        Self { selection, ..self }
    }

    /// The temperature of the choice; smaller is greedier.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless it is above 0 and finite.
    pub fn tau(self, tau: f64) -> Result<Self, PlanError> {
        setting(CORRECTOR, "tau", tau, tau > 0.0 && tau.is_finite(), "a finite number above 0")?;
        Ok(Self { tau, ..self })
    }

    /// Where the score is largest, `[batch, positions]`, from the log-probabilities of each token given the others.
    fn choose(
        self,
        conditional: &Tensor<3>,
        state: &TokenState,
        noise: &dyn NoiseSource,
        index: u64,
    ) -> Result<Tensor<2, Bool>, SampleError> {
        let tokens = state.tokens.clone().unsqueeze_dim::<3>(1);
        let current = || conditional.clone().gather(1, tokens.clone());
        let score = match self.selection {
            Selection::Random => None,
            Selection::LowestMaxProb => Some(conditional.clone().max_dim(1).neg()),
            Selection::LowestCurrentProb => Some(current().neg()),
            Selection::LowestLogMargin => {
                let shape = conditional.dims();
                let classes = Tensor::<1, Int>::arange(0..shape[1] as i64, &conditional.device()).reshape([1, -1, 1]);
                let present = tokens.clone().expand(shape).equal(classes.expand(shape));
                let others = conditional.clone().mask_fill(present, f64::NEG_INFINITY).max_dim(1);
                Some(others.sub(current()))
            }
        };
        let shape = state.tokens.dims();
        let mut keys = gumbel(noise, state.samples(), Key::step(index, DECISION), shape[1])?;
        if let Some(score) = score {
            let score = host::numbers(score)?;
            keys.iter_mut().zip(score).for_each(|(key, score)| *key += score / self.tau);
        }
        let mut chosen = vec![false; keys.len()];
        for (chosen, keys) in chosen.chunks_mut(shape[1]).zip(keys.chunks(shape[1])) {
            let order = host::ascending(0..shape[1], |i| -keys[i]);
            order.iter().take(self.positions).for_each(|i| chosen[*i] = true);
        }
        Ok(host::to_flags(chosen, shape, &state.tokens.device()))
    }
}

/// Ancestral sampling of the chain that replaces tokens by random ones ([`MaskAndReplace::uniform`]): at each step a
/// clean token is drawn from what the denoiser says, and then one of the next cleaner step from the posterior given it.
/// That is the clean token, the present one or a random one, with the masses `b(1 − a)/K + ab·1[x_t = x_0]`, `a(1 −
/// b)/K` and `(1 − a)(1 − b)/K`, where a token survives with probability b until the cleaner step, with a from there to
/// the present one. The last step takes the clean token.
///
/// At temperature 1 it has the law of [`TokenSampler`](super::TokenSampler) on that chain; here the clean token can be
/// drawn at another temperature. The default is 0, the likeliest one.
///
/// # Examples
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use langevin_core::{discrete::tokens_fn, noise::Seeded};
/// use langevin_schedulers::discrete::{Corrector, DiscreteDdim, TokenMethod};
///
/// let denoiser = tokens_fn(|tokens: Tensor<2, Int>, _step| {
///     let sure = Tensor::<3>::from_data([[[-50.0], [-50.0], [0.0]]], &tokens.device());
///     Ok(sure.expand([tokens.dims()[0], 3, tokens.dims()[1]]))
/// });
/// let sampler = DiscreteDdim::new(3, 16)?.temperature(1.0)?.corrected(Corrector::new(2)?);
/// // Fifteen evaluations in groups of three, and one step to the end.
/// assert_eq!(sampler.chain()?.steps(), 6);
/// let tokens = sampler.start([2, 6], &denoiser, &Seeded::new(42), &Device::flex())?.finish()?;
/// assert_eq!(tokens.into_data().iter::<i64>().collect::<Vec<_>>(), [2; 12]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Austin et al. 2021, "Structured denoising diffusion models in discrete state-spaces", section 3.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscreteDdim {
    classes: usize,
    evaluations: usize,
    temperature: f64,
    corrector: Option<Corrector>,
    kept: Kept,
}

/// The chain, once a step has asked for it. It follows from the settings, so that it makes no difference between samplers.
#[derive(Clone, Debug, Default)]
struct Kept(OnceLock<MaskAndReplace>);

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl DiscreteDdim {
    /// In `steps` steps over `classes` classes, each of which takes the likeliest clean tokens.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for fewer than 2 classes, [`PlanError::Grid`] without steps.
    pub fn new(classes: usize, steps: usize) -> Result<Self, PlanError> {
        draw::check_size(NAME, classes, steps)?;
        Ok(Self { classes, evaluations: steps, temperature: 0.0, corrector: None, kept: Kept::default() })
    }

    /// In another number of steps.
    ///
    /// # Errors
    /// [`PlanError::Grid`] without steps.
    pub fn steps(self, steps: usize) -> Result<Self, PlanError> {
        draw::check_size(NAME, self.classes, steps)?;
        Ok(Self { evaluations: steps, kept: Kept::default(), ..self })
    }

    /// With clean tokens of another temperature.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for numbers below 0 or infinite ones.
    pub fn temperature(self, temperature: f64) -> Result<Self, PlanError> {
        draw::check_temperature(NAME, temperature)?;
        Ok(Self { temperature, ..self })
    }

    /// With a corrector, whose sweeps are taken out of the number of steps: the denoiser is asked as often as before.
    /// As many of the first steps are followed by sweeps as leaves one step to the end, at least.
    pub fn corrected(self, corrector: Corrector) -> Self {
        Self { corrector: Some(corrector), kept: Kept::default(), ..self }
    }

    /// Sweeps a corrected step, and corrected steps.
    fn sweeps(&self) -> (usize, usize) {
        let sweeps = self.corrector.map_or(0, |corrector| corrector.sweeps);
        (sweeps, if sweeps == 0 { 0 } else { (self.evaluations - 1) / (1 + sweeps) })
    }

    /// The chain, which has one step for each of the sampler, sweeps apart.
    ///
    /// # Errors
    /// None for settings that have been checked.
    pub fn chain(&self) -> Result<MaskAndReplace, SampleError> {
        let (sweeps, corrected) = self.sweeps();
        Ok(MaskAndReplace::uniform(self.classes, self.evaluations - corrected * sweeps)?)
    }

    /// The number of the step that an evaluation belongs to, and whether it is one of its sweeps.
    fn part(&self, evaluation: usize) -> (usize, bool) {
        let (sweeps, corrected) = self.sweeps();
        let group = 1 + sweeps;
        match evaluation.checked_sub(corrected * group) {
            Some(later) => (corrected + later, false),
            None => (evaluation / group, !evaluation.is_multiple_of(group)),
        }
    }

    fn predict(
        &self,
        chain: &MaskAndReplace,
        asked: usize,
        state: &TokenState,
        cx: &TokenContext<'_>,
    ) -> Result<TokenStep, SampleError> {
        let (index, reached) = (state.done as u64, asked.checked_sub(1));
        let log_p = draw::ask(cx, state.tokens.clone(), asked, self.classes)?;
        let drawn = draw::draw(log_p, Sharpening::temperature(self.temperature), state, cx.noise, index)?;
        let (survives, survived) = (chain.between(reached, asked)?.keep, chain.cumulative(reached)?.keep);
        let log = |mass: f64| libm::log(mass.max(1e-300));
        let each = 1.0 / self.classes as f64;
        let clean = survived * (1.0 - survives) * each;
        let same = drawn.tokens.clone().equal(state.tokens.clone()).unsqueeze_dim::<3>(1);
        let like = drawn.log_p.clone().narrow(1, 0, 1).zeros_like();
        let masses = vec![
            like.clone().add_scalar(log(clean)).mask_fill(same, log(clean + survives * survived)),
            like.clone().add_scalar(log(survives * (1.0 - survived) * each)),
            like.add_scalar(log((1.0 - survives) * (1.0 - survived) * each)),
        ];
        let way = gumbel_max(Tensor::cat(masses, 1), cx.noise, state.first, Key::step(index, DECISION))?;
        let [batch, positions] = state.tokens.dims();
        let key = Key::step(index, REPLACEMENT);
        let any = draw::anything(cx.noise, state.samples(), key, self.classes, positions)?;
        let any = host::to_tokens(any, [batch, positions], &state.tokens.device());
        let tokens = drawn.tokens.clone().mask_where(way.clone().equal_elem(1), state.tokens.clone());
        let tokens = tokens.mask_where(way.clone().equal_elem(2), any);
        let (log_p, drawn, accepted) = (drawn.log_p, drawn.tokens, way.equal_elem(0));
        let (index, positions) = (state.done, 0..positions);
        Ok(TokenStep { index, asked, reached, tokens, positions, log_p, drawn, accepted })
    }

    fn correct(
        &self,
        corrector: Corrector,
        chain: &MaskAndReplace,
        at: usize,
        state: &TokenState,
        cx: &TokenContext<'_>,
    ) -> Result<TokenStep, SampleError> {
        let index = state.done as u64;
        let log_p = draw::ask(cx, state.tokens.clone(), at, self.classes)?;
        let log_p = chain.conditional(log_p, &state.tokens, at)?.narrow(1, 0, self.classes);
        let accepted = corrector.choose(&log_p, state, cx.noise, index)?;
        let drawn = draw::draw(log_p.clone(), Sharpening::temperature(1.0), state, cx.noise, index)?.tokens;
        let tokens = state.tokens.clone().mask_where(accepted.clone(), drawn.clone());
        let (index, positions) = (state.done, 0..state.tokens.dims()[1]);
        Ok(TokenStep { index, asked: at, reached: Some(at), tokens, positions, log_p, drawn, accepted })
    }
}

impl TokenMethod for DiscreteDdim {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { classes: self.classes, mask: None }
    }

    /// Random tokens.
    fn prior(&self, noise: &dyn NoiseSource, samples: Range<u64>, positions: usize) -> Result<Vec<i64>, SampleError> {
        draw::anything(noise, samples, Key::INITIAL, self.classes, positions)
    }

    fn advance(&self, state: &mut TokenState, cx: &TokenContext<'_>) -> Result<Option<TokenStep>, SampleError> {
        if state.done >= self.evaluations {
            return Ok(None);
        }
        let chain = match self.kept.0.get() {
            Some(chain) => chain,
            None => {
                let chain = self.chain()?;
                self.kept.0.get_or_init(|| chain)
            }
        };
        let (step, sweep) = self.part(state.done);
        let asked = chain.steps() - 1 - step;
        match (self.corrector, asked.checked_sub(1)) {
            // Sweeps are where the step has gone to, which is never the end.
            (Some(corrector), Some(reached)) if sweep => self.correct(corrector, chain, reached, state, cx),
            _ => self.predict(chain, asked, state, cx),
        }
        .map(Some)
    }

    fn check_state(&self, state: &TokenState) -> bool {
        state.done <= self.evaluations && state.memory.is_empty()
    }

    fn fingerprint(&self) -> u64 {
        let own = [-2.0, self.classes as f64, self.evaluations as f64, self.temperature];
        let corrector = self.corrector.map(|corrector| {
            let Corrector { sweeps, positions, selection, tau } = corrector;
            [sweeps as f64, positions as f64, f64::from(selection as u8), tau]
        });
        crate::ode::fingerprint(own.into_iter().chain(corrector.into_iter().flatten()))
    }
}
