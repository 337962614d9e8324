//! Curves of processes and of grids.

use crate::draw::{Curve, Panel};
use langevin::core::GridError;
use langevin::core::grid::AysTable;
use langevin::core::process::ProcessError;
use langevin::prelude::*;

/// α and σ over the time range of each process; on a logarithmic scale where σ has no bound.
pub fn processes() -> Result<Vec<Panel>, ProcessError> {
    let panel = |title: &str, process: &dyn Process, logarithmic: bool| {
        let (clean, noisy) = process.time_range();
        let times = (0..=200).map(|i| clean + (noisy - clean) * f64::from(i) / 200.0);
        let shown = |value: f64| if logarithmic { value.log10() } else { value };
        let curve = |name: &str, f: &dyn Fn(f64) -> f64| Curve {
            name: name.to_owned(),
            points: times.clone().map(|t| (t, shown(f(t)))).collect(),
            dots: false,
        };
        Panel {
            title: title.to_owned(),
            x: ("time t", clean..noisy),
            y: ("", if logarithmic { -3.0..2.4 } else { 0.0..1.15 }),
            logarithmic,
            curves: vec![curve("α", &|t| process.alpha(t)), curve("σ", &|t| process.sigma(t))],
        }
    };
    Ok(vec![
        panel("chain, linear β", &DiscreteChain::new(Betas::DDPM, 1000)?, false),
        panel("chain, squared cosine", &DiscreteChain::new(Betas::SquaredCosine, 1000)?, false),
        panel("VP SDE", &VpSde::default(), false),
        panel("sub-VP SDE", &SubVpSde::default(), false),
        panel("rectified flow", &RectifiedFlow::new(), false),
        panel("rectified flow, shift 3", &RectifiedFlow::new().shift(3.0)?, false),
        panel("VE SDE", &VeSde::default(), true),
        panel("EDM", &Edm::default(), true),
    ])
}

/// λ at the levels where the network is asked, for ten steps of several grids on Stable Diffusion's chain.
pub fn grids() -> Result<Vec<Panel>, Box<dyn std::error::Error>> {
    let chain = DiscreteChain::new(Betas::STABLE_DIFFUSION, 1000)?;
    let curve = |name: &str, grid: Grid| -> Result<Curve, GridError> {
        let stops = grid.stops(&chain)?;
        let points = stops.iter().enumerate().map(|(step, stop)| (step as f64, stop.ask.lambda()));
        Ok(Curve { name: name.to_owned(), points: points.collect(), dots: true })
    };
    let panel = |title: &str, curves| Panel {
        title: title.to_owned(),
        x: ("step", -0.3..9.3),
        y: ("λ = ln(α/σ)", -3.2..4.0),
        logarithmic: false,
        curves,
    };
    let in_time = vec![
        curve("leading", Grid::leading(10))?,
        curve("trailing", Grid::trailing(10))?,
        curve("quadratic", Grid::quadratic(10))?,
        curve("beta(0.6, 0.6)", Grid::beta(10, 0.6, 0.6)?)?,
    ];
    let in_lambda = vec![
        curve("exponential", Grid::exponential(10))?,
        curve("Karras, ρ = 7", Grid::karras(10, 7.0)?)?,
        curve("polyexponential, ρ = 2", Grid::polyexponential(10, 2.0)?)?,
        curve("align your steps", Grid::ays(AysTable::StableDiffusion15, 10))?,
    ];
    Ok(vec![panel("spaced in time", in_time), panel("spaced in λ or σ/α", in_lambda)])
}
