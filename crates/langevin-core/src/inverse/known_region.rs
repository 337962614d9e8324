//! Inpainting by putting what is known back.

use super::error::{InverseError, check_finite, check_rows, check_sample};
use super::operator::Masking;
use crate::denoiser::{After, Constraint, DenoiseError, Denoiser, Estimate, Query};
use crate::noise::{self, Domain, Key};
use burn::tensor::Tensor;

/// The part of a sample that is known: a mask, 1 where it is, and the values there.
///
/// As a [`Constraint`] it replaces the known part of the state after each step by `α·y + σ·z`: the values at the noise level
/// that the step has reached (Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
/// appendix I.2). After a step to σ = 0 these are the values themselves. It is a heuristic: the rest of the sample
/// learns of the known part only from the next question on, so it fits worse than with methods that follow a likelihood.
///
/// The noise has the domain of known regions and the number of the step as its key.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::denoiser::{After, Constraint};
/// use langevin_core::inverse::{KnownRegion, Masking};
/// use langevin_core::{Level, noise::Seeded};
/// let device = Device::flex();
/// let mask = Masking::new(Tensor::<2>::from_floats([[1.0, 0.0]], &device))?;
/// let known = KnownRegion::new(mask, Tensor::from_floats([[0.3, 0.0]], &device))?;
/// let levels = Level { alpha: 1.0, sigma: 0.0, time: 0.0 }.into();
/// let after = After { levels: &levels, step: 9, first_sample: 0, noise: &Seeded::new(1) };
/// // `run.constrained(&known)` does this after every step.
/// let x = known.apply(Tensor::from_floats([[5.0, 6.0]], &device), &after)?;
/// assert_eq!(x.into_data().as_slice::<f32>().unwrap(), [0.3, 6.0]);
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KnownRegion<const D: usize> {
    mask: Masking<D>,
    y: Tensor<D>,
    same_noise: bool,
}

impl<const D: usize> KnownRegion<D> {
    /// Known values y, `[rows, ..]` of the shape of samples: one row for all, or one for each.
    ///
    /// # Errors
    /// [`InverseError::Shape`] if the mask does not fit y, [`InverseError::NotFinite`] for values that are not finite.
    pub fn new(mask: Masking<D>, y: Tensor<D>) -> Result<Self, InverseError> {
        let fitted = mask.mask_for_sample(&y)?;
        let y = y.mul(fitted);
        check_finite("the known region", y.to_data().iter::<f64>())?;
        Ok(Self { mask, y, same_noise: false })
    }

    /// Takes the same noise after every step, as diffusers does, instead of fresh noise: a sample of a solver without noise
    /// then moves on a smooth path.
    pub fn same_noise(mut self) -> Self {
        self.same_noise = true;
        self
    }

    /// The known values in states `[batch, ..]` without noise: the last projection, where a run ends at σ > 0.
    ///
    /// # Errors
    /// [`InverseError::Shape`] and [`InverseError::Rows`] if the states do not fit.
    pub fn project(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        let y = self.y_for(&x)?;
        self.put(x, y)
    }

    /// Checks that batches of a shape fit.
    fn check(&self, dims: &[usize]) -> Result<(), InverseError> {
        check_sample("the state", dims, &self.y.dims()[1..])?;
        check_rows("the known region", self.y.dims()[0], dims[0])?;
        check_rows("the mask", self.mask.mask().dims()[0], dims[0])
    }

    fn y_for(&self, x: &Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check(&x.dims())?;
        Ok(if self.y.dtype() == x.dtype() { self.y.clone() } else { self.y.clone().cast(x.dtype()) })
    }

    /// `m·y + (1 − m)·x`.
    fn put(&self, x: Tensor<D>, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        let mask = self.mask.mask_for(&x)?;
        let unknown = mask.clone().neg().add_scalar(1.0);
        Ok(x.mul(unknown).add(y.mul(mask)))
    }
}

impl<const D: usize> Constraint<D> for KnownRegion<D> {
    fn apply(&self, x: Tensor<D>, after: &After<'_>) -> Result<Tensor<D>, DenoiseError> {
        let levels = after.levels;
        if let Some(rows) = levels.rows().filter(|rows| *rows != x.dims()[0]) {
            return Err(DenoiseError::LevelRows { levels: rows, batch: x.dims()[0] });
        }
        let y = levels.map(|level| level.alpha).times(self.y_for(&x)?);
        let sigma = levels.map(|level| level.sigma);
        let y = if sigma.is_zero() {
            y
        } else {
            let index = if self.same_noise { 0 } else { after.step as u64 };
            let key = Key { domain: Domain::KnownRegion, index, lane: 0 };
            let z = noise::like(after.noise, &x, after.first_sample, key)?;
            y.add(sigma.times(z))
        };
        Ok(self.put(x, y)?)
    }
}

