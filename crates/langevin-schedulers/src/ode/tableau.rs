//! Explicit Runge-Kutta methods as data.

use crate::solver::PlanError;

/// Most stages a tableau may have; a plan numbers its estimates with small integers.
const MOST_STAGES: usize = 64;

/// An explicit Runge-Kutta method (its Butcher tableau).
///
/// For `dx/dt = f(t, x)` and a step `h` the slopes are `k_i = f(t + c_i·h, x + h·Σ_{j<i} a_ij·k_j)` and the step ends
/// at `x + h·Σ b_i·k_i`.
///
/// ```
/// use langevin_schedulers::ode::Tableau;
/// // Ralston's method of order 2.
/// let ralston = Tableau::new("Ralston", vec![0.0, 2.0 / 3.0], vec![vec![], vec![2.0 / 3.0]], vec![0.25, 0.75])?;
/// assert_eq!(ralston.stages(), 2);
/// # Ok::<(), langevin_schedulers::PlanError>(())
/// ```
///
/// # References
/// Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I* (1993), II.1, II.5 and II.6.
#[derive(Clone, Debug, PartialEq)]
pub struct Tableau {
    name: String,
    nodes: Vec<f64>,
    matrix: Vec<Vec<f64>>,
    weights: Vec<f64>,
    error: Vec<f64>,
    bump: Vec<f64>,
}

impl Tableau {
    /// A method from its nodes c, the rows of its matrix a (row `i` has `i` entries) and its weights b.
    ///
    /// # Errors
    /// [`PlanError::Setting`] for no stages or more than 64, rows of another length, numbers that are not finite, nodes
    /// that are not the sums of their rows or lie outside [0, 1], and weights that do not add up to 1 (each within
    /// 1e-12).
    pub fn new(
        name: impl Into<String>,
        nodes: Vec<f64>,
        matrix: Vec<Vec<f64>>,
        weights: Vec<f64>,
    ) -> Result<Self, PlanError> {
        let bad = |setting, given, expected| PlanError::Setting { solver: "Runge-Kutta", setting, given, expected };
        let stages = weights.len();
        if stages == 0 || stages > MOST_STAGES {
            return Err(bad("number of stages", stages as f64, "1 to 64"));
        }
        for count in [nodes.len(), matrix.len()] {
            if count != stages {
                return Err(bad("number of nodes or rows", count as f64, "as many as weights"));
            }
        }
        for (i, (row, &node)) in matrix.iter().zip(&nodes).enumerate() {
            if row.len() != i {
                return Err(bad("length of a row", row.len() as f64, "the number of stages before it"));
            }
            if !(0.0..=1.0).contains(&node) {
                return Err(bad("node", node, "a number in [0, 1], so that no stage leaves its step"));
            }
            if !((row.iter().sum::<f64>() - node).abs() <= 1e-12) {
                return Err(bad("node", node, "the sum of its row of finite numbers"));
            }
        }
        let sum = weights.iter().sum::<f64>();
        if !((sum - 1.0).abs() <= 1e-12) {
            return Err(bad("sum of the weights", sum, "1"));
        }
        Ok(Self { name: name.into(), nodes, matrix, weights, error: Vec::new(), bump: Vec::new() })
    }

    /// Euler's method, order 1.
    pub fn euler() -> Self {
        Self::known("Euler", &[0.0], &[&[]], &[1.0])
    }

    /// Heun's method (the explicit trapezoidal rule), order 2.
    pub fn heun() -> Self {
        Self::known("Heun", &[0.0, 1.0], &[&[], &[1.0]], &[0.5, 0.5])
    }

    /// The classical method of Kutta (1901), order 4.
    pub fn rk4() -> Self {
        Self::known(
            "RK4",
            &[0.0, 0.5, 0.5, 1.0],
            &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
            &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
        )
    }

