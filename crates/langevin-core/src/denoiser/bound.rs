//! Networks bound to a prediction and a condition.

use super::each::{in_one_call, repeated};
use super::{Composed, Condition, Conditions, DenoiseError, Denoiser, Estimate, Guided, Network, Query};
use crate::level::{Level, Levels};
use crate::noise::NoiseSource;
use crate::prediction::Prediction;
use burn::tensor::Tensor;

/// A network bound to what it predicts and what it is told: the usual [`Denoiser`].
///
/// Made by [`Network::denoiser`]. It holds the sampling form of the network, so a run started from a network in
/// training grows no autodiff graph.
#[derive(Clone, Debug)]
pub struct Bound<N: Network<D>, const D: usize> {
    network: N,
    prediction: Prediction,
    cond: N::Cond,
    learned_variance: bool,
    self_condition: Option<SelfCondition>,
}

/// Checks a condition as far as no batch is needed for it.
pub(super) fn check_told<N: Network<D>, const D: usize>(network: &N, cond: &N::Cond) -> Result<(), DenoiseError> {
    match cond.rows() {
        Some(0) => Err(DenoiseError::EmptyCondition),
        // As a batch is told it: its parts have to be for as many.
        rows => network.check_condition(&cond.expand(rows.unwrap_or(1))?),
    }
}

/// Where a network that is told its own last estimate finds it, along dimension 1 of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfCondition {
    /// The state, then the estimate.
    After,
    /// The estimate, then the state.
    Before,
}

impl<N: Network<D>, const D: usize> Bound<N, D> {
    pub(super) fn new(network: &N, prediction: Prediction, cond: N::Cond) -> Result<Self, DenoiseError> {
        let prediction = prediction.validate()?;
        check_told(network, &cond)?;
        Ok(Self { network: network.for_sampling(), prediction, cond, learned_variance: false, self_condition: None })
    }

    /// Says that the network's output has twice the channels (dimension 1): prediction, then raw variance.
    pub fn with_learned_variance(mut self) -> Self {
        self.learned_variance = true;
        self
    }

    /// Self-conditioning (Chen, Zhang & Hinton 2022): beside the state the network gets x̂_0 as it was last estimated in
    /// the run (guided, thresholded, as the solver saw it), and zeros at first. Its input has twice the channels
    /// (dimension 1); the estimate is given as it is, without the input scale of EDM.
    ///
    /// The last estimate is memory of the run: it is saved with it, and taken back with a rejected step.
    pub fn self_conditioned(mut self, place: SelfCondition) -> Self {
        self.self_condition = Some(place);
        self
    }

    /// Classifier-free guidance `uncond + scale·(cond − uncond)` in one network call on concatenated rows
    /// (Ho & Salimans 2022, in the scale convention where 1 is no guidance). `uncond` is the empty condition, or a
    /// negative prompt: what the samples shall lead away from.
    ///
    /// What [`Guided`] can do beside: rescale, guide between two noise levels only, project, CFG-Zero*, CFG++.
    ///
    /// # Errors
    /// [`DenoiseError::Setting`] unless the scale is finite.
    pub fn guided(self, uncond: N::Cond, scale: f64) -> Result<Guided<Conditions<N, D>>, DenoiseError> {
        check_told(&self.network, &uncond)?;
        let conditions = vec![uncond, self.cond.clone()];
        Guided::new(Conditions::new(self, conditions), scale)
    }

    /// Composition of conditions (Liu et al. 2022): `ε̂ + Σ weight·(ε̂ of condition − ε̂)` in one network call, where ε̂ is
    /// the answer to the condition that the network is bound to, usually the empty one. Positive weights are a
    /// conjunction ("and"), negative ones a negation ("not").
    ///
    /// # Errors
    /// [`DenoiseError::Empty`] for no conditions, [`DenoiseError::Setting`] for a weight that is not finite.
    pub fn composed(self, conditions: Vec<(N::Cond, f64)>) -> Result<Composed<Conditions<N, D>>, DenoiseError> {
        let (mut all, mut weights) = (vec![self.cond.clone()], Vec::new());
        for (condition, weight) in conditions {
            check_told(&self.network, &condition)?;
            all.push(condition);
            weights.push(weight);
        }
        Composed::new(Conditions::new(self, all), weights)
    }

