//! Steps wait for no device: what a run asks of its network, and where the library reads from a device at all.
//!
//! Tensors are computed when the device gets to it; a step of a plan only queues work, unless a value is read. So that no
//! step reads one, no code that steps run may call what reads: the sources are searched for it.

#[path = "common/mod.rs"]
mod common;

use burn::tensor::{Device, Tensor};
use common::problem::even_lambda;
use langevin::burn;
use langevin::core::noise::Seeded;
use langevin::core::process::VpSde;
use langevin::core::{Load, Prediction, denoiser};
use langevin::schedulers::plan::Coef;
use langevin::schedulers::{Plan, SamplerExt, diffusers};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The questions of each step are those that the step says, and each is asked once.
fn asks_once(name: &str, plan: &Plan, prediction: Prediction) {
    let asked = AtomicUsize::new(0);
    let denoiser = denoiser::from_fn(prediction, |x: Tensor<2>, _levels| {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok(x.mul_scalar(0.5))
    });
    let noise = Seeded::new(1);
    let run = plan.start([2, 3], &denoiser, &noise, Load::on(&Device::flex()));
    let mut before = 0;
    for step in run.unwrap_or_else(|error| panic!("{name}: {error}")) {
        let step = step.unwrap_or_else(|error| panic!("{name}: {error}"));
        let asked = asked.load(Ordering::Relaxed);
        assert_eq!(step.evaluations, asked, "{name}, step {}", step.index);
        before = asked;
    }
    assert_eq!(before, plan.evaluations(), "{name}");
}

#[test]
fn every_question_of_a_plan_is_asked_once() {
    let solvers: Map<String, Value> = serde_json::from_str(include_str!("../benches/solvers.json")).unwrap();
    for (name, config) in solvers {
        let scheduler = diffusers::from_config(&config.to_string()).unwrap();
        asks_once(&name, &scheduler.plan(12).unwrap(), scheduler.prediction());
    }
    let process = VpSde::default();
    let (mut plans, mut given) = (0, BTreeSet::new());
    for row in common::solvers::rows() {
        let plan = row.solver.plan(&process, &even_lambda(&process, 12)).unwrap();
        let sets = plan.rows().iter().flat_map(|row| row.pre.iter().chain(&row.post));
        let has_variance = sets.flat_map(|set| &set.sum).any(|term| !matches!(term.c, Coef::C(_)));
        // What is known of a sample, a variance, or both answers of a guidance are no plain denoiser's.
        if row.known || has_variance || plan.needs_split() {
            given.insert(row.of);
            continue;
        }
        asks_once(row.name, &plan, Prediction::Sample);
        plans += 1;
    }
    assert!(plans > 150, "{plans} plans");
    assert_eq!(given, BTreeSet::from(["ddpm::Ddpm", "jumps::repaint::RePaint", "plus_plus::PlusPlus"]));
}

/// Burn's functions that wait for a device. Some do so on GPUs alone, where Burn has no kernel for them.
const READS: [&str; 24] = [
    "into_data",
    "to_data",
    "into_vec_as",
    "to_vec_as",
    "into_scalar",
    "into_data_async",
    "to_data_async",
    "into_scalar_async",
    "all_close",
    "nonzero",
    "sync",
    "into_data_as",
    "to_data_as",
    "into_data_dtype",
    "to_data_dtype",
    "argwhere",
    "check_closeness",
    "one_hot",
    "one_hot_fill",
    "argsort",
    "argsort_descending",
    "sort",
    "sort_descending",
    "sort_with_indices",
];

/// The calls in a source that wait for a device, tests and documentation apart, and functions that are passed on to be called.
fn reads(source: &str) -> Vec<String> {
    let code =
        source.split("#[cfg(test)]").next().and_then(|code| code.split("#[cfg(all(test").next()).unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let words = lines.flat_map(|line| {
        // A call is a method, perhaps one that can fail, perhaps with its type; or it names the type in front.
        let dots = line.split('.').skip(1).map(|rest| (rest, false));
        let parts: Vec<&str> = line.split("::").collect();
        let paths = parts.windows(2).filter(|pair| !pair[0].ends_with("std")).map(|pair| (pair[1], true));
        dots.chain(paths.collect::<Vec<_>>()).map(|(rest, path)| {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let calls = path || matches!(rest[name.len()..].chars().next(), Some('(' | ':'));
            if calls { name } else { String::new() }
        })
    });
    words.filter(|word| READS.contains(&word.strip_prefix("try_").unwrap_or(word))).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
            && !path.ends_with("testing.rs")
        {
            found.push(path);
        }
    }
}

