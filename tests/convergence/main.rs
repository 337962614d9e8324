//! Orders of convergence, and identities between solvers, processes and predictions, in `f64` on exact problems.
//!
//! The levels go from λ = −2 to λ = 2 on every process and every number of steps; errors are against a reference good
//! to 1e-13; the slope is the regression over the last three doublings whose errors are above 1e-11, of strong errors over four.
//! `LANGEVIN_WRITE_DOCS=1` writes the tables to `docs/orders.md`, `docs/orders-with-noise.md` and `docs/orders-along-paths.md`.

#![allow(clippy::print_stdout, reason = "the table of orders is the result")]

#[path = "../common/mod.rs"]
mod common;
mod distilled;
mod errors;
mod levels;
mod mutations;
mod pages;
mod picture;
mod reverse;
mod samplers;
mod strong;

use common::affine::{marginal, push_on};
use common::order::{Errors, rms};
use common::parallel::each;
use common::problem::{LAMBDA, ask_gaussian, ends, even_lambda, even_time, gaussian, processes};
use common::solvers::{Claim, Kind, Row, rows};
use common::{reference, roster};
use errors::{noise_error, path_error, paths, started_error, upward_error};
use langevin::core::grid::End;
use langevin::core::noise::Injected;
use langevin::core::process::{Betas, ChainEnd, DiscreteChain};
use langevin::core::{Grid, Level, Process};
use langevin::schedulers::exponential::DpmSolverSde;
use langevin::schedulers::plan::{Coef, Src};
use langevin::schedulers::{Ddim, Ddpm, EulerMaruyama, Plan, Solver};
use reverse::{Reverse, clock, strength};
use std::path::Path;
use std::sync::OnceLock;
use strong::{
    along_path, along_path_apart, along_path_whole, along_shares, by_number, independent, strong_difference,
    strong_error, weak_difference, weak_error,
};

/// Slopes may be this far from the order.
const TOLERANCE: f64 = 0.1;

/// How many of the last numbers of steps a slope is fitted to.
const fn points(kind: Kind) -> usize {
    if kind.is_strong() { 5 } else { 4 }
}

/// Measured orders of a solver on each process.
struct Line {
    solver: &'static str,
    kind: Kind,
    grid: &'static str,
    order: f64,
    /// What stands for it on EDM.
    on_edm: f64,
    /// How far from it slopes may be.
    tolerance: f64,
    /// None on processes that do not begin where errors are measured from.
    slopes: Vec<Option<f64>>,
    /// Those of the last doubling alone.
    last: Vec<Option<f64>>,
    /// Half of the interval of each slope, where points were drawn.
    halves: Option<Vec<f64>>,
    /// The smallest error measured, over all processes.
    smallest: f64,
}

/// Even in λ, but for its start.
const FINE: &str = "fine start";
const FROM_NOISE: &str = "from pure noise";

/// How levels are spaced.
#[derive(Clone, Copy)]
struct Spacing {
    name: &'static str,
    of: fn(&dyn Process, usize) -> Grid,
}

const EVEN_LAMBDA: Spacing = Spacing { name: "even in λ", of: even_lambda };
const EVEN_TIME: Spacing = Spacing { name: "even in t", of: even_time };

fn measured() -> &'static [Line] {
    static LINES: OnceLock<Vec<Line>> = OnceLock::new();
    LINES.get_or_init(|| {
        let table = rows();
        let claims = || table.iter().flat_map(|row| row.claims.iter().map(move |claim| (row, claim)));
        let mut wanted = Vec::new();
        for grid in [EVEN_LAMBDA, EVEN_TIME] {
            for known in KINDS {
                let claims = claims().filter(|(_, claim)| known(claim.kind));
                wanted.extend(claims.filter_map(|(row, claim)| Some((row, claim.on(grid)?, grid))));
            }
        }
        let fine = claims().filter(|(_, claim)| claim.kind == Kind::FineStart);
        wanted.extend(fine.map(|(row, claim)| (row, *claim, Spacing { name: FINE, of: fine_start })));
        let begun = claims().filter(|(_, claim)| claim.kind == Kind::FromNoise);
        wanted.extend(begun.map(|(row, claim)| (row, *claim, Spacing { name: FROM_NOISE, of: from_noise })));
        // Solvers are not sent between threads: each line makes its own.
        let wanted: Vec<_> = wanted.into_iter().map(|(row, claim, grid)| (row.name, claim, grid)).collect();
        let mut lines = each(wanted.len(), |index| {
            let (name, claim, grid) = wanted[index];
            let row = rows().into_iter().find(|row| row.name == name).expect("the same rows");
            line(&row, claim, grid)
        });
        lines.extend(samplers::lines());
        lines
    })
}

