//! Token numbers on the host, and which of them see which.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use langevin_core::{Condition, DenoiseError};

use crate::error::ModelError;

/// A batch of texts as token numbers: rows of one length, and which of the tokens are text and which only fill the row.
///
/// Token numbers come from a tokenizer, so they are kept on the host, where they are checked against the vocabulary and
/// the end of a text is found without asking the device.
///
/// # Example
///
/// ```
/// use langevin_models::text::Tokens;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// let tokens = Tokens::padded([vec![5, 7, 1], vec![9, 1]], 0)?;
/// assert_eq!((tokens.rows(), tokens.length()), (2, 3));
/// assert_eq!(tokens.ids()[1], [9, 1, 0]);
/// assert!(!tokens.sees(1, 2));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<Vec<u32>>,
    mask: Option<Vec<Vec<bool>>>,
}

impl Tokens {
    /// Rows of one length, every token of which is seen.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] if there is no row, a row is empty or their lengths differ.
    pub fn new(rows: impl IntoIterator<Item = Vec<u32>>) -> Result<Self, ModelError> {
        let ids: Vec<Vec<u32>> = rows.into_iter().collect();
        let length = ids.first().map_or(0, Vec::len);
        match ids.iter().find(|row| row.is_empty() || row.len() != length) {
            None if !ids.is_empty() => Ok(Self { ids, mask: None }),
            odd => Err(ModelError::Shape {
                what: "tokens",
                given: vec![ids.len(), odd.map_or(0, Vec::len)],
                expected: format!("[rows, {}], at least one row and one token in each", length.max(1)),
            }),
        }
    }

    /// Rows of any length, filled with `pad` to the longest. What is filled in is not seen.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] if there is no row or all are empty.
    pub fn padded(rows: impl IntoIterator<Item = Vec<u32>>, pad: u32) -> Result<Self, ModelError> {
        let rows: Vec<Vec<u32>> = rows.into_iter().collect();
        let length = rows.iter().map(Vec::len).max().unwrap_or(0);
        Self::padded_to(rows, pad, length)
    }

    /// Rows filled to `length`, which none of them exceeds.
    pub(super) fn padded_to(rows: Vec<Vec<u32>>, pad: u32, length: usize) -> Result<Self, ModelError> {
        let mask = rows.iter().map(|row| (0..length).map(|i| i < row.len()).collect()).collect();
        let filled = rows.into_iter().map(|mut row| {
            row.resize(length, pad);
            row
        });
        Self::new(filled)?.mask(mask)
    }

    /// Sets which tokens are seen: one row for each row of tokens, of the same length.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for another number of rows or another length.
    pub fn mask(mut self, mask: Vec<Vec<bool>>) -> Result<Self, ModelError> {
        let odd = mask.iter().find(|row| row.len() != self.length());
        if mask.len() != self.rows() || odd.is_some() {
            return Err(ModelError::Shape {
                what: "mask",
                given: vec![mask.len(), odd.or(mask.first()).map_or(0, Vec::len)],
                expected: format!("[{}, {}]", self.rows(), self.length()),
            });
        }
        self.mask = Some(mask);
        Ok(self)
    }

    /// The same tokens, every one of them seen: Stable Diffusion's encoders see what fills the rows.
    #[must_use]
    pub fn all_seen(mut self) -> Self {
        self.mask = None;
        self
    }

    /// Number of texts.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Number of tokens of each text.
    #[must_use]
    pub fn length(&self) -> usize {
        self.ids[0].len()
    }

    /// The numbers, row by row.
    #[must_use]
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// Whether a token is seen.
    ///
    /// # Panics
    ///
    /// If there is no such token.
    #[must_use]
    pub fn sees(&self, row: usize, position: usize) -> bool {
        self.mask.as_ref().is_none_or(|mask| mask[row][position])
    }

    /// 1 for tokens that are seen and 0 for others, `[rows, length]` in f32: the mask of a
    /// [`TextCondition`](crate::TextCondition).
    #[must_use]
    pub fn mask_tensor(&self, device: &Device) -> Tensor<2> {
        let seen: Vec<f32> = self.positions().map(|(row, i)| f32::from(u8::from(self.sees(row, i)))).collect();
        Tensor::from_data(TensorData::new(seen, [self.rows(), self.length()]), (device, DType::F32))
    }

