//! Few steps of a flow, each along a policy that the network is asked for once.

use crate::sampler::{SampleError, check_finite};
use crate::solver::PlanError;
use burn::tensor::Tensor;
use langevin_core::{DenoiseError, Key, Level, Load, NoiseSource};
use serde::{Deserialize, Serialize};

const NAME: &str = "π-Flow";

/// A network distilled for π-Flow: it answers a state with several velocities at once, which are a policy for the step.
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::{DenoiseError, Level};
/// use langevin_schedulers::flow::{PolicyNetwork, answers_of};
///
/// /// A network whose last dimension is three times as wide as that of its input.
/// struct Wide;
/// impl PolicyNetwork<3> for Wide {
///     fn velocities(&self, x: Tensor<3>, _at: &Level) -> Result<Vec<Tensor<3>>, DenoiseError> {
///         let output = x.repeat_dim(2, 3);
///         answers_of(output, 3)
///     }
/// }
/// ```
pub trait PolicyNetwork<const D: usize>: Send + Sync {
    /// Velocities `ε − x_0` for states `[batch, ..]` at a level whose `time` is what the network is told, each of the
    /// shape of the states. What they stand for is said by the [`Policy`]; there are as many as [`PiFlow`] expects.
    ///
    /// # Errors
    /// [`DenoiseError`]: wrong shapes or conditions, or a failure inside the network.
    fn velocities(&self, x: Tensor<D>, at: &Level) -> Result<Vec<Tensor<D>>, DenoiseError>;
}

impl<const D: usize, T: PolicyNetwork<D> + ?Sized> PolicyNetwork<D> for &T {
    fn velocities(&self, x: Tensor<D>, at: &Level) -> Result<Vec<Tensor<D>>, DenoiseError> {
        (**self).velocities(x, at)
    }
}

/// The parts of a widened output `[.., answers·channels]`, one after the other, each `[.., channels]`.
///
/// # Errors
/// [`DenoiseError::Shape`] if the last dimension is no multiple of `answers`.
pub fn answers_of<const D: usize>(output: Tensor<D>, answers: usize) -> Result<Vec<Tensor<D>>, DenoiseError> {
    let dims = output.dims();
    let wide = dims.last().copied().unwrap_or(0);
    if answers == 0 || wide == 0 || !wide.is_multiple_of(answers) {
        let expected = format!("a last dimension that is a multiple of {answers} answers");
        return Err(DenoiseError::Shape { what: "widened output".into(), given: dims.to_vec(), expected });
    }
    let channels = wide / answers;
    Ok((0..answers).map(|i| output.clone().narrow(D - 1, i * channels, channels)).collect())
}

/// How x̂_0 follows from a network's answers along a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Linear between estimates at even times of the step: the first is that at its end, the last that at its beginning.
    #[default]
    Grid,
    /// A polynomial `Σ x̂_0ⁱ·(t_0 − t)ⁱ` in the time since the beginning of the step, before the shift.
    Polynomial,
}

/// π-Flow: few-step sampling of a rectified flow, where a network is asked once a step and its answers are a policy,
/// x̂_0 as a function of time, along which the flow is followed in many substeps without the network.
///
/// Steps are even in the time t before the shift, but for the last one, which is shorter; `σ = s·t/(1 + (s − 1)·t)`.
/// A substep is one of Euler, `x + (σ' − σ)·(x − x̂_0)/σ`. All of that is linear in the state and the
/// answers, so that a step is one sum of them: its coefficients are computed on the host, and substeps cost nothing.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::{DenoiseError, Level, Load, noise::Seeded};
/// use langevin_schedulers::flow::{PiFlow, PolicyNetwork};
///
/// struct Zero;
/// impl PolicyNetwork<2> for Zero {
///     fn velocities(&self, x: Tensor<2>, at: &Level) -> Result<Vec<Tensor<2>>, DenoiseError> {
///         Ok(vec![x.div_scalar(at.sigma); 10]) // of data that are all 0
///     }
/// }
/// let flow = PiFlow::new(10)?.shift(5.0)?.plan(4)?;
/// let noise = Seeded::new(42);
/// let x = flow.start([3, 2], &Zero, &noise, Load::on(&Device::flex()))?.finish()?;
/// assert!(x.abs().max().into_scalar::<f32>() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Chen et al. 2025, "pi-Flow: policy-based few-step generation via imitation distillation" (its DX policy).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PiFlow {
    answers: usize,
    policy: Policy,
    shift: f64,
    eps: f64,
    last: f64,
    substeps: usize,
    time_scale: f64,
}

