//! Hutchinson's estimate and its interval.

use crate::{ten_dimensions, tensor, values};
use burn::tensor::DType;
use langevin_core::exact::{ElementwiseMixture, Posterior, correlated_mixture};
use langevin_core::grid::End;
use langevin_core::noise::{Domain, Injected, Key, Seeded};
use langevin_core::process::VpSde;
use langevin_core::{Grid, Prediction};
use langevin_metrics::{Likelihood, Probe, Trace};
use langevin_schedulers::ode::Tableau;

const REPEATS: usize = 500;
const PROBES: usize = 10;

fn likelihood(trace: Trace) -> Likelihood<VpSde> {
    let grid = Grid::uniform_lambda(8).ending(End::Range);
    Likelihood::new(VpSde::default(), trace).unwrap().fixed(Tableau::heun(), &grid).unwrap()
}

/// Over 500 repeats the interval contains the exact trace's ln p as often as it says, not less and not more, at three
/// confidences and three points. The mixture is correlated: on independent elements one Rademacher probe would be exact. Normal
/// probes have skewed integrals, of which more are needed until their mean is nearly normal.
#[test]
fn the_interval_covers_as_often_as_it_says() {
    let mixture = ten_dimensions().unwrap();
    let denoiser = mixture.clone().denoiser(Prediction::Epsilon).unwrap();
    let likelihood = |trace| likelihood(trace).unestimated();
    for (point, x) in mixture.sample(3, 4).iter().enumerate() {
        let exact = likelihood(Trace::Exact).evaluate(tensor(x, [1, 10]), &denoiser, &Seeded::new(0)).unwrap();
        let exact = exact.log_p()[0];
        // One sample 500 times over: each has a number of its own, and so probes of its own.
        let many = tensor(&x.repeat(REPEATS), [REPEATS, 10]);
        for (kind, count) in [(Probe::Rademacher, PROBES), (Probe::Gaussian, 3 * PROBES)] {
            let trace = Trace::Probes { count, kind };
            // Other probes at each point.
            let first = (point * REPEATS) as u64;
            let density = likelihood(trace).evaluate_at(first, many.clone(), &denoiser, &Seeded::new(7)).unwrap();
            let errors = density.standard_error().unwrap();
            assert!(errors.iter().all(|error| *error > 1e-2), "{kind:?}: probes agree, so that coverage means nothing");
            let mut widths = Vec::new();
            for confidence in [0.95, 0.9, 0.5] {
                let intervals = density.interval(confidence).unwrap();
                let covered = intervals.iter().filter(|(low, high)| (*low..=*high).contains(&exact)).count();
                let (n, p) = (REPEATS as f64, confidence);
                let deviation = (n * p * (1.0 - p)).sqrt();
                println!("{kind:?} {count} at point {point}: {covered} of {n} at {confidence}");
                assert!(
                    (covered as f64 - n * p).abs() < 3.5 * deviation,
                    "{kind:?} {confidence} at point {point}: {covered} of {n}"
                );
                widths.push(intervals[0].1 - intervals[0].0);
            }
            assert!(widths[1] < 0.85 * widths[0] && widths[2] < 0.5 * widths[1], "{widths:?}");
            // The mean over all probes is the exact one, within four standard errors.
            let mean = density.log_p().iter().sum::<f64>() / REPEATS as f64;
            let spread = density.log_p().iter().map(|value| (value - mean).powi(2)).sum::<f64>() / REPEATS as f64;
            assert!((mean - exact).abs() < 4.0 * (spread / REPEATS as f64).sqrt(), "{kind:?}: {mean} {exact}");
        }
    }
}

/// In the plane there are two probes of ±1 up to their sign, and one interval in 2ⁿ⁻¹ has seen but one of them. It then
/// knows nothing, and says so; of the others all contain the exact trace's ln p, for up to 6 probes. In single precision,
/// and in double.
#[test]
fn probes_that_agree_by_chance_claim_nothing() {
    let mixture = correlated_mixture().unwrap();
    let denoiser = mixture.denoiser(Prediction::Velocity).unwrap();
    for dtype in [DType::F64, DType::F32] {
        let one = |rows: usize| tensor(&[0.3, -0.2].repeat(rows), [rows, 2]).cast(dtype);
        let exact = likelihood(Trace::Exact).evaluate(one(1), &denoiser, &Seeded::new(0)).unwrap().log_p()[0];
        for probes in 2..=6 {
            let density =
                likelihood(Trace::rademacher(probes)).evaluate(one(REPEATS), &denoiser, &Seeded::new(7)).unwrap();
            let intervals = density.interval(0.95).unwrap();
            let silent = intervals.iter().filter(|(low, high)| !low.is_finite() && !high.is_finite()).count();
            assert!(intervals.iter().all(|(low, high)| *low <= exact && exact <= *high), "{dtype:?} {probes}");
            assert!(intervals.iter().all(|(low, high)| high - low > 0.1), "{dtype:?} {probes}: a point");
            let (n, p) = (REPEATS as f64, 0.5f64.powi(probes as i32 - 1));
            let deviation = (n * p * (1.0 - p)).sqrt();
            assert!((silent as f64 - n * p).abs() < 4.0 * deviation, "{dtype:?} {probes}: {silent} of {n}");
            let errors = density.standard_error().unwrap();
            assert!(errors.iter().zip(&intervals).all(|(error, (low, _))| error.is_finite() == low.is_finite()));
        }
    }
}