    /// All rows and positions, in order.
    fn positions(&self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, length) = (self.rows(), self.length());
        (0..rows).flat_map(move |row| (0..length).map(move |i| (row, i)))
    }

    /// Checks the numbers against the size of a vocabulary and the length against the longest text of a network.
    pub(super) fn check(&self, vocabulary: usize, longest: Option<usize>) -> Result<(), ModelError> {
        if let Some(longest) = longest.filter(|longest| self.length() > *longest) {
            return Err(ModelError::Shape {
                what: "tokens",
                given: vec![self.rows(), self.length()],
                expected: format!("[rows, {longest}] at most: truncate the text"),
            });
        }
        match self.positions().find(|(row, i)| self.ids[*row][*i] as usize >= vocabulary) {
            Some((row, position)) => {
                Err(ModelError::TokenOutOfRange { row, position, token: self.ids[row][position], vocabulary })
            }
            None => Ok(()),
        }
    }

    /// The numbers as one list of rows of a table.
    pub(super) fn flat(&self, device: &Device) -> Tensor<1, Int> {
        let ids: Vec<i64> = self.ids.iter().flatten().map(|id| i64::from(*id)).collect();
        Tensor::from_data(ids.as_slice(), device)
    }

    /// Which tokens each token sees: those of the mask, and with `causal` only itself and those before it.
    pub(super) fn sight(&self, causal: bool, device: &Device, dtype: DType) -> Sight {
        let (rows, length) = (self.rows(), self.length());
        if !causal && self.mask.is_none() {
            return Sight { bias: None, seeing: None };
        }
        let queries = if causal { length } else { 1 };
        let rows = if self.mask.is_some() { rows } else { 1 };
        let mut bias = Vec::with_capacity(rows * queries * length);
        let mut seeing = Vec::with_capacity(rows * queries);
        for row in 0..rows {
            for query in 0..queries {
                let sees = |key: &usize| self.sees(row, *key) && (!causal || *key <= query);
                seeing.push((0..length).any(|key| sees(&key)));
                // The lowest finite number: with it a token that sees nothing still has no NaN.
                bias.extend((0..length).map(|key| if sees(&key) { 0.0 } else { f32::MIN }));
            }
        }
        // Attention takes the bias of half-precision scores in f32, where this number fits.
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let tensor = |values: Vec<f32>, shape: [usize; 4]| {
            Tensor::<4>::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        let blind = seeing.contains(&false);
        let seeing = blind.then(|| {
            let values = seeing.iter().map(|sees| f32::from(u8::from(*sees))).collect();
            tensor(values, [rows, 1, queries, 1]).cast(dtype)
        });
        Sight { bias: Some(tensor(bias, [rows, 1, queries, length]).cast(wide)), seeing }
    }
}

/// Rows of different lengths are filled with tokens that are not seen.
impl Condition for Tokens {
    fn rows(&self) -> Option<usize> {
        Some(self.ids.len())
    }

    fn expand(&self, rows: usize) -> Result<Self, DenoiseError> {
        if self.ids.len() == rows && rows > 0 {
            return Ok(self.clone());
        }
        if self.ids.len() != 1 || rows == 0 {
            return Err(DenoiseError::ConditionRows { condition: self.ids.len(), batch: rows });
        }
        let mask = self.mask.as_ref().map(|mask| vec![mask[0].clone(); rows]);
        Ok(Self { ids: vec![self.ids[0].clone(); rows], mask })
    }

    fn cat(parts: &[&Self]) -> Result<Self, DenoiseError> {
        let length = parts.iter().map(|part| part.length()).max().unwrap_or(0);
        let hidden = parts.iter().any(|part| part.mask.is_some() || part.length() < length);
        let mask = parts.iter().flat_map(|part| {
            (0..part.ids.len()).map(move |row| (0..length).map(|i| i < part.length() && part.sees(row, i)).collect())
        });
        let mask: Vec<Vec<bool>> = mask.collect();
        let ids = parts.iter().flat_map(|part| part.ids.iter().cloned());
        let filled = Self::padded_to(ids.collect(), 0, length)?;
        Ok(if hidden { filled.mask(mask)? } else { filled.all_seen() })
    }
}

