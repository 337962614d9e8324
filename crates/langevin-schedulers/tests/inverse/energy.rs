//! Guidance by energies and classifiers.

use super::algebra::{Matrix, apply, dot, inverse, product, sum, transpose};
use super::{Problem, distances, falling, mixture, moments, tensor, values};
use burn::tensor::{Tensor, TensorData};
use langevin_core::denoiser::{Energy, EnergyGuided, energy_fn};
use langevin_core::exact::Posterior;
use langevin_core::inverse::Dps;
use langevin_core::noise::Seeded;
use langevin_core::process::VpSde;
use langevin_core::{DenoiseError, Denoiser, Grid, Level, Levels, Prediction, Query};
use langevin_schedulers::{DpmSolver, Solver};

/// `½(x − c)ᵀ·Q·(x − c)` for each row.
fn quadratic(x: Tensor<2>, matrix: &Matrix, center: &[f64]) -> Tensor<1> {
    let constant = |rows: &[Vec<f64>]| {
        let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
        Tensor::<2>::from_data(data, (&x.device(), x.dtype()))
    };
    let centered = x.clone().sub(constant(&[center.to_vec()]));
    let half = centered.clone().matmul(constant(matrix)).mul(centered).sum_dim(1);
    half.mul_scalar(0.5).squeeze_dim(1)
}

fn stiffness() -> Matrix {
    vec![vec![2.0, 0.4, 0.0], vec![0.4, 1.5, -0.3], vec![0.0, -0.3, 0.8]]
}

const CENTER: [f64; 3] = [0.6, 0.2, -0.9];

/// `−ln E[exp(−E(x_0))|x]` of the quadratic energy: with `x_0|x ~ N(x̂_0, C)` it is
/// `½(x̂_0 − c)ᵀ·(Q⁻¹ + C)⁻¹·(x̂_0 − c)`, quadratic in x again.
struct Tilt(Problem);

impl Energy<2> for Tilt {
    fn energy(&self, x: Tensor<2>, levels: &Levels) -> Result<Tensor<1>, DenoiseError> {
        let Levels::Shared(at) = levels else { unreachable!("a plan asks at shared levels") };
        let jacobian = self.0.jacobian(at);
        // C = Σ − J·α·Σ.
        let left = sum(&self.0.covariance, &product(&jacobian, &self.0.covariance), -at.alpha);
        let matrix = inverse(&sum(&inverse(&stiffness()), &left, 1.0));
        // x̂_0 − c = J·x + (x̂_0(0) − c): in terms of x, up to what does not depend on it.
        let inner = product(&product(&transpose(&jacobian), &matrix), &jacobian);
        let missing: Vec<f64> = self.0.x0(&[0.0; 3], at).iter().zip(CENTER).map(|(a, c)| a - c).collect();
        let linear = apply(&transpose(&jacobian), &apply(&matrix, &missing));
        let data = TensorData::new(linear, [1, 3]);
        let linear = x.clone().mul(Tensor::from_data(data, (&x.device(), x.dtype()))).sum_dim(1).squeeze_dim(1);
        Ok(quadratic(x, &inner, &[0.0; 3]).add(linear))
    }
}

/// `N(μ, Σ)·exp(−½(x − c)ᵀQ(x − c))` is Gaussian with precision `Σ⁻¹ + Q`.
fn tilted(problem: &Problem) -> (Vec<f64>, Matrix) {
    let precision = inverse(&problem.covariance);
    let covariance = inverse(&sum(&precision, &stiffness(), 1.0));
    let pull = apply(&precision, &problem.mean).into_iter().zip(apply(&stiffness(), &CENTER)).map(|(a, b)| a + b);
    (apply(&covariance, &pull.collect::<Vec<_>>()), covariance)
}

/// An energy that knows the noisy state samples the tilted law: 0.4% here, and a tenth more guidance is noticed.
#[test]
fn a_quadratic_energy_of_the_state_tilts_the_data() {
    let problem = Problem::correlated(0.0);
    let plan = DpmSolver::multistep(2).expect("an order");
    let plan = plan.plan(&VpSde::default(), &Grid::uniform_lambda(120)).expect("a plan");
    let exact = tilted(&problem);
    let guided = || EnergyGuided::of_state(problem.denoiser(), Tilt(problem.clone()));
    let (mean, covariance) = distances(&moments(&plan, &guided(), 3), &exact);
    assert!(mean < 4e-3 && covariance < 4e-3, "{mean} {covariance}");
    let wrong = guided().scale(1.1).expect("a scale");
    let (mean, _) = distances(&moments(&plan, &wrong, 3), &exact);
    assert!(mean > 0.012, "a tenth more went unnoticed: {mean}");
    // The same as a logarithm of a probability.
    let negative = energy_fn(|x: Tensor<2>, levels: &Levels| Ok(Tilt(problem.clone()).energy(x, levels)?.neg()));
    let classifier = EnergyGuided::classifier(problem.denoiser(), negative);
    let (mean, covariance) = distances(&moments(&plan, &classifier, 3), &exact);
    assert!(mean < 4e-3 && covariance < 4e-3, "{mean} {covariance}");
}

