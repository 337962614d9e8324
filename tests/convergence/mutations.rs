//! A number of a plan that is larger by a hundredth, or where that is lost behind other errors by a tenth, in every step that has
//! it, costs the solver its order: plans are compared with exact solutions, and those whose law is their own with what they come
//! to unchanged.
//!
//! Errors fall as claimed from some numbers of steps to twice as many; of a changed plan they do not, at the end of the run or of
//! its first steps, or of a step alone. `hidden_numbers.txt` has what no error shows, with the reasons.

use super::{EVEN_LAMBDA, FINE, Spacing, TOLERANCE, changed_error, fine_start};
use crate::common::affine::{marginal, marginal_covariance};
use crate::common::law::law;
use crate::common::moments::Moments;
use crate::common::order::{FLOOR, rms};
use crate::common::parallel::each;
use crate::common::problem::{LAMBDA, STARTS, ask_mixture, even_lambda, mixture, processes, wide_gaussian};
use crate::common::reference;
use crate::common::solvers::{Claim, Kind, Row as Solver, Sde, Strength, rows};
use langevin::core::noise::Injected;
use langevin::core::{Level, Process};
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, Draw, Row, Set, Src, Term};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A hundredth more; where that is lost behind other errors, a tenth.
const FACTORS: [f64; 2] = [1.01, 1.1];

/// A number of a row of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    /// The coefficient of a term of an assignment before the question: which assignment, and which term.
    Pre(usize, usize),
    /// The same after the question.
    Post(usize, usize),
    /// The larger bound of a learned variance, after the question.
    LargestVariance(usize, usize),
    /// α of the question.
    Alpha,
    /// σ of the question.
    Sigma,
    /// Where a draw's interval of a path begins.
    From(usize),
    /// Where it ends.
    Until(usize),
}

/// What steps that are alike have in common: what each sum is of, what is drawn, and what is asked. Slots, which take turns, are
/// named in the order in which they come.
fn shape(rows: &[Row]) -> String {
    let mut slots = Vec::new();
    let mut name = |slot: u8| {
        let known = slots.iter().position(|known| *known == slot);
        known.unwrap_or_else(|| {
            slots.push(slot);
            slots.len() - 1
        })
    };
    let mut text = String::new();
    for row in rows {
        row.draws.iter().for_each(|draw| text += &format!("draw z{}, ", draw.register()));
        let sums = |sets: &[Set], text: &mut String, name: &mut dyn FnMut(u8) -> usize| {
            for set in sets {
                let of = |term: &Term| match term.of {
                    Src::X0(slot) => format!("x̂0[{}]", name(slot)),
                    Src::Eps(slot) => format!("ε̂[{}]", name(slot)),
                    other => other.to_string(),
                };
                let terms: Vec<String> = set.sum.iter().map(of).collect();
                *text += &format!("x{} = {}, ", set.to, terms.join(" + "));
            }
        };
        sums(&row.pre, &mut text, &mut name);
        if let Some(eval) = row.eval {
            text += &format!("ask x{} into {}, ", eval.x, name(eval.into));
        }
        sums(&row.post, &mut text, &mut name);
    }
    text
}

/// The rows of each step, from the first to the one behind the last.
fn steps(plan: &Plan) -> Vec<(usize, usize)> {
    let (mut found, mut first) = (Vec::new(), 0);
    for (index, row) in plan.rows().iter().enumerate() {
        if row.step.is_some() {
            found.push((first, index + 1));
            first = index + 1;
        }
    }
    found
}