#[test]
fn only_what_must_reads_from_a_device() {
    // Where, by which calls, and when.
    let allowed = BTreeMap::from([
        // The exact denoiser of data whose density is known, which computes on the host.
        ("langevin-core/src/exact/denoiser.rs", vec!["to_data"]),
        // Whether what is known or measured is finite, and which numbers a mask lets through: when they are made.
        ("langevin-core/src/inverse/known_region.rs", vec!["to_data"]),
        ("langevin-core/src/inverse/measurement.rs", vec!["to_data"]),
        ("langevin-core/src/inverse/operator/masking.rs", vec!["to_data"]),
        // So that a network has been run once.
        ("langevin-core/src/warm_up.rs", vec!["into_data"]),
        // Whether the gradient of a caller's energy or classifier is finite: in each question, where `checked` asks for it.
        ("langevin-core/src/denoiser/energy.rs", vec!["try_into_scalar"]),
        // Which tokens are the likeliest, where only so many of them, or so large a share, may be drawn: Burn sorts on the host.
        ("langevin-schedulers/src/discrete/draw.rs", vec!["sort_descending", "sort_descending"]),
        // Which positions of tokens are taken, and whether a sample is ready: a few numbers a position in each step. Checks of
        // given tokens, and saving.
        ("langevin-schedulers/src/discrete/host.rs", vec!["try_to_data", "try_to_data", "try_into_scalar"]),
        // Which measurement it is, for saved runs: when the solver is made.
        ("langevin-schedulers/src/inverse/ddrm.rs", vec!["to_data"]),
        ("langevin-schedulers/src/inverse/dps.rs", vec!["to_data"]),
        // How far a window of states still moved decides how far it goes on: after each sweep.
        ("langevin-schedulers/src/picard.rs", vec!["try_into_vec_as"]),
        // Whether the image and mask that a run is given are finite: before its first step.
        ("langevin-schedulers/src/sampler/given.rs", vec!["try_into_scalar", "try_into_scalar"]),
        // The norms of an adaptive solver's error decide whether a step is taken.
        ("langevin-schedulers/src/sampler/rows.rs", vec!["try_to_data"]),
        // Whether samples are finite: at the end, and where `check_finite_every` asks for it.
        ("langevin-schedulers/src/sampler/run.rs", vec!["try_into_scalar"]),
        // Saving.
        ("langevin-schedulers/src/sampler/saved.rs", vec!["try_to_data"]),
        // Whether paths have left a domain is asked of a function on the host: in each step, where exits are asked for.
        ("langevin-schedulers/src/sde/exit.rs", vec!["try_into_vec_as"]),
    ]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let mut files = Vec::new();
    for of in ["langevin-schedulers/src", "langevin-core/src"] {
        sources(&root.join(of), &mut files);
    }
    assert!(files.len() > 150, "{} files are not all that a step runs", files.len());
    let found = files.iter().filter_map(|file| {
        let calls = reads(&std::fs::read_to_string(file).unwrap());
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        (!calls.is_empty()).then_some((name, calls))
    });
    let found: BTreeMap<String, Vec<String>> = found.collect();
    let found: BTreeMap<&str, Vec<&str>> =
        found.iter().map(|(name, calls)| (name.as_str(), calls.iter().map(String::as_str).collect())).collect();
    assert_eq!(found, allowed);
}

#[test]
fn the_search_can_fail() {
    let source = "let a = x.into_data();\nlet b = x.try_into_scalar::<f32>();\n// x.sync()\nlet c = x.sync;\n#[cfg(test)]\nx.to_data();";
    assert_eq!(reads(source), ["into_data", "try_into_scalar"]);
    assert!(reads("fn f() {}\n#[cfg(all(test, feature = \"flex\"))]\nx.to_data();").is_empty());
    assert_eq!(reads("device.sync().unwrap(); x\n    .to_data()"), ["sync", "to_data"]);
    assert_eq!(
        reads("let a = Tensor::into_data(x);\nxs.map(Tensor::to_data)\nlet y = x.sort(1);"),
        ["into_data", "to_data", "sort"]
    );
    assert!(reads("use std::sync::Arc;\nxs.sort_unstable();").is_empty());
}