    /// Dormand & Prince's pair of orders 5 and 4 (1980), with the continuous extension of order 4 that Shampine (1986)
    /// gave it. Its seventh slope is the first one of the next step.
    pub fn dormand_prince() -> Self {
        let weights = [35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0, 0.0];
        let mut method = Self::known(
            "Dormand-Prince 5(4)",
            &[0.0, 0.2, 0.3, 0.8, 8.0 / 9.0, 1.0, 1.0],
            &[
                &[],
                &[0.2],
                &[3.0 / 40.0, 9.0 / 40.0],
                &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
                &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
                &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
                &weights[..6],
            ],
            &weights,
        );
        method.error =
            vec![71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339200.0, 22.0 / 525.0, -1.0 / 40.0];
        method.bump = vec![
            -12715105075.0 / 11282082432.0,
            0.0,
            87487479700.0 / 32700410799.0,
            -10690763975.0 / 1880347072.0,
            701980252875.0 / 199316789632.0,
            -1453857185.0 / 822651844.0,
            69997945.0 / 29380423.0,
        ];
        method
    }

    fn known(name: &str, nodes: &[f64], matrix: &[&[f64]], weights: &[f64]) -> Self {
        Self {
            name: name.into(),
            nodes: nodes.to_vec(),
            matrix: matrix.iter().map(|row| row.to_vec()).collect(),
            weights: weights.to_vec(),
            error: Vec::new(),
            bump: Vec::new(),
        }
    }

