//! DPMSolverMultistepScheduler and its inverse, EDMDPMSolverMultistepScheduler, CosineDPMSolverMultistepScheduler,
//! DPMSolverSinglestepScheduler, DEISMultistepScheduler, UniPCMultistepScheduler and SASolverScheduler.

use super::configured::{Configured, Schedule};
use super::edm::{COSINE, KARRAS, edm};
use super::lambdas::{Ending, Lambdas};
use super::method::Method;
use super::options::{self, chain, check_zero_snr, rescaled, thresholding};
use super::{ConfigError, keys::Keys};
use crate::exponential::{Basis, Deis, DpmSolver, SaSolver, SecondOrder, Singlestep, Tau, UniB, UniPc};
use langevin_core::process::RectifiedFlow;
use langevin_core::{Prediction, Process};
use std::sync::Arc;

/// Grids of fewer steps end with lower orders.
const SHORT: usize = 15;

pub(super) fn read_dpm(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (basis, solver) = dpm_solver(keys)?;
    let ending = ending(keys, basis)?;
    configured(keys, basis, ending, true, Method::Multistep(solver))
}

/// The same solver from data to noise.
pub(super) fn read_inverse(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (basis, solver) = dpm_solver(keys)?;
    configured(keys, basis, Ending::Repeated, false, Method::Multistep(solver))
}

/// The solver of the reverse SDE of order 1 or 2, on EDM's schedule with angles for times.
pub(super) fn read_cosine(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let order = order(keys)?;
    if !(1..=2).contains(&order) {
        return Err(keys.bad("solver_order", order, "1 or 2"));
    }
    let solver = DpmSolver::multistep(order)?.second_order(kind(keys)?).sde(1.0)?;
    let solver = short(keys, solver)?;
    let (process, sigmas, prediction) = edm(keys, COSINE)?;
    Ok(Configured::new(keys, process, prediction, Schedule::Edm(sigmas), Method::Multistep(solver)))
}

/// The same solver on EDM's schedule.
pub(super) fn read_edm(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (basis, solver) = dpm_solver(keys)?;
    if basis == Basis::Noise {
        return Err(keys.bad("algorithm_type", "dpmsolver", "dpmsolver++ or sde-dpmsolver++"));
    }
    let threshold = thresholding(keys)?;
    let (process, sigmas, prediction) = edm(keys, KARRAS)?;
    Ok(Configured {
        class: keys.class().to_owned(),
        process: Arc::new(process),
        prediction,
        threshold,
        rederive: false,
        drops_variance: false,
        compat: false,
        ignored: Vec::new(),
        schedule: Schedule::Edm(sigmas),
        method: Method::Multistep(solver),
    })
}

fn dpm_solver(keys: &mut Keys) -> Result<(Basis, DpmSolver), ConfigError> {
    let (basis, sde) = algorithm(keys, "dpmsolver++")?;
    let order = order(keys)?;
    let solver = keys.made(&["solver_order"], DpmSolver::multistep(order))?;
    let mut solver = solver.basis(basis).second_order(kind(keys)?);
    if sde {
        solver = solver.sde(1.0)?;
    }
    Ok((basis, short(keys, solver)?))
}

/// `lower_order_final` and `euler_at_final`.
fn short(keys: &mut Keys, solver: DpmSolver) -> Result<DpmSolver, ConfigError> {
    let lower = keys.flag("lower_order_final", true)?;
    let solver = solver.lower_order_below(if lower { SHORT } else { 0 });
    Ok(solver.euler_at_final(keys.flag("euler_at_final", false)?))
}

pub(super) fn read_singlestep(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (basis, sde) = algorithm(keys, "dpmsolver++")?;
    let order = order(keys)?;
    let solver = keys.made(&["solver_order"], Singlestep::new(order))?;
    let mut solver = solver.basis(basis).last_stage(kind(keys)?).on_grid();
    if sde {
        if order == 3 {
            return Err(keys.bad("solver_order", order, "1 or 2 with sde-dpmsolver++"));
        }
        solver = solver.sde(1.0)?;
    }
    let ending = ending(keys, basis)?;
    // A last step to no noise has order 1 anyhow; the option makes room for it.
    let lower = keys.flag("lower_order_final", false)? || ending == Ending::Zero;
    configured(keys, basis, ending, false, Method::Singlestep(solver.lower_order_final(lower)))
}

