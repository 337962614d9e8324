//! Euler's method in σ/α.

use super::churn::{self, Churn};
use super::frame::{first_row, landing, walk};
use crate::ddpm::{check_direction, falls, ratio};
use crate::plan::{Draw, Eval, Plan, Row, Set, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Level, Prediction, Process};
use serde::{Deserialize, Serialize};

const NAME: &str = "Euler";

/// Euler's method for `d(x/α) = ε̂ d(σ/α)`: `x_s = α_s·x̂_0 + σ_s·ε̂`. One evaluation a step, order 1.
///
/// Without [churn](Churn) it is DDIM without noise, number by number, on every process. With it, it is the stochastic
/// sampler of Karras et al. with steps of Euler. A grid that rises encodes data to noise; churn needs one that falls.
///
/// ```
/// use langevin_core::{Grid, process::VpSde};
/// use langevin_schedulers::{Ddim, Solver, sigma::Euler};
/// let (vp, grid) = (VpSde::default(), Grid::uniform(20));
/// assert_eq!(Euler::new().plan(&vp, &grid)?.rows(), Ddim::new().plan(&vp, &grid)?.rows());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Karras et al. 2022, "Elucidating the design space of diffusion-based generative models", eq. 4 and algorithm 2;
/// Song, Meng & Ermon 2021, eq. 14.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Euler {
    churn: Option<Churn>,
    late: Option<Prediction>,
}

impl Euler {
    /// Without churn.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds noise before each step.
    pub fn churn(mut self, churn: Churn) -> Self {
        self.churn = Some(churn);
        self
    }

    /// Asks the network before churn raises the state, and takes its output as if it had seen the raised one. This is
    /// what diffusers does; Karras et al. ask afterwards.
    ///
    /// What a raised state makes of an output depends on what the network predicts: ε, −ε, v, x_0 and the outputs of EDM
    /// and consistency models are known here. A v output keeps the level that it was given at; the others take the raised one.
    pub fn churn_after_asking(mut self, prediction: Prediction) -> Self {
        self.late = Some(prediction);
        self
    }

    /// With the amount of churn divided by another number.
    pub(crate) fn churn_over(mut self, steps: usize) -> Self {
        self.churn = self.churn.map(|churn| churn.over(steps));
        self
    }

    fn late_row(
        &self,
        churn: &Churn,
        prediction: Prediction,
        index: usize,
        stop: &Stop,
        steps: usize,
    ) -> Result<Row, PlanError> {
        let (from, to) = (&stop.from.level, &stop.to.level);
        let Some(rise) = churn.rise(from, steps) else { return Ok(plain_row(index, stop)) };
        // Any α will do for these: only the ratio enters.
        let raised = Level { sigma: from.alpha * rise.ratio, ..*from };
        let convert = match prediction {
            Prediction::Velocity => prediction.x0(from)?,
            Prediction::Epsilon
            | Prediction::ScaledScore
            | Prediction::Sample
            | Prediction::Edm { .. }
            | Prediction::EdmVelocity { .. }
            | Prediction::Consistency { .. } => prediction.x0(&raised)?,
            Prediction::Score | Prediction::Flow | Prediction::FlowToData => {
                return Err(PlanError::Singular {
                    solver: NAME,
                    t: stop.from.t,
                    alpha: from.alpha,
                    sigma: from.sigma,
                    advice: "scores and flows do not say what they are at another level; ask after churn",
                });
            }
        };
        // x̂_0 in terms of what was asked: the state, the output (of x̂_0 and ε̂), the noise. The report reads the state
        // after it has changed, hence the copy.
        const ASKED: Src = Src::X(1);
        let output = prediction.target(from)?;
        let x0 = [
            (ASKED, convert.x),
            (Src::X0(0), convert.output * output.x0),
            (Src::Eps(0), convert.output * output.eps),
            (Src::Z(0), convert.x * from.alpha * rise.std),
        ];
        // y = ρ·ŷ + (1 − ρ)·x̂_0 with ρ = s_to/ŝ.
        let share = ratio(to) / rise.ratio;
        let of_raised = |src: Src| match src {
            Src::X(_) => 1.0 / from.alpha,
            Src::Z(_) => rise.std,
            _ => 0.0,
        };
        let sum = x0.map(|(src, c)| Term::new(to.alpha * (share * of_raised(src) + (1.0 - share) * c), src));
        let report = x0.map(|(src, c)| Term::new(c, src));
        let used = |terms: [Term; 4]| terms.into_iter().filter(|term| term.c != crate::plan::Coef::C(0.0));
        let noisy = rise.std > 0.0;
        let kept = |terms: [Term; 4]| used(terms).filter(|term| noisy || term.of != Src::Z(0)).collect::<Vec<_>>();
        Ok(Row {
            draws: if noisy { vec![Draw::WHITE] } else { Vec::new() },
            pre: vec![Set::new(1, [Term::new(1.0, Src::X(0))])],
            eval: Some(Eval { at: stop.ask, x: 1, into: 0 }),
            post: vec![Set::new(0, kept(sum))],
            step: Some(index as u32),
            after: stop.to,
            report: kept(report),
        })
    }
}

