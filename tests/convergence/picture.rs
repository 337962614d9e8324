//! The picture of the orders: errors over numbers of steps, both logarithmic.

use super::{EVEN_LAMBDA, error};
use crate::common::order::Errors;
use crate::common::solvers::{Claim, Kind, Row, rows};
use langevin::core::process::VpSde;
use plotters::prelude::*;
use std::error::Error;

/// Which kinds a panel takes, its title, and the rows that are drawn.
type Panel = (fn(Kind) -> bool, &'static str, &'static [&'static str]);

/// What is drawn of each kind: the table has all.
const PANELS: [Panel; 4] = [
    (
        |kind| kind == Kind::Path,
        "deterministic, as shipped",
        &["DDIM", "Heun in σ/α", "LMS of order 4", "DPM-Solver++ 2M", "DPM-Solver++ 3S", "probability flow, RK4"],
    ),
    (
        |kind| matches!(kind, Kind::Started { .. }),
        "multistep, started exactly",
        &["DPM-Solver++ 2M", "DPM-Solver++ 3M", "DEIS 4", "UniPC-1", "UniPC-2", "UniPC-3"],
    ),
    (
        |kind| kind == Kind::Weak,
        "stochastic, weak",
        &[
            "DDPM, small variance",
            "Euler-Maruyama",
            "Euler ancestral",
            "DPM2 ancestral",
            "DPM-Solver++ 2M SDE",
            "SA-Solver 2, corrector 2",
        ],
    ),
    (
        |kind| kind == Kind::Strong,
        "stochastic, strong",
        &[
            "Euler-Maruyama",
            "DPM-Solver++ SDE, order 1, path",
            "DPM-Solver++ 2M SDE, path",
            "DPM-Solver++ 3M SDE, path",
        ],
    ),
];

const COLORS: [RGBColor; 7] = [
    RGBColor(30, 60, 140),
    RGBColor(200, 80, 30),
    RGBColor(40, 130, 80),
    RGBColor(130, 60, 140),
    RGBColor(180, 140, 20),
    RGBColor(20, 140, 160),
    RGBColor(90, 90, 90),
];

type Points = Vec<(f64, f64)>;

/// Logarithms to the base 10 of steps and errors on VP.
fn points(row: &Row, claim: &Claim) -> Points {
    let vp = VpSde::default();
    let errors = Errors::measure(claim.first, claim.doublings, |n| error(row, claim, &vp, n, EVEN_LAMBDA));
    errors.steps.iter().zip(&errors.errors).map(|(n, e)| ((*n as f64).log10(), e.log10())).collect()
}

/// Draws `docs/images/orders.png`.
pub fn draw() -> Result<(), Box<dyn Error>> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged")?;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/orders.png");
    let root = BitMapBackend::new(path, (1280, 1040)).into_drawing_area();
    root.fill(&WHITE)?;
    let rows = rows();
    for (area, (kind, title, names)) in root.split_evenly((2, 2)).iter().zip(PANELS) {
        let find = |name: &&'static str| {
            let row = rows.iter().find(|row| row.name == *name);
            let claim = row.and_then(|row| Some((row, row.claims.iter().find(|claim| kind(claim.kind))?)));
            let (row, claim) = claim.ok_or_else(|| format!("{name} is not in the table of orders"))?;
            Ok((*name, claim.order, points(row, claim)))
        };
        let drawn: Vec<(&str, f64, Points)> = names.iter().map(find).collect::<Result<_, String>>()?;
        panel(area, title, &drawn)?;
    }
    root.present()?;
    Ok(())
}

fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    title: &str,
    drawn: &[(&str, f64, Points)],
) -> Result<(), Box<dyn Error>>
where
    DB::ErrorType: 'static,
{
    let all = || drawn.iter().flat_map(|(.., points)| points.iter().copied());
    let least = |of: fn((f64, f64)) -> f64| all().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn((f64, f64)) -> f64| all().map(of).fold(f64::NEG_INFINITY, f64::max);
    let x = least(|p| p.0) - 0.05..most(|p| p.0) + 0.05;
    // Room for the names below the curves.
    let y = least(|p| p.1) - 0.42 * (most(|p| p.1) - least(|p| p.1)) - 0.3..most(|p| p.1) + 0.3;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(title, ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.1))
        .x_labels(6)
        .y_labels(8)
        .x_desc("steps")
        .y_desc("error of x/α")
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 14))
        .x_label_formatter(&|x| format!("{:.0}", 10f64.powf(*x)))
        .y_label_formatter(&|y| format!("{:.0e}", 10f64.powf(*y)))
        .draw()?;
    for ((name, order, points), color) in drawn.iter().zip(COLORS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(format!("{name}: {order}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, color.filled())))?;
    }
    // One dashed line for each order, through the last point of the first solver that has it.
    let mut orders: Vec<f64> = Vec::new();
    for (_, order, points) in drawn {
        if orders.contains(order) {
            continue;
        }
        orders.push(*order);
        let (from, to) = (points[0], points[points.len() - 1]);
        let ideal = [(from.0, to.1 + order * (to.0 - from.0)), to];
        chart.draw_series(DashedLineSeries::new(ideal, 6, 5, BLACK.mix(0.5).into()))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}
