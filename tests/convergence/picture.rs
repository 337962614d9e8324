//! The picture of the orders: errors over numbers of steps, both logarithmic.

use super::{EVEN_LAMBDA, error};
use crate::common::order::Errors;
use crate::common::parallel::each;
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

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/orders.png");
const SIZE: (u32, u32) = (1280, 1040);

/// A curve: its name, the order that is claimed, and its points.
type Curve = (&'static str, f64, Points);

/// The curves of each panel.
fn measured() -> Vec<Vec<Curve>> {
    let places: Vec<(usize, &str)> = PANELS
        .iter()
        .enumerate()
        .flat_map(|(panel, (.., names))| names.iter().map(move |name| (panel, *name)))
        .collect();
    // Solvers are not sent between threads: each curve makes its own.
    let mut curves = each(places.len(), |index| {
        let (panel, name) = places[index];
        let row = rows().into_iter().find(|row| row.name == name);
        let row = row.unwrap_or_else(|| panic!("{name} is not in the table of orders"));
        let claim = row.claims.iter().find(|claim| PANELS[panel].0(claim.kind));
        let claim = claim.unwrap_or_else(|| panic!("{name} has no order of that kind"));
        (name, claim.order, points(&row, claim))
    })
    .into_iter();
    PANELS.iter().map(|(.., names)| curves.by_ref().take(names.len()).collect()).collect()
}

/// The picture's red, green and blue, line by line.
fn drawn(panels: &[Vec<Curve>]) -> Result<Vec<u8>, Box<dyn Error>> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged")?;
    let mut pixels = vec![0; 3 * SIZE.0 as usize * SIZE.1 as usize];
    let root = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, ((_, title, _), curves)) in root.split_evenly((2, 2)).iter().zip(PANELS.iter().zip(panels)) {
        panel(area, title, curves)?;
    }
    root.present()?;
    drop(root);
    Ok(pixels)
}

/// How many pixels of two pictures differ.
fn different(a: &[u8], b: &[u8]) -> usize {
    assert_eq!(a.len(), b.len(), "pictures of other sizes");
    a.chunks(3).zip(b.chunks(3)).filter(|(a, b)| a != b).count()
}

/// On another processor the last digits of an error may move a point to the next pixel.
const MOVED: usize = 30;

/// The committed picture is the one of the errors that are measured here, pixel by pixel.
#[test]
fn the_picture_of_orders_is_up_to_date() {
    let measured = measured();
    let now = drawn(&measured).expect("a picture");
    if std::env::var_os("LANGEVIN_WRITE_DOCS").is_some() {
        image::save_buffer(PATH, &now, SIZE.0, SIZE.1, image::ExtendedColorType::Rgb8).expect("docs/images/orders.png");
    }
    let committed = image::open(PATH).expect("docs/images/orders.png").into_rgb8();
    assert_eq!(committed.dimensions(), SIZE, "write docs/images/orders.png with LANGEVIN_WRITE_DOCS=1");
    let moved = different(&committed, &now);
    assert!(moved <= MOVED, "{moved} pixels of docs/images/orders.png are others; write it with LANGEVIN_WRITE_DOCS=1");
    // A tenth of one error is seen, of every curve.
    for (panel, index) in
        (0..PANELS.len()).flat_map(|panel| (0..measured[panel].len()).map(move |index| (panel, index)))
    {
        let mut other = measured.clone();
        let curve = &mut other[panel][index];
        let middle = curve.2.len() / 2;
        curve.2[middle].1 += 1.1f64.log10();
        let seen = different(&drawn(&other).expect("a picture"), &now);
        assert!(seen > MOVED, "{}: a tenth of an error moves {seen} pixels", measured[panel][index].0);
    }
}

fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    title: &str,
    drawn: &[Curve],
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
