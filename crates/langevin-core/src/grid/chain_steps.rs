//! Grids of whole steps of a chain, in the arithmetic in which they are published.

use super::GridError;

/// Steps 0, r, 2r, … with `r = T div n`, plus an offset; rising.
pub(super) fn leading(n: usize, steps: usize, offset: usize) -> Vec<usize> {
    let ratio = steps / n;
    (0..n).map(|i| i * ratio + offset).collect()
}

/// `round(T − i·T/n) − 1`; falling. The increment is what floating-point ranges (numpy's) use: the difference of the
/// first two values, not T/n itself.
pub(super) fn trailing(n: usize, steps: usize) -> Vec<usize> {
    let top = steps as f64;
    let increment = (top - top / n as f64) - top;
    (0..n).map(|i| (top + i as f64 * increment).round_ties_even() as usize - 1).collect()
}

/// `n` equally spaced steps from 0 to T − 1, rounded; rising.
pub(super) fn linspace(n: usize, steps: usize) -> Vec<usize> {
    let last = steps - 1;
    if n == 1 {
        return vec![0];
    }
    let increment = last as f64 / (n - 1) as f64;
    (0..n).map(|i| if i == n - 1 { last } else { (i as f64 * increment).round_ties_even() as usize }).collect()
}

/// Checks the number of steps against the chain.
pub(super) fn check_count(n: usize, steps: usize) -> Result<(), GridError> {
    if n == 0 {
        Err(GridError::ZeroSteps)
    } else if n > steps {
        Err(GridError::TooManySteps { given: n, chain: steps })
    } else {
        Ok(())
    }
}
