//! Panels of lines, points and bars.

use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;
use std::path::Path;

pub const BLUE: RGBColor = RGBColor(30, 80, 160);
pub const ORANGE: RGBColor = RGBColor(225, 120, 30);
pub const GRAY: RGBColor = RGBColor(150, 150, 150);

pub enum Mark {
    Line,
    Dots,
    /// Bars of this width from zero.
    Bars(f64),
}

/// Points that belong together; without a name they are not in the legend.
pub struct Series {
    pub name: &'static str,
    pub color: RGBColor,
    pub mark: Mark,
    pub points: Vec<(f64, f64)>,
}

pub struct Panel {
    pub title: &'static str,
    pub axes: [&'static str; 2],
    pub x: Range<f64>,
    pub y: Range<f64>,
    pub series: Vec<Series>,
}

/// Draws panels side by side.
pub fn draw(panels: &[Panel], path: &Path) -> Result<(), Box<dyn Error>> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged")?;
    let root = BitMapBackend::new(path, (520 * panels.len() as u32, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
        draw_panel(area, panel)?;
    }
    Ok(root.present()?)
}

fn draw_panel(area: &DrawingArea<BitMapBackend<'_>, Shift>, panel: &Panel) -> Result<(), Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(panel.title, ("sans-serif", 20))
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(panel.x.clone(), panel.y.clone())?;
    let [x, y] = panel.axes;
    chart.configure_mesh().light_line_style(WHITE).bold_line_style(BLACK.mix(0.1)).x_desc(x).y_desc(y).draw()?;
    for Series { name, color, mark, points } in &panel.series {
        let color = *color;
        let drawn = match mark {
            Mark::Line => chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?,
            Mark::Dots => chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, color.filled())))?,
            Mark::Bars(width) => chart.draw_series(points.iter().map(|(x, y)| {
                Rectangle::new([(x - width / 2.0, 0.0), (x + width / 2.0, *y)], color.mix(0.45).filled())
            }))?,
        };
        if !name.is_empty() {
            drawn.label(*name).legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], color.filled()));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// Bars of a density: shares of `values` in `bins` equal bins, those outside counted in the total.
pub fn histogram(values: &[f64], range: &Range<f64>, bins: usize, total: usize) -> (f64, Vec<(f64, f64)>) {
    let width = (range.end - range.start) / bins as f64;
    let mut counts = vec![0usize; bins];
    for value in values.iter().filter(|value| range.contains(value)) {
        counts[(((value - range.start) / width) as usize).min(bins - 1)] += 1;
    }
    let height = |count: &usize| *count as f64 / (total as f64 * width);
    let middle = |i: usize| range.start + (i as f64 + 0.5) * width;
    (width, counts.iter().enumerate().map(|(i, count)| (middle(i), height(count))).collect())
}
