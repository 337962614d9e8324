//! Errors of plans with noise on Gaussian data: of their law, and along paths that plans share.

use super::reverse::{Reverse, clock};
use crate::common::affine::{Affine, VARIANCE, marginal, marginal_covariance, push, push_on};
use crate::common::law::law;
use crate::common::moments::Moments;
use crate::common::order::rms;
use crate::common::problem::{ends, gaussian, wide_gaussian};
use crate::common::response::push_back;
use crate::common::solvers::rows;
use langevin::core::Process;
use langevin::core::exact::Gaussian;
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, Draw, Reg, Row, Src, Term};
use std::collections::BTreeMap;

/// Mean and covariance of x/α that a plan gives to data, started from its exact marginal.
fn moments(process: &dyn Process, plan: &Plan, data: &Gaussian) -> Vec<f64> {
    let (noisy, clean) = ends(process);
    let level = process.level(noisy);
    let (mean, factor) = marginal(data, &level);
    let start = Moments { mean, covariance: marginal_covariance(data, &level) };
    let found = law(plan, data, &start).unwrap_or_else(|| {
        let affine = push(plan, data, &start.mean, &factor);
        Moments { covariance: affine.covariance(), mean: affine.mean }
    });
    let alpha = process.level(clean).alpha;
    found.mean.iter().map(|m| m / alpha).chain(found.covariance.iter().map(|c| c / (alpha * alpha))).collect()
}

