//! DDPM and DDIM.

use super::{Row, row};
use langevin::schedulers::{Ddim, Ddpm, Variance};

pub fn rows() -> Vec<Row> {
    let ddim = |eta| Ddim::new().eta(eta).expect("in range");
    let ddpm = |variance| Ddpm::new().variance(variance);
    vec![
        row("DDIM", Ddim::new()).path(1.0, (64, 6)).upwards(1.0, (64, 6)).on_a_chain(),
        row("DDIM, η = 0.5", ddim(0.5)).weak(1.0, (64, 4)).strong_at(0.5, 1.0, (64, 4)).on_a_chain(),
        row("DDIM, η = 1", ddim(1.0)).weak(1.0, (64, 4)).strong(1.0, (64, 4)).on_a_chain(),
        row("DDPM, small variance", Ddpm::new()).weak(1.0, (64, 4)).strong(1.0, (64, 4)).on_a_chain(),
        row("DDPM, large variance", ddpm(Variance::FixedLarge))
            .weak(1.0, (64, 4))
            .strong(1.0, (64, 4))
            .beyond_lambda("its noise is that of the forward step, in units of its noisier level")
            .on_a_chain(),
        // What the last step adds is seen in seeded values and in the law, both at the clean end of a chain; orders are measured
        // where there is noise left.
        row("DDPM, large variance, noise at the end", ddpm(Variance::FixedLarge).noise_at_end(true))
            .weak(1.0, (64, 4))
            .strong(1.0, (64, 4))
            .beyond_lambda("its noise is that of the forward step, in units of its noisier level")
            .on_a_chain(),
        row("DDPM, learned variance", ddpm(Variance::Learned))
            .own_law("its noise is what the network says, which is not less in shorter steps")
            .weak_itself(0.0, (16, 4))
            .strong_itself(0.0, (16, 4))
            .beyond_lambda("it is the same number whatever α is")
            .on_a_chain(),
        row("DDPM, learned range", ddpm(Variance::LearnedRange))
            .weak(1.0, (64, 4))
            .strong(1.0, (64, 4))
            .beyond_lambda("the larger of its bounds is the noise of the forward step")
            .on_a_chain(),
    ]
}
