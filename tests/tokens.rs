//! Discrete chains: with the exact denoiser of a small problem, sampling reproduces its distribution.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use langevin::core::DenoiseError;
use langevin::core::discrete::{Cumulative, MaskAndReplace, TokenDenoiser};
use langevin::core::noise::Seeded;
use langevin::schedulers::TokenSampler;

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

/// The largest distance of sampled frequencies from the data's, in standard errors.
fn distance(chain: &MaskAndReplace, sampler: &TokenSampler, seed: u64) -> f64 {
    let (n, noise, exact) = (6000, Seeded::new(seed), Exact(chain));
    let run = sampler.start([n, 2], &exact, &noise, &Device::flex()).expect("a run");
    let tokens: Vec<i64> = run.finish().expect("tokens").into_data().iter::<i64>().collect();
    let mut counts = [[0usize; CLASSES]; CLASSES];
    for pair in tokens.chunks(2) {
        counts[pair[0] as usize][pair[1] as usize] += 1;
    }
    let mut worst: f64 = 0.0;
    for (counts, data) in counts.iter().flatten().zip(DATA.iter().flatten()) {
        let share = *counts as f64 / n as f64;
        worst = worst.max((share - data).abs() / (data.max(0.005) * (1.0 - data) / n as f64).sqrt());
    }
    worst
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
        let errors = distance(&chain, &TokenSampler::new(chain.clone()), 3);
        println!("{name}: {errors:.2} standard errors");
        assert!(errors < 4.0, "{name}: {errors}");
        // In a single step both tokens are drawn at once, as if they did not depend on each other.
        let once = TokenSampler::new(chain.clone()).steps(1).expect("a step");
        let errors = distance(&chain, &once, 3);
        assert!(errors > 10.0, "{name}: independent tokens went unnoticed ({errors})");
    }
}
