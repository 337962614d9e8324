//! DDRM against its own recursion, and against the posteriors that it reaches and misses.

use super::algebra::{Matrix, apply, diagonal, product, rotation, spread, sum, transpose};
use super::{Problem, distances, load, mixture, moments, values};
use langevin_core::exact::Posterior;
use langevin_core::grid::{End, Stop};
use langevin_core::inverse::{Masking, Measurement};
use langevin_core::noise::Seeded;
use langevin_core::process::{Betas, DiscreteChain, Edm, VpSde};
use langevin_core::{Grid, Level, Prediction, Process};
use langevin_schedulers::inverse::Ddrm;
use langevin_schedulers::{Sampler, SamplerExt};

/// A problem whose operator has singular values 1.5 and 0.2 and one direction that is not measured, with the axes V and the
/// measurement `ȳ = S⁺·Uᵀ·y`.
fn problem(noise: f64, commuting: bool) -> (Problem, Matrix, [f64; 3], [f64; 3]) {
    let (axes, singular, y) = (rotation(0.9, 0.3, -0.5), [1.5, 0.2, 0.0], [0.7, -0.9, 0.0]);
    let turn: Matrix = vec![vec![0.6, -0.8], vec![0.8, 0.6]];
    let measured = product(&vec![vec![1.5, 0.0, 0.0], vec![0.0, 0.2, 0.0]], &transpose(&axes));
    let operator = product(&turn, &measured);
    let of_y = apply(&turn, &[singular[0] * y[0], singular[1] * y[1]]);
    let mut problem = Problem { operator, y: of_y, ..Problem::correlated(noise) };
    if commuting {
        problem.covariance = spread(&axes, &[0.6, 1.2, 0.4]);
    }
    (problem, axes, singular, y)
}

/// Equations 7 and 8 of the paper, as mean and covariance of `Vᵀ·x/α`, where x̂_0 is affine in x.
fn recursion(
    stops: &[Stop],
    eta: f64,
    eta_b: f64,
    problem: &Problem,
    parts: (Matrix, [f64; 3], [f64; 3]),
) -> (Vec<f64>, Matrix) {
    let (axes, singular, y) = parts;
    let back = transpose(&axes);
    let ratio = |level: &Level| level.sigma / level.alpha;
    // The noise of each coordinate of the measurement.
    let k = singular.map(|s| if s > 0.0 { problem.noise / s } else { f64::INFINITY });
    let first = ratio(&stops[0].from.level);
    let seen = k.map(|k| k < first);
    let mut mean: Vec<f64> = (0..3).map(|i| if seen[i] { y[i] } else { 0.0 }).collect();
    let variances: Vec<f64> = (0..3).map(|i| first.powi(2) - if seen[i] { k[i].powi(2) } else { 0.0 }).collect();
    let mut covariance = diagonal(&variances);
    for stop in stops {
        let (from, to) = (&stop.from.level, ratio(&stop.to.level));
        // θ = Vᵀ·x̂_0 = M·x̄ + c.
        let jacobian = sum(&vec![vec![0.0; 3]; 3], &problem.jacobian(from), from.alpha);
        let of_state = product(&product(&back, &jacobian), &axes);
        let constant = apply(&back, &problem.x0(&[0.0; 3], from));
        let kept = (1.0 - eta * eta).sqrt();
        let mut next = (vec![0.0; 3], vec![vec![0.0; 3]; 3], vec![0.0; 3]);
        for i in 0..3 {
            let (theta, state, of_y, variance) = if singular[i] == 0.0 {
                let state = kept * to / ratio(from);
                (1.0 - state, state, 0.0, (eta * to).powi(2))
            } else if to < k[i] {
                let of_y = kept * to / k[i];
                (1.0 - of_y, 0.0, of_y, (eta * to).powi(2))
            } else {
                (1.0 - eta_b, 0.0, eta_b, to.powi(2) - (eta_b * k[i]).powi(2))
            };
            next.0[i] = theta * constant[i] + of_y * y[i];
            next.1[i] = of_state[i].iter().map(|m| theta * m).collect();
            next.1[i][i] += state;
            next.2[i] = variance;
        }
        let (shift, map, added) = next;
        mean = apply(&map, &mean).iter().zip(&shift).map(|(m, s)| m + s).collect();
        covariance = sum(&product(&product(&map, &covariance), &transpose(&map)), &diagonal(&added), 1.0);
    }
    let alpha = stops[stops.len() - 1].to.level.alpha;
    let mean = apply(&axes, &mean).iter().map(|m| alpha * m).collect();
    let covariance = product(&product(&axes, &covariance), &transpose(&axes));
    (mean, sum(&vec![vec![0.0; 3]; 3], &covariance, alpha * alpha))
}

