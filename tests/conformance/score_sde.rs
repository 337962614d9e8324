//! Cases of `score_sde/`: the three SDEs, their reverse as a whole and step by step, their flow, and loss
//! weights, in f64.

use crate::fixture::{Array, Case};
use crate::models;
use crate::outcome::{Outcome, Unsupported};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::exact::Posterior;
use langevin::core::grid::End;
use langevin::core::noise::Injected;
use langevin::core::process::{Betas, DiscreteChain, SubVpSde, VeSde, VpSde};
use langevin::core::{Grid, Key, Level, Prediction, Process};
use langevin::metrics::{Likelihood, Quantization, Trace};
use langevin::schedulers::ode::DormandPrince;
use langevin::schedulers::plan::{HostAnswer, Row};
use langevin::schedulers::{EulerMaruyama, Plan, Solver};
use langevin::train::{Objective, Weighting};
use std::fmt::Display;

/// A single step in `f64`, of the largest number in it.
const STEP: f64 = 1e-13;

fn unsupported(error: impl Display) -> Unsupported {
    Unsupported(error.to_string())
}

pub fn run(case: &Case<'_>) -> Outcome {
    if case.name() == "loss_weights" {
        return loss_weights(case);
    }
    // VP and sub-VP share their parameters: only the name tells them apart.
    let (process, quantity) =
        case.name().split_once('/').ok_or_else(|| Unsupported("a case without a process".into()))?;
    let process = self::process(process, case)?;
    match quantity {
        "marginal" => marginal(case, &*process),
        "reverse_sde_euler_maruyama" => reverse_sde(case, &*process),
        "likelihood" => likelihood(case, &*process),
        _ if quantity.starts_with("pf_ode") => probability_flow(case, &*process),
        other => Err(Unsupported(format!("quantity {other}"))),
    }
}

fn process(name: &str, case: &Case<'_>) -> Result<Box<dyn Process>, Unsupported> {
    let number = |key: &str| case.value["config"][key].as_f64().ok_or_else(|| Unsupported(format!("no {key}")));
    Ok(match name {
        "vp" => Box::new(VpSde::new(number("beta_min")?, number("beta_max")?).map_err(unsupported)?),
        "sub_vp" => Box::new(SubVpSde::new(number("beta_min")?, number("beta_max")?).map_err(unsupported)?),
        "ve" => Box::new(VeSde::new(number("sigma_min")?, number("sigma_max")?).map_err(unsupported)?),
        other => return Err(Unsupported(format!("process {other}"))),
    })
}

fn marginal(case: &Case<'_>, process: &dyn Process) -> Outcome {
    let times = &case.need("t").data;
    let compare = |field: &str, f: &dyn Fn(f64) -> f64| {
        let got: Vec<f64> = times.iter().map(|t| f(*t)).collect();
        case.compare(field, None, &got, &case.need(field).data);
    };
    compare("mean_coeff", &|t| process.alpha(t));
    compare("std", &|t| process.sigma(t));
    compare("drift_coeff", &|t| process.drift(t));
    compare("diffusion", &|t| process.diffusion_squared(t).sqrt());
    compare("half_log_snr", &|t| process.lambda(t));
    Ok(())
}

fn answer(x: &[f64], level: &Level) -> HostAnswer {
    HostAnswer {
        x0: models::mixture_x0(x, level.alpha, level.sigma),
        eps: models::mixture_eps(x, level.alpha, level.sigma),
        variance: None,
    }
}