impl PiFlow {
    /// For networks of so many answers: a policy on a grid, no shift, a last step half as long as the others, 128 substeps in
    /// a unit of time, networks that are told σ.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for fewer than 1 answer.
    pub fn new(answers: usize) -> Result<Self, PlanError> {
        let policy = Policy::Grid;
        let new = Self { answers, policy, shift: 1.0, eps: 1e-6, last: 0.5, substeps: 128, time_scale: 1.0 };
        new.check()?;
        Ok(new)
    }

    /// Another policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The shift s of the times: above 1 there are more steps where there is noise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless positive and finite.
    pub fn shift(self, shift: f64) -> Result<Self, PlanError> {
        Self { shift, ..self }.checked()
    }

    /// The time at which the last step ends, and the smallest σ that is divided by; 1e-6 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless above 0 and below 1.
    pub fn eps(self, eps: f64) -> Result<Self, PlanError> {
        Self { eps, ..self }.checked()
    }

    /// The length of the last step in parts of the others.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless above 0 and at most 1.
    pub fn last_step(self, last: f64) -> Result<Self, PlanError> {
        Self { last, ..self }.checked()
    }

    /// How many substeps a unit of time before the shift has: a step has its share of them, rounded, and at least 1.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for 0, and for more than 2^20.
    pub fn substeps(self, substeps: usize) -> Result<Self, PlanError> {
        Self { substeps, ..self }.checked()
    }

    /// Networks are told σ times this; 1 unless said otherwise.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless positive and finite.
    pub fn network_time_scale(self, time_scale: f64) -> Result<Self, PlanError> {
        Self { time_scale, ..self }.checked()
    }

    fn checked(self) -> Result<Self, PlanError> {
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        let positive = |given: f64| given > 0.0 && given.is_finite();
        let settings = [
            ("number of answers", self.answers as f64, self.answers >= 1, "1 or more"),
            ("shift", self.shift, positive(self.shift), "a positive number"),
            ("eps", self.eps, self.eps > 0.0 && self.eps < 1.0, "a number between 0 and 1"),
            ("length of the last step", self.last, self.last > 0.0 && self.last <= 1.0, "above 0, at most 1"),
            ("number of substeps", self.substeps as f64, (1..=1 << 20).contains(&self.substeps), "between 1 and 2^20"),
            ("time scale", self.time_scale, positive(self.time_scale), "a positive number"),
        ];
        match settings.into_iter().find(|(_, _, good, _)| !good) {
            None => Ok(()),
            Some((setting, given, _, expected)) => Err(PlanError::Setting { solver: NAME, setting, given, expected }),
        }
    }

    fn sigma(&self, t: f64) -> f64 {
        self.shift * t / (1.0 + (self.shift - 1.0) * t)
    }

    fn level(&self, t: f64) -> Level {
        let sigma = self.sigma(t);
        Level { alpha: 1.0 - sigma, sigma, time: self.time_scale * sigma }
    }

    /// The steps, `steps` questions in all.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for no steps, and if the last one would begin at [`eps`](Self::eps) or below.
    pub fn plan(&self, steps: usize) -> Result<PiFlowPlan, PlanError> {
        // Deserialized settings have not been checked yet.
        self.check()?;
        if steps == 0 {
            let (setting, expected) = ("number of steps", "1 or more");
            return Err(PlanError::Setting { solver: NAME, setting, given: 0.0, expected });
        }
        let length = 1.0 / (steps as f64 - (1.0 - self.last));
        let begin = |step: usize| 1.0 - step as f64 * length;
        let last = begin(steps - 1);
        if !(last > self.eps) {
            let expected = "less than the time at which the last step begins; take fewer steps, or a longer last one";
            return Err(PlanError::Setting { solver: NAME, setting: "eps", given: self.eps, expected });
        }
        let end = |step: usize| if step + 1 < steps { begin(step + 1) } else { self.eps };
        Ok(PiFlowPlan { segments: (0..steps).map(|step| self.segment(begin(step), end(step))).collect() })
    }

