//! Small matrices as rows.

pub type Matrix = Vec<Vec<f64>>;

pub fn identity(n: usize) -> Matrix {
    diagonal(&vec![1.0; n])
}

pub fn diagonal(values: &[f64]) -> Matrix {
    let n = values.len();
    (0..n).map(|i| (0..n).map(|j| if i == j { values[i] } else { 0.0 }).collect()).collect()
}

pub fn transpose(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

pub fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let columns = transpose(b);
    a.iter().map(|row| columns.iter().map(|column| dot(row, column)).collect()).collect()
}

pub fn apply(a: &Matrix, x: &[f64]) -> Vec<f64> {
    a.iter().map(|row| dot(row, x)).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `a + factor·b`.
pub fn sum(a: &Matrix, b: &Matrix, factor: f64) -> Matrix {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + factor * b).collect()).collect()
}

/// By Gauss and Jordan, with the largest pivot.
pub fn inverse(a: &Matrix) -> Matrix {
    let n = a.len();
    let mut rows: Matrix = a.iter().zip(identity(n)).map(|(a, e)| [a.clone(), e].concat()).collect();
    for column in 0..n {
        let pivot = (column..n).max_by(|i, j| rows[*i][column].abs().total_cmp(&rows[*j][column].abs()));
        rows.swap(column, pivot.expect("a row"));
        let scale = rows[column][column];
        rows[column].iter_mut().for_each(|value| *value /= scale);
        let lead = rows[column].clone();
        for (i, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column];
            row.iter_mut().zip(&lead).for_each(|(value, lead)| *value -= factor * lead);
            assert!(i < n);
        }
    }
    rows.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// A rotation of space, as columns.
pub fn rotation(a: f64, b: f64, c: f64) -> Matrix {
    let turn = |i: usize, j: usize, angle: f64| {
        let mut turn = identity(3);
        (turn[i][i], turn[j][j]) = (angle.cos(), angle.cos());
        (turn[i][j], turn[j][i]) = (-angle.sin(), angle.sin());
        turn
    };
    product(&product(&turn(0, 1, a), &turn(1, 2, b)), &turn(0, 2, c))
}

/// `Q·diag(values)·Qᵀ`, symmetric to the last bit.
pub fn spread(axes: &Matrix, values: &[f64]) -> Matrix {
    let product = product(&product(axes, &diagonal(values)), &transpose(axes));
    let half = sum(&product, &transpose(&product), 1.0);
    half.iter().map(|row| row.iter().map(|value| 0.5 * value).collect()).collect()
}
