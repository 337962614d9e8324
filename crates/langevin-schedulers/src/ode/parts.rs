//! Any ordinary differential equation on tensors.

use super::control::Control;
use super::drive::{System, march};
use super::{DormandPrince, Tableau, tensors};
use crate::sampler::SampleError;
use burn::tensor::Tensor;
use langevin_core::level::Scalars;

/// The right-hand side of an ordinary differential equation whose state has several parts, each `[batch, numel]`.
///
/// The parts may differ in size and dtype: a trajectory, and beside it what is integrated along it (a log-density, a
/// length). Error control looks at each part by itself, so that a small one does not vanish in the mean over a large one.
pub trait Field {
    /// The slopes of all parts; sample i is at time `t[i]`.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    fn slope(&mut self, parts: &[Tensor<2>], t: &[f64]) -> Result<Vec<Tensor<2>>, SampleError>;

    /// Hears of every attempted step of an adaptive method: its error estimate, and which samples have accepted it. The
    /// slope where it arrived was the last one asked for.
    fn attempted(&mut self, errors: &[Tensor<2>], accepted: &[bool]) {
        let _ = (errors, accepted);
    }
}

/// An adaptive solution; made by [`DormandPrince::solve`].
#[derive(Clone, Debug)]
pub struct Solution {
    /// The parts at the end.
    pub parts: Vec<Tensor<2>>,
    /// Evaluations of the right-hand side.
    pub evaluations: usize,
    /// Accepted steps of each sample.
    pub accepted: Vec<usize>,
    /// Rejected steps of each sample.
    pub rejected: Vec<usize>,
}

struct Parts<'a> {
    field: &'a mut dyn Field,
    zero: Vec<Tensor<2>>,
    evaluations: usize,
    accepted: Vec<usize>,
}

impl<'a> Parts<'a> {
    fn new(field: &'a mut dyn Field, parts: &[Tensor<2>]) -> Result<(Self, usize), SampleError> {
        let batch = parts.first().map_or(0, |part| part.dims()[0]);
        for part in parts {
            if part.dims().contains(&0) {
                return Err(SampleError::EmptyShape { shape: part.dims().to_vec() });
            }
            if part.dims()[0] != batch {
                let expected = vec![batch, part.dims()[1]];
                return Err(SampleError::CarriedShape { given: part.dims().to_vec(), expected });
            }
        }
        if batch == 0 {
            return Err(SampleError::EmptyShape { shape: Vec::new() });
        }
        let zero = parts.iter().map(Tensor::zeros_like).collect();
        Ok((Self { field, zero, evaluations: 0, accepted: vec![0; batch] }, batch))
    }
}

impl System for Parts<'_> {
    type Value = Vec<Tensor<2>>;

    fn slope(&mut self, x: &Vec<Tensor<2>>, t: &[f64]) -> Result<Vec<Tensor<2>>, SampleError> {
        self.evaluations += 1;
        let slopes = self.field.slope(x, t)?;
        let shape = |parts: &[Tensor<2>]| parts.iter().flat_map(Tensor::dims).collect::<Vec<_>>();
        if shape(&slopes) != shape(x) {
            return Err(SampleError::CarriedShape { given: shape(&slopes), expected: shape(x) });
        }
        Ok(slopes)
    }

    fn sum(&mut self, scale: &Scalars, terms: &[(Scalars, &Vec<Tensor<2>>)]) -> Vec<Tensor<2>> {
        let part = |(index, zero): (usize, &Tensor<2>)| {
            let terms: Vec<_> = terms.iter().map(|(weight, value)| (weight.clone(), &value[index])).collect();
            tensors::sum(scale, &terms).unwrap_or_else(|| zero.clone())
        };
        self.zero.iter().enumerate().map(part).collect()
    }

    fn add(&mut self, x: &Vec<Tensor<2>>, y: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        x.iter().zip(y).map(|(x, y)| x.clone().add(y)).collect()
    }

    fn norms(
        &mut self,
        control: &Control,
        value: &Vec<Tensor<2>>,
        a: &Vec<Tensor<2>>,
        b: &Vec<Tensor<2>>,
    ) -> Result<Vec<f64>, SampleError> {
        let mut worst = vec![0.0; self.accepted.len()];
        for (value, (a, b)) in value.iter().zip(a.iter().zip(b)) {
            for (worst, norm) in worst.iter_mut().zip(tensors::norms(control, value, a, b)?) {
                // `max` would drop a NaN.
                *worst = if norm > *worst || norm.is_nan() { norm } else { *worst };
            }
        }
        Ok(worst)
    }

    fn select(&mut self, flags: &[bool], new: &Vec<Tensor<2>>, old: &Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        new.iter().zip(old).map(|(new, old)| tensors::select(flags, new, old)).collect()
    }

    fn first_sample(&self) -> u64 {
        0
    }

    fn attempted(&mut self, _: &Vec<Tensor<2>>, error: &Vec<Tensor<2>>, accepted: &[bool]) {
        for (count, accepted) in self.accepted.iter_mut().zip(accepted) {
            *count += usize::from(*accepted);
        }
        self.field.attempted(error, accepted);
    }
}

