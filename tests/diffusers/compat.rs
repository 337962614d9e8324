//! What configurations do where diffusers loses an order or the law of the data, and what the switch makes of them: means and
//! covariances of whole plans on Gaussian data, without any sampling error.

use crate::common::affine::{Affine, marginal, marginal_covariance, push, push_asking, push_known};
use crate::common::law::law;
use crate::common::moments::Moments;
use crate::common::order::{Errors, rms};
use crate::common::problem::{LAMBDA, gaussian, wide_gaussian};
use langevin::core::exact::Gaussian;
use langevin::core::grid::End;
use langevin::core::noise::Injected;
use langevin::core::{Grid, Level};
use langevin::schedulers::Plan;
use langevin::schedulers::diffusers::{Configured, from_config};
use langevin::schedulers::plan::{Coef, HostAnswer, Row, Src};

fn read(class: &str, options: &str) -> Configured {
    from_config(&format!(r#"{{"_class_name": "{class}"{options}}}"#)).expect("a configuration")
}

/// As it is, and under the switch.
fn both(scheduler: Configured) -> [Configured; 2] {
    [scheduler.clone(), scheduler.compat_diffusers()]
}

/// Levels of these λ, falling in noise: on the unit circle, or with a factor of data of 1.
fn levels(lambdas: impl Iterator<Item = f64>, on_circle: bool) -> Grid {
    let level = |lambda: f64| {
        let ratio = (-lambda).exp();
        let alpha = if on_circle { 1.0 / 1f64.hypot(ratio) } else { 1.0 };
        Level { alpha, sigma: alpha * ratio, time: ratio }
    };
    Grid::levels(lambdas.map(level).collect()).expect("falling").ending(End::Range)
}

/// `n` steps even in λ.
fn even(n: usize, on_circle: bool) -> Grid {
    levels((0..=n).map(|i| LAMBDA.0 + (LAMBDA.1 - LAMBDA.0) * i as f64 / n as f64), on_circle)
}

/// Even in λ behind a start whose steps grow from h²/4 to h, so that steps of order 1 do not count.
fn finely_started(n: usize, on_circle: bool) -> Grid {
    let h = (LAMBDA.1 - LAMBDA.0) / n as f64;
    let (mut lambdas, mut step) = (vec![LAMBDA.0], 0.25 * h * h);
    while step < h {
        let k = lambdas.len();
        lambdas.push(lambdas[k - 1] + step);
        step *= if k < 4 { 1.0 } else { 2.0 };
    }
    let start = lambdas[lambdas.len() - 1];
    lambdas.extend((1..=n).map(|i| start + (LAMBDA.1 - start) * i as f64 / n as f64));
    levels(lambdas.into_iter(), on_circle)
}

/// Where a plan arrives.
fn end(plan: &Plan) -> Level {
    plan.rows().last().expect("rows").after.level
}

/// Error of mean and covariance of x/α at the end, from a start as given.
fn error_from(plan: &Plan, data: &Gaussian, (mean, factor): (Vec<f64>, Vec<Vec<f64>>), covariance: Vec<f64>) -> f64 {
    let start = Moments { mean, covariance };
    let found = law(plan, data, &start).unwrap_or_else(|| {
        let Affine { mean, .. } = push(plan, data, &start.mean, &factor);
        Moments { mean, covariance: push(plan, data, &start.mean, &factor).covariance() }
    });
    let level = end(plan);
    let list = |mean: Vec<f64>, covariance: Vec<f64>| -> Vec<f64> {
        let square = level.alpha * level.alpha;
        mean.iter().map(|m| m / level.alpha).chain(covariance.iter().map(|c| c / square)).collect()
    };
    rms(&list(found.mean, found.covariance), &list(marginal(data, &level).0, marginal_covariance(data, &level)))
}

/// The same, started from the exact law.
fn error(plan: &Plan, data: &Gaussian) -> f64 {
    let start = plan.start_node().level;
    error_from(plan, data, marginal(data, &start), marginal_covariance(data, &start))
}

/// Orders on grids of `first` steps, twice as many, and so on: as configured, and under the switch.
fn orders(scheduler: &Configured, first: usize, data: &Gaussian, grid: impl Fn(usize) -> Grid) -> [f64; 2] {
    both(scheduler.clone()).map(|scheduler| {
        let errors = Errors::measure(first, 3, |n| error(&scheduler.plan_on(&grid(n)).expect("a plan"), data));
        println!("{}: {:?}, slope {:.3}", scheduler.class(), errors.errors, errors.slope());
        errors.slope()
    })
}

fn assert_near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 0.1, "{what}: {found} instead of {expected}");
}

