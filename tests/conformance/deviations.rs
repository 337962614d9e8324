//! Where the originals do something else than their papers, or compute nothing at all: case by case.
//!
//! Where a configuration reproduces the original, the library's own solver is put through the same open loop: a case is
//! listed if that fails. Elsewhere a comparison that had to be made otherwise lists its case. `docs/from-diffusers.md` has the
//! table; `LANGEVIN_WRITE_DOCS=1` writes it.

use crate::fixture::{Case, Fixture};
use langevin::core::Process;
use langevin::core::process::{Betas, DiscreteChain};
use langevin::schedulers::diffusers::ConfigError;
use langevin::schedulers::exponential::{Basis, SecondOrder, Singlestep};
use langevin::schedulers::plan::{Draw, Plan, Row, Src};
use langevin::schedulers::sigma::{Churn, Euler, Ipndm, Pndm};
use langevin::schedulers::{Ddpm, DpmSolver, Solver, ddpm::Variance, diffusers};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// What can be the matter with a recorded case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    LateChurn,
    MixedOutputs,
    BlankStart,
    Squares,
    Rounded,
    ThirdOrder,
    StageNoise,
    Inverted,
    DataFactor,
    RePaint,
    CleanestSteps,
    NotFinite,
    NothingBetween,
    OneMore,
    SingleWeights,
    Position,
}

use Deviation::{
    BlankStart, CleanestSteps, DataFactor, Inverted, LateChurn, MixedOutputs, NotFinite, NothingBetween, OneMore,
    Position, RePaint, Rounded, SingleWeights, Squares, StageNoise, ThirdOrder,
};

/// A point of the list "Where it differs".
struct Difference {
    /// How the point begins.
    point: &'static str,
    by: Shown,
    /// Tests that show it, or the rest of it.
    tests: &'static [&'static str],
}

