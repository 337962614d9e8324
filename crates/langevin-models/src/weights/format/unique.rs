//! JSON objects whose keys may not repeat.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// What the message of a repeated key begins with, so that [`super::FileProblem::Duplicate`] can be made of it.
pub const REPEATED: &str = "repeated key: ";

/// The entries of a JSON object in their order. A repeated key is an error: readers that keep the first and readers
/// that keep the last would see different files.
pub struct Unique<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = Unique<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<String, T>()? {
            entries.push(entry);
        }
        refuse_repeated(&entries)?;
        Ok(Unique(entries))
    }
}

/// An error that names a key that is there twice.
pub fn refuse_repeated<T, E: Error>(entries: &[(String, T)]) -> Result<(), E> {
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(E::custom(format_args!("{REPEATED}{}", pair[0]))),
        None => Ok(()),
    }
}
