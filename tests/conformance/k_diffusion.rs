//! Cases of `k_diffusion/`: the samplers on EDM's process, whose σ is theirs, in closed loop, and schedules. Single steps
//! are in `k_diffusion_steps`.

use crate::fixture::Case;
use crate::k_diffusion_steps::{drawn, injected, open};
use crate::models;
use crate::outcome::{Outcome, Unsupported};
use crate::schedulers::{four, tensor, values};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::exact::Posterior;
use langevin::core::grid::End;
use langevin::core::noise::{Domain, Injected};
use langevin::core::process::{Edm, VpSde};
use langevin::core::{Grid, Key, Level, Levels, Prediction, Process, denoiser};
use langevin::metrics::{Likelihood, Trace};
use langevin::schedulers::DpmSolver;
use langevin::schedulers::exponential::{DpmAdaptive, DpmSolverSde, SecondOrder, Singlestep, ThirdOrder};
use langevin::schedulers::plan::Plan;
use langevin::schedulers::sigma::{Churn, Dpm2, Dpm2Ancestral, Euler, EulerAncestral, Heun, Lms, ancestral_step};
use langevin::schedulers::{SamplerExt, Solver};
use serde_json::Value;
use std::fmt::Display;
use std::sync::Mutex;

fn unsupported(error: impl Display) -> Unsupported {
    Unsupported(error.to_string())
}

pub fn run(case: &Case<'_>) -> Outcome {
    match case.name() {
        "schedules" => schedules(case),
        "ancestral_step" => {
            steps(case);
            Ok(())
        }
        "log_likelihood" => log_likelihood(case),
        _ if case.value["function"] == "sample_dpm_adaptive" => adaptive(case),
        _ => sampler(case),
    }
}

/// σ/α of every level of a grid, the last one included.
fn ratios(grid: &Grid, process: &dyn Process) -> Result<Vec<f64>, Unsupported> {
    let stops = grid.stops(process).map_err(unsupported)?;
    let ratio = |level: &Level| level.sigma / level.alpha;
    let last = stops.last().map(|stop| ratio(&stop.to.level));
    Ok(stops.iter().map(|stop| ratio(&stop.from.level)).chain(last).collect())
}

fn schedules(case: &Case<'_>) -> Outcome {
    let config = &case.value["config"];
    let number = |value: &Value, key: &str| value[key].as_f64().ok_or_else(|| Unsupported(format!("no {key}")));
    let n = config["n"].as_u64().ok_or_else(|| Unsupported("no n".into()))? as usize;
    let edm = Edm::new(number(config, "sigma_min")?, number(config, "sigma_max")?).map_err(unsupported)?;
    let vp = &config["vp"];
    let (low, range) = (number(vp, "beta_min")?, number(vp, "beta_d")?);
    let vp = VpSde::new(low, low + range).and_then(|vp_sde| vp_sde.range(number(vp, "eps_s").unwrap_or(1e-3), 1.0));
    let ends = ratios(&Grid::uniform(1), &vp.map_err(unsupported)?)?;
    let edm_of_vp = Edm::new(ends[1], ends[0]).map_err(unsupported)?;
    for field in case.fields() {
        let (process, grid): (&dyn Process, _) = match field.as_str() {
            "exponential" => (&edm, Ok(Grid::exponential(n))),
            "polyexponential" => (&edm, Grid::polyexponential(n, number(config, "polyexponential_rho")?)),
            "vp" => (&edm_of_vp, Grid::vp(n, low, low + range)),
            "karras" => (&edm, Grid::karras(n, number(config, "karras_rho")?)),
            // The name has the exponent.
            name => match name.strip_prefix("karras_rho").and_then(|rho| rho.parse().ok()) {
                Some(rho) => (&edm, Grid::karras(n, rho)),
                None => return Err(Unsupported(format!("schedule {name}"))),
            },
        };
        let found = ratios(&grid.map_err(unsupported)?.ending(End::Clean), process)?;
        if field == "vp" {
            // √(exp(..) − 1) in float32 keeps what float32 keeps of σ² + 1.
            let squares = |sigmas: &[f64]| sigmas.iter().map(|sigma| sigma * sigma + 1.0).collect::<Vec<_>>();
            case.compare_within(&field, &squares(&found), &squares(&case.need(&field).data), 0.0, 1e-6);
            continue;
        }
        case.compare(&field, None, &found, &case.need(&field).data);
    }
    Ok(())
}

