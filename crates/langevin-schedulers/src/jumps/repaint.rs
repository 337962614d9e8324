//! Filling in what is missing of a sample, with jumps back: RePaint (Lugmayr et al. 2022).

use super::pieces::Pieces;
use super::{number, rise};
use crate::plan::{Draw, KNOWN, MASK, Plan, Reg, Row, Set, Src, Term};
use crate::solver::{PlanError, Solver};
use langevin_core::{Grid, Level, Node, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "RePaint";

/// RePaint around any solver: after each step the known region is replaced by the known image at the level just reached,
/// `α·known + σ·z`, and every few steps the state jumps back up by the forward process and comes down again.
///
/// One pass alone fills the missing region with what fits the known one of a single step. The jumps mix the two: with more
/// samples what is filled in approaches the conditional law of data given what is known. It does so where there is little
/// noise: higher up the known region is drawn anew in every pass, and tells less than it should. Long jumps mix faster, and
/// leave more of that behind; the shortest ones leave nothing but the error of the solver.
///
/// The run is given the image and the mask with [`Run::known`](crate::Run::known). The noise of the known region has a
/// domain of its own, so that the solver's own draws are those of the jumps and steps alone.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::exact::{Posterior, correlated_mixture};
/// use langevin_core::{Grid, Load, Prediction, noise::Seeded, process::VpSde};
/// use langevin_schedulers::{Ddpm, RePaint, SamplerExt, Solver};
///
/// let device = Device::flex();
/// let denoiser = correlated_mixture()?.denoiser(Prediction::Epsilon)?;
/// let plan = RePaint::around(Ddpm::new()).jumps(5, 3)?.plan(&VpSde::default(), &Grid::uniform(50))?;
/// let known = Tensor::<2>::from_data([[0.5, 0.0]], &device); // the second number is not known
/// let mask = Tensor::<2>::from_data([[1.0, 0.0]], &device);
/// let noise = Seeded::new(42);
/// let run = plan.start([4, 2], &denoiser, &noise, Load::on(&device))?.known(known, mask)?;
/// let filled = run.finish()?;
/// assert_eq!(filled.dims(), [4, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Lugmayr et al. 2022, "RePaint: inpainting using denoising diffusion probabilistic models", algorithm 1 and appendix B.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RePaint<S> {
    inner: S,
    length: usize,
    samples: usize,
    #[serde(default)]
    compat: bool,
}

impl<S> RePaint<S> {
    /// With the paper's jumps: 10 steps up, so that each level is passed 10 times. The paper's solver is
    /// [`Ddpm`](crate::Ddpm) with 250 steps.
    pub fn around(inner: S) -> Self {
        Self { inner, length: 10, samples: 10, compat: false }
    }

    /// Jumps `length` steps back, and passes each stretch `samples` times: 1 makes no jumps.
    ///
    /// Jumps begin `1, 1 + length, 1 + 2·length, …` steps before the end, as long as they stay on the grid.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for 0.
    pub fn jumps(mut self, length: usize, samples: usize) -> Result<Self, PlanError> {
        (self.length, self.samples) = (length, samples);
        self.check()?;
        Ok(self)
    }

    /// Jumps as diffusers' `RePaintScheduler` does: they begin `0, length, 2·length, …` steps before the end, the first from
    /// clean data, and each step up takes the betas that follow those between the two levels, so that the state has more
    /// noise than the network is told. On chains, along grids of equal strides.
    pub fn compat_diffusers(mut self) -> Self {
        self.compat = true;
        self
    }

    fn check(&self) -> Result<(), PlanError> {
        for (setting, given) in [("jump length", self.length), ("number of samples", self.samples)] {
            if given == 0 {
                return Err(PlanError::Setting { solver: NAME, setting, given: 0.0, expected: "1 or more" });
            }
        }
        Ok(())
    }

