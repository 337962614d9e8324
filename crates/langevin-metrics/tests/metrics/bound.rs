//! The variational bound against closed forms.

use crate::tensor;
use burn::tensor::Tensor;
use langevin_core::exact::{ElementwiseMixture, Gaussian, Posterior};
use langevin_core::grid::End;
use langevin_core::noise::Seeded;
use langevin_core::process::{Betas, DiscreteChain, VpSde};
use langevin_core::{DenoiseError, Denoiser, Estimate, Grid, Level, Prediction, Query};
use langevin_metrics::{Decoder, Quantization, VariationalBound};
use langevin_schedulers::Variance;

const MEAN: f64 = 0.4;
const VARIANCE: f64 = 0.25;

fn chain(steps: usize) -> DiscreteChain {
    // About the same noise at the end for any number of steps.
    let scale = 20.0 / steps as f64;
    DiscreteChain::new(Betas::Linear { start: 2e-3 * scale, end: 0.4 * scale }, steps).expect("a chain")
}

fn data() -> Gaussian {
    Gaussian::new(vec![MEAN], vec![VARIANCE]).expect("a Gaussian")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean, and four of its standard errors.
fn estimate(values: &[f64]) -> (f64, f64) {
    let center = mean(values);
    let variance = values.iter().map(|value| (value - center).powi(2)).sum::<f64>() / values.len() as f64;
    (center, 4.0 * (variance / values.len() as f64).sqrt())
}

/// The terms for one x_0 of Gaussian data with its exact denoiser, in closed form, in the symbols of Ho et al.: the
/// prior, the steps from the noisiest on, the decoder.
fn closed_form(chain: &DiscreteChain, x0: f64, large: bool) -> (f64, Vec<f64>, f64) {
    let (bar, beta, steps) = (chain.alphas_cumprod(), chain.betas(), chain.steps());
    // E[x_0|x_t] = m + gain·(x_t − √ᾱ·m), so E(x_0 − x̂_0)² over the noise in x_t is bias² + gain²·(1 − ᾱ).
    let squares = |t: usize| {
        let gain = bar[t].sqrt() * VARIANCE / (bar[t] * VARIANCE + 1.0 - bar[t]);
        ((1.0 - gain * bar[t].sqrt()) * (x0 - MEAN)).powi(2) + gain * gain * (1.0 - bar[t])
    };
    let posterior = |t: usize| (1.0 - bar[t - 1]) / (1.0 - bar[t]) * beta[t];
    let step = |t: usize| {
        let weight = (bar[t - 1].sqrt() * beta[t] / (1.0 - bar[t])).powi(2);
        let p = if large { beta[t] } else { posterior(t) };
        0.5 * ((p / posterior(t)).ln() + posterior(t) / p - 1.0 + weight * squares(t) / p)
    };
    let last = bar[steps - 1];
    let prior = 0.5 * (last * x0 * x0 + (1.0 - last) - 1.0 - (1.0 - last).ln());
    let decoder = 0.5 * (squares(0) / posterior(1) + (std::f64::consts::TAU * posterior(1)).ln());
    (prior, (1..steps).rev().map(step).collect(), decoder)
}

/// Every term of the bound on a Gaussian is its closed form, for both fixed variances.
#[test]
fn terms_on_a_gaussian_are_the_closed_form() {
    let chain = chain(20);
    let denoiser = data().denoiser(Prediction::Epsilon).unwrap();
    let rows = 4000;
    for (x0, large) in [(0.9, false), (-0.3, true)] {
        let variance = if large { Variance::FixedLarge } else { Variance::FixedSmall };
        let bound = VariationalBound::of_chain(&chain, Decoder::Continuous).unwrap().variance(variance);
        let bound = bound.evaluate(tensor(&vec![x0; rows], [rows, 1]), &denoiser, &Seeded::new(2)).unwrap();
        let (prior, steps, decoder) = closed_form(&chain, x0, large);
        assert!((bound.prior()[0] - prior).abs() < 1e-12);
        assert_eq!(bound.steps().len(), 19);
        for (index, (term, expected)) in bound.steps().iter().zip(&steps).enumerate() {
            assert_eq!((term.from.t, term.to.t), ((19 - index) as f64, (18 - index) as f64));
            let (got, error) = estimate(&term.nats);
            assert!(
                (got - expected).abs() < error && error < 0.2 * expected,
                "step {index}: {got} {expected} ±{error}"
            );
        }
        let (got, error) = estimate(bound.decoder());
        assert!((got - decoder).abs() < error, "{got} {decoder} ±{error}");
        let (total, error) = estimate(&bound.total());
        let expected = prior + steps.iter().sum::<f64>() + decoder;
        assert!((total - expected).abs() < error);
        let bits = bound.bits_per_dimension();
        assert!((bits[0] - bound.total()[0] / std::f64::consts::LN_2).abs() < 1e-12);
        // The check can fail: the other variance is told apart.
        let (_, other, _) = closed_form(&chain, x0, !large);
        let (last, error) = estimate(&bound.steps()[18].nats);
        assert!((last - other[18]).abs() > error, "{last} {}", other[18]);
    }
}

/// The bound is above −ln p in the mean over data, and comes down to it as steps get finer.
#[test]
fn the_bound_is_above_and_closes_with_the_steps() {
    let rows = 4000;
    let z: Vec<f64> = {
        let noise = Seeded::new(8);
        let mut out = vec![0.0; rows];
        langevin_core::NoiseSource::fill(&noise, 0, langevin_core::Key::INITIAL, &mut out).unwrap();
        out
    };
    let x: Vec<f64> = z.iter().map(|z| MEAN + VARIANCE.sqrt() * z).collect();
    let clean = Level { alpha: 1.0, sigma: 0.0, time: 0.0 };
    let exact: Vec<f64> = x.iter().map(|x| data().at(&clean).unwrap().log_density(&[*x]).unwrap()).collect();
    let mut gaps = Vec::new();
    for steps in [10, 40, 160] {
        let chain = chain(steps);
        let denoiser = data().denoiser(Prediction::Velocity).unwrap();
        // The decoder's best variance: that of x_0 given x_1.
        let bar = chain.alphas_cumprod()[0];
        let left = VARIANCE * (1.0 - bar) / (bar * VARIANCE + 1.0 - bar);
        let bound = VariationalBound::of_chain(&chain, Decoder::Continuous).unwrap().decoder_variance(left).unwrap();
        let bound = bound.evaluate(tensor(&x, [rows, 1]), &denoiser, &Seeded::new(9)).unwrap();
        let above: Vec<f64> = bound.total().iter().zip(&exact).map(|(bound, log_p)| bound + log_p).collect();
        let (gap, error) = estimate(&above);
        assert!(gap > error, "{steps} steps: {gap} ±{error} is not above −ln p");
        gaps.push(gap);
    }
    assert!(gaps[1] < 0.5 * gaps[0] && gaps[2] < 0.5 * gaps[1], "{gaps:?}");
}

/// Probabilities that are bounded from below add up to one at most: on levels, for two decoders' variances.
#[test]
fn bounds_of_all_levels_add_up_to_less_than_one() {
    let quantization = Quantization::with_levels(5).unwrap();
    let chain = chain(40);
    let mixture = ElementwiseMixture::new(vec![0.2, 0.5, 0.3], vec![-1.0, 0.0, 0.5], vec![0.05, 0.05, 0.05]).unwrap();
    let denoiser = mixture.denoiser(Prediction::Epsilon).unwrap();
    let (draws, levels) = (400, 5);
    let x: Vec<f64> = (0..levels).flat_map(|level| vec![quantization.value(level); draws]).collect();
    for variance in [Variance::FixedSmall, Variance::FixedLarge] {
        let bound = VariationalBound::of_chain(&chain, Decoder::Discretized(quantization)).unwrap().variance(variance);
        let bound = bound.evaluate(tensor(&x, [levels * draws, 1]), &denoiser, &Seeded::new(4)).unwrap();
        let total = bound.total();
        let probabilities: Vec<f64> = total.chunks(draws).map(|row| (-mean(row)).exp()).collect();
        let sum: f64 = probabilities.iter().sum();
        assert!(sum < 1.0 && sum > 0.25, "{variance}: {probabilities:?}");
        // Levels without data have none of it, the one with most data has most.
        assert!(probabilities[1] < 1e-3 && probabilities[4] < 1e-3, "{variance}: {probabilities:?}");
        assert!(probabilities[2] > probabilities[0].max(probabilities[3]), "{variance}: {probabilities:?}");
        assert!(bound.decoder().iter().all(|nats| *nats >= 0.0), "a probability is at most one");
    }
}

/// A denoiser with variance channels of one value everywhere.
struct WithVariance<T>(T, f64);

impl<T: Denoiser<2>> Denoiser<2> for WithVariance<T> {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let estimate = self.0.denoise(query)?;
        let variance = estimate.x().zeros_like().add_scalar(self.1);
        Ok(estimate.with_variance(variance))
    }
}

