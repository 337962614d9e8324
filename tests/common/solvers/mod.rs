//! Every solver that plans, once for each of its settings that a proof tells apart, with what is claimed of it.
//!
//! The proofs take their solvers from here: convergence by their claims, statistics those with noise, and all of them
//! the identities, the mutations and the bits. [`roster`](super::roster) says which public types there are, and each
//! proof compares itself with that list.

mod churned;
mod distilled;
mod exponential;
mod jumps;
mod posterior;
mod sigma;
mod time;

use super::problem::even_lambda;
use langevin::core::Grid;
use langevin::core::process::{Betas, DiscreteChain, VpSde};
use langevin::schedulers::{Ddim, Plan, Solver};

/// A solver with its settings.
pub struct Row {
    pub name: &'static str,
    /// The public type, with the modules of its crate: `sigma::heun::Heun`.
    pub of: &'static str,
    pub solver: Box<dyn Solver>,
    pub claims: Vec<Claim>,
    /// Why x/α at the end depends on more than λ.
    pub beyond_lambda: Option<&'static str>,
    /// Why its samples do not go to the data's law as steps are added: it has no order either.
    pub own_law: Option<&'static str>,
    /// Why no order is claimed of it.
    pub no_order: Option<&'static str>,
    /// Whether it reads a known sample and a mask.
    pub known: bool,
    /// Whether it is for denoisers whose x̂_0 and ε̂ are two answers. Proofs on the host give it one, with which it is the solver
    /// around which it is.
    pub split: bool,
    /// What seeded values and bits are of.
    pub ground: Ground,
}

/// Where a solver's six steps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// On a continuous process, with noise at both ends.
    Continuous,
    /// On a chain, down to clean data.
    Chain,
    /// On a chain that begins in pure noise.
    PureNoise,
}

/// An order, and how it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub kind: Kind,
    /// 0 if there is none: errors do not fall, for the reason that stands at the row. Infinite if there are no errors.
    pub order: f64,
    /// The smallest number of steps.
    pub first: usize,
    pub doublings: u32,
    /// The same on the grid that is even in t; none if it is claimed for the one even in λ alone, for the reason that stands at the
    /// row.
    pub in_time: Option<(usize, u32)>,
    /// What stands for the order on EDM's grid even in t, which is even in σ/α and has short steps first, if not the same.
    pub even_in_sigma: Option<f64>,
    /// The SDE whose solution errors are distances from.
    pub sde: Sde,
}

/// A reverse SDE: how strong its noise is, and how much of that is there.
#[derive(Clone, Copy, Debug)]
pub struct Sde {
    pub tau: Strength,
    /// Factor on the noise alone, with which samples have a law of their own unless it is 1.
    pub factor: f64,
}

/// The strength τ of noise.
#[derive(Clone, Copy, Debug)]
pub enum Strength {
    /// The same everywhere.
    Even(f64),
    /// A function of λ.
    OfLambda(fn(f64) -> f64),
    /// That of churn of an amount, which is spread evenly over the steps of a grid: `τ² = S/N` over the length of a step in λ.
    Churn(f64),
}

/// How errors are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Distance of the end points of deterministic paths.
    Path,
    /// The same on a grid with a fine start.
    FineStart,
    /// The same on Gaussian data from pure noise, on processes that begin there.
    FromNoise,
    /// The same from data to noise.
    Upwards,
    /// The same for multistep solvers, with the exact solution in place of so many first steps.
    Started { before: usize },
    /// Error of mean and covariance on Gaussian data.
    Weak,
    /// Difference of mean and covariance from those of twice as many steps.
    WeakItself,
    /// Error of mean and covariance with a network that jumps to where a step should end.
    WeakJumping,
    /// Root mean square distance from the exact solution along the same Brownian path, on Gaussian data.
    Strong,
    /// The same where so many steps are a whole one, the last of which goes over all of them and draws anew: that draw is of the
    /// path, and those of the others are seen by stages alone.
    StrongApart { stages: usize },
    /// The same where so many steps are a whole one, the first of which draws for all of them: that draw is of the path over all.
    StrongWhole { stages: usize },
    /// Distance from the same solver in twice as many steps, along Brownian paths over the share of steps taken: the k-th draw of
    /// a step has that of the k-th path.
    StrongItself,
    /// Distance from the same solver in twice as many steps, of which the k-th draw is the same.
    StrongDraws,
}

