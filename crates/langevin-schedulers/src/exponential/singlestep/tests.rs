//! Stages and orders, the published lines of steps with noise, and what is refused.

use super::*;
use crate::plan::{Coef, HostAnswer};
use langevin_core::Key;
use langevin_core::grid::End;
use langevin_core::noise::Injected;
use langevin_core::process::{Edm, VpSde};

#[test]
fn stages_on_the_grid_count_as_published() {
    let orders = |order, n, lower, clean| {
        Singlestep::new(order).unwrap().on_grid().lower_order_final(lower).orders_on_grid(n, clean)
    };
    assert_eq!(orders(3, 6, true, false), [1, 2, 3, 1, 2, 1]);
    assert_eq!(orders(3, 7, true, false), [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(orders(3, 8, true, false), [1, 2, 3, 1, 2, 3, 1, 2]);
    assert_eq!(orders(3, 8, true, true), [1, 2, 3, 1, 2, 3, 1, 1]);
    assert_eq!(orders(2, 6, true, false), [1, 2, 1, 2, 1, 1]);
    assert_eq!(orders(2, 5, true, false), [1, 2, 1, 2, 1]);
    assert_eq!(orders(3, 6, false, false), [1, 2, 3, 1, 2, 3]);
    assert_eq!(orders(3, 6, false, true), [1, 2, 3, 1, 2, 1]);
    assert_eq!(orders(1, 3, true, true), [1, 1, 1]);
}

/// `DPMSolverSinglestepScheduler` with `set_begin_index`: its list of orders is that of all steps, and a step begun in its middle has the
/// stages that there are.
#[test]
fn orders_of_a_later_start_are_those_of_the_whole_grid() {
    let orders = |order, before, n| {
        let solver = Singlestep::new(order).unwrap().on_grid().lower_order_final(true).counted_from(before);
        solver.orders_on_grid(n, false)
    };
    assert_eq!(orders(3, 5, 3), [1, 1, 2]);
    assert_eq!(orders(3, 4, 4), [1, 2, 1, 2]);
    assert_eq!(orders(3, 3, 3), [1, 2, 1]);
    assert_eq!(orders(2, 1, 4), [1, 1, 2, 1]);
    assert_eq!(orders(2, 1, 3), [1, 1, 1]);
}

#[test]
fn fast_spends_every_evaluation() {
    for evaluations in 1..12 {
        let solver = Singlestep::fast(evaluations).unwrap();
        let grid = Grid::uniform(solver.steps().unwrap()).ending(End::Range);
        let plan = solver.plan(&VpSde::default(), &grid).unwrap();
        assert_eq!(plan.evaluations(), evaluations);
    }
    // Whole steps of order 3, then what is left; each the step of a solver of that order.
    let orders = |n| Singlestep::fast(n).unwrap().orders.unwrap();
    assert_eq!((orders(9), orders(10), orders(11)), (vec![3, 3, 2, 1], vec![3, 3, 3, 1], vec![3, 3, 3, 2]));
    let grid = Grid::uniform(4).ending(End::Range);
    let fast = Singlestep::fast(9).unwrap().plan(&VpSde::default(), &grid).unwrap();
    for (order, step) in [(3, 1), (2, 2), (1, 3)] {
        let whole = Singlestep::new(order).unwrap().basis(Basis::Noise).plan(&VpSde::default(), &grid).unwrap();
        let rows = |plan: &Plan| -> Vec<Row> {
            let last = plan.rows().iter().position(|row| row.step == Some(step)).unwrap();
            plan.rows()[last + 1 - order..=last].to_vec()
        };
        assert_eq!(rows(&fast), rows(&whole));
    }
    assert!(matches!(Singlestep::fast(0), Err(PlanError::Setting { .. })));
}

/// The lines of k-diffusion's 2S ancestral step, in σ and x/α.
#[test]
fn ancestral_steps_are_those_of_the_published_method() {
    let denoise = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
    let model = |x: &[f64], at: &Level| {
        let x0 = denoise(x[0], at.sigma);
        HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
    };
    let times = [10.0f64, 4.0, 1.5, 0.3];
    let mut noise = Injected::new();
    let mut x = 7.0;
    for (i, pair) in times.windows(2).enumerate() {
        let (z, (from, to)) = (0.3 + i as f64, (pair[0], pair[1]));
        noise = noise.with(Key::step(2 * i as u64 + 1, 0), 0..1, vec![z]).unwrap();
        let up = 0.8 * (to * to * (from * from - to * to) / (from * from)).sqrt();
        let down = (to * to - up * up).sqrt();
        let middle = (from * down).sqrt();
        let inner = middle / from * x + (1.0 - middle / from) * denoise(x, from);
        x = down / from * x + (1.0 - down / from) * denoise(inner, middle) + 0.9 * up * z;
    }
    let solver = Singlestep::new(2).unwrap().ancestral(0.8).unwrap().noise_scale(0.9).unwrap();
    let plan = solver.plan(&Edm::default(), &Grid::times(times.to_vec()).unwrap()).unwrap();
    let found = plan.run_host(vec![7.0], 0, &noise, model).unwrap();
    assert!((found[0] - x).abs() < 1e-12, "{} and {x}", found[0]);
}

/// The lines of SEEDS-3 in the papers' symbols, in σ and x/α: the answers as in [`Singlestep`], and independent noises
/// whose shares fade.
#[test]
fn stages_with_noise_are_those_of_seeds() {
    let denoise = |x: f64, sigma: f64| 0.3 * x + (0.4 * x + sigma).sin();
    let model = |x: &[f64], at: &Level| {
        let x0 = denoise(x[0], at.sigma);
        HostAnswer { x0: vec![x0], eps: vec![(x[0] - x0) / at.sigma], variance: None }
    };
    let (times, eta) = ([10.0f64, 4.0, 1.5], 0.7);
    let mut noise = Injected::new();
    let mut x = 7.0;
    for (i, pair) in times.windows(2).enumerate() {
        let z = [0.3 + i as f64, -0.8, 0.5];
        for (stage, z) in z.into_iter().enumerate() {
            noise = noise.with(Key::step(3 * i as u64 + stage as u64, 0), 0..1, vec![z]).unwrap();
        }
        let (t, h) = (-pair[0].ln(), (pair[0] / pair[1]).ln());
        let at = |r: f64| (-(t + r * h)).exp();
        let c = |r: f64| (-r * h * (1.0 + eta)).exp_m1();
        // What is left at the end of the noise between the shares a and b of a way of length r.
        let left = |a: f64, b: f64, r: f64| {
            let lost = |s: f64| (-2.0 * (r - s) * h * eta).exp();
            (lost(b) - lost(a)).sqrt()
        };
        let (r1, r2) = (1.0 / 3.0, 2.0 / 3.0);
        let d1 = denoise(x, pair[0]);
        let x2 = (c(r1) + 1.0) * x - c(r1) * d1 + at(r1) * left(0.0, r1, r1) * z[0];
        let d2 = denoise(x2, at(r1));
        let slope = |r: f64| c(r) / (r * h * (1.0 + eta)) + 1.0;
        let x3 = (c(r2) + 1.0) * x - c(r2) * d1
            + r2 / r1 * slope(r2) * (d2 - d1)
            + at(r2) * (left(0.0, r1, r2) * z[0] + left(r1, r2, r2) * z[1]);
        let d3 = denoise(x3, at(r2));
        let drawn = left(0.0, r1, 1.0) * z[0] + left(r1, r2, 1.0) * z[1] + left(r2, 1.0, 1.0) * z[2];
        x = (c(1.0) + 1.0) * x - c(1.0) * d1 + slope(1.0) / r2 * (d3 - d1) + pair[1] * drawn;
    }
    let solver = Singlestep::new(3).unwrap().sde(eta).unwrap();
    let plan = solver.plan(&Edm::default(), &Grid::times(times.to_vec()).unwrap()).unwrap();
    let found = plan.run_host(vec![7.0], 0, &noise, model).unwrap();
    assert!((found[0] - x).abs() < 1e-12, "{} and {x}", found[0]);
}

/// Noise brings a step back to its level, whatever it was capped at.
#[test]
fn capped_steps_stay_on_the_grid() {
    let grid = Grid::times(vec![10.0, 4.0, 1.5]).unwrap();
    let solver = Singlestep::new(1).unwrap().basis(Basis::Noise).ancestral(1.0).unwrap();
    for (solver, lowest) in [(solver.clone(), 0.5625), (solver.capped(), 1.5)] {
        let plan = solver.plan(&Edm::default(), &grid).unwrap();
        let last = plan.rows().last().unwrap();
        // y + (down − from)·ε̂ with from = 4.
        let Coef::C(length) = last.post[0].sum[1].c else { panic!("a number") };
        assert!((4.0 + length - lowest).abs() < 1e-12, "{length}");
        assert_eq!(last.draws.is_empty(), lowest == 1.5);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for order in [0, 4] {
        assert!(matches!(Singlestep::new(order), Err(PlanError::Setting { setting: "order", .. })));
    }
    let solver = Singlestep::new(3).unwrap().orders(vec![3, 2]).unwrap();
    let plan = |solver: &Singlestep| solver.plan(&VpSde::default(), &Grid::uniform(3));
    assert!(matches!(plan(&solver), Err(PlanError::Setting { setting: "number of orders", .. })));
    let third = Singlestep::new(3).unwrap().sde(1.0).unwrap();
    assert!(plan(&third).unwrap().is_stochastic());
    assert!(plan(&third.on_grid()).unwrap().is_stochastic());
    assert!(plan(&Singlestep::new(2).unwrap().sde(1.0).unwrap().on_grid()).unwrap().is_stochastic());
    let tau = Tau::OfLambda(vec![(-4.0, 0.0), (4.0, 1.0)]);
    let changing = Singlestep::new(2).unwrap().on_grid().tau(tau.clone()).unwrap();
    assert!(plan(&changing).unwrap().is_stochastic());
    let between = Singlestep::new(2).unwrap().tau(tau).unwrap();
    assert!(plan(&between).unwrap().is_stochastic());
    for bad in [-1.0, f64::NAN] {
        let error = Singlestep::new(2).unwrap().tau(Tau::Constant(bad)).unwrap_err();
        assert!(matches!(error, PlanError::Setting { setting: "tau", .. }));
        let error = Singlestep::new(2).unwrap().sde(bad).unwrap_err();
        assert!(matches!(error, PlanError::Setting { setting: "eta", .. }));
    }
    let both = solver.orders(vec![3, 2, 1]).unwrap().on_grid();
    assert!(matches!(plan(&both), Err(PlanError::Combination { .. })));
    let ancestral = Singlestep::new(2).unwrap().ancestral(1.0).unwrap();
    assert!(matches!(plan(&ancestral.clone().on_grid()), Err(PlanError::Combination { .. })));
    assert!(matches!(plan(&ancestral.sde(1.0).unwrap()), Err(PlanError::Combination { .. })));
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let solver = Singlestep::new(2).unwrap();
        assert!(matches!(solver.clone().ancestral(bad), Err(PlanError::Setting { setting: "eta", .. })));
        assert!(matches!(solver.noise_scale(bad), Err(PlanError::Setting { setting: "the noise factor", .. })));
    }
}

/// Every stage on the grid starts where its step does, with the increment of the path over the whole way; of the reverse SDE
/// itself it is that increment times σ_t².
#[test]
fn stages_on_the_grid_have_the_noise_of_their_whole_way() {
    let times = [10.0f64, 7.0, 5.0, 3.0, 2.0, 1.5, 1.2];
    for (order, eta) in [(2, 0.7), (3, 0.7), (2, 1.0), (3, 1.0)] {
        let solver = Singlestep::new(order).unwrap().on_grid().sde(eta).unwrap();
        let plan = solver.plan(&Edm::default(), &Grid::times(times.to_vec()).unwrap()).unwrap();
        assert_eq!((plan.steps(), plan.rows().len()), (6, 6));
        for (index, row) in plan.rows().iter().enumerate() {
            let (begin, to) = (times[index / order * order], times[index + 1]);
            let [Draw::Path { from, until, .. }] = row.draws[..] else { panic!("one increment") };
            let near = |a: f64, b: f64| (a - b).abs() < 1e-12 * b.abs();
            assert!(near(from, begin.powi(-2)) && near(until, to.powi(-2)), "{from} to {until}");
            let terms = &row.post.last().unwrap().sum;
            let number = |term: &Term| if let Coef::C(c) = term.c { c } else { panic!("a number") };
            let state = usize::from(!index.is_multiple_of(order)) as Reg;
            assert!(terms[0].of == Src::X(state) && near(number(&terms[0]), (to / begin).powf(1.0 + eta)));
            let noise = terms.iter().find(|term| term.of == Src::Z(0)).map(number).unwrap();
            let variance = to * to * (1.0 - (to / begin).powf(2.0 * eta));
            assert!((noise * noise * (until - from) - variance).abs() < 1e-12 * variance, "{noise}");
            assert!(eta != 1.0 || near(noise, to * to), "{noise}");
        }
    }
}

/// In ε̂ a step to no noise has noise of its own, which is of no interval of the path that ends.
#[test]
fn the_last_noise_in_epsilon_is_white() {
    for order in [2, 3] {
        let solver = Singlestep::new(order).unwrap().basis(Basis::Noise).on_grid().sde(1.0).unwrap();
        let plan = solver.plan(&Edm::default(), &Grid::karras(6, 7.0).unwrap()).unwrap();
        let is_white = |row: &Row| matches!(row.draws[..], [Draw::White { .. }]);
        let found: Vec<bool> = plan.rows().iter().map(is_white).collect();
        assert_eq!(found, [false, false, false, false, false, true]);
    }
}

/// ComfyUI's "exp_heun_2_x0" in σ/α: `b₂ = h·φ₂(−h)`, `b₁ = h·(φ₁(−h) − φ₂(−h))`; with noise h is `(1 + η)·h` there, and the noise of
/// the stage is that of the step.
#[test]
fn stages_at_the_ends_are_the_published_heun() {
    for eta in [0.0, 0.7] {
        let solver = Singlestep::new(2).unwrap().midpoint(1.0).unwrap().last_stage(SecondOrder::Heun);
        let plan = solver.sde(eta).unwrap().plan(&Edm::default(), &Grid::karras(5, 7.0).unwrap()).unwrap();
        for step in 0..4 {
            let [stage, last] = &plan.rows()[2 * step..2 * step + 2] else { panic!("two rows") };
            let (from, to) = (stage.eval.unwrap().at.sigma, last.after.level.sigma);
            assert!((last.eval.unwrap().at.sigma - to).abs() < 1e-12 * to && stage.step.is_none());
            let h = (from / to).ln();
            let whole = (1.0 + eta) * h;
            let (phi1, phi2) = (-(-whole).exp_m1(), 1.0 + (-whole).exp_m1() / whole);
            let decay = to / from * (-eta * h).exp();
            let std = to * (-(-2.0 * eta * h).exp_m1()).sqrt();
            for (row, of_answers) in [(stage, vec![phi1]), (last, vec![phi1 - phi2, phi2])] {
                let mut expected = vec![decay];
                expected.extend(of_answers);
                expected.extend((eta > 0.0).then_some(std));
                let terms = row.post[0].sum.iter();
                let found: Vec<f64> = terms.map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect();
                assert_eq!(found.len(), expected.len());
                assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} and {expected:?}");
            }
            assert!(last.draws.is_empty(), "the stage has drawn the noise of the step");
        }
    }
}

#[test]
fn a_midpoint_is_one_of_order_2_between_the_levels() {
    for bad in [0.0, -0.5, 1.1, f64::NAN] {
        let error = Singlestep::new(2).unwrap().midpoint(bad).unwrap_err();
        assert!(matches!(error, PlanError::Setting { setting: "the midpoint", .. }), "{error}");
    }
    let at = |solver: Singlestep| solver.midpoint(0.3).unwrap();
    for solver in
        [at(Singlestep::new(3).unwrap()), at(Singlestep::new(2).unwrap().on_grid()), at(Singlestep::fast(8).unwrap())]
    {
        let error = solver.plan(&Edm::default(), &Grid::karras(3, 7.0).unwrap()).unwrap_err();
        assert!(matches!(&error, PlanError::Combination { first, .. } if first.contains("not half-way")), "{error}");
    }
}
