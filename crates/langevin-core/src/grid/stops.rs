//! From a grid and a process to stops.

use super::spacing::Stretch;
use super::{End, Grid, GridError, Kind, Stop, VP, chain_steps, check_positive};
use crate::level::{Level, Node};
use crate::process::{LinearBeta, Process, validate};
use std::cmp::Ordering;

/// More steps than this are a mistake, and would only exhaust the memory.
const MAX_STEPS: usize = 1_000_000;

/// The steps of `grid` on `process`.
pub(super) fn resolve(grid: &Grid, process: &dyn Process) -> Result<Vec<Stop>, GridError> {
    validate(process)?;
    check_settings(grid, process)?;
    let stops = forward(grid, process)?;
    let stops = match grid.kind {
        _ if !grid.inverted => stops,
        Kind::Leading { .. } | Kind::Trailing { .. } => backwards(&stops, |_| true),
        // The very first level may be one that no network knows: it is asked with the time of the next.
        _ => backwards(&stops, |stop| stop.to.level.sigma == 0.0 || stop.to.t < 0.0),
    };
    let steps = stops.len();
    if grid.start >= steps {
        return Err(GridError::StartBeyond { start: grid.start, steps });
    }
    Ok(stops[grid.start..].to_vec())
}

/// What can be checked before any node exists. A grid may come from a file, so its parameters are checked here too.
fn check_settings(grid: &Grid, process: &dyn Process) -> Result<(), GridError> {
    let name = grid.kind.name();
    let whole_steps = matches!(grid.kind, Kind::Leading { .. } | Kind::Trailing { .. } | Kind::Linspace { .. });
    let given = matches!(grid.kind, Kind::Times { .. } | Kind::Levels { .. });
    let combination = |option, reason| Err(GridError::Combination { option, grid: name, reason });
    let n = grid.kind.steps();
    if n == 0 {
        return Err(GridError::ZeroSteps);
    }
    if n > MAX_STEPS {
        let expected = "at most a million";
        return Err(GridError::Parameter { parameter: "the number of steps", given: n as f64, expected });
    }
    match process.chain() {
        None if whole_steps => return Err(GridError::NeedsChain { what: name }),
        Some(chain) if whole_steps && n > chain.steps() => {
            return Err(GridError::TooManySteps { given: n, chain: chain.steps() });
        }
        _ => {}
    }
    if grid.offset > 0 && !matches!(grid.kind, Kind::Leading { .. }) {
        return combination("offset", "only leading grids leave room at the noisy end");
    }
    if grid.strided && process.chain().is_none() {
        return Err(GridError::NeedsChain { what: "`strided`" });
    }
    if grid.strided && !whole_steps && !matches!(grid.kind, Kind::Times { .. }) {
        return combination("strided", "only grids of a chain's steps have a stride");
    }
    if grid.strided && grid.end == Some(End::Range) {
        return combination("strided", "a strided grid always ends where its stride leads");
    }
    if grid.between.is_some() && (whole_steps || given || matches!(grid.kind, Kind::Ays { .. })) {
        return combination("between", "its levels are fixed");
    }
    match &grid.kind {
        Kind::Karras { rho, .. } | Kind::Polyexponential { rho, .. } => check_positive("rho", *rho, 1e3),
        Kind::Vp { beta_min, beta_max, .. } => Ok(LinearBeta::new(VP, *beta_min, *beta_max).map(|_| ())?),
        Kind::Beta { a, b, .. } => check_positive("a", *a, 1e3).and(check_positive("b", *b, 1e3)),
        Kind::Times { times } => check_times(times),
        Kind::Levels { levels } => check_levels(levels, grid.inverted),
        _ => Ok(()),
    }
}

/// Checks given times: finite and strictly falling.
pub(super) fn check_times(times: &[f64]) -> Result<(), GridError> {
    if let Some(index) = times.iter().position(|t| !t.is_finite()) {
        return Err(GridError::NotFinite { quantity: "the time", index, value: times[index] });
    }
    falling("time", times.iter().copied())
}

/// Checks given levels: finite, not negative, with strictly rising λ, but that the last may be the one before once more;
/// for grids that are walked backwards the first two may be one, too.
pub(super) fn check_levels(levels: &[Level], backwards: bool) -> Result<(), GridError> {
    for (index, level) in levels.iter().enumerate() {
        check_level(index, level)?;
    }
    for (i, pair) in levels.windows(2).enumerate() {
        let (before, after) = (pair[0].lambda(), pair[1].lambda());
        let at_end = i > 0 && i + 2 == levels.len() || backwards && i == 0 && levels.len() > 2;
        let stays = at_end && before == after;
        if before >= after && !stays {
            let (index, quantity, expected) = (i + 1, "half-log-SNR", "rising");
            return Err(GridError::Direction { index, quantity, before, after, expected });
        }
    }
    Ok(())
}

/// Checks that a level is one: neither NaN nor infinite, neither less than nothing nor nothing at all.
fn check_level(index: usize, level: &Level) -> Result<(), GridError> {
    let Level { alpha, sigma, time } = *level;
    for (quantity, value, sound) in [
        ("alpha", alpha, alpha >= 0.0 && alpha.is_finite()),
        ("sigma", sigma, sigma >= 0.0 && sigma.is_finite()),
        ("the network time", time, time.is_finite()),
        ("the half-log-SNR", level.lambda(), !level.lambda().is_nan()),
    ] {
        if !sound {
            return Err(GridError::NotFinite { quantity, index, value });
        }
    }
    Ok(())
}

