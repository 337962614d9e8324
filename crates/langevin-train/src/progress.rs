//! What a training run shows while it runs.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Losses that the number shown is the mean of.
const WINDOW: usize = 100;
/// Time between two lines where there is no terminal to draw a bar on.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// A progress bar on a terminal, a line now and then elsewhere, or nothing.
pub(crate) struct Progress {
    display: Display,
    first: u64,
    steps: u64,
    started: Instant,
    losses: VecDeque<f32>,
}

enum Display {
    Quiet,
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// For a run from step `first` to step `steps`.
    pub(crate) fn new(first: u64, steps: u64, quiet: bool) -> Self {
        let started = Instant::now();
        let display = if quiet {
            Display::Quiet
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
                bar.set_style(style);
            }
            bar.set_position(first);
            Display::Bar(bar)
        } else {
            Display::Lines { last: started }
        };
        Self { display, first, steps, started, losses: VecDeque::new() }
    }

    /// After `done` steps in all, `left_out` of which changed nothing, with the losses read since the last call.
    pub(crate) fn advance(&mut self, done: u64, losses: &[f32], left_out: u64) {
        self.losses.extend(losses);
        self.losses.drain(..self.losses.len().saturating_sub(WINDOW));
        let mean = self.losses.iter().sum::<f32>() / self.losses.len() as f32;
        let line = line(self.first, done, self.steps, mean, self.started.elapsed(), left_out);
        match &mut self.display {
            Display::Quiet => {}
            Display::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(line);
            }
            Display::Lines { last } => {
                if last.elapsed() >= LINE_EVERY || done == self.steps {
                    *last = Instant::now();
                    eprintln!("{line}");
                }
            }
        }
    }

    /// Does something that may print, with the bar out of the way.
    pub(crate) fn suspend<R>(&self, something: impl FnOnce() -> R) -> R {
        match &self.display {
            Display::Bar(bar) => bar.suspend(something),
            _ => something(),
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn finish(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.abandon();
        }
    }
}

/// "1200/20000  loss 0.0312  8.1 steps/s  38 min left", and "  3 steps left out" if there are any.
fn line(first: u64, done: u64, steps: u64, loss: f32, elapsed: Duration, left_out: u64) -> String {
    let rate = (done - first) as f64 / elapsed.as_secs_f64().max(1e-9);
    let left = (steps - done) as f64 / rate.max(1e-9);
    let left = match left {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    };
    let out = if left_out > 0 { format!("  {left_out} steps left out") } else { String::new() };
    format!("{done}/{steps}  loss {loss:.4}  {rate:.1} steps/s  {left} left{out}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_loss_rate_and_time_left() {
        let seconds = Duration::from_secs;
        assert_eq!(line(0, 100, 300, 0.03125, seconds(50), 0), "100/300  loss 0.0312  2.0 steps/s  100 s left");
        // A resumed run counts its own steps only.
        assert_eq!(line(1000, 1100, 21_000, 1.0, seconds(50), 0), "1100/21000  loss 1.0000  2.0 steps/s  2.8 h left");
        assert_eq!(
            line(0, 10, 610, 1.0, seconds(10), 3),
            "10/610  loss 1.0000  1.0 steps/s  10 min left  3 steps left out"
        );
    }

    #[test]
    fn the_loss_shown_is_a_mean_of_the_last_hundred() {
        let mut progress = Progress::new(0, 400, true);
        progress.advance(200, &[1000.0; 200], 0);
        progress.advance(300, &[2.0; 100], 0);
        assert_eq!(progress.losses.len(), 100);
        assert_eq!(progress.losses.iter().sum::<f32>(), 200.0);
    }
}
