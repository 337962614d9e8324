//! What combines with what: every solver with everything, every combinator with every other, run; what is refused is a typed
//! error. The page `docs/combinations.md` is what this test measures: `LANGEVIN_WRITE_DOCS=1` writes it.

mod columns;
mod combinators;
#[path = "../common/mod.rs"]
mod common;
mod page;
mod solvers;

use columns::{Case, Column};
use common::parallel::each;
use common::problem::{ends, even_lambda, processes};
use common::roster;
use langevin::core::grid::End;
use langevin::core::process::RectifiedFlow;
use langevin::core::{Grid, Prediction, Process};
use std::fmt::{Debug, Display, Formatter};

/// The name of a process.
type On = &'static str;

/// How a solver is run.
#[derive(Clone, Copy, Debug)]
enum Way {
    Sampling(On),
    Inversion(On),
    PureNoise { inverted: bool },
}

impl Way {
    /// The process that it goes along.
    fn process(self) -> Box<dyn Process> {
        match self {
            Way::Sampling(on) | Way::Inversion(on) => {
                processes().into_iter().find(|(name, _)| *name == on).expect("a process").1
            }
            Way::PureNoise { .. } => Box::new(RectifiedFlow::new()),
        }
    }

    /// A few steps.
    fn grid(self, process: &dyn Process) -> Grid {
        match self {
            Way::Sampling(_) => even_lambda(process, 6),
            Way::Inversion(_) => even_lambda(process, 6).inverted(),
            Way::PureNoise { inverted: false } => Grid::uniform(6).ending(End::Range),
            // Clean data would be another end, which many cannot begin with.
            Way::PureNoise { inverted: true } => {
                Grid::uniform(6).between(1.0, ends(process).1).ending(End::Range).inverted()
            }
        }
    }

    /// Where it begins and ends.
    fn ends(self) -> (f64, f64) {
        let (noisy, clean) = ends(&self.process());
        match self {
            Way::Sampling(_) => (noisy, clean),
            Way::Inversion(_) => (clean, noisy),
            Way::PureNoise { .. } => (1.0, clean),
        }
    }
}

/// An error as the page shows it.
#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    /// The name of the variant.
    kind: String,
    message: String,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

type Outcome<T> = Result<T, Refusal>;

/// Takes an error of the library down; a variant wrapped in others is named by the innermost.
fn refused(error: impl Debug + Display) -> Refusal {
    let debug = format!("{error:?}");
    let path = debug.split([' ', '{']).next().unwrap_or(&debug);
    let kind = path.rsplit('(').next().unwrap_or(path).trim_end_matches(')').to_owned();
    Refusal { kind, message: error.to_string() }
}

/// What comes of a combination.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Works,
    NoEffect,
    NoMethod,
    Refused(Refusal),
}

impl Cell {
    fn of<T>(outcome: Outcome<T>) -> Self {
        match outcome {
            Ok(_) => Cell::Works,
            Err(refusal) => Cell::Refused(refusal),
        }
    }

    /// Fails if an error is none of a combination, or leaves out one of the two that it is about.
    fn check(&self, what: &str, one: &[&str], other: &[&str]) {
        let Cell::Refused(Refusal { kind, message }) = self else { return };
        assert!(!["NotFinite", "NoGradient", "Shape"].contains(&kind.as_str()), "{what}: {kind}, {message}");
        for names in [one, other] {
            assert!(names.iter().any(|name| message.contains(name)), "{what}: none of {names:?} is in: {message}");
        }
    }
}

/// A line of cells for each solver on a process.
fn solved(on: On, columns: fn() -> Vec<Column>) -> Vec<Vec<Cell>> {
    // Solvers are not sent between threads: each line makes its own.
    each(solvers::rows().len(), |index| {
        let row = solvers::rows().swap_remove(index);
        let alone = Case::alone(&row, on);
        let case = Case { row: &row, on, alone: &alone };
        let called = row.sampler(row.way(on)).expect("a sampler").name();
        // Samplers over a plan, or the solver that cannot plan it; families have one name for all orders and bases.
        let word = |name: &str| name.split([' ', ',', '+']).next().expect("a word").to_owned();
        let called: Vec<String> = called.split(" over ").map(word).collect();
        let mut called: Vec<&str> = called.iter().map(String::as_str).collect();
        // Of a solver that runs upwards what it is combined with may refuse the direction.
        called.extend(row.inverted.then_some("falling noise levels"));
        called.extend(row.name.starts_with("churn around").then_some("churn"));
        let cells = columns().into_iter().map(|column| {
            let cell = (column.cell)(&case);
            // What remembers is refused for that, whatever it is, and so is what is not of CFG++.
            let said: Vec<&str> = column.said.iter().chain(&REMEMBERING).copied().collect();
            cell.check(&format!("{} with {} on {on}", row.name, column.name), &called, &said);
            cell
        });
        cells.collect()
    })
}