fn reverse_sde(case: &Case<'_>, process: &dyn Process) -> Outcome {
    let grid = Grid::times(case.need("t_grid").data.clone()).map_err(unsupported)?.ending(End::Range);
    let (draws, path) = (case.need("noise"), case.need("path"));
    let mut noise = Injected::new();
    for step in 0..draws.rows() {
        noise = noise.with(Key::step(step as u64, 0), 0..1, draws.row(step).to_vec()).map_err(unsupported)?;
    }
    let x = &case.need("x_init").data;
    let plan = EulerMaruyama::new().plan(process, &grid).map_err(unsupported)?;
    let mut step = 0;
    let run = plan.run_host_steps(x.clone(), 0, &noise, answer, |at| {
        case.compare(&format!("x after step {step}"), None, at.x, path.row(step));
        step += 1;
    });
    if let Err(error) = run.map_err(|error| error.to_string()).and_then(|()| noise.finish().map_err(|e| e.to_string()))
    {
        case.fail(error);
    }
    if step != path.rows() {
        case.fail(format!("{step} steps, expected {}", path.rows()));
    }
    single_steps(case, &plan, x, draws, path);
    let mean = EulerMaruyama::new().denoise_at_end().plan(process, &grid).map_err(unsupported)?;
    match mean.run_host(x.clone(), 0, &noise, answer) {
        Ok(x) => case.compare("last_mean", None, &x, &case.need("last_mean").data),
        Err(error) => case.fail(error.to_string()),
    }
    Ok(())
}

/// Each step from the recorded state before it, as a plan of its own. No answer is recorded: the formula answers, from
/// that state.
fn single_steps(case: &Case<'_>, plan: &Plan, init: &[f64], draws: &Array, path: &Array) {
    let mut from = init;
    for (step, row) in plan.rows().iter().enumerate().take(path.rows()) {
        let row = Row { step: Some(0), ..row.clone() };
        let one = Plan::new("one step", plan.start_node(), 1.0, vec![row]).expect("one row of a plan is a plan");
        let noise = Injected::new().with(Key::step(0, 0), 0..1, draws.row(step).to_vec()).expect("a recorded draw");
        match one.run_host(from.to_vec(), 0, &noise, answer) {
            Ok(x) => {
                let largest = from.iter().chain(path.row(step)).fold(0.0, |most: f64, x| most.max(x.abs()));
                let what = format!("open loop, x after step {step}");
                case.compare_step(&what, step, (&x, path.row(step)), STEP * largest);
                case.count_step();
            }
            Err(error) => case.fail(format!("open loop, step {step}: {error}")),
        }
        from = path.row(step);
    }
}

fn probability_flow(case: &Case<'_>, process: &dyn Process) -> Outcome {
    let eps = case.value["config"]["eps"].as_f64().ok_or_else(|| Unsupported("no eps".into()))?;
    let slope = |t: f64, x: &[f64], dx: &mut [f64]| {
        let HostAnswer { x0, eps, .. } = answer(x, &process.level(t));
        for (i, dx) in dx.iter_mut().enumerate() {
            *dx = process.alpha_dot(t) * x0[i] + process.sigma_dot(t) * eps[i];
        }
    };
    let method = DormandPrince::new(1e-9, 1e-9).map_err(unsupported)?;
    match method.solve_host(slope, case.need("x_init").data.clone(), 1.0, eps) {
        Ok(solution) => case.compare("result", None, &solution.x, &case.need("result").data),
        Err(error) => case.fail(error.to_string()),
    }
    Ok(())
}