#[test]
fn samples_have_the_moments_of_the_equations() {
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
    let processes: [(&str, &dyn Process, Grid); 4] = [
        ("VP", &VpSde::default(), Grid::uniform(20).ending(End::Clean)),
        ("VP that stops early", &VpSde::default(), Grid::uniform(9).between(0.6, 0.1).ending(End::Range)),
        ("EDM", &Edm::default(), Grid::karras(10, 7.0).expect("a grid")),
        ("chain", &chain, Grid::times(vec![900.0, 700.0, 400.0, 200.0, 50.0, 5.0]).expect("falling")),
    ];
    for (name, process, grid) in processes {
        let stops = grid.stops(process).expect("stops");
        for noise in [0.0, 0.1, 0.6] {
            for (eta, eta_b) in [(0.85, 1.0), (0.3, 0.7), (0.0, 1.0), (1.0, 0.0)] {
                let (problem, axes, singular, y) = problem(noise, false);
                let sampler = Ddrm::new(process, &grid, problem.measurement()).expect("a sampler");
                let sampler = sampler.eta(eta).and_then(|s| s.eta_b(eta_b)).expect("settings");
                // A state is noise over the deviation that it is drawn with, so chains start as the others do.
                let found = moments(&sampler, &problem.denoiser(), 3);
                let expected = recursion(&stops, eta, eta_b, &problem, (axes, singular, y));
                let (mean, covariance) = distances(&found, &expected);
                assert!(mean < 1e-9 && covariance < 1e-9, "{name}, noise {noise}, η {eta}: {mean:e} {covariance:e}");
            }
        }
    }
}

fn of(problem: &Problem, steps: usize, eta: f64) -> (Vec<f64>, Matrix) {
    let grid = Grid::uniform_lambda(steps).ending(End::Clean);
    let sampler = Ddrm::new(&VpSde::default(), &grid, problem.measurement());
    moments(&sampler.and_then(|s| s.eta(eta)).expect("a sampler"), &problem.denoiser(), 3)
}

/// Without noise in y, with independent coordinates and with η = 0 it goes to the posterior.
#[test]
fn without_noise_in_y_independent_coordinates_go_to_the_posterior() {
    let (problem, axes, _, y) = problem(0.0, true);
    let exact = problem.posterior();
    let errors = [40, 160].map(|steps| distances(&of(&problem, steps, 0.0), &exact));
    assert!(errors[1].0 < 4e-3 && errors[1].1 < 0.02, "{errors:?}");
    assert!(errors[1].1 < 0.4 * errors[0].1, "{errors:?}");
    for eta in [0.0, 0.85] {
        let (mean, covariance) = of(&problem, 20, eta);
        let coordinates = apply(&transpose(&axes), &mean);
        let covariance = product(&product(&transpose(&axes), &covariance), &axes);
        for i in 0..2 {
            assert!(
                (coordinates[i] - y[i]).abs() < 1e-9 && covariance[i][i].abs() < 1e-9,
                "a measured coordinate is not ȳ"
            );
        }
    }
}

