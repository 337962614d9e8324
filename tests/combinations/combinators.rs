//! What changes answers: combinators around networks and around one another, and the settings of guidance.

use crate::columns::{Steered, Told, Towards, answer, answer_of, denoised, known, measurement, settled};
use crate::{On, Outcome, refused};
use burn::tensor::Tensor;
use langevin::core::denoiser::{
    EnergyGuided, Guided, Projection, SelfCondition, Several, Threshold, Thresholded, energy_fn,
};
use langevin::core::inverse::{Dps, Filled, PiGdm};
use langevin::core::{DenoiseError, Denoiser, DenoiserExt, Levels, Network, Prediction};

/// Any denoiser.
pub type Answer = Box<dyn Denoiser<2>>;

/// Guidance of two of them.
type GuidedAnswers = Guided<Several<Answer, Answer>>;

pub struct Combinator {
    pub name: &'static str,
    /// What it means, for the page.
    pub what: &'static str,
    /// What an error about it says.
    pub said: &'static [&'static str],
    pub around: Around,
}

/// Why some go around networks alone.
pub const OF_NETWORKS: &str = "it is a method of bound networks, which other answers have not";

#[derive(Clone, Copy)]
pub enum Around {
    /// Goes around the answers of networks that predict this.
    Any(fn(Answer, Prediction) -> Outcome<Answer>),
    /// Goes around a network alone, and makes its own.
    Network(fn(Prediction) -> Outcome<Answer>),
}

impl Combinator {
    /// Around a network of its own.
    pub fn alone(&self, prediction: Prediction) -> Outcome<Answer> {
        match self.around {
            Around::Any(around) => around(answer_of(prediction, 1.0), prediction),
            Around::Network(make) => make(prediction),
        }
    }

    /// Around other answers; nothing where that does not compile.
    pub fn around(&self, inner: Answer) -> Option<Outcome<Answer>> {
        match self.around {
            Around::Any(around) => Some(around(inner, Prediction::Velocity)),
            Around::Network(_) => None,
        }
    }
}

fn guided(inner: Answer, prediction: Prediction, scale: f64) -> Outcome<GuidedAnswers> {
    inner.autoguided(answer_of(prediction, -0.5), scale).map_err(refused)
}

fn boxed(made: Result<impl Denoiser<2> + 'static, DenoiseError>) -> Outcome<Answer> {
    made.map(|made| Box::new(made) as Answer).map_err(refused)
}

/// Guidance with a setting.
fn set(inner: Answer, prediction: Prediction, setting: Setting) -> Outcome<Answer> {
    boxed(setting(guided(inner, prediction, 2.0)?))
}

