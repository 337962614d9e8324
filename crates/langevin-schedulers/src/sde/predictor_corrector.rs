//! Langevin correction between the steps of a predictor.

use super::idle;
use crate::plan::{Aux, Plan};
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use crate::solver::{PlanError, has_zero_terminal_snr, prior_std};
use burn::tensor::Tensor;
use langevin_core::grid::Stop;
use langevin_core::{Grid, Key, Level, Levels, Process, noise};

/// Lanes of a row that correctors draw from: far above those of any plan.
const FIRST_LANE: u32 = 1 << 16;

/// Predictor-corrector sampling: before each step of a predictor's plan, Langevin steps at the level it asks at.
///
/// One correction is `x + ε·score + √(2ε)·z` with `ε = 2·(r·|z|/|score|)²`, where r is the signal-to-noise ratio of
/// the step and |·| the Euclidean norm.
///
/// In many dimensions the norms of all samples are alike. In few, the score of a single sample may be near 0, and ε would
/// be as large as one likes. There are two ways out:
///
/// * Each sample has norms of its own (the default) and does not depend on its batch. |z|/|score| then counts as at most
///   [`limit`](Self::step_limit)·σ, where σ is the noise level and the limit 1: σ is the ratio of pure noise, so no
///   correction is longer than `2·(r·σ)²`. For smooth data (a wide Gaussian) that is less than the formula says.
/// * [`batch_norms`](Self::batch_norms) averages the norms over the batch and sets no limit, as the implementation of the
///   paper does. Take it for large batches of data in few dimensions; a small batch of such may be thrown far off.
///
/// Corrections whose length does not depend on the score are a plan, [`AnnealedCorrector`](super::AnnealedCorrector).
///
/// ```
/// use langevin_core::{Grid, process::VeSde};
/// use langevin_schedulers::{PredictorCorrector, ReverseDiffusion, Solver};
/// let plan = ReverseDiffusion::new().plan(&VeSde::default(), &Grid::uniform(500))?;
/// let sampler = PredictorCorrector::new(plan, 0.16, 1)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song et al. 2021, "Score-based generative modeling through stochastic differential equations", algorithms 2 to 5.
#[derive(Clone, Debug)]
pub struct PredictorCorrector {
    predictor: Plan,
    /// Where each row is corrected, if the predictor does not ask there itself.
    asks: Option<Vec<Level>>,
    ratio: f64,
    corrections: u32,
    batch_norms: bool,
    step_limit: Option<f64>,
    /// A factor on the length of the corrections before each step.
    shares: Option<Vec<f64>>,
}

/// The largest |z|/|score|, in units of σ, for samples with norms of their own.
const STEP_LIMIT: f64 = 1.0;

impl PredictorCorrector {
    /// `corrections` Langevin steps of signal-to-noise ratio `ratio` (0.16 in the paper) before each step.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless the ratio is positive and finite, [`PlanError::Combination`] with a plan of CFG++.
    pub fn new(predictor: Plan, ratio: f64, corrections: u32) -> Result<Self, PlanError> {
        if !(ratio > 0.0 && ratio.is_finite()) {
            return Err(bad("signal-to-noise ratio", ratio, "a positive number"));
        }
        if predictor.needs_split() {
            let reason = "a correction goes along one score, and CFG++ has two answers";
            return Err(PlanError::Combination {
                first: "corrections".into(),
                second: predictor.name().into(),
                reason,
            });
        }
        let (asks, shares) = (None, None);
        Ok(Self { predictor, asks, ratio, corrections, batch_norms: false, step_limit: None, shares })
    }