    /// The weights of the answers in x̂_0 at time t of a step from `begin` to `end`.
    fn weights(&self, t: f64, begin: f64, end: f64) -> Vec<f64> {
        match self.policy {
            Policy::Polynomial => (0..self.answers).map(|i| (begin - t).powi(i as i32)).collect(),
            Policy::Grid if self.answers == 1 => vec![1.0],
            Policy::Grid => {
                let last = self.answers - 1;
                let place = ((t - end) / (begin - end).max(self.eps)).clamp(0.0, 1.0) * last as f64;
                let below = (place as usize).min(last - 1);
                let mut weights = vec![0.0; self.answers];
                weights[below] = (below + 1) as f64 - place;
                weights[below + 1] = place - below as f64;
                weights
            }
        }
    }

    /// Follows the policy from `begin` to `end`.
    fn segment(&self, begin: f64, end: f64) -> Segment {
        let count = ((begin - end) * self.substeps as f64).round_ties_even().max(1.0);
        let time = |k: f64| begin - (begin - end) * k / count;
        let (mut of_x, mut of_x0) = (1.0, vec![0.0; self.answers]);
        for k in 0..count as usize {
            let (t, s) = (time(k as f64), time(k as f64 + 1.0));
            let sigma = self.sigma(t);
            let c = (self.sigma(s) - sigma) / sigma.max(self.eps);
            of_x *= 1.0 + c;
            for (of_x0, weight) in of_x0.iter_mut().zip(self.weights(t, begin, end)) {
                *of_x0 = (1.0 + c) * *of_x0 - c * weight;
            }
        }
        Segment { at: self.level(begin), to: self.level(end), of_x, of_x0 }
    }
}

/// A step: `x' = of_x·x + Σ of_x0[i]·x̂_0ⁱ`, where `x̂_0ⁱ = x − σ·vⁱ` is the i-th answer's estimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Where the network is asked.
    pub at: Level,
    /// Where the step ends.
    pub to: Level,
    /// The coefficient of the state.
    pub of_x: f64,
    /// The coefficients of the answers' estimates of x_0.
    pub of_x0: Vec<f64>,
}

/// The steps of [`PiFlow`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PiFlowPlan {
    segments: Vec<Segment>,
}

impl PiFlowPlan {
    /// The steps.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Starts from seeded noise of `shape` (`[batch, ..]`).
    ///
    /// # Errors
    /// [`SampleError::EmptyShape`] for a dimension of zero, [`SampleError::Noise`] if the noise source fails.
    pub fn start<'a, const D: usize>(
        &'a self,
        shape: [usize; D],
        network: &'a dyn PolicyNetwork<D>,
        noise: &dyn NoiseSource,
        load: Load,
    ) -> Result<PiFlowRun<'a, D>, SampleError> {
        self.start_at(0, shape, network, noise, load)
    }

    /// Starts from noise, with global sample numbers from `first` on: batches of one large run.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`SampleError::SampleNumbers`] if the numbers do not fit into 64 bits.
    pub fn start_at<'a, const D: usize>(
        &'a self,
        first: u64,
        shape: [usize; D],
        network: &'a dyn PolicyNetwork<D>,
        noise: &dyn NoiseSource,
        load: Load,
    ) -> Result<PiFlowRun<'a, D>, SampleError> {
        if shape.contains(&0) {
            return Err(SampleError::EmptyShape { shape: shape.to_vec() });
        }
        let last = first.checked_add(shape[0] as u64).ok_or(SampleError::SampleNumbers { first, rows: shape[0] })?;
        let numel = shape[1..].iter().fold(1, |numel: usize, side| numel.saturating_mul(*side));
        let z = noise.normal(first..last, Key::INITIAL, numel, load.options())?;
        Ok(self.start_from(0, z.reshape(shape), network))
    }

    /// Goes on from a state at the beginning of step `step`: there is nothing else to save of a run. Beyond the last step
    /// nothing is left to do.
    pub fn start_from<'a, const D: usize>(
        &'a self,
        step: usize,
        x: Tensor<D>,
        network: &'a dyn PolicyNetwork<D>,
    ) -> PiFlowRun<'a, D> {
        PiFlowRun { segments: &self.segments, done: step.min(self.segments.len()), x, network, failed: false }
    }
}