/// A denoiser whose x̂_0 has the known values of a region; ε̂ follows, so that `x = α·x̂_0 + σ·ε̂` again.
///
/// Usable under any solver. Alone it only steers the known part; together with the [`KnownRegion`] as a constraint of the run
/// the state agrees with it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::inverse::{Filled, KnownRegion, Masking};
/// use langevin_core::{Denoiser, Level, Prediction, Query, denoiser, noise::Seeded};
/// let device = Device::flex();
/// let mask = Masking::new(Tensor::<2>::from_floats([[1.0, 0.0]], &device))?;
/// let known = KnownRegion::new(mask, Tensor::from_floats([[0.3, 0.0]], &device))?;
/// let zero = denoiser::from_fn(Prediction::Sample, |x: Tensor<2>, _levels| Ok(x.zeros_like()));
/// let filled = Filled::new(zero, known);
/// let (x, levels) = (Tensor::ones([1, 2], &device), Level { alpha: 0.8, sigma: 0.6, time: 0.0 }.into());
/// let estimate = filled.denoise(Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) })?;
/// assert_eq!(estimate.x0()?.into_data().as_slice::<f32>().unwrap(), [0.3, 0.0]);
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Filled<T, const D: usize> {
    inner: T,
    known: KnownRegion<D>,
    keep_eps: bool,
}

impl<T, const D: usize> Filled<T, D> {
    /// `inner` with known values.
    pub fn new(inner: T, known: KnownRegion<D>) -> Self {
        Self { inner, known, keep_eps: false }
    }

    /// Leaves ε̂ as the denoiser said it.
    pub fn keep_eps(mut self) -> Self {
        self.keep_eps = true;
        self
    }
}

