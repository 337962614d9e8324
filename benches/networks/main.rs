//! Times layers and networks on a device.
//!
//! `cargo bench --bench networks -- --device flex` prints a table; `--only NAME` picks cases whose name has that part, or a group
//! of them (may be repeated), `--list` names them, `--json FILE` writes every round. With `--serve` a case that is named on a line of
//! standard input is answered with one line of JSON: `networks.py` in `benches/peers` runs PyTorch in turn with it.
//! `benches/cpu` times the same cases with criterion.
//! Without `--bench` or another argument, as in `cargo test`, every case runs once, as small as it can be.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to another one")]
#![recursion_limit = "256"]

mod case;
mod layers;
mod measure;
mod networks;
mod others;

use burn::tensor::DType;
use case::{Case, Setting};
use clap::{Parser, ValueEnum};
use langevin::burn;
use langevin::device::device;
use measure::{Ready, Times};
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

#[derive(Parser)]
struct Options {
    /// Where to run, as in `vulkan` or `flex`.
    #[arg(long, default_value = "flex")]
    device: String,
    /// Element type of weights and inputs.
    #[arg(long, value_enum, default_value_t = Element::F32)]
    dtype: Element,
    /// Only cases whose name has this part, or of this group.
    #[arg(long)]
    only: Vec<String>,
    /// Without cases whose name has this part, or of this group.
    #[arg(long)]
    without: Vec<String>,
    /// Rounds of each case.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Writes every round of every case.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Convolutions by each algorithm, too.
    #[arg(long)]
    algorithms: bool,
    /// Other sizes than those that algorithms were chosen by, too.
    #[arg(long)]
    others: bool,
    /// Names the cases.
    #[arg(long)]
    list: bool,
    /// Measures what standard input names, a round for each line.
    #[arg(long)]
    serve: bool,
    /// Sizes of the batches for a processor even elsewhere.
    #[arg(long)]
    small: bool,
    /// Images in a batch of each network.
    #[arg(long)]
    batch: Option<usize>,
    /// With the transforms of weights kept where there is no gradient.
    #[arg(long)]
    keep_transforms: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Element {
    F32,
    F16,
    Bf16,
}

impl From<Element> for DType {
    fn from(element: Element) -> Self {
        match element {
            Element::F32 => Self::F32,
            Element::F16 => Self::F16,
            Element::Bf16 => Self::BF16,
        }
    }
}

fn main() {
    let mut cases = layers::cases();
    cases.extend(networks::cases());
    let usual = cases.len();
    cases.extend(others::cases());
    cases.extend(layers::algorithms());
    if std::env::args().len() == 1 {
        return smoke(&cases);
    }
    let options = Options::parse();
    if !options.algorithms {
        cases.truncate(cases.len() - layers::algorithms().len());
    }
    if !options.others {
        cases.drain(usual..usual + others::cases().len());
    }
    let has = |case: &Case, parts: &[String]| parts.iter().any(|part| case.name.contains(part) || case.group == part);
    cases.retain(|case| (options.only.is_empty() || has(case, &options.only)) && !has(case, &options.without));
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return;
    }
    let setting = Setting {
        device: device(&options.device).unwrap_or_else(|error| panic!("{error}")),
        dtype: options.dtype.into(),
        on_cpu: options.small || matches!(options.device.as_str(), "flex" | "cpu" | "ndarray"),
        batch: options.batch,
        keep: options.keep_transforms,
        tiny: false,
    };
    if options.serve { serve(&cases, &setting) } else { table(&cases, &setting, &options) }
}

/// Every case once.
fn smoke(cases: &[Case]) {
    let device = device("flex").expect("the CPU");
    let setting = Setting { device, dtype: DType::F32, on_cpu: true, batch: None, keep: false, tiny: true };
    for case in cases {
        assert!(Ready::new(case, &setting).round().is_finite(), "{}", case.name);
    }
}

/// All rounds of a case after one another, then the next case.
fn table(cases: &[Case], setting: &Setting, options: &Options) {
    println!(
        "{}, {:?}, milliseconds: median (least to largest), until the call returned; seconds of the first call",
        options.device, options.dtype
    );
    let mut all = Vec::new();
    for case in cases {
        // A case that this device cannot run must not end the others.
        let timed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut ready = Ready::new(case, setting);
            let rounds = (0..options.rounds).map(|_| ready.round()).collect();
            Times { name: case.name.clone(), first: ready.first, rounds, issued: ready.issued }
        }));
        let Ok(times) = timed else {
            println!("{:<44} failed", case.name);
            continue;
        };
        let [median, least, largest] = times.summary();
        println!(
            "{:<44} {median:9.3} ({least:.3} to {largest:.3}) {:9.3} {:8.1} s",
            times.name, times.issued, times.first
        );
        std::io::stdout().flush().expect("standard output");
        all.push(times);
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&all).expect("numbers");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A round of the case that a line names; an empty line lets go of what the cases hold.
fn serve(cases: &[Case], setting: &Setting) {
    let mut ready: HashMap<String, Ready> = HashMap::new();
    for name in std::io::stdin().lines() {
        let name = name.expect("a line");
        if name.is_empty() {
            ready.clear();
            continue;
        }
        let case = cases.iter().find(|case| case.name == name).expect("a known name");
        let ready = ready.entry(name).or_insert_with(|| Ready::new(case, setting));
        let (first, rounds) = (ready.first, vec![ready.round()]);
        let times = Times { name: case.name.clone(), first, rounds, issued: ready.issued };
        println!("{}", serde_json::to_string(&times).expect("numbers"));
    }
}