/// What the tokens of a batch may look at.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// Added to the scores, `[rows or 1, 1, tokens or 1, tokens]`.
    pub(super) bias: Option<Tensor<4>>,
    /// 0 for tokens that see nothing, where there are such, `[rows or 1, 1, tokens or 1, 1]`.
    pub(super) seeing: Option<Tensor<4>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{flex, values};

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        for rows in [vec![], vec![vec![]], vec![vec![1, 2], vec![1]], vec![vec![1], vec![]]] {
            let error = Tokens::new(rows).unwrap_err();
            assert!(matches!(error, ModelError::Shape { what: "tokens", .. }), "{error}");
        }
        assert!(matches!(Tokens::padded([vec![], vec![]], 0), Err(ModelError::Shape { .. })));
        let tokens = Tokens::new([vec![1, 2], vec![3, 4]]).unwrap();
        for mask in [vec![], vec![vec![true, true]], vec![vec![true, true], vec![true]]] {
            let error = tokens.clone().mask(mask).unwrap_err();
            assert!(matches!(error, ModelError::Shape { what: "mask", .. }), "{error}");
        }
    }

    #[test]
    fn rows_are_joined_and_repeated() {
        let (one, two) = (Tokens::new([vec![1, 2, 3]]).unwrap(), Tokens::new([vec![4, 5], vec![6, 7]]).unwrap());
        let both = Tokens::cat(&[&one, &two]).unwrap();
        assert_eq!(both.ids(), [[1, 2, 3], [4, 5, 0], [6, 7, 0]]);
        assert!(both.sees(0, 2) && both.sees(1, 1) && !both.sees(1, 2));
        assert_eq!(Tokens::cat(&[&two, &two]).unwrap().mask, None);
        let masked = two.clone().mask(vec![vec![true, false], vec![true, true]]).unwrap();
        let both = Tokens::cat(&[&two, &masked]).unwrap();
        assert!(both.sees(0, 1) && !both.sees(2, 1) && both.sees(3, 1));
        assert_eq!(both.clone().all_seen().mask, None);
        assert_eq!(one.expand(2).unwrap().ids(), [[1, 2, 3], [1, 2, 3]]);
        assert_eq!(two.expand(2).unwrap(), two);
        assert!(matches!(two.expand(3), Err(DenoiseError::ConditionRows { condition: 2, batch: 3 })));
        assert!(Tokens::cat(&[]).is_err());
    }

    #[test]
    fn numbers_and_lengths_are_checked() {
        let tokens = Tokens::new([vec![1, 2], vec![3, 4]]).unwrap();
        tokens.check(5, Some(2)).unwrap();
        let error = tokens.check(4, None).unwrap_err();
        assert!(
            matches!(error, ModelError::TokenOutOfRange { row: 1, position: 1, token: 4, vocabulary: 4 }),
            "{error}"
        );
        let error = tokens.check(5, Some(1)).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "tokens", .. }), "{error}");
    }

    #[test]
    fn what_is_seen() {
        let device = flex();
        let tokens = Tokens::new([vec![1, 2], vec![3, 4]]).unwrap();
        let plain = tokens.sight(false, &device, DType::F32);
        assert!(plain.bias.is_none() && plain.seeing.is_none());
        let low = f64::from(f32::MIN);
        let causal = tokens.sight(true, &device, DType::F32);
        assert_eq!(values(&causal.bias.unwrap()), [0.0, low, 0.0, 0.0]);
        assert!(causal.seeing.is_none());
        let masked = tokens.mask(vec![vec![false, true], vec![true, false]]).unwrap();
        assert_eq!(values(&masked.mask_tensor(&device)), [0.0, 1.0, 1.0, 0.0]);
        let both = masked.sight(false, &device, DType::F32);
        assert_eq!(values(&both.bias.unwrap()), [low, 0.0, 0.0, low]);
        let causal = masked.sight(true, &device, DType::F32);
        assert_eq!(values(&causal.bias.unwrap()), [low, low, low, 0.0, 0.0, low, 0.0, low]);
        assert_eq!(values(&causal.seeing.unwrap()), [0.0, 1.0, 1.0, 1.0]);
    }
}
