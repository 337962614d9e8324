//! Where the originals do something else than their papers, or compute nothing at all: case by case.
//!
//! Where the original is wrong a configuration is put through the open loop as it is: if that fails the case is listed, and run
//! under the switch, `Configured::compat_diffusers`. Every other case runs without it. Elsewhere a comparison that had to be
//! made otherwise lists its case. `docs/from-diffusers.md` has the table; `LANGEVIN_WRITE_DOCS=1` writes it.

use crate::fixture::{Case, Fixture};
use crate::outcome::Unsupported;
use langevin::schedulers::Solver;
use langevin::schedulers::diffusers::{self, ConfigError, Configured};
use langevin::schedulers::plan::{Draw, Plan, Row, Src};
use langevin::schedulers::sigma::{Churn, Euler};
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
    EndsInNoise,
    OffTheFlow,
    LostSlopes,
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
    BlankStart, CleanestSteps, DataFactor, EndsInNoise, Inverted, LateChurn, LostSlopes, MixedOutputs, NotFinite,
    NothingBetween, OffTheFlow, OneMore, Position, RePaint, Rounded, SingleWeights, Squares, StageNoise, ThirdOrder,
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

/// Each of them is run as a whole without it, and has to differ in a value.
const SWITCHED: &str = "under `compat_diffusers`; without it they fail";

const fn by_cases(point: &'static str, deviation: Deviation, how: &'static str) -> Difference {
    Difference { point, by: Shown::Cases(deviation, how), tests: &[] }
}

