//! Charts as PNG: curves, points, histograms, arrows and shades over two axes, several side by side.
//!
//! For looking at losses, distributions, paths and fields without leaving the program; the font is embedded, so that
//! nothing need be installed.
//!
//! ```
//! use langevin_plot::{BLUE, Chart, Histogram, ORANGE, save};
//!
//! # let folder = tempfile::tempdir()?;
//! let values: Vec<f64> = (0..1000).map(|i| (f64::from(i) * 0.61803).fract()).collect();
//! let density = Histogram::density(&values, 0.0..1.0, 20)?;
//! let exact = [(0.0, 1.0), (1.0, 1.0)];
//! let chart = Chart::new("uniform").axes("value", "density").y(0.0..1.5);
//! let chart = chart.bars("samples", BLUE, &density).line("exact", ORANGE, exact);
//! save(&[chart], folder.path().join("uniform.png"))?;
//! # assert!(folder.path().join("uniform.png").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chart;
mod draw;
mod error;
mod histogram;

pub use chart::{BLUE, Chart, Color, GRAY, ORANGE, RED};
pub use draw::save;
pub use error::PlotError;
pub use histogram::Histogram;