/// Independent elements have a diagonal Jacobian, of which every probe of ±1 finds the trace. Ten that agree are too few
/// to know that at 95%, eleven are not; one value has no other probe.
#[test]
fn enough_probes_that_agree_are_believed() {
    let of = |dim: usize, trace: Trace| {
        let pixels = ElementwiseMixture::new(vec![0.5, 0.5], vec![-1.0, 1.0], vec![0.3, 0.3]).unwrap();
        let denoiser = pixels.denoiser(Prediction::Epsilon).unwrap();
        let x = tensor(&[0.4, -0.7, 0.1][..dim], [1, dim]);
        likelihood(trace).evaluate(x, &denoiser, &Seeded::new(0)).unwrap()
    };
    for (dim, probes, confidence, known) in
        [(3, 10, 0.95, false), (3, 11, 0.95, true), (3, 11, 0.99, false), (3, 2, 0.3, true), (1, 2, 0.95, true)]
    {
        let density = of(dim, Trace::rademacher(probes));
        let (low, high) = density.interval(confidence).unwrap()[0];
        let exact = of(dim, Trace::Exact).log_p()[0];
        assert!(low <= exact + 1e-12 && exact <= high + 1e-12);
        assert_eq!(high - low < 1e-12, known, "{dim} {probes} {confidence}: {low} {high}");
        assert_eq!(high - low == f64::INFINITY, !known, "{dim} {probes} {confidence}: {low} {high}");
    }
    let normal = of(1, Trace::gaussian(2)).interval(0.95).unwrap()[0];
    assert!(normal.1 - normal.0 > 0.1, "normal probes of one value differ");
}

/// Probes are ±1 or normal, fixed for the run, from the domain of probes; they are what the integral is made with.
#[test]
fn probes_come_from_their_own_domain() {
    let mixture = correlated_mixture().unwrap();
    let denoiser = mixture.clone().denoiser(Prediction::Velocity).unwrap();
    let x = tensor(&[0.3, -0.2], [1, 2]);
    let exact = likelihood(Trace::Exact).evaluate(x.clone(), &denoiser, &Seeded::new(0)).unwrap().change()[0];
    let with = |kind, probes: &[[f64; 2]]| {
        let mut noise = Injected::new();
        for (lane, probe) in probes.iter().enumerate() {
            let key = Key { domain: Domain::Probe, index: 0, lane: lane as u32 };
            noise = noise.with(key, 0..1, probe.to_vec()).unwrap();
        }
        let trace = Trace::Probes { count: probes.len(), kind };
        let density = likelihood(trace).evaluate(x.clone(), &denoiser, &noise).unwrap();
        noise.finish().unwrap();
        density.change_by_probe().remove(0)
    };
    // The axes add up to the trace, and √2 times an axis counts twice: only the values given were used.
    let axes = with(Probe::Gaussian, &[[1.0, 0.0], [0.0, 1.0], [2f64.sqrt(), 0.0]]);
    assert!((axes[0] + axes[1] - exact).abs() < 1e-12 && (axes[2] - 2.0 * axes[0]).abs() < 1e-12);
    // Signs only count for ±1, and v and −v are one probe.
    let signs = with(Probe::Rademacher, &[[0.3, 4.0], [-0.1, -2.0], [0.2, -7.0]]);
    assert_eq!(signs[0], signs[1]);
    assert!((signs[0] - signs[2]).abs() > 1e-3);
    assert!((0.5 * (signs[0] + signs[2]) - exact).abs() < 1e-12, "two orthogonal probes are exact in the plane");
}

#[test]
fn an_exact_trace_has_no_spread() {
    let denoiser = correlated_mixture().unwrap().denoiser(Prediction::Velocity).unwrap();
    let density = likelihood(Trace::Exact).evaluate(tensor(&[0.3, -0.2], [1, 2]), &denoiser, &Seeded::new(0)).unwrap();
    assert_eq!(density.standard_error().unwrap(), [0.0]);
    assert_eq!(density.interval(0.95).unwrap(), [(density.log_p()[0], density.log_p()[0])]);
    assert_eq!(values(&density.latent()).len(), 2);
}
