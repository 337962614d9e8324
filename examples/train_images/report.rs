//! The course of training as a picture and as JSON.

use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;

/// What a run came to.
#[derive(Default, Serialize, Deserialize)]
pub struct Report {
    device: String,
    parameters: usize,
    /// Steps of the last start of the program, and what they took, samples included.
    steps: u64,
    seconds: f64,
    first_loss: f32,
    last_loss: f32,
    /// Held-out losses by step, of earlier starts, too.
    held_out: Vec<(u64, f32)>,
}

fn mean(losses: &[f32]) -> f32 {
    losses.iter().sum::<f32>() / losses.len().max(1) as f32
}

impl Report {
    /// Goes on with the report at `path`, if there is one.
    pub fn new(device: &str, parameters: usize, path: &Path) -> Self {
        let earlier = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let held_out = earlier.unwrap_or_default().held_out;
        Self { device: device.to_owned(), parameters, held_out, ..Self::default() }
    }

    pub fn hold_out(&mut self, step: u64, loss: f32) {
        self.held_out.retain(|(earlier, _)| *earlier < step);
        self.held_out.push((step, loss));
    }

    /// Saves all that is known after `steps` steps of this start.
    pub fn save(&mut self, losses: &[f32], steps: u64, seconds: f64, path: &Path) -> std::io::Result<()> {
        (self.steps, self.seconds) = (steps, seconds);
        self.first_loss = mean(&losses[..losses.len().min(100)]);
        self.last_loss = mean(&losses[losses.len().saturating_sub(100)..]);
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// Losses, averaged over a hundredth of the run, and held-out losses.
    pub fn draw(&self, losses: &[f32], path: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
        register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "a damaged font")?;
        let window = (losses.len() / 100).max(1);
        let points: Vec<_> =
            losses.chunks(window).enumerate().map(|(i, chunk)| ((i + 1) * window, mean(chunk))).collect();
        let both = points.iter().map(|(_, loss)| *loss).chain(self.held_out.iter().map(|(_, loss)| *loss));
        let (low, high) = both.fold((f32::MAX, f32::MIN), |(low, high), loss| (low.min(loss), high.max(loss)));
        let area = BitMapBackend::new(path, (720, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0..losses.len(), (0.9 * low..1.1 * high).log_scale())?;
        chart.configure_mesh().x_desc("step").y_desc("weighted loss").light_line_style(WHITE).draw()?;
        chart
            .draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?
            .label("training")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE));
        let held_out = self.held_out.iter().map(|(step, loss)| Circle::new((*step as usize, *loss), 4, RED.filled()));
        chart.draw_series(held_out)?.label("held out").legend(|(x, y)| Circle::new((x + 8, y), 4, RED.filled()));
        chart.configure_series_labels().background_style(WHITE.mix(0.9)).border_style(BLACK).draw()?;
        area.present()?;
        Ok(())
    }
}