/// What errors say of combinators with memory, and of all that are not CFG++.
const REMEMBERING: [&str; 3] = ["a denoiser that remembers", "a denoiser with memory", "a denoiser without CFG++"];

/// A line of cells for each combinator around every other on a process.
fn nested(on: On) -> Vec<Vec<Cell>> {
    let made = |index: usize| combinators::combinators()[index].alone(Prediction::Velocity);
    let count = combinators::combinators().len();
    let alone = each(count, |index| combinators::samples(on, made(index)));
    each(count, |outer| {
        let all = combinators::combinators();
        let line = all.iter().enumerate().map(|(index, inner)| {
            let Some(both) = all[outer].around(made(index).expect("alone")) else { return Cell::NoMethod };
            let cell = compared(combinators::samples(on, both), &[&alone[outer], &alone[index]]);
            cell.check(&format!("{} around {} on {on}", all[outer].name, inner.name), all[outer].said, inner.said);
            cell
        });
        line.collect()
    })
}

/// Without effect if one of two has changed nothing.
fn compared(both: Outcome<Vec<f64>>, alone: &[&Outcome<Vec<f64>>]) -> Cell {
    match both {
        Ok(samples) if alone.iter().any(|alone| alone.as_ref() == Ok(&samples)) => Cell::NoEffect,
        both => Cell::of(both),
    }
}

/// A line of cells for each setting of guidance, followed by every other.
fn together(on: On) -> Vec<Vec<Cell>> {
    let count = combinators::settings().len();
    let samples = |which: &[usize]| combinators::samples(on, combinators::with_settings(which));
    let alone = each(count, |index| samples(&[index]));
    each(count, |one| {
        let settings = combinators::settings();
        let line = (0..count).map(|other| {
            // A setting that is made twice is there once.
            let alone: &[_] = if one == other { &[] } else { &[&alone[one], &alone[other]] };
            let cell = compared(samples(&[one, other]), alone);
            let (first, then) = (&settings[one], &settings[other]);
            cell.check(&format!("{} and {} on {on}", first.name, then.name), &[first.said], &[then.said]);
            cell
        });
        line.collect()
    })
}

/// A line of cells for each combinator around networks that predict different things.
fn predicted(on: On) -> Vec<Vec<Cell>> {
    each(combinators::combinators().len(), |index| {
        let combinator = combinators::combinators().swap_remove(index);
        let line = combinators::predictions().into_iter().map(|(name, prediction)| {
            let cell = Cell::of(combinators::samples(on, combinator.alone(prediction)));
            cell.check(&format!("{} of {name} on {on}", combinator.name), combinator.said, &["network that predicts"]);
            cell
        });
        line.collect()
    })
}

#[test]
fn the_page_of_combinations_is_up_to_date() {
    let measured = page::measured();
    if std::env::var_os("LANGEVIN_WRITE_DOCS").is_some() {
        std::fs::write(page::PATH, &measured).expect("docs/combinations.md");
    }
    let page = std::fs::read_to_string(page::PATH).expect("docs/combinations.md");
    for (line, (page, measured)) in page.lines().zip(measured.lines()).enumerate() {
        assert_eq!(page, measured, "line {} of docs/combinations.md; write it with LANGEVIN_WRITE_DOCS=1", line + 1);
    }
    assert_eq!(page.lines().count(), measured.lines().count(), "write it with LANGEVIN_WRITE_DOCS=1");
}

/// DDRM and RePaint write over what is measured, as they know it themselves.
fn writes(solver: &str, column: &str) -> bool {
    let known = ["DPS", "ΠGDM", "filled", "and ε̂ kept"];
    ["DDRM", "RePaint around DDPM"].contains(&solver) && known.contains(&column)
}

