use super::*;
use crate::denoiser::testing::{
    Always, Counting, Numbers, always, ask, ask_after, close, level, output, state, values,
};
use crate::denoiser::{Bound, DenoiserExt, Network, Several, Threshold, from_fn, gradient};
use crate::noise::Seeded;
use std::sync::atomic::Ordering;

#[test]
fn guidance_is_two_answers_in_one_call() {
    let net = Counting::default();
    let cond = net.denoiser(Prediction::Epsilon, Numbers(vec![1.0, 2.0])).unwrap();
    let uncond = net.denoiser(Prediction::Epsilon, Numbers(vec![-1.0])).unwrap();
    for levels in [Levels::Shared(level(10.0)), Levels::Each(vec![level(10.0), level(100.0)])] {
        let (with, without) = (output(&cond, &levels), output(&uncond, &levels));
        for scale in [0.0, 1.0, 7.5, -2.0] {
            let guided = cond.clone().guided(Numbers(vec![-1.0]), scale).unwrap();
            let before = net.calls.load(Ordering::Relaxed);
            let got = output(&guided, &levels);
            assert_eq!(net.calls.load(Ordering::Relaxed), before + 1);
            for ((got, with), without) in got.iter().zip(&with).zip(&without) {
                assert_eq!(*got, without + scale * (with - without));
            }
            if scale == 1.0 {
                assert_eq!(got, with);
            }
        }
    }
}

#[test]
fn learned_variance_is_the_conditional_one() {
    let net = Counting { variance: true, ..Counting::default() };
    let one = net.denoiser(Prediction::Epsilon, Numbers(vec![2.0])).unwrap().with_learned_variance();
    let levels = Levels::Shared(level(10.0));
    let estimate = ask(&one, state(), &levels).unwrap();
    assert_eq!(values(estimate.output()), [21.0, 24.0, 29.0, 36.0]);
    assert_eq!(values(estimate.variance().unwrap()), [22.0, 25.0, 30.0, 37.0]);
    let guided = one.guided(Numbers(vec![0.0]), 3.0).unwrap();
    let estimate = ask(&guided, state(), &levels).unwrap();
    assert_eq!(values(estimate.output()), [61.0, 64.0, 69.0, 76.0]);
    assert_eq!(values(estimate.variance().unwrap()), [22.0, 25.0, 30.0, 37.0]);
}

/// Whatever is predicted, and however it is guided: also where nothing is, and for samples at levels of their own.
#[test]
fn the_variance_of_every_rule_is_the_conditional_one() {
    let net = Counting { variance: true, ..Counting::default() };
    let each = Levels::Each(vec![ratio(1.0), ratio(3.0)]);
    for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::Velocity, Prediction::Flow] {
        let bound = net.denoiser(prediction, Numbers(vec![2.0])).unwrap().with_learned_variance();
        let plain = || bound.clone().guided(Numbers(vec![0.5]), 3.0).unwrap();
        for guided in [
            plain(),
            plain().rescaled(0.7).unwrap(),
            plain().between(0.5, 2.0).unwrap(),
            plain().projected(Projection::new().momentum(-0.5).unwrap()).unwrap(),
            plain().projected(Projection::new().on_outputs()).unwrap().between(0.5, 2.0).unwrap(),
            plain().zero_star(0).unwrap().rescaled(0.5).unwrap(),
            plain().plus_plus().unwrap().between(0.5, 2.0).unwrap(),
        ] {
            for levels in [Levels::Shared(ratio(1.0)), Levels::Shared(ratio(5.0)), each.clone()] {
                let expected = values(ask(&bound, state(), &levels).unwrap().variance().unwrap());
                assert_eq!(values(ask(&guided, state(), &levels).unwrap().variance().unwrap()), expected);
            }
        }
    }
}

fn bound(net: &Counting) -> Bound<Counting, 2> {
    net.denoiser(Prediction::Epsilon, Numbers(vec![2.0])).unwrap()
}