    /// The method's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.weights.len()
    }

    /// The nodes c.
    pub fn nodes(&self) -> &[f64] {
        &self.nodes
    }

    /// Row `stage` of the matrix a: one number for each stage before it.
    pub fn row(&self, stage: usize) -> &[f64] {
        &self.matrix[stage]
    }

    /// The weights b.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Weights of the error estimate: b minus the weights of the embedded method. Empty if there is none.
    pub fn error_weights(&self) -> &[f64] {
        &self.error
    }

    /// Weights `b_i(θ)` such that `x + h·Σ b_i(θ)·k_i` is the solution at `t + θ·h`, θ in [0, 1]. `None` without a
    /// continuous extension.
    ///
    /// The interpolant is the cubic through both ends with their slopes, plus `θ²(1−θ)²·h·Σ d_i·k_i` which makes it of
    /// order 4. At θ = 1 the weights are exactly [`weights`](Self::weights).
    pub fn dense_weights(&self, theta: f64) -> Option<Vec<f64>> {
        if self.bump.is_empty() {
            return None;
        }
        let last = self.stages() - 1;
        let (square, rest) = (theta * theta, 1.0 - theta);
        let weight = |(i, (b, d)): (usize, (&f64, &f64))| {
            let slope = match i {
                0 => theta * rest * rest,
                _ if i == last => -square * rest,
                _ => 0.0,
            };
            square * (1.0 + 2.0 * rest) * b + slope + square * rest * rest * d
        };
        Some(self.weights.iter().zip(&self.bump).enumerate().map(weight).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left sides of the order conditions up to order 5 for weights b, in the usual order of rooted trees, with the
    /// order of each and its density γ.
    fn conditions(method: &Tableau, b: &[f64]) -> Vec<(i32, f64, f64)> {
        let c = method.nodes();
        let apply = |v: &[f64]| -> Vec<f64> {
            (0..c.len()).map(|i| method.row(i).iter().zip(v).map(|(a, v)| a * v).sum()).collect()
        };
        let times = |u: &[f64], v: &[f64]| -> Vec<f64> { u.iter().zip(v).map(|(u, v)| u * v).collect() };
        let ones = vec![1.0; c.len()];
        let c2 = times(c, c);
        let (ac, ac2, aac) = (apply(c), apply(&c2), apply(&apply(c)));
        let trees = [
            (1, 1.0, ones),
            (2, 2.0, c.to_vec()),
            (3, 3.0, c2.clone()),
            (3, 6.0, ac.clone()),
            (4, 4.0, times(c, &c2)),
            (4, 8.0, times(c, &ac)),
            (4, 12.0, ac2.clone()),
            (4, 24.0, aac.clone()),
            (5, 5.0, times(&c2, &c2)),
            (5, 10.0, times(&c2, &ac)),
            (5, 15.0, times(c, &ac2)),
            (5, 30.0, times(c, &aac)),
            (5, 20.0, times(&ac, &ac)),
            (5, 20.0, apply(&times(c, &c2))),
            (5, 40.0, apply(&times(c, &ac))),
            (5, 60.0, apply(&ac2)),
            (5, 120.0, apply(&aac)),
        ];
        trees.into_iter().map(|(order, gamma, v)| (order, gamma, b.iter().zip(v).map(|(b, v)| b * v).sum())).collect()
    }

    fn order_of(method: &Tableau, b: &[f64]) -> i32 {
        let failed = conditions(method, b).into_iter().find(|(_, gamma, sum)| (sum - 1.0 / gamma).abs() > 1e-12);
        failed.map_or(5, |(order, ..)| order - 1)
    }

    #[test]
    fn tableaus_have_their_orders() {
        for (method, order) in
            [(Tableau::euler(), 1), (Tableau::heun(), 2), (Tableau::rk4(), 4), (Tableau::dormand_prince(), 5)]
        {
            assert_eq!(order_of(&method, method.weights()), order, "{}", method.name());
            for i in 0..method.stages() {
                assert!((method.row(i).iter().sum::<f64>() - method.nodes()[i]).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn embedded_method_has_order_4() {
        let method = Tableau::dormand_prince();
        let embedded: Vec<f64> = method.weights().iter().zip(method.error_weights()).map(|(b, e)| b - e).collect();
        assert_eq!(order_of(&method, &embedded), 4);
        assert!((embedded[0] - 5179.0 / 57600.0).abs() < 1e-15);
    }

    #[test]
    fn dense_output_has_order_4_inside_the_step() {
        let method = Tableau::dormand_prince();
        for theta in [0.1, 0.25, 0.5, 0.77, 0.9] {
            let b = method.dense_weights(theta).expect("has dense output");
            for (order, gamma, sum) in conditions(&method, &b) {
                let wrong = (sum - theta.powi(order) / gamma).abs();
                assert!(order > 4 || wrong < 1e-12, "theta {theta}, order {order}: {wrong}");
            }
        }
        assert_eq!(method.dense_weights(1.0).expect("has dense output"), method.weights());
        assert!(method.dense_weights(0.0).expect("has dense output").iter().all(|b| *b == 0.0));
        assert_eq!(Tableau::rk4().dense_weights(0.5), None);
    }

    #[test]
    fn bad_tableaus_are_refused() {
        let setting = |nodes: &[f64], matrix: &[&[f64]], weights: &[f64]| {
            let matrix = matrix.iter().map(|row| row.to_vec()).collect();
            match Tableau::new("bad", nodes.to_vec(), matrix, weights.to_vec()) {
                Err(PlanError::Setting { setting, .. }) => setting,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(setting(&[], &[], &[]), "number of stages");
        assert_eq!(setting(&[0.0], &[&[], &[1.0]], &[0.5, 0.5]), "number of nodes or rows");
        assert_eq!(setting(&[0.0, 1.0], &[&[], &[0.5, 0.5]], &[0.5, 0.5]), "length of a row");
        assert_eq!(setting(&[0.0, 0.5], &[&[], &[0.6]], &[0.5, 0.5]), "node");
        assert_eq!(setting(&[0.0, 1.5], &[&[], &[1.5]], &[0.5, 0.5]), "node");
        assert_eq!(setting(&[0.0, 0.5], &[&[], &[f64::NAN]], &[0.5, 0.5]), "node");
        assert_eq!(setting(&[0.0], &[&[]], &[f64::NAN]), "sum of the weights");
        assert_eq!(setting(&[0.0, 0.5], &[&[], &[0.5]], &[0.5, 0.6]), "sum of the weights");
    }
}