/// Plain guidance goes with every solver, and CFG++ with those that go on from x̂_0 and ε̂ alone.
#[test]
fn what_must_combine_does() {
    let (rows, names) = (solvers::rows(), columns::answers());
    let cells = solved("VP", columns::answers);
    for (row, cells) in rows.iter().zip(&cells) {
        let cell = |column: &str| &cells[names.iter().position(|known| known.name == column).expect("a column")];
        for column in [
            "guided",
            "autoguided",
            "rescaled",
            "interval",
            "scheduled",
            "projected",
            "composed",
            "composed with",
            "and ε̂",
            "dynamic, and ε̂",
            "energy of x",
            "energy of x̂_0",
            "classifier",
            "DPS",
            "ΠGDM",
            "filled",
        ] {
            let found = cell(column);
            // It is for CFG++, and says so of anything else.
            if row.name.starts_with("CFG++ around") {
                assert!(matches!(found, Cell::Refused(refusal) if refusal.kind == "NotSplit"), "{column}");
                continue;
            }
            // DPS takes the gradient through what it asks, and autodiff has gradients of first order only.
            if row.name == "DPS, steps"
                && ["energy of x", "energy of x̂_0", "classifier", "DPS", "ΠGDM"].contains(&column)
            {
                assert!(
                    matches!(found, Cell::Refused(refusal) if refusal.kind == "Combination"),
                    "{column}: {found:?}"
                );
                continue;
            }
            let expected = if writes(row.name, column) { Cell::NoEffect } else { Cell::Works };
            assert_eq!(*found, expected, "{} with {column}", row.name);
        }
        // What leaves ε̂ as it is is seen, or refused.
        for column in ["threshold", "dynamic", "and ε̂ kept"] {
            let found = cell(column);
            let unseen = matches!(found, Cell::Refused(refusal) if refusal.kind == "Unseen");
            let named = row.name.contains("in ε̂") || ["Euler-Maruyama", "predictor-corrector"].contains(&row.name);
            assert!(
                unseen || (!named && *found != Cell::NoEffect) || writes(row.name, column),
                "{}, {column}",
                row.name
            );
        }
        let splits = *cell("CFG++") == Cell::Works;
        assert!(splits || matches!(cell("CFG++"), Cell::Refused(refusal) if refusal.kind == "Split"));
        if ["DDIM", "DDIM with noise", "Euler in σ/α", "TCD", "CFG++ around DPM-Solver++ 2M"].contains(&row.name) {
            assert!(splits, "{}", row.name);
        }
        if ["DDPM", "DPM-Solver++ 2M", "DPM-Solver 2M, in ε̂", "LCM", "Dormand-Prince"].contains(&row.name) {
            assert!(!splits, "{}", row.name);
        }
    }
}

#[test]
fn every_solver_has_a_row() {
    let rows = solvers::rows();
    let mut public = roster::solvers();
    public.extend(roster::samplers());
    let simulated = "it simulates an SDE of one's own, and asks no denoiser";
    let known = [
        ("sde::simulation::Simulation", simulated),
        ("sde::adaptive_simulation::AdaptiveSimulation", simulated),
        ("consistency::scalewise::Scalewise", "its samples are images, and these are points; see tests/diffusers"),
    ];
    roster::assert_complete(&public, rows.iter().map(|row| row.of), &known);
}

/// Three combinators around one another give samples, or an error that is one of a combination.
#[test]
fn three_combinators_deep() {
    let all = combinators::combinators();
    let counts = each(all.len(), |innermost| {
        let (mut works, mut refusals) = (0, 0);
        for middle in &all {
            for outer in &all {
                let innermost = &all[innermost];
                let around = |made: Outcome<combinators::Answer>, outer: &combinators::Combinator| match made {
                    Ok(inner) => outer.around(inner),
                    refused => Some(refused),
                };
                let two = around(innermost.alone(Prediction::Velocity), middle);
                let Some(three) = two.and_then(|two| around(two, outer)) else { continue };
                let what = format!("{} around {} around {}", outer.name, middle.name, innermost.name);
                let outcome = combinators::samples("VP", three);
                works += usize::from(outcome.is_ok());
                refusals += usize::from(outcome.is_err());
                if let Ok(samples) = &outcome {
                    assert!(samples.iter().all(|x| x.is_finite()), "{what}");
                }
                Cell::of(outcome).check(&what, &[""], &[""]);
            }
        }
        (works, refusals)
    });
    let sum = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(sum, (8370, 2214));
}