fn ratio(ratio: f64) -> Level {
    Level { alpha: 1.0, sigma: ratio, time: 10.0 }
}

/// Rows that the network is shown for two samples at these levels.
fn rows_asked(guided: &impl Denoiser<2>, net: &Counting, levels: &Levels) -> usize {
    let before = net.rows.load(Ordering::Relaxed);
    ask(guided, state(), levels).unwrap();
    net.rows.load(Ordering::Relaxed) - before
}

#[test]
fn outside_the_interval_the_condition_is_asked_alone() {
    let net = Counting::default();
    let plain = bound(&net);
    let whole = plain.clone().guided(Numbers(vec![0.0]), 3.0).unwrap();
    let guided = whole.clone().between(0.5, 2.0).unwrap();
    for (at, inside) in [(0.4, false), (0.5, false), (0.51, true), (2.0, true), (2.1, false), (f64::INFINITY, false)] {
        let level = if at.is_finite() { ratio(at) } else { Level { alpha: 0.0, sigma: 1.0, time: 10.0 } };
        let levels = Levels::Shared(level);
        assert_eq!(rows_asked(&guided, &net, &levels), if inside { 4 } else { 2 }, "{at}");
        let expected = if inside { output(&whole, &levels) } else { output(&plain, &levels) };
        assert_eq!(output(&guided, &levels), expected, "{at}");
    }
    let open = whole.clone().between(0.5, f64::INFINITY).unwrap();
    let noise = Levels::Shared(Level { alpha: 0.0, sigma: 1.0, time: 10.0 });
    assert_eq!(output(&open, &noise), output(&whole, &noise));
    // Samples at levels of their own: one inside, one outside.
    let mixed = Levels::Each(vec![ratio(1.0), ratio(3.0)]);
    let (with, plain) = (output(&whole, &mixed), output(&plain, &mixed));
    assert_eq!(output(&guided, &mixed), [&with[..2], &plain[2..]].concat());
    assert_eq!(rows_asked(&guided, &net, &Levels::Each(vec![ratio(3.0), ratio(0.1)])), 2);
}

#[test]
fn a_schedule_is_a_factor_of_what_exceeds_one() {
    let net = Counting::default();
    let scaled = |scale| bound(&net).guided(Numbers(vec![0.0]), scale).unwrap();
    let guided = scaled(5.0).scheduled(|level| level.sigma.min(1.0) - 0.5);
    for (at, scale) in [(1.0, 3.0), (0.75, 2.0), (4.0, 3.0), (0.5, 1.0), (0.25, 0.0)] {
        let levels = Levels::Shared(ratio(at));
        assert_eq!(output(&guided, &levels), output(&scaled(scale), &levels));
    }
    assert_eq!(rows_asked(&guided, &net, &Levels::Shared(ratio(0.5))), 2);
    let each = Levels::Each(vec![ratio(1.0), ratio(0.5)]);
    let (three, one) = (output(&scaled(3.0), &each), output(&scaled(1.0), &each));
    assert_eq!(output(&guided, &each), [&three[..2], &one[2..]].concat());
    let error = ask(&scaled(5.0).scheduled(|_| f64::NAN), state(), &Levels::Shared(ratio(1.0))).unwrap_err();
    assert!(matches!(error, DenoiseError::Setting { setting: "factor of a guidance schedule", .. }));
}

/// Two fixed answers under guidance.
fn pair(
    prediction: Prediction,
    without: [[f64; 2]; 2],
    with: [[f64; 2]; 2],
    scale: f64,
) -> Guided<Several<Always, Always>> {
    DenoiserExt::<2>::autoguided(always(prediction, with), always(prediction, without), scale).unwrap()
}