    /// Checks a batch's shape and one of the conditions it will be asked with.
    pub(super) fn check_with(&self, shape: &[usize], cond: &N::Cond) -> Result<(), DenoiseError> {
        self.check_state(shape)?;
        self.network.check_condition(&cond.expand(shape[0])?)
    }

    /// Checks a batch's shape: all that can change from step to step.
    fn check_state(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        let Some((_, sample)) = shape.split_first() else {
            return Err(DenoiseError::Shape {
                what: "the states".into(),
                given: Vec::new(),
                expected: "[batch, ..]".into(),
            });
        };
        let channels = self.learned_variance || self.self_condition.is_some();
        let Some((first, rest)) = sample.split_first().filter(|_| channels) else {
            if channels {
                return Err(DenoiseError::Shape {
                    what: "the states".into(),
                    given: shape.to_vec(),
                    expected: "[batch, channels, ..] for a network with learned variance or self-conditioning".into(),
                });
            }
            return self.network.check_shape(sample).map_err(|error| error.of_batch(shape));
        };
        let first = if self.self_condition.is_some() { 2 * first } else { *first };
        let seen = [&[shape[0], first], rest].concat();
        self.network.check_shape(&seen[1..]).map_err(|error| error.of_batch(&seen))
    }

    /// What the network is shown for one copy of the states.
    fn input(&self, query: &Query<'_, D>) -> Result<Tensor<D>, DenoiseError> {
        let Query { x, levels, past, .. } = query;
        let input = levels.try_map(|level| self.prediction.input_scale(level))?.times(x.clone());
        let Some(place) = self.self_condition else { return Ok(input) };
        let last = match past.last() {
            Some(last) => last.x0()?,
            None => x.zeros_like(),
        };
        if last.dims() != x.dims() {
            return Err(DenoiseError::Shape {
                what: "the last estimate of the run".into(),
                given: last.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", x.dims()),
            });
        }
        Ok(match place {
            SelfCondition::After => Tensor::cat(vec![input, last], 1),
            SelfCondition::Before => Tensor::cat(vec![last, input], 1),
        })
    }

    /// The answers for `copies` of the states behind one another, in one call; the condition has rows for all of them.
    pub(super) fn ask(
        &self,
        query: &Query<'_, D>,
        copies: usize,
        cond: &N::Cond,
    ) -> Result<Vec<Estimate<D>>, DenoiseError> {
        let Query { x, levels, .. } = query;
        self.check_state(&x.dims())?;
        let input = self.input(query)?;
        let input = if copies == 1 { input } else { Tensor::cat(vec![input; copies], 0) };
        let time = levels.repeat(copies).times(&input);
        let output = self.network.forward(input, time, cond)?;
        let batch = x.dims()[0];
        let mut expected = x.dims();
        expected[0] *= copies;
        if self.learned_variance {
            expected[1] *= 2;
        }
        if output.dims() != expected {
            return Err(DenoiseError::Shape {
                what: "the network's output".into(),
                given: output.dims().to_vec(),
                expected: format!(
                    "{expected:?} for states {:?} ({} learned variance)",
                    x.dims(),
                    if self.learned_variance { "with" } else { "without" }
                ),
            });
        }
        check_dtype("the network's output", &output, x)?;
        let levels: &Levels = levels;
        let estimate = |copy: usize| {
            let output = if copies == 1 { output.clone() } else { output.clone().narrow(0, copy * batch, batch) };
            let new = |output| Estimate::new(x.clone(), output, levels.clone(), self.prediction);
            if !self.learned_variance {
                return new(output);
            }
            let channels = x.dims()[1];
            let variance = output.clone().narrow(1, channels, channels);
            new(output.narrow(1, 0, channels)).with_variance(variance)
        };
        Ok((0..copies).map(estimate).collect())
    }
}

