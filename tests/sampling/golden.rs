//! Samples of measurements and energies, gradients through networks, and seeded values that stay.

use super::*;

/// Samples that fit a measurement, or follow an energy.
fn fitted_samples() -> Vec<(&'static str, Vec<f64>)> {
    let (vp, noise, load) = (VpSde::default(), Seeded::new(42), load().dtype(DType::F64));
    let row = |values: [f64; 3]| Tensor::<2>::from_data([values], load.options());
    let mask = || Masking::new(row([1.0, 0.0, 1.0])).expect("a mask");
    let y = row([0.4, 0.0, -0.6]);
    let measurement = Measurement::new(mask(), y.clone(), 0.1).expect("a measurement");
    let grid = even_lambda(&vp, 6);
    let noisy = Ddim::new().eta(0.5).expect("in range").plan(&vp, &grid).expect("a plan");
    let known = KnownRegion::new(mask(), y).expect("fits");
    let energy = energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.powf_scalar(4.0).sum_dim(1).squeeze_dim(1)));
    let run = |sampler: &dyn Sampler<2>, denoiser: &dyn Denoiser<2>| {
        values(&sampler.start([1, 3], denoiser, &noise, load.clone()).expect("a run").finish().expect("samples"))
    };
    let ddrm = Ddrm::new(&vp, &grid, measurement.clone()).expect("a sampler");
    let steps = DpsSteps::new(noisy.clone(), measurement.clone(), 0.3).expect("a step size");
    let constrained = noisy.start([1, 3], &Elementwise, &noise, load.clone()).expect("a run").constrained(&known);
    vec![
        ("DDRM", run(&ddrm, &Elementwise)),
        ("DPS, steps", run(&steps, &Elementwise)),
        ("DPS, likelihood", run(&noisy, &Dps::new(Elementwise, measurement.clone()).expect("noise"))),
        ("ΠGDM", run(&noisy, &PiGdm::new(Elementwise, measurement).expect("a decomposition"))),
        ("known region", values(&constrained.finish().expect("samples"))),
        ("energy of x_0", run(&noisy, &EnergyGuided::of_clean(Elementwise, &energy))),
        ("energy of the state", run(&noisy, &EnergyGuided::of_state(Elementwise, &energy))),
    ]
}

/// A network in training is asked in its sampling form, and the gradient still reaches the state.
#[test]
fn gradients_reach_the_state_through_a_network_that_samples() {
    let device = Device::flex();
    device.seed(3);
    let net = MlpConfig::new(2).hidden(32).layers(2).init(&device.clone().autodiff()).expect("a network");
    let inner = net.denoiser(Prediction::Velocity, Labels::none(1)).expect("a denoiser");
    let energy = energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.sin().sum_dim(1).squeeze_dim(1)));
    let guided = EnergyGuided::of_clean(&inner, energy).scale(2.0).expect("a scale");
    let at = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 0.4 });
    let ask = |denoiser: &dyn Denoiser<2>, x: [f64; 2]| {
        let x = Tensor::<2>::from_data([x], &device);
        denoiser.denoise(Query { x, levels: &at, past: &[], noise: &Seeded::new(0) }).expect("an answer")
    };
    let x = [0.7, -0.4];
    let score = |denoiser: &dyn Denoiser<2>| values(&ask(denoiser, x).score().expect("noise"));
    let energy_at = |i: usize, h: f64| {
        let mut moved = x;
        moved[i] += h;
        values(&ask(&inner, moved).x0().expect("a clean sample")).iter().map(|x0| 2.0 * x0.sin()).sum::<f64>()
    };
    for i in 0..2 {
        let h = 0.05;
        let slope = (energy_at(i, -2.0 * h) - 8.0 * energy_at(i, -h) + 8.0 * energy_at(i, h) - energy_at(i, 2.0 * h))
            / (12.0 * h);
        let gained = score(&guided)[i] - score(&inner)[i];
        assert!((gained + slope).abs() < 2e-3 * slope.abs().max(0.1), "{gained} instead of {}", -slope);
    }
}

/// Seeded results of every solver. A change here is a change of values that users see: it belongs into the changelog.
/// `LANGEVIN_WRITE_GOLDEN=1` writes the file.
#[test]
fn seeded_values_have_not_changed() {
    let noise = Seeded::new(42);
    let mut found = serde_json::Map::new();
    let mut keep = |name: &str, x: Vec<f64>| {
        let rounded = x.iter().map(|x| Value::from((x * 1e9).round() / 1e9)).collect();
        found.insert(name.to_owned(), Value::Array(rounded));
    };
    let split = rows().into_iter().filter(|row| row.split).map(|row| (row.name.to_owned(), row.short()));
    for (name, plan) in &plans().into_iter().chain(split).collect::<Vec<_>>() {
        let mut x = vec![0.0; 3];
        langevin::core::NoiseSource::fill(&noise, 0, langevin::core::Key::INITIAL, &mut x).expect("seeded noise");
        keep(name, plan.run_host(x, 0, &noise, host).expect("a host run"));
    }
    let vp = VpSde::default();
    let slope = |t: f64, x: &[f64], out: &mut [f64]| {
        let answer = host(x, &vp.level(t));
        for (out, (x0, eps)) in out.iter_mut().zip(answer.x0.iter().zip(&answer.eps)) {
            *out = vp.alpha_dot(t) * x0 + vp.sigma_dot(t) * eps;
        }
    };
    let adaptive = DormandPrince::new(1e-6, 1e-6).expect("tolerances");
    let (noisy, clean) =
        (vp.time_at_lambda(LAMBDA.0).expect("in range"), vp.time_at_lambda(LAMBDA.1).expect("in range"));
    let solution = adaptive.solve_host(slope, vec![0.3, -1.0, 0.8], noisy, clean).expect("a solution");
    keep("Dormand-Prince", solution.x);
    let double = || load().dtype(DType::F64);
    // On the host it is a sampler of its own, and those of measurements are below.
    let others = ["Dormand-Prince", "DDRM", "DPS, steps"];
    for entry in samplers(3, DType::F64).into_iter().filter(|entry| !others.contains(&entry.name)) {
        let run = entry.sampler.start([1, 3], &Elementwise, &noise, double()).expect("a run");
        keep(entry.name, values(&run.finish().expect("samples")));
    }
    for (name, x) in fitted_samples() {
        keep(name, x);
    }

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/samples.json");
    if std::env::var_os("LANGEVIN_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).expect("a folder");
        let text = serde_json::to_string_pretty(&Value::Object(found.clone())).expect("JSON");
        std::fs::write(path, text + "\n").expect("tests/golden/samples.json can be written");
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("the golden file")).expect("JSON");
    assert_eq!(golden.as_object().map(serde_json::Map::len), Some(found.len()), "other solvers are in the golden file");
    for (name, x) in &found {
        let numbers =
            |value: &Value| -> Vec<f64> { value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
        let error = largest_distance(&numbers(x), &numbers(&golden[name]));
        assert!(error < 1e-6, "{name}: {x} was {}", golden[name]);
    }
}
