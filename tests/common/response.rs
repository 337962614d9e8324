//! How the end of a plan on Gaussian data answers to its start and to each of its draws, from the last row to the first.
//!
//! What [`push_on`](super::affine::push_on) carries forward for all draws side by side, a plan of N rows takes N² numbers for. Here
//! a matrix for each register and slot says what the end owes to it, and is handed back to what it was made of.

use super::affine::{Affine, affine_answer, coefficient, mean_at_end, push_on};
use langevin::core::exact::Gaussian;
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Draw, Set, Src};
use std::collections::BTreeMap;

/// A matrix of the plane, row-major.
type Matrix = [f64; 4];

/// As [`push_on`](super::affine::push_on), for plans whose draws are all of a path.
pub fn push_back(plan: &Plan, data: &Gaussian, mean: &[f64], factor: &[Vec<f64>], clock: &[f64]) -> Affine {
    let rows = plan.rows();
    if rows.iter().flat_map(|row| row.pre.iter().chain(&row.post)).any(|set| set.mask.is_some()) {
        return push_on(plan, data, mean, factor, clock);
    }
    let draws = || rows.iter().flat_map(|row| &row.draws).map(ends);
    let mut clocks: Vec<f64> = clock.iter().copied().chain(draws().flatten()).collect();
    clocks.sort_unstable_by(f64::total_cmp);
    clocks.dedup();
    let mut owed = Owed::default();
    owed.add(Src::X(0), [1.0, 0.0, 0.0, 1.0]);
    let mut noises = vec![vec![0.0; 2]; 2 * clocks.len().saturating_sub(1)];
    for row in rows.iter().rev() {
        row.post.iter().rev().for_each(|set| owed.undo(set));
        if let Some(eval) = row.eval {
            let answers = [Src::X0(eval.into), Src::Eps(eval.into)];
            for (answer, (matrix, _)) in answers.into_iter().zip(affine_answer(data, &eval.at)) {
                let of = owed.take(answer);
                // It is given column by column.
                let [a, b, c, d] = [matrix[0], matrix[2], matrix[1], matrix[3]];
                let product =
                    [of[0] * a + of[1] * c, of[0] * b + of[1] * d, of[2] * a + of[3] * c, of[2] * b + of[3] * d];
                owed.add(Src::X(eval.x), product);
            }
        }
        row.pre.iter().rev().for_each(|set| owed.undo(set));
        for draw in row.draws.iter().rev() {
            let of = owed.take(Src::Z(draw.register()));
            let [first, last] = ends(draw).map(|end| clocks.partition_point(|other| *other < end));
            for k in first..last {
                let std = (clocks[k + 1] - clocks[k]).sqrt();
                for (i, value) in of.iter().enumerate() {
                    noises[2 * k + i % 2][i / 2] += std * value;
                }
            }
        }
    }
    let of = owed.take(Src::X(0));
    let carried = |x: &Vec<f64>| vec![of[0] * x[0] + of[1] * x[1], of[2] * x[0] + of[3] * x[1]];
    let columns = factor.iter().map(carried).chain(noises).collect();
    Affine { dimension: 2, mean: mean_at_end(plan, data, mean), columns }
}

fn ends(draw: &Draw) -> [f64; 2] {
    match *draw {
        Draw::Path { from, until, .. } => [from, until],
        _ => panic!("noise along a path"),
    }
}

/// What the end owes to each register and slot.
#[derive(Default)]
struct Owed(BTreeMap<Src, Matrix>);

impl Owed {
    fn take(&mut self, of: Src) -> Matrix {
        self.0.remove(&of).unwrap_or_default()
    }

    fn add(&mut self, to: Src, more: Matrix) {
        let sum = self.0.entry(to).or_default();
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }

    fn undo(&mut self, set: &Set) {
        let of = self.take(Src::X(set.to));
        for term in &set.sum {
            let c = coefficient(&term.c);
            self.add(term.of, of.map(|value| c * value));
        }
    }
}