impl Claim {
    /// It on a grid, if it is claimed there.
    fn on(&self, grid: Spacing) -> Option<Self> {
        if grid.name != EVEN_TIME.name {
            return Some(Self { even_in_sigma: None, ..*self });
        }
        self.in_time.map(|(first, doublings)| Self { first, doublings, ..*self })
    }
}

/// Even in λ, but for a start whose steps double from h²/4 to h.
fn fine_start(process: &dyn Process, n: usize) -> Grid {
    let h = (LAMBDA.1 - LAMBDA.0) / n as f64;
    let (mut lambdas, mut step) = (vec![LAMBDA.0], 0.25 * h * h);
    // Four equal ones first, so that the doubling begins with all slopes there.
    for k in 0.. {
        if step >= h {
            break;
        }
        lambdas.push(lambdas[k] + step);
        step *= if k < 3 { 1.0 } else { 2.0 };
    }
    let start = lambdas[lambdas.len() - 1];
    let rest = (LAMBDA.1 - start) / n as f64;
    lambdas.extend((1..=n).map(|i| start + rest * i as f64));
    let (noisy, clean) = ends(process);
    let last = lambdas.len() - 1;
    let time = |(i, lambda): (usize, &f64)| match i {
        0 => noisy,
        i if i == last => clean,
        _ => process.time_at_lambda(*lambda).expect("in range"),
    };
    Grid::times(lambdas.iter().enumerate().map(time).collect()).expect("falling").ending(End::Range)
}

/// Whether a process begins in pure noise.
fn begins_in_noise(process: &dyn Process) -> bool {
    process.level(process.time_range().1).alpha == 0.0
}

/// From pure noise to λ = −ln n in one step, and from there on even in λ: all steps but the first become shorter in λ, and the
/// first ends where α is about 1/n.
fn from_noise(process: &dyn Process, n: usize) -> Grid {
    let (begin, (_, clean)) = (-(n as f64).ln(), ends(process));
    let time = |i: usize| match i {
        0 => process.time_range().1,
        i if i == n => clean,
        i => {
            let lambda = begin + (LAMBDA.1 - begin) * (i - 1) as f64 / (n - 1) as f64;
            process.time_at_lambda(lambda).expect("in range")
        }
    };
    Grid::times((0..=n).map(time).collect()).expect("falling").ending(End::Range)
}

/// The order of the table.
const KINDS: [fn(Kind) -> bool; 5] = [
    |kind| kind == Kind::Path,
    |kind| kind == Kind::Upwards,
    |kind| matches!(kind, Kind::Started { .. }),
    Kind::is_weak,
    Kind::is_strong,
];

/// The error of a claim in so many steps.
fn error(row: &Row, claim: &Claim, process: &dyn Process, n: usize, spacing: Spacing) -> f64 {
    changed_error(row, claim, process, (n, spacing), |plan| plan)
}

