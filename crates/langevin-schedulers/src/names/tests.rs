//! Every name, on every process.

use super::resolve::key;
use super::*;
use crate::consistency::{Lcm, Tcd};
use crate::exponential::{
    Basis, Deis, DpmSolver, DpmSolverSde, SaSolver, SecondOrder, Singlestep, Tau, ThirdOrder, UniB, UniPc,
};
use crate::plus_plus::{GuidedAt, PlusPlus};
use crate::sampler::SampleError;
use crate::sigma::{
    AncestralSplit, Dpm2, Dpm2Ancestral, ErSde, Euler, EulerAncestral, GradientEstimation, Heun, HeunPp, Ipndm, Lms,
    Pndm,
};
use crate::{Ddim, Ddpm, Restart, SamplerExt};
use burn::tensor::{Device, Tensor};
use langevin_core::denoiser::from_fn;
use langevin_core::grid::{AysTable, End};
use langevin_core::noise::Seeded;
use langevin_core::process::{Betas, DiscreteChain, Edm, RectifiedFlow, SubVpSde, VeSde, VpSde};
use langevin_core::{Denoiser, DenoiserExt, GridError, Levels, Load, Prediction};
use std::collections::BTreeMap;

fn chain() -> DiscreteChain {
    DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).unwrap()
}

fn processes() -> Vec<(&'static str, Arc<dyn Process>)> {
    vec![
        ("VP", Arc::new(VpSde::default())),
        ("sub-VP", Arc::new(SubVpSde::default())),
        ("VE", Arc::new(VeSde::default())),
        ("EDM", Arc::new(Edm::default())),
        ("flow", Arc::new(RectifiedFlow::new())),
        ("shifted flow", Arc::new(RectifiedFlow::new().shift(3.0).unwrap().network_time_scale(1000.0).unwrap())),
        ("chain", Arc::new(chain())),
        ("zero-SNR chain", Arc::new(chain().rescale_zero_terminal_snr().unwrap())),
    ]
}

/// Schedules that go with any process; the table of video models begins at a σ/α that only EDM's processes have.
fn everywhere() -> impl Iterator<Item = Listed> {
    spacings().filter(|spacing| spacing.name != "ays_svd")
}