#[test]
fn rescaling_brings_the_deviation_back() {
    let levels = Levels::Shared(level(1.0));
    // Guided: 2·with − without = [3, −1] and [1, 1]: deviations 2 and 0, those of `with` 1 and 1.
    let (without, with) = ([[1.0, 1.0], [-1.0, -3.0]], [[2.0, 0.0], [0.0, -1.0]]);
    let plain = pair(Prediction::Velocity, without, with, 2.0);
    assert_eq!(output(&plain, &levels), [3.0, -1.0, 1.0, 1.0]);
    close(&output(&plain.clone().rescaled(1.0).unwrap(), &levels), &[1.5, -0.5, 1.0, 1.0]);
    close(&output(&plain.clone().rescaled(0.6).unwrap(), &levels), &[2.1, -0.7, 1.0, 1.0]);
    assert_eq!(output(&plain.clone().rescaled(0.0).unwrap(), &levels), output(&plain, &levels));
    for phi in [-0.1, 1.1, f64::NAN] {
        let error = plain.clone().rescaled(phi).unwrap_err();
        assert!(matches!(error, DenoiseError::Setting { setting: "rescaling of guidance", .. }));
    }
}

#[test]
fn zero_star_leads_away_from_the_scaled_answer() {
    let levels = Levels::Shared(level(1.0));
    // s* = 3/2 and −1.
    let (without, with) = ([[1.0, 1.0], [0.0, 2.0]], [[2.0, 1.0], [3.0, -2.0]]);
    let guided = pair(Prediction::Flow, without, with, 3.0).zero_star(0).unwrap();
    let got = output(&guided, &levels);
    for (got, expected) in got.iter().zip([3.0 * 2.0 - 3.0, 0.0, 9.0, -6.0 + 4.0]) {
        assert!((got - expected).abs() < 1e-7, "{got:?} {expected}");
    }
    // An unconditional answer of zeros has no share.
    let zeros = pair(Prediction::Flow, [[0.0; 2]; 2], with, 3.0).zero_star(0).unwrap();
    assert_eq!(output(&zeros, &levels), [6.0, 3.0, 9.0, -6.0]);
}

#[test]
fn zero_star_stands_still_at_first() {
    let levels = Levels::Shared(Level { alpha: 0.4, sigma: 0.6, time: 0.0 });
    let (without, with) = ([[1.0, 1.0], [0.0, 2.0]], [[2.0, 1.0], [3.0, -2.0]]);
    let guided = pair(Prediction::Flow, without, with, 3.0).zero_star(2).unwrap();
    assert_eq!(Denoiser::<2>::memory(&guided), 2);
    let mut past = Vec::new();
    for evaluation in 0..3 {
        let estimate = ask_after(&guided, state(), &levels, &past).unwrap();
        let still = estimate.output().abs().max().into_scalar::<f64>() == 0.0;
        assert_eq!(still, evaluation < 2);
        if still {
            close(&values(estimate.x0().unwrap()), &values(state()));
            close(&values(estimate.eps().unwrap()), &values(state()));
        }
        past.push(estimate);
    }
    let guided = pair(Prediction::Epsilon, without, with, 3.0).zero_star(1).unwrap();
    let error = ask(&guided, state(), &levels).unwrap_err();
    assert!(matches!(error, DenoiseError::Combination { .. }) && error.to_string().contains("zero_star(0)"), "{error}");
}