    /// How many steps are left after each row that commits one, and after the start: down by steps, up by jumps.
    fn walk(&self, steps: usize) -> Vec<usize> {
        // The first place to jump from, and one beyond the last.
        let first = if self.compat { 0 } else { 1 };
        let last = (first + steps).saturating_sub(self.length);
        let mut jumps = vec![0; steps];
        (first..last.min(steps)).step_by(self.length).for_each(|left| jumps[left] = self.samples - 1);
        let (mut walk, mut left) = (vec![steps], steps);
        while left > 0 {
            left -= 1;
            walk.push(left);
            if jumps[left] > 0 {
                jumps[left] -= 1;
                walk.extend(left + 1..=left + self.length);
                left += self.length;
            }
        }
        walk
    }

    /// Between which levels noise is added from one node up to the one before.
    fn levels(
        &self,
        pieces: &Pieces<'_>,
        process: &dyn Process,
        low: Node,
        high: Node,
    ) -> Result<(Level, Level), PlanError> {
        if !self.compat {
            return Ok((low.level, high.level));
        }
        let Some(chain) = process.chain() else {
            return Err(pieces.refuse("its compatible jumps", "they take the betas of a chain; this process has none"));
        };
        let stride = pieces.nodes()[0].t - pieces.nodes()[1].t;
        let level = |t: f64| {
            if t < 0.0 {
                return Ok(Level { alpha: 1.0, sigma: 0.0, time: 0.0 });
            }
            let bar = (t.fract() == 0.0).then(|| chain.alphas_cumprod().get(t as usize)).flatten();
            match bar {
                Some(bar) => Ok(Level { alpha: bar.sqrt(), sigma: (1.0 - bar).sqrt(), time: t }),
                None => {
                    Err(pieces.refuse("its compatible jumps", "they go by whole steps of the chain, on leading grids"))
                }
            }
        };
        Ok((level(high.t - 1.0)?, level(high.t + stride - 1.0)?))
    }
}

/// Replaces the known region at the end of a row that completes a step.
fn replace_known(row: &mut Row, register: Reg) {
    let Level { alpha, sigma, .. } = row.after.level;
    let mut sum = vec![Term::new(alpha, Src::Aux(KNOWN))];
    if sigma > 0.0 {
        row.draws.push(Draw::Known { to: register, lane: 0 });
        sum.push(Term::new(sigma, Src::Z(register)));
    }
    row.post.push(Set::new(0, sum).masked(MASK));
}