pub(super) fn read_deis(keys: &mut Keys) -> Result<Configured, ConfigError> {
    keys.one_of("algorithm_type", "deis", &["deis", "dpmsolver", "dpmsolver++"], "deis")?;
    keys.one_of("solver_type", "logrho", &["logrho", "midpoint", "heun", "bh1", "bh2"], "logrho")?;
    let lower = keys.flag("lower_order_final", true)?;
    let order = order(keys)?;
    let solver = keys.made(&["solver_order"], Deis::new(order))?.lower_order_below(if lower { SHORT } else { 0 });
    configured(keys, Basis::Noise, Ending::Repeated, false, Method::Deis(solver))
}

/// The basis of a UniPC, and the solver by its own options.
pub(super) fn unipc(keys: &mut Keys) -> Result<(Basis, UniPc), ConfigError> {
    let basis = if keys.flag("predict_x0", true)? { Basis::Data } else { Basis::Noise };
    let b = match keys.word("solver_type", "bh2")?.as_str() {
        "bh1" => UniB::Linear,
        "bh2" | "midpoint" | "heun" | "logrho" => UniB::Exponential,
        other => return Err(keys.bad("solver_type", other, "bh1 or bh2")),
    };
    let skipped = keys.numbers("disable_corrector")?.unwrap_or_default();
    if let Some(step) = skipped.iter().find(|step| !(**step >= 0.0 && step.fract() == 0.0)) {
        return Err(keys.bad("disable_corrector", step, "numbers of steps, whole and at least 0"));
    }
    keys.must_be_null("solver_p", "null: a whole scheduler for the predictor, which a file of numbers cannot name")?;
    let order = order(keys)?;
    let solver = keys
        .made(&["solver_order"], UniPc::new(order))?
        .basis(basis)
        .b(b)
        .skipping(skipped.into_iter().map(|step| step as usize));
    Ok((basis, solver.lower_order_final(keys.flag("lower_order_final", true)?)))
}

pub(super) fn read_unipc(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let (basis, solver) = unipc(keys)?;
    let ending = match keys.word("final_sigmas_type", "zero")?.as_str() {
        "zero" => Ending::Zero,
        "sigma_min" => Ending::Repeated,
        other => return Err(keys.bad("final_sigmas_type", other, "zero or sigma_min")),
    };
    let mut configured = configured(keys, basis, ending, true, Method::UniPc(solver))?;
    if basis == Basis::Noise {
        // The original looks at its thresholds where it predicts the sample alone.
        configured.threshold = None;
    }
    Ok(configured)
}

pub(super) fn read_sa(keys: &mut Keys) -> Result<Configured, ConfigError> {
    let basis = match keys.word("algorithm_type", "data_prediction")?.as_str() {
        "data_prediction" => Basis::Data,
        "noise_prediction" => Basis::Noise,
        other => return Err(keys.bad("algorithm_type", other, "data_prediction or noise_prediction")),
    };
    keys.must_be_null("tau_func", "null: a function of code; give `exponential::SaSolver` one by its `tau`")?;
    let (predictor, corrector) = (keys.count("predictor_order", 2)?, keys.count("corrector_order", 2)?);
    let tau = Tau::Between { tau: 1.0, clean: 200.0, noisy: 800.0 };
    let solver = keys
        .made(&["predictor_order", "corrector_order"], SaSolver::new(predictor, corrector))?
        .basis(basis)
        .tau(tau)?;
    let solver = solver.lower_order_final(keys.flag("lower_order_final", true)?);
    configured(keys, basis, Ending::Repeated, false, Method::Sa(solver))
}

fn order(keys: &mut Keys) -> Result<usize, ConfigError> {
    keys.count("solver_order", 2)
}