/// A run of [`PiFlowPlan`]: an iterator of the states after each step, `[batch, ..]`. It ends with the first error.
pub struct PiFlowRun<'a, const D: usize> {
    segments: &'a [Segment],
    done: usize,
    x: Tensor<D>,
    network: &'a dyn PolicyNetwork<D>,
    failed: bool,
}

impl<const D: usize> PiFlowRun<'_, D> {
    /// Makes all steps that are left.
    ///
    /// # Errors
    /// The first error of a step; [`SampleError::Unfinished`] if a step has failed before, [`SampleError::NotFinite`] for NaN
    /// and infinities in the end, [`SampleError::Read`] if the device cannot be read.
    pub fn finish(mut self) -> Result<Tensor<D>, SampleError> {
        if self.failed {
            return Err(SampleError::Unfinished { step: self.done });
        }
        for step in self.by_ref() {
            step?;
        }
        check_finite(&self.x, self.done)?;
        Ok(self.x)
    }

    fn step(&self, segment: &Segment) -> Result<Tensor<D>, SampleError> {
        let velocities = self.network.velocities(self.x.clone(), &segment.at)?;
        let (given, expected) = (velocities.len(), segment.of_x0.len());
        if given != expected {
            return Err(SampleError::Answers { given, expected });
        }
        let of_x = segment.of_x + segment.of_x0.iter().sum::<f64>();
        let mut next = self.x.clone().mul_scalar(of_x);
        for (velocity, of_x0) in velocities.into_iter().zip(&segment.of_x0) {
            if velocity.dims() != self.x.dims() {
                let (given, expected) = (velocity.dims().to_vec(), "answers of the shape of the states".into());
                return Err(DenoiseError::Shape { what: "answers".into(), given, expected }.into());
            }
            if *of_x0 != 0.0 {
                next = next.add(velocity.mul_scalar(-segment.at.sigma * of_x0));
            }
        }
        Ok(next)
    }
}