#[test]
fn projected_guidance_is_perpendicular() {
    let levels = Levels::Shared(level(1.0));
    let (without, with) = ([[1.0, 1.0], [3.0, 0.0]], [[2.0, 0.0], [0.0, 4.0]]);
    let plain = pair(Prediction::Sample, without, with, 3.0);
    let x0 = |projection| {
        values(ask(&plain.clone().projected(projection).unwrap(), state(), &levels).unwrap().x0().unwrap())
    };
    // Δ = (1, −1) and (−3, 4), of which (1, 0) and (0, 4) are parallel.
    close(&x0(Projection::new()), &[2.0, -2.0, -6.0, 4.0]);
    close(&x0(Projection::new().parallel(1.0).unwrap()), &[4.0, -2.0, -6.0, 12.0]);
    close(&x0(Projection::new().parallel(0.5).unwrap()), &[3.0, -2.0, -6.0, 8.0]);
    // |Δ| = √2 and 5: only the second is above 2.5.
    close(&x0(Projection::new().threshold(2.5).unwrap()), &[2.0, -2.0, -3.0, 4.0]);
    // w·Δ on the unconditional answer.
    close(&x0(Projection::new().from_unconditional()), &[1.0, -2.0, -6.0, 0.0]);
    // Nothing differs, nothing has a direction: no NaN.
    let same = pair(Prediction::Sample, [[0.0; 2]; 2], [[0.0; 2]; 2], 3.0);
    let limited = same.projected(Projection::new().threshold(1.0).unwrap()).unwrap();
    assert_eq!(values(ask(&limited, state(), &levels).unwrap().x0().unwrap()), [0.0; 4]);
}

#[test]
fn momentum_is_kept_by_the_run() {
    let levels = Levels::Shared(level(1.0));
    let (without, with) = ([[1.0, 1.0], [3.0, 0.0]], [[2.0, 0.0], [0.0, 4.0]]);
    let projection = Projection::new().momentum(-0.5).unwrap().parallel(1.0).unwrap();
    let guided = pair(Prediction::Sample, without, with, 2.0).projected(projection).unwrap();
    assert_eq!(Denoiser::<2>::memory(&guided), 1);
    let difference = [1.0, -1.0, -3.0, 4.0];
    let mut past = Vec::new();
    for factor in [1.0, 0.5, 0.75] {
        let estimate = ask_after(&guided, state(), &levels, &past).unwrap();
        let expected: Vec<f64> =
            with.as_flattened().iter().zip(difference).map(|(with, d)| with + factor * d).collect();
        close(&values(estimate.x0().unwrap()), &expected);
        past = vec![estimate];
    }
    // Outside of the interval it is carried along, for each sample.
    let guided = guided.between(0.5, 2.0).unwrap();
    let outside = ask_after(&guided, state(), &Levels::Shared(ratio(3.0)), &past).unwrap();
    let kept = |estimate: &Estimate<2>| values(estimate.kept("momentum").unwrap());
    assert_eq!(kept(&outside), kept(&past[0]));
    let mixed = ask_after(&guided, state(), &Levels::Each(vec![ratio(1.0), ratio(3.0)]), &past).unwrap();
    close(&kept(&mixed), &[0.625, -0.625, 0.75 * -3.0, 0.75 * 4.0]);
    // A run of other samples.
    let other = Estimate::new(state(), state(), levels.clone(), Prediction::Sample)
        .keeping("momentum", state().narrow(0, 0, 1));
    let error = ask_after(&guided, state(), &Levels::Shared(ratio(1.0)), &[other]).unwrap_err();
    assert!(matches!(error, DenoiseError::Shape { given, .. } if given == [1, 2]));
}

#[test]
fn projection_moves_epsilon_along() {
    let at = level(1.0);
    let levels = Levels::Shared(at);
    let (without, with) = ([[1.0, 1.0], [3.0, 0.0]], [[2.0, 0.5], [0.0, 4.0]]);
    for prediction in [
        Prediction::Epsilon,
        Prediction::Sample,
        Prediction::Velocity,
        Prediction::Score,
        Prediction::Flow,
        Prediction::Edm { sigma_data: 0.5 },
    ] {
        let guided = pair(prediction, without, with, 3.0).projected(Projection::new()).unwrap();
        let estimate = ask(&guided, state(), &levels).unwrap();
        let back = estimate.x0().unwrap().mul_scalar(at.alpha).add(estimate.eps().unwrap().mul_scalar(at.sigma));
        close(&values(back), &values(state()));
        // It is perpendicular in x̂_0, whatever is predicted.
        let cond = ask(&always(prediction, with), state(), &levels).unwrap().x0().unwrap();
        let along = dot(&estimate.x0().unwrap().sub(cond.clone()), &cond);
        assert!(along.abs().max().into_scalar::<f64>() < 1e-10, "{prediction:?}");
    }
}

