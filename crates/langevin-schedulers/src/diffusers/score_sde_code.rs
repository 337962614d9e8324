//! Configurations of the code of score SDEs (`score_sde_pytorch`), as JSON of their sections.

use super::{ConfigError, keys::Keys};
use crate::plan::{Draw, Plan, Row, Src, Term};
use crate::sde::{EulerMaruyama, Place, PredictorCorrector, ReverseDiffusion, corrected, idle};
use crate::solver::{PlanError, Solver};
use langevin_core::grid::{End, Stop};
use langevin_core::process::{Transition, VeSde, VpSde};
use langevin_core::{Grid, Process};
use serde_json::{Map, Value};

const NAME: &str = "score_sde";

/// The predictor and corrector that a configuration of score SDEs' code names.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreSdeCode {
    process: Noise,
    /// Time of the last question.
    eps: f64,
    scales: usize,
    predictor: Predictor,
    corrector: Corrector,
    ratio: f64,
    corrections: u32,
    denoise: bool,
    flow: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Noise {
    /// With the betas at both ends.
    Vp(VpSde, (f64, f64)),
    Ve(VeSde),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Predictor {
    EulerMaruyama,
    ReverseDiffusion,
    Ancestral,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Corrector {
    Langevin,
    Annealed,
    Nothing,
}

/// Whether a file is one of this code, and not of diffusers.
pub(super) fn is_code(file: &Map<String, Value>) -> bool {
    !file.contains_key("_class_name") && file.contains_key("sampling")
}

fn section(file: &Map<String, Value>, name: &'static str) -> Result<Keys, ConfigError> {
    match file.get(name) {
        None => Ok(Keys::section(NAME, Map::new())),
        Some(Value::Object(map)) => Ok(Keys::section(NAME, map.clone())),
        Some(other) => {
            let (given, expected) = (other.to_string(), "a section of options");
            Err(ConfigError::Value { class: NAME.to_owned(), key: name, given, expected })
        }
    }
}

/// Reads the sections `sampling`, all of whose keys count, `training` and `model`, of which most say nothing of sampling.
pub(super) fn read(file: &Map<String, Value>) -> Result<ScoreSdeCode, ConfigError> {
    let (mut training, mut model, mut sampling) =
        (section(file, "training")?, section(file, "model")?, section(file, "sampling")?);
    if !training.flag("continuous", true)? {
        return Err(training.bad("continuous", false, "true: networks that are told steps of a chain are not read"));
    }
    let (process, eps) = match training.word("sde", "")?.to_lowercase().as_str() {
        "vpsde" => {
            let betas = (model.number("beta_min", 0.1)?, model.number("beta_max", 20.0)?);
            (Noise::Vp(VpSde::new(betas.0, betas.1)?.range(1e-3, 1.0)?, betas), 1e-3)
        }
        "vesde" => {
            let (low, high) = (model.number("sigma_min", 0.01)?, model.number("sigma_max", 50.0)?);
            (Noise::Ve(VeSde::new(low, high)?), 1e-5)
        }
        other => {
            let expected = "'vpsde' or 'vesde'; for others put a `PredictorCorrector` on the process, as on `SubVpSde`";
            return Err(training.bad("sde", format!("'{other}'"), expected));
        }
    };
    let scales = model.count("num_scales", 1000)?;
    let method = sampling.word("method", "pc")?;
    if method.to_lowercase() != "pc" {
        return Err(sampling.bad("method", format!("'{method}'"), "'pc'; for 'ode' take `DormandPrince`"));
    }
    let predictor = match sampling.word("predictor", "")?.to_lowercase().as_str() {
        "euler_maruyama" => Predictor::EulerMaruyama,
        "reverse_diffusion" => Predictor::ReverseDiffusion,
        "ancestral_sampling" => Predictor::Ancestral,
        "none" => Predictor::Nothing,
        other => {
            let expected = "'euler_maruyama', 'reverse_diffusion', 'ancestral_sampling' or 'none'";
            return Err(sampling.bad("predictor", format!("'{other}'"), expected));
        }
    };
    let corrector = match sampling.word("corrector", "")?.to_lowercase().as_str() {
        "langevin" => Corrector::Langevin,
        "ald" => Corrector::Annealed,
        "none" => Corrector::Nothing,
        other => return Err(sampling.bad("corrector", format!("'{other}'"), "'langevin', 'ald' or 'none'")),
    };
    let ratio = sampling.number("snr", 0.16)?;
    let corrections = sampling.count("n_steps_each", 1)?;
    let corrections = u32::try_from(corrections)
        .map_err(|_| sampling.bad("n_steps_each", corrections, "fewer than 2^32 corrections"))?;
    let (denoise, flow) = (sampling.flag("noise_removal", true)?, sampling.flag("probability_flow", false)?);
    let reason = match predictor {
        Predictor::Ancestral => Some("an ancestral step has no form without noise"),
        Predictor::EulerMaruyama => Some("without noise it is Euler's method: take `ProbabilityFlow::euler()`"),
        Predictor::ReverseDiffusion | Predictor::Nothing => None,
    };
    if let Some(reason) = reason.filter(|_| flow) {
        return Err(sampling.contradiction("predictor", "probability_flow", reason));
    }
    sampling.finish()?;
    Ok(ScoreSdeCode { process, eps, scales, predictor, corrector, ratio, corrections, denoise, flow })
}

impl ScoreSdeCode {
    /// `num_scales`: the number of steps that the configuration means.
    pub fn steps(&self) -> usize {
        self.scales
    }

    pub(super) fn process(&self) -> &dyn Process {
        match &self.process {
            Noise::Vp(process, _) => process,
            Noise::Ve(process) => process,
        }
    }

    /// The levels of so many steps, and α of the chain at each of them on VP.
    fn stops(&self, steps: usize) -> Result<(Vec<Stop>, Option<Vec<f64>>), PlanError> {
        match &self.process {
            Noise::Ve(process) => Ok((ReverseDiffusion::score_sde_stops(process, steps, self.eps)?, None)),
            Noise::Vp(process, betas) => {
                let (stops, alphas) = ReverseDiffusion::score_sde_chain_stops(process, *betas, steps, self.eps)?;
                Ok((stops, Some(alphas)))
            }
        }
    }

    pub(super) fn predictor(&self, steps: usize) -> Result<Plan, PlanError> {
        let (stops, _) = self.stops(steps)?;
        let prior = self.process().prior_std();
        match self.predictor {
            Predictor::Nothing => idle(&stops, prior),
            Predictor::Ancestral => ancestral(&stops, prior, self.denoise),
            Predictor::ReverseDiffusion => {
                let solver = ReverseDiffusion::new();
                let solver = if self.denoise { solver.denoise_at_end() } else { solver };
                let solver = if self.flow { solver.probability_flow() } else { solver };
                solver.plan_stops(&stops, prior)
            }
            Predictor::EulerMaruyama => {
                let solver = EulerMaruyama::new().unit_steps();
                let solver = if self.denoise { solver.denoise_at_end() } else { solver };
                // The last time, in f32, may be rounded out of the range.
                let clean = self.process().time_range().0;
                let times = ReverseDiffusion::score_sde_times(steps, self.eps)?.map(|t| t.max(clean)).collect();
                solver.plan(self.process(), &Grid::times(times)?.ending(End::Clean))
            }
        }
    }

    /// Annealed corrections are rows of the predictor's plan; those that look at norms are its sampler's.
    pub(super) fn sampler(&self, steps: usize) -> Result<PredictorCorrector, PlanError> {
        let (stops, alphas) = self.stops(steps)?;
        let plan = self.predictor(steps)?;
        match self.corrector {
            // No corrections: the ratio is not used.
            Corrector::Nothing => PredictorCorrector::new(plan, 1.0, 0),
            Corrector::Annealed => {
                let shares = alphas.unwrap_or_else(|| vec![1.0; stops.len()]);
                assert_eq!(stops.len(), shares.len(), "each stop has a share");
                let place = |(stop, share): (&Stop, f64)| Some(Place { at: stop.ask, share });
                let places: Vec<_> = stops.iter().zip(shares).map(place).collect();
                let plan = corrected(&plan, &places, self.ratio, self.corrections as usize)?;
                PredictorCorrector::new(plan, 1.0, 0)
            }
            Corrector::Langevin => {
                let sampler = match self.predictor {
                    Predictor::Nothing => {
                        PredictorCorrector::at_stops(&stops, plan.prior_deviation(), self.ratio, self.corrections)?
                    }
                    _ => PredictorCorrector::new(plan, self.ratio, self.corrections)?,
                };
                let sampler = sampler.batch_norms();
                if let Some(alphas) = alphas { sampler.shares(alphas) } else { Ok(sampler) }
            }
        }
    }
}

/// `(x + v·score)/a` and noise: that of the posterior on VE, of the forward step on VP.
fn ancestral(stops: &[Stop], prior: f64, denoise: bool) -> Result<Plan, PlanError> {
    let row = |(index, stop): (usize, &Stop)| {
        let (from, to) = (stop.from.level, stop.to.level);
        let Transition { scale, variance } = Transition::between(&to, &from);
        let is_ve = from.alpha == to.alpha;
        let std = if is_ve { to.sigma * variance.sqrt() / from.sigma } else { variance.sqrt() };
        let noisy = std > 0.0 && !(denoise && index + 1 == stops.len());
        let mut sum =
            vec![Term::new(1.0 / scale, Src::X(0)), Term::new(-variance / (scale * stop.ask.sigma), Src::Eps(0))];
        if noisy {
            sum.push(Term::new(std, Src::Z(0)));
        }
        Row::step(index, stop, 0, sum, noisy.then_some(Draw::WHITE))
    };
    let rows = stops.iter().enumerate().map(row).collect();
    let Some(first) = stops.first() else { return Err(crate::plan::TableError::Empty.into()) };
    Ok(Plan::new("ancestral sampling of score SDEs", first.from, prior, rows)?)
}
