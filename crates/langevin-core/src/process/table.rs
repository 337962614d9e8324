//! Betas, cumulative products and their complements, exactly or as float32 has them.

use super::{Betas, ProcessError};

/// The numbers of a chain, in one of the two arithmetics.
pub(super) struct Table {
    pub(super) betas: Vec<f64>,
    pub(super) alphas_cumprod: Vec<f64>,
    /// 1 − ᾱ.
    pub(super) variances: Vec<f64>,
}

fn check(betas: impl Iterator<Item = f64>) -> Result<(), ProcessError> {
    for (step, given) in betas.enumerate() {
        if !(given > 0.0 && given < 1.0) {
            return Err(ProcessError::Beta { step, given });
        }
    }
    Ok(())
}

impl Table {
    /// The exact numbers, in `f64`.
    pub(super) fn exact(betas: &Betas, steps: usize, zero_terminal_snr: bool) -> Result<Self, ProcessError> {
        let mut betas = betas.values(steps)?;
        check(betas.iter().copied())?;
        if zero_terminal_snr {
            betas = rescaled(&betas);
        }
        let (mut product, mut variance) = (1.0, 0.0);
        let (mut alphas_cumprod, mut variances) = (Vec::new(), Vec::new());
        for beta in &betas {
            // 1 − ᾱ as a sum of positive terms: nothing cancels at the first steps.
            variance += product * beta;
            product *= 1.0 - beta;
            alphas_cumprod.push(product);
            variances.push(if product == 0.0 { 1.0 } else { variance.min(1.0) });
        }
        Ok(Self { betas, alphas_cumprod, variances })
    }

    /// The numbers that torch computes in float32.
    pub(super) fn rounded(betas: &Betas, steps: usize, zero_terminal_snr: bool) -> Result<Self, ProcessError> {
        let mut betas = betas.values_f32(steps)?;
        check(betas.iter().map(|&beta| f64::from(beta)))?;
        if zero_terminal_snr {
            betas = rescaled_f32(&betas);
        }
        let alphas_cumprod: Vec<f64> = cumprod_f32(&betas).into_iter().map(f64::from).collect();
        let variances = alphas_cumprod.iter().map(|a| 1.0 - a).collect();
        Ok(Self { betas: betas.into_iter().map(f64::from).collect(), alphas_cumprod, variances })
    }
}

/// Betas whose √ᾱ is moved to 0 at the last step and stretched back to its old value at the first.
fn rescaled(betas: &[f64]) -> Vec<f64> {
    let mut product = 1.0;
    let roots: Vec<f64> = betas
        .iter()
        .map(|beta| {
            product *= 1.0 - beta;
            f64::sqrt(product)
        })
        .collect();
    let last = roots[roots.len() - 1];
    let scale = roots[0] / (roots[0] - last);
    let moved: Vec<f64> = roots.iter().map(|root| (root - last) * scale).collect();
    let mut out = vec![betas[0]];
    out.extend(moved.windows(2).map(|w| (w[0] - w[1]) * (w[0] + w[1]) / (w[0] * w[0])));
    out
}

/// torch's cumulative product: accumulated in double precision, each result rounded.
fn cumprod_f32(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0f64;
    let mut times = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(&mut times).collect()
}

