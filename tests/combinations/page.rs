//! The page of what combines with what.

use crate::columns::{answers, runs};
use crate::combinators::{OF_NETWORKS, combinators, predictions, settings};
use crate::common::problem::processes;
use crate::{Cell, On, nested, predicted, solved, solvers, together};
use std::fmt::Write;

pub const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/combinations.md");

const INTRODUCTION: &str = "# What combines with what

Every solver with everything that it can be combined with, and every combinator with every other, as `tests/combinations`
runs it: six steps of three samples in the plane, from λ = −2 to λ = 2 on VP, with networks that predict velocity. The same
is run on sub-VP, VE, EDM and the rectified flow, and [what differs there](#on-other-processes) is at the end.

* **yes**: the run ends with finite samples, and they differ from those of the solver alone, or of either combinator alone.
* **no effect**: the run ends with the same samples: DDRM and RePaint write over what is measured, a second threshold finds nothing to
  do, and one by a quantile leaves alone what is within 1. A threshold of x̂_0, which a
  solver in ε̂ would not see, is an error unless ε̂ is derived from it again.
* **a letter**: a typed error, before the first step where it can be known. The messages are below the table; the test finds
  the names of both in each.
* Picard's iterations change nothing by design: there **yes** is a run to the end.
* CFG++ around a solver wants `.plus_plus()`, and is run with it where another column does not say what answers.
* **–**: it does not compile, which the test checks by compiling: those columns take a `Solver` or a `Plan`, and what is in that line is a
  `Sampler` of its own, or has no such method. Why it is so is below the table.

This page is written by the test, which fails when the page is out of date.
";

/// A table: its heading, the names of its lines and columns, the meaning of the latter, and its cells by process.
struct Table {
    title: &'static str,
    corner: &'static str,
    /// Each with the reason of what it has not.
    rows: Vec<(&'static str, &'static str)>,
    columns: Vec<(&'static str, &'static str)>,
    cells: Vec<Vec<Vec<Cell>>>,
}

/// The errors that the page refers to by letters.
#[derive(Default)]
struct Notes(Vec<(String, String)>);

impl Notes {
    /// What stands for a cell of a case.
    fn shown(&mut self, cell: &Cell, case: &str) -> String {
        let refusal = match cell {
            Cell::Works => return "yes".to_owned(),
            Cell::NoEffect => return "no effect".to_owned(),
            Cell::NoMethod => return "–".to_owned(),
            Cell::Refused(refusal) => refusal,
        };
        let key = format!("{}: {}", refusal.kind, reason(&refusal.message));
        let index = self.0.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            self.0.push((key, format!("{case}: {}", refusal.message)));
            self.0.len() - 1
        });
        letter(index)
    }

    /// Those from a number on.
    fn write(&self, page: &mut String, first: usize) {
        if self.0.len() > first {
            page.push('\n');
        }
        for (index, (_, message)) in self.0.iter().enumerate().skip(first) {
            writeln!(page, "* **{}** is, for instance with {message}", letter(index)).expect("memory");
        }
    }
}

/// What a message says after the names and numbers of the case.
fn reason(message: &str) -> &str {
    message.split_once(": ").map_or(message, |(_, reason)| reason)
}

/// a to z, and then aa to az.
fn letter(index: usize) -> String {
    let last = char::from(b'a' + u8::try_from(index % 26).expect("a letter"));
    if index < 26 { last.to_string() } else { format!("a{last}") }
}

fn table(page: &mut String, table: &Table, notes: &mut Notes) {
    writeln!(page, "\n## {}\n", table.title).expect("memory");
    let head: String = table.columns.iter().map(|(name, _)| format!(" {name} |")).collect();
    writeln!(page, "| {} |{head}\n|---|{}", table.corner, "---|".repeat(table.columns.len())).expect("memory");
    let first = notes.0.len();
    let mut lacking: Vec<(&str, Vec<&str>)> = Vec::new();
    for ((row, lacks), cells) in table.rows.iter().zip(&table.cells[0]) {
        write!(page, "| {row} |").expect("memory");
        for ((column, _), cell) in table.columns.iter().zip(cells) {
            write!(page, " {} |", notes.shown(cell, &format!("{row} ({column})"))).expect("memory");
        }
        page.push('\n');
        if cells.contains(&Cell::NoMethod) {
            assert!(!lacks.is_empty(), "{row} lacks a reason for what it has not");
            match lacking.iter_mut().find(|(reason, _)| reason == lacks) {
                Some((_, rows)) => rows.push(row),
                None => lacking.push((lacks, vec![row])),
            }
        }
    }
    let explained: Vec<_> = table.columns.iter().filter(|(_, what)| !what.is_empty()).collect();
    if !explained.is_empty() {
        page.push('\n');
    }
    for (column, what) in explained {
        writeln!(page, "* {column}: {what}.").expect("memory");
    }
    if !lacking.is_empty() {
        page.push('\n');
    }
    for (reason, rows) in lacking {
        writeln!(page, "* **–** of {}: {reason}.", rows.join(", ")).expect("memory");
    }
    notes.write(page, first);
}

