//! Panels of points and of arrows.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

/// Where an arrow starts, and where it points.
pub type Arrow = ((f64, f64), (f64, f64));

const SIZE: u32 = 380;

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'b, BitMapBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn panel<'a, 'b>(area: &'b Area<'a>, title: &str) -> Result<Chart<'a, 'b>, Box<dyn Error>> {
    let mut chart =
        ChartBuilder::on(area).margin(8).caption(title, ("sans-serif", 22)).build_cartesian_2d(-2.5..2.5, -2.5..2.5)?;
    chart.configure_mesh().disable_mesh().draw()?;
    Ok(chart)
}

fn font() -> Result<(), Box<dyn Error>> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged".into())
}

/// One panel for each set of points.
pub fn scatter(panels: &[(String, Vec<(f64, f64)>)], path: &Path) -> Result<(), Box<dyn Error>> {
    font()?;
    let root = BitMapBackend::new(path, (SIZE * panels.len() as u32, SIZE)).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((1, panels.len()));
    for (area, (title, points)) in areas.iter().zip(panels) {
        let mut chart = panel(area, title)?;
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 1, RGBColor(30, 60, 140).mix(0.5).filled())))?;
    }
    Ok(root.present()?)
}

/// One panel of arrows for each time, over the data; arrows are as long as the logarithm of what they show.
pub fn arrows(fields: &[(f64, Vec<Arrow>)], data: &[(f64, f64)], path: &Path) -> Result<(), Box<dyn Error>> {
    font()?;
    let root = BitMapBackend::new(path, (SIZE * fields.len() as u32, SIZE)).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((1, fields.len()));
    for (area, (t, arrows)) in areas.iter().zip(fields) {
        let mut chart = panel(area, &format!("score at σ = {t}"))?;
        chart.draw_series(data.iter().map(|p| Circle::new(*p, 1, RGBColor(220, 150, 60).mix(0.4).filled())))?;
        for (from, score) in arrows {
            let length = score.0.hypot(score.1);
            let scale = 0.06 * (1.0 + length).ln() / length.max(1e-9);
            let to = (from.0 + score.0 * scale, from.1 + score.1 * scale);
            let blue = RGBColor(30, 60, 140);
            chart.draw_series(std::iter::once(PathElement::new(vec![*from, to], blue)))?;
            chart.draw_series(std::iter::once(Circle::new(to, 1, blue.filled())))?;
        }
    }
    Ok(root.present()?)
}
