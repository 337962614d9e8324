//! From text to token numbers, with a published `tokenizer.json`.

use std::path::{Path, PathBuf};

use tokenizers::{PaddingDirection, Tokenizer, TruncationParams};

use super::tokens::Tokens;
use crate::error::ModelError;

/// Name of the file in a folder.
const FILE: &str = "tokenizer.json";
/// Tokens that fill rows, by the names that published tokenizers have for them.
const FILLS: [&str; 2] = ["[PAD]", "<pad>"];

/// A tokenizer with its published file, as transformers writes it. With the feature `tokenizers`.
///
/// Texts that are too long are cut, with the tokens that begin and end a text kept. Shorter ones are filled to the
/// longest of the batch, or to a fixed number of tokens, with tokens that are not seen.
///
/// # Example
///
/// ```no_run
/// use langevin_models::Load;
/// use langevin_models::text::{ClipText, T5Encoder, TextTokenizer};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let tokenizer = TextTokenizer::load("pixart/tokenizer")?.longest(300)?.fixed(300);
/// let tokens = tokenizer.encode(&["a red apple", ""])?;
/// let states = T5Encoder::load("pixart/text_encoder", Load::on(&device))?.forward(&tokens)?;
/// // Stable Diffusion fills with the end of the text, and has all tokens seen:
/// let tokenizer = TextTokenizer::load("sd15/tokenizer")?.fill("<|endoftext|>")?.longest(77)?.fixed(77);
/// let tokens = tokenizer.encode(&["a red apple", ""])?.all_seen();
/// let output = ClipText::load("sd15/text_encoder", Load::on(&device))?.forward(&tokens)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    path: PathBuf,
    fill: Option<u32>,
    fixed: Option<usize>,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`, or the one in a folder. How long a text may be and what fills rows are those of the file;
    /// rows are filled to the longest text.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tokenizer`] if the file is not there or is none.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let problem = |reason: String| ModelError::Tokenizer { path: path.clone(), reason };
        let mut inner = Tokenizer::from_file(&path).map_err(|e| problem(e.to_string()))?;
        let named = FILLS.iter().find_map(|name| inner.token_to_id(name));
        let padding = inner.get_padding();
        if padding.is_some_and(|padding| matches!(padding.direction, PaddingDirection::Left)) {
            return Err(problem("it fills rows on the left, which is not supported".into()));
        }
        if padding.is_some_and(|padding| padding.pad_to_multiple_of.is_some()) {
            return Err(problem("it fills rows to a multiple of a length, which is not supported".into()));
        }
        let fill = inner.get_padding().map(|padding| padding.pad_id).or(named);
        inner.with_padding(None);
        Ok(Self { inner, path, fill, fixed: None })
    }

    fn problem(&self, reason: impl ToString) -> ModelError {
        ModelError::Tokenizer { path: self.path.clone(), reason: reason.to_string() }
    }

    /// Sets the token that fills rows.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tokenizer`] if there is no such token.
    pub fn fill(mut self, token: &str) -> Result<Self, ModelError> {
        let Some(id) = self.inner.token_to_id(token) else {
            return Err(self.problem(format!("it has no token `{token}`")));
        };
        self.fill = Some(id);
        Ok(self)
    }

    /// Cuts texts to this many tokens, those that begin and end a text included.
    ///
    /// # Errors
    ///
    /// [`ModelError::Tokenizer`] if there is no room for these tokens.
    pub fn longest(mut self, length: usize) -> Result<Self, ModelError> {
        let ends = self.inner.encode("", true).map_err(|e| self.problem(e))?.len();
        if length < ends.max(1) {
            return Err(self.problem(format!("{length} tokens have no room for the {ends} around a text")));
        }
        let given = self.inner.get_truncation().cloned().unwrap_or_default();
        let cut = TruncationParams { max_length: length, ..given };
        self.inner
            .with_truncation(Some(cut))
            .map_err(|e| ModelError::Tokenizer { path: self.path.clone(), reason: e.to_string() })?;
        Ok(self)
    }

    /// Fills every row to this many tokens, whatever the longest text of the batch is.
    #[must_use]
    pub fn fixed(mut self, length: usize) -> Self {
        self.fixed = Some(length);
        self
    }

    /// The tokens of texts, and which of them are text.
    ///
    /// # Errors
    ///
    /// * [`ModelError::Tokenizer`] if a text cannot be split, or rows are to be filled and it is not known with what;
    /// * [`ModelError::Shape`] if there is no text, or one is longer than the fixed length.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tokens, ModelError> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encoded = self.inner.encode_batch(texts, true).map_err(|e| self.problem(e))?;
        let rows: Vec<Vec<u32>> = encoded.iter().map(|row| row.get_ids().to_vec()).collect();
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = self.fixed.unwrap_or(longest);
        if longest > length {
            return Err(ModelError::Shape {
                what: "text",
                given: vec![longest],
                expected: format!("{length} tokens at most: set `TextTokenizer::longest`"),
            });
        }
        let Some(fill) = self.fill.or(rows.iter().all(|row| row.len() == length).then_some(0)) else {
            return Err(self.problem("it does not say what fills rows: set `TextTokenizer::fill`"));
        };
        Tokens::padded_to(rows, fill, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of a small vocabulary between two tokens.
    fn file(padding: &str) -> String {
        format!(
            r#"{{"version": "1.0", "truncation": null, "padding": {padding}, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {{"type": "Whitespace"}}, "decoder": null,
            "post_processor": {{"type": "BertProcessing", "sep": ["end", 1], "cls": ["start", 2]}},
            "model": {{"type": "WordLevel", "unk_token": "unk",
                "vocab": {{"unk": 0, "end": 1, "start": 2, "a": 3, "red": 4, "apple": 5}}}}}}"#
        )
    }

    fn read(padding: &str) -> Result<TextTokenizer, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), file(padding)).unwrap();
        TextTokenizer::load(folder.path())
    }

    fn load(padding: &str) -> TextTokenizer {
        read(padding).unwrap()
    }

    #[test]
    fn texts_are_cut_and_filled() {
        let tokenizer = load("null").fill("end").unwrap();
        let tokens = tokenizer.encode(&["a red apple", "pear"]).unwrap();
        assert_eq!(tokens.ids(), [[2, 3, 4, 5, 1], [2, 0, 1, 1, 1]]);
        assert!(tokens.sees(1, 2) && !tokens.sees(1, 3));
        assert!(tokens.all_seen().sees(1, 3));
        let tokens = tokenizer.clone().longest(4).unwrap().encode(&["a red apple"]).unwrap();
        assert_eq!(tokens.ids(), [[2, 3, 4, 1]]);
        let tokens = tokenizer.fixed(6).encode(&["a"]).unwrap();
        assert_eq!(tokens.ids(), [[2, 3, 1, 1, 1, 1]]);
    }

    #[test]
    fn the_file_says_what_fills_rows() {
        let padding = r#"{"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 5,
            "pad_type_id": 0, "pad_token": "apple"}"#;
        let tokens = load(padding).encode(&["a", "a red"]).unwrap();
        assert_eq!(tokens.ids(), [[2, 3, 1, 5], [2, 3, 4, 1]]);
        for other in [
            padding.replace("Right", "Left"),
            padding.replace(r#""pad_to_multiple_of": null"#, r#""pad_to_multiple_of": 8"#),
        ] {
            assert!(matches!(read(&other), Err(ModelError::Tokenizer { .. })), "{other}");
        }
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let error = TextTokenizer::load("nowhere").unwrap_err();
        assert!(matches!(error, ModelError::Tokenizer { .. }), "{error}");
        let tokenizer = load("null");
        assert!(matches!(tokenizer.encode(&["a", "a red"]), Err(ModelError::Tokenizer { .. })));
        // Nothing is filled here.
        assert_eq!(tokenizer.encode(&["a red"]).unwrap().ids(), [[2, 3, 4, 1]]);
        assert!(matches!(tokenizer.clone().fill("pear"), Err(ModelError::Tokenizer { .. })));
        assert!(matches!(tokenizer.clone().longest(1), Err(ModelError::Tokenizer { .. })));
        let short = tokenizer.clone().fill("end").unwrap().fixed(3);
        assert!(matches!(short.encode(&["a red"]), Err(ModelError::Shape { what: "text", .. })));
        assert!(matches!(tokenizer.encode::<&str>(&[]), Err(ModelError::Shape { what: "tokens", .. })));
    }
}
