//! Grids on processes.

use super::*;
use crate::process::{Betas, ChainEnd, DiscreteChain, Edm, ProcessError, RectifiedFlow, SubVpSde, VeSde, VpSde};
use proptest::prelude::*;

fn sd() -> DiscreteChain {
    DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000).unwrap()
}

fn zero_snr() -> DiscreteChain {
    sd().rescale_zero_terminal_snr().unwrap()
}

fn asked(stops: &[Stop]) -> Vec<f64> {
    stops.iter().map(|stop| stop.ask.time).collect()
}

fn ends(stops: &[Stop]) -> Vec<f64> {
    stops.iter().map(|stop| stop.to.t).collect()
}

/// σ/α where each step begins, and where the last arrives.
fn ratios(stops: &[Stop]) -> Vec<f64> {
    let nodes = stops.iter().map(|stop| stop.from).chain(stops.last().map(|stop| stop.to));
    nodes.map(|node| node.level.sigma / node.level.alpha).collect()
}

fn assert_all_close(given: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(given.len(), expected.len(), "{given:?} and {expected:?}");
    for (g, e) in given.iter().zip(expected) {
        assert!((g - e).abs() <= tolerance * e.abs().max(1e-3), "{given:?} is not {expected:?}");
    }
}

#[test]
fn published_timesteps() {
    let chain = sd();
    let times = |grid: Grid| asked(&grid.stops(&chain).unwrap());
    assert_eq!(times(Grid::leading(8).offset(1)), [876.0, 751.0, 626.0, 501.0, 376.0, 251.0, 126.0, 1.0]);
    assert_eq!(times(Grid::leading(10)), [900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0, 0.0]);
    assert_eq!(times(Grid::trailing(8)), [999.0, 874.0, 749.0, 624.0, 499.0, 374.0, 249.0, 124.0]);
    assert_eq!(times(Grid::linspace(8)), [999.0, 856.0, 714.0, 571.0, 428.0, 285.0, 143.0, 0.0]);
    let small = DiscreteChain::new(Betas::Linear { start: 0.02, end: 0.3 }, 20).unwrap();
    assert_eq!(asked(&Grid::leading(5).stops(&small).unwrap()), [16.0, 12.0, 8.0, 4.0, 0.0]);
}

#[test]
fn steps_of_a_chain_lead_to_the_next_asked_time_or_by_a_stride() {
    let chain = sd();
    let next = Grid::linspace(8).stops(&chain).unwrap();
    assert_eq!(ends(&next), [856.0, 714.0, 571.0, 428.0, 285.0, 143.0, 0.0, -1.0]);
    let strided = Grid::linspace(8).strided().stops(&chain).unwrap();
    assert_eq!(asked(&strided), asked(&next));
    assert_eq!(ends(&strided), [874.0, 731.0, 589.0, 446.0, 303.0, 160.0, 18.0, -1.0]);
    let trailing = Grid::trailing(8).strided().stops(&chain).unwrap();
    assert_eq!(ends(&trailing), [874.0, 749.0, 624.0, 499.0, 374.0, 249.0, 124.0, -1.0]);
    for stop in strided {
        assert_eq!(stop.ask, stop.from.level);
        let bar = if stop.to.t < 0.0 { 1.0 } else { chain.alphas_cumprod()[stop.to.t as usize] };
        assert_eq!(stop.to.level.alpha, bar.sqrt());
    }
}

#[test]
fn a_chain_ends_where_its_end_says() {
    let grid = Grid::leading(8).offset(1).strided();
    let last = |chain: &DiscreteChain| grid.stops(chain).unwrap()[7].to;
    assert_eq!((last(&sd()).level.alpha, last(&sd()).level.sigma), (1.0, 0.0));
    let chain = sd().ending(ChainEnd::FirstStep);
    assert_eq!(last(&chain).level.alpha, chain.alphas_cumprod()[0].sqrt());
    assert_eq!(last(&chain).t, -1.0);
}