/// Run under the switch, which these tests show to be right to leave off.
const fn switched_by(point: &'static str, deviation: Deviation, tests: &'static [&'static str]) -> Difference {
    Difference { point, by: Shown::Cases(deviation, SWITCHED), tests }
}

const fn by_tests(point: &'static str, tests: &'static [&'static str]) -> Difference {
    Difference { point, by: Shown::Tests, tests }
}

/// One for each point of the lists, in their order: first what the original gets wrong.
const DIFFERENCES: &[Difference] = &[
    switched_by(
        "`DPMSolverMultistepScheduler` of order 3",
        ThirdOrder,
        &["tests/diffusers/compat.rs::multistep_solvers_of_order_3_have_it"],
    ),
    Difference {
        point: "`DPMSolverSinglestepScheduler` for the SDE",
        by: Shown::Cases(
            StageNoise,
            "under `compat_diffusers`; without it stages draw along one path, as recorded draws are not",
        ),
        tests: &["tests/diffusers/compat.rs::singlestep_solvers_with_noise_have_their_order"],
    },
    switched_by(
        "`PNDMScheduler` mixes",
        MixedOutputs,
        &["tests/diffusers/compat.rs::pndm_of_velocities_has_its_order"],
    ),
    by_tests(
        "`PNDMScheduler` with its Runge-Kutta start",
        &["tests/diffusers/compat.rs::middles_of_runge_kutta_steps_are_one_level"],
    ),
    switched_by(
        "`IPNDMScheduler` takes",
        BlankStart,
        &["tests/diffusers/compat.rs::ipndm_starts_with_what_the_network_says"],
    ),
    by_tests("`DDPMScheduler` leaves the noise out", &["tests/diffusers/compat.rs::ddpm_ends_without_noise"]),
    switched_by(
        "`KarrasVeScheduler` takes",
        Squares,
        &["tests/diffusers/compat.rs::karras_ve_keeps_the_law_of_the_data"],
    ),
    switched_by(
        "`UnCLIPScheduler` computes",
        Rounded,
        &["tests/diffusers/compat.rs::unclip_ends_with_what_the_network_says"],
    ),
    switched_by("`RePaintScheduler` raises", RePaint, &["tests/diffusers/compat.rs::jumps_keep_the_law_of_the_data"]),
    by_tests(
        "`FlowMatchHeunDiscreteScheduler` adds",
        &[
            "tests/diffusers/compat.rs::churn_of_a_flow_keeps_the_law_of_the_data",
            "tests/diffusers/churn.rs::compatible_churn_is_that_of_diffusers",
            "tests/diffusers/churn.rs::compatible_churn_leaves_noise_in_clean_data",
        ],
    ),
    by_tests(
        "`LMSDiscreteScheduler` that begins",
        &[
            "tests/diffusers/compat.rs::lms_that_begins_later_has_its_order",
            "crates/langevin-schedulers/src/sigma/lms.rs::a_later_start_in_diffusers_lacks_slopes",
            "tests/conformance/deviations.rs::a_later_start_has_the_slopes_that_there_are",
        ],
    ),
    Difference {
        point: "Euler's churn asks",
        by: Shown::Cases(LateChurn, "as the original; `Euler::churn` alone fails"),
        tests: &["tests/diffusers/compat.rs::churn_before_and_after_asking_have_one_law_and_order"],
    },
    Difference {
        point: "`VQDiffusionScheduler` with",
        by: Shown::Cases(CleanestSteps, "as the original; steps of one's own are others"),
        tests: &["tests/tokens/exact.rs::the_cleanest_steps_of_a_chain_reproduce_the_data_as_well_as_spread_ones"],
    },
    by_tests(
        "The coefficients of `LMSDiscreteScheduler`",
        &["crates/langevin-schedulers/src/sigma/lms.rs::polynomials_are_integrated_exactly"],
    ),
    by_cases("`DDPMScheduler` with `fixed_large_log`", NotFinite, "not recorded: the original computes NaN; refused"),
    by_cases("`DEISMultistepScheduler` computes", SingleWeights, "with twice the tolerance in closed loop"),
    by_tests(
        "`UniPCMultistepScheduler` with `bh1`",
        &["tests/conformance/deviations.rs::what_the_originals_compute_as_nan"],
    ),
    by_tests(
        "`SASolverScheduler` with a learned",
        &["tests/diffusers/options.rs::runs_with_every_option_are_those_of_diffusers"],
    ),
    by_tests("One exponential step", &["tests/diffusers/options.rs::one_exponential_step_begins_at_its_own_level"]),
    by_tests("`UniPCMultistepScheduler` takes", &["tests/diffusers/options.rs::contradictions_of_options_name_both"]),
    by_cases("`KDPM2DiscreteScheduler` lists", NothingBetween, "NaN is read as 0; states and answers as they are"),
    by_cases("`interpolation_type: log_linear`", OneMore, "what is appended is left out"),
    by_cases("`get_velocity` of", Position, "with the level at the position"),
    by_tests(
        "The schedulers of CogVideoX",
        &[
            "tests/diffusers/cogvideox.rs::runs_are_those_of_diffusers",
            "tests/diffusers/cogvideox.rs::options_that_cannot_be_honored_are_refused",
        ],
    ),
    by_tests(
        "`DPMSolverMultistepInverseScheduler` with",
        &["tests/conformance/deviations.rs::what_the_originals_compute_as_nan"],
    ),
    by_cases("`FlowMatchEulerDiscreteScheduler` with `invert_sigmas`", Inverted, "`scale_noise` with what is listed"),
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

/// What a configuration gets wrong in the original, by its features alone. Where the single steps of its plan fail for that,
/// and only there, the case is run under the switch.
pub fn wrong(case: &Case<'_>) -> Option<Deviation> {
    let config = &case.value["config"];
    let word = |key: &str, default: &'static str| config[key].as_str().unwrap_or(default).to_owned();
    let order = config["solver_order"].as_u64().unwrap_or(2);
    let has_noise = word("algorithm_type", "dpmsolver++").starts_with("sde");
    match case.class() {
        "PNDMScheduler" if word("prediction_type", "epsilon") == "v_prediction" => Some(MixedOutputs),
        "IPNDMScheduler" => Some(BlankStart),
        "UnCLIPScheduler" => Some(Rounded),
        "DPMSolverMultistepScheduler" | "DPMSolverMultistepInverseScheduler" | "EDMDPMSolverMultistepScheduler"
            if order == 3 =>
        {
            Some(ThirdOrder)
        }
        "DPMSolverSinglestepScheduler" if has_noise && order == 2 => Some(StageNoise),
        // The noise of the fixed small variance vanishes at the end by itself.
        "DDPMScheduler" | "DDPMParallelScheduler"
            if !word("variance_type", "fixed_small").starts_with("fixed_small") =>
        {
            Some(EndsInNoise)
        }
        "FlowMatchHeunDiscreteScheduler" if case.value["step_kwargs"]["s_churn"].as_f64() > Some(0.0) => {
            Some(OffTheFlow)
        }
        "LMSDiscreteScheduler" if case.value["begin_index"].as_u64() > Some(0) => Some(LostSlopes),
        "KarrasVeScheduler" => Some(Squares),
        "RePaintScheduler" => Some(RePaint),
        _ => None,
    }
}

/// A configuration as it is, or under the switch if it `fails` for something that the original is known to get wrong.
pub fn switched<T>(
    case: &Case<'_>,
    scheduler: Configured,
    read: impl Fn(&Configured) -> Result<T, Unsupported>,
    fails: impl Fn(&T) -> bool,
) -> Result<(Configured, T), Unsupported> {
    let plain = read(&scheduler)?;
    match wrong(case) {
        Some(deviation) if !case.is_unswitched() && fails(&plain) => {
            case.deviates(deviation);
            let scheduler = scheduler.compat_diffusers();
            let switched = read(&scheduler)?;
            Ok((scheduler, switched))
        }
        _ => Ok((scheduler, plain)),
    }
}

/// Churn of Euler's solvers that asks afterwards, as its paper does, where a configuration asks before: both have the law of the data.
pub fn own(case: &Case<'_>) -> Option<Box<dyn Solver>> {
    let number = |key: &str, default: f64| case.value["step_kwargs"][key].as_f64().unwrap_or(default);
    case.value["step_kwargs"]["s_churn"].as_f64()?;
    if !["EulerDiscreteScheduler", "EDMEulerScheduler"].contains(&case.class()) {
        return None;
    }
    let churn = Churn::new(number("s_churn", 0.0)).and_then(|churn| churn.noise(number("s_noise", 1.0)));
    let until = number("s_tmax", f64::INFINITY);
    let churn = churn.and_then(|churn| churn.between(number("s_tmin", 0.0), until)).expect("as recorded");
    Some(Box::new(Euler::new().churn(churn)))
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