fn tables() -> [Table; 5] {
    let names: Vec<On> = processes().into_iter().map(|(name, _)| name).collect();
    let on_all =
        |cells: &dyn Fn(On) -> Vec<Vec<Cell>>| -> Vec<Vec<Vec<Cell>>> { names.iter().map(|on| cells(on)).collect() };
    let solver_names = || solvers::rows().iter().map(|row| (row.name, row.lacks)).collect::<Vec<_>>();
    let all = combinators();
    let combinator_rows: Vec<_> = all.iter().map(|combinator| (combinator.name, OF_NETWORKS)).collect();
    let combinator_names: Vec<_> = all.iter().map(|combinator| combinator.name).collect();
    let unexplained = |names: Vec<&'static str>| names.into_iter().map(|name| (name, "")).collect();
    [
        Table {
            title: "What changes the answers",
            corner: "solver",
            rows: solver_names(),
            columns: answers().iter().map(|column| (column.name, column.what)).collect(),
            cells: on_all(&|on| solved(on, answers)),
        },
        Table {
            title: "What changes the run",
            corner: "solver",
            rows: solver_names(),
            columns: runs().iter().map(|column| (column.name, column.what)).collect(),
            cells: on_all(&|on| solved(on, runs)),
        },
        Table {
            title: "What goes around what",
            corner: "around the answers of",
            rows: combinator_rows.clone(),
            columns: unexplained(combinator_names),
            cells: on_all(&|on| nested(on)),
        },
        Table {
            title: "Settings of guidance",
            corner: "first, and then",
            rows: settings().iter().map(|setting| (setting.name, "")).collect(),
            columns: unexplained(settings().iter().map(|setting| setting.name).collect()),
            cells: on_all(&|on| together(on)),
        },
        Table {
            title: "What the network predicts",
            corner: "around",
            rows: combinator_rows,
            columns: unexplained(predictions().iter().map(|(name, _)| *name).collect()),
            cells: on_all(&|on| predicted(on)),
        },
    ]
}

pub fn measured() -> String {
    let (mut page, mut notes) = (INTRODUCTION.to_owned(), Notes::default());
    let tables = tables();
    tables.iter().for_each(|one| table(&mut page, one, &mut notes));
    let names: Vec<On> = processes().into_iter().map(|(name, _)| name).collect();
    let head: String = names.iter().map(|name| format!(" {name} |")).collect();
    writeln!(page, "\n## On other processes\n").expect("memory");
    let (first, mut lines, mut count) = (notes.0.len(), String::new(), 0);
    for table in &tables {
        for (i, (row, _)) in table.rows.iter().enumerate() {
            for (k, (column, _)) in table.columns.iter().enumerate() {
                let shown: Vec<String> =
                    table.cells.iter().map(|cells| notes.shown(&cells[i][k], &format!("{row} ({column})"))).collect();
                count += shown.len() - 1;
                if shown.iter().any(|other| *other != shown[0]) {
                    writeln!(lines, "| {row} | {column} | {} |", shown.join(" | ")).expect("memory");
                }
            }
        }
    }
    let differ = lines.lines().count();
    writeln!(
        page,
        "Of {count} combinations more, those in these {differ} lines are not on every process what they are on VP.\n"
    )
    .expect("memory");
    writeln!(page, "| this | with this |{head}\n|---|---|{}", "---|".repeat(names.len())).expect("memory");
    page.push_str(&lines);
    notes.write(&mut page, first);
    page
}
