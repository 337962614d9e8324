//! A density as shades, and points over it.

use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

/// Shades of `ln p` on a square lattice of `side` points a side over ±`edge`, lowest row first, with points as dots.
pub fn density(log_p: &[f64], side: usize, edge: f64, points: &[f32], path: &Path) -> Result<(), Box<dyn Error>> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged")?;
    let root = BitMapBackend::new(path, (760, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((1, 2));
    let most = log_p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = 2.0 * edge / side as f64;
    for (area, (title, shade)) in areas.iter().zip([
        ("density, and held-out points", (&|log: f64| (log - most).exp()) as &dyn Fn(f64) -> f64),
        ("its logarithm, down to -12", &|log: f64| (1.0 + (log - most) / 12.0).max(0.0)),
    ]) {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .caption(title, ("sans-serif", 20))
            .build_cartesian_2d(-edge..edge, -edge..edge)?;
        chart.configure_mesh().disable_mesh().draw()?;
        let cells = log_p.iter().enumerate().map(|(index, log)| {
            let (x, y) = ((index % side) as f64 * width - edge, (index / side) as f64 * width - edge);
            let share = shade(*log).sqrt();
            let mix = |dark: f64| (255.0 + share * (dark - 255.0)) as u8;
            Rectangle::new([(x, y), (x + width, y + width)], RGBColor(mix(30.0), mix(60.0), mix(140.0)).filled())
        });
        chart.draw_series(cells)?;
        if title.contains("points") {
            let dots = points.chunks(2).map(|p| (f64::from(p[0]), f64::from(p[1])));
            chart.draw_series(dots.map(|at| Circle::new(at, 2, RGBColor(220, 120, 30).mix(0.7).filled())))?;
        }
    }
    Ok(root.present()?)
}
