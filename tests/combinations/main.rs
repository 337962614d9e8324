//! What combines with what: every solver with everything, run; what is refused is a typed error. The page
//! `docs/combinations.md` is what this test measures: `LANGEVIN_WRITE_DOCS=1` writes it.

mod columns;
#[path = "../common/mod.rs"]
mod common;
mod solvers;

use columns::Column;
use common::roster;
use std::fmt::{Debug, Display, Write};

/// How a solver is run.
#[derive(Clone, Copy, Debug)]
enum Way {
    Sampling,
    Inversion,
    PureNoise,
}

/// An error as the page shows it.
#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    /// The name of the variant.
    kind: String,
    message: String,
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
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/combinations.md");

const INTRODUCTION: &str = "# What combines with what

Every solver with everything that it can be combined with, as `tests/combinations` runs it: a few steps of three samples
in the plane, on `VpSde` (the last column on `RectifiedFlow`, from t = 1), with networks that predict velocity.

* **yes**: the run ends with finite samples, and they differ from those of the solver alone.
* **no effect**: the run ends with the same samples: the solver does not read what is changed. A solver in ε̂ does not see
  a threshold of x̂_0 unless ε̂ is derived from it again; DDRM and RePaint write over what is measured.
* **a letter**: a typed error, before the first step where it can be known. The messages are below the table.
* Picard's iterations change nothing by design: there **yes** is a run to the end.
* CFG++ around a solver wants `.plus_plus()`, and is run with it where another column does not say what answers.
* **–**: there is no such method; it does not compile.

This page is written by the test, which fails when the page is out of date.
";

/// A table, and the errors that it refers to.
fn table(page: &mut String, rows: &[solvers::Row], columns: &[Column], notes: &mut Vec<(String, String)>) {
    let mut head = "| solver |".to_owned();
    columns.iter().for_each(|column| write!(head, " {} |", column.name).expect("memory"));
    writeln!(page, "{head}\n|---|{}", "---|".repeat(columns.len())).expect("memory");
    let first = notes.len();
    for row in rows {
        write!(page, "| {} |", row.name).expect("memory");
        for column in columns {
            let cell = match (column.cell)(row) {
                Cell::Works => "yes".to_owned(),
                Cell::NoEffect => "no effect".to_owned(),
                Cell::NoMethod => "–".to_owned(),
                Cell::Refused(refusal) => {
                    assert!(refusal.kind != "NotFinite", "{} with {}: {}", row.name, column.name, refusal.message);
                    let key = format!("{}: {}", refusal.kind, reason(&refusal.message));
                    let known = notes.iter().position(|(known, _)| *known == key);
                    let index = known.unwrap_or_else(|| {
                        notes.push((key, format!("{} ({}): {}", row.name, column.name, refusal.message)));
                        notes.len() - 1
                    });
                    letter(index)
                }
            };
            write!(page, " {cell} |").expect("memory");
        }
        page.push('\n');
    }
    page.push('\n');
    for column in columns {
        writeln!(page, "* {}: {}.", column.name, column.what).expect("memory");
    }
    page.push('\n');
    for (index, (_, message)) in notes.iter().enumerate().skip(first) {
        writeln!(page, "* **{}** is, for instance with {message}", letter(index)).expect("memory");
    }
}

/// What a message says after the names and numbers of the case.
fn reason(message: &str) -> &str {
    message.split_once(": ").map_or(message, |(_, reason)| reason)
}

fn letter(index: usize) -> String {
    char::from(b'a' + u8::try_from(index).expect("few errors")).to_string()
}

fn measured() -> String {
    let rows = solvers::rows();
    let (mut page, mut notes) = (INTRODUCTION.to_owned(), Vec::new());
    page.push_str("\n## What changes the answers\n\n");
    table(&mut page, &rows, &columns::answers(), &mut notes);
    page.push_str("\n## What changes the run\n\n");
    table(&mut page, &rows, &columns::runs(), &mut notes);
    page.push_str("\n## What excludes each other\n\n| this | with this | is an error |\n|---|---|---|\n");
    for (first, second, outcome) in columns::excluded() {
        let error = outcome.expect_err("a combination that is refused");
        writeln!(page, "| {first} | {second} | {error} |").expect("memory");
    }
    page
}

#[test]
fn the_page_of_combinations_is_up_to_date() {
    let measured = measured();
    if std::env::var_os("LANGEVIN_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &measured).expect("docs/combinations.md");
    }
    let page = std::fs::read_to_string(PAGE).expect("docs/combinations.md");
    for (line, (page, measured)) in page.lines().zip(measured.lines()).enumerate() {
        assert_eq!(page, measured, "line {} of docs/combinations.md; write it with LANGEVIN_WRITE_DOCS=1", line + 1);
    }
    assert_eq!(page.lines().count(), measured.lines().count(), "write it with LANGEVIN_WRITE_DOCS=1");
}

/// Plain guidance goes with every solver, and CFG++ with those that go on from x̂_0 and ε̂ alone.
#[test]
fn what_must_combine_does() {
    let (rows, columns) = (solvers::rows(), columns::answers());
    let cell = |column: &str, row: &solvers::Row| {
        (columns.iter().find(|known| known.name == column).expect("a column").cell)(row)
    };
    for row in &rows {
        for column in ["guided", "rescaled", "projected", "composed", "and ε̂", "energy", "DPS", "ΠGDM", "filled"] {
            let found = cell(column, row);
            // It is for CFG++, and says so of anything else.
            if row.name.starts_with("CFG++ around") {
                assert!(matches!(found, Cell::Refused(refusal) if refusal.kind == "NotSplit"), "{column}");
                continue;
            }
            // DPS takes the gradient through what it asks, and autodiff has gradients of first order only.
            if row.name == "DPS, steps" && ["energy", "DPS", "ΠGDM"].contains(&column) {
                assert!(matches!(found, Cell::Refused(_)), "{} with {column}: {found:?}", row.name);
                continue;
            }
            // DDRM and RePaint write over what is measured, as they know it themselves.
            let writes = ["DDRM", "RePaint around DDPM"].contains(&row.name);
            let own = writes && ["DPS", "ΠGDM", "filled"].contains(&column);
            let expected = if own { Cell::NoEffect } else { Cell::Works };
            assert_eq!(found, expected, "{} with {column}", row.name);
        }
        let splits = matches!(cell("CFG++", row), Cell::Works);
        assert!(splits || matches!(cell("CFG++", row), Cell::Refused(refusal) if refusal.kind == "Split"));
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
