//! Panels of curves, and sheets of small gray images.

use langevin::prelude::Tensor;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::ops::Range;
use std::path::Path;

/// A line through points, with a name.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dots: bool,
}

/// Some curves in one system of axes.
pub struct Panel {
    pub title: String,
    pub x: (&'static str, Range<f64>),
    pub y: (&'static str, Range<f64>),
    /// Whether y values are logarithms to the base 10.
    pub logarithmic: bool,
    pub curves: Vec<Curve>,
}

const COLORS: [RGBColor; 4] =
    [RGBColor(30, 60, 140), RGBColor(200, 80, 30), RGBColor(40, 130, 80), RGBColor(130, 60, 140)];

fn font() -> Result<(), Box<dyn Error>> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged".into())
}

/// Panels in rows of `columns`.
pub fn panels(panels: &[Panel], columns: usize, path: &Path) -> Result<(), Box<dyn Error>> {
    font()?;
    let rows = panels.len().div_ceil(columns);
    let (width, height) = if columns > 2 { (270, 220) } else { (470, 340) };
    let root = BitMapBackend::new(path, (width * columns as u32, height * rows as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .caption(&panel.title, ("sans-serif", 15))
            .x_label_area_size(34)
            .y_label_area_size(if panel.y.0.is_empty() { 34 } else { 46 })
            .build_cartesian_2d(panel.x.1.clone(), panel.y.1.clone())?;
        let number = |value: &f64| format!("{}", (1e6 * value).round() / 1e6);
        let of_y = |y: &f64| number(&if panel.logarithmic { 10f64.powf(*y) } else { *y });
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .x_labels(if columns > 2 { 5 } else { 10 })
            .y_labels(6)
            .x_desc(panel.x.0)
            .y_desc(panel.y.0)
            .x_label_formatter(&number)
            .y_label_formatter(&of_y)
            .draw()?;
        for (curve, color) in panel.curves.iter().zip(COLORS) {
            let line = chart.draw_series(LineSeries::new(curve.points.iter().copied(), color.stroke_width(2)))?;
            if curve.dots {
                line.label(&curve.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
                chart.draw_series(curve.points.iter().map(|p| Circle::new(*p, 3, color.filled())))?;
            } else {
                // The name above the line, and left of it where it rises.
                let (first, last) = (curve.points[0], curve.points[curve.points.len() - 1]);
                let (_, y) = curve.points[curve.points.len() / 8];
                let x = first.0 + (last.0 - first.0) / if last.1 > first.1 { 14.0 } else { 8.0 };
                let above = 0.12 * (panel.y.1.end - panel.y.1.start);
                let style = ("sans-serif", 15).into_font().color(&color);
                chart.draw_series(std::iter::once(Text::new(curve.name.clone(), (x, y + above), style)))?;
            }
        }
        if panel.curves.iter().any(|curve| curve.dots) {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .label_font(("sans-serif", 13))
                .draw()?;
        }
    }
    Ok(root.present()?)
}

/// An image of 8 by 8 values with a caption.
pub struct Tile {
    caption: String,
    values: Vec<f32>,
}

impl Tile {
    /// From a tensor `[1, 64]`.
    pub fn new(caption: &str, x: Tensor<2>) -> Result<Self, Box<dyn Error>> {
        Ok(Self { caption: caption.to_owned(), values: x.try_to_vec_as::<f32>()? })
    }
}

/// Rows of tiles, each with its name.
pub struct Sheet {
    /// Names of the columns, or nothing.
    pub headers: Vec<String>,
    pub rows: Vec<(String, Vec<Tile>)>,
    /// The column before which there is a gap.
    pub gap: Option<usize>,
}

const PIXEL: i32 = 10;

/// Draws a sheet; −1.5 and below is black, 1.5 and above white.
pub fn tiles(sheet: &Sheet, path: &Path) -> Result<(), Box<dyn Error>> {
    font()?;
    let side = 8 * PIXEL;
    let (left, top, below) = if sheet.headers.is_empty() { (130, 8, 24) } else { (70, 28, 10) };
    let column = |i: usize| left + i as i32 * (side + 10) + if sheet.gap.is_some_and(|gap| i >= gap) { 24 } else { 0 };
    let size = (column(sheet.rows[0].1.len()), top + sheet.rows.len() as i32 * (side + below));
    let root = BitMapBackend::new(path, (size.0 as u32, size.1 as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let style = ("sans-serif", 14).into_font().color(&BLACK);
    let centered = style.pos(Pos::new(HPos::Center, VPos::Top));
    for (i, header) in sheet.headers.iter().enumerate() {
        root.draw_text(header, &centered, (column(i) + side / 2, 8))?;
    }
    for (j, (name, tiles)) in sheet.rows.iter().enumerate() {
        let y = top + j as i32 * (side + below);
        root.draw_text(name, &style, (8, y + side / 2 - 8))?;
        for (i, tile) in tiles.iter().enumerate() {
            let x = column(i);
            for (k, value) in tile.values.iter().enumerate() {
                let gray = (255.0 * ((value + 1.5) / 3.0).clamp(0.0, 1.0)) as u8;
                let (x, y) = (x + k as i32 % 8 * PIXEL, y + k as i32 / 8 * PIXEL);
                root.draw(&Rectangle::new([(x, y), (x + PIXEL, y + PIXEL)], RGBColor(gray, gray, gray).filled()))?;
            }
            root.draw_text(&tile.caption, &centered, (x + side / 2, y + side + 3))?;
        }
    }
    Ok(root.present()?)
}