/// The numbers of a step: the row of each, and which it is there.
fn numbers(rows: &[Row]) -> Vec<(usize, Number)> {
    let mut found = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        for (sets, make) in [(&row.pre, Number::Pre as fn(usize, usize) -> Number), (&row.post, Number::Post)] {
            for (set, it) in sets.iter().enumerate() {
                for (term, of) in it.sum.iter().enumerate() {
                    match of.c {
                        Coef::C(_) => found.push((index, make(set, term))),
                        Coef::LearnedStd { .. } => {
                            found.extend([(index, make(set, term)), (index, Number::LargestVariance(set, term))]);
                        }
                        // It is the network's number.
                        Coef::PredictedStd { .. } => {}
                    }
                }
            }
        }
        if row.eval.is_some() {
            found.extend([(index, Number::Alpha), (index, Number::Sigma)]);
        }
        for (draw, of) in row.draws.iter().enumerate() {
            if matches!(of, Draw::Path { .. }) {
                found.extend([(index, Number::From(draw)), (index, Number::Until(draw))]);
            }
        }
    }
    found
}

/// The plan with a number larger in all steps of a shape.
fn changed(plan: &Plan, of: &str, (index, number): (usize, Number), factor: f64) -> Plan {
    let mut rows = plan.rows().to_vec();
    for (first, behind) in steps(plan) {
        if shape(&plan.rows()[first..behind]) != of {
            continue;
        }
        let row = &mut rows[first + index];
        match number {
            Number::Pre(set, term) => enlarge(&mut row.pre[set].sum[term].c, factor, false),
            Number::Post(set, term) => enlarge(&mut row.post[set].sum[term].c, factor, false),
            Number::LargestVariance(set, term) => enlarge(&mut row.post[set].sum[term].c, factor, true),
            Number::Alpha => row.eval.as_mut().expect("a question").at.alpha *= factor,
            Number::Sigma => row.eval.as_mut().expect("a question").at.sigma *= factor,
            Number::From(draw) | Number::Until(draw) => {
                let Draw::Path { from, until, .. } = &mut row.draws[draw] else { panic!("a path") };
                // By a share of the interval, so that it is one still.
                let more = (factor - 1.0) * (*until - *from);
                *(if matches!(number, Number::From(_)) { from } else { until }) += more;
            }
        }
    }
    Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows).expect("still a plan")
}

fn enlarge(coefficient: &mut Coef, factor: f64, largest: bool) {
    match coefficient {
        Coef::C(c) => *c *= factor,
        // Bounds are logarithms of variances.
        Coef::LearnedStd { log_min, log_max, .. } => *(if largest { log_max } else { log_min }) += 2.0 * factor.ln(),
        Coef::PredictedStd { .. } => panic!("no number of the plan"),
    }
}

/// Errors from exact solutions, or from what a solver with a law of its own comes to.
fn claims(row: &Solver) -> Vec<Claim> {
    let mut claims: Vec<Claim> = row.claims.iter().copied().filter(|claim| claim.order > 0.0).collect();
    if row.name == "probability flow, Dormand-Prince" {
        // Between its asymptotic range and rounding, see `dormand_prince_has_its_order_before_rounding`.
        let sde = Sde { tau: Strength::Even(1.0), factor: 1.0 };
        let (kind, order, first, doublings) = (Kind::Path, 5.0, 16, 2);
        claims.push(Claim { kind, order, first, doublings, in_time: None, even_in_sigma: None, sde });
    }
    claims.sort_by_key(|claim| claim.first << claim.doublings);
    claims
}

/// How errors fall.
struct Falls {
    order: f64,
    tolerance: f64,
    /// Numbers of steps from each of which to twice as many errors fall by the order.
    from: Vec<usize>,
    /// Numbers of steps whose errors are rounding.
    exact: Vec<usize>,
}

impl Falls {
    /// Those of errors for numbers of steps that double, of an order that is known or else of the whole number next to it.
    fn of(
        steps: impl Iterator<Item = usize>,
        order: Option<f64>,
        tolerance: f64,
        error: impl Fn(usize) -> f64,
    ) -> Self {
        let errors: Vec<(usize, f64)> = steps.map(|n| (n, error(n))).collect();
        let slopes = errors.windows(2).filter(|pair| pair[1].1 > 10.0 * FLOOR);
        let slopes: Vec<(usize, f64)> = slopes.map(|pair| (pair[0].0, slope(pair[0].1, pair[1].1))).collect();
        let order = order.unwrap_or_else(|| slopes.last().map_or(f64::INFINITY, |(_, slope)| slope.round()));
        // Errors that do not fall prove nothing.
        let falls = |slope: f64| order > 0.0 && (slope - order).abs() <= tolerance;
        let from = slopes.iter().filter(|(_, slope)| falls(*slope)).map(|(n, _)| *n);
        let exact = errors.iter().filter(|(_, error)| *error < FLOOR).map(|(n, _)| *n);
        Self { order, tolerance, from: from.collect(), exact: exact.collect() }
    }

