//! How often values fall where.

use crate::PlotError;
use crate::error::check;
use std::ops::Range;

/// Bars of equal width.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Width of a bar.
    pub width: f64,
    /// Middle and height of each bar, from left to right.
    pub bars: Vec<(f64, f64)>,
}

impl Histogram {
    /// The density of `values` in `bins` equal bins of `range`. Values outside count in the total, so that the area of the
    /// bars is the share of the values that lie in the range.
    ///
    /// # Errors
    /// [`PlotError::Histogram`] without values or bins, [`PlotError::Range`].
    pub fn density(values: &[f64], range: Range<f64>, bins: usize) -> Result<Self, PlotError> {
        check("the range of a histogram", &range)?;
        if values.is_empty() || bins == 0 {
            return Err(PlotError::Histogram { values: values.len(), bins });
        }
        let width = (range.end - range.start) / bins as f64;
        let mut counts = vec![0usize; bins];
        for value in values.iter().filter(|value| range.contains(value)) {
            counts[(((value - range.start) / width) as usize).min(bins - 1)] += 1;
        }
        let bar = |(i, count): (usize, &usize)| {
            (range.start + (i as f64 + 0.5) * width, *count as f64 / (values.len() as f64 * width))
        };
        Ok(Self { width, bars: counts.iter().enumerate().map(bar).collect() })
    }

    /// Bars that are `factor` times as high; downwards if it is negative.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.bars.iter_mut().for_each(|(_, height)| *height *= factor);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_shares_over_widths() {
        // The ends: the start of the range is in the first bin, its end outside.
        let found = Histogram::density(&[0.0, 0.1, 0.6, 0.99, 1.0, -3.0, f64::NAN, 7.0], 0.0..1.0, 2).expect("bins");
        assert_eq!(found, Histogram { width: 0.5, bars: vec![(0.25, 0.5), (0.75, 0.5)] });
        assert_eq!(found.scaled(-2.0).bars, [(0.25, -1.0), (0.75, -1.0)]);
    }

    #[test]
    fn settings_without_meaning_are_errors() {
        for (values, bins) in [(&[][..], 3), (&[1.0][..], 0)] {
            assert!(matches!(Histogram::density(values, 0.0..1.0, bins), Err(PlotError::Histogram { .. })));
        }
        for (start, end) in [(1.0, 1.0), (2.0, 1.0), (0.0, f64::INFINITY), (f64::NAN, 1.0)] {
            let error = Histogram::density(&[0.5], start..end, 4).expect_err("no range");
            assert!(matches!(error, PlotError::Range { .. }), "{error}");
        }
    }
}