impl<S: Solver> Solver for RePaint<S> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        // Deserialized settings have not been checked yet.
        self.check()?;
        let mut pieces = Pieces::of(NAME, &self.inner, process, grid)?;
        if pieces.whole().carries_states() {
            let reason = "it goes on from states of earlier steps, in which nothing is replaced; take a solver that remembers \
                          estimates only";
            return Err(pieces.refuse(pieces.whole().name(), reason));
        }
        if pieces.whole().draws_along_a_path() {
            let reason =
                "after a jump the same increments of its path would come again; take a solver with white noise";
            return Err(pieces.refuse(pieces.whole().name(), reason));
        }
        let register = pieces.free_register()?;
        let nodes = pieces.nodes().to_vec();
        let steps = nodes.len() - 1;
        let walk = self.walk(steps);
        let (mut rows, mut at) = (Vec::new(), 0);
        while at + 1 < walk.len() {
            let from = walk[at];
            if walk[at + 1] > from {
                let (low, high) = (nodes[steps - from], nodes[steps - from - 1]);
                let (from, until) = self.levels(&pieces, process, low, high)?;
                rows.push(rise(NAME, (&from, &until), high, register)?);
                at += 1;
                continue;
            }
            let down = walk[at..].windows(2).take_while(|pair| pair[1] < pair[0]).count();
            let mut piece = pieces.rows(steps - from, steps - from + down)?;
            piece.iter_mut().filter(|row| row.step.is_some()).for_each(|row| replace_known(row, register));
            rows.append(&mut piece);
            at += down;
        }
        number(&mut rows);
        let whole = pieces.whole();
        let name = format!("{NAME} around {} (jumps of {}, {} samples)", whole.name(), self.length, self.samples);
        Ok(Plan::new(name, whole.start_node(), whole.prior_deviation(), rows)?.on(process).split_as(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exponential::UniPc;
    use crate::{Ddim, Ddpm, EulerMaruyama};
    use langevin_core::process::{Betas, DiscreteChain, Transition, VpSde};

    fn chain() -> DiscreteChain {
        DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain")
    }

    /// The list of the paper's appendix for T = 10, jumps of 3, two samples: levels, counted from 0 at the first noisy one.
    #[test]
    fn the_walk_is_that_of_the_paper() {
        let repaint = RePaint::around(Ddpm::new()).jumps(3, 2).expect("settings");
        let levels: Vec<i64> = repaint.walk(10).iter().map(|left| *left as i64 - 1).collect();
        assert_eq!(levels, [9, 8, 7, 6, 7, 8, 9, 8, 7, 6, 5, 4, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, -1]);
        assert_eq!(RePaint::around(Ddpm::new()).jumps(2, 1).expect("settings").walk(4), [4, 3, 2, 1, 0]);
        // One step and two samples: algorithm 1, which never jumps from clean data.
        let once = RePaint::around(Ddpm::new()).jumps(1, 2).expect("settings");
        assert_eq!(once.walk(3), [3, 2, 3, 2, 1, 2, 1, 0]);
        assert_eq!(once.compat_diffusers().walk(3), [3, 2, 1, 2, 1, 0, 1, 0]);
        // Jumps longer than the grid are not made.
        assert_eq!(RePaint::around(Ddpm::new()).jumps(9, 9).expect("settings").walk(3), [3, 2, 1, 0]);
    }

    #[test]
    fn rows_replace_what_is_known_and_rise_by_the_forward_process() {
        let (chain, grid) = (chain(), Grid::leading(10));
        let plan = RePaint::around(Ddpm::new()).jumps(2, 2).expect("settings").plan(&chain, &grid).expect("a plan");
        assert_eq!(plan.auxiliaries(), [KNOWN, MASK]);
        let mut before = plan.start_node();
        let (mut falls, mut rises) = (0, 0);
        for row in plan.rows() {
            let after = row.after.level;
            if row.eval.is_some() {
                falls += 1;
                let last = row.post.last().expect("two assignments");
                assert_eq!(last.mask, Some(MASK));
                let mut expected = vec![Term::new(after.alpha, Src::Aux(KNOWN))];
                if after.sigma > 0.0 {
                    expected.push(Term::new(after.sigma, Src::Z(1)));
                    assert!(row.draws.contains(&Draw::Known { to: 1, lane: 0 }));
                }
                assert_eq!(last.sum, expected);
            } else {
                rises += 1;
                let Transition { scale, variance } = Transition::between(&before.level, &after);
                let expected = [Term::new(scale, Src::X(0)), Term::new(variance.sqrt(), Src::Z(1))];
                assert_eq!(row.post[0].sum, expected);
            }
            before = row.after;
        }
        // Jumps from 1, 3, 5 and 7 steps before the end, of two steps each.
        assert_eq!((falls, rises), (10 + 8, 8));
        assert_eq!(plan.steps(), 26);
        assert_eq!(before.level.sigma, 0.0);
    }

    #[test]
    fn settings_and_solvers_that_do_not_fit_are_refused() {
        for (length, samples) in [(0, 2), (2, 0)] {
            let error = RePaint::around(Ddpm::new()).jumps(length, samples).expect_err("zero");
            assert!(matches!(error, PlanError::Setting { solver: NAME, .. }), "{error}");
        }
        let vp = VpSde::default();
        let grid = Grid::uniform(20);
        let refused = |error: PlanError, says: &str| {
            assert!(matches!(&error, PlanError::Combination { first, .. } if first == NAME), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        };
        let unipc = RePaint::around(UniPc::new(2).expect("an order"));
        refused(unipc.plan(&vp, &grid).expect_err("a corrector"), "states of earlier steps");
        let path = RePaint::around(EulerMaruyama::new().path());
        refused(path.plan(&vp, &Grid::uniform(200)).expect_err("a path"), "increments of its path");
        let compat = RePaint::around(Ddim::new()).jumps(2, 2).expect("settings").compat_diffusers();
        refused(compat.plan(&vp, &grid).expect_err("no chain"), "betas of a chain");
        let rising = RePaint::around(Ddim::new()).plan(&chain(), &Grid::leading(10).inverted());
        assert!(matches!(rising, Err(PlanError::Direction { .. })));
    }
}