impl Kind {
    pub fn is_weak(self) -> bool {
        matches!(self, Self::Weak | Self::WeakItself | Self::WeakJumping)
    }

    pub const fn is_strong(self) -> bool {
        matches!(
            self,
            Self::Strong | Self::StrongApart { .. } | Self::StrongWhole { .. } | Self::StrongItself | Self::StrongDraws
        )
    }
}

/// The type's own name for a type of the library: no crate in front, nothing it wraps behind.
pub fn type_of<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.strip_prefix("langevin_schedulers::").unwrap_or(name)
}

fn row<S: Solver + 'static>(name: &'static str, solver: S) -> Row {
    Row {
        name,
        of: type_of::<S>(),
        solver: Box::new(solver),
        claims: Vec::new(),
        beyond_lambda: None,
        own_law: None,
        no_order: None,
        known: false,
        split: false,
        ground: Ground::Continuous,
    }
}

impl Row {
    fn claim(mut self, kind: Kind, order: f64, (first, doublings): (usize, u32)) -> Self {
        let sde = Sde { tau: Strength::Even(1.0), factor: 1.0 };
        let in_time = Some((first, doublings));
        self.claims.push(Claim { kind, order, first, doublings, in_time, even_in_sigma: None, sde });
        self
    }
    fn of_sde(mut self, tau: Strength, factor: f64) -> Self {
        self.claims.last_mut().expect("a claim").sde = Sde { tau, factor };
        self
    }
    fn path(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::Path, order, steps)
    }
    fn finely_started(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::FineStart, order, steps)
    }
    fn begun_in_noise(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::FromNoise, order, steps)
    }
    fn upwards(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::Upwards, order, steps)
    }
    fn started(self, before: usize, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::Started { before }, order, steps)
    }
    fn weak(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::Weak, order, steps)
    }
    fn strong(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::Strong, order, steps)
    }
    /// As [`strong`](Self::strong), for the SDE with noise of strength τ.
    fn strong_at(self, tau: f64, order: f64, steps: (usize, u32)) -> Self {
        self.strong(order, steps).of_sde(Strength::Even(tau), 1.0)
    }
    /// As [`strong`](Self::strong), for the SDE with noise of strength τ(λ).
    fn strong_of(self, tau: fn(f64) -> f64, order: f64, steps: (usize, u32)) -> Self {
        self.strong(order, steps).of_sde(Strength::OfLambda(tau), 1.0)
    }
    /// As [`strong`](Self::strong), for the SDE that churn of this amount is a step of.
    fn strong_churn(self, amount: f64, order: f64, steps: (usize, u32)) -> Self {
        self.strong(order, steps).of_sde(Strength::Churn(amount), 1.0)
    }
    /// Weak and strong order 1 to the SDE of strength τ with a factor on its noise. Noise comes at the end of a step: where all of
    /// it is there the law is that of the level for steps of any length, and where it is not it is late.
    fn of_less_noise(self, tau: f64, factor: f64) -> Self {
        let tau = Strength::Even(tau);
        self.weak(1.0, (1024, 4)).of_sde(tau, factor).strong(1.0, (64, 4)).of_sde(tau, factor)
    }
    fn strong_apart(self, stages: usize, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::StrongApart { stages }, order, steps)
    }
    /// As [`strong_churn`](Self::strong_churn), where so many steps of the grid are raised once: each has so much less of it.
    fn strong_churned_over(self, stages: usize, amount: f64, order: f64, steps: (usize, u32)) -> Self {
        let churn = Strength::Churn(amount / stages as f64);
        self.claim(Kind::StrongWhole { stages }, order, steps).of_sde(churn, 1.0)
    }
    fn weak_itself(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::WeakItself, order, steps)
    }
    fn if_it_jumps(self) -> Self {
        self.claim(Kind::WeakJumping, f64::INFINITY, (1, 4))
    }
    fn strong_itself(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::StrongItself, order, steps)
    }
    fn strong_draws(self, order: f64, steps: (usize, u32)) -> Self {
        self.claim(Kind::StrongDraws, order, steps)
    }
    /// The last claim is one for grids that are even in λ.
    fn in_lambda(mut self) -> Self {
        self.claims.last_mut().expect("a claim").in_time = None;
        self
    }
    /// The last claim takes as many steps on the grid that is even in t.
    fn in_time(mut self, steps: (usize, u32)) -> Self {
        self.claims.last_mut().expect("a claim").in_time = Some(steps);
        self
    }
    /// The last claim is of another order on EDM's grid even in t: weights for even steps in σ/α are right there, and what the first
    /// steps leave is below rounding before it outweighs the rest, which has the order that is claimed once started.
    fn even_in_sigma(mut self, order: f64) -> Self {
        self.claims.last_mut().expect("a claim").even_in_sigma = Some(order);
        self
    }
    fn beyond_lambda(mut self, reason: &'static str) -> Self {
        self.beyond_lambda = Some(reason);
        self
    }
    fn own_law(mut self, reason: &'static str) -> Self {
        self.own_law = Some(reason);
        self
    }
    fn no_order(mut self, reason: &'static str) -> Self {
        self.no_order = Some(reason);
        self
    }
    fn reads_what_is_known(mut self) -> Self {
        self.known = true;
        self
    }
    fn of_two_answers(mut self) -> Self {
        self.split = true;
        self
    }
    fn on_a_chain(mut self) -> Self {
        self.ground = Ground::Chain;
        self
    }
    fn out_of_pure_noise(mut self) -> Self {
        self.ground = Ground::PureNoise;
        self
    }
    /// Is a setting of another type, which it plans by.
    fn of<S: Solver>(mut self) -> Self {
        self.of = type_of::<S>();
        self
    }

    /// Whether it can go from data to noise.
    pub fn inverts(&self) -> bool {
        self.claims.iter().any(|claim| claim.kind == Kind::Upwards)
    }

    /// Six steps.
    pub fn short(&self) -> Plan {
        let vp = VpSde::default();
        let plan = match self.ground {
            Ground::Continuous => self.solver.plan(&vp, &even_lambda(&vp, 6)),
            Ground::Chain => self.solver.plan(&chain(), &Grid::trailing(6)),
            Ground::PureNoise => {
                let chain = chain().rescale_zero_terminal_snr().expect("a chain");
                self.solver.plan(&chain, &Grid::trailing(6))
            }
        };
        plan.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    pub fn is_noisy(&self) -> bool {
        self.short().is_stochastic()
    }
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let families = [
        posterior::rows(),
        sigma::rows(),
        time::rows(),
        exponential::rows(),
        exponential::noisy(),
        jumps::rows(),
        churned::rows(),
        distilled::rows(),
    ];
    let rows: Vec<Row> = families.into_iter().flatten().collect();
    for (index, row) in rows.iter().enumerate() {
        assert!(rows[..index].iter().all(|other| other.name != row.name), "{} stands twice", row.name);
    }
    rows
}

/// Six steps of every solver that needs no more than a start, and of some from data to noise.
pub fn plans() -> Vec<(String, Plan)> {
    let (vp, chain, rows) = (VpSde::default(), chain(), rows());
    let upwards = rows.iter().filter(|row| row.inverts()).map(|row| {
        let plan = row.solver.plan(&vp, &even_lambda(&vp, 6).inverted()).expect("a plan");
        (format!("{}, upwards", row.name), plan)
    });
    let gaps = [
        ("DDIM, upwards on a chain", Ddim::new(), Grid::trailing(6)),
        ("DDIM, upwards with gaps", Ddim::new().with_gaps(), Grid::trailing(6).strided()),
    ];
    let gaps = gaps.map(|(name, solver, grid)| (name.into(), solver.plan(&chain, &grid.inverted()).expect("a plan")));
    let given = rows.iter().filter(|row| !row.known && !row.split).map(|row| (row.name.to_owned(), row.short()));
    given.chain(upwards).chain(gaps).collect()
}

fn chain() -> DiscreteChain {
    DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000).expect("a chain")
}
