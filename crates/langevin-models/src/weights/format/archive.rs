//! The directory of the zip archives that PyTorch saves.
//!
//! PyTorch stores every entry as it is, without compression: so an entry is as large as it says, and the file as large as its
//! entries. Archives that do otherwise are refused before any other reader sees them.

use std::io::{Read, Seek, SeekFrom};

use super::{FileProblem, LARGEST_HEADER, LARGEST_PICKLE};

/// The most entries of an archive; each tensor is one, and the largest published models have some thousands.
const MOST_ENTRIES: u64 = 65_535;
/// Bytes of the record at the end of an archive, without a comment.
const END: u64 = 22;
/// Bytes of the record that says where the wide form of the last record is.
const LOCATOR: u64 = 20;
/// Bytes of an entry of the directory, without its name.
const ENTRY: u64 = 46;
/// Bytes before the data of an entry, without its name.
const LOCAL: u64 = 30;

fn wrong(reason: impl Into<String>) -> FileProblem {
    FileProblem::Archive { reason: reason.into() }
}

/// Little-endian number of `N` bytes at a place of a record. Places are below the length of the record.
fn number<const N: usize>(record: &[u8], at: usize) -> u64 {
    record[at..at + N].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

struct Entry {
    name: String,
    size: u64,
    offset: u64,
}

/// Checks the directory of an archive of `length` bytes and returns the pickle that describes its tensors.
///
/// # Errors
///
/// [`FileProblem::Archive`] for entries that are compressed, encrypted, repeated, overlapping or beyond the file.
pub fn read_archive(mut file: impl Read + Seek, length: u64) -> Result<Vec<u8>, FileProblem> {
    let (from, size, count) = directory(&mut file, length)?;
    let entries = entries(&bytes(&mut file, from, size)?, count)?;
    check(&entries, from)?;
    let mut pickles = entries.iter().filter(|entry| entry.name == "data.pkl" || entry.name.ends_with("/data.pkl"));
    let (Some(pickle), None) = (pickles.next(), pickles.next()) else {
        return Err(wrong("it has not one entry `data.pkl`"));
    };
    if pickle.size > LARGEST_PICKLE {
        return Err(FileProblem::HeaderTooLarge { size: pickle.size, limit: LARGEST_PICKLE });
    }
    let local = bytes(&mut file, pickle.offset, LOCAL)?;
    let start = pickle.offset + LOCAL + number::<2>(&local, 26) + number::<2>(&local, 28);
    let same_name = number::<2>(&local, 26) == pickle.name.len() as u64
        && bytes(&mut file, pickle.offset + LOCAL, pickle.name.len() as u64)? == pickle.name.as_bytes();
    if !local.starts_with(b"PK\x03\x04") || number::<2>(&local, 8) != 0 || !same_name {
        return Err(wrong("the entry `data.pkl` is another one than the directory says"));
    }
    if start + pickle.size > from {
        return Err(wrong("the entry `data.pkl` reaches into the directory"));
    }
    bytes(&mut file, start, pickle.size)
}

/// Start, size and number of entries of the directory.
fn directory(file: &mut (impl Read + Seek), length: u64) -> Result<(u64, u64, u64), FileProblem> {
    let at = length.checked_sub(END).ok_or_else(|| wrong("it is shorter than an empty archive"))?;
    let end = bytes(file, at, END)?;
    if !end.starts_with(b"PK\x05\x06") || number::<2>(&end, 20) != 0 {
        return Err(wrong("it does not end as an archive without a comment does: it is truncated or no archive"));
    }
    let mut place = (number::<4>(&end, 16), number::<4>(&end, 12), number::<2>(&end, 10));
    let mut until = at;
    if let Some(before) = at.checked_sub(LOCATOR) {
        let locator = bytes(file, before, LOCATOR)?;
        if locator.starts_with(b"PK\x06\x07") {
            until = number::<8>(&locator, 8);
            if until.checked_add(56).is_none_or(|end| end > before) {
                return Err(wrong("its last record is beyond its end"));
            }
            let wide = bytes(file, until, 56)?;
            if !wide.starts_with(b"PK\x06\x06") {
                return Err(wrong("its last record is none"));
            }
            place = (number::<8>(&wide, 48), number::<8>(&wide, 40), number::<8>(&wide, 32));
        }
    }
    let (from, size, count) = place;
    if count > MOST_ENTRIES {
        return Err(wrong(format!("it claims {count} entries, allowed are {MOST_ENTRIES}")));
    }
    if size > LARGEST_HEADER {
        return Err(FileProblem::HeaderTooLarge { size, limit: LARGEST_HEADER });
    }
    if from.checked_add(size) != Some(until) || count.checked_mul(ENTRY).is_none_or(|least| least > size) {
        return Err(wrong("its directory is not where it says, or too small for its entries"));
    }
    Ok(place)
}

fn entries(directory: &[u8], count: u64) -> Result<Vec<Entry>, FileProblem> {
    let mut entries = Vec::with_capacity(count as usize);
    let mut rest = directory;
    for _ in 0..count {
        let (entry, after) = entry(rest)?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(wrong("its directory has more entries than it says")) }
}

fn entry(record: &[u8]) -> Result<(Entry, &[u8]), FileProblem> {
    let cut = || wrong("its directory is cut off");
    let (fixed, rest) = record.split_at_checked(ENTRY as usize).ok_or_else(cut)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return Err(wrong("its directory has something that is no entry"));
    }
    let lengths = [28, 30, 32].map(|at| number::<2>(fixed, at) as usize);
    let (name, rest) = rest.split_at_checked(lengths[0]).ok_or_else(cut)?;
    let (mut extra, rest) = rest.split_at_checked(lengths[1]).ok_or_else(cut)?;
    let (_, rest) = rest.split_at_checked(lengths[2]).ok_or_else(cut)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| wrong("the name of an entry is no UTF-8"))?;
    if number::<2>(fixed, 8) & 1 == 1 || number::<2>(fixed, 10) != 0 {
        return Err(wrong(format!("the entry `{name}` is compressed or encrypted, which PyTorch's are not")));
    }
    let mut wide: &[u8] = &[];
    while extra.len() >= 4 {
        let (head, body) = extra.split_at(4);
        let (body, after) = body.split_at_checked(number::<2>(head, 2) as usize).ok_or_else(cut)?;
        if number::<2>(head, 0) == 1 {
            wide = body;
        }
        extra = after;
    }
    // Numbers that do not fit into 32 bits are in the extra field, in this order.
    let mut numbers = [0; 3];
    for (value, at) in numbers.iter_mut().zip([24, 20, 42]) {
        *value = number::<4>(fixed, at);
        if *value == u64::from(u32::MAX) {
            let (head, after) = wide.split_at_checked(8).ok_or_else(cut)?;
            (*value, wide) = (number::<8>(head, 0), after);
        }
    }
    let [size, compressed, offset] = numbers;
    if size != compressed {
        return Err(wrong(format!("the entry `{name}` has two sizes")));
    }
    Ok((Entry { name, size, offset }, rest))
}

/// Entries have names of their own and places of their own before the directory.
fn check(entries: &[Entry], directory: u64) -> Result<(), FileProblem> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(FileProblem::Duplicate { name: pair[0].to_owned() });
    }
    let mut places: Vec<&Entry> = entries.iter().collect();
    places.sort_unstable_by_key(|entry| entry.offset);
    let starts = places.iter().skip(1).map(|entry| entry.offset).chain([directory]);
    for (entry, next) in places.iter().zip(starts) {
        let end = entry.offset.checked_add(LOCAL + entry.name.len() as u64).and_then(|at| at.checked_add(entry.size));
        if end.is_none_or(|end| end > next) {
            return Err(wrong(format!("the entry `{}` reaches into the next one", entry.name)));
        }
    }
    Ok(())
}

/// Reads a part of the file. The caller has compared `length` with that of the file.
fn bytes(file: &mut (impl Read + Seek), from: u64, length: u64) -> Result<Vec<u8>, FileProblem> {
    let mut read = || -> std::io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 == length => Ok(bytes),
        Ok(_) => Err(wrong("it ends early")),
        Err(error) => Err(wrong(error.to_string())),
    }
}
