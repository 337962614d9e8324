//! What is drawn.

use crate::Histogram;
use crate::PlotError;
use crate::error::check;
use std::ops::Range;

/// Red, green and blue.
pub type Color = [u8; 3];
/// For what a program has found.
pub const BLUE: Color = [30, 80, 160];
/// For what it is compared with.
pub const ORANGE: Color = [225, 120, 30];
/// For what stands behind the rest.
pub const GRAY: Color = [150, 150, 150];
/// For what must be seen.
pub const RED: Color = [210, 40, 40];

/// How points are shown.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    Line,
    /// Small ones if there are many.
    Dots,
    /// Of this width, from zero.
    Bars(f64),
    /// To these places, one for each point.
    Arrows(Vec<(f64, f64)>),
    /// Cells of this width and height, each with its shade: 0 is white, 1 the whole color.
    Shades([f64; 2], Vec<f64>),
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) color: Color,
    pub(crate) mark: Mark,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Series of points over two axes. Those with a name are in the legend; later ones lie over earlier ones.
///
/// An axis is as long as its points ask for, unless it is given a range.
#[derive(Clone, Debug)]
pub struct Chart {
    pub(crate) title: String,
    pub(crate) axes: [String; 2],
    pub(crate) ranges: [Option<Range<f64>>; 2],
    pub(crate) log_y: bool,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    /// An empty chart.
    pub fn new(title: impl Into<String>) -> Self {
        let (axes, ranges) = ([String::new(), String::new()], [None, None]);
        Self { title: title.into(), axes, ranges, log_y: false, series: Vec::new() }
    }

    /// What the axes show.
    #[must_use]
    pub fn axes(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        self.axes = [x.into(), y.into()];
        self
    }

    /// What the first axis shows of.
    #[must_use]
    pub fn x(mut self, range: Range<f64>) -> Self {
        self.ranges[0] = Some(range);
        self
    }

    /// What the second axis shows of.
    #[must_use]
    pub fn y(mut self, range: Range<f64>) -> Self {
        self.ranges[1] = Some(range);
        self
    }

    /// Makes the second axis logarithmic; its values must be above 0.
    #[must_use]
    pub fn log_y(mut self) -> Self {
        self.log_y = true;
        self
    }

    /// A line through points.
    #[must_use]
    pub fn line(self, name: &str, color: Color, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.with(name, color, Mark::Line, points.into_iter().collect())
    }

    /// Points; small ones if there are many.
    #[must_use]
    pub fn dots(self, name: &str, color: Color, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.with(name, color, Mark::Dots, points.into_iter().collect())
    }

    /// The bars of a histogram.
    #[must_use]
    pub fn bars(self, name: &str, color: Color, histogram: &Histogram) -> Self {
        self.with(name, color, Mark::Bars(histogram.width), histogram.bars.clone())
    }

    /// Arrows, each from the first place to the second.
    #[must_use]
    pub fn arrows(self, name: &str, color: Color, arrows: impl IntoIterator<Item = ((f64, f64), (f64, f64))>) -> Self {
        let (from, to) = arrows.into_iter().unzip();
        self.with(name, color, Mark::Arrows(to), from)
    }

    /// A function over the plane as shades of a color: `columns` cells in a row over the range `x`, as many rows as there are
    /// values for over `y`, the lowest first. A value of 0 is white, 1 the whole color; what is beyond is as the nearer of them.
    #[must_use]
    pub fn shades(mut self, color: Color, [x, y]: [Range<f64>; 2], columns: usize, values: Vec<f64>) -> Self {
        let columns = columns.max(1);
        let rows = values.len().div_ceil(columns).max(1);
        let (width, height) = ((x.end - x.start) / columns as f64, (y.end - y.start) / rows as f64);
        let corner = |i: usize| (x.start + (i % columns) as f64 * width, y.start + (i / columns) as f64 * height);
        let corners = (0..values.len()).map(corner).collect();
        self.ranges = [Some(x.clone()), Some(y.clone())];
        self.with("", color, Mark::Shades([width, height], values), corners)
    }

    fn with(mut self, name: &str, color: Color, mark: Mark, points: Vec<(f64, f64)>) -> Self {
        self.series.push(Series { name: name.to_owned(), color, mark, points });
        self
    }

    /// A value as it lies along the second axis.
    pub(crate) fn height(&self, y: f64) -> f64 {
        if self.log_y { y.log10() } else { y }
    }

