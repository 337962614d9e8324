//! The picture: one row for each digit.

use langevin::core::inverse::{LinearOperator, Measurement};
use langevin::data::ImageGrid;
use langevin::prelude::*;
use std::error::Error;
use std::path::Path;

/// Color of true digits.
const TRUTH: [f64; 3] = [1.0, 0.76, 0.3];

/// Saves columns of images `[rows, 3, height, width]` beside one another.
pub fn save(columns: &[Tensor<4>], path: &Path) -> Result<(), Box<dyn Error>> {
    let rows = columns.first().map_or(0, |column| column.dims()[0]);
    let images = (0..rows).flat_map(|row| columns.iter().map(move |column| column.clone().narrow(0, row, 1)));
    let grid = ImageGrid::new(columns.len())?.upscale(5)?.padding(3).background([40, 44, 52]);
    Ok(grid.save(&Tensor::cat(images.collect(), 0), path)?)
}

/// A measurement as images of a shape: itself if it has that, and by the pseudo-inverse if it is smaller.
pub fn shown(
    measurement: &Measurement<&dyn LinearOperator<4>, 4>,
    shape: [usize; 4],
) -> Result<Tensor<4>, Box<dyn Error>> {
    let y = measurement.y();
    Ok(if y.dims() == shape { y } else { measurement.operator().pseudo_inverse(y)? })
}

/// True digits, `[n, 1, height, width]`, in color.
pub fn tinted(image: &Tensor<4>) -> Tensor<4> {
    let light = image.clone().clamp(-1.0, 1.0).add_scalar(1.0);
    Tensor::cat(TRUTH.map(|channel| light.clone().mul_scalar(channel).sub_scalar(1.0)).to_vec(), 1)
}

/// Other images, `[n, 1, height, width]`, as three equal channels.
pub fn gray(image: &Tensor<4>) -> Tensor<4> {
    image.clone().clamp(-1.0, 1.0).repeat_dim(1, 3)
}
