//! Seeded noise against the laws it must follow, with fixed seeds.

use langevin_core::noise::{Domain, Key, NoiseSource, Seeded};

fn draw(sample: u64, key: Key, numel: usize) -> Vec<f64> {
    let mut values = vec![0.0; numel];
    Seeded::new(2024).fill(sample, key, &mut values).unwrap();
    values
}

/// P(X > x) of a standard normal X.
fn above(x: f64) -> f64 {
    0.5 * libm::erfc(x / std::f64::consts::SQRT_2)
}

/// Kolmogorov-Smirnov distance to the standard normal law, times √n.
fn kolmogorov(values: Vec<f64>) -> f64 {
    kolmogorov_to(values, |x| above(-x))
}

/// Kolmogorov-Smirnov distance to the law with this distribution function, times √n.
fn kolmogorov_to(mut values: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len() as f64;
    let distance = values.iter().enumerate().fold(0.0f64, |worst, (i, &x)| {
        let p = cdf(x);
        worst.max(p - i as f64 / n).max((i + 1) as f64 / n - p)
    });
    distance * n.sqrt()
}

/// The 0.1 % quantile of Kolmogorov's distribution.
const KOLMOGOROV: f64 = 1.95;

#[test]
fn one_long_draw_is_normal() {
    let values = draw(0, Key::INITIAL, 1_000_000);
    assert!(values.iter().all(|x| x.is_finite() && x.abs() < 8.6));
    let worst = kolmogorov(values.clone());
    assert!(worst < KOLMOGOROV, "{worst}");
    // What the bound is worth: a deviation that is off by one percent exceeds it.
    assert!(kolmogorov(values.iter().map(|x| 1.01 * x).collect()) > KOLMOGOROV);
    for part in 0..2 {
        let worst = kolmogorov(values.iter().copied().skip(part).step_by(2).collect());
        assert!(worst < KOLMOGOROV, "values {part} of the pairs: {worst}");
    }
}

#[test]
fn many_short_draws_are_normal() {
    // Lengths that leave ChaCha blocks and vectors half full.
    for (numel, count) in [(3, 350_000), (17, 60_000), (150, 7_000)] {
        let values: Vec<f64> = (0..count).flat_map(|i| draw(i, Key::step(i / 7, 3), numel)).collect();
        let worst = kolmogorov(values);
        assert!(worst < KOLMOGOROV, "{count} draws of {numel}: {worst}");
    }
}

#[test]
fn tails_are_normal() {
    let numel = 1 << 23;
    let values = [draw(5, Key::step(6, 7), numel), draw(9, Key::step(10, 11), numel)].concat();
    let n = values.len() as f64;
    for sign in [1.0, -1.0] {
        let beyond: Vec<f64> = values.iter().map(|x| sign * x).filter(|&x| x > 2.0).collect();
        for from in [2.0, 3.0, 3.5, 4.0, 4.5] {
            let tail: Vec<f64> = beyond.iter().copied().filter(|&x| x > from).collect();
            let expected = n * above(from);
            let error = 4.0 * expected.sqrt();
            assert!((tail.len() as f64 - expected).abs() < error, "{} values beyond {from}: {expected}", tail.len());
            let worst = kolmogorov_to(tail, |x| 1.0 - above(x) / above(from));
            assert!(worst < KOLMOGOROV, "sign {sign}, beyond {from}: {worst}");
        }
        // 4.8 are expected beyond 5; none would be a tail that ends before.
        let far = beyond.iter().filter(|&&x| x > 5.0).count();
        assert!((1..=14).contains(&far), "{far} values beyond 5");
    }
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

/// How far χ² of pairs of values, on a grid of cells of equal probability, is from what it should be, in deviations.
fn chi_squared(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    const CELLS: usize = 32;
    let cell = |x: f64| ((above(-x) * CELLS as f64) as usize).min(CELLS - 1);
    let mut counts = vec![0u32; CELLS * CELLS];
    for (x, y) in pairs {
        counts[cell(x) * CELLS + cell(y)] += 1;
    }
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let statistic: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    let freedom = (counts.len() - 1) as f64;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

#[test]
fn pairs_of_values_are_independent() {
    let numel = 1 << 19;
    let values = draw(0, Key::INITIAL, numel);
    // Within a draw: the two halves of a pair (one radius), neighbors, ChaCha's blocks, those computed side by side,
    // its streams.
    let pairs = chi_squared(values.chunks_exact(2).map(|pair| (pair[0], pair[1])));
    assert!(pairs.abs() < 4.0, "halves of a pair: {pairs}");
    for lag in [1, 2, 3, 8, 9, 64, 128, 4095, 4096] {
        let found = chi_squared(values.iter().copied().zip(values[lag..].iter().copied()));
        assert!(found.abs() < 4.0, "lag {lag}: {found}");
    }
    for (name, other) in [
        ("sample", draw(1, Key::INITIAL, numel)),
        ("index", draw(0, Key { index: 1, ..Key::INITIAL }, numel)),
        ("lane", draw(0, Key { lane: 1, ..Key::INITIAL }, numel)),
        ("domain", draw(0, Key { domain: Domain::Step, ..Key::INITIAL }, numel)),
    ] {
        let found = chi_squared(values.iter().copied().zip(other));
        assert!(found.abs() < 4.0, "{name}: {found}");
    }
    // What the bound is worth: a correlation of three percent exceeds it.
    let correlated = chi_squared(values.windows(4).map(|w| (w[0], w[3] + 0.03 * w[0])));
    assert!(correlated > 4.0, "{correlated}");
}