/// Learned variances at the ends of their range are the fixed ones, and in between the formula of two Gaussians.
#[test]
fn learned_variances_meet_the_fixed_ones() {
    let chain = chain(20);
    let x0 = || -> Tensor<2> { tensor(&[0.9, -0.3, 0.1, 0.5, 0.6, -0.2], [3, 2]) };
    let exact = || {
        let data = Gaussian::new(vec![MEAN, MEAN], vec![VARIANCE, 0.1, 0.1, VARIANCE]).unwrap();
        data.denoiser(Prediction::Epsilon).unwrap()
    };
    let terms = |variance, denoiser: &dyn Denoiser<2>| {
        let bound = VariationalBound::of_chain(&chain, Decoder::Continuous).unwrap().variance(variance);
        bound.evaluate(x0(), denoiser, &Seeded::new(1)).unwrap()
    };
    let pairs = [(-1.0, Variance::FixedSmall), (1.0, Variance::FixedLarge)];
    for (raw, variance) in pairs {
        let learned = terms(Variance::LearnedRange, &WithVariance(exact(), raw));
        let fixed = terms(variance, &exact());
        for (learned, fixed) in learned.steps().iter().zip(fixed.steps()) {
            for (a, b) in learned.nats.iter().zip(&fixed.nats) {
                assert!((a - b).abs() < 1e-10 * (1.0 + b.abs()), "{a} {b}");
            }
        }
    }
    // At −1 the decoder's variance is the small one of the step before the last, at 1 the last β.
    let small = terms(Variance::LearnedRange, &WithVariance(exact(), -1.0));
    assert!((small.decoder()[0] - terms(Variance::FixedSmall, &exact()).decoder()[0]).abs() < 1e-10);
    let large = terms(Variance::LearnedRange, &WithVariance(exact(), 1.0));
    let beta = chain.betas()[0];
    let bound = VariationalBound::of_chain(&chain, Decoder::Continuous).unwrap().decoder_variance(beta).unwrap();
    let expected = bound.evaluate(x0(), &exact(), &Seeded::new(1)).unwrap();
    assert!((large.decoder()[0] - expected.decoder()[0]).abs() < 1e-10);
    // A variance v for all steps: each term is the small one's with its square scaled, plus the variances' own.
    let v = 0.03;
    let learned = terms(Variance::Learned, &WithVariance(exact(), v));
    let (bar, betas) = (chain.alphas_cumprod(), chain.betas());
    for (index, (learned, small)) in learned.steps().iter().zip(small.steps()).enumerate() {
        let t = 19 - index;
        let q = (1.0 - bar[t - 1]) / (1.0 - bar[t]) * betas[t];
        let expected = small.nats[0] * q / v + (v / q).ln() + q / v - 1.0;
        assert!((learned.nats[0] - expected).abs() < 1e-9 * (1.0 + expected.abs()), "step {t}");
    }
}