fn check_dtype<const D: usize>(what: &'static str, given: &Tensor<D>, x: &Tensor<D>) -> Result<(), DenoiseError> {
    let (given, states) = (given.dtype(), x.dtype());
    if given == states { Ok(()) } else { Err(DenoiseError::DType { what, given, states }) }
}

pub(super) fn check_rows(levels: &Levels, batch: usize) -> Result<(), DenoiseError> {
    match levels.rows() {
        Some(levels) if levels != batch => Err(DenoiseError::LevelRows { levels, batch }),
        _ => Ok(()),
    }
}

impl<N: Network<D>, const D: usize> Denoiser<D> for Bound<N, D> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let batch = query.x.dims()[0];
        check_rows(query.levels, batch)?;
        let mut answer = self.ask(&query, 1, &self.cond.expand(batch)?)?;
        Ok(answer.swap_remove(0))
    }

    fn denoise_each(
        &self,
        states: &[Tensor<D>],
        levels: &[Level],
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Estimate<D>>, DenoiseError> {
        let Some(first) = states.first() else { return Ok(Vec::new()) };
        let cond = repeated(&self.cond, first.dims()[0], states.len())?;
        in_one_call(&Self { cond, ..self.clone() }, states, levels, noise)
    }

    fn memory(&self) -> usize {
        usize::from(self.self_condition.is_some())
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        self.check_with(shape, &self.cond)
    }
}

/// A denoiser from a function of (states, levels) that returns the output in `prediction`.
pub fn from_fn<const D: usize, F>(prediction: Prediction, f: F) -> FromFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    FromFn { prediction, f }
}

/// A closure as a denoiser; made by [`from_fn`].
#[derive(Clone, Debug)]
pub struct FromFn<F> {
    prediction: Prediction,
    f: F,
}

