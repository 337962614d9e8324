//! The matrices of Winograd's transforms.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

/// `Aᵀ[(G·g) ⊙ (Bᵀ·d)]`: `STEP` results from `SIDE = STEP + 2` values and three kernel entries.
pub(in super::super) trait Transforms<const STEP: usize, const SIDE: usize>:
    Copy + std::fmt::Debug + Send + Sync
{
    /// `Bᵀ·d`
    fn values(d: [f32; SIDE]) -> [f32; SIDE];
    /// `G·g`
    fn kernel(g: [f32; 3]) -> [f32; SIDE];
    /// `Aᵀ·m`
    fn results(m: [f32; SIDE]) -> [f32; STEP];
}

/// What the gradient of a weight needs besides.
pub(in super::super) trait TransformsBack<const STEP: usize, const SIDE: usize>:
    Transforms<STEP, SIDE>
{
    /// `Gᵀ·u`
    fn kernel_back(u: [f32; SIDE]) -> [f32; 3];
    /// `A·y`
    fn results_back(y: [f32; STEP]) -> [f32; SIDE];
}

/// F(2, 3), of the points 0, ±1 and ∞: 4 products for 6.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Two;

impl Transforms<2, 4> for Two {
    #[inline(always)]
    fn values([a, b, c, d]: [f32; 4]) -> [f32; 4] {
        [a - c, b + c, c - b, d - b]
    }

    #[inline(always)]
    fn kernel([a, b, c]: [f32; 3]) -> [f32; 4] {
        let even = 0.5 * (a + c);
        [a, even + 0.5 * b, even - 0.5 * b, c]
    }

    #[inline(always)]
    fn results([a, b, c, d]: [f32; 4]) -> [f32; 2] {
        [a + b + c, b - c + d]
    }
}

/// F(4, 3), of the points 0, ±1/√2, ±√2 and ∞: 6 products for 12.
///
/// The points in use elsewhere, 0, ±1, ±2 and ∞, cost the same and lose twice as many digits: the powers of these stay between
/// 1/√8 and √8.
///
/// The choice of points: Barabasz, Anderson, Soodhalter, Gregg 2018, [arXiv:1803.10986](https://arxiv.org/abs/1803.10986).
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Four;

impl Transforms<4, 6> for Four {
    #[inline(always)]
    fn values(d: [f32; 6]) -> [f32; 6] {
        let [a, b, c, d, e, f] = d;
        // The even and the odd powers of each pair of opposite points.
        let (even, odd) = (e - 2.0 * c, FRAC_1_SQRT_2 * d - SQRT_2 * b);
        let (far_even, far_odd) = (e - 0.5 * c, SQRT_2 * d - FRAC_1_SQRT_2 * b);
        [a - 2.5 * c + e, even + odd, even - odd, far_even + far_odd, far_even - far_odd, b - 2.5 * d + f]
    }

    #[inline(always)]
    fn kernel([a, b, c]: [f32; 3]) -> [f32; 6] {
        const NEAR: f32 = -2.0 / 3.0;
        const FAR: f32 = 1.0 / 6.0;
        let (even, odd) = (NEAR * (a + 0.5 * c), NEAR * FRAC_1_SQRT_2 * b);
        let (far_even, far_odd) = (FAR * (a + 2.0 * c), FAR * SQRT_2 * b);
        [a, even + odd, even - odd, far_even + far_odd, far_even - far_odd, c]
    }

    #[inline(always)]
    fn results([a, b, c, d, e, f]: [f32; 6]) -> [f32; 4] {
        const CUBE: f32 = 0.5 * FRAC_1_SQRT_2;
        const FAR_CUBE: f32 = 2.0 * SQRT_2;
        let (sum, difference) = (b + c, b - c);
        let (far_sum, far_difference) = (d + e, d - e);
        [
            a + sum + far_sum,
            FRAC_1_SQRT_2 * difference + SQRT_2 * far_difference,
            0.5 * sum + 2.0 * far_sum,
            CUBE * difference + FAR_CUBE * far_difference + f,
        ]
    }
}

impl TransformsBack<4, 6> for Four {
    #[inline(always)]
    fn kernel_back([a, b, c, d, e, f]: [f32; 6]) -> [f32; 3] {
        const NEAR: f32 = -2.0 / 3.0;
        const FAR: f32 = 1.0 / 6.0;
        let (near, far) = (NEAR * (b + c), FAR * (d + e));
        [a + near + far, NEAR * FRAC_1_SQRT_2 * (b - c) + FAR * SQRT_2 * (d - e), 0.5 * near + 2.0 * far + f]
    }

    #[inline(always)]
    fn results_back([a, b, c, d]: [f32; 4]) -> [f32; 6] {
        let (even, odd) = (a + 0.5 * c, FRAC_1_SQRT_2 * (b + 0.5 * d));
        let (far_even, far_odd) = (a + 2.0 * c, SQRT_2 * (b + 2.0 * d));
        [a, even + odd, even - odd, far_even + far_odd, far_even - far_odd, d]
    }
}
