//! Walks every fixture, builds what its manifest names through the public loaders, and compares every tensor.
//!
//! `LANGEVIN_FIXTURES` names another folder of the same format; `LANGEVIN_FIXTURES_ONLY` filters by path, and then
//! every unsupported case fails. Other fixtures than the known ones may be in the repository's folder as well: `known`
//! tells them apart.

#![allow(clippy::print_stdout, reason = "the list of cases is the result")]

mod deviations;
mod fixture;
mod k_diffusion;
mod k_diffusion_steps;
mod karras_ve;
mod known;
mod lists;
mod minilm;
mod models;
mod mutations;
mod networks;
mod open_loop;
mod outcome;
mod pending;
mod repaint;
mod rounding;
mod schedulers;
mod score_sde;
mod score_sde_schedulers;
mod vq_diffusion;
mod walks;

use deviations::Deviation;
use fixture::{Case, Fixture};
use known::Which;
use langevin::schedulers::diffusers;
use outcome::{Outcome, Unsupported};
use schedulers::Walked;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

fn run(case: &Case<'_>) -> Outcome {
    let fixture = case.fixture.manifest["fixture"].as_str().unwrap_or("");
    match case.class() {
        "KarrasVeScheduler" => karras_ve::run(case),
        "RePaintScheduler" => repaint::run(case),
        "VQDiffusionScheduler" => vq_diffusion::run(case),
        class if diffusers::CLASSES.contains(&class) => schedulers::run(case),
        "ScoreSdeVpScheduler" | "ScoreSdeVeScheduler" => score_sde_schedulers::run(case),
        "" if fixture.starts_with("score_sde/") => score_sde::run(case),
        "" if fixture.starts_with("k_diffusion/") => k_diffusion::run(case),
        class => match networks::family(class) {
            Some(run) => run(case),
            None => Err(Unsupported(format!("class {class} of {fixture}"))),
        },
    }
}

/// As [`run`]. A case that panics fails, and the others run all the same.
fn guarded(case: &Case<'_>) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        case.fail(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")));
        Ok(())
    })
}

/// The first value that differs in a whole case that is not run under the switch, or why there is none. Stages with noise of one
/// path differ by what they draw alone: given the recorded draws, which are independent, values are those of the original.
fn without_the_switch(case: &Case<'_>, wrong: Deviation) -> Result<String, String> {
    let plain = case.unswitched();
    if let Err(Unsupported(reason)) = guarded(&plain) {
        return Err(format!("it cannot be run: {reason}"));
    }
    let value = plain.failures().into_iter().find(|failure| failure.ends_with("times the tolerance)"));
    if wrong != Deviation::StageNoise {
        return value.ok_or_else(|| format!("no value differs: {:?}", plain.failures()));
    }
    let overlaps = |case: &Case<'_>| Walked::of(case).is_ok_and(|walked| deviations::overlaps(&walked.plan));
    match (value, overlaps(&case.unswitched()), overlaps(&case.again())) {
        (None, true, false) => Ok("draws share a part of a path".into()),
        found => Err(format!("a value, overlapping draws, those under it: {found:?}")),
    }
}

/// What a folder has.
#[derive(Debug, Default, PartialEq)]
struct Folder {
    cases: usize,
    /// Compared in open loop.
    steps: usize,
    /// Cases in which no step is recorded.
    without_steps: usize,
}

/// Where the fixtures are.
fn root() -> PathBuf {
    std::env::var_os("LANGEVIN_FIXTURES").map_or_else(known::home, PathBuf::from)
}

/// Recorded values without tensors beside them, and real weights that are not in the repository.
#[test]
fn sentences() {
    minilm::run(&root());
}

#[test]
fn conformance() {
    let root = root();
    let only = std::env::var("LANGEVIN_FIXTURES_ONLY").ok();
    let (mut ok, mut differs, mut pending) = (0, 0, 0);
    let (mut compared, mut total) = (0, 0);
    let mut found = deviations::Found::default();
    let (mut failed, mut folders) = (Vec::new(), BTreeMap::<String, Folder>::new());
    for path in fixture::find(&root) {
        let relative = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        if only.as_ref().is_some_and(|only| !relative.contains(only.as_str())) {
            continue;
        }
        let Some(fixture) = Fixture::read(&path) else { continue };
        let family = relative.trim_end_matches(".json").rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        if relative.starts_with("schedulers") {
            found.skipped(&family, &fixture);
        }
        let folder = folders.entry(relative.split(['/', '\\']).next().unwrap_or_default().to_owned()).or_default();
        folder.cases += fixture.cases().len();
        for case in fixture.cases() {
            let name = format!("{relative}: {}", case.name());
            total += case.total();
            match guarded(&case) {
                Err(Unsupported(reason)) => {
                    pending += 1;
                    println!("unsupported {name}: {reason}");
                    if only.is_some() || !pending::is_pending(&case) {
                        failed.push(format!("{name}: unsupported ({reason}) and not on the list"));
                    }
                }
                Ok(()) => {
                    compared += case.read_count();
                    found.case(&family, &case);
                    let mut failures = case.failures();
                    if failures.is_empty() && !case.unread().is_empty() {
                        failures.push(format!("not compared: {}", case.unread().join(", ")));
                    }
                    if open_loop::has_steps(&case) {
                        match open_loop::steps(&case) {
                            Ok(0) => folder.without_steps += 1,
                            Ok(steps) => folder.steps += steps,
                            Err(why) => failures.push(why),
                        }
                    }
                    if failures.is_empty() {
                        ok += 1;
                        println!("ok {name} (worst error {:.3} of its tolerance)", case.worst());
                        if let Some(wrong) = deviations::wrong(&case).filter(|it| case.deviations().contains(it)) {
                            println!("   under compat_diffusers: {wrong:?}");
                            match without_the_switch(&case, wrong) {
                                Ok(what) => println!("   without it: {what}"),
                                Err(what) => failed.push(format!("{name}: without the switch {what}")),
                            }
                        }
                        if let Some(reason) = open_loop::without_steps(&case) {
                            println!("   without single steps: {reason}");
                        }
                    } else {
                        differs += 1;
                        println!("differs {name}: {}", failures[0]);
                        failed.push(format!("{name}: {}", failures.join("; ")));
                    }
                }
            }
        }
    }
    for (name, folder) in folders.iter().filter(|(_, folder)| folder.steps > 0) {
        println!("OPEN LOOP {name}: steps={} cases without={}", folder.steps, folder.without_steps);
    }
    println!("CONFORMANCE ok={ok} differs={differs} unsupported={pending} tensors={compared}/{total}");
    assert!(ok + differs + pending > 0, "no case was found under {}", root.display());
    if only.is_none() && known::which(&root) == Which::Known {
        let expected = [
            ("schedulers", Folder { cases: 234, steps: 2189, without_steps: 0 }),
            ("k_diffusion", Folder { cases: 43, steps: 264, without_steps: 10 }),
            ("score_sde", Folder { cases: 16, steps: 180, without_steps: 13 }),
        ];
        for (name, expected) in expected {
            let found = folders.get(name);
            if found != Some(&expected) {
                failed.push(format!("cases and single steps of {name}: {found:?} instead of {expected:?}"));
            }
        }
        failed.extend(deviations::compare(&found));
    } else if only.is_none() {
        println!("{}", known::NOTE);
    }
    assert!(failed.is_empty(), "{} cases or comparisons failed:\n{}", failed.len(), failed.join("\n"));
}
