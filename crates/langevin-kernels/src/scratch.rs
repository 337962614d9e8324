//! Memory that is used again.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Numbers that a thread keeps for later: 64 MiB.
const KEPT: usize = 1 << 24;

thread_local! {
    /// What earlier calls of this thread have given back. Asking the system for memory, and clearing it, would take a tenth to a
    /// third of a convolution's time.
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers to be written before they are read: what is in them is what was left there.
#[derive(Debug)]
pub(crate) struct Scratch {
    numbers: Vec<f32>,
    length: usize,
}

impl Scratch {
    /// `length` numbers.
    pub(crate) fn new(length: usize) -> Self {
        let mut numbers = SPARE.with_borrow_mut(|spare| {
            // The smallest that is large enough, or else the largest, which then grows.
            let fits = spare.iter().enumerate().filter(|(_, v)| v.len() >= length).min_by_key(|(_, v)| v.len());
            let found = fits.or_else(|| spare.iter().enumerate().max_by_key(|(_, v)| v.len())).map(|(at, _)| at);
            found.map(|at| spare.swap_remove(at)).unwrap_or_default()
        });
        if numbers.len() < length {
            // Not grown in place: that would copy what nobody reads.
            numbers = vec![0.0; length];
        }
        Self { numbers, length }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[..self.length]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.length]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        // A thread that ends has nothing to keep.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.iter().map(Vec::len).sum::<usize>() + numbers.len() <= KEPT {
                spare.push(numbers);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back() {
        std::thread::spawn(|| {
            let first = Scratch::new(1000);
            let (place, other) = (first.as_ptr(), Scratch::new(10));
            assert_eq!((first.len(), other.len()), (1000, 10));
            drop(first);
            drop(other);
            assert_eq!(Scratch::new(900).as_ptr(), place);
            assert_eq!(Scratch::new(900).len(), 900);
            drop(Scratch::new(KEPT + 1));
            assert!(SPARE.with_borrow(|spare| spare.iter().all(|v| v.len() <= 1000)));
        })
        .join()
        .unwrap();
    }
}