/// As [`rescaled`], with torch's float32 operations.
fn rescaled_f32(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumprod_f32(betas).into_iter().map(f32::sqrt).collect();
    let last = roots[roots.len() - 1];
    let scale = roots[0] / (roots[0] - last);
    let squares: Vec<f32> = roots.iter().map(|root| ((root - last) * scale).powi(2)).collect();
    let mut out = vec![1.0 - squares[0]];
    out.extend(squares.windows(2).map(|w| 1.0 - w[1] / w[0]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ᾱ at a few of 1000 steps, as published implementations compute it in float32.
    fn published() -> Vec<(Betas, &'static [(usize, f64)])> {
        vec![
            (
                Betas::DDPM,
                &[
                    (0, 0.9998999834060669),
                    (1, 0.9997800588607788),
                    (10, 0.9978064894676208),
                    (100, 0.8951413631439209),
                    (500, 0.07779665291309357),
                    (900, 0.0002702444908209145),
                    (998, 4.118194192415103e-05),
                    (999, 4.035830352222547e-05),
                ],
            ),
            (
                Betas::STABLE_DIFFUSION,
                &[
                    (0, 0.9991499781608582),
                    (1, 0.9982960224151611),
                    (10, 0.9904313087463379),
                    (100, 0.894223153591156),
                    (500, 0.27633246779441833),
                    (900, 0.01415113266557455),
                    (998, 0.004716695751994848),
                    (999, 0.00466009508818388),
                ],
            ),
            (
                Betas::Sigmoid { start: 1e-4, end: 0.02 },
                &[
                    (0, 0.9998508095741272),
                    (1, 0.9997010231018066),
                    (10, 0.998326301574707),
                    (100, 0.9804919362068176),
                    (500, 0.29888758063316345),
                    (900, 0.00029046900453977287),
                    (998, 4.048962364322506e-05),
                    (999, 3.9681821363046765e-05),
                ],
            ),
            (
                Betas::SquaredCosine,
                &[
                    (0, 0.9999586939811707),
                    (1, 0.9999125599861145),
                    (10, 0.9992788434028625),
                    (100, 0.9715756177902222),
                    (500, 0.4922850430011749),
                    (900, 0.023616107180714607),
                    (998, 2.428766265438753e-06),
                    (999, 2.4287349909002387e-09),
                ],
            ),
            (
                Betas::Exponential,
                &[
                    (0, 0.9880717396736145),
                    (1, 0.9762857556343079),
                    (10, 0.8763412833213806),
                    (100, 0.2976022958755493),
                    (500, 0.0024492181837558746),
                    (900, 2.01566654141061e-05),
                    (998, 6.2185554270399734e-06),
                    (999, 6.144378858152777e-06),
                ],
            ),
        ]
    }

    /// The same for Stable Diffusion's betas, rescaled to zero terminal SNR.
    const RESCALED: &[(usize, f64)] = &[
        (0, 0.9991499781608582),
        (1, 0.9982334971427917),
        (10, 0.9897937178611755),
        (100, 0.8867610692977905),
        (500, 0.2410186380147934),
        (900, 0.002960391342639923),
        (998, 1.9679633567193378e-07),
        (999, 0.0),
    ];

    fn worst(given: &[f64], expected: &[(usize, f64)]) -> f64 {
        expected.iter().map(|&(i, e)| ((given[i] - e) / e.max(1e-300)).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn exact_products_agree_with_published_ones() {
        for (betas, expected) in published() {
            let table = Table::exact(&betas, 1000, false).unwrap();
            // 1 − 0.999 keeps only five digits in float32.
            let (checked, tolerance) = match betas {
                Betas::SquaredCosine => (&expected[..7], 1.3e-6),
                // One rounding error of 1 − β, a thousand times over.
                Betas::Exponential => (expected, 3e-5),
                _ => (expected, 1e-6),
            };
            assert!(worst(&table.alphas_cumprod, checked) < tolerance, "{betas:?}");
        }
        let table = Table::exact(&Betas::STABLE_DIFFUSION, 1000, true).unwrap();
        assert!(worst(&table.alphas_cumprod, RESCALED) < 5e-5);
        assert_eq!(table.alphas_cumprod[999], 0.0);
    }

    #[test]
    fn rounded_products_are_the_published_ones() {
        for (betas, expected) in published() {
            let table = Table::rounded(&betas, 1000, false).unwrap();
            // The logistic function of float32 differs between implementations; everything else is the same to the bit.
            let tolerance = if matches!(betas, Betas::Sigmoid { .. }) { 3e-7 } else { f64::MIN_POSITIVE };
            assert!(worst(&table.alphas_cumprod, expected) < tolerance, "{betas:?}");
        }
        let table = Table::rounded(&Betas::STABLE_DIFFUSION, 1000, true).unwrap();
        assert!(worst(&table.alphas_cumprod, RESCALED) < 5e-6);
        assert_eq!((table.alphas_cumprod[999], table.betas[999]), (0.0, 1.0));
    }

    #[test]
    fn complements_do_not_cancel() {
        let table = Table::exact(&Betas::Linear { start: 1e-15, end: 0.5 }, 100, false).unwrap();
        assert_eq!(table.variances[0], 1e-15);
        for (product, variance) in table.alphas_cumprod.iter().zip(&table.variances) {
            assert!((product + variance - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn rescaling_keeps_the_first_step_and_reaches_zero() {
        let plain = Table::exact(&Betas::DDPM, 100, false).unwrap();
        let table = Table::exact(&Betas::DDPM, 100, true).unwrap();
        assert_eq!(table.alphas_cumprod[0], plain.alphas_cumprod[0]);
        assert_eq!((table.alphas_cumprod[99], table.variances[99]), (0.0, 1.0));
        let (first, last) = (plain.alphas_cumprod[0].sqrt(), plain.alphas_cumprod[99].sqrt());
        for i in 0..99 {
            let expected = (plain.alphas_cumprod[i].sqrt() - last) * first / (first - last);
            assert!((table.alphas_cumprod[i].sqrt() - expected).abs() < 1e-14, "step {i}");
        }
    }
}