/// The basis, and whether noise is added.
fn algorithm(keys: &mut Keys, default: &str) -> Result<(Basis, bool), ConfigError> {
    match keys.word("algorithm_type", default)?.as_str() {
        "dpmsolver++" => Ok((Basis::Data, false)),
        "sde-dpmsolver++" => Ok((Basis::Data, true)),
        "dpmsolver" => Ok((Basis::Noise, false)),
        "sde-dpmsolver" => Ok((Basis::Noise, true)),
        // diffusers reads DEIS's configurations as its own, but for a last step to no noise.
        "deis" if keys.peek("final_sigmas_type") == Some("sigma_min") || keys.class().ends_with("InverseScheduler") => {
            Ok((Basis::Data, false))
        }
        "deis" => {
            let reason = "read as dpmsolver++, deis arrives at sigma_min; for a step to no noise say dpmsolver++";
            Err(keys.contradiction("final_sigmas_type", "algorithm_type", reason))
        }
        other => Err(keys.bad("algorithm_type", other, "dpmsolver, dpmsolver++, sde-dpmsolver or sde-dpmsolver++")),
    }
}

fn kind(keys: &mut Keys) -> Result<SecondOrder, ConfigError> {
    match keys.word("solver_type", "midpoint")?.as_str() {
        "midpoint" | "logrho" | "bh1" | "bh2" => Ok(SecondOrder::Midpoint),
        "heun" => Ok(SecondOrder::Heun),
        other => Err(keys.bad("solver_type", other, "midpoint or heun")),
    }
}

fn ending(keys: &mut Keys, basis: Basis) -> Result<Ending, ConfigError> {
    match (keys.word("final_sigmas_type", "zero")?.as_str(), basis) {
        ("zero", Basis::Data) => Ok(Ending::Zero),
        ("zero", Basis::Noise) => {
            let reason = "without ++ a step to no noise has no finite weights; take sigma_min";
            Err(keys.contradiction("final_sigmas_type", "algorithm_type", reason))
        }
        ("sigma_min", _) => Ok(Ending::Smallest),
        (other, _) => Err(keys.bad("final_sigmas_type", other, "zero or sigma_min")),
    }
}

/// `variance_type`: whether the network has channels of a variance, which these solvers leave.
fn drops_variance(keys: &mut Keys, prediction: Prediction) -> Result<bool, ConfigError> {
    match keys.optional_word("variance_type", "fixed_small")?.as_str() {
        // Words of DDPM for what it adds; the originals look at the learned ones only.
        "fixed_small" | "fixed_small_log" | "fixed_large" | "fixed_large_log" => Ok(false),
        "learned" | "learned_range" if prediction == Prediction::Epsilon => Ok(true),
        "learned" | "learned_range" => {
            let reason = "the original leaves the channels of a variance for an epsilon prediction only";
            Err(keys.contradiction("variance_type", "prediction_type", reason))
        }
        other => Err(keys.bad("variance_type", other, "null, learned, learned_range, or a fixed one of DDPMScheduler")),
    }
}

fn configured(
    keys: &mut Keys,
    basis: Basis,
    ending: Ending,
    rescales: bool,
    method: Method,
) -> Result<Configured, ConfigError> {
    let cosine = keys.peek("beta_schedule") == Some("squaredcos_cap_v2");
    let chain = chain(keys, options::DDPM)?;
    let chain = if rescales { rescaled(keys, chain)? } else { chain };
    let lambdas = Lambdas::read(keys, &chain, ending, cosine)?;
    let prediction = if keys.peek("prediction_type") != Some("flow_prediction") {
        options::prediction(keys)?
    } else if lambdas.is_flow() {
        keys.one_of("prediction_type", "", &["flow_prediction"], "flow_prediction")?;
        Prediction::Flow
    } else {
        let reason = "a flow prediction is one on the levels of a flow; set use_flow_sigmas";
        return Err(keys.contradiction("prediction_type", "use_flow_sigmas", reason));
    };
    let has_type = !matches!(method, Method::Deis(_) | Method::UniPc(_));
    let drops_variance = has_type && drops_variance(keys, prediction)?;
    if !lambdas.is_flow() {
        check_zero_snr(keys, &chain, prediction)?;
    }
    let process: Arc<dyn Process> = if lambdas.is_flow() { Arc::new(RectifiedFlow::new()) } else { Arc::new(chain) };
    Ok(Configured {
        class: keys.class().to_owned(),
        process,
        prediction,
        threshold: thresholding(keys)?,
        // Where noise is integrated, it is that of the thresholded sample.
        rederive: basis == Basis::Noise,
        drops_variance,
        compat: false,
        ignored: Vec::new(),
        schedule: Schedule::Lambdas(lambdas),
        method,
    })
}
