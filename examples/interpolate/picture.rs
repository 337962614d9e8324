//! The picture: one row for each pair.

use langevin::data::ImageGrid;
use langevin::prelude::*;
use std::error::Error;
use std::path::Path;

/// Colors of real and of decoded digits.
const REAL: [f64; 3] = [1.0, 0.76, 0.3];
const DECODED: [f64; 3] = [1.0, 1.0, 1.0];

/// Saves columns of gray images `[pairs, 1, height, width]` beside one another, the outer two in another color.
pub fn save(columns: &[Tensor<4>], path: &Path) -> Result<(), Box<dyn Error>> {
    let last = columns.len().saturating_sub(1);
    let colored = |(i, column): (usize, &Tensor<4>)| tinted(column, if i == 0 || i == last { REAL } else { DECODED });
    let columns: Vec<_> = columns.iter().enumerate().map(colored).collect();
    let rows = columns.first().map_or(0, |column| column.dims()[0]);
    let images = (0..rows).flat_map(|row| columns.iter().map(move |column| column.clone().narrow(0, row, 1)));
    let grid = ImageGrid::new(columns.len())?.upscale(6)?.padding(3).background([40, 44, 52]);
    Ok(grid.save(&Tensor::cat(images.collect(), 0), path)?)
}

/// A gray image in `[-1, 1]` as red, green and blue, with `color` for its brightest pixels.
fn tinted(image: &Tensor<4>, color: [f64; 3]) -> Tensor<4> {
    let light = image.clone().clamp(-1.0, 1.0).add_scalar(1.0);
    Tensor::cat(color.map(|channel| light.clone().mul_scalar(channel).sub_scalar(1.0)).to_vec(), 1)
}
