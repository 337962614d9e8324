//! What can go wrong.

use std::error::Error;
use std::path::PathBuf;

/// A chart that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// There is nothing to draw.
    #[error("there are no charts to draw")]
    NoCharts,
    /// Nothing says how long the axes are.
    #[error("the chart \"{chart}\" has no points: give it some, or the ranges of both axes")]
    NoPoints {
        /// Title of the chart.
        chart: String,
    },
    /// A point is nowhere.
    #[error("point {index} of a series of the chart \"{chart}\" is ({x}, {y}): both must be finite{positive}")]
    NonFinite {
        /// Title of the chart.
        chart: String,
        /// Number of the point in its series.
        index: usize,
        /// Its place along the first axis.
        x: f64,
        /// Its place along the second axis.
        y: f64,
        /// More that is asked of it: on a logarithmic axis it must be above 0.
        positive: &'static str,
    },
    /// A range that has no inside.
    #[error("{what} goes from {start} to {end}; expected finite numbers, the first below the second")]
    Range {
        /// What has the range.
        what: &'static str,
        /// Its start.
        start: f64,
        /// Its end.
        end: f64,
    },
    /// A histogram without bins, or of no values.
    #[error("a histogram of {values} values in {bins} bins; expected one of each or more")]
    Histogram {
        /// How many values there are.
        values: usize,
        /// How many bins there are.
        bins: usize,
    },
    /// The picture cannot be drawn or written.
    #[error("cannot draw {}: {source}", path.display())]
    Draw {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Refuses ranges that are empty, reversed or endless.
pub(crate) fn check(what: &'static str, range: &std::ops::Range<f64>) -> Result<(), PlotError> {
    let (start, end) = (range.start, range.end);
    if start < end && (end - start).is_finite() { Ok(()) } else { Err(PlotError::Range { what, start, end }) }
}
