//! Annealed Langevin dynamics (Song & Ermon 2019).

use crate::ddpm::check_direction;
use crate::ode::check_joined;
use crate::plan::{Draw, Eval, Plan, Row, Set, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::{Grid, Level, Node, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "annealed Langevin";

/// Annealed Langevin dynamics: a number of Langevin steps at each level of a grid, from noisy to clean.
///
/// A step at a level with noise σ is `x + ½·r·σ²·score + √r·σ·z`: its length is fixed, so the whole is a plan. Going to the
/// next level, the state is multiplied by the ratio of the two α, which is 1 on VE processes: the chain is the same on all
/// processes in x/α over σ/α. Levels are those of the grid that have noise, the one that it arrives at included.
///
/// One step of the plan is a level. With [`denoise_at_end`](Self::denoise_at_end) a last question and step take the noise
/// of the last level off (Jolicoeur-Martineau et al. 2021; Song & Ermon 2020).
///
/// The law of a chain with steps of fixed length is not quite that of its level: of pure noise the variance is
/// `1/(1 − r/4)` times as large.
///
/// ```
/// use langevin_core::{Grid, process::VeSde};
/// use langevin_schedulers::{AnnealedLangevin, Solver};
/// // NCSN: ten levels from σ = 1 to 0.01, a hundred steps each, ε = 2e-5.
/// let ve = VeSde::new(0.01, 1.0)?;
/// let plan = AnnealedLangevin::ncsn(2e-5, 0.01, 100)?.plan(&ve, &Grid::uniform(9))?;
/// assert_eq!((plan.steps(), plan.evaluations()), (10, 1000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Song & Ermon 2019, "Generative modeling by estimating gradients of the data distribution", algorithm 1; Song & Ermon
/// 2020, "Improved techniques for training score-based generative models".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnnealedLangevin {
    ratio: f64,
    steps: usize,
    #[serde(default)]
    denoise: bool,
}

impl AnnealedLangevin {
    /// `steps` steps at each level, of the length `ratio`·σ².
    ///
    /// # Errors
    /// [`PlanError::Setting`] unless `0 < ratio < 4` and `steps` is at least 1. From 4 on the chain of pure noise grows
    /// without bound.
    pub fn new(ratio: f64, steps: usize) -> Result<Self, PlanError> {
        let langevin = Self { ratio, steps, denoise: false };
        langevin.check()?;
        Ok(langevin)
    }

    /// In the terms of NCSN: steps of the length `ε·σ²/σ_L²`, where σ_L is the smallest noise.
    ///
    /// # Errors
    /// As [`new`](Self::new), for `ratio = ε/σ_L²`.
    pub fn ncsn(epsilon: f64, smallest: f64, steps: usize) -> Result<Self, PlanError> {
        Self::new(epsilon / (smallest * smallest), steps)
    }

    /// In the terms of score SDEs: the annealed Langevin corrector of signal-to-noise ratio `snr`, whose steps are
    /// `2·(snr·σ)²·score` long.
    ///
    /// # Errors
    /// As [`new`](Self::new), for `ratio = 4·snr²`.
    pub fn of_snr(snr: f64, steps: usize) -> Result<Self, PlanError> {
        Self::new(4.0 * snr * snr, steps)
    }

    /// Asks once more at the last level, and goes to the clean sample that the answer says.
    pub fn denoise_at_end(mut self) -> Self {
        self.denoise = true;
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        let bad = |setting, given, expected| Err(PlanError::Setting { solver: NAME, setting, given, expected });
        if !(self.ratio > 0.0 && self.ratio < 4.0) {
            return bad("step length over σ²", self.ratio, "a number between 0 and 4; 0.2 is that of NCSN");
        }
        if self.steps == 0 {
            return bad("number of steps a level", 0.0, "1 or more");
        }
        Ok(())
    }

    /// The steps at one level, for a state that comes from a level with another α.
    fn level(&self, index: usize, (node, ask): (Node, Level), before: f64) -> Vec<Row> {
        let Level { alpha, sigma, .. } = ask;
        let row = |k: usize| {
            let sum = [
                Term::new(1.0, Src::X(0)),
                Term::new(-0.5 * self.ratio * sigma, Src::Eps(0)),
                Term::new(self.ratio.sqrt() * sigma, Src::Z(0)),
            ];
            let rescale = k == 0 && before != alpha;
            Row {
                draws: vec![Draw::WHITE],
                pre: if rescale { vec![Set::new(0, [Term::new(alpha / before, Src::X(0))])] } else { Vec::new() },
                eval: Some(Eval { at: ask, x: 0, into: 0 }),
                post: vec![Set::new(0, sum)],
                step: (k + 1 == self.steps).then_some(index as u32),
                after: node,
                report: if k + 1 == self.steps { vec![Term::new(1.0, Src::X0(0))] } else { Vec::new() },
            }
        };
        (0..self.steps).map(row).collect()
    }
}

impl Solver for AnnealedLangevin {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        // Deserialized settings have not been checked yet.
        self.check()?;
        let stops = grid.stops(process)?;
        check_direction(NAME, &stops, true)?;
        check_joined(NAME, &stops)?;
        let mut levels: Vec<(Node, Level)> = stops.iter().map(|stop| (stop.from, stop.ask)).collect();
        levels.extend(stops.last().map(|stop| (stop.to, stop.to.level)).filter(|(_, level)| level.sigma > 0.0));
        let (mut rows, mut before) = (Vec::new(), levels[0].1.alpha);
        for (index, level) in levels.iter().enumerate() {
            let Level { alpha, sigma, .. } = level.1;
            if !(alpha > 0.0 && sigma > 0.0) {
                let advice = "there is no chain without noise, and none from pure noise to data; leave this level out";
                return Err(PlanError::Singular { solver: NAME, t: level.0.t, alpha, sigma, advice });
            }
            rows.append(&mut self.level(index, *level, before));
            before = alpha;
        }
        if self.denoise {
            let (_, at) = levels[levels.len() - 1];
            let clean = process.clean();
            let sum = [Term::new(clean.level.alpha, Src::X0(0)), Term::new(clean.level.sigma, Src::Eps(0))];
            rows.push(Row {
                draws: Vec::new(),
                pre: Vec::new(),
                eval: Some(Eval { at, x: 0, into: 0 }),
                post: vec![Set::new(0, sum)],
                step: Some(levels.len() as u32),
                after: clean,
                report: vec![Term::new(1.0, Src::X0(0))],
            });
        }
        let name = format!("{NAME} ({} steps a level, r = {})", self.steps, self.ratio);
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Coef, HostAnswer};
    use langevin_core::noise::Injected;
    use langevin_core::process::{RectifiedFlow, VeSde, VpSde};

    fn numbers(set: &Set) -> Vec<f64> {
        set.sum.iter().map(|term| if let Coef::C(c) = term.c { c } else { f64::NAN }).collect()
    }

    /// α_i = ε·σ_i²/σ_L², x + ½·α_i·score + √α_i·z, in the paper's symbols.
    #[test]
    fn rows_are_the_algorithm_of_the_paper() {
        let ve = VeSde::new(0.01, 1.0).expect("a process");
        let langevin = AnnealedLangevin::ncsn(2e-5, 0.01, 3).expect("settings").denoise_at_end();
        let plan = langevin.plan(&ve, &Grid::uniform(9)).expect("a plan");
        assert_eq!((plan.steps(), plan.evaluations()), (11, 31));
        for (i, row) in plan.rows()[..30].iter().enumerate() {
            // Ten levels, each 10^(2/9) below the one before but for the range of times, which stops just above 0.
            let sigma = row.after.level.sigma;
            assert!((sigma.log10() + 2.0 * (i / 3) as f64 / 9.0).abs() < 1e-4, "{sigma}");
            let alpha = 2e-5 * sigma * sigma / (0.01 * 0.01);
            assert!(row.pre.is_empty());
            // score = −ε̂/σ.
            let expected = [1.0, -0.5 * alpha / sigma, alpha.sqrt()];
            for (found, expected) in numbers(&row.post[0]).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "row {i}: {found} is not {expected}");
            }
        }
        let last = &plan.rows()[30];
        assert_eq!((last.post[0].sum.as_slice(), last.after.level.sigma), (&[Term::new(1.0, Src::X0(0))][..], 0.0));
        let of_snr = AnnealedLangevin::of_snr(0.16, 1).expect("a ratio").plan(&ve, &Grid::uniform(9)).expect("a plan");
        let step = 2.0 * 0.16f64.powi(2);
        let expected = [1.0, -step, (2.0 * step).sqrt()];
        for (found, expected) in numbers(&of_snr.rows()[0].post[0]).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }

    /// In x/α over σ/α the chains of all processes are one.
    #[test]
    fn processes_with_the_same_ratios_have_the_same_chain() {
        let ratios = [3.0, 1.0, 0.3];
        let ends: Vec<f64> = [&VpSde::default() as &dyn Process, &VeSde::default(), &RectifiedFlow::new()]
            .into_iter()
            .map(|process| {
                let level = |ratio: &f64| process.level(process.time_at_lambda(-ratio.ln()).expect("in range"));
                let levels: Vec<Level> = ratios.iter().map(level).collect();
                let last = levels[2];
                let plan = AnnealedLangevin::new(0.5, 2)
                    .expect("settings")
                    .plan(process, &Grid::levels(levels).expect("rising λ"));
                let plan = plan.expect("a plan");
                let start = plan.start_node().level.alpha;
                let mut noise = Injected::new();
                for row in 0..plan.rows().len() {
                    let key = langevin_core::Key::step(row as u64, 0);
                    noise = noise.with(key, 0..1, vec![0.3 - 0.1 * row as f64]).expect("a draw");
                }
                let model = |x: &[f64], level: &Level| {
                    // Data of variance 2.
                    let v = 2.0 * level.alpha * level.alpha + level.sigma * level.sigma;
                    HostAnswer {
                        x0: vec![2.0 * level.alpha * x[0] / v],
                        eps: vec![level.sigma * x[0] / v],
                        variance: None,
                    }
                };
                plan.run_host(vec![1.5 * start], 0, &noise, model).expect("a host run")[0] / last.alpha
            })
            .collect();
        assert!(ends.iter().all(|end| (end - ends[0]).abs() < 1e-11), "{ends:?}");
    }

    /// Steps of length r·σ² on a level with variance v keep the variance v/(1 − r·σ²/(4v)).
    #[test]
    fn the_law_of_a_long_chain_is_known() {
        let ve = VeSde::default();
        let plan = AnnealedLangevin::new(0.8, 400).expect("settings").plan(&ve, &Grid::uniform(2)).expect("a plan");
        let mut variance = 7.0;
        let level = plan.rows()[0].eval.expect("a question").at;
        let v = 1.0 + level.sigma * level.sigma;
        for row in &plan.rows()[..400] {
            let c = numbers(&row.post[0]);
            let pull = c[0] + c[1] * level.sigma / v;
            variance = pull * pull * variance + c[2] * c[2];
        }
        let expected = v / (1.0 - 0.25 * 0.8 * level.sigma * level.sigma / v);
        assert!((variance - expected).abs() < 1e-9 * expected, "{variance} is not {expected}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for ratio in [0.0, -1.0, 4.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(AnnealedLangevin::new(ratio, 1), Err(PlanError::Setting { solver: NAME, .. })), "{ratio}");
        }
        assert!(AnnealedLangevin::new(0.2, 0).is_err());
        let langevin = AnnealedLangevin::new(0.2, 1).expect("settings");
        let error = langevin.plan(&RectifiedFlow::new(), &Grid::uniform(5)).expect_err("α = 0");
        assert!(matches!(error, PlanError::Singular { solver: NAME, alpha: 0.0, .. }), "{error}");
        let rising = langevin.plan(&VeSde::default(), &Grid::uniform(5).inverted());
        assert!(matches!(rising, Err(PlanError::Direction { .. })));
    }
}