fn log_likelihood(case: &Case<'_>) -> Outcome {
    if case.value["model"]["kind"] != "gmm" {
        return Err(Unsupported(format!("model {}", case.value["model"])));
    }
    let arguments = case.value["kwargs"].as_object().cloned().unwrap_or_default();
    let known = ["sigma_min", "sigma_max", "atol", "rtol"];
    if let Some(other) = arguments.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Unsupported(format!("argument {other} of log_likelihood")));
    }
    let number = |key: &str, default: Option<f64>| {
        let value = arguments.get(key).map_or(default, Value::as_f64);
        value.ok_or_else(|| Unsupported(format!("no {key}")))
    };
    let edm = Edm::new(number("sigma_min", None)?, number("sigma_max", None)?).map_err(unsupported)?;
    // Recorded probes are ±1; a probe that is not made into a sign is used as it is.
    let likelihood = Likelihood::new(edm, Trace::gaussian(1)).map_err(unsupported)?;
    let likelihood =
        likelihood.tolerance(number("rtol", Some(1e-4))?, number("atol", Some(1e-4))?).map_err(unsupported)?;
    let (x, recorded) = (case.need("x"), case.need("probe01"));
    let key = Key { domain: Domain::Probe, index: 0, lane: 0 };
    let probe = recorded.data.iter().map(|value| 2.0 * value - 1.0).collect();
    let noise = Injected::new().with(key, 0..x.rows() as u64, probe).expect("a recorded draw");
    let denoiser = models::elementwise().map_err(unsupported)?.denoiser(Prediction::Sample).map_err(unsupported)?;
    let samples = TensorData::new(x.data.clone(), four(&x.shape));
    let samples = Tensor::<4>::from_data(samples, (&Device::flex(), DType::F64));
    match likelihood.evaluate(samples, &denoiser, &noise) {
        Ok(density) => case.compare("log_likelihood", None, &density.log_p(), &case.need("log_likelihood").data),
        Err(error) => case.fail(error.to_string()),
    }
    Ok(())
}

fn steps(case: &Case<'_>) {
    let (from, to, eta) = (case.need("sigma_from"), case.need("sigma_to"), case.need("eta"));
    let expected = case.need("down_up");
    for i in 0..expected.rows() {
        let (down, up) = ancestral_step(from.data[i], to.data[i], eta.data[i]);
        case.compare(&format!("split {i}"), None, &[down, up], expected.row(i));
    }
}