/// ln p through the ODE with the exact trace, and what lies between it and the exact density.
fn likelihood(case: &Case<'_>, process: &dyn Process) -> Outcome {
    if case.value["model"]["kind"] != "gmm" {
        return Err(Unsupported(format!("model {}", case.value["model"])));
    }
    let number = |key: &str| case.value["config"][key].as_f64().ok_or_else(|| Unsupported(format!("no {key}")));
    let problem = models::elementwise().map_err(unsupported)?;
    let denoiser = problem.clone().denoiser(Prediction::Epsilon).map_err(unsupported)?;
    let likelihood = Likelihood::new(process, Trace::Exact)
        .and_then(|likelihood| likelihood.between(number("eps").unwrap_or(f64::NAN), process.time_range().1))
        .and_then(|likelihood| likelihood.tolerance(1e-9, 1e-9))
        .and_then(|likelihood| likelihood.prior_std(number("prior_std").unwrap_or(f64::NAN)))
        .map_err(unsupported)?;
    let x0 = case.need("x0");
    let shape = [x0.shape[0], x0.shape[1..].iter().product()];
    let x = Tensor::<2>::from_data(TensorData::new(x0.data.clone(), shape), (&Device::flex(), DType::F64));
    let density = match likelihood.evaluate(x.clone(), &denoiser, &Injected::new()) {
        Ok(density) => density,
        Err(error) => {
            case.fail(error.to_string());
            return Ok(());
        }
    };
    let gaps = density.gaps(&problem).map_err(unsupported)?;
    let sum = |a: &[f64], b: &[f64], sign: f64| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + sign * b).collect() };
    let (log_p, bits) = (density.log_p(), density.bits_per_dimension());
    let with_true_prior = sum(&log_p, &gaps.prior, 1.0);
    let at_eps = sum(&with_true_prior, &gaps.flow, -1.0);
    let of_data = sum(&at_eps, &gaps.truncation, -1.0);
    let in_bits: Vec<f64> = at_eps.iter().map(|log_p| -log_p / (shape[1] as f64 * std::f64::consts::LN_2)).collect();
    // As for 8-bit images in [-1, 1].
    let offset = Quantization::bits(8).map_err(unsupported)?.offset_bits();
    let shifted: Vec<f64> = bits.iter().map(|bits| bits + offset).collect();
    let latent: Vec<f64> = density.latent().into_data().iter::<f64>().collect();
    let fields: [(&str, &[f64]); 10] = [
        ("latent", &latent),
        ("delta_logp", &density.change()),
        ("prior_logp", &density.prior()),
        ("logp_ode_gaussian_prior", &log_p),
        ("logp_ode_true_prior", &with_true_prior),
        ("logp_exact_at_eps", &at_eps),
        ("logp_exact_data", &of_data),
        ("bpd_ode", &bits),
        ("bpd_exact_at_eps", &in_bits),
        ("bpd_with_dequant_offset", &shifted),
    ];
    for (field, got) in fields {
        case.compare(field, None, got, &case.need(field).data);
    }
    Ok(())
}

fn loss_weights(case: &Case<'_>) -> Outcome {
    let config = &case.value["config"];
    let number = |key: &str| config[key].as_f64().ok_or_else(|| Unsupported(format!("no {key}")));
    let (start, end) = (number("beta_start")?, number("beta_end")?);
    let betas = match config["beta_schedule"].as_str() {
        Some("linear") => Betas::Linear { start, end },
        Some("scaled_linear") => Betas::ScaledLinear { start, end },
        other => return Err(Unsupported(format!("beta schedule {other:?}"))),
    };
    let chain = DiscreteChain::new(betas, config["num_train_timesteps"].as_u64().unwrap_or(1000) as usize)
        .map_err(unsupported)?;
    let times = &case.need("t").data;
    let levels: Vec<Level> = times.iter().map(|t| chain.level(*t)).collect();
    let snr: Vec<f64> = levels.iter().map(|level| (level.alpha / level.sigma).powi(2)).collect();
    case.compare("snr", None, &snr, &case.need("snr").data);
    let gamma = number("snr_gamma")?;
    let fields = [
        ("min_snr_epsilon", Prediction::Epsilon),
        ("min_snr_v", Prediction::Velocity),
        ("min_snr_x0", Prediction::Sample),
    ];
    for (field, prediction) in fields {
        let objective = Objective::new(chain.clone(), prediction)
            .and_then(|objective| objective.weighting(Weighting::MinSnr(gamma)))
            .map_err(unsupported)?;
        let weights: Result<Vec<f64>, _> = levels.iter().map(|level| objective.weight(level)).collect();
        case.compare(field, None, &weights.map_err(unsupported)?, &case.need(field).data);
    }
    Ok(())
}