#[test]
fn plus_plus_guides_x0_and_leaves_epsilon_unconditional() {
    let levels = Levels::Shared(level(1.0));
    let (without, with) = ([[1.0, 1.0], [3.0, 0.0]], [[2.0, 0.5], [0.0, 4.0]]);
    for scale in [0.6, 1.0, 0.0] {
        let plain = pair(Prediction::Epsilon, without, with, scale);
        let guided = plain.clone().plus_plus().unwrap();
        assert!(Denoiser::<2>::is_split(&guided) && !Denoiser::<2>::is_split(&plain));
        let estimate = ask(&guided, state(), &levels).unwrap();
        let x0 = ask(&plain, state(), &levels).unwrap().x0().unwrap();
        close(&values(estimate.x0().unwrap()), &values(x0));
        assert_eq!(values(estimate.eps().unwrap()), without.as_flattened());
        // Thresholds leave ε̂ alone, unless they are told to derive it again, which would undo CFG++.
        let range = Threshold::Static { range: 1.0 };
        let clipped = DenoiserExt::<2>::thresholded(guided, range).unwrap();
        assert!(Denoiser::<2>::is_split(&clipped) && clipped.check(&[2, 2]).is_ok());
        let error = Denoiser::<2>::check(&clipped.rederive_eps(), &[2, 2]).unwrap_err();
        assert!(matches!(error, DenoiseError::Combination { second: "CFG++", .. }));
    }
}

#[test]
fn what_excludes_each_other_is_refused() {
    let plain = || pair(Prediction::Flow, [[0.0; 2]; 2], [[1.0; 2]; 2], 2.0);
    fn ruled<A>(guided: Guided<A>, rule: usize) -> Result<Guided<A>, DenoiseError> {
        match rule {
            0 => guided.projected(Projection::new()),
            1 => guided.zero_star(1),
            _ => guided.plus_plus(),
        }
    }
    for first in 0..3 {
        for second in 0..3 {
            let error = ruled(ruled(plain(), first).unwrap(), second).map(|_| ()).unwrap_err();
            assert!(matches!(error, DenoiseError::Combination { .. }), "{error}");
        }
    }
    // Rules on outputs do not know of thresholds further in.
    let levels = Levels::Shared(level(1.0));
    let clipped = || {
        let one = always(Prediction::Flow, [[1.0, 0.0]; 2]);
        DenoiserExt::<2>::thresholded(one, Threshold::Static { range: 0.1 }).unwrap()
    };
    let guided = || DenoiserExt::<2>::autoguided(clipped(), always(Prediction::Flow, [[0.0, 1.0]; 2]), 2.0).unwrap();
    for refused in [
        guided().rescaled(0.5).unwrap(),
        guided().zero_star(0).unwrap(),
        guided().projected(Projection::new().on_outputs()).unwrap(),
    ] {
        let error = ask(&refused, state(), &levels).unwrap_err();
        assert!(matches!(error, DenoiseError::Combination { .. }) && error.to_string().contains("guide first"));
    }
    // Sums take x̂_0 and ε̂ each by itself.
    let estimate = ask(&guided(), state(), &levels).unwrap();
    let (x0, other) = (clipped(), always(Prediction::Flow, [[0.0, 1.0]; 2]));
    let x0 = values(ask(&x0, state(), &levels).unwrap().x0().unwrap());
    let other = values(ask(&other, state(), &levels).unwrap().x0().unwrap());
    let expected: Vec<f64> = x0.iter().zip(&other).map(|(with, without)| 2.0 * with - without).collect();
    close(&values(estimate.x0().unwrap()), &expected);
    let _ = ask(&guided().projected(Projection::new()).unwrap(), state(), &levels).unwrap();
}

