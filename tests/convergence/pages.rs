//! The pages with the tables of orders.

use super::{LAST_DOUBLING, Line, UNEVEN, measured, samplers};
use crate::common::problem::processes;
use crate::common::solvers::{Kind, rows};
use std::fmt::Write as _;

/// What a line's errors are.
fn kind_of(line: &Line) -> &'static str {
    match line.kind {
        Kind::Path | Kind::FineStart | Kind::FromNoise => "path",
        Kind::Upwards => "upwards",
        Kind::Started { .. } => "started",
        Kind::Weak => "weak",
        Kind::WeakItself => "weak, to itself",
        Kind::WeakJumping => "weak, jumping",
        Kind::Strong => "strong",
        Kind::StrongApart { .. } | Kind::StrongWhole { .. } => "strong, over stages",
        Kind::StrongItself => "strong, to itself",
        Kind::StrongDraws => "strong, same draws",
    }
}

/// A table of measured orders.
fn table(lines: impl Iterator<Item = &'static Line>) -> String {
    let mut text = String::from("| solver | error | grid | order |");
    let names: Vec<_> = processes().into_iter().map(|(name, _)| name).collect();
    names.iter().for_each(|name| write!(text, " {name} |").expect("a string"));
    text.push_str(" smallest error |\n|---|---|---|---|");
    text.push_str(&"---|".repeat(names.len() + 1));
    text.push('\n');
    for line in lines {
        let kind = kind_of(line);
        let order = match line.order {
            0.0 => "none".to_owned(),
            f64::INFINITY => "exact".to_owned(),
            // Of thirds and sixths no more.
            order => ((order * 100.0).round() / 100.0).to_string(),
        };
        let order = if line.on_edm == line.order { order } else { format!("{order}; EDM {}", line.on_edm) };
        write!(text, "| {} | {kind} | {} | {order} |", line.solver, line.grid).expect("a string");
        for slope in &line.slopes {
            let slope = match slope {
                None => "–".to_owned(),
                Some(f64::INFINITY) => "exact".to_owned(),
                Some(slope) => format!("{slope:.2}"),
            };
            write!(text, " {slope} |").expect("a string");
        }
        let smallest =
            if line.smallest.is_infinite() { "below 1e-11".to_owned() } else { format!("{:.0e}", line.smallest) };
        writeln!(text, " {smallest} |").expect("a string");
    }
    text
}

/// The intervals of slopes from points.
fn intervals() -> String {
    let mut text = format!(
        "\n## Slopes from points\n\n\
         Where no plan is what a sampler does, {} points are run with the same noise. Half of the interval that holds a slope at 95%, \
         by leaving out one part of 32 at a time; what is claimed is true of the whole interval.\n\n| sampler | error |",
        samplers::DRAWN
    );
    let names: Vec<_> = processes().into_iter().map(|(name, _)| name).collect();
    names.iter().for_each(|name| write!(text, " {name} |").expect("a string"));
    writeln!(text, " points |\n|---|---|{}", "---|".repeat(names.len() + 1)).expect("a string");
    for line in measured() {
        let Some(halves) = &line.halves else { continue };
        write!(text, "| {} | {} |", line.solver, kind_of(line)).expect("a string");
        halves.iter().for_each(|half| write!(text, " {half:.3} |").expect("a string"));
        writeln!(text, " {} |", samplers::DRAWN).expect("a string");
    }
    text
}

