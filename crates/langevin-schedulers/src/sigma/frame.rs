//! What the solvers of this family share: steps in `y = x/α` over `s = σ/α`, written in x itself.

use crate::ddpm::ratio;
use crate::plan::{Eval, Reg, Row, Set, Slot, Src, Term};
use crate::sigma::churn::Start;
use crate::solver::PlanError;
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Node, Process};

/// The steps of a grid, and how many the whole grid has where its first ones are left out.
pub(super) fn walk(process: &dyn Process, grid: &Grid) -> Result<(Vec<Stop>, usize), PlanError> {
    let stops = grid.stops(process)?;
    let whole = grid.clone().starting_at(0).stops(process)?.len();
    Ok((stops, whole))
}

/// The state at `to` after `y + (s_to − s)·ε̂ + Σ w·(ε̂_j − ε̂)`, for `y = x̂_0 + s·ε̂` of the slot `current`.
///
/// The weights w are those of the other slots j. Nothing here is infinite at α = 0 (s = ∞) or σ = 0.
pub(crate) fn landing(to: &Level, current: Slot, others: &[(Slot, f64)]) -> Vec<Term> {
    let taken: f64 = others.iter().map(|(_, weight)| weight).sum();
    let mut sum =
        vec![Term::new(to.alpha, Src::X0(current)), Term::new(to.sigma - to.alpha * taken, Src::Eps(current))];
    sum.extend(others.iter().map(|(slot, weight)| Term::new(to.alpha * weight, Src::Eps(*slot))));
    sum
}

/// Whether the step is one of Euler whatever the method: out of pure noise, into clean data, or out of it.
pub(super) fn is_plain(start: &Level, to: &Level) -> bool {
    start.alpha == 0.0 || start.sigma == 0.0 || to.sigma == 0.0
}

/// A step that begins where the one before ended.
pub(crate) fn still(stop: &Stop) -> Start {
    Start::still(stop)
}

/// The row in which a step asks for the first time, and all of it if it asks once.
pub(crate) fn first_row(start: Start, into: Slot, done: Option<(usize, Node, Vec<Term>)>) -> Row {
    let eval = Some(Eval { at: start.ask, x: 0, into });
    let Start { draws, pre, level, t, .. } = start;
    match done {
        Some((index, to, sum)) => Row {
            draws,
            pre,
            eval,
            post: vec![Set::new(0, sum)],
            step: Some(index as u32),
            after: to,
            report: vec![Term::new(1.0, Src::X0(into))],
        },
        None => Row { draws, pre, eval, post: Vec::new(), step: None, after: Node { t, level }, report: Vec::new() },
    }
}

/// A row that writes an inner state to register 1 and asks there.
pub(crate) fn inner_row(at: Node, ask: Level, sum: Vec<Term>, into: Slot) -> Row {
    const INNER: Reg = 1;
    Row {
        draws: Vec::new(),
        pre: vec![Set::new(INNER, sum)],
        eval: Some(Eval { at: ask, x: INNER, into }),
        post: Vec::new(),
        step: None,
        after: at,
        report: Vec::new(),
    }
}

/// Makes an inner row the last one of step `index`.
pub(crate) fn finish(mut row: Row, index: usize, to: Node, sum: Vec<Term>) -> Row {
    row.post = vec![Set::new(0, sum)];
    row.report = row.eval.iter().map(|eval| Term::new(1.0, Src::X0(eval.into))).collect();
    (row.step, row.after) = (Some(index as u32), to);
    row
}

/// What the network is asked where step `index` arrives: as the next step asks it, if it starts there.
pub(crate) fn ask_at_arrival(stops: &[Stop], index: usize) -> Level {
    let to = stops[index].to;
    stops.get(index + 1).filter(|next| next.from == to).map_or(to.level, |next| next.ask)
}

/// The node of a process at which σ/α has this value.
///
/// Beyond the process's range its functions of time are followed further, if they go on; a chain's time stays at its
/// end there, with α² + σ² = 1.
pub(super) fn node_at(solver: &'static str, process: &dyn Process, ratio: f64) -> Result<Node, PlanError> {
    let lambda = -libm::log(ratio);
    let (clean, noisy) = process.time_range();
    let (least, most) = (process.lambda(noisy), process.lambda(clean));
    if lambda >= least && lambda <= most {
        return Ok(process.node(process.time_at_lambda(lambda)?));
    }
    let end = if lambda < least { noisy } else { clean };
    if process.chain().is_some() {
        let alpha = 1.0 / libm::hypot(1.0, ratio);
        return Ok(Node { t: end, level: Level { alpha, sigma: ratio * alpha, time: process.network_time(end) } });
    }
    let t = follow(process, lambda, end, if end == noisy { noisy - clean } else { clean - noisy });
    let node = process.node(t);
    if (process.lambda(t) - lambda).abs() < 1e-9 && node.level.time.is_finite() {
        return Ok(node);
    }
    Err(PlanError::Singular {
        solver,
        t: end,
        alpha: process.alpha(end),
        sigma: process.sigma(end),
        advice: "the method leaves the process's range there, and the process does not go on; restrict the churn with \
                 `between`, or the grid",
    })
}