pub fn combinators() -> Vec<Combinator> {
    let any = |name, what, said, around| Combinator { name, what, said, around: Around::Any(around) };
    let network = |name, what, said, make| Combinator { name, what, said, around: Around::Network(make) };
    vec![
        network("guided", "`.guided(..)`, which only bound networks have", &["guid"], |of| {
            let bound = Steered.denoiser(of, Towards(vec![1.0])).map_err(refused)?;
            boxed(bound.guided(Towards(vec![-0.5]), 2.0))
        }),
        any("autoguided", "`.autoguided(..)`, which takes any two denoisers", &["guid"], |inner, of| {
            boxed(Ok(guided(inner, of, 2.0)?))
        }),
        any("rescaled", "`.rescaled(0.7)`", &["rescaled"], |inner, of| set(inner, of, |guided| guided.rescaled(0.7))),
        any("interval", "`.between(0.3, 5.0)`", &["interval"], |inner, of| {
            set(inner, of, |guided| guided.between(0.3, 5.0))
        }),
        any("scheduled", "`.scheduled(..)`", &["schedule"], |inner, of| set(inner, of, scheduled)),
        any("projected", "`.projected(..)` without momentum", &["projected"], |inner, of| {
            set(inner, of, |guided| guided.projected(Projection::new()))
        }),
        any("momentum", "`.projected(..)` with momentum, which is memory of the run", &["projected"], |inner, of| {
            set(inner, of, momentum)
        }),
        any("on outputs", "`.projected(..)` `.on_outputs()`", &["projected"], |inner, of| set(inner, of, on_outputs)),
        any("CFG-Zero*", "`.zero_star(1)`, which is memory of the run", &["CFG-Zero*"], |inner, of| {
            set(inner, of, |guided| guided.zero_star(1))
        }),
        any(
            "CFG++",
            "`.plus_plus()`; for solvers that want it, with another scale than they have alone",
            &["CFG++"],
            |inner, of| boxed(guided(inner, of, 0.6)?.plus_plus()),
        ),
        network("composed", "`.composed(..)`, which only bound networks have", &["compos"], |of| {
            let bound = Steered.denoiser(of, Towards(vec![1.0])).map_err(refused)?;
            boxed(bound.composed(vec![(Towards(vec![-0.5]), 1.2), (Towards(vec![2.0]), -0.5)]))
        }),
        any("composed with", "`.composed_with(..)`, which takes any denoisers", &["compos"], |inner, of| {
            boxed(inner.composed_with(vec![(answer_of(of, -0.5), 1.2), (answer_of(of, 2.0), -0.5)]))
        }),
        network(
            "self-conditioned",
            "`.self_conditioned(..)`, which is memory of the run, and which only bound networks have",
            &["remembers", "memory"],
            |of| boxed(Told.denoiser(of, ()).map(|bound| bound.self_conditioned(SelfCondition::After))),
        ),
        any(
            "threshold",
            "`.thresholded(Threshold::Static { .. })`, which leaves ε̂ as it is",
            &["threshold"],
            |inner, _| boxed(inner.thresholded(CLOSE)),
        ),
        any("and ε̂", "the same with `.rederive_eps()`", &["threshold"], |inner, _| {
            boxed(inner.thresholded(CLOSE).map(Thresholded::rederive_eps))
        }),
        any(
            "dynamic",
            "`.thresholded(Threshold::Dynamic { .. })`, which leaves ε̂ as it is",
            &["threshold"],
            |inner, _| boxed(inner.thresholded(DYNAMIC)),
        ),
        any("dynamic, and ε̂", "the same with `.rederive_eps()`", &["threshold"], |inner, _| {
            boxed(inner.thresholded(DYNAMIC).map(Thresholded::rederive_eps))
        }),
        any("energy of x", "`EnergyGuided::of_state(..)`", &["energy"], |inner, _| {
            boxed(Ok(EnergyGuided::of_state(inner, energy_fn(waves))))
        }),
        any("energy of x̂_0", "`EnergyGuided::of_clean(..)`", &["energy"], |inner, _| {
            boxed(Ok(EnergyGuided::of_clean(inner, energy_fn(waves))))
        }),
        any("classifier", "`EnergyGuided::classifier(..)`", &["energy"], |inner, _| {
            boxed(Ok(EnergyGuided::classifier(inner, energy_fn(|x, at| Ok(waves(x.mul_scalar(0.7), at)?.neg())))))
        }),
        any("DPS", "`inverse::Dps`", &["DPS"], |inner, _| {
            boxed(Dps::with_weight(inner, measurement(), 0.5).map_err(DenoiseError::from))
        }),
        any("ΠGDM", "`inverse::PiGdm`", &["ΠGDM"], |inner, _| {
            boxed(PiGdm::new(inner, measurement()).map_err(DenoiseError::from))
        }),
        any("filled", "`inverse::Filled`", &["filled"], |inner, _| boxed(Ok(Filled::new(inner, known())))),
        any("and ε̂ kept", "`inverse::Filled` `.keep_eps()`", &["filled"], |inner, _| {
            boxed(Ok(Filled::new(inner, known()).keep_eps()))
        }),
    ]
}

/// A threshold that every sample here meets.
const CLOSE: Threshold = Threshold::Static { range: 0.4 };