/// The same of a plan that is changed; one that it is compared with is not.
fn changed_error(
    row: &Row,
    claim: &Claim,
    process: &dyn Process,
    (n, spacing): (usize, Spacing),
    change: impl Fn(Plan) -> Plan,
) -> f64 {
    let kind = claim.kind;
    let plan_of = |n: usize| {
        let grid = (spacing.of)(process, n);
        let grid = if kind == Kind::Upwards { grid.inverted() } else { grid };
        let plan = row.solver.plan(process, &grid).expect("a plan");
        // A fine start has more.
        assert!(plan.steps() >= n, "{}: {} steps of {n}", row.name, plan.steps());
        plan
    };
    // Odd numbers: at λ = 0 EDM's time is 0, where what LCM says is the state itself.
    let plan = change(plan_of(if kind == Kind::WeakJumping { 2 * n + 1 } else { n }));
    let tau = strength(claim.sde, process, spacing.name == EVEN_TIME.name);
    let sde: (&dyn Fn(f64) -> f64, f64) = (&*tau, claim.sde.factor);
    let with_twice = |redraw: fn(&Plan) -> Plan| [redraw(&plan), redraw(&plan_of(2 * n))];
    match kind {
        Kind::Path | Kind::FineStart => path_error(process, &plan),
        Kind::FromNoise => noise_error(process, &plan),
        Kind::Upwards => upward_error(process, &plan),
        Kind::Started { before } => started_error(process, &plan, before),
        Kind::Weak => weak_error(process, &plan, sde),
        Kind::WeakJumping => distilled::error(row.name, &plan, process, &(spacing.of)(process, 2 * n + 1)),
        Kind::WeakItself => weak_difference(process, [&plan, &plan_of(2 * n)]),
        Kind::Strong => strong_error(process, &along_path(&plan), sde),
        Kind::StrongApart { stages } => strong_error(process, &along_path_apart(&plan, stages), sde),
        Kind::StrongWhole { stages } => strong_error(process, &along_path_whole(&plan, stages), sde),
        Kind::StrongItself => strong_difference(process, with_twice(along_shares).each_ref()),
        Kind::StrongDraws => strong_difference(process, with_twice(by_number).each_ref()),
    }
}

fn line(row: &Row, claim: Claim, spacing: Spacing) -> Line {
    let (mut slopes, mut last) = (Vec::new(), Vec::new());
    let mut smallest = f64::INFINITY;
    for (_, process) in processes() {
        if claim.kind == Kind::FromNoise && !begins_in_noise(&process) {
            slopes.push(None);
            last.push(None);
            continue;
        }
        let errors = Errors::measure(claim.first, claim.doublings, |n| error(row, &claim, &process, n, spacing));
        // Without errors above rounding there is no slope.
        let is_exact = claim.kind == Kind::WeakJumping && errors.errors.is_empty();
        slopes.push(Some(if is_exact { f64::INFINITY } else { errors.slope_over(points(claim.kind)) }));
        last.push((!is_exact).then(|| errors.slope_over(2)));
        smallest = errors.errors.iter().copied().fold(smallest, f64::min);
    }
    let tolerance = TOLERANCE;
    Line {
        solver: row.name,
        kind: claim.kind,
        grid: spacing.name,
        order: claim.order,
        on_edm: claim.even_in_sigma.unwrap_or(claim.order),
        tolerance,
        slopes,
        last,
        halves: None,
        smallest,
    }
}

fn check(kind: impl Fn(Kind) -> bool) {
    let mut wrong = Vec::new();
    for line in measured().iter().filter(|line| kind(line.kind)) {
        assert!(line.slopes.iter().any(Option::is_some), "{}: no process begins there", line.solver);
        for (index, ((name, _), slope)) in processes().iter().zip(&line.slopes).enumerate() {
            let Some(slope) = slope else { continue };
            let order = if *name == "EDM" { line.on_edm } else { line.order };
            // All of an interval is to be near the order.
            let half = line.halves.as_ref().map_or(0.0, |halves| halves[index]);
            // Where there is no order errors do not fall; they may grow.
            let is_as_claimed = match order {
                0.0 => slope + half <= line.tolerance,
                f64::INFINITY => *slope == f64::INFINITY,
                order => (slope - order).abs() + half <= line.tolerance,
            };
            if !is_as_claimed {
                wrong.push(format!("{} on {name}, {}: {slope:.3}, expected {order}", line.solver, line.grid));
            }
        }
    }
    assert!(wrong.is_empty(), "orders that are not as claimed:\n{}", wrong.join("\n"));
}

/// How far from the order the slope of the last doubling alone may be.
const LAST_DOUBLING: f64 = 0.12;