/// The pages of the book with the tables, by file.
pub fn pages() -> [(&'static str, String); 3] {
    let is_path = |line: &&Line| !line.kind.is_weak() && !line.kind.is_strong();
    let mut without = format!(
        "# Orders of convergence\n\n\
         Measured by `cargo test --test convergence`; `LANGEVIN_WRITE_DOCS=1` writes this page. Solvers with noise have \
         [pages](orders-with-noise.md) of [their own](orders-along-paths.md).\n\n\
         Each number is the slope of the regression of log(error) on log(steps) over the last three doublings with errors \
         above 1e-11, in `f64`, from λ = −2 to λ = 2. *Path*: end points of the probability-flow ODE of a mixture of three \
         correlated Gaussians, against a reference good to 1e-13. *Upwards*: the same paths from data to noise. \
         *Started*: as *path*, with the exact state after each of the first p − 1 steps of a multistep solver of order p. \
         No number here has a sampling error; what is left is how evenly errors fall, and the slope of the last doubling alone is within \
         {LAST_DOUBLING} of the order, too{}.\n\n\
         Multistep methods are measured as they are: their first steps are of lower order. With a *fine start* those \
         steps grow from h²/4 to h. *From pure noise*, on processes that begin there, the first of N steps goes from α = 0 to λ = −ln N, and the \
         others are even in λ; errors are those on Gaussian data. UniC's first correction has order 1, and a local error of order 3 that is made once. On EDM a grid even in t is even in σ/α, with short steps first. The constant weights of PNDM and iPNDM are right there, and \
         what the first steps leave may be below rounding before it outweighs the rest: where the order there is another, which is that of \
         the solver once started, it stands beside the first one. The published DPM-Solver++ 3M takes half of the second difference: its order is 2 with an \
         exact start, too.\n\n\
         Adaptive solvers are measured by their *tolerance*: the error is that of a *path*, and the slope that of log(error) on the \
         logarithm of one over the tolerance, over nine doublings or more. Error control asks as much of every step, so that the error is in \
         proportion to the tolerance; the order of Dormand-Prince itself is that of its steps at fixed times.\n\n\
         CFG++ is measured where nothing is guided, so that a solver inside it is seen to be itself. Guidance is added in every step, \
         however short: with it there is no equation to go to, and no order.\n\n\
         ![Errors of solvers on VP](images/orders.png)\n\n\
         Some of them on VP, on the grid that is even in λ, with their orders; dashed lines fall exactly with an order.\n\n",
        UNEVEN.map(|(solver, reason)| format!(" (but of {solver}: {reason})")).concat(),
    ) + &table(measured().iter().filter(is_path));
    without.push_str("\n## Without an order\n\n");
    for row in rows() {
        if let Some(reason) = row.no_order {
            writeln!(without, "* {}: {reason}.", row.name).expect("a string");
        }
    }
    let mut with = String::from(
        "# Orders of convergence with noise\n\n\
         Measured by `cargo test --test convergence`; `LANGEVIN_WRITE_DOCS=1` writes this page. Slopes are those of \
         [solvers without noise](orders.md), where a picture of some is; the table of strong ones is on [a page of its own](orders-along-paths.md).\n\n\
         Slopes of strong errors are fitted to five numbers of steps, over four doublings, and those of the last doubling alone agree as there. \
         *Weak*: mean and covariance on a correlated Gaussian, \
         pushed exactly through the plan. *Strong*: root mean square distance from the exact solution along the same \
         Brownian path in the clock α²/σ², on the same Gaussian, in closed form; plans that draw white noise are given that \
         of the path, and those with less noise are compared with the SDE of that strength, also where it is a function of λ. \
         Churn is a step of one, too: of an amount S in N steps it has the strength τ² = S/N over the length of a step in λ. \
         *Strong, over stages*: of two or three steps all but the last are stages, whose draws nothing else sees; the last draws that of the path over all. \
         Of churn it is the first that draws for all. No number here \
         has a sampling error, but for those of [points](#slopes-from-points).\n\n\
         What has a law of its own has no data to be compared with. *To itself* is the difference of mean and covariance, or the \
         distance along the same paths, from the solver in twice as many steps: the k-th draw of a step is of the k-th path, over the \
         share of steps taken. *Same draws*: a restart draws as often in any number of steps, and its k-th draw is the same in all. \
         *Jumping*: a network that jumps to where a step should end gives LCM, TCD and consistency multistep the law of the data in any \
         number of steps. An order *none* says that errors do not fall as steps are added, and the slopes show it: what is added in a step is not less in \
         a shorter one. With a *tolerance* the slope is that of log(error) on the logarithm of one over it, over six doublings or more.\n\n\
         DPM-Solver-fast and adaptive DPM-Solver leave the noise of their last step out, which is of the size √h.\n\n",
    ) + &table(measured().iter().filter(|line| line.kind.is_weak()));
    with.push_str(&intervals());
    with.push_str("\n## What has a law of its own\n\n");
    for row in rows() {
        if let Some(reason) = row.own_law {
            writeln!(with, "* {}: {reason}.", row.name).expect("a string");
        }
    }
    with.push_str(samplers::LAWS);
    let along = String::from(
        "# Strong orders of convergence\n\n\
         Measured by `cargo test --test convergence`; `LANGEVIN_WRITE_DOCS=1` writes this page. What is measured and how is said where \
         [weak orders](orders-with-noise.md) are.\n\n",
    ) + &table(measured().iter().filter(|line| line.kind.is_strong()));
    [("orders.md", without), ("orders-with-noise.md", with), ("orders-along-paths.md", along)]
}
