//! Orders of convergence from errors.

/// Errors below this are rounding.
pub const FLOOR: f64 = 1e-11;

/// Errors for numbers of steps that double.
#[derive(Clone, Debug)]
pub struct Errors {
    pub steps: Vec<usize>,
    pub errors: Vec<f64>,
}

impl Errors {
    /// Measures at `first`, `2·first`, … `doublings` times, and stops where rounding begins.
    pub fn measure(first: usize, doublings: u32, mut error: impl FnMut(usize) -> f64) -> Self {
        let (mut steps, mut errors) = (Vec::new(), Vec::new());
        for k in 0..=doublings {
            let n = first << k;
            let e = error(n);
            assert!(e.is_finite(), "the error of {n} steps is {e}");
            if e < FLOOR {
                break;
            }
            steps.push(n);
            errors.push(e);
        }
        Self { steps, errors }
    }

    /// Slope of the regression of −log₂(error) on log₂(steps) over the last three doublings.
    pub fn slope(&self) -> f64 {
        self.slope_over(4)
    }

    /// The same over so many of the last numbers of steps.
    pub fn slope_over(&self, points: usize) -> f64 {
        assert!(self.errors.len() >= points, "only {} errors above {FLOOR}: {:?}", self.errors.len(), self.errors);
        let last = &self.errors[self.errors.len() - points..];
        let place = |i: usize| i as f64 - 0.5 * (points as f64 - 1.0);
        let squares = (0..points).map(|i| place(i).powi(2)).sum::<f64>();
        last.iter().enumerate().map(|(i, error)| place(i) * -error.log2()).sum::<f64>() / squares
    }

    /// The same over all doublings, where steps are of lengths that no number says.
    pub fn slope_of_all(&self) -> f64 {
        let count = self.errors.len();
        assert!(count >= 8, "only {count} errors above {FLOOR}: {:?}", self.errors);
        let numbers: Vec<f64> = self.steps.iter().map(|n| *n as f64).collect();
        let mean = |values: &[f64]| values.iter().map(|value| value.ln()).sum::<f64>() / count as f64;
        let (of_numbers, of_errors) = (mean(&numbers), mean(&self.errors));
        let pairs = || numbers.iter().zip(&self.errors).map(|(n, e)| (n.ln() - of_numbers, e.ln() - of_errors));
        -pairs().map(|(n, e)| n * e).sum::<f64>() / pairs().map(|(n, _)| n * n).sum::<f64>()
    }
}

/// Root of the mean square of the distances of two lists of values.
pub fn rms(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}