pub fn solver(case: &Case<'_>) -> Result<Box<dyn Solver>, Unsupported> {
    let function = case.value["function"].as_str().unwrap_or("");
    let arguments = case.value["kwargs"].as_object().cloned().unwrap_or_default();
    let known: &[&str] = match function {
        "sample_euler" | "sample_heun" | "sample_dpm_2" => &["s_churn", "s_tmin", "s_tmax", "s_noise"],
        "sample_euler_ancestral" | "sample_dpm_2_ancestral" => &["eta", "s_noise"],
        "sample_lms" => &["order"],
        "sample_dpmpp_2m" => &[],
        "sample_dpmpp_2m_sde" => &["eta", "s_noise", "solver_type"],
        "sample_dpmpp_3m_sde" | "sample_dpmpp_2s_ancestral" => &["eta", "s_noise"],
        "sample_dpmpp_sde" => &["eta", "s_noise", "r"],
        "sample_dpm_fast" => &["n", "eta", "s_noise", "sigma_min", "sigma_max"],
        _ => return Err(Unsupported(format!("function {function}"))),
    };
    if let Some(other) = arguments.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Unsupported(format!("argument {other} of {function}")));
    }
    let number = |key: &str, default: f64| match arguments.get(key) {
        Some(Value::String(text)) if text == "inf" => f64::INFINITY,
        value => value.and_then(Value::as_f64).unwrap_or(default),
    };
    let churn = Churn::new(number("s_churn", 0.0))
        .and_then(|churn| churn.between(number("s_tmin", 0.0), number("s_tmax", f64::INFINITY)))
        .and_then(|churn| churn.noise(number("s_noise", 1.0)))
        .map_err(unsupported)?;
    let (eta, noise) = (number("eta", 1.0), number("s_noise", 1.0));
    let heun = arguments.get("solver_type").is_some_and(|kind| kind == "heun") || function == "sample_dpmpp_3m_sde";
    let second = if heun { SecondOrder::Heun } else { SecondOrder::Midpoint };
    let multistep = |order| {
        let solver = DpmSolver::multistep(order).and_then(|s| s.sde(eta)).and_then(|s| s.noise_scale(noise));
        Ok(Box::new(solver.map_err(unsupported)?.second_order(second).third_order(ThirdOrder::Half)))
    };
    Ok(match function {
        "sample_dpmpp_2m" => Box::new(DpmSolver::multistep(2).map_err(unsupported)?),
        "sample_dpmpp_2m_sde" => multistep(2)?,
        "sample_dpmpp_3m_sde" => multistep(3)?,
        "sample_dpmpp_2s_ancestral" => {
            let solver = Singlestep::new(2).and_then(|s| s.ancestral(eta)).and_then(|s| s.noise_scale(noise));
            Box::new(solver.map_err(unsupported)?)
        }
        "sample_dpmpp_sde" => {
            let solver = DpmSolverSde::new().eta(eta).and_then(|s| s.noise(noise));
            Box::new(solver.and_then(|s| s.midpoint(number("r", 0.5))).map_err(unsupported)?)
        }
        "sample_dpm_fast" => {
            let solver = Singlestep::fast(number("n", 0.0) as usize).and_then(|s| s.ancestral(number("eta", 0.0)));
            Box::new(solver.and_then(|s| s.noise_scale(noise)).map_err(unsupported)?)
        }
        "sample_euler" => Box::new(Euler::new().churn(churn)),
        "sample_heun" => Box::new(Heun::new().churn(churn)),
        "sample_dpm_2" => Box::new(Dpm2::new().churn(churn)),
        "sample_euler_ancestral" => {
            let solver = EulerAncestral::new().eta(eta).and_then(|solver| solver.noise(noise));
            Box::new(solver.map_err(unsupported)?)
        }
        "sample_dpm_2_ancestral" => {
            let solver = Dpm2Ancestral::new().eta(eta).and_then(|solver| solver.noise(noise));
            Box::new(solver.map_err(unsupported)?)
        }
        _ => Box::new(Lms::new(number("order", 4.0) as usize).map_err(unsupported)?),
    })
}

pub fn plan(case: &Case<'_>, solver: &dyn Solver) -> Result<Plan, Unsupported> {
    let Some(sigmas) = case.tensor("sigmas") else { return fast_plan(case, solver) };
    let sigmas = &sigmas.data;
    let (first, last) = (sigmas[0], sigmas[sigmas.len() - 1]);
    let asked = &sigmas[..sigmas.len() - usize::from(last == 0.0)];
    // Room on both sides: churn goes beyond the first sigma.
    let edm = Edm::new(1e-6, 2.0 * first).map_err(unsupported)?;
    let grid = Grid::times(asked.to_vec()).map_err(unsupported)?;
    let grid = grid.ending(if last == 0.0 { End::Clean } else { End::Range });
    solver.plan(&edm, &grid).map_err(unsupported)
}