    fn is_empty(&self) -> bool {
        self.from.is_empty() && self.exact.is_empty()
    }

    /// Whether other errors do not fall in the same way; those that are no numbers do not.
    fn notices(&self, error: &dyn Fn(usize) -> f64) -> bool {
        let mut known = BTreeMap::new();
        let mut error = |n| *known.entry(n).or_insert_with(|| error(n));
        let mut falls = |n: &usize| (slope(error(*n), error(2 * n)) - self.order).abs() <= 2.0 * self.tolerance;
        !self.from.iter().all(&mut falls) || self.exact.iter().any(|n| !(error(*n) <= 10.0 * FLOOR))
    }
}

/// log₂ of the ratio of two errors.
fn slope(coarse: f64, fine: f64) -> f64 {
    (coarse / fine).log2()
}

/// What is claimed of a row and how errors of its plans as they are fall.
struct Proven<'a> {
    row: &'a Solver,
    process: &'a dyn Process,
    whole: Vec<(Claim, Spacing, Falls)>,
}

impl<'a> Proven<'a> {
    fn of(row: &'a Solver, process: &'a dyn Process) -> Self {
        let proof = |claim: Claim| {
            let spacing = match claim.kind {
                Kind::FineStart => Spacing { name: FINE, of: fine_start },
                _ => EVEN_LAMBDA,
            };
            let error = |n| changed_error(row, &claim, process, (n, spacing), |plan| plan);
            let tolerance = if row.no_order.is_some() { 0.6 } else { TOLERANCE };
            // What more steps would show, fewer do: the whole range is for those that are not in their asymptotic range before.
            let few = claim.doublings.min(if claim.first >= 1024 { 2 } else { 4 });
            let falls = |k| Falls::of((0..=k).map(|k| claim.first << k), Some(claim.order), tolerance, error);
            let falls = [few, claim.doublings].map(falls).into_iter().find(|falls| !falls.is_empty())?;
            Some((claim, spacing, falls))
        };
        Self { row, process, whole: claims(row).into_iter().filter_map(proof).collect() }
    }

    /// Whether a change is noticed at the end of runs.
    fn notices(&self, change: &dyn Fn(Plan) -> Plan) -> bool {
        self.whole.iter().any(|(claim, spacing, falls)| {
            falls.notices(&|n| changed_error(self.row, claim, self.process, (n, *spacing), change))
        })
    }

    /// Whether its claims are such that a part of a run, started exactly, has errors from the exact solution.
    fn has_parts(&self) -> bool {
        let is_exact = |claim: &Claim| match claim.kind {
            Kind::Weak => claim.sde.factor == 1.0,
            kind => !kind.is_weak() && !kind.is_strong(),
        };
        self.row.claims.iter().any(is_exact) || self.row.no_order.is_some()
    }
}

/// Where a part of a run begins and ends.
#[derive(Clone, Copy)]
enum Cut {
    /// At the start, and so many steps after the first of the shape.
    Start(usize),
    /// With the first of the shape, and with it.
    Alone,
}

const CUTS: [Cut; 5] = [Cut::Start(0), Cut::Start(1), Cut::Start(2), Cut::Start(4), Cut::Alone];

/// Steps that begin together with the first few of a run.
const FEW: usize = 8;

/// Parts of runs in ever shorter steps, and how their errors fall.
struct Parts {
    parts: BTreeMap<usize, Part>,
    falls: Falls,
}