/// What the documentation says of the rest: with η > 0 the others spread less, and noise in y is not weighed against the
/// data's: many steps draw to ȳ.
#[test]
fn biases_are_what_the_documentation_says() {
    let (quiet, axes, _, y) = problem(0.0, true);
    let spread = |problem: &Problem, steps, eta| {
        let (_, covariance) = of(problem, steps, eta);
        product(&product(&transpose(&axes), &covariance), &axes)[2][2]
    };
    // The posterior's is 0.4.
    assert!((0.25..0.34).contains(&spread(&quiet, 160, 0.85)), "{}", spread(&quiet, 160, 0.85));
    let (noisy, ..) = problem(0.3, true);
    let second = |moments: (Vec<f64>, Matrix)| apply(&transpose(&axes), &moments.0)[1];
    let (exact, few, many) = (second(noisy.posterior()), second(of(&noisy, 20, 0.85)), second(of(&noisy, 320, 0.85)));
    let gone = |mean: f64| (mean - exact) / (y[1] - exact);
    assert!(gone(few) < gone(many) && gone(many) > 0.5, "{exact} {few} {many}");
}

#[test]
fn masks_of_one_row_and_of_many_are_sampled() {
    let mask = |rows: &[Vec<f64>]| Masking::new(super::tensor(rows)).expect("a mask");
    let y = super::tensor(&[vec![0.5, 0.0], vec![-0.5, 0.9]]);
    let measurement = Measurement::new(mask(&[vec![1.0, 0.0], vec![0.0, 1.0]]), y, 0.0).expect("a measurement");
    let grid = Grid::uniform(10).ending(End::Clean);
    let sampler = Ddrm::new(&VpSde::default(), &grid, measurement).expect("a sampler");
    let denoiser = mixture().denoiser(Prediction::Velocity).expect("a denoiser");
    let noise = Seeded::new(1);
    let x = values(&sampler.start([2, 2], &denoiser, &noise, load()).expect("a run").finish().expect("samples"));
    assert!((x[0] - 0.5).abs() < 1e-12 && (x[3] - 0.9).abs() < 1e-12, "{x:?}");
    assert!(x[1] != 0.0 && x[2] != -0.5);
}

#[test]
fn a_run_resumes_to_the_same_bits_and_only_by_the_same_sampler() {
    let (problem, ..) = problem(0.1, false);
    let denoiser = problem.denoiser();
    let sampler = Ddrm::new(&VpSde::default(), &Grid::uniform(6), problem.measurement()).expect("a sampler");
    let noise = Seeded::new(17);
    let start = |first, rows| sampler.start_at(first, [rows, 3], &denoiser, &noise, load()).expect("a run");
    let whole: Vec<Vec<f64>> = start(4, 2).map(|step| values(&step.expect("a step").x)).collect();
    assert_eq!(whole.len(), 6);
    for pause in 0..=6 {
        let mut run = start(4, 2);
        run.by_ref().take(pause).for_each(|step| drop(step.expect("a step")));
        let saved = run.save().expect("a saved run");
        let rest = sampler.resume(&saved, &denoiser, &noise, load()).expect("a resumed run");
        let rest: Vec<Vec<f64>> = rest.map(|step| values(&step.expect("a step").x)).collect();
        assert_eq!(rest, whole[pause..], "paused after {pause} steps");
    }
    let alone: Vec<f64> = (4..6).flat_map(|first| values(&start(first, 1).finish().expect("samples"))).collect();
    assert!(super::largest(&alone, &whole[5]) < 1e-12);

    let print = |sampler: &Ddrm<_, 2>| Sampler::<2>::fingerprint(sampler);
    let other = |problem: &Problem, steps| {
        Ddrm::new(&VpSde::default(), &Grid::uniform(steps), problem.measurement()).expect("a sampler")
    };
    let moved = Problem { y: vec![0.1, 0.2], ..problem.clone() };
    let prints = [
        print(&sampler),
        print(&sampler.clone().eta(0.5).expect("in range")),
        print(&sampler.clone().eta_b(0.5).expect("in range")),
        print(&other(&problem, 7)),
        print(&other(&moved, 6)),
        print(&other(&Problem { noise: 0.2, ..problem.clone() }, 6)),
    ];
    for (i, a) in prints.iter().enumerate() {
        assert!(prints[..i].iter().all(|b| a != b), "two samplers with one fingerprint");
    }
    assert_eq!(print(&other(&problem, 6)), prints[0]);
}