/// Even in λ, as many steps as the solver has.
fn fast_plan(case: &Case<'_>, solver: &dyn Solver) -> Result<Plan, Unsupported> {
    let number = |key: &str| case.value["kwargs"][key].as_f64().ok_or_else(|| Unsupported(format!("no {key}")));
    let edm = Edm::new(number("sigma_min")?, number("sigma_max")?).map_err(unsupported)?;
    let steps = number("n")? as usize / 3 + 1;
    solver.plan(&edm, &Grid::uniform_lambda(steps).ending(End::Range)).map_err(unsupported)
}

pub fn denoised(model: &Value, x: &[f64], sigma: f64) -> Vec<f64> {
    if model["kind"] == "sin" {
        let scaled: Vec<f64> = x.iter().map(|x| x / (sigma * sigma + 1.0).sqrt()).collect();
        let time = 250.0 * (sigma + 1e-9).ln();
        return models::sine(models::sine_parameters(model), &scaled, time).iter().map(|x| 0.9 * x).collect();
    }
    models::mixture_x0(x, 1.0, sigma)
}

/// DPM-Solver with steps of its own choice: one error norm for the batch, and white noise, as there.
fn adaptive(case: &Case<'_>) -> Outcome {
    let arguments = case.value["kwargs"].as_object().cloned().unwrap_or_default();
    let known = ["order", "rtol", "atol", "h_init", "pcoeff", "icoeff", "dcoeff", "accept_safety", "eta", "s_noise"];
    let ends = ["sigma_min", "sigma_max"];
    if let Some(other) = arguments.keys().find(|key| !known.iter().chain(&ends).any(|known| known == key)) {
        return Err(Unsupported(format!("argument {other} of sample_dpm_adaptive")));
    }
    let number = |key: &str, default: f64| arguments.get(key).and_then(Value::as_f64).unwrap_or(default);
    let order = number("order", 3.0) as usize;
    let edm = Edm::new(number("sigma_min", f64::NAN), number("sigma_max", f64::NAN)).map_err(unsupported)?;
    let method = DpmAdaptive::new(number("rtol", 0.05), number("atol", 0.0078))
        .and_then(|method| method.order(order))
        .and_then(|method| method.first_step(number("h_init", 0.05)))
        .and_then(|method| method.coefficients(number("pcoeff", 0.0), number("icoeff", 1.0), number("dcoeff", 0.0)))
        .and_then(|method| method.accept_safety(number("accept_safety", 0.81)))
        .and_then(|method| method.eta(number("eta", 0.0)))
        .and_then(|method| method.noise_scale(number("s_noise", 1.0)))
        .map_err(unsupported)?;
    let sampler = method.batch_control().white_noise().over(edm).map_err(unsupported)?;
    let init = case.need("x_init");
    let (shape, draws) = (four(&init.shape), case.need("noise"));
    // One draw for each accepted step, used or not.
    let mut noise = Injected::new().allow_extra();
    for k in 0..case.need("noise_step").data.len() {
        noise = noise.with(Key::step(k as u64, 0), 0..shape[0] as u64, draws.row(k).to_vec()).expect("a recorded draw");
    }
    let asked = Mutex::new(Vec::new());
    let model = denoiser::from_fn(Prediction::Sample, |x: Tensor<4>, levels: &Levels| {
        let Levels::Shared(level) = levels else { unreachable!("a batch with one clock asks at shared levels") };
        asked.lock().expect("no panic").push(level.sigma);
        Ok(tensor(denoised(&case.value["model"], &values(&x), level.sigma), x.dims()))
    });
    let run = sampler.start_from(0, tensor(init.data.clone(), shape), &model, &noise).expect("a run");
    let end = match run.finish_state() {
        Ok(end) => end,
        Err(error) => {
            case.fail(error.to_string());
            return Ok(());
        }
    };
    case.compare("result", None, &values(&end.x()), &case.need("result").data);
    // At the noisy end errors are far below the tolerance, and no more than rounding in float32, but the next steps follow
    // from them: in float64 the original asks up to 1.5% elsewhere than in float32, and makes one attempt more or less.
    let (asked, expected) = (asked.into_inner().expect("no panic"), &case.need("model_sigmas").data);
    let both = if asked.len() == expected.len() { asked.len() } else { common(&asked, expected, order) };
    case.compare_within("model_sigmas", &asked[..both], &expected[..both], 0.0, 0.02);
    let (accepted, evaluations) = (end.steps(), end.evaluations());
    for (what, found, slack) in [
        ("steps", evaluations / order, 1),
        ("nfe", evaluations, order),
        ("n_accept", accepted, 1),
        ("n_reject", evaluations / order - accepted, 1),
    ] {
        if case.value["info"][what].as_u64().is_some_and(|expected| expected.abs_diff(found as u64) > slack as u64) {
            case.fail(format!("{what}: {found} instead of {}", case.value["info"][what]));
        }
    }
    Ok(())
}

