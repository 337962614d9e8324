//! Solvers for distilled networks: on others they do not converge to anything.

use super::{Row, row};
use langevin::schedulers::consistency::{Lcm, Multistep, Tcd};

const DISTILLED: &str = "it is for networks that jump to the end, and converges to nothing on others";

pub fn rows() -> Vec<Row> {
    let tcd = |gamma| Tcd::new(gamma).expect("in range");
    let ended = Multistep::new().ending_at(0.05).and_then(|solver| solver.noise(1.02)).expect("in range");
    vec![
        row("TCD", tcd(0.3)).own_law(DISTILLED).beyond_lambda("it goes down to a share of the time"),
        row("TCD without noise", tcd(0.0)).own_law(DISTILLED),
        row("LCM", Lcm::new()).own_law(DISTILLED).beyond_lambda("what it keeps of the state is a function of the time"),
        row("consistency multistep", Multistep::new()).own_law(DISTILLED),
        row("consistency multistep, ended", ended).own_law(DISTILLED),
    ]
}
