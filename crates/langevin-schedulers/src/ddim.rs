//! Denoising diffusion implicit models, DDIM (Song, Meng & Ermon 2021).

use crate::ddpm::{Posterior, check_direction, falls};
use crate::plan::{Draw, Eval, Plan, Row, Set, Src, Term};
use crate::solver::{PlanError, Solver, prior_std};
use langevin_core::grid::Stop;
use langevin_core::{Grid, Process};
use serde::{Deserialize, Serialize};

/// DDIM on any process: `x_s = α_s·x̂_0 + √(σ_s² − η²v)·ε̂ + η√v·z`, where v is the posterior's variance.
///
/// η = 0 is deterministic (the exponential integrator of order 1), η = 1 draws from DDPM's posterior. A grid that
/// rises ([`Grid::inverted`]) inverts: it encodes data to noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ddim {
    eta: f64,
}

impl Ddim {
    /// Deterministic, η = 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// With noise of relative size η in [0, 1].
    ///
    /// # Errors
    /// [`PlanError::Setting`] outside [0, 1].
    pub fn eta(mut self, eta: f64) -> Result<Self, PlanError> {
        self.eta = eta;
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), PlanError> {
        if (0.0..=1.0).contains(&self.eta) {
            return Ok(());
        }
        Err(PlanError::Setting {
            solver: "DDIM",
            setting: "eta",
            given: self.eta,
            expected: "a number in [0, 1]: 0 is deterministic, 1 is DDPM",
        })
    }

    fn row(&self, index: usize, stop: &Stop) -> Result<Row, PlanError> {
        let s = &stop.to.level;
        let (of_eps, variance) = if self.eta > 0.0 {
            let posterior = Posterior::of("DDIM", stop)?;
            // σ_s² − η²v, as a sum of positive terms: at η = 1 what is left of ε̂ is the posterior's part of x_t.
            let kept = posterior.of_x * stop.from.level.sigma;
            let eta = self.eta * self.eta;
            ((kept * kept + (1.0 - eta) * posterior.variance).sqrt(), eta * posterior.variance)
        } else {
            (s.sigma, 0.0)
        };
        let draws = if variance > 0.0 { vec![Draw::White { to: 0, lane: 0 }] } else { Vec::new() };
        let mut sum = vec![Term::new(s.alpha, Src::X0(0)), Term::new(of_eps, Src::Eps(0))];
        if variance > 0.0 {
            sum.push(Term::new(variance.sqrt(), Src::Z(0)));
        }
        Ok(Row {
            draws,
            pre: Vec::new(),
            eval: Some(Eval { at: stop.ask, x: 0, into: 0 }),
            post: vec![Set::new(0, sum)],
            step: Some(index as u32),
            after: stop.to,
            report: vec![Term::new(1.0, Src::X0(0))],
        })
    }
}

impl Solver for Ddim {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        // Deserialized settings have not been checked yet.
        self.check()?;
        let stops = grid.stops(process)?;
        // A grid that rises inverts; with noise there is nothing to invert.
        let falling = self.eta > 0.0 || falls(&stops);
        check_direction("DDIM", &stops, falling)?;
        let rows = stops.iter().enumerate().map(|(index, stop)| self.row(index, stop)).collect::<Result<_, _>>()?;
        Ok(Plan::new(format!("DDIM (eta {})", self.eta), stops[0].from, prior_std(process, &stops[0].from), rows)?)
    }
}