#[test]
fn every_name_plans_on_every_process() {
    let mut wrong = Vec::new();
    for (on, process) in processes() {
        for listed in solvers() {
            let named = from_name(listed.name).unwrap();
            for steps in [8, 20] {
                let plan = match named.plan(&process, steps) {
                    Err(NameError::NoPlan { .. }) => continue,
                    Err(error) => {
                        wrong.push(format!("{} on {on} in {steps}: {error}", listed.name));
                        continue;
                    }
                    Ok(plan) => plan,
                };
                let asked = match listed.name {
                    "dpm_fast" => plan.evaluations(),
                    // Rises ask nothing.
                    "restart" => plan.rows().iter().filter(|row| row.step.is_some() && row.eval.is_some()).count(),
                    _ => plan.steps(),
                };
                assert_eq!(asked, steps, "{} on {on}", listed.name);
            }
            if let Err(error) = named.sampler::<2>(process.clone(), 20) {
                wrong.push(format!("{} on {on}: {error}", listed.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_schedule_goes_with_every_sampler() {
    let (mut wrong, mut long) = (Vec::new(), Vec::new());
    for (on, process) in processes() {
        for (listed, spacing) in solvers().flat_map(|solver| everywhere().map(move |spacing| (solver, spacing))) {
            let name = format!("{} {}", listed.name, spacing.name);
            let named = from_name(&name).unwrap();
            let expected = Spacing::from_name(spacing.name).unwrap();
            assert!(
                named.name() == listed.name && (expected == Spacing::Automatic) != (named.spacing() == expected),
                "{name}"
            );
            match named.plan(&process, 12) {
                Err(NameError::Plan(PlanError::StepTooLong { .. })) => long.push((on, listed.name, spacing.name)),
                Ok(_) | Err(NameError::NoPlan { .. }) => {}
                Err(error) => wrong.push(format!("{name} on {on}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The reverse SDE in time takes no long steps from where it leaves pure noise. Those that go slowly there are the two tables, those
    // that leave the noisiest levels out, and its own.
    let mut expected = Vec::new();
    for on in ["flow", "shifted flow", "zero-SNR chain"] {
        for solver in ["euler_maruyama", "euler_maruyama_path"] {
            let slow = ["automatic", "uniform_lambda", "ddim_uniform", "leading", "ays", "ays_sdxl"];
            let slow = |name: &str| slow.contains(&name) || on == "flow" && name == "linear_quadratic";
            let long = everywhere().filter(|spacing| !slow(spacing.name));
            expected.extend(long.map(|spacing| (on, solver, spacing.name)));
        }
    }
    assert_eq!(long, expected);
}

/// The table of video models goes from a σ/α of 700 to one of 0.002, and says so of a process that has not both.
#[test]
fn the_table_of_video_models_names_its_range() {
    let wide: Arc<dyn Process> = Arc::new(Edm::new(0.002, 700.0).unwrap());
    let mut left = 0;
    for (on, process) in processes().into_iter().chain([("wide EDM", wide)]) {
        for listed in solvers() {
            let named = from_name(&format!("{} ays_svd", listed.name)).unwrap();
            match named.plan(&process, 12) {
                Err(NameError::NoPlan { .. }) => {}
                Err(NameError::Grid(error @ GridError::BeyondTable { .. }))
                    if !on.contains("flow") && on != "wide EDM" =>
                {
                    assert!(error.to_string().contains("`Edm` from 0.002 to 700"), "{error}");
                    left += 1;
                }
                planned => assert!(
                    planned.is_ok() && (on.contains("flow") || on == "wide EDM"),
                    "{} on {on}: {planned:?}",
                    listed.name
                ),
            }
        }
    }
    assert!(left > 300, "{left}");
}

/// Wherever a name starts: some leave pure noise out, and would run.
#[test]
fn no_name_takes_noise_for_an_answer_on_a_chain_that_ends_in_pure_noise() {
    let chain: Arc<dyn Process> = Arc::new(chain().rescale_zero_terminal_snr().unwrap());
    let noise = Seeded::new(1);
    for prediction in [Prediction::Epsilon, Prediction::Score, Prediction::ScaledScore] {
        let answer = from_fn(prediction, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(0.9)));
        let twofold = DenoiserExt::<2>::autoguided(answer.clone(), answer.clone(), 0.6).unwrap().plus_plus().unwrap();
        for listed in solvers() {
            let sampler = from_name(listed.name).unwrap().sampler::<2>(chain.clone(), 20).unwrap();
            let denoiser: &dyn Denoiser<2> = if sampler.needs_split() { &twofold } else { &answer };
            let run = sampler.start([2, 3], denoiser, &noise, Load::on(&Device::flex())).unwrap();
            let error = run.finish().map(|_| ()).unwrap_err();
            assert_eq!(error, SampleError::ZeroTerminalSnr { prediction }, "{}", listed.name);
        }
    }
    let error = SampleError::ZeroTerminalSnr { prediction: Prediction::Epsilon }.to_string();
    assert!(error.contains("zero terminal SNR and an epsilon prediction contradict each other"), "{error}");
    // The same start is one of their own on a chain that keeps some signal.
    let epsilon = from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(0.9)));
    let kept: Arc<dyn Process> = Arc::new(DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).unwrap());
    let sampler = from_name("uni_pc").unwrap().sampler::<2>(kept, 20).unwrap();
    assert!(sampler.start([2, 3], &epsilon, &noise, Load::on(&Device::flex())).unwrap().finish().is_ok());
}

#[test]
fn names_mean_these_solvers() {
    let multi = |order| DpmSolver::multistep(order).unwrap();
    let ends = || Singlestep::new(2).and_then(|solver| solver.last_stage(SecondOrder::Heun).midpoint(1.0));
    let tau = Tau::Between { tau: 1.0, clean: 199.8, noisy: 799.2 };
    let expected: Vec<(&str, Box<dyn Solver>)> = vec![
        ("Euler", Box::new(Euler::new())),
        ("Euler a", Box::new(EulerAncestral::new())),
        ("Heun", Box::new(Heun::new())),
        ("DPM2", Box::new(Dpm2::new())),
        ("DPM2 a", Box::new(Dpm2Ancestral::new())),
        ("heunpp2", Box::new(HeunPp::new())),
        ("gradient_estimation", Box::new(GradientEstimation::new())),
        ("er_sde", Box::new(ErSde::new(3).unwrap())),
        ("seeds_2", Box::new(Singlestep::new(2).unwrap().sde(1.0).unwrap())),
        ("seeds_3", Box::new(Singlestep::new(3).unwrap().sde(1.0).unwrap())),
        ("LMS", Box::new(Lms::new(4).unwrap())),
        ("iPNDM_v", Box::new(Lms::new(4).unwrap())),
        ("PLMS", Box::new(Pndm::new())),
        ("PNDMScheduler", Box::new(Pndm::runge_kutta())),
        ("iPNDM", Box::new(Ipndm::new())),
        ("Restart", Box::new(Restart::around(Heun::new()).interval_of_steps(0.1, 2.0, 1, 9).unwrap())),
        ("DPM++ 2M", Box::new(multi(2))),
        ("DPMSolverMultistepScheduler", Box::new(multi(2).lower_order_below(15))),
        ("DPM++ 2M SDE", Box::new(multi(2).sde(1.0).unwrap().path())),
        ("DPM++ 2M SDE Heun", Box::new(multi(2).sde(1.0).unwrap().second_order(SecondOrder::Heun).path())),
        (
            "DPM++ 3M SDE",
            Box::new(multi(3).sde(1.0).unwrap().second_order(SecondOrder::Heun).third_order(ThirdOrder::Half).path()),
        ),
        ("dpm_solver_2m", Box::new(multi(2).basis(Basis::Noise))),
        ("res_multistep", Box::new(Deis::new(2).unwrap().basis(Basis::Data))),
        ("deis", Box::new(Deis::new(3).unwrap())),
        ("UniPC", Box::new(UniPc::new(3).unwrap().b(UniB::Linear).lower_order_final(true))),
        ("uni_pc_bh2", Box::new(UniPc::new(3).unwrap().lower_order_final(true))),
        ("UniPCMultistepScheduler", Box::new(UniPc::new(2).unwrap().lower_order_final(true))),
        ("sa_solver", Box::new(SaSolver::new(3, 4).unwrap().tau(tau.clone()).unwrap())),
        ("res_multistep_ancestral", Box::new(multi(2).second_order(SecondOrder::Heun).ancestral(1.0).unwrap())),
        ("sa_solver_pece", Box::new(SaSolver::new(3, 4).unwrap().tau(tau.clone()).unwrap().evaluate_again())),
        ("exp_heun_2_x0", Box::new(ends().unwrap())),
        ("exp_heun_2_x0_sde", Box::new(ends().unwrap().sde(1.0).unwrap())),
        ("dpmpp_2s", Box::new(Singlestep::new(2).unwrap())),
        ("DPM++ SDE", Box::new(DpmSolverSde::new())),
        ("DPM++ 2S a", Box::new(Singlestep::new(2).unwrap().ancestral(1.0).unwrap())),
        ("DPM fast", Box::new(Singlestep::fast(20).unwrap())),
        ("DDPM", Box::new(Ddpm::new())),
        ("DDIM", Box::new(Ddim::new())),
        ("euler_cfg_pp", Box::new(PlusPlus::around(Euler::new()))),
        ("DDIM CFG++", Box::new(PlusPlus::around(Ddim::new()))),
        ("dpmpp_2m_cfg_pp", Box::new(PlusPlus::around(multi(2)).guided_at(GuidedAt::Slope))),
        ("LCM", Box::new(Lcm::new())),
        ("TCD", Box::new(Tcd::new(0.3).unwrap())),
    ];
    // On a flow these are others.
    let shares: [(&str, Box<dyn Solver>); 3] = [
        ("Euler a", Box::new(EulerAncestral::new().split(AncestralSplit::Share))),
        ("DPM2 a", Box::new(Dpm2Ancestral::new().split(AncestralSplit::Share))),
        (
            "DPM++ 2S a",
            Box::new(Singlestep::new(2).unwrap().ancestral(1.0).unwrap().ancestral_split(AncestralSplit::Share)),
        ),
    ];
    let functions = ["sample_euler_ancestral_RF", "sample_dpm_2_ancestral_RF", "sample_dpmpp_2s_ancestral_RF"];
    let mut compared = 0;
    for ((name, solver), function) in shares.iter().zip(functions) {
        let (named, share) = (from_name(name).unwrap(), from_name(function).unwrap());
        for (on, process) in processes() {
            let plan = share.plan(&process, 20).unwrap();
            assert_eq!(plan, solver.plan(&process, &named.grid(&process, 20).unwrap()).unwrap(), "{function} on {on}");
            assert_eq!(plan == named.plan(&process, 20).unwrap(), on.contains("flow"), "{name} on {on}");
        }
    }
    for (name, solver) in &expected {
        let named = from_name(name).unwrap();
        for (on, process) in processes() {
            if on.contains("flow") && shares.iter().any(|(share, _)| share == name) {
                continue;
            }
            // The interval of SA-Solver's noise is one of the chain's times.
            if name.starts_with("sa_solver") && on != "chain" {
                continue;
            }
            let (_, steps) = named.solver(&process, 20).unwrap();
            let direct = solver.plan(&process, &named.grid(&process, steps).unwrap()).unwrap();
            let plan = named.plan(&process, 20).unwrap();
            // One formula may be written in two ways.
            let numbers = |plan: &Plan| serde_json::to_value(plan).unwrap()["rows"].to_string();
            if *name == "res_multistep" {
                assert_eq!(plan.evaluations(), direct.evaluations());
                for (a, b) in plan.rows().iter().zip(direct.rows()) {
                    for (a, b) in a.post[0].sum.iter().zip(&b.post[0].sum) {
                        let (crate::plan::Coef::C(x), crate::plan::Coef::C(y)) = (a.c, b.c) else { panic!("numbers") };
                        assert!(a.of == b.of && (x - y).abs() < 1e-12 * (1.0 + y.abs()), "{on}: {x} and {y}");
                    }
                }
            } else {
                assert_eq!(numbers(&plan), numbers(&direct), "{name} on {on}");
            }
            compared += 1;
        }
    }
    assert!(compared > 200);
}

/// Network times of a plan's questions.
fn asked(name: &str, process: &dyn Process, steps: usize) -> Vec<f64> {
    let plan = from_name(name).unwrap().plan(process, steps).unwrap();
    plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at.time)).collect()
}

/// σ/α of the levels of a plan's steps.
fn ratios(name: &str, process: &dyn Process, steps: usize) -> Vec<f64> {
    let plan = from_name(name).unwrap().plan(process, steps).unwrap();
    let nodes = std::iter::once(plan.start_node())
        .chain(plan.rows().iter().filter(|row| row.step.is_some()).map(|row| row.after));
    nodes.map(|node| node.level.sigma / node.level.alpha).collect()
}

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + b.abs())), "{a:?} is not {b:?}");
}

#[test]
fn schedules_are_those_of_the_programs() {
    let chain = chain();
    let t = |times: &[f64]| times.to_vec();
    // A1111's and ComfyUI's on 1000 steps, in their own words.
    close(&asked("euler normal", &chain, 4), &[999.0, 666.0, 333.0, 0.0]);
    close(&asked("euler sgm_uniform", &chain, 4), &[999.0, 749.25, 499.5, 249.75]);
    assert_eq!(asked("euler simple", &chain, 3), t(&[999.0, 666.0, 333.0]));
    assert_eq!(asked("euler ddim_uniform", &chain, 4), t(&[751.0, 501.0, 251.0, 1.0]));
    assert_eq!(asked("euler turbo", &chain, 4), t(&[999.0, 749.0, 499.0, 249.0]));
    let (low, high) = (ratios("euler normal", &chain, 2)[1], ratios("euler normal", &chain, 2)[0]);
    assert!((low - 0.0292).abs() < 1e-4 && (high - 14.6146).abs() < 1e-3, "{low} {high}");
    let of = |f: &dyn Fn(f64) -> f64, back: &dyn Fn(f64) -> f64, n: usize| -> Vec<f64> {
        let at = |i: usize| back(f(high) + (f(low) - f(high)) * i as f64 / (n - 1) as f64);
        (0..n).map(at).chain([0.0]).collect()
    };
    close(&ratios("euler karras", &chain, 7), &of(&|s| s.powf(1.0 / 7.0), &|s| s.powi(7), 7));
    close(&ratios("euler exponential", &chain, 7), &of(&f64::ln, &f64::exp, 7));
    close(&ratios("euler polyexponential", &chain, 7), &of(&f64::ln, &f64::exp, 7));
    close(&ratios("euler kl_optimal", &chain, 7), &of(&f64::atan, &f64::tan, 7));
    // β from 0.1 to 20.
    let (time, sigma) = (
        |s: f64| ((s * s).ln_1p() * 2.0 * 19.9 + 0.01).sqrt() / 19.9 - 0.1 / 19.9,
        |t: f64| (9.95 * t * t + 0.1 * t).exp_m1().sqrt(),
    );
    close(&ratios("euler get_sigmas_vp", &chain, 7), &of(&time, &sigma, 7));
    let spare = ratios("euler vp", &chain, 8);
    close(&ratios("dpm_2 vp", &chain, 7), &[&spare[..7], &[0.0]].concat());
    // threshold_noise = 0.025, linear_steps = 2.
    close(&ratios("euler linear_quadratic", &chain, 4), &[1.0, 0.9875, 0.975, 0.725, 0.0].map(|x| x * high));
    let beta: Vec<f64> = {
        let stops = Grid::beta(5, 0.6, 0.6).unwrap().ending(End::Range).stops(&chain).unwrap();
        stops.iter().map(|stop| stop.ask.time).collect()
    };
    close(&asked("euler beta", &chain, 5), &beta);
    close(&ratios("euler ays", &chain, 10)[1..10], &AysTable::StableDiffusion15.sigmas()[1..10]);
    // One level more, and the last but the end left out.
    let spare = ratios("euler karras", &chain, 8);
    close(&ratios("dpm_2_karras", &chain, 7), &[&spare[..7], &[0.0]].concat());
    close(&ratios("KDPM2DiscreteScheduler karras", &chain, 8), &spare);
}

/// On a flow the programs space σ = t between 1/1000 and 1.
#[test]
fn schedules_of_flows_space_the_share_of_noise() {
    let flow = RectifiedFlow::new();
    close(&asked("euler sgm_uniform", &flow, 4), &[1.0, 0.75025, 0.5005, 0.25075]);
    let of = |f: &dyn Fn(f64) -> f64, back: &dyn Fn(f64) -> f64| -> Vec<f64> {
        (0..6).map(|i| back(f(1.0) + (f(1e-3) - f(1.0)) * f64::from(i) / 5.0)).collect()
    };
    close(&asked("euler karras", &flow, 6), &of(&|s| s.powf(1.0 / 7.0), &|s| s.powi(7)));
    close(&asked("euler exponential", &flow, 6), &of(&f64::ln, &f64::exp));
    let time = |s: f64| ((s * s).ln_1p() * 2.0 * 19.9 + 0.01).sqrt() / 19.9 - 0.1 / 19.9;
    close(&asked("euler vp", &flow, 6), &of(&time, &|t| (9.95 * t * t + 0.1 * t).exp_m1().sqrt()));
    close(&asked("euler linear_quadratic", &flow, 4), &[1.0, 0.9875, 0.975, 0.725]);
}

#[test]
fn spellings_mean_one_thing_each() {
    let mut seen: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for solver in solvers() {
        for name in std::iter::once(solver.name).chain(solver.also.iter().copied()) {
            let alone = (solver.name, "");
            assert_eq!(seen.insert(key(name), alone), None, "{name} is there twice");
            for spacing in spacings() {
                for end in std::iter::once(spacing.name).chain(spacing.also.iter().copied()) {
                    let before = seen.insert(key(name) + &key(end), (solver.name, spacing.name));
                    assert_eq!(before, None, "{name} {end} is there twice");
                }
            }
            for spelling in
                [name.to_uppercase(), name.replace('_', " "), name.replace('_', "-"), format!("sample_{name}")]
            {
                assert_eq!(from_name(&spelling).unwrap().name(), solver.name, "{spelling}");
            }
        }
    }
    for known in elsewhere() {
        assert!(!seen.contains_key(&key(known.name)), "{} is there", known.name);
        for name in [known.name.to_owned(), format!("{} karras", known.name)] {
            let error = from_name(&name).unwrap_err();
            assert!(matches!(&error, NameError::Elsewhere { given, .. } if *given == name), "{name}: {error}");
        }
    }
}

/// The lists of the programs, word by word: each name is there.
#[test]
fn lists_of_programs_are_covered() {
    const A1111: &str = "DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler, LMS, Heun, \
                         DPM2, DPM2 a, DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM, k_euler_a, k_dpmpp_2m";
    const A1111_SCHEDULES: &str = "Automatic, Uniform, Karras, Exponential, Polyexponential, SGM Uniform, KL Optimal, \
                                   Align Your Steps, Simple, Normal, DDIM, DDIM Uniform, Beta, Turbo";
    const COMFYUI: &str = "euler, euler_cfg_pp, euler_ancestral, euler_ancestral_cfg_pp, heun, heunpp2, exp_heun_2_x0, \
                           exp_heun_2_x0_sde, dpm_2, dpm_2_ancestral, lms, dpm_fast, dpm_adaptive, dpmpp_2s_ancestral, \
                           dpmpp_2s_ancestral_cfg_pp, dpmpp_sde, dpmpp_sde_gpu, dpmpp_2m, dpmpp_2m_cfg_pp, dpmpp_2m_sde, \
                           dpmpp_2m_sde_gpu, dpmpp_2m_sde_heun, dpmpp_2m_sde_heun_gpu, dpmpp_3m_sde, dpmpp_3m_sde_gpu, ddpm, lcm, \
                           ipndm, ipndm_v, deis, res_multistep, res_multistep_cfg_pp, res_multistep_ancestral, \
                           res_multistep_ancestral_cfg_pp, gradient_estimation, gradient_estimation_cfg_pp, er_sde, seeds_2, \
                           seeds_3, sa_solver, sa_solver_pece, ddim, uni_pc, uni_pc_bh2";
    const COMFYUI_SCHEDULES: &str =
        "simple, sgm_uniform, karras, exponential, ddim_uniform, beta, normal, linear_quadratic, kl_optimal";
    const K_DIFFUSION: &str = "sample_euler, sample_euler_ancestral, sample_heun, sample_dpm_2, sample_dpm_2_ancestral, \
                               sample_lms, sample_dpm_fast, sample_dpm_adaptive, sample_dpmpp_2s_ancestral, \
                               sample_dpmpp_sde, sample_dpmpp_2m, sample_dpmpp_2m_sde, sample_dpmpp_3m_sde";
    const K_DIFFUSION_SCHEDULES: &str =
        "get_sigmas_karras, get_sigmas_exponential, get_sigmas_polyexponential, get_sigmas_vp";
    let list = |names: &'static str| names.split(',').map(str::trim);
    for (names, schedules) in
        [(A1111, A1111_SCHEDULES), (COMFYUI, COMFYUI_SCHEDULES), (K_DIFFUSION, K_DIFFUSION_SCHEDULES)]
    {
        for name in list(names) {
            assert!(from_name(name).is_ok(), "{name}");
            for schedule in list(schedules) {
                assert!(from_name(&format!("{name} {schedule}")).is_ok(), "{name} {schedule}");
            }
        }
    }
    for schedule in [A1111_SCHEDULES, COMFYUI_SCHEDULES, K_DIFFUSION_SCHEDULES].into_iter().flat_map(list) {
        assert!(Spacing::from_name(schedule).is_ok(), "{schedule}");
    }
    // One wants an image, others have processes of their own: they are read from their configurations.
    let configured = [
        "RePaintScheduler",
        "DDPMWuerstchenScheduler",
        "CogVideoXDDIMScheduler",
        "CogVideoXDPMScheduler",
        "MiniMaxH3Scheduler",
        "ConsistencyDecoderScheduler",
        "FlowMapEulerDiscreteScheduler",
    ];
    for class in crate::diffusers::CLASSES.into_iter().filter(|class| !configured.contains(class)) {
        assert!(from_name(class).is_ok(), "{class}");
    }
    let others = crate::diffusers::SCORE_SDE_CLASSES
        .into_iter()
        .chain(crate::diffusers::HELIOS_CLASSES)
        .chain(crate::diffusers::TOKEN_CLASSES);
    for class in configured.into_iter().chain(others) {
        let error = from_name(class).unwrap_err();
        assert!(matches!(error, NameError::Elsewhere { .. }) && error.to_string().contains("from_config"), "{error}");
    }
}

#[test]
fn unknown_names_say_which_is_nearest() {
    for (given, nearest) in [
        ("dpmpp_2n", "dpmpp_2m"),
        ("Eulr a", "euler_a"),
        ("DPM++ 2M Karas", "dpmpp_2m karras"),
        ("EulerDiscretScheduler", "EulerDiscreteScheduler"),
        ("unipcc", "uni_pc"),
    ] {
        let expected = NameError::Unknown { given: given.into(), nearest: Some(nearest.into()) };
        assert_eq!(from_name(given).unwrap_err(), expected);
        assert!(expected.to_string().contains(given) && expected.to_string().contains(nearest));
    }
    let error = Spacing::from_name("karas").unwrap_err();
    assert_eq!(error, NameError::UnknownSpacing { given: "karas".into(), nearest: Some("karras".into()) });
    assert!(from_name("").is_err() && from_name("+ +").is_err());
}

#[test]
fn names_far_from_all_others_suggest_none() {
    for given in ["", "+ +", "stochastic", "something else", "x", "UNet2DConditionModel", "FooScheduler"] {
        let error = from_name(given).unwrap_err();
        assert_eq!(error, NameError::Unknown { given: given.into(), nearest: None });
        assert!(!error.to_string().contains("nearest") && error.to_string().contains("`names::solvers`"), "{error}");
        let error = Spacing::from_name(given).unwrap_err();
        assert_eq!(error, NameError::UnknownSpacing { given: given.into(), nearest: None });
    }
}

#[test]
fn what_is_another_thing_is_said() {
    for given in ["karras", "Exponential", "SGM Uniform", "Automatic", "get_sigmas_vp"] {
        let error = from_name(given).unwrap_err();
        assert_eq!(error, NameError::ScheduleAlone { given: given.into() });
        assert!(error.to_string().contains(&format!("as in 'euler {given}'")), "{error}");
        assert!(from_name(&format!("euler {given}")).is_ok());
    }
    for (given, sampler, first, second) in [
        ("dpmpp_2m karras exponential", "dpmpp_2m", "karras", "exponential"),
        ("Euler a Karras SGM Uniform", "euler_ancestral", "karras", "sgm_uniform"),
    ] {
        let error = from_name(given).unwrap_err();
        assert_eq!(error, NameError::TwoSchedules { given: given.into(), sampler, first, second });
        assert!(error.to_string().contains(&format!("'{first}' and '{second}'")), "{error}");
    }
    let given = "StableDiffusionPipeline".to_owned();
    let error = from_name(&given).unwrap_err();
    assert_eq!(error, NameError::Pipeline { given });
    assert!(error.to_string().contains("scheduler/scheduler_config.json"), "{error}");
}

/// A1111's names from before its version 1.9, with the short ones of its interface, and what "Automatic" has meant since then.
#[test]
fn schedules_of_samplers_in_a1111() {
    for (name, short, sampler, spacing) in [
        ("LMS Karras", "k_lms_ka", "lms", Spacing::Karras),
        ("DPM2 Karras", "k_dpm_2_ka", "dpm_2", Spacing::Karras),
        ("DPM2 a Karras", "k_dpm_2_a_ka", "dpm_2_ancestral", Spacing::Karras),
        ("DPM++ 2S a Karras", "k_dpmpp_2s_a_ka", "dpmpp_2s_ancestral", Spacing::Karras),
        ("DPM++ 2M Karras", "k_dpmpp_2m_ka", "dpmpp_2m", Spacing::Karras),
        ("DPM++ SDE Karras", "k_dpmpp_sde_ka", "dpmpp_sde", Spacing::Karras),
        ("DPM++ 2M SDE Karras", "k_dpmpp_2m_sde_ka", "dpmpp_2m_sde", Spacing::Karras),
        ("DPM++ 2M SDE Exponential", "k_dpmpp_2m_sde_exp", "dpmpp_2m_sde", Spacing::Exponential),
        ("DPM++ 2M SDE Heun Karras", "k_dpmpp_2m_sde_heun_ka", "dpmpp_2m_sde_heun", Spacing::Karras),
        ("DPM++ 2M SDE Heun Exponential", "k_dpmpp_2m_sde_heun_exp", "dpmpp_2m_sde_heun", Spacing::Exponential),
        ("DPM++ 3M SDE Karras", "k_dpmpp_3m_sde_ka", "dpmpp_3m_sde", Spacing::Karras),
        ("DPM++ 3M SDE Exponential", "k_dpmpp_3m_sde_exp", "dpmpp_3m_sde", Spacing::Exponential),
    ] {
        for name in [name, short] {
            let named = from_name(name).unwrap();
            assert_eq!((named.name(), named.spacing()), (sampler, spacing), "{name}");
        }
    }
    for (name, spacing) in [
        ("DPM++ 2M", Spacing::Karras),
        ("DPM++ SDE", Spacing::Karras),
        ("DPM++ 2M SDE", Spacing::Exponential),
        ("DPM++ 2M SDE Heun", Spacing::Exponential),
        ("DPM++ 2S a", Spacing::Karras),
        ("DPM++ 3M SDE", Spacing::Exponential),
        ("Euler a", Spacing::Normal),
        ("Euler", Spacing::Normal),
        ("LMS", Spacing::Normal),
        ("Heun", Spacing::Normal),
        ("DPM2", Spacing::Karras),
        ("DPM2 a", Spacing::Karras),
        ("Restart", Spacing::Karras),
        ("PLMS", Spacing::DdimUniform),
    ] {
        let named = from_name(&format!("{name} Automatic")).unwrap();
        assert_eq!(named.spacing(), spacing, "{name}");
        let set = from_name(&format!("{name} Beta")).unwrap().on(Spacing::Automatic);
        assert_eq!(set.plan(&chain(), 12).unwrap(), named.plan(&chain(), 12).unwrap(), "{name}");
    }
    let karras = from_name("DPM++ 2M Karras").unwrap().plan(&chain(), 12).unwrap();
    assert_eq!(from_name("DPM++ 2M Automatic").unwrap().plan(&chain(), 12).unwrap(), karras);
    assert_ne!(from_name("DPM++ 2M").unwrap().plan(&chain(), 12).unwrap(), karras);
}

#[test]
fn eta_is_for_samplers_with_noise() {
    let error = from_name("dpmpp_2m").unwrap().eta(0.5).unwrap_err();
    assert_eq!(error, NameError::NoEta { name: "dpmpp_2m", eta: 0.5 });
    let vp = VpSde::default();
    let quiet = from_name("euler_a").unwrap().eta(0.0).unwrap().plan(&vp, 9).unwrap();
    assert!(!quiet.is_stochastic());
    for bad in [-1.0, f64::NAN] {
        let error = from_name("euler_a").unwrap().eta(bad).unwrap().plan(&vp, 9).unwrap_err();
        assert!(matches!(error, NameError::Plan(PlanError::Setting { setting: "eta", .. })), "{error}");
    }
}

/// What is no strength of noise is none of any sampler, planned or not; and none of those without noise takes it either.
#[test]
fn eta_that_is_no_number_is_refused_by_every_name() {
    let vp: Arc<dyn Process> = Arc::new(VpSde::default());
    let (mut with, mut without) = (0, 0);
    for (listed, bad) in solvers().flat_map(|listed| [f64::NAN, f64::INFINITY, -0.5].map(|bad| (listed, bad))) {
        let named = match from_name(listed.name).unwrap().eta(bad) {
            Ok(named) => named,
            Err(error) => {
                assert!(matches!(error, NameError::NoEta { name, .. } if name == listed.name), "{error}");
                without += 1;
                continue;
            }
        };
        let refused = [
            named.solver(&vp, 9).map(|_| ()).unwrap_err(),
            named.plan(&vp, 9).map(|_| ()).unwrap_err(),
            named.sampler::<2>(vp.clone(), 9).map(|_| ()).unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(error, NameError::Plan(PlanError::Setting { .. })), "{} with {bad}: {error}", listed.name);
            assert!(error.to_string().contains(&bad.to_string()), "{}: {error}", listed.name);
        }
        with += 1;
    }
    assert!(with > 60 && without > 90, "{with}, {without}");
}

