//! A number of a plan that is a hundredth larger, in every step that has it, costs the solver its order: no plan is compared
//! with itself here, but with the exact solution.

use super::{EVEN_LAMBDA, TOLERANCE, changed_error};
use crate::common::order::FLOOR;
use crate::common::parallel::each;
use crate::common::problem::{even_lambda, processes};
use crate::common::solvers::{Claim, Kind, Row as Solver, Sde, Strength, rows};
use langevin::core::Process;
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, Draw, Row, Set};
use std::collections::{BTreeMap, BTreeSet};

const FACTOR: f64 = 1.01;

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

/// What steps that are alike have in common: what each sum is of, what is drawn, and what is asked.
fn shape(rows: &[Row]) -> String {
    let sums = |sets: &[Set]| {
        let of = |set: &Set| set.sum.iter().map(|term| term.of.to_string()).collect::<Vec<_>>().join(" + ");
        sets.iter().map(|set| format!("x{} = {}", set.to, of(set))).collect::<Vec<_>>().join(", ")
    };
    let of = |row: &Row| {
        let asked = row.eval.map_or(String::new(), |eval| format!("ask x{} into {}", eval.x, eval.into));
        let draws: Vec<String> = row.draws.iter().map(|draw| format!("draw z{}", draw.register())).collect();
        let parts = [draws.join(", "), sums(&row.pre), asked, sums(&row.post)];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    };
    rows.iter().map(of).collect::<Vec<_>>().join("; ")
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

/// The plan with a number a hundredth larger in all steps of a shape.
fn changed(plan: &Plan, of: &str, (index, number): (usize, Number)) -> Plan {
    let mut rows = plan.rows().to_vec();
    for (first, behind) in steps(plan) {
        if shape(&plan.rows()[first..behind]) != of {
            continue;
        }
        let row = &mut rows[first + index];
        match number {
            Number::Pre(set, term) => enlarge(&mut row.pre[set].sum[term].c, false),
            Number::Post(set, term) => enlarge(&mut row.post[set].sum[term].c, false),
            Number::LargestVariance(set, term) => enlarge(&mut row.post[set].sum[term].c, true),
            Number::Alpha => row.eval.as_mut().expect("a question").at.alpha *= FACTOR,
            Number::Sigma => row.eval.as_mut().expect("a question").at.sigma *= FACTOR,
            Number::From(draw) | Number::Until(draw) => {
                let Draw::Path { from, until, .. } = &mut row.draws[draw] else { panic!("a path") };
                // By a hundredth of the interval, so that it is one still.
                let more = (FACTOR - 1.0) * (*until - *from);
                *(if matches!(number, Number::From(_)) { from } else { until }) += more;
            }
        }
    }
    Plan::new(plan.name(), plan.start_node(), plan.prior_deviation(), rows).expect("still a plan")
}

fn enlarge(coefficient: &mut Coef, largest: bool) {
    match coefficient {
        Coef::C(c) => *c *= FACTOR,
        // Bounds are logarithms of variances.
        Coef::LearnedStd { log_min, log_max, .. } => *(if largest { log_max } else { log_min }) += 2.0 * FACTOR.ln(),
        Coef::PredictedStd { .. } => panic!("no number of the plan"),
    }
}

/// Errors from exact solutions, or from what a solver of a law of its own comes to.
fn proofs(row: &Solver) -> Vec<Claim> {
    let mut claims: Vec<Claim> = row.claims.iter().copied().filter(|claim| claim.order > 0.0).collect();
    if row.name == "probability flow, Dormand-Prince" {
        // Between its asymptotic range and rounding, see `dormand_prince_has_its_order_before_rounding`.
        let sde = Sde { tau: Strength::Even(0.0), factor: 1.0 };
        claims.push(Claim { kind: Kind::Path, order: 5.0, first: 16, doublings: 2, even_lambda_only: true, sde });
    }
    claims.retain(|claim| claim.kind != Kind::FineStart);
    claims.sort_by_key(|claim| claim.first << claim.doublings);
    claims
}

/// The proofs of a row, and the errors of its plan as it is.
struct Proven<'a> {
    row: &'a Solver,
    process: &'a dyn Process,
    /// Each with pairs of numbers of steps, one twice the other, between which errors fall as claimed.
    proofs: Vec<(Claim, Vec<usize>)>,
}

/// log₂ of the ratio of two errors.
fn slope(coarse: f64, fine: f64) -> f64 {
    (coarse / fine).log2()
}