/// The residual as an energy of x̂_0 is DPS.
#[test]
fn the_energy_of_a_residual_is_dps() {
    let problem = Problem::correlated(0.3);
    let square = product(&transpose(&problem.operator), &problem.operator);
    let linear = apply(&transpose(&problem.operator), &problem.y);
    let residual = energy_fn(|x0: Tensor<2>, _: &Levels| {
        let data = TensorData::new(linear.clone(), [1, 3]);
        let linear = x0.clone().mul(Tensor::from_data(data, (&x0.device(), x0.dtype()))).sum_dim(1).squeeze_dim(1);
        Ok(quadratic(x0, &square, &[0.0; 3]).sub(linear))
    });
    let energy = EnergyGuided::of_clean(problem.denoiser(), residual).scale(1.0 / 0.09).expect("a scale");
    let dps = Dps::new(problem.denoiser(), problem.measurement()).expect("noise");
    let plan = DpmSolver::multistep(2).expect("an order");
    let plan = plan.plan(&VpSde::default(), &Grid::uniform_lambda(20)).expect("a plan");
    let (mean, covariance) = distances(&moments(&plan, &energy, 3), &moments(&plan, &dps, 3));
    assert!(mean < 1e-9 && covariance < 1e-9, "{mean} {covariance}");
}

/// Energies that are no quadratic forms, of a mixture, at a level for each sample.
#[test]
fn gradients_agree_with_differences() {
    let level = |alpha: f64, sigma: f64| Level { alpha, sigma, time: 0.0 };
    let levels = [level(0.6, 0.8), level(1.0, 0.4)];
    let rows = [vec![0.3, -0.2], vec![1.1, 0.5]];
    let inner = || mixture().denoiser(Prediction::Velocity).expect("a denoiser");
    let circle = |x: Tensor<2>, _: &Levels| -> Result<Tensor<1>, DenoiseError> {
        let radius = x.powf_scalar(2.0).sum_dim(1).sqrt();
        Ok(radius.sub_scalar(1.0).powf_scalar(2.0).squeeze_dim(1))
    };
    let waves = |x: Tensor<2>, levels: &Levels| -> Result<Tensor<1>, DenoiseError> {
        Ok(levels.map(|level| level.sigma).times(x.cos()).sum_dim(1).squeeze_dim(1))
    };
    // Logits x·w of two classes; the logarithm of the first one's probability.
    let weights = [[1.5, -0.5], [0.2, 1.0]];
    let class = |x: Tensor<2>, _: &Levels| -> Result<Tensor<1>, DenoiseError> {
        let matrix = Tensor::<2>::from_data(TensorData::from(weights), (&x.device(), x.dtype()));
        let logits = x.matmul(matrix.transpose());
        Ok(burn::tensor::activation::log_softmax(logits, 1).narrow(1, 0, 1).squeeze_dim(1))
    };
    let on_circle = |x: &[f64]| (dot(x, x).sqrt() - 1.0).powi(2);
    let host_class = |x: &[f64]| {
        let logits = weights.map(|w| dot(&w, x));
        (logits[0].exp() + logits[1].exp()).ln() - logits[0]
    };
    type Potential<'a> = Box<dyn Fn(&[f64], &Level) -> f64 + 'a>;
    let methods: Vec<(&str, Potential<'_>, Box<dyn Denoiser<2> + '_>)> = vec![
        ("E(x̂_0)", Box::new(|x, at| 2.5 * on_circle(&mixture().x0(x, at).expect("a plane"))), {
            Box::new(EnergyGuided::of_clean(inner(), energy_fn(circle)).scale(2.5).expect("a scale").checked())
        }),
        ("E(x, t)", Box::new(|x, at| at.sigma * (x[0].cos() + x[1].cos())), {
            Box::new(EnergyGuided::of_state(inner(), energy_fn(waves)).checked())
        }),
        ("ln p(y|x)", Box::new(|x, _| 3.0 * host_class(x)), {
            Box::new(EnergyGuided::classifier(inner(), energy_fn(class)).scale(3.0).expect("a scale"))
        }),
        ("away from a class", Box::new(|x, _| -2.0 * host_class(x)), {
            Box::new(EnergyGuided::classifier(inner(), energy_fn(class)).scale(-2.0).expect("a scale"))
        }),
    ];
    for (name, potential, denoiser) in &methods {
        let each = Levels::Each(levels.to_vec());
        let ask = |denoiser: &dyn Denoiser<2>| {
            let query = Query { x: tensor(&rows), levels: &each, past: &[], noise: &Seeded::new(0) };
            values(&denoiser.denoise(query).expect("an answer").score().expect("noise"))
        };
        let (guided, plain) = (ask(denoiser.as_ref()), ask(&inner()));
        for (row, (x, at)) in rows.iter().zip(&levels).enumerate() {
            let expected = falling(|x| potential(x, at), x);
            for i in 0..2 {
                let gained = guided[2 * row + i] - plain[2 * row + i];
                assert!((gained - expected[i]).abs() < 1e-8, "{name}: {gained} instead of {}", expected[i]);
            }
        }
    }
}