#[test]
fn the_end_can_be_the_first_step() {
    let stops = Grid::leading(8).offset(1).ending(End::Range).stops(&sd()).unwrap();
    assert_eq!((stops.len(), stops[7].to.t), (8, 0.0));
    let stops = Grid::leading(8).ending(End::Range).stops(&sd()).unwrap();
    assert_eq!((stops.len(), stops[6].to.t), (7, 0.0));
}

#[test]
fn inversion_of_leading_grids() {
    let chain = sd();
    let stops = Grid::leading(8).offset(1).inverted().stops(&chain).unwrap();
    assert_eq!(asked(&stops), [1.0, 126.0, 251.0, 376.0, 501.0, 626.0, 751.0, 876.0]);
    assert_eq!(
        stops.iter().map(|s| s.from.t).collect::<Vec<_>>(),
        [-1.0, 1.0, 126.0, 251.0, 376.0, 501.0, 626.0, 751.0]
    );
    assert_eq!((stops[0].ask.alpha, stops[0].ask.sigma), (1.0, 0.0));
    for stop in &stops[1..] {
        assert_eq!(stop.ask.alpha, chain.alphas_cumprod()[stop.from.t as usize].sqrt());
        assert_eq!(stop.to.level.alpha, chain.alphas_cumprod()[stop.ask.time as usize].sqrt());
    }
    let stops = Grid::leading(8).inverted().stops(&sd().ending(ChainEnd::FirstStep)).unwrap();
    assert_eq!(asked(&stops), [0.0, 125.0, 250.0, 375.0, 500.0, 625.0, 750.0, 875.0]);
    assert_eq!(stops[0].ask.alpha, stops[0].to.level.alpha);
}

#[test]
fn inversion_of_trailing_grids() {
    let stops = Grid::trailing(8).inverted().stops(&sd()).unwrap();
    assert_eq!(asked(&stops), [124.0, 249.0, 374.0, 499.0, 624.0, 749.0, 874.0, 999.0]);
    assert_eq!((stops[0].from.t, stops[7].from.t, stops[7].to.t), (-1.0, 874.0, 999.0));
}

/// Whatever the number of steps, each starts where the last ended, at the levels of the grid; with a stride it does not.
#[test]
fn inversions_join_unless_they_are_strided() {
    let joined = |stops: &[Stop]| stops.windows(2).all(|pair| pair[0].to == pair[1].from);
    let chain = sd();
    for n in [1, 2, 3, 7, 8, 30, 300, 501, 999, 1000] {
        for grid in [Grid::leading(n), Grid::trailing(n), Grid::linspace(n)] {
            let (down, up) = (grid.stops(&chain).unwrap(), grid.clone().inverted().stops(&chain).unwrap());
            assert!(joined(&up), "{grid:?}");
            let turned: Vec<_> = up.iter().rev().map(|stop| (stop.to, stop.from)).collect();
            assert_eq!(turned, down.iter().map(|stop| (stop.from, stop.to)).collect::<Vec<_>>(), "{grid:?}");
            let strided = grid.clone().strided().inverted().stops(&chain).unwrap();
            for stop in strided.iter().filter(|stop| stop.to.t >= (1000 / n) as f64) {
                assert_eq!(stop.from.t, stop.to.t - (1000 / n) as f64, "{grid:?}");
            }
        }
    }
    let gaps = |n| !joined(&Grid::trailing(n).strided().inverted().stops(&chain).unwrap());
    assert!(gaps(7) && gaps(300) && !gaps(8));
    // The end of the grid is where its inversion begins.
    let stops = Grid::leading(8).offset(200).stops(&chain);
    assert!(matches!(stops, Err(GridError::TimeOutOfRange { .. })));
    for (offset, end, start) in [(100, End::Clean, -1.0), (100, End::Range, 0.0), (0, End::Range, 0.0)] {
        let stops = Grid::leading(8).offset(offset).ending(end).inverted().stops(&chain).unwrap();
        assert_eq!((stops[0].from.t, stops.last().unwrap().to.t), (start, 875.0 + offset as f64));
    }
}