#[test]
fn settings_out_of_range_are_refused() {
    let plain = || pair(Prediction::Flow, [[0.0; 2]; 2], [[1.0; 2]; 2], 2.0);
    let name = |error: DenoiseError| match error {
        DenoiseError::Setting { setting, .. } => setting,
        other => panic!("{other}"),
    };
    for (low, high, setting) in [
        (-0.1, 1.0, "lower end of the guidance interval"),
        (f64::NAN, 1.0, "lower end of the guidance interval"),
        (f64::INFINITY, f64::INFINITY, "lower end of the guidance interval"),
        (2.0, 1.0, "upper end of the guidance interval"),
        (1.0, 1.0, "upper end of the guidance interval"),
        (1.0, f64::NAN, "upper end of the guidance interval"),
    ] {
        assert_eq!(name(plain().between(low, high).unwrap_err()), setting);
    }
    for beta in [1.0, -1.0, 3.0, f64::NAN] {
        assert_eq!(name(Projection::new().momentum(beta).unwrap_err()), "momentum of projected guidance");
    }
    for eta in [f64::NAN, f64::INFINITY] {
        assert_eq!(name(Projection::new().parallel(eta).unwrap_err()), "parallel share of projected guidance");
    }
    for norm in [0.0, -1.0, f64::NAN] {
        assert_eq!(name(Projection::new().threshold(norm).unwrap_err()), "threshold of projected guidance");
    }
    for scale in [f64::NAN, f64::INFINITY] {
        let worse = always(Prediction::Flow, [[0.0; 2]; 2]);
        let error = DenoiserExt::<2>::autoguided(worse.clone(), worse, scale).unwrap_err();
        assert_eq!(name(error), "guidance scale");
    }
}

#[test]
fn answers_may_differ_in_their_prediction() {
    let levels = Levels::Each(vec![ratio(0.7), ratio(2.0)]);
    let main = always(Prediction::Epsilon, [[0.5, -1.0], [0.3, 0.2]]);
    let worse = always(Prediction::Velocity, [[1.0, 0.4], [-0.3, 0.9]]);
    let guided = DenoiserExt::<2>::autoguided(&main, &worse, 2.5).unwrap();
    let estimate = ask(&guided, state(), &levels).unwrap();
    let (a, b) = (ask(&main, state(), &levels).unwrap(), ask(&worse, state(), &levels).unwrap());
    let mixed = |with: Tensor<2>, without: Tensor<2>| values(without.clone().add(with.sub(without).mul_scalar(2.5)));
    close(&values(estimate.x0().unwrap()), &mixed(a.x0().unwrap(), b.x0().unwrap()));
    close(&values(estimate.eps().unwrap()), &mixed(a.eps().unwrap(), b.eps().unwrap()));
    let one = guided.rescaled(1.0).unwrap();
    assert!(values(ask(&one, state(), &levels).unwrap().x0().unwrap()).iter().all(|value| value.is_finite()));
}

#[test]
fn parts_keep_their_own() {
    let levels = Levels::Shared(level(1.0));
    let (without, with) = ([[1.0, 1.0], [3.0, 0.0]], [[2.0, 0.0], [0.0, 4.0]]);
    let inner = |beta: f64| {
        let projection = Projection::new().momentum(beta).unwrap();
        pair(Prediction::Sample, without, with, 2.0).projected(projection).unwrap()
    };
    let plain = |scale| {
        let guided = DenoiserExt::<2>::autoguided(inner(0.5), inner(-0.5), scale).unwrap();
        guided.projected(Projection::new().momentum(0.25).unwrap()).unwrap()
    };
    let (outer, mut past) = (plain(2.0), Vec::new());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let estimate = ask_after(&outer, state(), &levels, &past).unwrap();
        let names: Vec<&String> = estimate.parts().kept.keys().collect();
        assert_eq!(names, ["0/momentum", "1/momentum", "momentum"]);
        let (a, b) = (inner(-0.5), inner(0.5));
        let (a, b) =
            (ask_after(&a, state(), &levels, &first).unwrap(), ask_after(&b, state(), &levels, &second).unwrap());
        assert_eq!(values(estimate.kept("0/momentum").unwrap()), values(a.kept("momentum").unwrap()));
        assert_eq!(values(estimate.kept("1/momentum").unwrap()), values(b.kept("momentum").unwrap()));
        (past, first, second) = (vec![estimate], vec![a], vec![b]);
    }
    // Where only one part is asked, the other keeps what it had.
    let alone = ask_after(&plain(1.0), state(), &levels, &past).unwrap();
    assert_eq!(values(alone.kept("0/momentum").unwrap()), values(past[0].kept("0/momentum").unwrap()));
    assert_ne!(values(alone.kept("1/momentum").unwrap()), values(past[0].kept("1/momentum").unwrap()));
}