/// A step without churn.
fn plain_row(index: usize, stop: &Stop) -> Row {
    first_row(churn::Start::still(stop), 0, Some((index, stop.to, landing(&stop.to.level, 0, &[]))))
}

impl Solver for Euler {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let (stops, steps) = walk(process, grid)?;
        self.churn.iter().try_for_each(Churn::check)?;
        check_direction(NAME, &stops, self.churn.is_some() || falls(&stops))?;
        let row = |(index, stop): (usize, &Stop)| match (&self.churn, self.late) {
            (Some(churn), Some(prediction)) => self.late_row(churn, prediction, index, stop, steps),
            (churn, _) => {
                let start = churn::start(churn.as_ref(), NAME, process, stop, steps)?;
                Ok(first_row(start, 0, Some((index, stop.to, landing(&stop.to.level, 0, &[])))))
            }
        };
        let rows = stops.iter().enumerate().map(row).collect::<Result<_, _>>()?;
        let name = churn::name(format!("{NAME} in σ/α"), self.churn.as_ref());
        Ok(Plan::new(name, stops[0].from, prior_std(process, &stops[0].from), rows)?.on(process))
    }

    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        churn::add(churn, (self, self.churn.is_some()), Self::churn, process, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HostAnswer;
    use langevin_core::noise::Injected;
    use langevin_core::process::Edm;
    use langevin_core::{Key, Node};

    /// One step of a network that is asked first, in the formulas of the published code.
    #[test]
    fn late_churn_takes_the_output_as_one_of_the_raised_state() {
        let edm = Edm::default();
        let (s, to, x, z) = (3.0f64, 1.2, 2.5, 0.7);
        let churn = Churn::new(0.3).unwrap().noise(1.1).unwrap();
        let raised = 1.3 * s;
        let y = x + 1.1 * z * (raised * raised - s * s).sqrt();
        let level = edm.level(s);
        for prediction in [
            Prediction::Epsilon,
            Prediction::Sample,
            Prediction::Velocity,
            Prediction::Edm { sigma_data: 0.5 },
            Prediction::EdmVelocity { sigma_data: 0.5 },
        ] {
            let output = 0.45;
            let n = (raised * raised + 0.25).sqrt();
            let x0 = match prediction {
                Prediction::Epsilon => y - raised * output,
                Prediction::Sample => output,
                // On the process with α = 1: v = (ε − σ·x_0)/1.
                Prediction::Velocity => (y - s * output) / (1.0 + s * s),
                Prediction::Edm { .. } => 0.25 / (n * n) * y + raised * 0.5 / n * output,
                _ => 0.25 / (n * n) * y - raised * 0.5 / n * output,
            };
            let expected = y + (y - x0) / raised * (to - raised);
            let grid = Grid::times(vec![s, to]).unwrap();
            let plan = Euler::new().churn(churn.clone()).churn_after_asking(prediction).plan(&edm, &grid).unwrap();
            assert_eq!(plan.rows()[0].after, Node { t: to, level: edm.level(to) });
            let noise = Injected::new().with(Key::step(0, 0), 0..1, vec![z]).unwrap();
            let model = |x: &[f64], at: &Level| {
                assert_eq!((at.sigma, x[0]), (s, 2.5));
                let (a, b) = (prediction.x0(&level).unwrap(), prediction.eps(&level).unwrap());
                HostAnswer {
                    x0: vec![a.x * x[0] + a.output * output],
                    eps: vec![b.x * x[0] + b.output * output],
                    variance: None,
                }
            };
            let found = plan.run_host(vec![x], 0, &noise, model).unwrap();
            assert!((found[0] - expected).abs() < 1e-12, "{prediction:?}: {} and {expected}", found[0]);
        }
    }
}
