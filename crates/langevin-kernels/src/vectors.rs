//! Code that is compiled once for each width of vectors, and run with the widest that the processor has.

use pulp::{Arch, Simd, WithSimd};

/// A function of `A` that is compiled for every width.
///
/// A type for each, and not the function itself or a closure: those are called through a function of their own, which the compiler
/// leaves alone where it is long, with the vectors that every processor has. `compute`, and what it calls, is inlined always.
pub(crate) trait Kernel<A> {
    /// What it returns.
    type Output;

    /// Calls the function.
    fn compute(self, arguments: A) -> Self::Output;
}

/// Makes a type, which is a [`Kernel`], of a function of one argument. Lifetimes in its type are `'a`.
macro_rules! kernel {
    ($name:ident: $function:ident($type:ty) -> $output:ty) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl<'a> $crate::vectors::Kernel<$type> for $name {
            type Output = $output;

            #[inline(always)]
            fn compute(self, arguments: $type) -> $output {
                $function(arguments)
            }
        }
    };
}
pub(crate) use kernel;

struct Call<K, A>(K, A);

impl<A, K: Kernel<A>> WithSimd for Call<K, A> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> K::Output {
        self.0.compute(self.1)
    }
}

/// Calls a kernel on the widest vectors.
pub(crate) fn on_vectors<A, K: Kernel<A>>(kernel: K, arguments: A) -> K::Output {
    Arch::new().dispatch(Call(kernel, arguments))
}