impl DormandPrince {
    /// Solves a differential equation on tensors from `start` to `end`, forwards or backwards, with the error control
    /// of the method: by itself for each sample unless [`batch_control`](Self::batch_control) is set.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use langevin_schedulers::SampleError;
    /// use langevin_schedulers::ode::{DormandPrince, Field};
    /// /// dx/dt = −x, and beside it the area ∫ x dt.
    /// struct Decay;
    /// impl Field for Decay {
    ///     fn slope(&mut self, parts: &[Tensor<2>], _: &[f64]) -> Result<Vec<Tensor<2>>, SampleError> {
    ///         Ok(vec![parts[0].clone().neg(), parts[0].clone()])
    ///     }
    /// }
    /// let x = Tensor::<2>::ones([3, 1], &Device::flex());
    /// let area = x.zeros_like();
    /// let solution = DormandPrince::new(1e-5, 1e-5)?.solve(&mut Decay, vec![x, area], 0.0, 1.0)?;
    /// let area = solution.parts[1].clone().max().into_scalar::<f32>();
    /// assert!((area - 0.63212).abs() < 1e-4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of the right-hand side; [`SampleError::StepSize`] and [`SampleError::TooManySteps`];
    /// [`SampleError::NotFinite`] for times or a state that are not finite; [`SampleError::EmptyShape`] for no samples,
    /// [`SampleError::CarriedShape`] for parts of different batches and slopes of other shapes.
    pub fn solve(
        &self,
        field: &mut dyn Field,
        parts: Vec<Tensor<2>>,
        start: f64,
        end: f64,
    ) -> Result<Solution, SampleError> {
        let (mut system, batch) = Parts::new(field, &parts)?;
        if !(start.is_finite() && end.is_finite()) {
            return Err(SampleError::NotFinite { step: 0 });
        }
        let mut rejected = vec![0; batch];
        if start == end {
            return Ok(Solution { parts, evaluations: 0, accepted: rejected.clone(), rejected });
        }
        let course = self.course(start, end);
        let mut progress = course.begin(&mut system, parts, batch)?;
        while !course.arrived(&progress) {
            let waiting: Vec<bool> = progress.clocks.iter().map(|clock| clock.t == end).collect();
            let attempt = course.attempt(&mut system, &mut progress)?;
            for (count, (accepted, waits)) in rejected.iter_mut().zip(attempt.accepted.iter().zip(waiting)) {
                *count += usize::from(!accepted && !waits);
            }
        }
        let (evaluations, accepted) = (system.evaluations, system.accepted);
        Ok(Solution { parts: progress.x, evaluations, accepted, rejected })
    }
}