/// How many questions two runs have in common, of which one makes an attempt more: those before the first attempt that is a
/// second one from the same level in one of them alone.
fn common(asked: &[f64], expected: &[f64], order: usize) -> usize {
    let both = asked.len().min(expected.len());
    let again = |list: &[f64], at: usize| list[at] == list[at - order];
    (order..both).step_by(order).find(|at| again(asked, *at) != again(expected, *at)).unwrap_or(both)
}

#[test]
fn runs_have_attempts_in_common_until_one_tries_again() {
    let (through, again) = ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0], [9.0, 8.0, 7.0, 6.0, 7.0, 6.5, 6.0, 5.5]);
    assert_eq!(common(&through, &again, 2), 4);
    assert_eq!(common(&again, &through, 2), 4);
    assert_eq!(common(&through, &through[..4], 2), 4);
    assert_eq!(common(&again, &again[..6], 2), 6);
}

fn sampler(case: &Case<'_>) -> Outcome {
    let solver = solver(case)?;
    let plan = plan(case, &*solver)?;
    let init = case.need("x_init");
    let shape = four(&init.shape);
    let drawn = drawn(case, &plan);
    let noise = injected(&drawn, shape[0] as u64);
    let seen = Mutex::new(Vec::new());
    let model = denoiser::from_fn(Prediction::Sample, |x: Tensor<4>, levels: &Levels| {
        let Levels::Shared(level) = levels else { unreachable!("a plan asks at shared levels") };
        let state = values(&x);
        let answer = denoised(&case.value["model"], &state, level.sigma);
        seen.lock().expect("no panic").push((level.sigma, state, answer.clone()));
        Ok(tensor(answer, x.dims()))
    });
    let run = plan.start_from(0, tensor(init.data.clone(), shape), &model, &noise).expect("a run");
    let result = match run.finish() {
        Ok(x) => values(&x),
        Err(error) => {
            case.fail(error.to_string());
            return Ok(());
        }
    };
    case.compare("result", None, &result, &case.need("result").data);
    if let Err(error) = noise.finish() {
        case.fail(error.to_string());
    }
    let seen = seen.into_inner().expect("no panic");
    let sigmas: Vec<f64> = seen.iter().map(|(sigma, ..)| *sigma).collect();
    case.compare_within("model_sigmas", &sigmas, &case.need("model_sigmas").data, 1e-9, 2e-6);
    // The first question of each step is the one of the callback.
    let (Some(states), Some(answers)) = (case.tensor("x_at_callback"), case.tensor("denoised_at_callback")) else {
        return Ok(());
    };
    open(case, &plan, &drawn, states, answers);
    let (mut first, mut step) = (true, 0);
    let asked = plan.rows().iter().filter(|row| row.eval.is_some());
    for (row, (_, x, x0)) in asked.zip(&seen) {
        if first && step < states.rows() {
            case.compare(&format!("x at step {step}"), None, x, states.row(step));
            case.compare(&format!("denoised at step {step}"), None, x0, answers.row(step));
        }
        first = row.step.is_some();
        step += usize::from(first);
    }
    if step != states.rows() {
        case.fail(format!("{step} steps, expected {}", states.rows()));
    }
    Ok(())
}