/// Rows whose last doubling alone has another slope, and why.
const UNEVEN: [(&str, &str); 1] = [(
    "UniC-4 behind LMS of order 4",
    "its errors come to the floor of `f64` before they fall evenly: by the powers 5.6, 4.7 and 4.8 in its last doublings",
)];

/// No slope is an order because steeper and flatter ones make up for one another.
#[test]
fn the_last_doubling_alone_falls_by_the_order() {
    let (mut wrong, mut seen, mut count) = (Vec::new(), std::collections::BTreeSet::new(), 0);
    for line in measured().iter().filter(|line| line.order > 0.0) {
        for ((name, _), last) in processes().iter().zip(&line.last) {
            let order = if *name == "EDM" { line.on_edm } else { line.order };
            let Some(last) = last.filter(|last| !((last - order).abs() <= LAST_DOUBLING)) else {
                count += usize::from(last.is_some());
                continue;
            };
            match UNEVEN.iter().find(|(solver, _)| *solver == line.solver) {
                Some((solver, _)) => _ = seen.insert(*solver),
                None => wrong.push(format!("{} on {name}, {}: {last:.3}, expected {order}", line.solver, line.grid)),
            }
        }
    }
    assert!(wrong.is_empty(), "last doublings that are not as claimed:\n{}", wrong.join("\n"));
    assert_eq!(seen.len(), UNEVEN.len(), "rows of UNEVEN that are even");
    assert!(count > 3000, "{count}");
}

#[test]
fn deterministic_solvers_have_their_orders() {
    check(|kind| matches!(kind, Kind::Path | Kind::FineStart | Kind::FromNoise));
}

#[test]
fn solvers_without_noise_have_their_orders_from_data_to_noise() {
    check(|kind| kind == Kind::Upwards);
}

#[test]
fn multistep_solvers_have_their_orders_once_they_are_started() {
    check(|kind| matches!(kind, Kind::Started { .. }));
}

#[test]
fn stochastic_solvers_have_their_weak_orders() {
    check(Kind::is_weak);
}

#[test]
fn stochastic_solvers_have_their_strong_orders() {
    check(Kind::is_strong);
}

/// Both draws of a step of DPM-Solver++ SDE are of one path. Independent ones lose the order.
#[test]
fn independent_draws_for_overlapping_times_lose_the_order() {
    for (name, process) in processes() {
        let errors = Errors::measure(64, 4, |n| {
            let plan = DpmSolverSde::new().plan(&process, &even_lambda(&process, n)).expect("a plan");
            weak_error(&process, &independent(&plan), (&|_| 1.0, 1.0))
        });
        assert!((errors.slope() - 1.0).abs() <= TOLERANCE, "{name}: {}", errors.slope());
    }
}

/// With noise of every strength the solution keeps the law of the data, so that distances from it are from the right one.
#[test]
fn solutions_along_a_path_have_the_law_of_the_data() {
    let data = gaussian();
    let strengths: Vec<_> = rows().iter().flat_map(|row| row.claims.clone()).map(|claim| claim.sde).collect();
    for (name, process) in processes() {
        for sde in &strengths {
            for even_in_time in [false, true] {
                let tau = strength(*sde, &process, even_in_time);
                let exact = |factor| {
                    let moments = Reverse::new(&data, &process, &*tau, factor).moments();
                    let clean = process.level(ends(&process).1);
                    let own = common::affine::marginal_covariance(&data, &clean);
                    let own = own.iter().map(|c| c / (clean.alpha * clean.alpha));
                    rms(&moments, &data.mean().iter().copied().chain(own).collect::<Vec<_>>())
                };
                assert!(exact(1.0) < 1e-8, "{name}, {sde:?}: {:e}", exact(1.0));
                assert!(exact(0.98) > 1e-4, "{name}, {sde:?}: {:e}", exact(0.98));
            }
        }
    }
}

