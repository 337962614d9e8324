//! Solvers for distilled networks: on others their samples go to no law that is the data's.

use super::{Row, row};
use langevin::schedulers::Solver;
use langevin::schedulers::consistency::{Lcm, Multistep, Tcd};

const DISTILLED: &str =
    "it is for networks that jump to the end; with those its law is that of the data in any number of steps";

pub fn rows() -> Vec<Row> {
    let tcd = |gamma| Tcd::new(gamma).expect("in range");
    let ended = Multistep::new().ending_at(0.05).and_then(|solver| solver.noise(1.02)).expect("in range");
    vec![
        jumping("TCD", tcd(0.3)).if_it_jumps().beyond_lambda("it goes down to a share of the time"),
        // The same numbers as DDIM.
        row("TCD without noise", tcd(0.0)).path(1.0, (64, 6)),
        jumping("LCM", Lcm::new()).if_it_jumps().beyond_lambda("what it keeps of the state is a function of the time"),
        jumping("consistency multistep", Multistep::new()).if_it_jumps(),
        // With more noise than that of its level it is exact with no network.
        jumping("consistency multistep, ended", ended).weak_itself(1.0, (4096, 3)).in_lambda(),
    ]
}

/// Each step adds all the noise of its level anew: in more steps it is other noise, and not the same in smaller parts.
fn jumping(name: &'static str, solver: impl Solver + 'static) -> Row {
    row(name, solver).own_law(DISTILLED).strong_itself(0.0, (64, 4))
}
