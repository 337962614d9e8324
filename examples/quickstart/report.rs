//! The report as JSON, as a table, and the loss curve as a plot.

use plotters::prelude::*;
use serde::Serialize;
use std::error::Error;
use std::path::Path;

#[derive(Serialize)]
pub struct Report {
    pub classifier_accuracy: f64,
    pub real_vs_real_fd: f64,
    pub schedulers: Vec<Row>,
}

#[derive(Serialize)]
pub struct Row {
    pub scheduler: String,
    pub evaluations: usize,
    pub seconds: f64,
    pub recognised: f64,
    pub fd: f64,
    pub nearest_training_distance: f64,
}

impl Report {
    pub fn save(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        Ok(std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// What the default settings must reach. The Fréchet distance of 160 samples may be four times that of as many real
    /// digits: the samples were 1.7 to 2.7 times as far when the bound was set.
    pub fn check(&self) -> Result<(), Box<dyn Error>> {
        let at_least = |what: &str, value: f64, bound: f64| {
            if value >= bound { Ok(()) } else { Err(format!("{what} is {value:.3}, expected at least {bound}")) }
        };
        at_least("the classifier's accuracy", self.classifier_accuracy, 0.97)?;
        for row in &self.schedulers {
            at_least(&format!("the share of {} samples recognised", row.scheduler), row.recognised, 0.90)?;
            at_least(
                &format!("minus the Fréchet distance of {}", row.scheduler),
                -row.fd,
                -4.0 * self.real_vs_real_fd,
            )?;
            // Copies of training digits would lie at 0.
            at_least(
                &format!("the distance of {} samples to the training data", row.scheduler),
                row.nearest_training_distance,
                1.0,
            )?;
        }
        Ok(())
    }

    pub fn print(&self) {
        println!("\nclassifier: {:.1}% of held-out digits right", 100.0 * self.classifier_accuracy);
        println!("Fréchet distance of real training digits to held-out digits: {:.2}\n", self.real_vs_real_fd);
        println!(
            "{:<28} {:>6} {:>8} {:>11} {:>7} {:>8}",
            "scheduler", "evals", "seconds", "recognised", "fd", "nearest"
        );
        for row in &self.schedulers {
            println!(
                "{:<28} {:>6} {:>8.1} {:>10.1}% {:>7.2} {:>8.2}",
                row.scheduler,
                row.evaluations,
                row.seconds,
                100.0 * row.recognised,
                row.fd,
                row.nearest_training_distance
            );
        }
    }
}

/// The loss over the steps: every value thin, a running mean thick.
pub fn plot_losses(history: &[(u64, f64)], path: &Path) -> Result<(), Box<dyn Error>> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the embedded font is damaged")?;
    let root = BitMapBackend::new(path, (900, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let last = history.last().map_or(1.0, |(step, _)| *step as f64);
    let top = history.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..last, 0.0..top * 1.05)?;
    chart.configure_mesh().x_desc("step").y_desc("loss (MSE of v)").draw()?;
    let all = history.iter().map(|(step, loss)| (*step as f64, *loss));
    chart.draw_series(LineSeries::new(all, RGBColor(170, 190, 225)))?;
    let mut mean = history.first().map_or(0.0, |(_, loss)| *loss);
    let smooth = history.iter().map(|(step, loss)| {
        mean += 0.05 * (loss - mean);
        (*step as f64, mean)
    });
    chart.draw_series(LineSeries::new(smooth, RGBColor(30, 60, 140).stroke_width(2)))?;
    root.present()?;
    Ok(())
}