/// More draws are the mean of those draws; respaced chains and continuous processes have bounds as well.
#[test]
fn draws_are_averaged_and_any_chain_will_do() {
    let denoiser = data().denoiser(Prediction::Epsilon).unwrap();
    let x = tensor(&[0.9, 0.1], [2, 1]);
    let of = |draws: u32, grid: &Grid, process: &dyn langevin_core::Process| {
        let bound = VariationalBound::new(process, grid, Decoder::Continuous).unwrap().draws(draws).unwrap();
        bound.evaluate(x.clone(), &denoiser, &Seeded::new(1)).unwrap()
    };
    let (twenty, leading) = (chain(20), Grid::leading(20));
    let (one, many) = (of(1, &leading, &twenty), of(4000, &leading, &twenty));
    assert_ne!(one.total(), many.total());
    let (prior, steps, decoder) = closed_form(&twenty, 0.9, false);
    assert!((many.total()[0] / (prior + steps.iter().sum::<f64>() + decoder) - 1.0).abs() < 0.05);
    let exact = -data().at(&Level { alpha: 1.0, sigma: 0.0, time: 0.0 }).unwrap().log_density(&[0.9]).unwrap();
    for bound in [
        of(500, &Grid::trailing(10), &twenty),
        of(500, &Grid::uniform_lambda(30).ending(End::Clean), &VpSde::default()),
    ] {
        assert!(bound.total()[0] > exact && bound.total()[0] < exact + 3.0, "{} {exact}", bound.total()[0]);
    }
}