#[test]
fn multistep_solvers_of_order_3_have_it() {
    let data = gaussian();
    for (class, options, on_circle) in [
        ("DPMSolverMultistepScheduler", "", true),
        ("DPMSolverMultistepScheduler", r#", "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min""#, true),
        ("EDMDPMSolverMultistepScheduler", "", false),
    ] {
        let scheduler = read(class, &format!(r#", "solver_order": 3, "lower_order_final": false{options}"#));
        let [right, published] = orders(&scheduler, 64, &data, |n| finely_started(n, on_circle));
        assert_near(right, 3.0, class);
        assert_near(published, 2.0, class);
    }
    // With noise the second difference is lessened once more, which leaves order 1.
    let options = r#", "solver_order": 3, "lower_order_final": false, "algorithm_type": "sde-dpmsolver++""#;
    let scheduler = read("DPMSolverMultistepScheduler", options);
    let [right, published] = orders(&scheduler, 64, &wide_gaussian(), |n| even(n, true));
    assert_near(right, 2.0, "with noise");
    assert_near(published, 1.0, "with noise");
    // Upwards, too.
    let inverse = read("DPMSolverMultistepInverseScheduler", r#", "solver_order": 3"#);
    let [right, published] = both(inverse).map(|scheduler| scheduler.plan(20).expect("a plan"));
    assert_ne!(right, published);
}

#[test]
fn singlestep_solvers_with_noise_have_their_order() {
    let scheduler = read("DPMSolverSinglestepScheduler", r#", "algorithm_type": "sde-dpmsolver++""#);
    let [right, published] = orders(&scheduler, 256, &wide_gaussian(), |n| even(n, true));
    assert_near(right, 2.0, "as configured");
    assert_near(published, 1.0, "as published");
}

#[test]
fn pndm_of_velocities_has_its_order() {
    let options = r#", "skip_prk_steps": true, "prediction_type": "v_prediction""#;
    let [right, published] = orders(&read("PNDMScheduler", options), 128, &gaussian(), |n| even(n, true));
    assert_near(right, 2.0, "as configured");
    assert_near(published, 1.0, "as published");
}

/// From noise that stays what it is, in strides of 125 steps, to data of two numbers. What diffusers 0.42.1 makes of them was computed in float64, with
/// `alphas_cumprod` of float32.
#[test]
fn middles_of_runge_kutta_steps_are_one_level() {
    let (data, noise) = ([0.7, -1.3], [0.3, -0.8]);
    for (betas, published, within) in [
        ("linear", [0.6990334192157366, -1.298248741282822], 1e-7),
        ("squaredcos_cap_v2", [-1109034.487731089, 2020395.7063328428], 1e4),
    ] {
        let options = format!(r#", "beta_schedule": "{betas}", "steps_offset": 124, "set_alpha_to_one": true"#);
        let [right, apart] = both(read("PNDMScheduler", &options)).map(|scheduler| {
            let plan = scheduler.plan(8).expect("a plan");
            let at = plan.start_node().level;
            let x = data.iter().zip(noise).map(|(x0, eps)| at.alpha * x0 + at.sigma * eps).collect();
            let answer = |x: &[f64], at: &Level| {
                let eps = x.iter().zip(data).map(|(x, x0)| (x - at.alpha * x0) / at.sigma).collect();
                HostAnswer { x0: data.to_vec(), eps, variance: None }
            };
            plan.run_host(x, 0, &Injected::new(), answer).expect("an end")
        });
        for (((right, apart), data), published) in right.iter().zip(&apart).zip(data).zip(published) {
            assert!((right - data).abs() < 1e-6, "{betas}: {right}");
            assert!((apart - published).abs() < within, "{betas}: {apart} and {published}");
        }
    }
}

#[test]
fn ipndm_starts_with_what_the_network_says() {
    let data = gaussian();
    let measured = |scheduler: &Configured, first| {
        Errors::measure(first, 3, |n| error(&scheduler.plan(n).expect("a plan"), &data))
    };
    let [right, published] = both(read("IPNDMScheduler", ""));
    // Levels are rounded to float32, as in the original, which ends what finer grids could show.
    let (right, published) = (measured(&right, 8), measured(&published, 32));
    println!("IPNDMScheduler: {:?}, as published {:?}", right.errors, published.errors);
    assert!(right.slope() > 2.0, "{:?}", right.errors);
    assert_near(published.slope(), 1.0, "as published");
    assert!(30.0 * right.errors[3] < published.errors[1], "of 64 steps: {right:?}, {published:?}");
}

/// Begun in the middle, as image-to-image is.
#[test]
fn lms_that_begins_later_has_its_order() {
    let data = gaussian();
    let errors = both(read("LMSDiscreteScheduler", "")).map(|scheduler| {
        Errors::measure(32, 3, |n| {
            let grid = even(n, true).starting_at(n / 2);
            error(&scheduler.plan_on(&grid).expect("a plan"), &data)
        })
    });
    let [right, published] = errors;
    println!("LMSDiscreteScheduler: {:?}, as published {:?}", right.errors, published.errors);
    assert!(right.slope() > 1.9, "{:?}", right.errors);
    assert_near(published.slope(), 1.0, "as published");
    assert!(10.0 * right.errors[2] < published.errors[2], "{right:?}, {published:?}");
}

/// A network that answers with one number whatever it is asked.
fn constant(x: &[f64], level: &Level) -> [Vec<f64>; 2] {
    let x0 = vec![0.7; x.len()];
    let eps = x.iter().map(|x| (x - level.alpha * 0.7) / level.sigma).collect();
    [x0, eps]
}

/// Bias and deviation of what a plan makes of data that is one number.
fn of_one_number(plan: &Plan) -> (f64, f64) {
    let found = push_asking(plan, constant, &[0.0], &[vec![plan.prior_deviation()]]);
    ((found.mean[0] - 0.7).abs(), found.covariance()[0].sqrt())
}

#[test]
fn ddpm_ends_without_noise() {
    let ends_in_noise = |plan: &Plan| {
        let last = plan.rows().last().expect("rows");
        last.post.iter().flat_map(|set| &set.sum).any(|term| matches!(term.of, Src::Z(_)))
    };
    for options in [
        r#", "variance_type": "fixed_large", "timestep_spacing": "trailing""#,
        r#", "variance_type": "fixed_large", "steps_offset": 1"#,
        r#", "variance_type": "learned", "timestep_spacing": "trailing""#,
        r#", "variance_type": "learned_range", "timestep_spacing": "trailing""#,
    ] {
        let [right, published] = both(read("DDPMScheduler", options)).map(|it| it.plan(10).expect("a plan"));
        assert!(!ends_in_noise(&right) && ends_in_noise(&published), "{options}");
        if options.contains("fixed") {
            let [(off, std), (_, left)] = [of_one_number(&right), of_one_number(&published)];
            println!("{options}: bias {off:.1e}, deviation {std:.1e}; as published {left:.4}");
            assert!(off < 1e-12 && std < 1e-12 && left > 0.01, "{options}: {off}, {std}, {left}");
        }
    }
    // Where the last step begins at step 0, or the variance vanishes by itself, there is nothing to switch.
    for options in [r#", "variance_type": "fixed_large""#, r#", "timestep_spacing": "trailing""#] {
        let [right, published] = both(read("DDPMScheduler", options)).map(|it| it.plan(10).expect("a plan"));
        assert_eq!(right, published, "{options}");
    }
}

#[test]
fn karras_ve_keeps_the_law_of_the_data() {
    let data = gaussian();
    let errors = |options: &str, steps: [usize; 2]| {
        both(read("KarrasVeScheduler", options)).map(|scheduler| {
            steps.map(|n| {
                let plan = scheduler.plan(n).expect("a plan");
                let std = plan.prior_deviation();
                let start = (vec![0.0; 2], vec![vec![std, 0.0], vec![0.0, std]]);
                error_from(&plan, &data, start, vec![std * std, 0.0, 0.0, std * std])
            })
        })
    };
    let [right, published] = errors(r#", "s_churn": 0.0"#, [50, 200]);
    println!("KarrasVeScheduler without churn: {right:?}, as published {published:?}");
    assert!(right[0] < 5e-3 && right[1] < 2e-3, "{right:?}");
    // What is left is next to nothing of the covariance: the start has a hundredth of the deviation of its level.
    let covariance = rms(&[data.mean(), data.covariance()].concat(), &[data.mean(), &[0.0; 4][..]].concat());
    assert!(published.iter().all(|error| *error > 0.99 * covariance), "{published:?} of {covariance}");
    // Much churn makes up for it, in part.
    let [right, published] = errors(r#", "s_noise": 1.0"#, [50, 200]);
    println!("with the churn that is published: {right:?}, as published {published:?}");
    assert!(2.0 * right[0] < published[0] && 2.0 * right[1] < published[1], "{right:?}, {published:?}");
}

#[test]
fn unclip_ends_with_what_the_network_says() {
    for options in ["", r#", "variance_type": "learned_range""#, r#", "prediction_type": "sample""#] {
        let [right, published] = both(read("UnCLIPScheduler", options)).map(|it| it.plan(25).expect("a plan"));
        assert_ne!(right.rows(), published.rows(), "{options}");
        // The last step arrives at clean data: at what the network says, whatever it is.
        let last = |plan: &Plan| plan.rows().last().expect("rows").post[0].sum.clone();
        let of_x0 = |plan: &Plan| {
            let terms = last(plan).into_iter().filter(|term| matches!(term.of, Src::X0(_)));
            terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).sum::<f64>()
        };
        assert_eq!(of_x0(&right), 1.0, "{options}");
        assert!((of_x0(&published) - 1.0).abs() > 3e-4, "{options}: {}", of_x0(&published));
        if !options.contains("learned") {
            let [(off, std), (bias, _)] = [of_one_number(&right), of_one_number(&published)];
            println!("unCLIP{options}: off by {off:.1e}, deviation {std:.1e}; as published off by {bias:.1e}");
            assert!(off < 1e-12 && std < 1e-12 && bias > 3e-4, "{options}: {off}, {std}, {bias}");
        }
    }
}

/// By which factors a jump's α and σ² differ from those of the level where it arrives.
fn jumps(plan: &Plan) -> Vec<(f64, f64)> {
    let rows = plan.rows().iter().enumerate().filter(|(_, row)| row.eval.is_none());
    let of = |(index, row): (usize, &Row)| {
        let (before, after) = (plan.rows()[index - 1].after.level, row.after.level);
        let sum = row.post.iter().flat_map(|set| &set.sum);
        let square = |of: fn(&Src) -> bool| -> f64 {
            let terms = sum.clone().filter(|term| of(&term.of));
            terms.map(|term| if let Coef::C(c) = term.c { c * c } else { f64::NAN }).sum()
        };
        let (x, z) = (square(|src| matches!(src, Src::X(_))), square(|src| matches!(src, Src::Z(_))));
        let variance = (x * before.sigma * before.sigma + z) / (after.sigma * after.sigma);
        (x.sqrt() * before.alpha / after.alpha, variance)
    };
    rows.map(of).collect()
}

#[test]
fn jumps_keep_the_law_of_the_data() {
    let scheduler = read("RePaintScheduler", r#", "clip_sample": false"#).jumps(1, 5).expect("jumps");
    let [right, published] = both(scheduler).map(|scheduler| scheduler.plan(50).expect("a plan"));
    // What follows the law of its level before a jump follows that of the next one after it.
    let found = jumps(&right);
    assert!(
        found.len() > 100 && found.iter().all(|(a, v)| (a - 1.0).abs() < 1e-12 && (v - 1.0).abs() < 1e-9),
        "{found:?}"
    );
    let most = jumps(&published).into_iter().map(|(_, variance)| variance).fold(0.0, f64::max);
    println!("RePaint: after a jump the noise has up to {most:.1} times the variance that the network is told");
    assert!(most > 10.0, "{most}");
    // Of narrow data the end is too wide for it, and more passes make it worse.
    let narrow = Gaussian::new(vec![0.4, -0.7], vec![0.01, 0.0, 0.0, 0.01]).expect("a covariance");
    let share = |scheduler: &Configured, steps: usize, samples: usize| {
        let plan = scheduler.clone().jumps(1, samples).and_then(|it| it.plan(steps)).expect("a plan");
        let (mean, factor) = marginal(&narrow, &plan.start_node().level);
        // Nothing is known.
        let found = push_known(&plan, &narrow, (&mean, &factor), (&[0.0; 2], &[0.0; 2]));
        found.covariance()[0] / narrow.covariance()[0]
    };
    let [right, published] = both(read("RePaintScheduler", r#", "clip_sample": false"#))
        .map(|scheduler| [(50, 2), (50, 5), (100, 2)].map(|(steps, samples)| share(&scheduler, steps, samples)));
    println!("RePaint: share of the variance of narrow data {right:?}, as published {published:?}");
    assert!(right.iter().all(|share| (0.4..=1.0).contains(share)), "{right:?}");
    assert!(published[0] > 1.4 && published[1] > 3.0 && published[2] < 1.2, "{published:?}");
}

#[test]
fn churn_of_a_flow_keeps_the_law_of_the_data() {
    let data = gaussian();
    let scheduler = read("FlowMatchHeunDiscreteScheduler", "").churn(8.0, (0.0, 0.9), 1.0).expect("churn");
    let [right, published] =
        both(scheduler).map(|scheduler| Errors::measure(20, 3, |n| error(&scheduler.plan(n).expect("a plan"), &data)));
    println!("churn of a flow: {:?}, as published {:?}", right.errors, published.errors);
    assert_near(right.slope(), 2.0, "as configured");
    assert!(right.errors[3] < 2e-4 && published.errors.iter().all(|error| *error > 1.2), "{right:?}, {published:?}");
    // The interval is one of σ; from pure noise on there is nothing to raise.
    let churned = |low, high| {
        read("FlowMatchHeunDiscreteScheduler", "")
            .churn(8.0, (low, high), 1.0)
            .expect("churn")
            .plan(20)
            .expect("a plan")
    };
    let raised = |plan: &Plan| plan.rows().iter().filter(|row| !row.draws.is_empty()).count();
    let noisy =
        churned(0.0, 0.5).rows().iter().filter(|row| !row.draws.is_empty()).map(|row| row.pre.len()).sum::<usize>();
    assert_eq!(noisy, 10, "half of 20 steps");
    assert_eq!([raised(&churned(0.0, 1.0)), raised(&churned(1.0, 2.0))], [19, 0]);
}

#[test]
fn churn_before_and_after_asking_have_one_law_and_order() {
    for (class, options, on_circle) in [
        ("EulerDiscreteScheduler", "", true),
        ("EulerDiscreteScheduler", r#", "prediction_type": "v_prediction""#, true),
        ("EulerDiscreteScheduler", r#", "prediction_type": "sample""#, true),
        ("EDMEulerScheduler", "", false),
        ("EDMEulerScheduler", r#", "prediction_type": "v_prediction""#, false),
    ] {
        let scheduler = read(class, options).churn(3.0, (0.0, f64::INFINITY), 1.0).expect("churn");
        let [right, same] = orders(&scheduler, 64, &wide_gaussian(), |n| even(n, on_circle));
        assert_near(right, 1.0, class);
        assert_eq!(right, same, "{class}: nothing is switched");
    }
}

/// Configurations that are common among published pipelines.
#[test]
fn published_configurations_are_the_same_under_the_switch_but_for_unclip() {
    let latent = r#", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1"#;
    for (class, options) in [
        ("PNDMScheduler", &format!(r#"{latent}, "skip_prk_steps": true"#)[..]),
        ("DDIMScheduler", latent),
        ("EulerDiscreteScheduler", latent),
        ("DDPMScheduler", r#", "variance_type": "fixed_large""#),
        ("FlowMatchEulerDiscreteScheduler", r#", "shift": 3.0"#),
        ("DPMSolverMultistepScheduler", latent),
        ("DPMSolverMultistepScheduler", r#", "algorithm_type": "sde-dpmsolver++""#),
        ("DPMSolverSinglestepScheduler", ""),
        ("UniPCMultistepScheduler", r#", "solver_order": 3"#),
        ("DEISMultistepScheduler", r#", "solver_order": 3"#),
        ("CogVideoXDPMScheduler", r#", "timestep_spacing": "trailing""#),
        ("DDPMWuerstchenScheduler", ""),
    ] {
        let [plain, switched] = both(read(class, options)).map(|scheduler| scheduler.plan(20).expect("a plan"));
        assert_eq!(plain, switched, "{class}{options}");
    }
    let [plain, switched] = both(read("UnCLIPScheduler", "")).map(|scheduler| scheduler.plan(20).expect("a plan"));
    assert_ne!(plain, switched);
}