#[test]
fn other_inversions_walk_backwards() {
    let forward = Grid::uniform(5).stops(&VpSde::default()).unwrap();
    let backward = Grid::uniform(5).inverted().stops(&VpSde::default()).unwrap();
    for (there, back) in forward.iter().rev().zip(&backward) {
        assert_eq!((there.from, there.to), (back.to, back.from));
        assert_eq!(back.ask, back.from.level);
    }
    // From clean data the network is asked with the first time that it knows.
    let stops = Grid::karras(5, 7.0).unwrap().inverted().stops(&Edm::default()).unwrap();
    assert_eq!((stops[0].ask.sigma, stops[0].ask.time), (0.0, 0.25 * 0.002f64.ln()));
    let stops = Grid::linspace(5).inverted().stops(&sd()).unwrap();
    assert_eq!(asked(&stops), [0.0, 0.0, 250.0, 500.0, 749.0]);
}

#[test]
fn uniform_and_quadratic_closed_forms() {
    let flow = RectifiedFlow::new();
    let stops = Grid::uniform(4).stops(&flow).unwrap();
    assert_all_close(&stops.iter().map(|s| s.from.t).collect::<Vec<_>>(), &[1.0, 0.75, 0.5, 0.25], 1e-15);
    assert_eq!((stops[3].to.t, stops[3].to.level.sigma), (0.0, 0.0));
    let stops = Grid::quadratic(4).stops(&flow).unwrap();
    assert_all_close(&stops.iter().map(|s| s.from.t).collect::<Vec<_>>(), &[1.0, 0.5625, 0.25, 0.0625], 1e-15);
    let stops = Grid::uniform(4).ending(End::Clean).between(1.0, 0.4).stops(&flow).unwrap();
    assert_all_close(&stops.iter().map(|s| s.from.t).collect::<Vec<_>>(), &[1.0, 0.8, 0.6, 0.4], 1e-15);
    assert_eq!(stops[3].to.level.sigma, 0.0);
}

#[test]
fn karras_closed_form() {
    // Eq. 5 of the paper, at 5 levels from 80 to 0.002.
    let stops = Grid::karras(5, 7.0).unwrap().stops(&Edm::default()).unwrap();
    let (max, min) = (80f64.powf(1.0 / 7.0), 0.002f64.powf(1.0 / 7.0));
    let mut expected: Vec<f64> = (0..5).map(|i| (max + f64::from(i) / 4.0 * (min - max)).powi(7)).collect();
    expected.push(0.0);
    assert_all_close(&ratios(&stops), &expected, 1e-12);
    // With the range as its end it has one level more, the last of which is the end.
    let stops = Grid::karras(4, 7.0).unwrap().ending(End::Range).stops(&Edm::default()).unwrap();
    assert_all_close(&ratios(&stops), &expected[..5], 1e-12);
}

#[test]
fn exponential_closed_forms() {
    let edm = Edm::new(0.01, 100.0).unwrap();
    let stops = Grid::exponential(5).stops(&edm).unwrap();
    assert_all_close(&ratios(&stops), &[100.0, 10.0, 1.0, 0.1, 0.01, 0.0], 1e-12);
    let stops = Grid::uniform_lambda(4).stops(&edm).unwrap();
    assert_all_close(&ratios(&stops), &[100.0, 10.0, 1.0, 0.1, 0.01], 1e-12);
    // ln σ falls as the square of 1, ¾, ½, ¼, 0.
    let stops = Grid::polyexponential(5, 2.0).unwrap().stops(&edm).unwrap();
    let expected: Vec<f64> = [1.0, 0.75, 0.5, 0.25, 0.0].iter().map(|r: &f64| 0.01 * 1e4f64.powf(r * r)).collect();
    assert_all_close(&ratios(&stops)[..5], &expected, 1e-12);
}

