//! Strict reading of a published configuration: every key is either used or an error.

use super::ConfigError;
use serde_json::{Map, Value};

/// The words that Python writes for numbers of which JSON has none, and what they are read as. A minus goes first.
const WORDS: [(&str, &str); 3] = [("-Infinity", "\"-inf\""), ("Infinity", "\"inf\""), ("NaN", "\"NaN\"")];

/// A configuration as JSON: Python writes infinities into it as words, of which `lambda_min_clipped` is one in every file that
/// diffusers saves.
pub(super) fn value(json: &str) -> Result<Value, serde_json::Error> {
    let mut text = String::with_capacity(json.len());
    let (mut quoted, mut escaped, mut rest) = (false, false, json);
    while let Some(next) = rest.chars().next() {
        if !quoted && let Some((word, read)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            text.push_str(read);
            rest = &rest[word.len()..];
            continue;
        }
        quoted ^= next == '"' && !escaped;
        escaped = quoted && next == '\\' && !escaped;
        text.push(next);
        rest = &rest[next.len_utf8()..];
    }
    serde_json::from_str(&text)
}

/// The keys of one configuration that have not been read yet.
pub(super) struct Keys {
    class: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Keys {
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        let value = value(json).map_err(|error| {
            let message = if json.trim_start().starts_with('{') {
                error.to_string()
            } else {
                let begin: String = json.trim().chars().take(40).collect();
                format!(
                    "it begins with '{begin}' and not with '{{': give the text of the file and not its path (read it with \
                     `std::fs::read_to_string`)"
                )
            };
            ConfigError::Json { message }
        })?;
        let Value::Object(mut map) = value else {
            return Err(ConfigError::Json { message: "expected an object".to_owned() });
        };
        let class = match map.get("_class_name") {
            Some(Value::String(class)) => class.clone(),
            _ => return Err(ConfigError::NoClass),
        };
        // Keys with an underscore are the library's bookkeeping.
        map.retain(|key, _| !key.starts_with('_'));
        Ok(Self { class, map, known: Vec::new() })
    }

    /// The keys of one section of a file that names no class.
    pub fn section(class: &str, map: Map<String, Value>) -> Self {
        Self { class: class.to_owned(), map, known: Vec::new() }
    }

    pub fn class(&self) -> &str {
        &self.class
    }

    /// What a key has, `null` too: where the original has another default, that is not the default.
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.remove(key)
    }

    /// As [`take`](Self::take), of an option that may be `null`, which is none.
    fn take_given(&mut self, key: &'static str) -> Option<Value> {
        self.take(key).filter(|value| !value.is_null())
    }

    pub fn bad(&self, key: &'static str, given: impl ToString, expected: &'static str) -> ConfigError {
        ConfigError::Value { class: self.class.clone(), key, given: given.to_string(), expected }
    }

    /// What has been made of options, whose names go in front of what is wrong with them.
    pub fn made<T>(&self, options: &[&'static str], made: Result<T, impl ToString>) -> Result<T, ConfigError> {
        made.map_err(|error| ConfigError::OutOfRange {
            class: self.class.clone(),
            options: options.to_vec(),
            reason: error.to_string(),
        })
    }

    pub fn number(&mut self, key: &'static str, default: f64) -> Result<f64, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Number(number)) => number.as_f64().ok_or_else(|| self.bad(key, number, "a number")),
            // Some published files write it as a string.
            Some(Value::String(text)) if text == "inf" => Ok(f64::INFINITY),
            Some(Value::String(text)) if text == "-inf" => Ok(f64::NEG_INFINITY),
            Some(other) => Err(self.bad(key, other, "a number")),
        }
    }

    /// A number that may be missing.
    pub fn optional(&mut self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        if self.is_null(key) {
            self.take(key);
            return Ok(None);
        }
        let missing = !self.map.contains_key(key);
        let number = self.number(key, 0.0)?;
        Ok((!missing).then_some(number))
    }

    pub fn count(&mut self, key: &'static str, default: usize) -> Result<usize, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(value) => match value.as_u64() {
                Some(count) => Ok(count as usize),
                None => Err(self.bad(key, value, "a whole number, at least 0")),
            },
        }
    }

    pub fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.bad(key, other, "true or false")),
        }
    }

    pub fn word(&mut self, key: &'static str, default: &str) -> Result<String, ConfigError> {
        match self.take(key) {
            None => Ok(default.to_owned()),
            Some(Value::String(word)) => Ok(word),
            Some(other) => Err(self.bad(key, other, "a string")),
        }
    }

    /// A word that may be `null`, which is none and means the same as no word.
    pub fn optional_word(&mut self, key: &'static str, default: &str) -> Result<String, ConfigError> {
        if self.is_null(key) {
            self.take(key);
        }
        self.word(key, default)
    }

    pub fn numbers(&mut self, key: &'static str) -> Result<Option<Vec<f64>>, ConfigError> {
        match self.take_given(key) {
            None => Ok(None),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_f64().ok_or_else(|| self.bad(key, value, "a list of numbers")))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(other) => Err(self.bad(key, other, "a list of numbers")),
        }
    }

    /// A word that must be one of a few, which all mean the same.
    pub fn one_of(
        &mut self,
        key: &'static str,
        default: &str,
        words: &[&str],
        named: &'static str,
    ) -> Result<(), ConfigError> {
        let word = self.word(key, default)?;
        if words.contains(&word.as_str()) { Ok(()) } else { Err(self.bad(key, word, named)) }
    }

    /// An option that cannot be honoured unless it is left out.
    pub fn must_be_null(&mut self, key: &'static str, expected: &'static str) -> Result<(), ConfigError> {
        match self.take_given(key) {
            None => Ok(()),
            Some(given) => Err(self.bad(key, given, expected)),
        }
    }

    /// Whether a key is there, and null.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// The word of a key that somebody else reads.
    pub fn peek(&self, key: &str) -> Option<&str> {
        self.map.get(key).and_then(Value::as_str)
    }

    pub fn contradiction(&self, first: &'static str, second: &'static str, reason: &'static str) -> ConfigError {
        ConfigError::Contradiction { class: self.class.clone(), first, second, reason }
    }

    /// The keys that have been asked for.
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// Takes those keys, with their values, out of those that nothing has asked for.
    pub fn set_aside(&mut self, mut chosen: impl FnMut(&str) -> bool) -> Vec<(String, Value)> {
        let (aside, rest) = std::mem::take(&mut self.map).into_iter().partition::<Vec<_>, _>(|(key, _)| chosen(key));
        self.map = rest.into_iter().collect();
        aside
    }

    /// Ends the reading: keys that nothing has asked for are errors.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => {
                Err(ConfigError::UnknownKey { class: self.class, key: key.clone(), known: self.known.join(", ") })
            }
        }
    }
}