impl Parts {
    /// Parts about the first step of a shape.
    fn of(plans: &[(usize, Plan)], of: &str, cut: Cut) -> Option<Self> {
        let mut parts = BTreeMap::new();
        for (n, plan) in plans {
            let steps = steps(plan);
            let place = steps.iter().position(|(first, behind)| shape(&plan.rows()[*first..*behind]) == of)?;
            let (from, last) = match cut {
                Cut::Start(more) => (0, place + more),
                Cut::Alone => (place, place),
            };
            if matches!(cut, Cut::Start(_)) && last >= FEW {
                return None;
            }
            parts.insert(*n, Part::of(part(plan, &steps, from, last)?));
        }
        let error = |n: usize| parts[&n].error(|plan| plan);
        let falls = Falls::of(parts.keys().copied(), None, TOLERANCE, error);
        Some(Self { falls, parts })
    }

    fn notices(&self, change: &dyn Fn(Plan) -> Plan) -> bool {
        self.falls.notices(&|n| self.parts[&n].error(change))
    }
}

/// Some steps of a plan, from one to another; none if they need what is made before them.
fn part(plan: &Plan, steps: &[(usize, usize)], from: usize, last: usize) -> Option<Plan> {
    let start = from.checked_sub(1).map_or(plan.start_node(), |before| plan.rows()[steps[before].1 - 1].after);
    let mut rows = plan.rows()[steps.get(from)?.0..steps.get(last)?.1].to_vec();
    let ends = rows.iter_mut().filter_map(|row| row.step.as_mut());
    ends.enumerate().for_each(|(index, step)| *step = index as u32);
    Plan::new(plan.name(), start, plan.prior_deviation(), rows).ok()
}

/// A part of a run, with what it exactly starts from and comes to.
struct Part {
    plan: Plan,
    /// Of some paths, x/α one after the other; nothing where laws are compared.
    paths: Option<[Vec<f64>; 2]>,
}

impl Part {
    fn of(plan: Plan) -> Self {
        let ends = [plan.start_node().level, plan.rows()[plan.rows().len() - 1].after.level];
        let paths = (!plan.is_stochastic()).then(|| ends.map(|level| exact_at(&level)));
        Self { plan, paths }
    }

    /// The error at the end of the part that starts exactly: of paths, or of the law.
    fn error(&self, change: impl Fn(Plan) -> Plan) -> f64 {
        let plan = change(self.plan.clone());
        let (start, end) = (plan.start_node().level, plan.rows()[plan.rows().len() - 1].after.level);
        let Some([from, to]) = &self.paths else {
            let data = wide_gaussian();
            let exact = |level: &Level| {
                let covariance = marginal_covariance(&data, level);
                Moments { mean: marginal(&data, level).0, covariance }
            };
            let (found, exact) = (law(&plan, &data, &exact(&start)).expect("nothing is given"), exact(&end));
            return rms(&[found.mean, found.covariance].concat(), &[exact.mean, exact.covariance].concat());
        };
        let data = mixture();
        let mut found = Vec::new();
        for y in from.chunks(STARTS[0].len()) {
            let x = y.iter().map(|y| y * start.alpha).collect();
            let x = plan.run_host(x, 0, &Injected::new(), ask_mixture(&data)).expect("a host run");
            found.extend(x.iter().map(|x| x / end.alpha));
        }
        rms(&found, to)
    }
}

/// x/α on the paths of the order tests at a level. Steps of all solvers end at the same ones.
fn exact_at(level: &Level) -> Vec<f64> {
    static KNOWN: Mutex<BTreeMap<u64, Vec<f64>>> = Mutex::new(BTreeMap::new());
    let lambda = level.lambda();
    if let Some(known) = KNOWN.lock().expect("no panic").get(&lambda.to_bits()) {
        return known.clone();
    }
    let data = mixture();
    let parts = (24.0 * (lambda - LAMBDA.0)).ceil().max(1.0) as usize;
    let to = |y: [f64; 2]| reference::flow(&data, &y.map(|y| y * (-LAMBDA.0).exp()), (LAMBDA.0, lambda), parts);
    let exact: Vec<f64> = STARTS.into_iter().flat_map(to).collect();
    KNOWN.lock().expect("no panic").insert(lambda.to_bits(), exact.clone());
    exact
}

