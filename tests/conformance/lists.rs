//! What schedulers list and what they compute beside their steps: sigmas, the deviation of the prior, forward noising and
//! velocities.

use crate::deviations::Deviation;
use crate::fixture::Case;
use crate::rounding;
use crate::schedulers::{four, is_scaled, ratio, tensor, times, values};
use langevin::core::{Level, Levels};
use langevin::schedulers::Plan;
use langevin::schedulers::diffusers::Configured;

/// The sigmas that the original lists: those of the states, of inner stages, and what is appended.
fn listed_sigmas(case: &Case<'_>, plan: &Plan) -> Vec<f64> {
    // On a flow σ is listed, not σ/α, or what is left of it.
    let config = &case.value["config"];
    let flow = config["use_flow_sigmas"] == true || case.class().starts_with("FlowMatch");
    let sigma = |level: &Level| match flow {
        true if config["invert_sigmas"] == true => level.alpha,
        true => level.sigma,
        false => ratio(level),
    };
    let mut states = vec![sigma(&plan.start_node().level)];
    states.extend(plan.rows().iter().filter(|row| row.step.is_some()).map(|row| sigma(&row.after.level)));
    let last = states.len() - 1;
    let twice = |range: &[f64]| -> Vec<f64> { range.iter().flat_map(|sigma| [*sigma, *sigma]).collect() };
    if case.class().contains("Heun") || case.class().starts_with("DPMSolverSDE") {
        return [&states[..1], &twice(&states[1..last]), &states[last..]].concat();
    }
    if case.class().starts_with("KDPM2") {
        return [&states[..1], &twice(&states[1..]), &states[last..]].concat();
    }
    states
}

pub fn compare_sigmas(case: &Case<'_>, plan: &Plan) {
    // The power of Karras's schedule takes what float32 loses of its root ρ times, and a stretched end is a difference from 1; the known
    // ones have no such root or end.
    let config = &case.value["config"];
    let loses = config["sigma_schedule"].is_string() || config["shift_terminal"].is_number();
    let relative = if loses && !case.fixture.is_known() { 1e-5 } else { 1e-6 };
    if let Some(expected) = case.tensor("sigmas") {
        let mut found = listed_sigmas(case, plan);
        // Logarithmic sigmas have one more than there are steps to take.
        if case.value["config"]["interpolation_type"] == "log_linear" && expected.data.len() == found.len() + 1 {
            case.deviates(Deviation::OneMore);
            found.push(0.0);
        }
        let mut expected = &expected.data[..];
        if case.class() == "DPMSolverMultistepInverseScheduler" {
            // It leaves out steps that would be asked about at one time, and lists their sigmas behind those that it goes by.
            expected = &expected[..found.len().min(expected.len())];
        }
        case.compare_within("sigmas", &found, expected, 1e-9, relative);
    }
    if let Some(expected) = case.tensor("sigmas_interpol") {
        let inner = plan.rows().iter().filter(|row| row.step.is_none()).count();
        let steps = plan.steps();
        // The second question of each step; nothing where there is none.
        let mut middles = Vec::new();
        for pair in plan.rows().windows(2).filter(|pair| pair[0].step.is_none()) {
            middles.extend(pair[1].eval.map(|eval| ratio(&eval.at)));
        }
        let single = if case.class().contains("Ancestral") {
            [middles.clone(), vec![0.0; steps + 1 - inner]].concat()
        } else {
            [vec![0.0], middles.clone(), vec![0.0; steps - inner]].concat()
        };
        let last = single.len() - 1;
        let found: Vec<f64> = std::iter::once(single[0])
            .chain(single[1..].iter().flat_map(|sigma| [*sigma, *sigma]))
            .chain([single[last]])
            .collect();
        // The original has the logarithm of 0 where there is no middle, and cancels where it splits a step.
        if expected.data.iter().any(|sigma| sigma.is_nan()) {
            case.deviates(Deviation::NothingBetween);
        }
        let expected: Vec<f64> = expected.data.iter().map(|sigma| if sigma.is_nan() { 0.0 } else { *sigma }).collect();
        let lost = rounding::ways_down(case, plan).into_iter().fold(0.0, f64::max);
        case.compare_within("sigmas_interpol", &found, &expected, 1e-9, 1e-4 + lost);
    }
}

/// `init_noise_sigma`.
pub fn compare_prior(case: &Case<'_>, plan: &Plan) {
    if let (Some(expected), true) = (case.value["init_noise_sigma"].as_f64(), is_scaled(case.class())) {
        let found = plan.prior_deviation() / plan.start_node().level.alpha;
        case.compare_within("init_noise_sigma", &[found], &[expected], 0.0, 1e-5);
    }
    // Where the list is σ_min alone the original still begins with noise of σ_max.
    let exponential = case.value["config"]["sigma_schedule"] == "exponential";
    if exponential && plan.steps() == 1 {
        return;
    }
    let as_it_is = ["EDM", "Cosine", "CMStochastic", "FlowMatch"].iter().any(|family| case.class().starts_with(family));
    if let (Some(expected), true) = (case.value["init_noise_sigma"].as_f64(), as_it_is) {
        case.compare_within("init_noise_sigma", &[plan.prior_deviation()], &[expected], 0.0, 1e-5);
    }
}