/// The same, by a quantile that lies below 1 in some and above in others.
const DYNAMIC: Threshold = Threshold::Dynamic { ratio: 0.3, max: 1.5 };

fn waves(x: Tensor<2>, _: &Levels) -> Result<Tensor<1>, DenoiseError> {
    Ok(x.sin().sum_dim(1).reshape([-1]))
}

type Setting = fn(GuidedAnswers) -> Result<GuidedAnswers, DenoiseError>;

fn momentum(guided: GuidedAnswers) -> Result<GuidedAnswers, DenoiseError> {
    guided.projected(settled(Projection::new().momentum(-0.5)))
}

fn scheduled(guided: GuidedAnswers) -> Result<GuidedAnswers, DenoiseError> {
    Ok(guided.scheduled(|level| level.sigma / (level.alpha + level.sigma)))
}

fn on_outputs(guided: GuidedAnswers) -> Result<GuidedAnswers, DenoiseError> {
    guided.projected(Projection::new().on_outputs())
}

/// A setting of guidance.
pub struct Set {
    pub name: &'static str,
    /// What errors say of it.
    pub said: &'static str,
    with: Setting,
}

pub fn settings() -> Vec<Set> {
    let set = |name, said, with: Setting| Set { name, said, with };
    vec![
        set("`.rescaled(0.7)`", "rescaled", |guided| guided.rescaled(0.7)),
        set("`.between(0.3, 5.0)`", "interval", |guided| guided.between(0.3, 5.0)),
        set("`.scheduled(..)`", "schedule", scheduled),
        set("`.projected(..)`", "projected", |guided| guided.projected(Projection::new())),
        set("`.projected(..)`, momentum", "projected", momentum),
        set("`.projected(..)`, on outputs", "projected", on_outputs),
        set("`.zero_star(0)`", "CFG-Zero*", |guided| guided.zero_star(0)),
        set("`.zero_star(1)`", "CFG-Zero*", |guided| guided.zero_star(1)),
        set("`.plus_plus()`", "CFG++", Guided::plus_plus),
    ]
}

/// Guidance with some of the settings, one after the other.
pub fn with_settings(which: &[usize]) -> Outcome<Answer> {
    let (all, plain) = (settings(), guided(Box::new(answer(1.0)), Prediction::Velocity, 0.6)?);
    boxed(which.iter().try_fold(plain, |guided, index| (all[*index].with)(guided)))
}

/// What networks may predict.
pub fn predictions() -> [(&'static str, Prediction); 6] {
    [
        ("ε", Prediction::Epsilon),
        ("x_0", Prediction::Sample),
        ("velocity", Prediction::Velocity),
        ("score", Prediction::Score),
        ("flow", Prediction::Flow),
        ("EDM", Prediction::Edm { sigma_data: 0.5 }),
    ]
}

/// Samples of DDIM, which takes the two answers of CFG++, too.
pub fn samples(on: On, made: Outcome<Answer>) -> Outcome<Vec<f64>> {
    denoised(on, &*made?)
}

/// What a call means that no denoiser answers.
struct NoMethod;

/// Methods that only bound networks have. If other denoisers had one, the calls below would mean that, or would not compile.
trait Lacking: Sized {
    fn guided(self) -> NoMethod {
        NoMethod
    }
    fn composed(self) -> NoMethod {
        NoMethod
    }
    fn self_conditioned(self) -> NoMethod {
        NoMethod
    }
}

impl<T: Denoiser<2>> Lacking for T {}

#[test]
fn only_bound_networks_have_these_methods() {
    let guided = || guided(Box::new(answer(1.0)), Prediction::Velocity, 2.0).expect("in range");
    let NoMethod = guided().guided();
    let NoMethod = guided().composed();
    let NoMethod = guided().self_conditioned();
    let NoMethod = answer(1.0).guided();
    let NoMethod = answer(1.0).composed();
    let NoMethod = answer(1.0).self_conditioned();
}
