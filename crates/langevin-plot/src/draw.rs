//! Drawing with plotters.

use crate::PlotError;
use crate::chart::{Chart, Mark, Series};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::register_font;
use std::error::Error;
use std::path::Path;

/// Width and height of one chart, in pixels.
const SIZE: (u32, u32) = (520, 400);
/// From so many points on they are small.
const MANY: usize = 200;

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Axes<'a, 'b> = ChartContext<'b, BitMapBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn Error + Send + Sync>>;

/// Draws charts side by side into a PNG file.
///
/// # Errors
/// [`PlotError`]: no charts, a chart without points or with such as are not finite, ranges without inside, a file that
/// cannot be written.
pub fn save(charts: &[Chart], path: impl AsRef<Path>) -> Result<(), PlotError> {
    let path = path.as_ref();
    if charts.is_empty() {
        return Err(PlotError::NoCharts);
    }
    let extents = charts.iter().map(Chart::extent).collect::<Result<Vec<_>, _>>()?;
    let draw = || -> Drawn {
        register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "a damaged font")?;
        let root = BitMapBackend::new(path, (SIZE.0 * charts.len() as u32, SIZE.1)).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, (chart, extent)) in root.split_evenly((1, charts.len())).iter().zip(charts.iter().zip(extents)) {
            draw_chart(area, chart, extent)?;
        }
        Ok(root.present()?)
    };
    draw().map_err(|source| PlotError::Draw { path: path.to_owned(), source })
}

fn rgb([red, green, blue]: crate::Color) -> RGBColor {
    RGBColor(red, green, blue)
}

fn draw_chart(area: &Area<'_>, chart: &Chart, [x, y]: [std::ops::Range<f64>; 2]) -> Drawn {
    let mut builder = ChartBuilder::on(area);
    builder.margin(10).x_label_area_size(40).y_label_area_size(56);
    if !chart.title.is_empty() {
        builder.caption(&chart.title, ("sans-serif", 20));
    }
    let mut axes = builder.build_cartesian_2d(x, y)?;
    let power = |y: &f64| format!("{:.1e}", 10f64.powf(*y));
    let mut mesh = axes.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(BLACK.mix(0.1)).x_desc(&chart.axes[0]).y_desc(&chart.axes[1]);
    if chart.log_y {
        mesh.y_label_formatter(&power);
    }
    mesh.draw()?;
    for series in &chart.series {
        draw_series(&mut axes, chart, series)?;
    }
    if chart.series.iter().any(|series| !series.name.is_empty()) {
        axes.configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    Ok(())
}

fn draw_series<'a>(axes: &mut Axes<'a, '_>, chart: &Chart, Series { name, color, mark, points }: &Series) -> Drawn {
    let color = rgb(*color);
    let place = |&(x, y): &(f64, f64)| (x, chart.height(y));
    let places = points.iter().map(place);
    let drawn = match mark {
        Mark::Line => axes.draw_series(LineSeries::new(places, color.stroke_width(2)))?,
        Mark::Dots => {
            let (size, strength) = if points.len() < MANY { (4, 1.0) } else { (1, 0.5) };
            axes.draw_series(places.map(|place| Circle::new(place, size, color.mix(strength).filled())))?
        }
        Mark::Bars(width) => {
            // Zero is nowhere on a logarithmic axis: bars begin at its lower end.
            let ground = if chart.log_y { axes.y_range().start } else { 0.0 };
            let bar =
                |(x, y)| Rectangle::new([(x - width / 2.0, ground), (x + width / 2.0, y)], color.mix(0.45).filled());
            axes.draw_series(places.map(bar))?
        }
        Mark::Arrows(to) => {
            let lines = places.zip(to.iter().map(place)).map(|(from, to)| PathElement::new([from, to], color));
            axes.draw_series(lines)?;
            axes.draw_series(to.iter().map(place).map(|to| Circle::new(to, 1, color.filled())))?
        }
        Mark::Shades([width, height], values) => {
            let cell = |((x, y), value): ((f64, f64), &f64)| {
                let mix = |dark: u8| (255.0 + value.clamp(0.0, 1.0) * (f64::from(dark) - 255.0)) as u8;
                let shade = RGBColor(mix(color.0), mix(color.1), mix(color.2));
                Rectangle::new([(x, y), (x + width, y + height)], shade.filled())
            };
            axes.draw_series(points.iter().copied().zip(values).map(cell))?
        }
    };
    if !name.is_empty() {
        drawn.label(name).legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], color.filled()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLUE, Histogram, ORANGE, RED};

    /// Width, height and pixels of a picture of charts.
    fn drawn(charts: &[Chart]) -> (u32, u32, Vec<[u8; 3]>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("chart.png");
        save(charts, &path).expect("a picture");
        let image = image::open(&path).expect("a picture").into_rgb8();
        (image.width(), image.height(), image.pixels().map(|pixel| pixel.0).collect())
    }

    #[test]
    fn every_mark_leaves_its_color() {
        let bars = Histogram { width: 1.0, bars: vec![(0.5, 1.0), (1.5, 2.0)] };
        let frame = Chart::new("title").axes("x", "y").x(0.0..2.0).y(0.0..3.0);
        let one = frame.clone().line("line", RED, [(0.0, 1.0), (2.0, 1.0)]);
        let two = frame.clone().dots("dots", RED, [(1.0, 1.0)]);
        let three = frame.clone().bars("", RED, &bars);
        let four = frame.clone().arrows("", RED, [((0.0, 0.0), (1.0, 1.0))]);
        let five = frame.clone().shades(RED, [0.0..2.0, 0.0..3.0], 1, vec![1.0]);
        let reds = |chart: &Chart| {
            let (.., pixels) = drawn(std::slice::from_ref(chart));
            pixels.iter().filter(|[r, g, b]| *r > 150 && *g < 190 && *b < 190 && *r > g + 40).count()
        };
        assert_eq!(reds(&frame), 0);
        for chart in [one, two, three, four, five] {
            assert!(reds(&chart) > 20, "{chart:?}");
        }
    }

    #[test]
    fn charts_stand_side_by_side() {
        let chart = |color| Chart::new("").log_y().line("", color, [(0.0, 0.1), (1.0, 10.0)]);
        let (width, height, pixels) = drawn(&[chart(BLUE), chart(ORANGE)]);
        assert_eq!((width, height), (2 * SIZE.0, SIZE.1));
        let columns = |color: crate::Color| {
            let found = pixels.iter().enumerate().filter(move |(_, pixel)| **pixel == color);
            found.map(|(i, _)| i as u32 % width).collect::<Vec<_>>()
        };
        let (left, right) = (columns(BLUE), columns(ORANGE));
        assert!(!left.is_empty() && left.iter().all(|x| *x < SIZE.0));
        assert!(!right.is_empty() && right.iter().all(|x| *x >= SIZE.0));
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        assert!(matches!(save(&[], "nowhere.png"), Err(PlotError::NoCharts)));
        let chart = Chart::new("").dots("", BLUE, [(0.0, 0.0)]);
        let error = save(&[chart], "no/such/folder/chart.png").expect_err("no folder");
        assert!(matches!(&error, PlotError::Draw { .. }) && error.to_string().contains("no/such/folder"), "{error}");
    }
}