impl<const D: usize, F> Denoiser<D> for FromFn<F>
where
    F: Fn(Tensor<D>, &Levels) -> Result<Tensor<D>, DenoiseError> + Send + Sync,
{
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        let output = (self.f)(query.x.clone(), query.levels)?;
        if output.dims() != query.x.dims() {
            return Err(DenoiseError::Shape {
                what: "the denoiser's output".into(),
                given: output.dims().to_vec(),
                expected: format!("{:?}, the shape of the states", query.x.dims()),
            });
        }
        check_dtype("the denoiser's output", &output, &query.x)?;
        Ok(Estimate::new(query.x, output, query.levels.clone(), self.prediction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::testing::{Counting, Numbers, ask, ask_after, level, output, state, values};
    use crate::noise::Seeded;
    use crate::prediction::{PredictionError, Quantity};
    use burn::tensor::{DType, Device};
    use std::sync::atomic::Ordering;

    fn bound(cond: &[f64]) -> Bound<Counting, 2> {
        Counting::default().denoiser(Prediction::Epsilon, Numbers(cond.to_vec())).unwrap()
    }

    /// One call for all states, and what each would have been answered alone; guidance with a condition for each sample is
    /// asked one after the other.
    #[test]
    fn several_states_are_asked_about_in_one_call() {
        let states = [0.5, 1.0, -2.0].map(|scale| state().mul_scalar(scale));
        let levels = [1.0, 4.0, 9.0].map(level);
        let noise = Seeded::new(0);
        for variance in [false, true] {
            let net = Counting { variance, ..Counting::default() };
            let bound = |cond: &[f64]| {
                let bound = net.denoiser(Prediction::Velocity, Numbers(cond.to_vec())).unwrap();
                if variance { bound.with_learned_variance() } else { bound }
            };
            let guided = |cond: &[f64]| bound(cond).guided(Numbers(vec![0.1]), 2.5).unwrap();
            let denoisers: [(Box<dyn Denoiser<2>>, usize); 4] = [
                (Box::new(bound(&[0.3, -0.7])), 1),
                (Box::new(bound(&[0.3])), 1),
                (Box::new(guided(&[0.3])), 1),
                (Box::new(guided(&[0.3, -0.7])), 3),
            ];
            for (denoiser, expected) in denoisers {
                let calls = net.calls.load(Ordering::Relaxed);
                let together = denoiser.denoise_each(&states, &levels, &noise).unwrap();
                assert_eq!(net.calls.load(Ordering::Relaxed), calls + expected);
                assert_eq!(together.len(), 3);
                for ((x, level), estimate) in states.iter().zip(&levels).zip(together) {
                    let alone = ask(&denoiser, x.clone(), &Levels::Shared(*level)).unwrap();
                    assert_eq!(values(estimate.output()), values(alone.output()));
                    assert_eq!(values(estimate.x()), values(x.clone()));
                    assert_eq!(estimate.levels(), alone.levels());
                    assert_eq!(estimate.variance().is_ok(), variance);
                    if variance {
                        assert_eq!(values(estimate.variance().unwrap()), values(alone.variance().unwrap()));
                    }
                }
                assert!(denoiser.denoise_each(&[], &[], &noise).unwrap().is_empty());
            }
        }
    }

    #[test]
    fn time_and_condition_reach_their_rows() {
        let each = Levels::Each(vec![level(10.0), level(100.0)]);
        assert_eq!(output(&bound(&[1.0, 2.0]), &each), [11.0, 14.0, 209.0, 216.0]);
        assert_eq!(output(&bound(&[3.0]), &Levels::Shared(level(10.0))), [31.0, 34.0, 39.0, 46.0]);
        let boxed: Box<dyn Denoiser<2>> = Box::new(bound(&[3.0]));
        assert_eq!(output(&&boxed, &Levels::Shared(level(10.0))), [31.0, 34.0, 39.0, 46.0]);
    }

    #[test]
    fn the_input_is_scaled_for_edm() {
        // c_in = 1/√((σ/α)² + σ_d²)/α: with σ/α = 4/3 and σ_d = 1, (5/3·0.6)⁻¹ = 1.
        let prediction = Prediction::Edm { sigma_data: 1.0 };
        let net = Counting::default();
        let one = net.denoiser(prediction, Numbers(vec![0.0])).unwrap();
        let at = |sigma| Levels::Shared(Level { alpha: 0.6, sigma, time: 0.0 });
        for (got, expected) in output(&one, &at(0.8)).iter().zip([1.0, 4.0, 9.0, 16.0]) {
            assert!((got - expected).abs() < 1e-13);
        }
        // σ = 0 with σ_d = 1: c_in = 1/0.6, so squares grow by 1/0.36.
        for (got, expected) in output(&one, &at(0.0)).iter().zip([1.0, 4.0, 9.0, 16.0]) {
            assert!((got - expected / 0.36).abs() < 1e-13);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let shared = Levels::Shared(level(10.0));
        let error = ask(&bound(&[1.0, 2.0, 3.0]), state(), &shared).unwrap_err();
        assert_eq!(error, DenoiseError::ConditionRows { condition: 3, batch: 2 });
        let three = Levels::Each(vec![level(1.0); 3]);
        assert_eq!(ask(&bound(&[1.0]), state(), &three).unwrap_err(), DenoiseError::LevelRows { levels: 3, batch: 2 });
        let guided = bound(&[1.0]).guided(Numbers(vec![0.0; 3]), 2.0).unwrap();
        let error = ask(&guided, state(), &shared).unwrap_err();
        assert_eq!(error, DenoiseError::ConditionRows { condition: 3, batch: 2 });
        assert!(matches!(ask(&guided, state(), &three), Err(DenoiseError::LevelRows { .. })));
        let wide = Tensor::zeros([2, 3], (&Device::flex(), DType::F64));
        for error in [
            ask(&bound(&[1.0]), wide.clone(), &shared).unwrap_err(),
            ask(&bound(&[1.0]).guided(Numbers(vec![0.0]), 2.0).unwrap(), wide, &shared).unwrap_err(),
        ] {
            assert!(matches!(error, DenoiseError::Shape { given, .. } if given == [2, 3]));
        }
        for scale in [f64::NAN, f64::INFINITY] {
            let error = bound(&[1.0]).guided(Numbers(vec![0.0]), scale).unwrap_err();
            assert!(matches!(error, DenoiseError::Setting { setting: "guidance scale", .. }));
        }
        let error = Counting::default().denoiser(Prediction::Edm { sigma_data: 0.0 }, Numbers(vec![0.0])).unwrap_err();
        assert_eq!(error, DenoiseError::Prediction(PredictionError::SigmaData { given: 0.0 }));
        let edm = Counting::default().denoiser(Prediction::Edm { sigma_data: 1.0 }, Numbers(vec![0.0])).unwrap();
        let nothing = Levels::Shared(Level { alpha: 0.0, sigma: 0.0, time: 0.0 });
        let error = ask(&edm, state(), &nothing).unwrap_err();
        assert!(matches!(error, DenoiseError::Prediction(PredictionError::Singular { wanted: Quantity::X0, .. })));
    }

    #[test]
    fn wrong_outputs_are_errors() {
        let levels = Levels::Shared(level(1.0));
        let net = Counting { cut: true, ..Counting::default() };
        let error = ask(&net.denoiser(Prediction::Epsilon, Numbers(vec![0.0])).unwrap(), state(), &levels);
        assert!(matches!(error, Err(DenoiseError::Shape { given, .. }) if given == [1, 2]));
        // Variance channels nobody announced, and announced ones that are missing.
        let net = Counting { variance: true, ..Counting::default() };
        let error = ask(&net.denoiser(Prediction::Epsilon, Numbers(vec![0.0])).unwrap(), state(), &levels);
        assert!(matches!(error, Err(DenoiseError::Shape { given, .. }) if given == [2, 4]));
        let error = ask(&bound(&[0.0]).with_learned_variance(), state(), &levels);
        assert!(matches!(error, Err(DenoiseError::Shape { given, .. }) if given == [2, 2]));
        let short = from_fn(Prediction::Sample, |x: Tensor<2>, _: &Levels| Ok(x.narrow(1, 0, 1)));
        assert!(matches!(ask(&short, state(), &levels), Err(DenoiseError::Shape { given, .. }) if given == [2, 1]));
        let failing =
            from_fn(Prediction::Sample, |_: Tensor<2>, _: &Levels| Err(DenoiseError::Class { given: 12, classes: 10 }));
        assert_eq!(ask(&failing, state(), &levels).unwrap_err(), DenoiseError::Class { given: 12, classes: 10 });
    }

    /// Sums the state and the estimate that it is told: `x·(first half) + 10·(second half)`.
    #[derive(Clone, Debug)]
    struct Told;

    impl Network<2> for Told {
        type Cond = ();
        fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
            Ok(x.clone().narrow(1, 0, 2).add(x.narrow(1, 2, 2).mul_scalar(10.0)))
        }
        fn for_sampling(&self) -> Self {
            Told
        }
        fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
            if sample == [4] {
                return Ok(());
            }
            let expected = "four values a sample".into();
            Err(DenoiseError::Shape { what: "the state".into(), given: sample.to_vec(), expected })
        }
    }

    #[test]
    fn a_network_is_told_its_last_estimate() {
        let levels = Levels::Shared(level(10.0));
        let plain = Told.denoiser(Prediction::Sample, ()).unwrap();
        let whole = |error| matches!(error, DenoiseError::Shape { given, .. } if given == [3, 2]);
        assert!(whole(plain.check(&[3, 2]).unwrap_err()), "the whole shape is named, with the batch");
        let doubled = plain.clone().self_conditioned(SelfCondition::After).check(&[3, 1]).unwrap_err();
        assert!(whole(doubled), "and that of what the network is shown");
        for (place, of_x, of_last) in [(SelfCondition::After, 1.0, 10.0), (SelfCondition::Before, 10.0, 1.0)] {
            let denoiser = plain.clone().self_conditioned(place);
            assert_eq!((denoiser.memory(), denoiser.check(&[2, 2])), (1, Ok(())));
            let first = ask_after(&denoiser, state(), &levels, &[]).unwrap();
            let x = values(state());
            assert_eq!(values(first.output()), x.iter().map(|x| of_x * x).collect::<Vec<_>>());
            // The last estimate as the solver saw it, thresholded or guided.
            let last = first.with_x0(state().mul_scalar(0.5));
            let second = ask_after(&denoiser, state(), &levels, std::slice::from_ref(&last)).unwrap();
            assert_eq!(values(second.output()), x.iter().map(|x| (of_x + 0.5 * of_last) * x).collect::<Vec<_>>());
            let guided = denoiser.clone().guided((), 2.0).unwrap();
            assert_eq!(Denoiser::<2>::memory(&guided), 1);
            let both = ask_after(&guided, state(), &levels, std::slice::from_ref(&last)).unwrap();
            assert_eq!(values(both.output()), values(second.output()));
            let error = ask_after(&denoiser, state().narrow(0, 0, 1), &levels, &[last]).unwrap_err();
            assert!(matches!(error, DenoiseError::Shape { given, .. } if given == [2, 2]));
        }
    }

    #[test]
    fn no_condition_fits_every_batch() {
        assert_eq!((Condition::rows(&()), ().expand(7), <()>::cat(&[&(), &()])), (None, Ok(()), Ok(())));
    }

    #[test]
    fn noise_errors_pass_through() {
        let error: DenoiseError = crate::NoiseError::HostUnsupported.into();
        assert_eq!(error.to_string(), crate::NoiseError::HostUnsupported.to_string());
        let condition = DenoiseError::Condition { problem: "was built without classes; give none".into() };
        assert_eq!(condition.to_string(), "the network was built without classes; give none");
    }

    /// What a network is told is checked when it is bound, alone, guided or composed.
    #[test]
    fn conditions_are_checked_when_they_are_bound() {
        let refused = Err(DenoiseError::Condition { problem: "takes numbers below 9".into() });
        let bind = |numbers: &[f64]| Picky.denoiser(Prediction::Velocity, Numbers(numbers.to_vec()));
        assert_eq!(bind(&[1.0, 9.0]).map(|_| ()), refused);
        assert_eq!(bind(&[]).map(|_| ()), Err(DenoiseError::EmptyCondition));
        let guided = |numbers: &[f64]| bind(&[1.0]).unwrap().guided(Numbers(numbers.to_vec()), 2.0).map(|_| ());
        let composed =
            |numbers: &[f64]| bind(&[1.0]).unwrap().composed(vec![(Numbers(numbers.to_vec()), 1.0)]).map(|_| ());
        assert_eq!((guided(&[9.0]), composed(&[9.0])), (refused.clone(), refused));
        assert_eq!(
            (guided(&[]), composed(&[])),
            (Err(DenoiseError::EmptyCondition), Err(DenoiseError::EmptyCondition))
        );
        assert_eq!((guided(&[2.0]), composed(&[2.0])), (Ok(()), Ok(())));
    }

    /// Knows small numbers.
    #[derive(Clone, Debug)]
    struct Picky;

    impl Network<2> for Picky {
        type Cond = Numbers;
        fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &Numbers) -> Result<Tensor<2>, DenoiseError> {
            Ok(x)
        }
        fn for_sampling(&self) -> Self {
            Picky
        }
        fn check_condition(&self, cond: &Numbers) -> Result<(), DenoiseError> {
            if cond.0.iter().all(|number| *number < 9.0) {
                return Ok(());
            }
            Err(DenoiseError::Condition { problem: "takes numbers below 9".into() })
        }
    }
}