/// ᾱ, forward noising and velocities.
pub fn compare_forward(case: &Case<'_>, scheduler: &Configured, plan: &Plan) {
    let process = scheduler.process();
    if let (Some(expected), Some(chain)) =
        (case.value["alphas_cumprod"].as_str().and_then(|key| case.fixture.shared(key)), process.chain())
    {
        // Summed in f32 by the original: a relative 1e-5, and an absolute 1e-7 where it is almost zero.
        case.compare_within("alphas_cumprod", chain.alphas_cumprod(), &expected.data, 1e-7, 1e-5);
    }
    let (Some(x0), Some(eps), Some(t)) =
        (case.tensor("add_noise_x0"), case.tensor("add_noise_eps"), case.tensor("add_noise_t"))
    else {
        return;
    };
    let shape = four(&x0.shape);
    let (x0, eps) = (tensor(x0.data.clone(), shape), tensor(eps.data.clone(), shape));
    // The original looks a time up in its list, and takes the second of two.
    let listed = times(plan);
    let index = |t: &f64| -> usize {
        let nearest = listed.iter().map(|listed| (listed - t).abs()).fold(f64::INFINITY, f64::min);
        let found: Vec<usize> = (0..listed.len()).filter(|i| (listed[*i] - t).abs() == nearest).collect();
        *found.get(1).unwrap_or(&found[0])
    };
    let sigmas = listed_sigmas(case, plan);
    let as_they_are = ["EDM", "Cosine", "CMStochastic"].iter().any(|family| case.class().starts_with(family));
    let by_sigma = is_scaled(case.class()) || as_they_are;
    // Classes that integrate in λ noise to the levels of their own list.
    let by_level = ["DPMSolver", "DEIS", "UniPC"].iter().any(|family| case.class().starts_with(family)) && !by_sigma;
    let asked: Vec<Level> = plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at)).collect();
    let flow = case.class().starts_with("FlowMatch");
    // Whatever it integrates on, SA-Solver noises by its chain.
    let bars = case.value["alphas_cumprod"].as_str().and_then(|key| case.fixture.shared(key));
    let by_chain =
        bars.filter(|_| case.class() == "SASolverScheduler" && case.value["config"]["use_flow_sigmas"] == true);
    let level = |t: &f64| match by_chain {
        Some(bars) => {
            let bar = bars.data[*t as usize];
            Level { alpha: bar.sqrt(), sigma: (1.0 - bar).sqrt(), time: *t }
        }
        None if by_level => asked[index(t)],
        // Inverted, too, the original takes what is listed for a coefficient of noise.
        None if flow => Level { alpha: 1.0 - sigmas[index(t)], sigma: sigmas[index(t)], time: *t },
        None if by_sigma => Level { alpha: 1.0, sigma: sigmas[index(t)], time: *t },
        None => process.level(*t),
    };
    let levels = Levels::Each(t.data.iter().map(level).collect());
    let noisy = |levels: &Levels| {
        let (data, noise) = (levels.map(|l| l.alpha).times(x0.clone()), levels.map(|l| l.sigma).times(eps.clone()));
        values(&data.add(noise))
    };
    for expected in ["add_noise_out", "scale_noise_out"].iter().filter_map(|field| case.tensor(field)) {
        case.compare_within("add_noise", &noisy(&levels), &expected.data, 1e-5, 1e-5);
        let (again, own) = (case.again(), Levels::Each(t.data.iter().map(|t| asked[index(t)]).collect()));
        again.compare_within("add_noise", &noisy(&own), &expected.data, 1e-5, 1e-5);
        if flow && !again.failures().is_empty() {
            case.deviates(Deviation::Inverted);
        }
    }
    if let Some(expected) = case.tensor("velocity_out") {
        // Where it works by sigmas, the original takes the position in its list for a step of the chain.
        let velocity = |by_position: bool| {
            let level = |t: &f64| process.level(if by_position { index(t) as f64 } else { *t });
            let levels = Levels::Each(t.data.iter().map(level).collect());
            let (noise, data) = (levels.map(|l| l.alpha).times(eps.clone()), levels.map(|l| l.sigma).times(x0.clone()));
            values(&noise.sub(data))
        };
        case.compare_within("velocity", &velocity(by_sigma), &expected.data, 1e-5, 1e-5);
        let again = case.again();
        again.compare_within("velocity", &velocity(false), &expected.data, 1e-5, 1e-5);
        if !again.failures().is_empty() {
            case.deviates(Deviation::Position);
        }
    }
}