/// k-diffusion's `get_sigmas_vp`, and with other ends, where the same times are divided.
#[test]
fn vp_closed_form() {
    let sigma = |t: f64| (0.5 * 19.9 * t * t + 0.1 * t).exp_m1().sqrt();
    for (noisy, clean) in [(1.0, 1e-3), (0.7, 0.02)] {
        let edm = Edm::new(sigma(clean), sigma(noisy)).unwrap();
        let stops = Grid::vp(9, 0.1, 20.0).unwrap().stops(&edm).unwrap();
        let mut expected: Vec<f64> = (0..9).map(|i| sigma(noisy + f64::from(i) / 8.0 * (clean - noisy))).collect();
        expected.push(0.0);
        assert_all_close(&ratios(&stops), &expected, 1e-12);
    }
    // With constant β, e^(β·t) − 1 = σ²: equal steps in ln(1 + σ²).
    let edm = Edm::new(3f64.sqrt(), 15f64.sqrt()).unwrap();
    let stops = Grid::vp(2, 5.0, 5.0).unwrap().ending(End::Range).stops(&edm).unwrap();
    assert_all_close(&ratios(&stops), &[15f64.sqrt(), 7f64.sqrt(), 3f64.sqrt()], 1e-12);
}

#[test]
fn beta_closed_form() {
    // Beta(2, 1) has the quantile function √p.
    let stops = Grid::beta(5, 2.0, 1.0).unwrap().stops(&RectifiedFlow::new()).unwrap();
    let times: Vec<f64> = stops.iter().map(|stop| stop.from.t).collect();
    // The last of the five is clean data itself, so that there are four steps to it.
    assert_all_close(&times, &[1.0, 0.75f64.sqrt(), 0.5f64.sqrt(), 0.5], 1e-13);
    let stops = Grid::beta(5, 2.0, 1.0).unwrap().stops(&VpSde::default()).unwrap();
    assert_eq!((stops.len(), stops[4].from.t, stops[4].to.level.sigma), (5, 1e-3, 0.0));
}

#[test]
fn tables_on_the_models_they_are_for() {
    let stops = Grid::ays(AysTable::StableDiffusion15, 10).stops(&sd()).unwrap();
    let mut expected = AysTable::StableDiffusion15.sigmas().to_vec();
    // The first is beyond the chain's last step by rounding; the last is replaced by clean data.
    expected[0] = sd().sigma(999.0) / sd().alpha(999.0);
    expected[10] = 0.0;
    assert_all_close(&ratios(&stops), &expected, 1e-9);
    assert_eq!((stops[0].ask.time, stops[9].to.t), (999.0, -1.0));
    // The published times of this table are 999, 850, 736, 645, 545, 455, 343, 233, 124, 24.
    for (given, published) in
        asked(&stops).iter().zip([999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0])
    {
        assert!((given - published).abs() < 1.0, "{given} and {published}");
    }
    let svd = Edm::new(0.002, 700.0).unwrap();
    let stops = Grid::ays(AysTable::StableVideoDiffusion, 25).ending(End::Range).stops(&svd).unwrap();
    assert_eq!((stops.len(), stops[0].from.t, stops[24].to.t), (25, 700.0, 0.002));
    let refused = Grid::ays(AysTable::StableVideoDiffusion, 10).stops(&sd());
    let Err(GridError::BeyondTable { table: "Stable Video Diffusion", ratio: 700.0, .. }) = refused else {
        panic!("{refused:?}")
    };
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("from 14.6") && message.contains("`Edm` from 0.002 to 700"), "{message}");
    // The way out that it names: levels as they are, asked with the chain's last time where they are beyond it.
    let levels = AysTable::StableVideoDiffusion.sigmas().map(|sigma| {
        let time = sd().time_at_lambda(-sigma.ln()).unwrap_or(if sigma > 1.0 { 999.0 } else { 0.0 });
        Level { alpha: 1.0 / (1.0 + sigma * sigma).sqrt(), sigma: sigma / (1.0 + sigma * sigma).sqrt(), time }
    });
    let stops = Grid::levels(levels[..10].to_vec()).unwrap().stops(&sd()).unwrap();
    assert_eq!((stops.len(), stops[0].ask.time, stops[2].ask.time), (10, 999.0, 999.0));
    assert!((stops[0].from.level.sigma / stops[0].from.level.alpha / 700.0 - 1.0).abs() < 1e-12);
}