impl<'a> Proven<'a> {
    fn of(row: &'a Solver, process: &'a dyn Process) -> Self {
        let mut proofs = Vec::new();
        for claim in self::proofs(row) {
            let error = |n| changed_error(row, &claim, process, (n, EVEN_LAMBDA), |plan| plan);
            let most = if claim.first >= 1024 { 2 } else { 4 };
            let steps = (0..=claim.doublings.min(most)).map(|k| claim.first << k);
            let errors: Vec<(usize, f64)> = steps.map(|n| (n, error(n))).collect();
            if claim.order == f64::INFINITY {
                assert!(errors.iter().all(|(_, error)| *error < FLOOR), "{}: {errors:?}", row.name);
                proofs.push((claim, vec![claim.first << 2]));
                continue;
            }
            let falls = |pair: &&[(usize, f64)]| {
                let tolerance = if row.no_order.is_some() { 0.6 } else { TOLERANCE };
                pair[1].1 > FLOOR && (slope(pair[0].1, pair[1].1) - claim.order).abs() <= tolerance
            };
            let pairs: Vec<usize> = errors.windows(2).filter(falls).map(|pair| pair[0].0).collect();
            if !pairs.is_empty() {
                proofs.push((claim, pairs));
            }
        }
        Self { row, process, proofs }
    }

    /// Whether errors of changed plans do not fall as claimed.
    fn notices(&self, change: &dyn Fn(Plan) -> Plan) -> bool {
        self.proofs.iter().any(|(claim, pairs)| {
            let mut known = BTreeMap::new();
            let mut error = |n| {
                let error = || changed_error(self.row, claim, self.process, (n, EVEN_LAMBDA), change);
                *known.entry(n).or_insert_with(error)
            };
            pairs.iter().any(|n| {
                if claim.order == f64::INFINITY {
                    return error(*n) > 1e3 * FLOOR;
                }
                let slope = slope(error(*n), error(2 * n));
                let tolerance = if self.row.no_order.is_some() { 1.0 } else { 2.0 * TOLERANCE };
                !((slope - claim.order).abs() <= tolerance)
            })
        })
    }
}

/// Why the numbers of some rows are compared with no exact solution.
const WITHOUT_ONE: [(&str, &str); 1] =
    [("DDPM, learned variance", "its errors do not fall: its noise is what the network says, in steps of any length")];

#[test]
fn a_changed_number_costs_the_order() {
    let names: Vec<&str> = rows().iter().map(|row| row.name).collect();
    let found = each(names.len(), |index| {
        let row = rows().into_iter().find(|row| row.name == names[index]).expect("the same rows");
        let began = std::time::Instant::now();
        let (_, process) = processes().swap_remove(0);
        let proven = Proven::of(&row, &process);
        let is_named = WITHOUT_ONE.iter().any(|(name, _)| *name == row.name);
        assert_eq!(proven.proofs.is_empty(), is_named, "{}: proofs, or the reason why there are none", row.name);
        if is_named {
            return (0, vec![]);
        }
        let first = proven.proofs.iter().map(|(claim, _)| claim.first).min().unwrap_or(0).max(16);
        let short = row.solver.plan(&process, &even_lambda(&process, first)).expect("a plan");
        let mut shapes: BTreeMap<String, BTreeSet<(usize, Number)>> = BTreeMap::new();
        for (first, behind) in steps(&short) {
            let rows = &short.rows()[first..behind];
            shapes.entry(shape(rows)).or_default().extend(numbers(rows));
        }
        let (mut hidden, mut count) = (Vec::new(), 0);
        for (of, numbers) in &shapes {
            for number in numbers {
                count += 1;
                if !proven.notices(&|plan| changed(&plan, of, *number)) {
                    hidden.push(format!("{}: {number:?} of {of}", row.name));
                }
            }
        }
        println!("{:6.1} s  {}: {} of {count} hidden", began.elapsed().as_secs_f64(), row.name, hidden.len());
        for text in &hidden { println!("    {text}"); }
        (count, hidden)
    });
    let count: usize = found.iter().map(|(count, _)| count).sum();
    let hidden: Vec<&str> = found.iter().flat_map(|(_, hidden)| hidden).map(String::as_str).collect();
    println!("{} of {count} numbers are not noticed", hidden.len());
    assert!(hidden.is_empty(), "{}", hidden.join("\n"));
}
