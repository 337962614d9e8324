//! This library's side of `compare.py`: measures what it is told, line by line.
//!
//! A line with a name on standard input is answered with milliseconds on one line: of each step of a run of that solver, or
//! of each of 20 batches of noise. Without `--bench`, as in `cargo test`, every case runs once.

#![allow(missing_docs, clippy::print_stdout, reason = "a program that talks to another one")]

mod cases;

use std::hint::black_box;
use std::time::Instant;

fn main() {
    let solvers = cases::cases();
    let measure = |name: &str, index: u64| -> Vec<f64> {
        if name == "noise" {
            let batch = |n| {
                let start = Instant::now();
                black_box(cases::noise(20 * index + n));
                start.elapsed().as_secs_f64()
            };
            return (0..20).map(batch).collect();
        }
        let (_, case) = solvers.iter().find(|(solver, _)| solver == name).expect("a known name");
        case.run(&case.denoiser())
    };
    if !std::env::args().any(|argument| argument == "--bench") {
        for name in solvers.iter().map(|(name, _)| name.as_str()).chain(["noise"]) {
            assert!(!measure(name, 0).is_empty(), "{name} has steps");
        }
        return;
    }
    for (index, name) in std::io::stdin().lines().enumerate() {
        let times = measure(&name.expect("a line"), index as u64);
        let times: Vec<String> = times.iter().map(|seconds| (seconds * 1e3).to_string()).collect();
        println!("{}", times.join(" "));
    }
}