    /// Corrections alone, without a predictor: at each level of a grid, from noisy to clean. The state is left as it is
    /// from one level to the next.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`PlanError::Setting`] for no corrections, [`PlanError::Grid`] for a grid that cannot be laid on the process, [`PlanError::Direction`] if
    /// noise rises.
    pub fn alone(process: &dyn Process, grid: &Grid, ratio: f64, corrections: u32) -> Result<Self, PlanError> {
        if corrections == 0 {
            return Err(bad(
                "number of corrections without a predictor",
                0.0,
                "1 or more: nothing else moves the state",
            ));
        }
        let stops = grid.stops(process)?;
        let prior = stops.first().map_or_else(|| process.prior_std(), |stop| prior_std(process, &stop.from));
        let mut alone = Self::at_stops(&stops, prior, ratio, corrections)?;
        if has_zero_terminal_snr(process) {
            alone.predictor = alone.predictor.on(process);
        }
        Ok(alone)
    }

    /// Corrections alone where given stops are asked.
    pub(crate) fn at_stops(stops: &[Stop], prior: f64, ratio: f64, corrections: u32) -> Result<Self, PlanError> {
        crate::ddpm::check_direction("Langevin correction", stops, true)?;
        let asks = stops.iter().map(|stop| stop.ask).collect();
        Ok(Self { asks: Some(asks), ..Self::new(idle(stops, prior)?, ratio, corrections)? })
    }

    /// Multiplies the length ε of the corrections before step i by `shares[i]`: on VP chains the paper takes α_i = 1 − β_i
    /// (algorithm 5); 1 unless said otherwise, as on VE (algorithm 4).
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless there is a finite number, at least 0, for each step of the predictor.
    pub fn shares(mut self, shares: Vec<f64>) -> Result<Self, PlanError> {
        if shares.len() != self.predictor.steps() {
            return Err(bad("number of shares", shares.len() as f64, "one for each step of the predictor"));
        }
        if let Some(share) = shares.iter().find(|share| !(**share >= 0.0 && share.is_finite())) {
            return Err(bad("share of a correction's length", *share, "a finite number, at least 0"));
        }
        self.shares = Some(shares);
        Ok(self)
    }

    /// Averages the norms over the batch and sets no limit to the steps, as the original does. A sample then depends on
    /// the others in its batch.
    pub fn batch_norms(mut self) -> Self {
        self.batch_norms = true;
        self
    }

    /// Limits |z|/|score| to `limit`·σ, and so the step ε of a correction to `2·(r·limit·σ)²`, where σ is that of the
    /// level: 1 unless said otherwise, none with [`batch_norms`](Self::batch_norms). Infinity is the formula alone.
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless the limit is positive.
    pub fn step_limit(mut self, limit: f64) -> Result<Self, PlanError> {
        if !(limit > 0.0) {
            return Err(bad("step limit", limit, "a positive number, in units of σ; infinity for none"));
        }
        self.step_limit = Some(limit);
        Ok(self)
    }

    /// The limit that holds.
    fn limit(&self) -> f64 {
        self.step_limit.unwrap_or(if self.batch_norms { f64::INFINITY } else { STEP_LIMIT })
    }

    /// The predictor's plan.
    pub fn predictor(&self) -> &Plan {
        &self.predictor
    }

    /// The key of the noise that correction `correction` before row `row` of the plan draws.
    pub fn correction_key(row: u64, correction: u32) -> Key {
        Key::step(row, FIRST_LANE + correction)
    }

    /// One correction at noise level `sigma`; all tensors are `[batch, ..]`.
    pub fn correct<const D: usize>(&self, x: Tensor<D>, score: Tensor<D>, z: Tensor<D>, sigma: f64) -> Tensor<D> {
        self.correct_in_part(x, score, z, sigma, 1.0)
    }

    /// With a factor on the length ε.
    fn correct_in_part<const D: usize>(
        &self,
        x: Tensor<D>,
        score: Tensor<D>,
        z: Tensor<D>,
        sigma: f64,
        share: f64,
    ) -> Tensor<D> {
        let ratio = self.norms(z.clone()).div(self.norms(score.clone()));
        let limit = self.limit() * sigma;
        let ratio = if limit.is_finite() { ratio.clamp_max(limit) } else { ratio };
        let step = ratio.powf_scalar(2.0).mul_scalar(2.0 * self.ratio * self.ratio * share);
        let spread = step.clone().mul_scalar(2.0).sqrt();
        x.add(score.mul(step)).add(z.mul(spread))
    }