#[test]
fn the_reference_is_good_to_1e_13() {
    let (coarse, fine) = (paths(64), paths(96));
    assert!(rms(&coarse, &fine) < 1e-13, "{:e}", rms(&coarse, &fine));
    // And it solves the ODE: on one component it agrees with the closed form.
    let g = gaussian();
    let one =
        langevin::core::exact::GaussianMixture::new(vec![1.0], vec![g.mean().to_vec()], vec![g.covariance().to_vec()])
            .expect("a mixture of one");
    let level = |lambda: f64| Level { alpha: 1.0, sigma: (-lambda).exp(), time: 0.0 };
    let y = [3.0, -5.0];
    let exact = g.flow(&y, &level(LAMBDA.0), &level(LAMBDA.1)).expect("a plane");
    assert!(rms(&reference::flow(&one, &y, LAMBDA, 64), &exact) < 1e-13);
}

/// On a Gaussian the closed form itself is the reference.
#[test]
fn deterministic_solvers_converge_to_the_closed_form_of_a_gaussian() {
    let data = gaussian();
    let mut wrong = Vec::new();
    for row in rows() {
        let Some(claim) = row.claims.iter().find(|claim| claim.kind == Kind::Path) else { continue };
        let (solver, order) = (row.name, claim.order);
        for (name, process) in processes() {
            let (noisy, clean) = ends(&process);
            let x = [1.5, -0.3];
            let exact = data.flow(&x, &process.level(noisy), &process.level(clean)).expect("a plane");
            let errors = Errors::measure(claim.first, claim.doublings, |n| {
                let plan = row.solver.plan(&process, &even_lambda(&process, n)).expect("a plan");
                rms(&plan.run_host(x.to_vec(), 0, &Injected::new(), ask_gaussian(&data)).expect("a run"), &exact)
            });
            let slope = errors.slope();
            if !((slope - order).abs() < TOLERANCE) {
                wrong.push(format!("{solver} on {name}: {slope} from {:?}", errors.errors));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two plans with other steps see the same Brownian path: the finer one is nearer to the same end.
#[test]
fn euler_maruyama_converges_along_one_path() {
    let data = gaussian();
    let (_, process) = processes().remove(0);
    let (mean, factor) = marginal(&data, &process.level(ends(&process).0));
    let plan = |n| EulerMaruyama::new().path().plan(&process, &even_lambda(&process, n)).expect("a plan");
    let clocks: Vec<f64> = plan(64).rows().iter().map(|row| clock(&row.after.level)).collect();
    let first = clock(&plan(64).start_node().level);
    let clocks: Vec<f64> = std::iter::once(first).chain(clocks).collect();
    let ends: Vec<_> = [16, 32, 64].map(|n| push_on(&plan(n), &data, &mean, &factor, &clocks)).into();
    let distance = |a: usize, b: usize| {
        let flat = |k: usize| ends[k].columns.concat();
        assert_eq!(flat(a).len(), flat(b).len());
        rms(&flat(a), &flat(b))
    };
    assert!(distance(1, 2) < 0.6 * distance(0, 1), "{} and {}", distance(1, 2), distance(0, 1));
}

/// The committed tables name the same solvers, and their slopes are those measured here, up to the last digit.
#[test]
fn the_tables_of_orders_are_up_to_date() {
    let writes = std::env::var_os("LANGEVIN_WRITE_DOCS").is_some();
    for (name, now) in pages::pages() {
        println!("{now}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        if writes {
            std::fs::write(&path, &now).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let rows = |text: &str| -> Vec<Vec<String>> {
            let rows = text.lines().filter(|line| line.starts_with('|'));
            rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
        };
        let (old, new) = (rows(&committed), rows(&now));
        assert!(new.len() > 100, "{name} has {} rows", new.len());
        assert_eq!(old.len(), new.len(), "{name} has other rows; write it with LANGEVIN_WRITE_DOCS=1");
        for (old, new) in old.iter().zip(&new) {
            // The last number is a size, not a claim.
            for (old, new) in old.iter().zip(new).take(new.len() - 2) {
                let same = match (old.parse::<f64>(), new.parse::<f64>()) {
                    (Ok(old), Ok(new)) => (old - new).abs() < 0.015,
                    _ => old == new,
                };
                assert!(same, "{name} says {old}, measured {new}; write it with LANGEVIN_WRITE_DOCS=1");
            }
        }
    }
}

/// Coefficients of (x, x̂_0, z) in a row, with ε̂ = (x − α·x̂_0)/σ put in.
fn posterior_form(plan: &Plan, row: usize) -> [f64; 3] {
    let row = &plan.rows()[row];
    let eval = row.eval.expect("one evaluation a row");
    let mut sums = [0.0; 3];
    for term in &row.post[0].sum {
        let Coef::C(c) = term.c else { panic!("a learned coefficient") };
        match term.of {
            Src::X(_) => sums[0] += c,
            Src::X0(_) => sums[1] += c,
            Src::Eps(_) => {
                sums[0] += c / eval.at.sigma;
                sums[1] -= c * eval.at.alpha / eval.at.sigma;
            }
            Src::Z(_) => sums[2] += c,
            Src::Aux(_) => panic!("nothing is given"),
        }
    }
    sums
}

#[test]
fn ddim_with_eta_1_is_the_ddpm_posterior() {
    let chains = [
        Betas::Linear { start: 1e-4, end: 0.02 },
        Betas::SquaredCosine,
        Betas::ScaledLinear { start: 8.5e-4, end: 0.012 },
    ];
    let grids = [
        Grid::leading(1000),
        Grid::leading(50),
        Grid::leading(20).offset(1),
        Grid::leading(7).strided(),
        Grid::trailing(10),
        Grid::linspace(25).strided(),
        Grid::linspace(13),
        Grid::times(vec![999.0, 500.0, 3.0]).expect("falling"),
    ];
    let ddim = Ddim::new().eta(1.0).expect("in range");
    let mut rows = 0;
    for betas in chains {
        for end in [ChainEnd::Clean, ChainEnd::FirstStep] {
            let chain = DiscreteChain::new(betas.clone(), 1000).expect("a chain").ending(end);
            for grid in &grids {
                let a = ddim.plan(&chain, grid).expect("a DDIM plan");
                let b = Ddpm::new().plan(&chain, grid).expect("a DDPM plan");
                assert_eq!(a.steps(), b.steps());
                for row in 0..a.rows().len() {
                    let (mine, theirs) = (posterior_form(&a, row), posterior_form(&b, row));
                    for (m, t) in mine.iter().zip(theirs) {
                        assert!((m - t).abs() < 1e-12, "{betas:?} {grid:?} row {row}: {mine:?} and {theirs:?}");
                    }
                    rows += 1;
                }
            }
        }
    }
    assert!(rows > 6000);
}

/// Every row has a claim, or says why not; every one without noise has an order of its paths, and every one with noise a weak
/// and a strong order, or claims that there is none and says why.
#[test]
fn every_solver_has_a_row() {
    let rows = rows();
    for row in &rows {
        let has = |of: fn(Kind) -> bool| row.claims.iter().any(|claim| of(claim.kind));
        let name = row.name;
        if row.is_noisy() {
            assert!(has(Kind::is_weak) && has(Kind::is_strong), "{name}: a weak and a strong order");
            let fits = row.claims.iter().all(|claim| claim.kind.is_weak() || claim.kind.is_strong());
            assert!(fits, "{name}: claims about paths without noise");
        } else {
            assert!(!has(Kind::is_weak) && !has(Kind::is_strong), "{name}: it has no noise");
            assert!(row.claims.is_empty() == row.no_order.is_some(), "{name}: one of an order and a reason for none");
        }
        // Only what has a law of its own may be compared with itself or with a law of less noise, or not converge.
        let own = |claim: &Claim| {
            claim.order == 0.0 || claim.kind != Kind::Weak && claim.kind.is_weak() || claim.sde.factor != 1.0
        };
        let is_own = row.claims.iter().any(own);
        assert!(is_own == row.own_law.is_some(), "{name}: a law of its own, and the reason for it");
    }
    let claimed = rows.iter().filter(|row| !row.claims.is_empty());
    roster::assert_complete(&roster::solvers(), claimed.map(|row| row.of), &[]);
}
