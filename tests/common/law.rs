//! The law that a plan gives to Gaussian data, row by row: mean and covariance of all that it holds at a time.

use super::affine::{affine_answer, coefficient};
use super::moments::Moments;
use langevin::core::exact::Gaussian;
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Aux, Draw, Set, Src};

/// Joint mean and covariance of registers and slots in the plane.
struct Joint {
    places: Vec<Src>,
    mean: Vec<f64>,
    covariance: Vec<f64>,
}

/// Increments of a path that are remembered at a time: draws of a step ask for the same ones again.
const KEPT: usize = 4;

/// Mean and covariance at the end, from those of the start; none for plans that are given something.
pub fn law(plan: &Plan, data: &Gaussian, start: &Moments) -> Option<Moments> {
    let rows = plan.rows();
    let known = |draw: &Draw| matches!(draw, Draw::Known { .. });
    let sets = || rows.iter().flat_map(|row| row.pre.iter().chain(&row.post));
    if rows.iter().flat_map(|row| &row.draws).any(known) || sets().any(|set| set.mask.is_some()) {
        return None;
    }
    let ends = rows.iter().flat_map(|row| &row.draws).flat_map(|draw| match *draw {
        Draw::Path { from, until, .. } => vec![from, until],
        _ => vec![],
    });
    let mut clocks: Vec<f64> = ends.collect();
    clocks.sort_unstable_by(f64::total_cmp);
    clocks.dedup();
    let mut places: Vec<Src> = sets().flat_map(|set| set.sum.iter().map(|term| term.of)).collect();
    places.extend(sets().map(|set| Src::X(set.to)));
    places.extend(rows.iter().flat_map(|row| &row.draws).map(|draw| Src::Z(draw.register())));
    places.extend(rows.iter().filter_map(|row| row.eval).flat_map(|eval| [Src::X0(eval.into), Src::Eps(eval.into)]));
    places.push(Src::X(0));
    places.extend((0..KEPT).map(|k| Src::Aux(k as Aux)));
    places.sort_unstable();
    places.dedup();
    let size = 2 * places.len();
    let mut joint = Joint { places, mean: vec![0.0; size], covariance: vec![0.0; size * size] };
    let x = joint.at(Src::X(0));
    for i in 0..2 {
        joint.mean[x + i] = start.mean[i];
        (0..2).for_each(|j| joint.covariance[(x + i) * size + x + j] = start.covariance[2 * i + j]);
    }
    // The first increment of the path that has not been drawn yet.
    let mut next = 0;
    for row in rows {
        for draw in &row.draws {
            let at = joint.at(Src::Z(draw.register()));
            let Draw::Path { from, until, .. } = *draw else {
                joint.draw(at);
                continue;
            };
            let place = |clock: f64| clocks.partition_point(|other| *other < clock);
            let (first, last) = (place(from), place(until));
            assert!(first + KEPT >= last.max(next), "{}: draws go further back than is remembered", plan.name());
            for increment in next..last {
                joint.draw(joint.at(Src::Aux((increment % KEPT) as Aux)));
            }
            next = next.max(last);
            let part = |k: usize| (joint.at(Src::Aux((k % KEPT) as Aux)), (clocks[k + 1] - clocks[k]).sqrt());
            let of = |i: usize| (first..last).map(part).map(|(at, c)| (at + i, c)).collect();
            joint.assign(at, [of(0), of(1)], [0.0; 2]);
        }
        row.pre.iter().for_each(|set| joint.set(set));
        if let Some(eval) = row.eval {
            let asked = joint.at(Src::X(eval.x));
            for (to, (matrix, shift)) in
                [Src::X0(eval.into), Src::Eps(eval.into)].into_iter().zip(affine_answer(data, &eval.at))
            {
                let of = |i: usize| vec![(asked, matrix[i]), (asked + 1, matrix[2 + i])];
                joint.assign(joint.at(to), [of(0), of(1)], [shift[0], shift[1]]);
            }
        }
        row.post.iter().for_each(|set| joint.set(set));
    }
    let covariance = (0..4).map(|k| joint.covariance[(x + k / 2) * size + x + k % 2]).collect();
    Some(Moments { mean: joint.mean[x..x + 2].to_vec(), covariance })
}

impl Joint {
    fn at(&self, of: Src) -> usize {
        2 * self.places.binary_search(&of).expect("a place of the plan")
    }

    fn draw(&mut self, at: usize) {
        self.assign(at, [vec![], vec![]], [0.0; 2]);
        let size = self.mean.len();
        (0..2).for_each(|i| self.covariance[(at + i) * size + at + i] = 1.0);
    }

    fn set(&mut self, set: &Set) {
        let of = |i: usize| set.sum.iter().map(|term| (self.at(term.of) + i, coefficient(&term.c))).collect();
        self.assign(self.at(Src::X(set.to)), [of(0), of(1)], [0.0; 2]);
    }

    /// Makes two values sums of others as they were.
    fn assign(&mut self, at: usize, sums: [Vec<(usize, f64)>; 2], shift: [f64; 2]) {
        let size = self.mean.len();
        let mean: [f64; 2] =
            [0, 1].map(|i| shift[i] + sums[i].iter().map(|(from, c)| c * self.mean[*from]).sum::<f64>());
        let across: [Vec<f64>; 2] = [0, 1].map(|i| {
            let mut row = vec![0.0; size];
            for (from, c) in &sums[i] {
                let other = &self.covariance[from * size..(from + 1) * size];
                row.iter_mut().zip(other).for_each(|(sum, value)| *sum += c * value);
            }
            row
        });
        for i in 0..2 {
            self.mean[at + i] = mean[i];
            for (j, value) in across[i].iter().enumerate() {
                self.covariance[(at + i) * size + j] = *value;
                self.covariance[j * size + at + i] = *value;
            }
        }
        // What rounding makes of it is not symmetric, and would grow.
        for (i, j) in [(0, 0), (0, 1), (1, 1)] {
            let own: f64 = sums[j].iter().map(|(from, c)| c * across[i][*from]).sum();
            self.covariance[(at + i) * size + at + j] = own;
            self.covariance[(at + j) * size + at + i] = own;
        }
    }
}