    /// Refuses points that are nowhere, and finds how long the axes are, the second in units of [`height`](Self::height).
    pub(crate) fn extent(&self) -> Result<[Range<f64>; 2], PlotError> {
        let mut found = [f64::INFINITY..f64::NEG_INFINITY, f64::INFINITY..f64::NEG_INFINITY];
        let mut reach = |x: f64, y: f64| {
            for (range, value) in found.iter_mut().zip([x, y]) {
                *range = range.start.min(value)..range.end.max(value);
            }
        };
        for series in &self.series {
            let ends = if let Mark::Arrows(to) = &series.mark { to.as_slice() } else { &[] };
            for (index, (x, y)) in series.points.iter().chain(ends).copied().enumerate() {
                let height = self.height(y);
                if !(x.is_finite() && height.is_finite()) {
                    let (chart, positive) =
                        (self.title.clone(), if self.log_y { ", and the second above 0" } else { "" });
                    return Err(PlotError::NonFinite { chart, index, x, y, positive });
                }
                reach(x, height);
                if let (Mark::Bars(width), false) = (&series.mark, self.log_y) {
                    reach(x - width / 2.0, 0.0);
                    reach(x + width / 2.0, 0.0);
                }
            }
        }
        let names = ["the range of the first axis", "the range of the second axis"];
        let mut extent = [0.0..0.0, 0.0..0.0];
        for (axis, (found, name)) in found.into_iter().zip(names).enumerate() {
            extent[axis] = match self.ranges[axis].clone() {
                Some(range) => {
                    check(name, &range)?;
                    let height = |value| if axis == 1 { self.height(value) } else { value };
                    let range = height(range.start)..height(range.end);
                    check(name, &range)?;
                    range
                }
                None if found.start > found.end => return Err(PlotError::NoPoints { chart: self.title.clone() }),
                // Some room beyond the outermost points, and a length for an axis whose points lie at one place.
                None => {
                    let room = 0.04 * (found.end - found.start);
                    let room = if room > 0.0 { room } else { found.start.abs().max(1.0) / 2.0 };
                    found.start - room..found.end + room
                }
            };
        }
        Ok(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_reach_as_far_as_points_bars_and_arrows() {
        let chart = Chart::new("").line("", BLUE, [(0.0, 1.0), (10.0, 2.0)]);
        let [x, y] = chart.extent().expect("points");
        assert_eq!((x, y), (-0.4..10.4, 0.96..2.04));
        let bars = Histogram { width: 2.0, bars: vec![(1.0, 3.0)] };
        let [x, y] = Chart::new("").bars("", BLUE, &bars).y(0.0..4.0).extent().expect("bars");
        assert!(x.start < 0.0 && x.end > 2.0 && y == (0.0..4.0));
        let [x, _] = Chart::new("").arrows("", RED, [((0.0, 0.0), (5.0, 1.0))]).extent().expect("arrows");
        assert!(x.end > 5.0);
        let [x, y] = Chart::new("").dots("", GRAY, [(3.0, 0.0)]).extent().expect("a point");
        assert_eq!((x, y), (1.5..4.5, -0.5..0.5));
    }

    #[test]
    fn a_logarithmic_axis_is_in_powers_of_ten() {
        let chart = Chart::new("").log_y().line("", BLUE, [(0.0, 1e-3), (1.0, 10.0)]);
        assert_eq!(chart.clone().y(1e-2..100.0).extent().expect("points")[1], -2.0..2.0);
        let [_, y] = chart.extent().expect("points");
        assert!((y.start + 3.16).abs() < 1e-9 && (y.end - 1.16).abs() < 1e-9, "{y:?}");
        let error = Chart::new("loss").log_y().dots("", BLUE, [(0.0, 1.0), (1.0, 0.0)]).extent().expect_err("a zero");
        assert!(
            matches!(error, PlotError::NonFinite { index: 1, .. }) && error.to_string().contains("above 0"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let error = Chart::new("empty").extent().expect_err("no points");
        assert!(matches!(&error, PlotError::NoPoints { chart } if chart == "empty"), "{error}");
        let error = Chart::new("nan").line("", BLUE, [(0.0, 0.0), (f64::NAN, 1.0)]).extent().expect_err("NaN");
        assert!(matches!(error, PlotError::NonFinite { index: 1, .. }), "{error}");
        let error = Chart::new("").dots("", BLUE, [(0.0, 0.0)]).x(2.0..1.0).extent().expect_err("reversed");
        assert!(matches!(error, PlotError::Range { .. }), "{error}");
        let error = Chart::new("").log_y().dots("", BLUE, [(0.0, 1.0)]).y(0.0..1.0).extent().expect_err("endless");
        assert!(matches!(error, PlotError::Range { .. }), "{error}");
    }

    #[test]
    fn shades_cover_their_ranges() {
        let chart = Chart::new("").shades(BLUE, [0.0..2.0, -1.0..1.0], 2, vec![0.0, 0.5, 1.0, 2.0]);
        assert_eq!(chart.series[0].points, [(0.0, -1.0), (1.0, -1.0), (0.0, 0.0), (1.0, 0.0)]);
        assert_eq!(chart.extent().expect("ranges"), [0.0..2.0, -1.0..1.0]);
    }
}