#[test]
fn given_times() {
    let grid = Grid::times(vec![900.0, 701.0, 500.5, 3.0]).unwrap();
    let stops = grid.stops(&sd()).unwrap();
    assert_eq!((asked(&stops), ends(&stops)), (vec![900.0, 701.0, 500.5, 3.0], vec![701.0, 500.5, 3.0, -1.0]));
    let stops = grid.clone().strided().stops(&sd()).unwrap();
    assert_eq!(ends(&stops), [650.0, 451.0, 250.5, -1.0]);
    let stops = grid.ending(End::Range).stops(&sd()).unwrap();
    assert_eq!((stops.len(), stops[2].to.t), (3, 3.0));
    let stops = Grid::times(vec![1.0, 0.5, 0.1]).unwrap().stops(&VpSde::default()).unwrap();
    assert_eq!(ends(&stops), [0.5, 0.1]);
}

/// A list whose first two levels are one ends by standing still when it is walked backwards, and cannot be walked forwards.
#[test]
fn given_levels_may_stand_still_at_the_end() {
    let level = |sigma: f64| Level { alpha: 1.0, sigma, time: sigma };
    let edm = Edm::default();
    let grid = Grid::levels([4.0, 4.0, 1.0, 0.5].map(level).to_vec()).unwrap().ending(End::Range);
    assert!(matches!(grid.stops(&edm), Err(GridError::Direction { index: 1, .. })));
    let stops = grid.inverted().stops(&edm).unwrap();
    assert_eq!(stops.iter().map(|s| s.to.level.sigma).collect::<Vec<_>>(), [1.0, 4.0, 4.0]);
    assert_eq!(stops[2].ask, level(4.0));
    let last = Grid::levels([4.0, 1.0, 1.0].map(level).to_vec()).unwrap().ending(End::Range);
    assert_eq!(last.stops(&edm).unwrap().len(), 2);
    assert!(Grid::levels([4.0, 2.0, 2.0, 1.0].map(level).to_vec()).is_err());
}

#[test]
fn given_levels_are_taken_as_they_are() {
    // Two levels may share one time, and no level needs to be on the process.
    let level = |alpha, sigma, time| Level { alpha, sigma, time };
    let levels = vec![level(1.0, 90.0, 7.0), level(1.0, 1.0, 7.0), level(0.5, 0.1, 3.0)];
    let grid = Grid::levels(levels.clone()).unwrap();
    let stops = grid.clone().ending(End::Clean).stops(&Edm::default()).unwrap();
    assert_eq!(stops.iter().map(|s| s.ask).collect::<Vec<_>>(), levels);
    assert_all_close(&stops.iter().map(|s| s.from.t).collect::<Vec<_>>(), &[80.0, 1.0, 0.2], 1e-13);
    assert_eq!(stops[2].to.level.sigma, 0.0);
    assert_eq!(grid.stops(&Edm::default()).unwrap().len(), 2);
}

#[test]
fn start_and_range_options() {
    let whole = Grid::leading(10).stops(&sd()).unwrap();
    assert_eq!(Grid::leading(10).starting_at(4).stops(&sd()).unwrap(), whole[4..]);
    let stops = Grid::uniform_lambda(6).between(0.8, 0.2).stops(&VpSde::default()).unwrap();
    assert_eq!((stops[0].from.t, stops[5].to.t), (0.8, 0.2));
    let vp = VpSde::default();
    let (first, last) = (vp.lambda(0.8), vp.lambda(0.2));
    for (i, stop) in stops.iter().enumerate() {
        assert!((vp.lambda(stop.from.t) - (first + (last - first) * i as f64 / 6.0)).abs() < 1e-12);
    }
}

