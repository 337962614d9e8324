//! The matrices.

/// Outputs of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tile {
    /// 2 x 2 outputs: F(2 x 2, 3 x 3), from the points 0, ±1, ∞.
    Two,
    /// 4 x 4 outputs: F(4 x 4, 3 x 3), from the points 0, ±1, ±2, ∞.
    Four,
}

const INPUT_2: [[f32; 4]; 4] = [[1., 0., -1., 0.], [0., 1., 1., 0.], [0., -1., 1., 0.], [0., 1., 0., -1.]];
const OUTPUT_2: [[f32; 4]; 2] = [[1., 1., 1., 0.], [0., 1., -1., -1.]];
const KERNEL_2: [[f32; 3]; 4] = [[1., 0., 0.], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0., 0., 1.]];

const INPUT_4: [[f32; 6]; 6] = [
    [4., 0., -5., 0., 1., 0.],
    [0., -4., -4., 1., 1., 0.],
    [0., 4., -4., -1., 1., 0.],
    [0., -2., -1., 2., 1., 0.],
    [0., 2., -1., -2., 1., 0.],
    [0., 4., 0., -5., 0., 1.],
];
const OUTPUT_4: [[f32; 6]; 4] =
    [[1., 1., 1., 1., 1., 0.], [0., 1., -1., 2., -2., 0.], [0., 1., 1., 4., 4., 0.], [0., 1., -1., 8., -8., 1.]];
const KERNEL_4: [[f32; 3]; 6] = [
    [0.25, 0., 0.],
    [-1. / 6., -1. / 6., -1. / 6.],
    [-1. / 6., 1. / 6., -1. / 6.],
    [1. / 24., 1. / 12., 1. / 6.],
    [1. / 24., -1. / 12., 1. / 6.],
    [0., 0., 1.],
];

impl Tile {
    /// Outputs down and across: m.
    #[must_use]
    pub const fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Inputs that they need down and across: m + 2.
    #[must_use]
    pub const fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// An entry of Bᵀ, `[inputs, inputs]`.
    pub(super) const fn input(self, row: usize, column: usize) -> f32 {
        match self {
            Self::Two => INPUT_2[row][column],
            Self::Four => INPUT_4[row][column],
        }
    }

    /// An entry of Aᵀ, `[outputs, inputs]`.
    pub(super) const fn output(self, row: usize, column: usize) -> f32 {
        match self {
            Self::Two => OUTPUT_2[row][column],
            Self::Four => OUTPUT_4[row][column],
        }
    }

    /// An entry of G, `[inputs, 3]`.
    pub(super) const fn kernel(self, row: usize, column: usize) -> f32 {
        match self {
            Self::Two => KERNEL_2[row][column],
            Self::Four => KERNEL_4[row][column],
        }
    }
}

/// A linear map from windows to entries, or from entries to pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Map {
    /// `d → Bᵀ·d·B`
    Tiles(Tile),
    /// The adjoint of `M → Aᵀ·M·A`.
    OfImage(Tile),
    /// `M → Aᵀ·M·A`
    Image(Tile),
    /// The adjoint of `d → Bᵀ·d·B`.
    OfTiles(Tile),
}

impl Map {
    pub(super) const fn tile(self) -> Tile {
        match self {
            Self::Tiles(tile) | Self::OfImage(tile) | Self::Image(tile) | Self::OfTiles(tile) => tile,
        }
    }

    /// Pixels of a window, down and across.
    pub(super) const fn window(self) -> usize {
        match self {
            Self::Tiles(tile) => tile.inputs(),
            _ => self.tile().outputs(),
        }
    }

    /// How many tiles down, and across, a pixel takes part in.
    pub(super) const fn neighbours(self) -> usize {
        match self {
            Self::OfTiles(_) => 2,
            _ => 1,
        }
    }

    /// What an entry and a pixel have to do with each other along one axis; `before` counts tiles before the one whose
    /// outputs begin where the pixels do.
    pub(super) const fn factor(self, entry: usize, pixel: usize, before: usize) -> f32 {
        match self {
            Self::Tiles(tile) => tile.input(entry, pixel),
            Self::Image(tile) | Self::OfImage(tile) => tile.output(pixel, entry),
            Self::OfTiles(tile) => {
                let pixel = pixel + before * tile.outputs();
                if pixel < tile.inputs() { tile.input(entry, pixel) } else { 0.0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One dimension: three weights and a tile give the outputs of the definition.
    #[test]
    fn the_matrices_convolve() {
        for tile in [Tile::Two, Tile::Four] {
            let (n, m) = (tile.inputs(), tile.outputs());
            let d: Vec<f64> = (0..n).map(|i| (i as f64 * 1.7).sin()).collect();
            let g = [0.3, -1.1, 0.7];
            let products: Vec<f64> = (0..n)
                .map(|k| {
                    let input: f64 = (0..n).map(|i| f64::from(tile.input(k, i)) * d[i]).sum();
                    let weight: f64 = (0..3).map(|i| f64::from(tile.kernel(k, i)) * g[i]).sum();
                    input * weight
                })
                .collect();
            for y in 0..m {
                let given: f64 = (0..n).map(|k| f64::from(tile.output(y, k)) * products[k]).sum();
                let expected: f64 = (0..3).map(|i| d[y + i] * g[i]).sum();
                assert!((given - expected).abs() < 1e-6, "{tile:?}, output {y}: {given}, expected {expected}");
            }
        }
    }
}
