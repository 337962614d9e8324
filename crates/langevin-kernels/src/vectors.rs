//! Code that is compiled once for each width of vectors, and run with the widest that the processor has.

use pulp::{Arch, Simd, WithSimd};

struct Call<F, A>(F, A);

impl<A, R, F: FnOnce(A) -> R> WithSimd for Call<F, A> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> R {
        (self.0)(self.1)
    }
}

/// Calls `f` on the widest vectors. It must be a function that is inlined always, by its name: a closure would be compiled apart,
/// with the vectors that every processor has.
pub(crate) fn on_vectors<A, R>(f: impl FnOnce(A) -> R, arguments: A) -> R {
    Arch::new().dispatch(Call(f, arguments))
}