fn falling(quantity: &'static str, values: impl Iterator<Item = f64>) -> Result<(), GridError> {
    let mut before: Option<f64> = None;
    for (index, after) in values.enumerate() {
        // NaN, which a user's process may answer with, does not fall either.
        if let Some(before) = before
            && before.partial_cmp(&after) != Some(Ordering::Greater)
        {
            return Err(GridError::Direction { index, quantity, before, after, expected: "falling" });
        }
        before = Some(after);
    }
    Ok(())
}

/// The stops from noise to data.
fn forward(grid: &Grid, process: &dyn Process) -> Result<Vec<Stop>, GridError> {
    let end = grid.end.unwrap_or(default_end(&grid.kind, process));
    let mut nodes = match (&grid.kind, process.chain()) {
        (Kind::Leading { n }, Some(chain)) => {
            let mut asked = chain_steps::leading(*n, chain.steps(), grid.offset);
            asked.reverse();
            step_nodes(&asked, process, end)?
        }
        (Kind::Trailing { n }, Some(chain)) => step_nodes(&chain_steps::trailing(*n, chain.steps()), process, end)?,
        (Kind::Linspace { n }, Some(chain)) => {
            let mut asked = chain_steps::linspace(*n, chain.steps());
            asked.reverse();
            step_nodes(&asked, process, end)?
        }
        (Kind::Times { times }, _) => {
            for (index, &given) in times.iter().enumerate() {
                check_time(index, given, process, "")?;
            }
            times.iter().map(|&t| process.node(t)).collect()
        }
        (Kind::Levels { levels }, _) => levels_to_nodes(levels, process)?,
        (kind, _) => spaced(grid, kind, process, end)?,
    };
    for (index, node) in nodes.iter().enumerate() {
        check_level(index, &node.level)?;
    }
    if end == End::Clean && nodes.last().is_some_and(|node| node.level.sigma > 0.0) {
        nodes.push(process.clean());
    }
    if nodes.len() < 2 {
        return Err(GridError::ZeroSteps);
    }
    if !matches!(grid.kind, Kind::Levels { .. }) {
        falling("time", nodes.iter().take(nodes.len() - 1).map(|node| node.t))?;
    }
    let mut stops: Vec<Stop> =
        nodes.windows(2).map(|pair| Stop { ask: pair[0].level, from: pair[0], to: pair[1] }).collect();
    if let (true, Some(chain)) = (grid.strided, process.chain()) {
        let stride = (chain.steps() / stops.len()) as f64;
        for stop in &mut stops {
            let t = stop.from.t - stride;
            stop.to = if t >= 0.0 { process.node(t) } else { chain.final_level() };
        }
    }
    Ok(stops)
}

fn default_end(kind: &Kind, process: &dyn Process) -> End {
    match kind {
        _ if process.chain().is_some() => End::Clean,
        Kind::Karras { .. }
        | Kind::Exponential { .. }
        | Kind::Polyexponential { .. }
        | Kind::Vp { .. }
        | Kind::Beta { .. }
        | Kind::Ays { .. } => End::Clean,
        _ => End::Range,
    }
}

fn check_time(index: usize, given: f64, process: &dyn Process, hint: &'static str) -> Result<(), GridError> {
    let (min, max) = process.time_range();
    if given >= min && given <= max { Ok(()) } else { Err(GridError::TimeOutOfRange { index, given, min, max, hint }) }
}

/// Nodes at whole steps of a chain, falling.
fn step_nodes(asked: &[usize], process: &dyn Process, end: End) -> Result<Vec<Node>, GridError> {
    for (index, &step) in asked.iter().enumerate() {
        check_time(index, step as f64, process, ": take a smaller offset or fewer steps")?;
    }
    let mut nodes: Vec<Node> = asked.iter().map(|&step| process.node(step as f64)).collect();
    if end == End::Range && asked.last() != Some(&0) {
        nodes.push(process.node(0.0));
    }
    Ok(nodes)
}

fn levels_to_nodes(levels: &[Level], process: &dyn Process) -> Result<Vec<Node>, GridError> {
    let (min, max) = process.time_range();
    levels
        .iter()
        .map(|level| {
            let lambda = level.lambda();
            // Levels beyond the process have no time of their own; the nearest end says on which side they are.
            let t = if level.sigma == 0.0 {
                process.clean().t
            } else if lambda <= process.lambda(max) {
                max
            } else if lambda >= process.lambda(min) {
                min
            } else {
                process.time_at_lambda(lambda)?
            };
            Ok(Node { t, level: *level })
        })
        .collect()
}

/// Nodes of the grids that are spaced by a formula or a table.
fn spaced(grid: &Grid, kind: &Kind, process: &dyn Process, end: End) -> Result<Vec<Node>, GridError> {
    let (min, max) = process.time_range();
    let (noisy, clean) = grid.between.unwrap_or((max, min));
    for (index, given) in [noisy, clean].into_iter().enumerate() {
        check_time(index, given, process, "")?;
    }
    falling("time", [noisy, clean].into_iter())?;
    let stretch = Stretch { process, noisy, clean, grid: kind.name() };
    let n = kind.steps();
    if let Kind::Ays { table, .. } = *kind {
        let mut nodes = stretch.table(table, n)?;
        if end == End::Clean {
            nodes.pop();
        }
        return Ok(nodes);
    }
    stretch.nodes(kind, if end == End::Clean { n } else { n + 1 })
}

/// The same steps, walked from data to noise. Each asks at the level where it begins, with the time of the level where it
/// arrives if `ahead` says so of the step that it turns round.
fn backwards(stops: &[Stop], ahead: impl Fn(&Stop) -> bool) -> Vec<Stop> {
    let turn = |stop: &Stop| {
        let (from, to) = (stop.to, stop.from);
        let time = if ahead(stop) { to.level.time } else { from.level.time };
        Stop { ask: Level { time, ..from.level }, from, to }
    };
    stops.iter().rev().map(turn).collect()
}