/// Bisection for λ on the far side of `end`, in the direction of `stride`; not finite counts as too far.
fn follow(process: &dyn Process, lambda: f64, end: f64, stride: f64) -> f64 {
    let outwards = stride > 0.0;
    let too_far = |t: f64| if outwards { !(process.lambda(t) > lambda) } else { !(process.lambda(t) < lambda) };
    // Doubled from small steps on: further out the functions may turn round.
    let (mut near, mut far) = (end, end + 1e-9 * stride);
    for _ in 0..100 {
        if too_far(far) {
            break;
        }
        (near, far) = (far, end + 2.0 * (far - end));
    }
    for _ in 0..200 {
        let middle = near + 0.5 * (far - near);
        if too_far(middle) { far = middle } else { near = middle }
    }
    if process.lambda(far).is_finite() { far } else { near }
}

/// The ratio σ/α half-way between two, in the logarithm.
pub(super) fn middle(a: f64, b: f64) -> f64 {
    a.sqrt() * b.sqrt()
}

/// The length `s_to − s` of a step.
pub(super) fn length(start: &Level, to: &Level) -> f64 {
    ratio(to) - ratio(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use langevin_core::process::{Betas, DiscreteChain, Edm, RectifiedFlow, SubVpSde, VeSde, VpSde};

    #[test]
    fn nodes_are_found_inside_and_beyond_the_range() {
        let processes: [&dyn Process; 5] =
            [&Edm::default(), &VpSde::default(), &VeSde::default(), &SubVpSde::default(), &RectifiedFlow::new()];
        for process in processes {
            let (clean, noisy) = process.time_range();
            let (least, most) = (process.lambda(clean), process.lambda(noisy));
            let inside = [libm::exp(-0.5), 1.0, 3.0];
            let beyond = [(-most).exp() * 1.3, (-least).exp() * 0.9];
            for s in inside.into_iter().chain(beyond).filter(|s| s.is_finite() && *s > 0.0) {
                let level = node_at("test", process, s).unwrap().level;
                assert!((ratio(&level) / s - 1.0).abs() < 1e-8, "{process:?}: {level:?} is not at {s}");
            }
        }
        let chain = DiscreteChain::new(Betas::DDPM, 1000).unwrap();
        let level = node_at("test", &chain, 1e4).unwrap().level;
        assert_eq!(level.time, 999.0);
        assert!((ratio(&level) - 1e4).abs() < 1e-8 && (level.alpha.hypot(level.sigma) - 1.0).abs() < 1e-12);
        assert_eq!(node_at("test", &chain, 1e-6).unwrap().level.time, 0.0);
    }

    /// A process that ends where it ends.
    #[derive(Debug)]
    struct Wall;

    impl Process for Wall {
        fn alpha(&self, _t: f64) -> f64 {
            1.0
        }
        fn sigma(&self, t: f64) -> f64 {
            if (0.1..=1.0).contains(&t) { t } else { f64::NAN }
        }
        fn alpha_dot(&self, _t: f64) -> f64 {
            0.0
        }
        fn sigma_dot(&self, _t: f64) -> f64 {
            1.0
        }
        fn time_range(&self) -> (f64, f64) {
            (0.1, 1.0)
        }
    }

    #[test]
    fn a_process_that_does_not_go_on_is_an_error() {
        assert!(matches!(node_at("test", &Wall, 1.2), Err(PlanError::Singular { t: 1.0, .. })));
        assert!(matches!(node_at("test", &Wall, 0.05), Err(PlanError::Singular { t: 0.1, .. })));
    }

    #[test]
    fn a_landing_is_the_state_of_its_formula() {
        let (start, to) = (Level { alpha: 0.6, sigma: 0.8, time: 0.0 }, Level { alpha: 0.9, sigma: 0.3, time: 0.0 });
        let (x0, eps, other, weight) = (0.7, -0.4, 0.9, -0.35);
        let y = x0 + ratio(&start) * eps + length(&start, &to) * eps + weight * (other - eps);
        let values = |src: Src| match src {
            Src::X0(2) => x0,
            Src::Eps(2) => eps,
            Src::Eps(3) => other,
            _ => panic!("not a value of this step"),
        };
        let landed: f64 = landing(&to, 2, &[(3, weight)])
            .iter()
            .map(|term| if let crate::plan::Coef::C(c) = term.c { c * values(term.of) } else { f64::NAN })
            .sum();
        assert!((landed - to.alpha * y).abs() < 1e-15);
    }
}