impl<T: Denoiser<D>, const D: usize> Denoiser<D> for Filled<T, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let estimate = self.inner.denoise(query)?;
        let x0 = self.known.project(estimate.x0()?)?;
        Ok(if self.keep_eps { estimate.with_x0(x0) } else { estimate.rederive(x0)? })
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn is_split(&self) -> bool {
        self.inner.is_split()
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        self.inner.beyond_autodiff()
    }

    fn beyond_output(&self) -> Option<&'static str> {
        Some("a filled region")
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        self.keep_eps.then_some("a filled region that keeps ε̂")
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        if !self.keep_eps && self.inner.is_split() {
            return Err(DenoiseError::Combination {
                first: "a filled region from which ε̂ follows",
                second: "CFG++",
                reason: "ε̂ would follow the guided x̂_0 again; use `.keep_eps()`",
            });
        }
        self.known.check(shape)?;
        self.inner.check(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::from_fn;
    use crate::level::{Level, Levels};
    use crate::noise::{NoiseSource, Seeded};
    use crate::prediction::Prediction;
    use burn::tensor::{DType, Device, TensorData};

    fn tensor<const R: usize, const C: usize>(rows: [[f64; C]; R]) -> Tensor<2> {
        Tensor::from_data(TensorData::from(rows), (&Device::flex(), DType::F64))
    }

    fn known() -> KnownRegion<2> {
        let mask = Masking::new(tensor([[1.0, 0.0, 1.0]])).unwrap();
        KnownRegion::new(mask, tensor([[0.3, 99.0, -0.5]])).unwrap()
    }

    fn apply(known: &KnownRegion<2>, x: Tensor<2>, levels: &Levels, step: usize) -> Result<Vec<f64>, DenoiseError> {
        let after = After { levels, step, first_sample: 7, noise: &Seeded::new(5) };
        Ok(known.apply(x, &after)?.into_data().iter::<f64>().collect())
    }

    fn level(alpha: f64, sigma: f64) -> Level {
        Level { alpha, sigma, time: 0.0 }
    }

    #[test]
    fn known_values_come_back_at_the_level_of_the_step_with_noise_of_their_own_key() {
        let x = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let draw = |index| {
            let key = Key { domain: Domain::KnownRegion, index, lane: 0 };
            let row = |sample| {
                let mut z = [0.0; 3];
                Seeded::new(5).fill(sample, key, &mut z).unwrap();
                z
            };
            [row(7), row(8)]
        };
        let each = [level(0.8, 0.6), level(0.5, 2.0)];
        for (known, index) in [(known(), 4), (known().same_noise(), 0)] {
            let z = draw(index);
            for levels in [Levels::Shared(each[0]), Levels::Each(each.to_vec())] {
                let at = |row: usize| if levels.rows().is_some() { each[row] } else { each[0] };
                let value = |row: usize, i: usize, y: f64| at(row).alpha * y + at(row).sigma * z[row][i];
                let expected = [value(0, 0, 0.3), 2.0, value(0, 2, -0.5), value(1, 0, 0.3), 5.0, value(1, 2, -0.5)];
                let got = apply(&known, x.clone(), &levels, 4).unwrap();
                assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{got:?} {expected:?}");
            }
        }
        assert_ne!(draw(4), draw(0));
    }

    #[test]
    fn a_clean_level_needs_no_noise() {
        let x = tensor([[1.0, 2.0, 3.0]]);
        let expected = [0.3, 2.0, -0.5];
        assert_eq!(apply(&known(), x.clone(), &level(1.0, 0.0).into(), 0).unwrap(), expected);
        assert_eq!(known().project(x.clone()).unwrap().into_data().iter::<f64>().collect::<Vec<_>>(), expected);
        // No source is asked: injected noise without draws would fail.
        let levels = level(1.0, 0.0).into();
        let after = After { levels: &levels, step: 0, first_sample: 0, noise: &crate::noise::Injected::new() };
        assert!(known().apply(x.clone(), &after).is_ok());
        let levels = level(1.0, 0.1).into();
        let after = After { levels: &levels, step: 0, first_sample: 0, noise: &crate::noise::Injected::new() };
        assert!(matches!(known().apply(x, &after), Err(DenoiseError::Noise(_))));
    }

    #[test]
    fn the_estimate_has_known_values_and_eps_follows_unless_it_is_kept() {
        let inner = || from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(0.5)));
        let levels = Levels::Shared(level(0.8, 0.6));
        let x = tensor([[1.0, 2.0, 3.0]]);
        let ask = |denoiser: &Filled<_, 2>| {
            denoiser.denoise(Query { x: x.clone(), levels: &levels, past: &[], noise: &Seeded::new(0) }).unwrap()
        };
        let list = |x: Tensor<2>| x.into_data().iter::<f64>().collect::<Vec<_>>();
        let close = |got: Vec<f64>, expected: [f64; 3]| {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{got:?} {expected:?}");
        };
        let free = (2.0 - 0.6 * 1.0) / 0.8;
        let follows = Filled::new(inner(), known());
        close(list(ask(&follows).x0().unwrap()), [0.3, free, -0.5]);
        close(list(ask(&follows).eps().unwrap()), [(1.0 - 0.8 * 0.3) / 0.6, 1.0, (3.0 + 0.8 * 0.5) / 0.6]);
        let kept = Filled::new(inner(), known()).keep_eps();
        close(list(ask(&kept).x0().unwrap()), [0.3, free, -0.5]);
        close(list(ask(&kept).eps().unwrap()), [0.5, 1.0, 1.5]);
        let error = Denoiser::<2>::check(&follows, &[1, 4]).unwrap_err();
        assert!(matches!(error, DenoiseError::Inverse(InverseError::Shape { what: "the state", .. })));
        assert_eq!(Denoiser::<2>::check(&follows, &[5, 3]), Ok(()));
        // In CFG++ ε̂ is not to follow.
        struct Split;
        impl Denoiser<2> for Split {
            fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
                Ok(Estimate::new(query.x.clone(), query.x, query.levels.clone(), Prediction::Sample))
            }
            fn is_split(&self) -> bool {
                true
            }
        }
        let error = Filled::new(Split, known()).check(&[5, 3]).unwrap_err();
        assert!(matches!(error, DenoiseError::Combination { second: "CFG++", .. }), "{error}");
        assert_eq!(Filled::new(Split, known()).keep_eps().check(&[5, 3]), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mask = || Masking::new(tensor([[1.0, 0.0, 1.0]])).unwrap();
        assert!(matches!(KnownRegion::new(mask(), tensor([[1.0, 2.0]])), Err(InverseError::Shape { .. })));
        let broken = KnownRegion::new(mask(), tensor([[1.0, 2.0, f64::NAN]])).unwrap_err();
        assert_eq!(broken, InverseError::NotFinite { what: "the known region", index: 2 });
        let levels = Levels::Shared(level(0.8, 0.6));
        let error = apply(&known(), tensor([[1.0, 2.0]]), &levels, 0).unwrap_err();
        assert!(matches!(error, DenoiseError::Inverse(InverseError::Shape { .. })), "{error}");
        let three = Levels::Each(vec![level(0.8, 0.6); 3]);
        let error = apply(&known(), tensor([[1.0, 2.0, 3.0]]), &three, 0).unwrap_err();
        assert_eq!(error, DenoiseError::LevelRows { levels: 3, batch: 1 });
        let two = KnownRegion::new(mask(), tensor([[1.0; 3], [2.0; 3]])).unwrap();
        let error = apply(&two, tensor([[1.0; 3], [1.0; 3], [1.0; 3]]), &levels, 0).unwrap_err();
        let rows = InverseError::Rows { what: "the known region", rows: 2, batch: 3 };
        assert_eq!(error, DenoiseError::Inverse(rows));
    }
}