/// Each shape of steps with its numbers, by the first step that has it.
fn shapes(plan: &Plan) -> BTreeMap<usize, (String, Vec<(usize, Number)>)> {
    let mut found: BTreeMap<usize, (String, Vec<(usize, Number)>)> = BTreeMap::new();
    for (place, (first, behind)) in steps(plan).into_iter().enumerate() {
        let rows = &plan.rows()[first..behind];
        let of = shape(rows);
        if found.values().all(|(known, _)| *known != of) {
            found.insert(place, (of, numbers(rows)));
        }
    }
    found
}

/// Numbers that no proof notices, with the reasons.
const HIDDEN: &str = include_str!("hidden_numbers.txt");

/// Why the numbers of some rows are compared with no exact solution.
const WITHOUT_ONE: [(&str, &str); 1] =
    [("DDPM, learned variance", "its errors do not fall: its noise is what the network says, in steps of any length")];

#[test]
fn a_changed_number_costs_the_order() {
    let names: Vec<&str> = rows().iter().map(|row| row.name).collect();
    let found = each(names.len(), |index| {
        let row = rows().into_iter().find(|row| row.name == names[index]).expect("the same rows");
        let (_, process) = processes().swap_remove(0);
        let proven = Proven::of(&row, &process);
        let is_named = WITHOUT_ONE.iter().any(|(name, _)| *name == row.name);
        assert_eq!(proven.whole.is_empty(), is_named, "{}: proofs, or the reason why there are none", row.name);
        if is_named {
            return (0, vec![]);
        }
        let (mut hidden, mut count) = (Vec::new(), 0);
        let plan = |n| row.solver.plan(&process, &even_lambda(&process, n)).expect("a plan");
        let plans = OnceCell::new();
        let plans = || plans.get_or_init(|| (0..10).map(|k| (32 << k, plan(32 << k))).collect::<Vec<_>>());
        let first = proven.whole.iter().map(|(claim, ..)| claim.first).min().unwrap_or(0).max(16);
        for (place, (of, numbers)) in shapes(&plan(first)) {
            let parts: Vec<OnceCell<Option<Parts>>> = CUTS.iter().map(|_| OnceCell::new()).collect();
            let last = if place + 1 == plan(first).steps() { "the last step".into() } else { format!("step {place}") };
            for (index, number) in numbers {
                count += 1;
                let is_noticed = FACTORS.into_iter().any(|factor| {
                    let change = |plan: Plan| changed(&plan, &of, (index, number), factor);
                    let in_parts = || {
                        let mut parts = CUTS.iter().zip(&parts);
                        parts.any(|(cut, parts)| {
                            let parts = parts.get_or_init(|| Parts::of(plans(), &of, *cut));
                            parts.as_ref().is_some_and(|parts| parts.notices(&change))
                        })
                    };
                    proven.notices(&change) || proven.has_parts() && in_parts()
                });
                if !is_noticed {
                    hidden.push(format!("{}: {last}, row {index}, {number:?}", row.name));
                }
            }
        }
        (count, hidden)
    });
    let count: usize = found.iter().map(|(count, _)| count).sum();
    let hidden: Vec<String> = found.into_iter().flat_map(|(_, hidden)| hidden).collect();
    println!("{} of {count} numbers are not noticed", hidden.len());
    let listed: Vec<&str> = HIDDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let missing: Vec<&str> = hidden.iter().map(String::as_str).filter(|text| !listed.contains(text)).collect();
    let noticed: Vec<&str> = listed.iter().copied().filter(|text| hidden.iter().all(|hidden| hidden != text)).collect();
    let wrong = [("not noticed, and not on the list", &missing), ("on the list, and noticed", &noticed)];
    let wrong = wrong.map(|(what, numbers)| format!("{what}:\n{}", numbers.join("\n")));
    assert!(missing.is_empty() && noticed.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 3000, "{count}");
}
