//! Seeded noise against the laws it must follow, with fixed seeds.

use langevin_core::noise::{Domain, Key, NoiseSource, Seeded};

fn draw(sample: u64, key: Key, numel: usize) -> Vec<f64> {
    let mut values = vec![0.0; numel];
    Seeded::new(2024).fill(sample, key, &mut values).unwrap();
    values
}

/// Kolmogorov-Smirnov distance to the standard normal law, times √n.
fn kolmogorov(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let distance = values.iter().enumerate().fold(0.0f64, |worst, (i, x)| {
        let cdf = 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        worst.max(cdf - i as f64 / n).max((i + 1) as f64 / n - cdf)
    });
    distance * n.sqrt()
}

/// The 0.1 % quantile of Kolmogorov's distribution.
const KOLMOGOROV: f64 = 1.95;

#[test]
fn one_long_draw_is_normal() {
    let values = draw(0, Key::INITIAL, 1_000_000);
    assert!(values.iter().all(|x| x.is_finite() && x.abs() < 8.6));
    let worst = kolmogorov(values);
    assert!(worst < KOLMOGOROV, "{worst}");
}

#[test]
fn first_elements_of_many_draws_are_normal() {
    // One value from each of many keys: a weak mixing of the key would show here.
    let over = |f: &dyn Fn(u64) -> f64| (0..100_000).map(f).collect::<Vec<_>>();
    let one = |name: &str, values: Vec<f64>| {
        let worst = kolmogorov(values);
        assert!(worst < KOLMOGOROV, "{name}: {worst}");
    };
    one("samples", over(&|i| draw(i, Key::INITIAL, 1)[0]));
    one("indices", over(&|i| draw(0, Key::step(i, 0), 1)[0]));
    one("lanes", over(&|i| draw(0, Key::step(0, i as u32), 1)[0]));
    one(
        "path",
        over(&|i| {
            let mut value = [0.0];
            Seeded::new(1).fill_path(i, 0.3, 1.7, &mut value).unwrap();
            value[0] / 1.4f64.sqrt()
        }),
    );
}

#[test]
fn moments() {
    let values = draw(1, Key::step(9, 2), 1_000_000);
    let n = values.len() as f64;
    // E z^k and Var z^k = E z^2k − (E z^k)².
    let expected = [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10_170.0)];
    for (power, mean, variance) in expected {
        let moment = values.iter().map(|x| x.powi(power)).sum::<f64>() / n;
        let error = 4.0 * (variance / n).sqrt();
        assert!((moment - mean).abs() < error, "moment {power} is {moment}, expected {mean} ± {error}");
    }
    let beyond = |limit: f64| values.iter().filter(|x| x.abs() > limit).count() as f64;
    for limit in [1.0, 2.0, 3.0, 4.0] {
        let p = libm::erfc(limit / std::f64::consts::SQRT_2);
        let error = 4.0 * (n * p * (1.0 - p)).sqrt();
        assert!((beyond(limit) - n * p).abs() < error, "{} values beyond {limit}, expected {}", beyond(limit), n * p);
    }
}

#[test]
fn nothing_correlates() {
    let numel = 200_000;
    let bound = 4.0 / (numel as f64).sqrt();
    let mut draws = vec![("base", draw(0, Key::step(0, 0), numel))];
    draws.push(("sample", draw(1, Key::step(0, 0), numel)));
    draws.push(("index", draw(0, Key::step(1, 0), numel)));
    draws.push(("lane", draw(0, Key::step(0, 1), numel)));
    for domain in [
        Domain::Initial,
        Domain::Path,
        Domain::KnownRegion,
        Domain::Probe,
        Domain::Dequantize,
        Domain::Autoencoder,
        Domain::Training,
    ] {
        draws.push(("domain", draw(0, Key { domain, index: 0, lane: 0 }, numel)));
    }
    let correlation = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len() as f64;
    for (i, (name, a)) in draws.iter().enumerate() {
        for (other, b) in &draws[..i] {
            let c = correlation(a, b);
            assert!(c.abs() < bound, "{name} and {other} correlate: {c}");
        }
    }
    // Within a draw: neighbors (the two halves of a Box-Muller pair among them), magnitudes, ChaCha's blocks.
    let base = &draws[0].1;
    for lag in [1, 2, 3, 16, 32, 4096] {
        let c = correlation(&base[lag..], &base[..numel - lag]);
        assert!(c.abs() < bound, "lag {lag}: {c}");
        let squares: Vec<f64> = base.iter().map(|x| (x * x - 1.0) / 2f64.sqrt()).collect();
        let c = correlation(&squares[lag..], &squares[..numel - lag]);
        assert!(c.abs() < 1.01 * bound, "squares at lag {lag}: {c}");
    }
}
