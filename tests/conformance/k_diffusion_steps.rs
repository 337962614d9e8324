//! Single steps of k-diffusion's samplers: each from the recorded state, with the recorded answer to its first question.
//!
//! Answers inside a step are not recorded: there the formula answers, at the recorded level, from the state that the
//! step has made of the recorded one. Multistep solvers have the recorded answers of the steps before.

use crate::fixture::{Array, Case};
use crate::k_diffusion::denoised;
use crate::open_loop::{Recorded, firsts};
use crate::schedulers::{four, tensor, values, with_draw};
use burn::tensor::Tensor;
use langevin::core::noise::Injected;
use langevin::core::{Levels, Prediction, denoiser};
use langevin::schedulers::SamplerExt;
use langevin::schedulers::plan::{Coef, Draw, Plan, Src};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of the largest number in a step: some rounding in float32, where the original computes its coefficients, too.
const STEP: f64 = 2e-6;

/// A recorded draw and where a plan asks for it.
pub struct Drawn<'a> {
    row: usize,
    draw: Draw,
    values: &'a [f64],
}

/// Recorded noise by the step that drew it. Some functions draw and do not use it.
pub fn drawn<'a>(case: &'a Case<'_>, plan: &Plan) -> Vec<Drawn<'a>> {
    let (Some(draws), Some(steps)) = (case.tensor("noise"), case.tensor("noise_step")) else { return Vec::new() };
    // Ancestral functions draw after the question, so that their count begins with 1. DPM-Solver-fast draws once a step,
    // but tells nobody where its steps end.
    let first = steps.data.first().copied().unwrap_or(0.0);
    let in_order = case.value["function"] == "sample_dpm_fast";
    let step_of = |k: usize| if in_order { k as f64 } else { steps.data[k] - first };
    let (mut step, mut used) = (0, 0);
    let mut drawn = Vec::new();
    for (row, content) in plan.rows().iter().enumerate() {
        for draw in &content.draws {
            let k = (0..draws.rows()).filter(|k| step_of(*k) == f64::from(step)).nth(used);
            drawn.extend(k.map(|k| Drawn { row, draw: *draw, values: draws.row(k) }));
            used += 1;
        }
        if content.step.is_some() {
            (step, used) = (step + 1, 0);
        }
    }
    drawn
}

/// The noise of a run.
pub fn injected(drawn: &[Drawn<'_>], batch: u64) -> Injected {
    drawn.iter().fold(Injected::new(), |noise, one| with_draw(noise, one.row, &one.draw, batch, one.values))
}

/// What churn adds to the state before a row asks: states are recorded behind it.
fn raise(plan: &Plan, row: usize, drawn: &[Drawn<'_>], size: usize) -> Vec<f64> {
    let mut sum = vec![0.0; size];
    for term in plan.rows()[row].pre.iter().flat_map(|set| &set.sum) {
        let Src::Z(register) = term.of else { continue };
        let Coef::C(c) = term.c else { panic!("churn has plain numbers") };
        let one = drawn.iter().find(|one| one.row == row && one.draw.register() == register).expect("a recorded draw");
        sum.iter_mut().zip(one.values).for_each(|(sum, z)| *sum += c * z);
    }
    sum
}

/// Every step of a plan on EDM's process, in which α is 1.
pub fn open(case: &Case<'_>, plan: &Plan, drawn: &[Drawn<'_>], states: &Array, answers: &Array) {
    let (init, sigmas, result) = (case.need("x_init"), case.need("model_sigmas"), case.need("result"));
    let (shape, size) = (four(&init.shape), init.data.len());
    let firsts = firsts(plan);
    if (firsts.len(), answers.rows()) != (states.rows(), states.rows()) {
        return case.fail(format!("open loop: {} steps, expected {}", firsts.len(), states.rows()));
    }
    let raised = |step: usize, x: &[f64], sign: f64| -> Vec<f64> {
        let added = raise(plan, firsts[step], drawn, size);
        x.iter().zip(added).map(|(x, added)| x + sign * added).collect()
    };
    let asked: Vec<usize> = (0..plan.rows().len()).filter(|row| plan.rows()[*row].eval.is_some()).collect();
    let calls = AtomicUsize::new(0);
    let model = denoiser::from_fn(Prediction::Sample, |x: Tensor<4>, _: &Levels| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let answer = match firsts.iter().position(|first| *first == asked[call]) {
            Some(step) => answers.row(step).to_vec(),
            None => denoised(&case.value["model"], &values(&x), sigmas.data[call]),
        };
        Ok(tensor(answer, x.dims()))
    });
    let last = states.rows() - 1;
    let recorded = Recorded::new((1..=last).map(|step| raised(step, states.row(step), -1.0)).collect());
    let noise = injected(drawn, shape[0] as u64);
    let run = plan.start_from(0, tensor(init.data.clone(), shape), &model, &noise).expect("a run");
    if let Err(error) = run.constrained(&recorded).finish() {
        return case.fail(format!("open loop: {error}"));
    }
    let largest = |x: &[f64]| x.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    let start = raised(0, &init.data, 1.0);
    case.compare_step("open loop, the first state", 0, (&start, states.row(0)), STEP * largest(&start));
    for (step, x) in recorded.seen().iter().enumerate() {
        let (x, expected) = match step {
            step if step < last => (raised(step + 1, x, 1.0), states.row(step + 1)),
            _ => (x.clone(), result.data.as_slice()),
        };
        let largest = largest(states.row(step)).max(largest(expected));
        case.compare_step(&format!("open loop, x after step {step}"), step, (&x, expected), STEP * largest);
        case.count_step();
    }
    if let Err(error) = noise.finish() {
        case.fail(format!("open loop: {error}"));
    }
}