#[test]
fn more_steps_than_a_chain_has() {
    for name in ["ddim", "euler simple", "lcm trailing", "euler linspace"] {
        let error = from_name(name).unwrap().plan(&chain(), 1001).unwrap_err();
        assert_eq!(error, NameError::Grid(GridError::TooManySteps { given: 1001, chain: 1000 }), "{name}");
        let error = from_name(name).unwrap().plan(&chain(), 0).unwrap_err();
        assert_eq!(error, NameError::Grid(GridError::ZeroSteps), "{name}");
    }
}

#[test]
fn spacings_without_step_0_have_one_step_less() {
    for name in ["plms", "euler ddim_uniform"] {
        let named = from_name(name).unwrap();
        assert!(named.plan(&chain(), 999).is_ok(), "{name}");
        let error = named.plan(&chain(), 1000).unwrap_err();
        assert_eq!(error, NameError::Grid(GridError::StepLeftOut { spacing: "ddim_uniform", chain: 1000 }), "{name}");
        assert!(error.to_string().contains("take at most 999"), "{error}");
    }
}

#[test]
fn adaptive_samplers_have_no_plan() {
    let named = from_name("RK45").unwrap();
    assert_eq!(named.plan(&VpSde::default(), 9).unwrap_err(), NameError::NoPlan { name: "dopri5" });
}