/// What a run remembers is a constant to a state that is differentiated.
#[test]
fn answers_can_be_differentiated() {
    let net = Counting::default();
    let bind = |cond| net.denoiser(Prediction::Sample, Numbers(vec![cond])).unwrap();
    let projection = Projection::new().momentum(-0.5).unwrap().parallel(0.3).unwrap().threshold(30.0).unwrap();
    let guided = bind(2.0).guided(Numbers(vec![0.5]), 3.0).unwrap().projected(projection).unwrap();
    let levels = Levels::Each(vec![ratio(1.0), ratio(1.0)]);
    let past = [ask_after(&guided, state(), &levels, &[]).unwrap()];
    let noise = crate::noise::Seeded::new(0);
    for denoiser in [guided.clone(), guided.between(2.0, 3.0).unwrap()] {
        let query = Query { x: state(), levels: &levels, past: &past, noise: &noise };
        let graded = crate::denoiser::gradient(&denoiser, query, |estimate| Ok(estimate.x0()?.sum())).unwrap();
        assert_eq!(values(graded.estimate.kept("momentum").unwrap()).len(), 4);
        // Against differences.
        let sum = |shift: f64| {
            let mut x = values(state());
            x[3] += shift;
            let x = Tensor::from_data(burn::tensor::TensorData::new(x, [2, 2]), (&state().device(), state().dtype()));
            values(ask_after(&denoiser, x, &levels, &past).unwrap().x0().unwrap()).iter().sum::<f64>()
        };
        let slope = (sum(1e-5) - sum(-1e-5)) / 2e-5;
        let found = values(graded.gradient)[3];
        assert!((found - slope).abs() < 1e-6 * (1.0 + slope.abs()), "{found} and {slope}");
    }
}

/// Outputs that are the same everywhere have no deviation, and a root has no slope there.
#[test]
fn rescaled_guidance_of_constants_has_gradients() {
    for (with, without) in [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0)] {
        let answer =
            |share: f64| from_fn(Prediction::Velocity, move |x: Tensor<2>, _: &Levels| Ok(x.mul_scalar(share)));
        // `2·with − without`, with the deviation of `with`: 0 wherever one of them is.
        let guided = answer(with).autoguided(answer(without), 2.0).and_then(|guided| guided.rescaled(1.0)).unwrap();
        let levels = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 0.0 });
        let query = Query { x: state(), levels: &levels, past: &[], noise: &Seeded::new(0) };
        let graded = gradient(&guided, query, |estimate| Ok(estimate.x0()?.sum())).unwrap();
        let of_output = if without == 0.0 { with } else { 0.0 };
        for (got, x) in values(graded.estimate.x0().unwrap()).iter().zip(values(state())) {
            assert!((got - (0.8 - 0.6 * of_output) * x).abs() < 1e-12, "{with}, {without}: {got}");
        }
        for got in values(graded.gradient) {
            assert!((got - (0.8 - 0.6 * of_output)).abs() < 1e-12, "{with}, {without}: {got}");
        }
    }
}