/// Every kind with `n` steps.
fn all_kinds(n: usize) -> Vec<Grid> {
    vec![
        Grid::uniform(n),
        Grid::quadratic(n),
        Grid::uniform_lambda(n),
        Grid::karras(n, 7.0).unwrap(),
        Grid::exponential(n),
        Grid::polyexponential(n, 1.5).unwrap(),
        Grid::vp(n, 0.1, 20.0).unwrap(),
        Grid::beta(n, 0.6, 0.6).unwrap(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_kind_on_every_process(n in 1usize..60) {
        let processes: Vec<Box<dyn Process>> = vec![
            Box::new(VpSde::default()),
            Box::new(SubVpSde::default()),
            Box::new(VeSde::default()),
            Box::new(Edm::default()),
            Box::new(RectifiedFlow::new().shift(3.0).unwrap().range(0.01, 0.99).unwrap()),
            Box::new(sd()),
        ];
        for process in &processes {
            for grid in all_kinds(n) {
                for end in [End::Clean, End::Range] {
                    let stops = grid.clone().ending(end).stops(process).unwrap();
                    prop_assert_eq!(stops.len(), n);
                    let (min, max) = process.time_range();
                    prop_assert_eq!(stops[0].from.t, max);
                    prop_assert_eq!(stops[n - 1].to.level.sigma == 0.0, end == End::Clean);
                    if end == End::Range {
                        prop_assert_eq!(stops[n - 1].to.t, min);
                    }
                    for stop in &stops {
                        prop_assert!(stop.from.t > stop.to.t && stop.from.level.lambda() < stop.to.level.lambda());
                        prop_assert_eq!(stop.ask, stop.from.level);
                        prop_assert_eq!(stop.from, process.node(stop.from.t));
                    }
                    for pair in stops.windows(2) {
                        prop_assert_eq!(pair[0].to, pair[1].from);
                    }
                }
            }
        }
    }
}

#[test]
fn grids_are_values() {
    let mut grids = all_kinds(7);
    grids.push(Grid::leading(7).offset(1).strided().starting_at(2));
    grids.push(Grid::ays(AysTable::StableDiffusionXl, 7).ending(End::Range).inverted());
    grids.push(Grid::times(vec![0.9, 0.1]).unwrap());
    grids.push(Grid::levels(vec![Level { alpha: 0.1, sigma: 0.9, time: 5.0 }]).unwrap());
    grids.push(Grid::uniform(3).between(0.7, 0.1));
    for grid in grids {
        let json = serde_json::to_string(&grid).unwrap();
        assert_eq!(serde_json::from_str::<Grid>(&json).unwrap(), grid, "{json}");
    }
    // What a file says is checked when it is used.
    let json = serde_json::to_string(&Grid::karras(5, 7.0).unwrap()).unwrap().replace("7.0", "-1.0");
    let grid: Grid = serde_json::from_str(&json).unwrap();
    assert!(matches!(grid.stops(&Edm::default()), Err(GridError::Parameter { .. })));
    let minimal: Grid = serde_json::from_str(r#"{"kind":{"Leading":{"n":4}}}"#).unwrap();
    assert_eq!(minimal, Grid::leading(4));
}

mod errors {
    use super::*;

    #[test]
    fn zero_steps() {
        for grid in all_kinds(0).into_iter().chain([Grid::ays(AysTable::StableDiffusionXl, 0)]) {
            assert_eq!(grid.stops(&VpSde::default()), Err(GridError::ZeroSteps), "{grid:?}");
        }
        for grid in [Grid::leading(0), Grid::trailing(0), Grid::linspace(0), Grid::leading(0).inverted()] {
            assert_eq!(grid.stops(&sd()), Err(GridError::ZeroSteps), "{grid:?}");
        }
        assert_eq!(Grid::times(vec![]).unwrap().stops(&sd()), Err(GridError::ZeroSteps));
        assert_eq!(Grid::levels(vec![]).unwrap().stops(&sd()), Err(GridError::ZeroSteps));
    }

    #[test]
    fn more_steps_than_the_chain_has() {
        for grid in [Grid::leading(1001), Grid::trailing(1001), Grid::linspace(1001), Grid::trailing(1001).inverted()] {
            let error = grid.stops(&sd()).unwrap_err();
            assert_eq!(error, GridError::TooManySteps { given: 1001, chain: 1000 });
            assert!(error.to_string().contains("at most 1000"), "{error}");
        }
    }

    #[test]
    fn absurd_numbers() {
        for grid in [Grid::uniform(usize::MAX), Grid::leading(usize::MAX), Grid::karras(1_000_001, 7.0).unwrap()] {
            assert!(matches!(grid.stops(&sd()), Err(GridError::Parameter { .. })), "{grid:?}");
        }
        let far = Grid::leading(5).offset(usize::MAX).stops(&sd());
        assert!(matches!(far, Err(GridError::TimeOutOfRange { .. })), "{far:?}");
    }

    #[test]
    fn a_chain_is_needed() {
        for grid in
            [Grid::leading(5), Grid::trailing(5), Grid::linspace(5), Grid::times(vec![0.5, 0.1]).unwrap().strided()]
        {
            assert!(matches!(grid.stops(&VpSde::default()), Err(GridError::NeedsChain { .. })), "{grid:?}");
        }
    }

    #[test]
    fn options_that_do_not_go_together() {
        let level = Level { alpha: 0.1, sigma: 0.9, time: 5.0 };
        for (grid, expected) in [
            (Grid::trailing(5).offset(1), "offset"),
            (Grid::uniform(5).offset(1), "offset"),
            (Grid::uniform(5).strided(), "strided"),
            (Grid::levels(vec![level]).unwrap().strided(), "strided"),
            (Grid::leading(5).strided().ending(End::Range), "strided"),
            (Grid::leading(5).between(900.0, 100.0), "between"),
            (Grid::times(vec![5.0, 1.0]).unwrap().between(900.0, 100.0), "between"),
            (Grid::ays(AysTable::StableDiffusion15, 5).between(900.0, 100.0), "between"),
        ] {
            match grid.stops(&sd()) {
                Err(GridError::Combination { option, .. }) => assert_eq!(option, expected),
                other => panic!("{grid:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn times_outside_the_range() {
        for grid in [
            Grid::times(vec![1000.0, 5.0]).unwrap(),
            Grid::times(vec![5.0, -1.0]).unwrap(),
            Grid::uniform(5).between(1000.0, 5.0),
            Grid::uniform(5).between(5.0, -1.0),
            Grid::uniform(5).between(f64::NAN, 0.0),
            Grid::leading(1000).offset(1),
            Grid::leading(1000).offset(1).inverted(),
        ] {
            assert!(matches!(grid.stops(&sd()), Err(GridError::TimeOutOfRange { .. })), "{grid:?}");
        }
    }

    #[test]
    fn against_the_direction() {
        for times in [vec![0.1, 0.5], vec![0.5, 0.5]] {
            assert!(matches!(Grid::times(times), Err(GridError::Direction { index: 1, quantity: "time", .. })));
        }
        assert!(matches!(
            Grid::uniform(5).between(0.1, 0.5).stops(&VpSde::default()),
            Err(GridError::Direction { .. })
        ));
        let level = |sigma| Level { alpha: 0.5, sigma, time: 1.0 };
        for levels in [vec![level(0.1), level(0.2)], vec![level(0.1), level(0.1)]] {
            let refused = Grid::levels(levels);
            assert!(matches!(refused, Err(GridError::Direction { quantity: "half-log-SNR", .. })), "{refused:?}");
        }
    }

    #[test]
    fn numbers_that_are_none() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(Grid::times(vec![0.9, bad]), Err(GridError::NotFinite { index: 1, .. })));
            for (quantity, level) in [
                ("alpha", Level { alpha: bad, sigma: 1.0, time: 0.0 }),
                ("sigma", Level { alpha: 1.0, sigma: bad, time: 0.0 }),
                ("the network time", Level { alpha: 1.0, sigma: 1.0, time: bad }),
            ] {
                match Grid::levels(vec![level]) {
                    Err(GridError::NotFinite { quantity: named, index: 0, .. }) => assert_eq!(named, quantity),
                    other => panic!("{level:?}: {other:?}"),
                }
            }
        }
        let nothing = Level { alpha: 0.0, sigma: 0.0, time: 0.0 };
        assert!(matches!(Grid::levels(vec![nothing]), Err(GridError::NotFinite { .. })));
        let negative = Level { alpha: 1.0, sigma: -1.0, time: 0.0 };
        assert!(matches!(Grid::levels(vec![negative]), Err(GridError::NotFinite { quantity: "sigma", .. })));
    }

    /// VP with NaN in a place that no coarse probe finds, or everywhere.
    #[derive(Debug)]
    struct Holed(f64, f64);
    impl Process for Holed {
        fn alpha(&self, t: f64) -> f64 {
            if t >= self.0 && t <= self.1 { f64::NAN } else { VpSde::default().alpha(t) }
        }
        fn sigma(&self, t: f64) -> f64 {
            VpSde::default().sigma(t)
        }
        fn alpha_dot(&self, t: f64) -> f64 {
            VpSde::default().alpha_dot(t)
        }
        fn sigma_dot(&self, t: f64) -> f64 {
            VpSde::default().sigma_dot(t)
        }
        fn time_range(&self) -> (f64, f64) {
            (1e-3, 1.0)
        }
    }

    #[test]
    fn holes_in_a_schedule() {
        let refused = Grid::uniform(5).stops(&Holed(0.3, 0.6));
        assert!(
            matches!(refused, Err(GridError::Process(ProcessError::Value { quantity: "alpha", .. }))),
            "{refused:?}"
        );
        let refused = Grid::times(vec![0.9, 0.1234567, 0.1]).unwrap().stops(&Holed(0.1234, 0.1235));
        assert!(matches!(refused, Err(GridError::NotFinite { quantity: "alpha", index: 1, .. })), "{refused:?}");
    }

    #[test]
    fn parameters() {
        for bad in [0.0, -7.0, f64::NAN, f64::INFINITY] {
            for refused in [Grid::karras(5, bad), Grid::polyexponential(5, bad)] {
                assert!(matches!(refused, Err(GridError::Parameter { parameter: "rho", .. })), "{bad}");
            }
            assert!(matches!(Grid::beta(5, bad, 0.6), Err(GridError::Parameter { parameter: "a", .. })), "{bad}");
            assert!(matches!(Grid::beta(5, 0.6, bad), Err(GridError::Parameter { parameter: "b", .. })), "{bad}");
            let refused =
                [Grid::vp(5, 0.1, bad).unwrap_err(), Grid::vp(5, if bad == 0.0 { 9.0 } else { bad }, 2.0).unwrap_err()];
            for (refused, name) in refused.into_iter().zip(["beta_max", ""]) {
                let GridError::Process(ProcessError::Parameter { parameter, .. }) = refused else {
                    panic!("{refused}")
                };
                assert!(parameter.starts_with("beta_") && (name.is_empty() || parameter == name), "{parameter}");
            }
        }
    }

    #[test]
    fn starting_behind_the_end() {
        let error = Grid::leading(10).starting_at(10).stops(&sd()).unwrap_err();
        assert_eq!(error, GridError::StartBeyond { start: 10, steps: 10 });
        assert!(error.to_string().contains("at 9 or before"), "{error}");
    }

    #[test]
    fn infinite_half_log_snr() {
        let kinds = || {
            all_kinds(5)
                .into_iter()
                .filter(|g| !matches!(g.kind, Kind::Uniform { .. } | Kind::Quadratic { .. } | Kind::Beta { .. }))
        };
        for grid in kinds() {
            let error = grid.stops(&zero_snr()).unwrap_err();
            assert!(matches!(error, GridError::InfiniteLambda { t: 999.0, .. }), "{error:?}");
            assert!(error.to_string().contains("zero terminal SNR"), "{error}");
            let error = grid.stops(&RectifiedFlow::new()).unwrap_err();
            assert!(matches!(error, GridError::InfiniteLambda { t: 1.0, .. }), "{error:?}");
            grid.clone().between(998.0, 0.0).stops(&zero_snr()).unwrap();
        }
        Grid::trailing(5).stops(&zero_snr()).unwrap();
        Grid::uniform(5).stops(&zero_snr()).unwrap();
    }
}