/// Row by row the law of every plan is that of the directions of all its draws.
#[test]
fn laws_row_by_row_are_those_of_all_directions() {
    let data = gaussian();
    let mut compared = 0;
    for row in rows().iter().filter(|row| !row.known) {
        let plan = row.short();
        let level = plan.start_node().level;
        let (mean, factor) = marginal(&data, &level);
        let affine = push(&plan, &data, &mean, &factor);
        let start = Moments { mean, covariance: marginal_covariance(&data, &level) };
        let Some(law) = law(&plan, &data, &start) else { continue };
        assert!(rms(&law.mean, &affine.mean) < 1e-12, "{}", row.name);
        assert!(rms(&law.covariance, &affine.covariance()) < 1e-12, "{}", row.name);
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

/// From the last row to the first what the end owes to each draw is what all directions carry to it.
#[test]
fn responses_from_the_end_are_those_of_all_directions() {
    let data = gaussian();
    let mut compared = 0;
    for row in rows().iter().filter(|row| !row.known && row.is_noisy()) {
        let plan = along_shares(&row.short());
        let (mean, factor) = marginal(&data, &plan.start_node().level);
        let [back, forward] = [push_back, push_on].map(|push| push(&plan, &data, &mean, &factor, &[0.123, 0.456]));
        assert!(rms(&back.mean, &forward.mean) < 1e-12, "{}", row.name);
        assert!(rms(&back.columns.concat(), &forward.columns.concat()) < 1e-12, "{}", row.name);
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

/// Error of the mean and covariance of x/α; with all of its noise the law of a solution is that of the data.
pub fn weak_error(process: &dyn Process, plan: &Plan, (strength, factor): (&dyn Fn(f64) -> f64, f64)) -> f64 {
    let data = wide_gaussian();
    let exact = if factor == 1.0 {
        let end = process.level(ends(process).1);
        let covariance = marginal_covariance(&data, &end).into_iter().map(|c| c / (end.alpha * end.alpha));
        data.mean().iter().copied().chain(covariance).collect()
    } else {
        Reverse::new(&data, process, strength, factor).moments()
    };
    rms(&moments(process, plan, &data), &exact)
}

/// Difference of the means and covariances of x/α of two plans.
pub fn weak_difference(process: &dyn Process, plans: [&Plan; 2]) -> f64 {
    let data = gaussian();
    rms(&moments(process, plans[0], &data), &moments(process, plans[1], &data))
}

/// Root mean square distance of x/α at the end from the exact solution along the same path, for a plan that draws from it.
pub fn strong_error(process: &dyn Process, plan: &Plan, (strength, factor): (&dyn Fn(f64) -> f64, f64)) -> f64 {
    let data = gaussian();
    let solution = Reverse::new(&data, process, strength, factor);
    let (noisy, clean) = ends(process);
    let (start, end) = (process.level(noisy), process.level(clean));
    // The stretches of the path: a solver may leave the noise of one out, and ask for parts of another.
    let ends = plan.rows().iter().filter(|row| row.step.is_some()).map(|row| clock(&row.after.level));
    let mut clocks: Vec<f64> = std::iter::once(clock(&start)).chain(ends).chain(asked(plan)).collect();
    clocks.sort_unstable_by(f64::total_cmp);
    clocks.dedup();
    let (mean, seeds) = marginal(&data, &start);
    let affine = push_back(plan, &data, &mean, &seeds, &clocks);
    assert_eq!(affine.columns.len(), 2 * clocks.len(), "two for the start and for each stretch");
    let distance = |column: &[f64], exact: [f64; 2]| (column[0] - exact[0]).powi(2) + (column[1] - exact[1]).powi(2);
    let mut squares = distance(&affine.mean, [0, 1].map(|i| end.alpha * data.mean()[i]));
    for (column, seed) in affine.columns.iter().zip(&seeds) {
        squares += distance(column, solution.carried_start(seed));
    }
    for (k, stretch) in clocks.windows(2).enumerate() {
        let columns = &affine.columns[2 + 2 * k..4 + 2 * k];
        // What is after the end, or before the start, is of no path of the solution.
        if stretch[0] >= clock(&end) * (1.0 - 1e-9) {
            squares += columns.iter().map(|column| distance(column, [0.0; 2])).sum::<f64>();
            continue;
        }
        let per_clock = (stretch[1] - stretch[0]).sqrt().recip();
        for (weight, map) in solution.responses(stretch[0], stretch[1]) {
            for (j, column) in columns.iter().enumerate() {
                let column = [column[0] * per_clock, column[1] * per_clock];
                squares += weight * distance(&column, [map[j], map[2 + j]]);
            }
        }
    }
    (squares / 2.0).sqrt() / end.alpha
}

/// Root mean square distance of x/α at the end of two plans that draw from the same paths.
pub fn strong_difference(process: &dyn Process, plans: [&Plan; 2]) -> f64 {
    let data = gaussian();
    let (noisy, clean) = ends(process);
    let (mean, factor) = marginal(&data, &process.level(noisy));
    let clocks: Vec<f64> = plans.iter().flat_map(|plan| asked(plan)).collect();
    let [a, b]: [Affine; 2] = plans.map(|plan| push_back(plan, &data, &mean, &factor, &clocks));
    assert_eq!(a.columns.len(), b.columns.len(), "the same paths");
    let columns = a.columns.concat().into_iter().zip(b.columns.concat());
    let squares = columns.chain(a.mean.into_iter().zip(b.mean)).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    (squares / 2.0).sqrt() / process.level(clean).alpha
}

/// The ends of the intervals that a plan draws.
fn asked(plan: &Plan) -> Vec<f64> {
    let draws = plan.rows().iter().flat_map(|row| &row.draws);
    let ends = |draw: &Draw| match *draw {
        Draw::Path { from, until, .. } => [from, until],
        _ => panic!("noise along a path"),
    };
    draws.flat_map(ends).collect()
}

/// The plan with other draws: `interval` says for each of white noise from where to where it follows a path. A draw that is
/// used again later is the same.
fn redrawn(plan: &Plan, mut interval: impl FnMut(&Place<'_>) -> (f64, f64)) -> Plan {
    let mut rows = plan.rows().to_vec();
    // What a register's noise is multiplied by.
    let mut scales = BTreeMap::new();
    for place in places(plan) {
        let row = &mut rows[place.row];
        let draw = &mut row.draws[place.draw];
        let to = draw.register();
        if matches!(draw, Draw::Path { .. }) {
            scales.insert((place.row, to), 1.0);
            continue;
        }
        let (from, until) = interval(&place);
        assert!(until > from, "{}: a draw from {from} to {until}", plan.name());
        *draw = Draw::Path { to, from, until };
        scales.insert((place.row, to), 1.0 / (until - from).sqrt());
    }
    let mut now: BTreeMap<Reg, f64> = BTreeMap::new();
    for (index, row) in rows.iter_mut().enumerate() {
        now.extend(row.draws.iter().map(|draw| (draw.register(), scales[&(index, draw.register())])));
        for term in row.pre.iter_mut().chain(&mut row.post).flat_map(|set| &mut set.sum) {
            scale(term, &now);
        }
    }
    Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows).expect("still a plan")
}

/// Multiplies a term of noise by the scale of its register.
fn scale(term: &mut Term, scales: &BTreeMap<Reg, f64>) {
    let Src::Z(register) = term.of else { return };
    let factor = scales[&register];
    term.c = match term.c {
        Coef::C(c) => Coef::C(c * factor),
        // Bounds are those of logarithms of variances.
        Coef::LearnedStd { slot, log_min, log_max } => {
            let more = 2.0 * factor.ln();
            Coef::LearnedStd { slot, log_min: log_min + more, log_max: log_max + more }
        }
        // What the network says everywhere.
        Coef::PredictedStd { .. } => Coef::C(VARIANCE.sqrt() * factor),
    };
}

/// A draw: where it stands, in which step, and which of how many there.
struct Place<'a> {
    row: usize,
    /// Its row among those of its step.
    within: usize,
    draw: usize,
    /// The rows of its step.
    step: &'a [Row],
    /// The step's place among all.
    index: usize,
    /// Its place among the draws of its step.
    number: usize,
    of: usize,
    /// Its place among all draws.
    count: usize,
    /// The clock at which the step begins.
    begin: f64,
}

fn places(plan: &Plan) -> Vec<Place<'_>> {
    let (rows, mut begin, mut first) = (plan.rows(), clock(&plan.start_node().level), 0);
    let (mut found, mut index) = (Vec::new(), 0);
    while first < rows.len() {
        let last = first + rows[first..].iter().position(|row| row.step.is_some()).expect("a step ends");
        let step = &rows[first..=last];
        let of = step.iter().map(|row| row.draws.len()).sum();
        let draws = step.iter().enumerate().flat_map(|(row, of)| (0..of.draws.len()).map(move |draw| (row, draw)));
        for (number, (row, draw)) in draws.enumerate() {
            let count = found.len();
            found.push(Place { row: first + row, within: row, draw, step, index, number, of, count, begin });
        }
        begin = clock(&rows[last].after.level);
        (first, index) = (last + 1, index + 1);
    }
    found
}

/// The plan with the noise of a Brownian path in the clock α²/σ² in place of white noise. A step's only draw has that of the
/// step, another that of the way since the last one, or since the step began.
pub fn along_path(plan: &Plan) -> Plan {
    let mut since = (usize::MAX, 0.0);
    redrawn(plan, |place| {
        let ends = if place.of == 1 { place.step.len() - 1 } else { place.within };
        let until = clock(&place.step[ends].after.level);
        let from = if since.0 == place.index { since.1 } else { place.begin };
        since = (place.index, until);
        (from, until)
    })
}

/// As [`along_path`], for a plan of which so many steps are a whole one, all but the last of them stages. Each stage draws noise of
/// its own, that of a path beyond the end; the last has the noise of the whole way.
pub fn along_path_apart(plan: &Plan, stages: usize) -> Plan {
    let beyond = 2.0 * clock(&plan.rows()[plan.rows().len() - 1].after.level);
    let mut begin = 0.0;
    redrawn(plan, |place| {
        assert_eq!(place.of, 1, "a draw a step");
        let until = clock(&place.step[place.step.len() - 1].after.level);
        let stage = place.index % stages;
        if stage == 0 {
            begin = place.begin;
        }
        if stage + 1 == stages {
            return (begin, until);
        }
        // Each on a stretch that no other stage sees.
        let beyond = beyond * (stage + 1) as f64;
        (beyond + begin, beyond + until)
    })
}

/// As [`along_path`], for a plan of which so many steps are a whole one, whose only draw is in the first: it has the noise of the
/// whole way.
pub fn along_path_whole(plan: &Plan, stages: usize) -> Plan {
    let ends: Vec<f64> =
        plan.rows().iter().filter(|row| row.step.is_some()).map(|row| clock(&row.after.level)).collect();
    redrawn(plan, |place| {
        assert_eq!(place.index % stages, 0, "a draw where a whole step begins");
        (place.begin, ends[place.index + stages - 1])
    })
}

/// The plan along Brownian paths over the share of steps taken: the k-th draw of a step is of the k-th path.
pub fn along_shares(plan: &Plan) -> Plan {
    let steps = plan.rows().iter().filter(|row| row.step.is_some()).count() as f64;
    redrawn(plan, |place| {
        let (path, index) = (2.0 * place.number as f64, place.index as f64);
        (path + index / steps, path + (index + 1.0) / steps)
    })
}

/// The plan with its k-th draw made the k-th of all plans.
pub fn by_number(plan: &Plan) -> Plan {
    redrawn(plan, |place| (place.count as f64, place.count as f64 + 1.0))
}

/// The plan with independent white noise in place of each increment of a path.
pub fn independent(plan: &Plan) -> Plan {
    let mut rows = plan.rows().to_vec();
    for row in &mut rows {
        for draw in &mut row.draws {
            let Draw::Path { to, from, until } = *draw else { panic!("a path") };
            *draw = Draw::White { to, lane: to };
            let terms = row.post.iter_mut().flat_map(|set| &mut set.sum).filter(|term| term.of == Src::Z(to));
            for term in terms {
                let Coef::C(c) = term.c else { panic!("a number") };
                term.c = Coef::C(c * (until - from).sqrt());
            }
        }
    }
    Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows).expect("still a plan")
}