impl<const D: usize> Iterator for PiFlowRun<'_, D> {
    type Item = Result<Tensor<D>, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        let segment = self.segments.get(self.done).filter(|_| !self.failed)?;
        let next = self.step(segment);
        match &next {
            Ok(x) => (self.x, self.done) = (x.clone(), self.done + 1),
            Err(_) => self.failed = true,
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(answers: usize) -> PiFlow {
        PiFlow::new(answers).expect("answers")
    }

    #[test]
    fn steps_are_even_but_for_the_last() {
        let plan = flow(3).shift(5.0).and_then(|flow| flow.last_step(0.25)).expect("settings").plan(4).expect("steps");
        let times = [1.0, 2.25 / 3.25, 1.25 / 3.25, 0.25 / 3.25, 1e-6];
        for (segment, pair) in plan.segments().iter().zip(times.windows(2)) {
            for (level, t) in [(segment.at, pair[0]), (segment.to, pair[1])] {
                let sigma = 5.0 * t / (1.0 + 4.0 * t);
                assert!((level.sigma - sigma).abs() < 1e-14 && (level.alpha - (1.0 - sigma)).abs() < 1e-14);
            }
        }
    }

    /// With one x̂_0 throughout the flow is a straight line, whatever the substeps.
    #[test]
    fn constant_estimates_are_the_flow_in_closed_form() {
        for (policy, answers) in [(Policy::Grid, 1), (Policy::Grid, 2), (Policy::Grid, 7), (Policy::Polynomial, 1)] {
            for substeps in [1, 13, 128] {
                let flow = flow(answers).policy(policy).shift(3.0).and_then(|flow| flow.substeps(substeps));
                for Segment { at, to, of_x, of_x0 } in flow.expect("settings").plan(3).expect("steps").segments() {
                    let kept = to.sigma / at.sigma;
                    assert!((of_x - kept).abs() < 1e-12, "{of_x} is not {kept}");
                    assert!((of_x0.iter().sum::<f64>() - (1.0 - kept)).abs() < 1e-12);
                }
            }
        }
    }

    /// Data N(m, s²): the flow's trajectory and the posterior mean on it, at a time before the shift.
    struct Trajectory {
        flow: PiFlow,
        start: (f64, f64),
    }

    const MEAN: f64 = 0.7;
    const DEVIATION: f64 = 0.4;

    impl Trajectory {
        /// α, σ and the deviation of the marginal.
        fn parts(&self, t: f64) -> (f64, f64, f64) {
            let sigma = self.flow.sigma(t);
            (1.0 - sigma, sigma, libm::hypot((1.0 - sigma) * DEVIATION, sigma))
        }
        fn x(&self, t: f64) -> f64 {
            let ((alpha, _, v), (first, _, v0)) = (self.parts(t), self.parts(self.start.0));
            alpha * MEAN + v / v0 * (self.start.1 - first * MEAN)
        }
        fn x0(&self, t: f64) -> f64 {
            let (alpha, _, v) = self.parts(t);
            MEAN + alpha * DEVIATION * DEVIATION / (v * v) * (self.x(t) - alpha * MEAN)
        }
    }

    /// With the posterior means along the exact trajectory the error halves with the length of the substeps.
    #[test]
    fn exact_estimates_are_the_probability_flow_to_order_one() {
        let error = |substeps: usize| {
            // As many answers as substeps, so that what lies between answers is of a higher order.
            let flow = flow(substeps + 1).shift(2.0).and_then(|flow| flow.substeps(substeps)).expect("settings");
            let (begin, end) = (0.9, 0.2);
            let trajectory = Trajectory { flow: flow.clone(), start: (begin, 1.3) };
            let segment = flow.segment(begin, end);
            let time = |i: usize| end + (begin - end) * i as f64 / substeps as f64;
            let sum: f64 = segment.of_x0.iter().enumerate().map(|(i, c)| c * trajectory.x0(time(i))).sum();
            (segment.of_x * trajectory.x(begin) + sum - trajectory.x(end)).abs()
        };
        let errors: Vec<f64> = [64, 128, 256, 512].map(error).to_vec();
        for pair in errors.windows(2) {
            let order = (pair[0] / pair[1]).log2();
            assert!((order - 1.0).abs() < 0.1, "order {order}, errors {errors:?}");
        }
    }

    /// A polynomial policy sums powers of the time since the step began: in one substep all but the first are 0.
    #[test]
    fn polynomials_begin_at_their_first_coefficient() {
        let once = flow(3).policy(Policy::Polynomial).substeps(1).expect("settings").segment(0.8, 0.3);
        assert!((once.of_x0[0] - (1.0 - 0.3 / 0.8)).abs() < 1e-12 && once.of_x0[1..] == [0.0, 0.0]);
        // Two substeps, with v = (x − Σ x̂_0ⁱ·(0.8 − t)ⁱ)/σ.
        let twice = flow(3).policy(Policy::Polynomial).substeps(4).expect("settings").segment(0.8, 0.3);
        let c = (0.55 - 0.3) / 0.55;
        for (i, of_x0) in twice.of_x0.iter().enumerate().skip(1) {
            assert!((of_x0 - c * 0.25f64.powi(i as i32)).abs() < 1e-12);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let setting = |result: Result<PiFlow, PlanError>| match result {
            Err(PlanError::Setting { solver: NAME, setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(setting(PiFlow::new(0)), "number of answers");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(setting(flow(2).shift(bad)), "shift");
            assert_eq!(setting(flow(2).eps(bad)), "eps");
            assert_eq!(setting(flow(2).last_step(bad)), "length of the last step");
            assert_eq!(setting(flow(2).network_time_scale(bad)), "time scale");
        }
        for bad in [0, (1 << 20) + 1] {
            assert_eq!(setting(flow(2).substeps(bad)), "number of substeps");
        }
        assert!(matches!(flow(2).plan(0), Err(PlanError::Setting { setting: "number of steps", .. })));
        let flat = flow(2).eps(0.2).and_then(|flow| flow.last_step(0.1)).expect("settings").plan(2);
        assert!(matches!(flat, Err(PlanError::Setting { setting: "eps", .. })));
    }
}
