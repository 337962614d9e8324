//! Processes, grids and models that the proofs run on.

use langevin::core::exact::{Gaussian, GaussianMixture, correlated_mixture};
use langevin::core::grid::End;
use langevin::core::process::{Edm, RectifiedFlow, SubVpSde, VeSde, VpSde};
use langevin::core::{Grid, Level, Process};
use langevin::schedulers::plan::HostAnswer;

/// Where order tests start and end: λ, the same on every process and for every number of steps.
pub const LAMBDA: (f64, f64) = (-2.0, 2.0);

/// The continuous processes, by name.
pub fn processes() -> Vec<(&'static str, Box<dyn Process>)> {
    vec![
        ("VP", Box::new(VpSde::default())),
        ("sub-VP", Box::new(SubVpSde::default())),
        ("VE", Box::new(VeSde::default())),
        ("EDM", Box::new(Edm::default())),
        ("flow", Box::new(RectifiedFlow::new())),
    ]
}

/// The times at which a process has λ = [`LAMBDA`].
pub fn ends(process: &dyn Process) -> (f64, f64) {
    let time = |lambda| process.time_at_lambda(lambda).expect("every process here has these λ");
    (time(LAMBDA.0), time(LAMBDA.1))
}

/// A smooth grid of `n` steps between the two λ, even in λ.
pub fn even_lambda(process: &dyn Process, n: usize) -> Grid {
    let (noisy, clean) = ends(process);
    Grid::uniform_lambda(n).between(noisy, clean).ending(End::Range)
}

/// A smooth grid of `n` steps between the two λ, even in time.
pub fn even_time(process: &dyn Process, n: usize) -> Grid {
    let (noisy, clean) = ends(process);
    Grid::uniform(n).between(noisy, clean).ending(End::Range)
}

/// A correlated Gaussian in the plane with a mean of its own.
pub fn gaussian() -> Gaussian {
    Gaussian::new(vec![0.4, -0.7], vec![0.8, 0.3, 0.3, 0.5]).expect("a covariance")
}

/// A wider Gaussian, for weak orders. With variances near 1 the leading error of Euler-Maruyama on VE all but cancels
/// between λ = −2 and 2: it is proportional to the difference of `u/(1 + u)²`, `u = σ²/variance`, at the two ends.
pub fn wide_gaussian() -> Gaussian {
    Gaussian::new(vec![0.4, -0.7], vec![6.0, 1.5, 1.5, 8.0]).expect("a covariance")
}

/// The three correlated, overlapping components of order tests.
pub fn mixture() -> GaussianMixture {
    correlated_mixture().expect("fixed constants")
}

/// The mixture's posterior means as a host model.
pub fn ask_mixture(data: &GaussianMixture) -> impl FnMut(&[f64], &Level) -> HostAnswer + '_ {
    move |x, level| {
        let at = data.at(level).expect("a level");
        HostAnswer { x0: at.x0(x).expect("a plane"), eps: at.eps(x).expect("a plane"), variance: None }
    }
}

/// The Gaussian's posterior means as a host model.
pub fn ask_gaussian(data: &Gaussian) -> impl FnMut(&[f64], &Level) -> HostAnswer + '_ {
    move |x, level| {
        let at = data.at(level).expect("a level");
        HostAnswer { x0: at.x0(x).expect("a plane"), eps: at.eps(x).expect("a plane"), variance: None }
    }
}

/// What plans are given that fill in the rest of a sample: its first value.
pub const KNOWN_SAMPLE: ([f64; 2], [f64; 2]) = ([1.3, 0.0], [1.0, 0.0]);

/// Starting points of x/σ at the noisy end, spread over the plane.
pub const STARTS: [[f64; 2]; 5] = [[0.3, -0.2], [1.1, 0.9], [-1.3, 0.4], [0.2, -1.4], [-0.6, -0.8]];
