//! Sampling tokens: with the exact denoiser of a small problem it reproduces its distribution where it should.

mod bits;
mod errors;
mod exact;
#[path = "../common/leaning.rs"]
mod leaning;
mod rules;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use langevin::core::DenoiseError;
use langevin::core::discrete::{Cumulative, MaskAndReplace, TokenDenoiser};
use langevin::core::noise::Seeded;
use langevin::schedulers::{TokenMethod, TokenSampler};

const CLASSES: usize = 3;

/// Two tokens that depend on each other.
const DATA: [[f64; CLASSES]; CLASSES] = [[0.30, 0.02, 0.08], [0.05, 0.20, 0.05], [0.0, 0.10, 0.20]];

/// The exact p(x_0 of a position | tokens of both) by Bayes' rule over all nine pairs.
struct Exact<'a>(&'a MaskAndReplace);

impl Exact<'_> {
    fn clean(&self, tokens: [usize; 2], step: usize) -> [[f64; CLASSES]; 2] {
        let matrix = self.0.between(None, step).expect("a step").matrix(CLASSES);
        let (mut p, mut total) = ([[0.0; CLASSES]; 2], 0.0);
        for (a, row) in DATA.iter().enumerate() {
            for (b, data) in row.iter().enumerate() {
                let weight = data * matrix[a][tokens[0]] * matrix[b][tokens[1]];
                p[0][a] += weight;
                p[1][b] += weight;
                total += weight;
            }
        }
        // Two tokens drawn at once may be a pair that the data has not.
        if total > 0.0 { p.map(|p| p.map(|p| p / total)) } else { [[1.0 / CLASSES as f64; CLASSES]; 2] }
    }
}

impl TokenDenoiser for Exact<'_> {
    fn log_clean(&self, tokens: Tensor<2, Int>, step: usize) -> Result<Tensor<3>, DenoiseError> {
        let (device, [batch, positions]) = (tokens.device(), tokens.dims());
        // Sixteen pairs of tokens at most.
        let mut table: [Option<[[f64; CLASSES]; 2]>; 16] = [None; 16];
        let tokens: Vec<usize> = tokens.into_data().iter::<i64>().map(|token| token as usize).collect();
        let mut logs = vec![0.0; batch * CLASSES * positions];
        for (b, pair) in tokens.chunks(2).enumerate() {
            let p = *table[pair[0] * 4 + pair[1]].get_or_insert_with(|| self.clean([pair[0], pair[1]], step));
            for (position, p) in p.iter().enumerate() {
                for (class, p) in p.iter().enumerate() {
                    logs[(b * CLASSES + class) * positions + position] = p.ln();
                }
            }
        }
        Ok(Tensor::from_data(TensorData::new(logs, [batch, CLASSES, positions]), (&device, DType::F32)))
    }
}

fn list(tokens: &Tensor<2, Int>) -> Vec<i64> {
    tokens.to_data().iter::<i64>().collect()
}

/// The largest distance of frequencies of pairs from a law, in standard errors.
fn distance_from(law: [[f64; CLASSES]; CLASSES], tokens: &Tensor<2, Int>) -> f64 {
    let n = tokens.dims()[0] as f64;
    let mut counts = [[0usize; CLASSES]; CLASSES];
    for pair in list(tokens).chunks(2) {
        counts[pair[0] as usize][pair[1] as usize] += 1;
    }
    let mut worst: f64 = 0.0;
    for (counts, p) in counts.iter().flatten().zip(law.iter().flatten()) {
        let share = *counts as f64 / n;
        worst = worst.max((share - p).abs() / (p.max(0.005) * (1.0 - p) / n).sqrt());
    }
    worst
}

/// That of sampled pairs from the data.
fn distance(denoiser: &dyn TokenDenoiser, sampler: &impl TokenMethod, seed: u64) -> f64 {
    let noise = Seeded::new(seed);
    let run = sampler.start([6000, 2], denoiser, &noise, &Device::flex()).expect("a run");
    distance_from(DATA, &run.finish().expect("tokens"))
}

#[test]
fn sampling_with_the_exact_denoiser_reproduces_the_data() {
    // The published shape, with few steps; masks alone; replacement alone.
    let chains = [
        ("mask and replace", Cumulative { keep: (0.999, 1e-4), mask: (5e-4, 0.9) }),
        ("replace", Cumulative { keep: (0.999, 1e-4), mask: (0.0, 0.0) }),
    ];
    let mut all: Vec<(&str, MaskAndReplace)> =
        chains.map(|(name, schedule)| (name, MaskAndReplace::linear(CLASSES, 150, schedule).expect("a chain"))).into();
    all.push(("absorbing", MaskAndReplace::absorbing(CLASSES, 150).expect("a chain")));
    for (name, chain) in all {
        let errors = distance(&Exact(&chain), &TokenSampler::new(chain.clone()), 3);
        println!("{name}: {errors:.2} standard errors");
        assert!(errors < 4.0, "{name}: {errors}");
        // In a single step both tokens are drawn at once, as if they did not depend on each other.
        let once = TokenSampler::new(chain.clone()).steps(1).expect("a step");
        let errors = distance(&Exact(&chain), &once, 3);
        assert!(errors > 10.0, "{name}: independent tokens went unnoticed ({errors})");
    }
}