    /// The numbers of what is set only sometimes.
    fn more(&self) -> Option<impl Iterator<Item = f64>> {
        let levels = self.asks.iter().flatten().flat_map(|level| [level.alpha, level.sigma, level.time]);
        let numbers = levels.chain(self.shares.iter().flatten().copied());
        (self.asks.is_some() || self.shares.is_some()).then_some(numbers)
    }

    /// The norm of each sample, or their mean for all, `[batch, 1, ..]`.
    fn norms<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let rows = x.dims()[0];
        let norms = x.powf_scalar(2.0).reshape([rows as i64, -1]).sum_dim(1).sqrt();
        let norms = if self.batch_norms { norms.mean_dim(0).expand([rows, 1]) } else { norms };
        let mut column = [1; D];
        column[0] = rows;
        norms.reshape(column)
    }
}

fn bad(setting: &'static str, given: f64, expected: &'static str) -> PlanError {
    PlanError::Setting { solver: "Langevin correction", setting, given, expected }
}

impl<const D: usize> Sampler<D> for PredictorCorrector {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let row = state.row();
        let asked = match &self.asks {
            Some(asks) => asks.get(row).copied(),
            None => self.predictor.rows().get(row).and_then(|row| row.eval).map(|eval| eval.at),
        };
        let Some(at) = asked else {
            return self.predictor.advance(state, cx);
        };
        let share = self.shares.as_ref().map_or(1.0, |shares| {
            let done = self.predictor.rows()[..row].iter().filter(|row| row.step.is_some()).count();
            shares[done]
        });
        for correction in 0..self.corrections {
            let x = state.x();
            let score = cx.ask(state, x.clone(), &Levels::Shared(at))?.score()?;
            let key = Self::correction_key(row as u64, correction);
            let z = noise::like(cx.noise, &x, state.first_sample(), key)?;
            state.set_x(self.correct_in_part(x, score, z, at.sigma, share));
        }
        self.predictor.advance(state, cx)
    }

    fn start_levels(&self) -> Levels {
        Sampler::<D>::start_levels(&self.predictor)
    }

    fn prior_std(&self) -> f64 {
        self.predictor.prior_deviation()
    }

    fn name(&self) -> String {
        format!("{} with corrections", self.predictor.name())
    }

    fn total_steps(&self) -> Option<usize> {
        Some(self.predictor.steps())
    }

    fn reads_clean(&self) -> bool {
        self.predictor.reads_clean()
    }

    fn zero_terminal_snr(&self) -> bool {
        self.predictor.has_zero_terminal_snr()
    }

    fn fingerprint(&self) -> u64 {
        let setting = (u64::from(self.corrections) << 1) | u64::from(self.batch_norms);
        // Odd multipliers keep settings apart that would cancel in a plain exclusive or.
        self.predictor.fingerprint()
            ^ self.ratio.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ setting.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
            ^ self.limit().to_bits().wrapping_mul(0x1656_67b1_9e37_79f9)
            ^ self.more().map_or(0, |more| crate::ode::fingerprint(more).wrapping_mul(0x27d4_eb2f_1656_67c5))
    }

    fn auxiliaries(&self) -> Vec<Aux> {
        self.predictor.auxiliaries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReverseDiffusion, SamplerExt, Solver};
    use burn::tensor::Device;
    use langevin_core::noise::Seeded;
    use langevin_core::process::VeSde;
    use langevin_core::{Load, Prediction, denoiser};

    fn corrector() -> PredictorCorrector {
        let plan = ReverseDiffusion::new().plan(&VeSde::default(), &Grid::uniform(40)).unwrap();
        PredictorCorrector::new(plan, 0.16, 2).unwrap()
    }

    #[test]
    fn a_correction_is_the_formula() {
        let device = Device::flex();
        let tensor = |values: [[f64; 2]; 2]| Tensor::<2>::from_data(values, &device);
        let (x, score, z) =
            (tensor([[1.0, 2.0], [0.0, 1.0]]), tensor([[3.0, 4.0], [0.0, 2.0]]), tensor([[0.0, 1.0], [6.0, 8.0]]));
        let got = corrector().correct(x, score, z, 1e3).try_into_vec_as::<f64>().unwrap();
        // Norms: |z| = 1 and 10, |score| = 5 and 2.
        for (row, (norm_ratio, x, s, z)) in
            [(0.2, [1.0, 2.0], [3.0, 4.0], [0.0, 1.0]), (5.0, [0.0, 1.0], [0.0, 2.0], [6.0, 8.0])]
                .into_iter()
                .enumerate()
        {
            let step = 2.0 * (0.16f64 * norm_ratio).powi(2);
            for i in 0..2 {
                let expected = x[i] + step * s[i] + (2.0 * step).sqrt() * z[i];
                assert!((got[2 * row + i] - expected).abs() < 1e-5 * (1.0 + expected.abs()));
            }
        }
    }

    #[test]
    fn corrections_count_and_the_gaussian_is_reached() {
        // Data N(0, 1) in many dimensions: score = −x/(1 + σ²).
        let denoiser = denoiser::from_fn(Prediction::Score, |x: Tensor<2>, levels| {
            Ok(levels.map(|level| -1.0 / (1.0 + level.sigma * level.sigma)).times(x))
        });
        let sampler = corrector().batch_norms();
        let noise = Seeded::new(3);
        let mut run = sampler.start([64, 512], &denoiser, &noise, Load::on(&Device::flex())).unwrap();
        let steps = (&mut run).map(Result::unwrap).count();
        assert_eq!((steps, run.state().evaluations()), (40, 120));
        let x = run.finish().unwrap();
        let variance = x.powf_scalar(2.0).mean().into_scalar::<f64>();
        assert!((variance - 1.0).abs() < 0.1, "{variance}");
    }

    /// One-dimensional data N(0, 1): scores near 0 are common.
    fn on_a_line(sampler: &PredictorCorrector) -> (f64, f64) {
        let denoiser = denoiser::from_fn(Prediction::Score, |x: Tensor<2>, levels| {
            Ok(levels.map(|level| -1.0 / (1.0 + level.sigma * level.sigma)).times(x))
        });
        let noise = Seeded::new(3);
        let run = sampler.start([4096, 1], &denoiser, &noise, Load::on(&Device::flex())).unwrap();
        let x = run.finish().unwrap();
        (x.clone().powf_scalar(2.0).mean().into_scalar(), x.abs().max().into_scalar())
    }

    #[test]
    fn a_score_near_zero_throws_no_sample_away() {
        // Forty steps of the predictor alone leave a variance of 1.26.
        let (variance, largest) = on_a_line(&corrector());
        assert!((1.0..1.5).contains(&variance) && largest < 6.0, "{variance}, {largest}");
        let (variance, largest) = on_a_line(&corrector().batch_norms());
        assert!((variance - 1.0).abs() < 0.1 && largest < 6.0, "{variance}, {largest}");
        // Without the limit it does.
        let (variance, largest) = on_a_line(&corrector().step_limit(f64::INFINITY).unwrap());
        assert!(!(variance < 10.0) && !(largest < 100.0), "{variance}, {largest}");
    }

    #[test]
    fn steps_have_a_limit_unless_norms_are_of_the_batch() {
        let device = Device::flex();
        let tensor = |values: [f64; 2]| Tensor::<2>::from_data([[values[0]], [values[1]]], &device);
        let (x, score, z) = (tensor([5.0, 5.0]), tensor([0.0, 1e-3]), tensor([1.0, -2.0]));
        let corrected = |sampler: PredictorCorrector| {
            sampler.correct(x.clone(), score.clone(), z.clone(), 0.5).try_into_vec_as::<f64>().unwrap()
        };
        // The ratio is σ, or as many of it as were allowed.
        for (limit, sampler) in [(1.0, corrector()), (3.0, corrector().step_limit(3.0).unwrap())] {
            let step: f64 = 2.0 * (0.16f64 * limit * 0.5).powi(2);
            for (got, (score, z)) in corrected(sampler).iter().zip([(0.0, 1.0), (1e-3, -2.0)]) {
                assert!((got - (5.0 + step * score + (2.0 * step).sqrt() * z)).abs() < 1e-5, "{got}");
            }
        }
        // The mean of |z| is 1.5, that of |score| 0.0005.
        let step = 2.0 * (0.16f64 * 3000.0).powi(2);
        let batch = corrected(corrector().batch_norms());
        assert!((batch[0] / (5.0 + (2.0 * step).sqrt()) - 1.0).abs() < 1e-5, "{batch:?}");
        for limit in [0.0, -1.0, f64::NAN] {
            assert!(matches!(corrector().step_limit(limit), Err(PlanError::Setting { setting: "step limit", .. })));
        }
        let prints = [corrector(), corrector().step_limit(2.0).unwrap(), corrector().batch_norms()];
        let prints = prints.map(|sampler| Sampler::<2>::fingerprint(&sampler));
        assert!(prints[0] != prints[1] && prints[1] != prints[2] && prints[0] != prints[2]);
    }

    #[test]
    fn corrections_alone_reach_the_gaussian_and_shares_shorten_them() {
        let denoiser = denoiser::from_fn(Prediction::Score, |x: Tensor<2>, levels| {
            Ok(levels.map(|level| -1.0 / (1.0 + level.sigma * level.sigma)).times(x))
        });
        let (ve, grid, noise) = (VeSde::default(), Grid::uniform(40), Seeded::new(3));
        let alone = PredictorCorrector::alone(&ve, &grid, 0.16, 30).unwrap().batch_norms();
        let run = |sampler: &PredictorCorrector| {
            let mut run = sampler.start([16, 512], &denoiser, &noise, Load::on(&Device::flex())).unwrap();
            let steps = (&mut run).map(Result::unwrap).count();
            assert_eq!((steps, run.state().evaluations()), (40, 1200));
            run.finish().unwrap().powf_scalar(2.0).mean().into_scalar::<f64>()
        };
        // The last level is noisy still, and a chain of corrections is wider than its level.
        let variance = run(&alone);
        assert!((variance - 1.05).abs() < 0.1, "{variance}");
        let still = alone.clone().shares(vec![0.0; 40]).unwrap();
        let first = ve.sigma(1.0).powi(2);
        assert!((run(&still) / first - 1.0).abs() < 0.05);
        let prints = [&alone, &still, &alone.clone().shares(vec![1.0; 40]).unwrap()].map(Sampler::<2>::fingerprint);
        assert!(prints[0] != prints[1] && prints[1] != prints[2] && prints[0] != prints[2]);
        let at_ten = PredictorCorrector::alone(&ve, &Grid::uniform(10), 0.16, 30).unwrap();
        assert_ne!(Sampler::<2>::fingerprint(&at_ten.batch_norms()), prints[0]);
        for shares in [vec![1.0; 39], vec![-1.0; 40], vec![f64::NAN; 40]] {
            assert!(matches!(alone.clone().shares(shares), Err(PlanError::Setting { .. })));
        }
        let rising = PredictorCorrector::alone(&ve, &grid.inverted(), 0.16, 1);
        assert!(matches!(rising, Err(PlanError::Direction { .. })));
    }

    #[test]
    fn a_ratio_that_is_not_positive_is_an_error() {
        for ratio in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = PredictorCorrector::new(corrector().predictor, ratio, 1).unwrap_err();
            assert!(matches!(error, PlanError::Setting { .. }));
        }
        // The samples would be the noise that the run began with.
        let error = PredictorCorrector::alone(&VeSde::default(), &Grid::uniform(4), 0.16, 0).unwrap_err().to_string();
        assert!(error.contains("number of corrections without a predictor") && error.contains("1 or more"), "{error}");
    }
}