/// What shows a difference.
enum Shown {
    /// Recorded cases of the fixtures, and how they are compared.
    Cases(Deviation, &'static str),
    /// Tests alone.
    Tests,
    /// There is nothing to run, for this reason.
    Absent(&'static str),
}

const REPRODUCED: &str = "as the original; the library's own solver fails";

const fn by_cases(point: &'static str, deviation: Deviation, how: &'static str) -> Difference {
    Difference { point, by: Shown::Cases(deviation, how), tests: &[] }
}

const fn by_tests(point: &'static str, tests: &'static [&'static str]) -> Difference {
    Difference { point, by: Shown::Tests, tests }
}

/// One for each point of the list, in its order.
const DIFFERENCES: &[Difference] = &[
    by_cases("Euler's churn asks", LateChurn, REPRODUCED),
    by_cases("`PNDMScheduler` mixes", MixedOutputs, REPRODUCED),
    by_cases("`IPNDMScheduler` takes", BlankStart, REPRODUCED),
    by_tests(
        "The coefficients of `LMSDiscreteScheduler`",
        &[
            "crates/langevin-schedulers/src/sigma/lms.rs::polynomials_are_integrated_exactly",
            "tests/conformance/deviations.rs::a_later_start_has_the_slopes_that_there_are",
        ],
    ),
    by_tests(
        "`DDPMScheduler` leaves the noise out",
        &["tests/conformance/deviations.rs::ddpm_ends_in_noise_as_configured_alone"],
    ),
    by_cases("`DDPMScheduler` with `fixed_large_log`", NotFinite, "not recorded: the original computes NaN; refused"),
    by_cases("`DPMSolverMultistepScheduler` of order 3", ThirdOrder, REPRODUCED),
    by_cases(
        "`DPMSolverSinglestepScheduler` for the SDE",
        StageNoise,
        "as the original; the library's own solver asks for parts of one path",
    ),
    by_cases("`DEISMultistepScheduler` computes", SingleWeights, "with twice the tolerance in closed loop"),
    by_tests(
        "`UniPCMultistepScheduler` with `bh1`",
        &["tests/conformance/deviations.rs::what_the_originals_compute_as_nan"],
    ),
    by_tests(
        "`SASolverScheduler` with a learned",
        &["tests/diffusers/options.rs::runs_with_every_option_are_those_of_diffusers"],
    ),
    by_tests("`UniPCMultistepScheduler` takes", &["tests/diffusers/options.rs::contradictions_of_options_name_both"]),
    by_cases("`KDPM2DiscreteScheduler` lists", NothingBetween, "NaN is read as 0; states and answers as they are"),
    by_cases("`interpolation_type: log_linear`", OneMore, "what is appended is left out"),
    by_cases("`get_velocity` of", Position, "with the level at the position"),
    by_cases("`KarrasVeScheduler` takes", Squares, "as the original; its levels are not those of its range"),
    by_tests(
        "The schedulers of CogVideoX",
        &[
            "tests/diffusers/cogvideox.rs::runs_are_those_of_diffusers",
            "tests/diffusers/cogvideox.rs::options_that_cannot_be_honored_are_refused",
        ],
    ),
    by_cases("`UnCLIPScheduler` computes", Rounded, REPRODUCED),
    by_tests(
        "`DPMSolverMultistepInverseScheduler` with",
        &["tests/conformance/deviations.rs::what_the_originals_compute_as_nan"],
    ),
    Difference {
        point: "`FlowMatchEulerDiscreteScheduler` with `invert_sigmas`",
        by: Shown::Cases(Inverted, "`scale_noise` with what is listed"),
        tests: &[
            "tests/diffusers/churn.rs::compatible_churn_is_that_of_diffusers",
            "tests/diffusers/churn.rs::compatible_churn_leaves_noise_in_clean_data",
        ],
    },
    Difference {
        point: "`per_token_timesteps`",
        by: Shown::Absent("an argument of `step`; runs take no such thing"),
        tests: &[],
    },
    by_tests(
        "`LTXEulerAncestralRFScheduler` with",
        &[
            "crates/langevin-schedulers/src/diffusers/flow_match.rs::sigmas_of_the_ancestral_class_are_taken_as_they_are",
            "tests/diffusers/flows.rs::ancestral_runs_are_those_of_diffusers",
        ],
    ),
    by_tests(
        "`MiniMaxH3Scheduler` tells",
        &["tests/diffusers/flows.rs::runs_that_count_from_noise_are_those_of_diffusers"],
    ),
    by_tests(
        "`FlowMapEulerDiscreteScheduler` is",
        &["tests/diffusers/flows.rs::flow_maps_are_told_where_steps_end_as_in_diffusers"],
    ),
    by_tests("`HeliosScheduler` and", &["tests/diffusers/helios.rs::stages_are_those_of_diffusers"]),
    by_cases("`SCMScheduler` leaves", DataFactor, "states as they are, recorded outputs divided by σ_d"),
    by_cases("`RePaintScheduler` raises", RePaint, "as the original; the library's own walk is another"),
    by_cases("`VQDiffusionScheduler` with", CleanestSteps, "as the original; steps of one's own are others"),
    by_tests("Schedulers of tokens", &["tests/diffusers/tokens.rs::block_refinement_agrees"]),
    by_tests("`AmusedScheduler` computes", &["tests/diffusers/tokens.rs::amused_agrees"]),
    by_tests(
        "`DiscreteDDIMScheduler` says",
        &[
            "tests/diffusers/tokens.rs::discrete_ddim_agrees",
            "tests/tokens/exact.rs::sweeps_of_random_single_tokens_leave_the_law_as_it_is",
        ],
    ),
    by_tests(
        "`EntropyBoundScheduler` is",
        &[
            "tests/diffusers/tokens.rs::entropy_bound_agrees",
            "tests/tokens/exact.rs::unmasking_one_token_at_a_time_by_entropy_is_exact",
        ],
    ),
    by_tests(
        "`BlockRefinementScheduler` reads",
        &[
            "tests/diffusers/tokens.rs::block_refinement_agrees",
            "tests/tokens/rules.rs::without_masks_a_prompt_stays_and_blocks_end_all_taken",
        ],
    ),
    by_tests("A schedule that would rise", &["tests/sigma_errors.rs::sigmas_that_do_not_fall"]),
];

/// The library's own solver, and the process that it is on if it is another, where a configuration may reproduce
/// something else.
pub struct Own {
    pub deviation: Deviation,
    pub solver: Box<dyn Solver>,
    pub process: Option<Box<dyn Process>>,
}

/// Of a case of these classes, with its own settings.
pub fn own(case: &Case<'_>) -> Option<Own> {
    let config = &case.value["config"];
    let word = |key: &str, default: &'static str| config[key].as_str().unwrap_or(default).to_owned();
    let flag = |key: &str, default: bool| config[key].as_bool().unwrap_or(default);
    let own = |deviation, solver: Box<dyn Solver>| Some(Own { deviation, solver, process: None });
    let variance = match word("variance_type", "fixed_small").as_str() {
        "fixed_large" => Variance::FixedLarge,
        "learned" => Variance::Learned,
        "learned_range" => Variance::LearnedRange,
        _ => Variance::FixedSmall,
    };
    let order = config["solver_order"].as_u64().unwrap_or(2) as usize;
    let sde = word("algorithm_type", "dpmsolver++").starts_with("sde");
    let basis = if word("algorithm_type", "dpmsolver++").ends_with("++") { Basis::Data } else { Basis::Noise };
    let second = if word("solver_type", "midpoint") == "heun" { SecondOrder::Heun } else { SecondOrder::Midpoint };
    let lower = |default| flag("lower_order_final", default);
    match case.class() {
        "EulerDiscreteScheduler" | "EDMEulerScheduler" => {
            let number = |key: &str, default: f64| case.value["step_kwargs"][key].as_f64().unwrap_or(default);
            let churn = Churn::new(number("s_churn", 0.0)).and_then(|churn| churn.noise(number("s_noise", 1.0)));
            let until = number("s_tmax", f64::INFINITY);
            let churn = churn.and_then(|churn| churn.between(number("s_tmin", 0.0), until)).expect("as recorded");
            case.value["step_kwargs"]["s_churn"].as_f64()?;
            own(LateChurn, Box::new(Euler::new().churn(churn)))
        }
        "PNDMScheduler" if flag("skip_prk_steps", false) => own(MixedOutputs, Box::new(Pndm::new())),
        "PNDMScheduler" => own(MixedOutputs, Box::new(Pndm::runge_kutta())),
        "IPNDMScheduler" => own(BlankStart, Box::new(Ipndm::new())),
        "UnCLIPScheduler" => {
            let steps = config["num_train_timesteps"].as_u64().unwrap_or(1000) as usize;
            let exact = DiscreteChain::new(Betas::SquaredCosine, steps).expect("a chain");
            let solver = Box::new(Ddpm::new().variance(variance));
            Some(Own { deviation: Rounded, solver, process: Some(Box::new(exact)) })
        }
        "DPMSolverMultistepScheduler" | "EDMDPMSolverMultistepScheduler" if order == 3 => {
            let solver = DpmSolver::multistep(3).expect("an order").basis(basis).second_order(second);
            let solver = if sde { solver.sde(1.0).expect("in range") } else { solver };
            let solver = solver.lower_order_below(if lower(true) { 15 } else { 0 });
            own(ThirdOrder, Box::new(solver.euler_at_final(flag("euler_at_final", false))))
        }
        "DPMSolverSinglestepScheduler" if sde => {
            let solver = Singlestep::new(order).expect("an order").basis(basis).last_stage(second).on_grid();
            let lower = lower(false) || word("final_sigmas_type", "zero") == "zero";
            own(StageNoise, Box::new(solver.sde(1.0).expect("in range").lower_order_final(lower)))
        }
        _ => None,
    }
}

/// Whether two draws of a plan share a part of a path: recorded draws, which are independent, are not what it asks for.
pub fn overlaps(plan: &Plan) -> bool {
    let paths = plan.rows().iter().flat_map(|row| &row.draws).filter_map(|draw| match *draw {
        Draw::Path { from, until, .. } => Some((from, until)),
        _ => None,
    });
    let paths: Vec<(f64, f64)> = paths.collect();
    paths.windows(2).any(|pair| pair[1].0 < pair[0].1 && pair[0].0 < pair[1].1)
}

/// Cases by what is the matter with them.
#[derive(Default)]
pub struct Found(BTreeMap<Deviation, BTreeSet<String>>);

impl Found {
    fn insert(&mut self, deviation: Deviation, family: &str, case: &str) {
        self.0.entry(deviation).or_default().insert(format!("{family}/{case}"));
    }

    pub fn case(&mut self, family: &str, case: &Case<'_>) {
        case.deviations().into_iter().for_each(|deviation| self.insert(deviation, family, case.name()));
    }

    /// What is named in a manifest of schedulers, with the reason why it was not recorded.
    pub fn skipped(&mut self, family: &str, fixture: &Fixture) {
        for skipped in fixture.manifest["skipped"].as_array().into_iter().flatten() {
            if skipped["why"].as_str().is_some_and(|why| why.contains("non-finite")) {
                self.insert(NotFinite, family, skipped["name"].as_str().unwrap_or("?"));
            }
        }
    }

    /// The table of the page.
    pub fn table(&self) -> String {
        let mut text =
            String::from("| difference | recorded cases | how they are compared, and other tests |\n|---|---|---|\n");
        for difference in DIFFERENCES {
            let (mut cases, mut how) = (String::from("none"), Vec::new());
            match difference.by {
                Shown::Cases(deviation, compared) => {
                    let of_it = self.0.get(&deviation).into_iter().flatten();
                    cases = of_it.map(|case| format!("`{case}`")).collect::<Vec<_>>().join(", ");
                    how.push(compared.to_owned());
                }
                Shown::Absent(reason) => how.push(reason.to_owned()),
                Shown::Tests => {}
            }
            how.extend(difference.tests.iter().map(|test| format!("`{test}`")));
            writeln!(text, "| {} … | {cases} | {} |", difference.point, how.join(", ")).expect("a string");
        }
        text
    }
}

/// The points of the list, as one line each.
fn points(page: &str) -> Vec<String> {
    let section = page.split("\n## Where it differs\n").nth(1).unwrap_or("");
    let section = section.split("\n### ").next().unwrap_or("");
    let points = section.split("\n* ").skip(1);
    points.map(|point| point.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const HEADING: &str = "\n### Case by case\n\n";

/// Compares the page with what was found, or writes it.
pub fn compare(found: &Found) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-diffusers.md");
    let page = std::fs::read_to_string(&path).expect("docs/from-diffusers.md");
    let mut wrong: Vec<String> =
        unlike(&points(&page), &DIFFERENCES.iter().map(|difference| difference.point).collect::<Vec<_>>());
    for difference in DIFFERENCES {
        if let Shown::Cases(deviation, _) = difference.by
            && !found.0.contains_key(&deviation)
        {
            wrong.push(format!("no recorded case shows {deviation:?}"));
        }
    }
    let (before, rest) = page.split_once(HEADING).unwrap_or((page.trim_end(), ""));
    // The sentences between heading and table stay.
    let sentences = rest.split("\n|").next().unwrap_or("").trim_end();
    let now = format!("{before}{HEADING}{sentences}\n\n{}", found.table());
    if std::env::var_os("LANGEVIN_WRITE_DOCS").is_some() {
        std::fs::write(&path, now).expect("docs/from-diffusers.md can be written");
    } else if now != page {
        wrong.push("docs/from-diffusers.md has another table: write it with LANGEVIN_WRITE_DOCS=1".into());
    }
    wrong
}

/// Points that nothing is tied to, and ties to no point.
fn unlike(points: &[String], starts: &[&str]) -> Vec<String> {
    if points.len() != starts.len() {
        return vec![format!("{} points differ, and {} are shown", points.len(), starts.len())];
    }
    let pairs = points.iter().zip(starts).filter(|(point, start)| !point.starts_with(**start));
    pairs.map(|(point, start)| format!("'{start}' is not how '{point}' begins")).collect()
}

#[test]
fn the_tests_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for test in DIFFERENCES.iter().flat_map(|difference| difference.tests) {
        let (file, function) = test.split_once("::").expect("a file and a function");
        let source = std::fs::read_to_string(root.join(file)).expect(file);
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| line.starts_with(&format!("fn {function}("))).expect(test);
        assert!(at > 0 && lines[at - 1] == "#[test]", "{test} is no test");
    }
    for difference in DIFFERENCES {
        let alone = matches!(difference.by, Shown::Tests);
        assert!(!alone || !difference.tests.is_empty(), "nothing shows '{}'", difference.point);
    }
}

#[test]
fn the_comparison_of_the_list_can_fail() {
    let page =
        "x\n## Where it differs\n\nSome:\n\n* One is\n  this.\n* Two is that.\n\n### Case by case\n\n* no point\n";
    assert_eq!(points(page), ["One is this.", "Two is that."]);
    assert!(unlike(&points(page), &["One is this", "Two"]).is_empty());
    assert_eq!(unlike(&points(page), &["Two", "One"]).len(), 2);
    assert_eq!(unlike(&points(page), &["One"]).len(), 1);
}

/// What the originals compute as NaN has a value here, or is refused by name.
#[test]
fn what_the_originals_compute_as_nan() {
    let read = |json: &str| diffusers::from_config(json);
    let refused = read(r#"{"_class_name": "DDPMScheduler", "variance_type": "fixed_large_log"}"#).expect_err("NaN");
    assert!(refused.to_string().contains("gives NaN in the original"), "{refused}");
    // B(h) = h, which is infinite at the end, is not asked for in a step of order 1, and none goes to σ = 0 with more.
    for lower in [true, false] {
        let json = format!(
            r#"{{"_class_name": "UniPCMultistepScheduler", "solver_type": "bh1", "final_sigmas_type": "zero",
                "lower_order_final": {lower}}}"#
        );
        let plan = read(&json).expect("a scheduler").plan(6).expect("a plan");
        let last = plan.rows().last().expect("rows");
        assert_eq!(last.after.level.sigma, 0.0);
        // A number that is not finite is written as null.
        assert!(!serde_json::to_string(&last.post).expect("a table is data").contains("null"), "{last:?}");
    }
    // Upwards with noise; with sigmas of a flow it goes downwards, as there.
    let inverse =
        |options: &str| read(&format!(r#"{{"_class_name": "DPMSolverMultistepInverseScheduler", {options}}}"#));
    let upwards = inverse(r#""algorithm_type": "sde-dpmsolver++""#).expect("a scheduler");
    assert!(matches!(upwards.plan(6), Err(ConfigError::Plan(_))));
    let flow = inverse(r#""use_flow_sigmas": true, "prediction_type": "flow_prediction""#).expect("a scheduler");
    let plan = flow.plan(6).expect("a plan");
    assert!(plan.rows().last().expect("rows").after.level.sigma < plan.start_node().level.sigma);
}

#[test]
fn ddpm_ends_in_noise_as_configured_alone() {
    let options = r#""variance_type": "fixed_large", "timestep_spacing": "trailing""#;
    let scheduler = diffusers::from_config(&format!(r#"{{"_class_name": "DDPMScheduler", {options}}}"#));
    let scheduler = scheduler.expect("a scheduler");
    let grid = scheduler.grid(10).expect("a grid");
    let ends_in_noise = |plan: Plan| {
        let last = plan.rows().last().expect("rows");
        last.post.iter().flat_map(|set| &set.sum).any(|term| matches!(term.of, Src::Z(_)))
    };
    assert!(ends_in_noise(scheduler.plan_on(&grid).expect("a plan")));
    let own = Ddpm::new().variance(Variance::FixedLarge).plan(scheduler.process(), &grid);
    assert!(!ends_in_noise(own.expect("a plan")));
}

#[test]
fn a_later_start_has_the_slopes_that_there_are() {
    let scheduler = diffusers::from_config(r#"{"_class_name": "LMSDiscreteScheduler"}"#).expect("a scheduler");
    let whole = scheduler.grid(8).expect("a grid");
    let later = scheduler.plan_on(&whole.clone().starting_at(3)).expect("a plan");
    let answers = |row: &Row| {
        let terms = row.post.iter().flat_map(|set| &set.sum);
        let slots: BTreeSet<u8> = terms
            .filter_map(|term| match term.of {
                Src::X0(slot) | Src::Eps(slot) => Some(slot),
                _ => None,
            })
            .collect();
        slots.len()
    };
    assert_eq!(later.rows().iter().map(answers).collect::<Vec<_>>(), [1, 2, 3, 4, 4]);
    assert_eq!(answers(&scheduler.plan_on(&whole).expect("a plan").rows()[3]), 4);
}