impl Tableau {
    /// Solves a differential equation on tensors by steps from each of `times` to the next: rising, or falling.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use langevin_schedulers::SampleError;
    /// use langevin_schedulers::ode::{Field, Tableau};
    /// struct Growth;
    /// impl Field for Growth {
    ///     fn slope(&mut self, parts: &[Tensor<2>], _: &[f64]) -> Result<Vec<Tensor<2>>, SampleError> {
    ///         Ok(parts.to_vec())
    ///     }
    /// }
    /// let x = Tensor::<2>::ones([3, 1], &Device::flex());
    /// let parts = Tableau::rk4().solve(&mut Growth, vec![x], &[0.0, 0.5, 1.0])?;
    /// assert!((parts[0].clone().max().into_scalar::<f32>() - 2.718).abs() < 1e-2);
    /// # Ok::<(), SampleError>(())
    /// ```
    ///
    /// # Errors
    /// Those of the right-hand side; [`SampleError::NotFinite`] for times that are not finite;
    /// [`SampleError::EmptyShape`] and [`SampleError::CarriedShape`] as for [`DormandPrince::solve`].
    pub fn solve(
        &self,
        field: &mut dyn Field,
        parts: Vec<Tensor<2>>,
        times: &[f64],
    ) -> Result<Vec<Tensor<2>>, SampleError> {
        let (mut system, batch) = Parts::new(field, &parts)?;
        if times.iter().any(|t| !t.is_finite()) {
            return Err(SampleError::NotFinite { step: 0 });
        }
        march(&mut system, self, parts, times, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, TensorData};

    /// x' = −c·x with c = 1, 2, … by sample, and y' = x; counts attempts and adds up accepted errors of y.
    #[derive(Default)]
    struct Decays {
        attempts: usize,
        accepted: usize,
        wrong_shape: bool,
        bad: f64,
    }

    impl Field for Decays {
        fn slope(&mut self, parts: &[Tensor<2>], t: &[f64]) -> Result<Vec<Tensor<2>>, SampleError> {
            let rates = Scalars::Each((0..t.len()).map(|i| -(1.0 + i as f64)).collect());
            let x = parts[0].clone();
            let area = if self.wrong_shape { x.clone().repeat_dim(1, 2) } else { x.clone().add_scalar(self.bad) };
            Ok(vec![rates.times(x), area])
        }
        fn attempted(&mut self, errors: &[Tensor<2>], accepted: &[bool]) {
            assert_eq!(errors.len(), 2);
            self.attempts += 1;
            self.accepted += accepted.iter().filter(|accepted| **accepted).count();
        }
    }

    fn start(batch: usize) -> Vec<Tensor<2>> {
        let x = Tensor::ones([batch, 1], (&Device::flex(), DType::F64));
        vec![x.clone(), x.zeros_like()]
    }

    fn values(x: &Tensor<2>) -> Vec<f64> {
        x.to_data().iter::<f64>().collect()
    }

    #[test]
    fn solutions_are_exact_to_the_tolerance_in_every_part() {
        for method in [DormandPrince::new(1e-9, 1e-9).unwrap(), DormandPrince::new(1e-9, 1e-9).unwrap().batch_control()]
        {
            let mut field = Decays::default();
            let solution = method.solve(&mut field, start(3), 0.0, 2.0).unwrap();
            for i in 0..3 {
                let rate = 1.0 + i as f64;
                let x = (-2.0 * rate).exp();
                assert!((values(&solution.parts[0])[i] - x).abs() < 1e-8);
                assert!((values(&solution.parts[1])[i] - (1.0 - x) / rate).abs() < 1e-8);
            }
            assert_eq!(field.accepted, solution.accepted.iter().sum::<usize>());
            let attempts = solution.accepted.iter().zip(&solution.rejected).map(|(a, r)| a + r).max();
            assert_eq!(attempts, Some(field.attempts));
            // Six slopes an attempt, and two to begin with.
            assert_eq!(solution.evaluations, 2 + 6 * field.attempts);
        }
    }

    #[test]
    fn samples_do_not_depend_on_their_batch() {
        let method = DormandPrince::new(1e-6, 1e-6).unwrap();
        let three = method.solve(&mut Decays::default(), start(3), 0.0, 2.0).unwrap();
        let one = method.solve(&mut Decays::default(), start(1), 0.0, 2.0).unwrap();
        assert_eq!(values(&three.parts[1])[0], values(&one.parts[1])[0]);
        assert_eq!(three.accepted[0], one.accepted[0]);
    }

    /// A part is controlled by itself: beside a thousand quiet elements the area is as exact as alone.
    #[test]
    fn a_small_part_does_not_vanish_in_a_large_one() {
        struct Quiet;
        impl Field for Quiet {
            fn slope(&mut self, parts: &[Tensor<2>], t: &[f64]) -> Result<Vec<Tensor<2>>, SampleError> {
                let of = |t: &f64| (20.0 * t).sin();
                let area = TensorData::new(t.iter().map(of).collect::<Vec<_>>(), [t.len(), 1]);
                Ok(vec![parts[0].zeros_like(), Tensor::from_data(area, (&Device::flex(), DType::F64))])
            }
        }
        let quiet = Tensor::ones([1, 100_000], (&Device::flex(), DType::F64));
        let parts = vec![quiet, Tensor::zeros([1, 1], (&Device::flex(), DType::F64))];
        let solution = DormandPrince::new(1e-8, 1e-8).unwrap().solve(&mut Quiet, parts, 0.0, 3.0).unwrap();
        assert!((values(&solution.parts[1])[0] - (1.0 - 60f64.cos()) / 20.0).abs() < 1e-6);
    }

    #[test]
    fn fixed_steps_have_the_order_of_the_method() {
        for (method, order) in [(Tableau::euler(), 1.0), (Tableau::heun(), 2.0), (Tableau::rk4(), 4.0)] {
            let error = |n: usize| {
                // Unequal steps, falling: from 2 to 0 the decay is a growth.
                let times: Vec<f64> = (0..=n).map(|i| 2.0 * (1.0 - i as f64 / n as f64).powf(1.3)).collect();
                let parts = method.solve(&mut Decays::default(), start(1), &times).unwrap();
                (values(&parts[1])[0] - (1.0 - 2f64.exp())).abs()
            };
            let slope = (error(40) / error(80)).log2();
            assert!((slope - order).abs() < 0.1, "{}: {slope}", method.name());
        }
    }

    #[test]
    fn bad_questions_are_errors() {
        let method = DormandPrince::new(1e-6, 1e-6).unwrap();
        let solve = |parts: Vec<Tensor<2>>, start: f64, end: f64| {
            method.solve(&mut Decays::default(), parts, start, end).map(|solution| solution.evaluations)
        };
        assert_eq!(solve(start(2), 1.0, 1.0), Ok(0));
        assert_eq!(solve(start(2), f64::NAN, 1.0), Err(SampleError::NotFinite { step: 0 }));
        assert_eq!(solve(start(2), 0.0, f64::INFINITY), Err(SampleError::NotFinite { step: 0 }));
        assert!(matches!(solve(Vec::new(), 0.0, 1.0), Err(SampleError::EmptyShape { .. })));
        let uneven = vec![start(2).remove(0), start(3).remove(0)];
        assert!(matches!(solve(uneven.clone(), 0.0, 1.0), Err(SampleError::CarriedShape { .. })));
        let empty = vec![Tensor::zeros([2, 0], (&Device::flex(), DType::F64))];
        assert!(matches!(solve(empty, 0.0, 1.0), Err(SampleError::EmptyShape { .. })));
        let mut wrong = Decays { wrong_shape: true, ..Decays::default() };
        assert!(matches!(method.solve(&mut wrong, start(2), 0.0, 1.0), Err(SampleError::CarriedShape { .. })));
        let mut infinite = Decays { bad: f64::NAN, ..Decays::default() };
        assert!(matches!(method.solve(&mut infinite, start(2), 0.0, 1.0), Err(SampleError::NotFinite { step: 0 })));
        let short = method.clone().max_steps(2).unwrap();
        let error = short.solve(&mut Decays::default(), start(2), 0.0, 50.0).map(|solution| solution.evaluations);
        assert_eq!(error, Err(SampleError::TooManySteps { limit: 2 }));
        let rk4 = Tableau::rk4();
        assert!(matches!(
            rk4.solve(&mut Decays::default(), uneven, &[0.0, 1.0]),
            Err(SampleError::CarriedShape { .. })
        ));
        let error = rk4.solve(&mut Decays::default(), start(2), &[0.0, f64::NAN]);
        assert!(matches!(error, Err(SampleError::NotFinite { .. })));
    }
}
