//! Matrices and tensors as CubeCL's kernels write them.

use std::marker::PhantomData;

use burn_cubecl::cubecl;
use cubecl::cmma::{Cube, MatrixScope as Scoped};
use cubecl::ir::attributes::ZeroAttr;
use cubecl::ir::convert::lift_closure;
use cubecl::ir::dialect::branch::ReturnOp;
use cubecl::ir::dialect::spirv::{CreateLayoutOp, CreateViewOp, SliceOp};
use cubecl::ir::dialect::ssa_matrix::{CastOp, FillOp, MultiplyAccumulateOp, StoreOp as PutOp};
use cubecl::ir::interfaces::TypedExt;
use cubecl::ir::prelude::*;
use cubecl::ir::types::matrix::{MatrixIdent, MatrixLayout, MatrixType};
use cubecl::ir::types::spirv::{ClampMode, TensorViewType};
use cubecl::ir::{OpInserter, read_value};
use cubecl::prelude::*;
use cubecl::unexpanded;
use pliron::builtin::ops::FuncOp;
use pliron::builtin::types::FunctionType;

use super::ops::{EntryOp, Exp2Op, FetchOp, LoadOp, MapOp, StoreOp};

/// What a matrix is in a product.
pub(crate) type Role = MatrixIdent;

macro_rules! plain_expand {
    ($name: ident $(, $scope: ident)?) => {
        impl<T: CubePrimitive $(, $scope: Scoped)?> Clone for $name<T $(, $scope)?> {
            fn clone(&self) -> Self {
                Self { ..*self }
            }
        }
        impl<T: CubePrimitive $(, $scope: Scoped)?> ExpandTypeClone for $name<T $(, $scope)?> {
            fn clone_unchecked(&self) -> Self {
                self.clone()
            }
        }
        impl<T: CubePrimitive $(, $scope: Scoped)?> AsRefExpand for $name<T $(, $scope)?> {
            fn __expand_ref_method(&self, _: &Scope) -> &Self {
                self
            }
        }
        impl<T: CubePrimitive $(, $scope: Scoped)?> AsMutExpand for $name<T $(, $scope)?> {
            fn __expand_ref_mut_method(&mut self, _: &Scope) -> &mut Self {
                self
            }
        }
        impl<T: CubePrimitive $(, $scope: Scoped)?> IntoExpand for $name<T $(, $scope)?> {
            type Expand = Self;

            fn into_expand(self, _: &Scope) -> Self {
                self
            }
        }
        impl<T: CubePrimitive $(, $scope: Scoped)?> IntoMut for $name<T $(, $scope)?> {
            fn into_mut(self, _: &Scope) -> Self {
                self
            }
        }
        impl<T: CubePrimitive $(, $scope: Scoped)?> CubeDebug for $name<T $(, $scope)?> {}
    };
}

/// Two to the power of a number: what the hardware has, where `exp` multiplies first.
pub(crate) fn exp2(_x: f32) -> f32 {
    unexpanded!()
}

pub(crate) mod exp2 {
    use super::*;

    pub fn expand(scope: &Scope, x: NativeExpand<f32>) -> NativeExpand<f32> {
        let x = x.read_value(scope);
        scope.register_with_result(&Exp2Op::new(scope.ctx_mut(), x)).into()
    }
}

/// A matrix whose entries are spread over the threads of a workgroup, or of a plane (a subgroup).
#[derive(Clone, Copy)]
pub(crate) struct Fragment<T: CubePrimitive, S: Scoped = Cube>(PhantomData<(T, S)>);

/// [`Fragment`] while a kernel is written: a variable.
pub(crate) struct FragmentExpand<T: CubePrimitive, S: Scoped = Cube> {
    variable: Value,
    of: PhantomData<(T, S)>,
}

impl<T: CubePrimitive, S: Scoped> CubeType for Fragment<T, S> {
    type ExpandType = FragmentExpand<T, S>;
}

plain_expand!(FragmentExpand, S);

impl<T: CubePrimitive, S: Scoped> FragmentExpand<T, S> {
    fn new(scope: &Scope, role: Role, shape: (usize, usize, usize)) -> Self {
        let entry = T::Scalar::__expand_as_type(scope);
        let layout = MatrixLayout::Undefined;
        let matrix = MatrixType::get(scope.ctx(), role, shape.into(), entry, layout, S::SCOPE);
        let nothing = ZeroAttr::new(matrix);
        Self { variable: scope.create_local_mut(matrix, Some(nothing.into())), of: PhantomData }
    }

    fn get(&self, scope: &Scope) -> Value {
        read_value(scope, self.variable)
    }

    fn kind(&self, scope: &Scope) -> TypeHandle {
        self.variable.unwrap_ptr(scope.ctx())
    }

    fn set(&self, scope: &Scope, value: Value) {
        assign::expand_element(scope, value.into(), self.variable.into());
    }
}

impl<T: CubePrimitive, S: Scoped> Fragment<T, S> {
    /// All entries the same.
    pub fn filled(_role: Role, _m: usize, _n: usize, _k: usize, _value: T) -> Self {
        unexpanded!()
    }

    pub fn __expand_filled(
        scope: &Scope,
        role: Role,
        m: usize,
        n: usize,
        k: usize,
        value: NativeExpand<T>,
    ) -> FragmentExpand<T, S> {
        let fragment = FragmentExpand::new(scope, role, (m, n, k));
        let value = value.read_value(scope);
        let fill = FillOp::new(scope.ctx_mut(), fragment.kind(scope), value);
        let filled = scope.register_with_result(&fill);
        fragment.set(scope, filled);
        fragment
    }

    /// Read from a tensor.
    pub fn read(_role: Role, _m: usize, _n: usize, _k: usize, _part: &View<T>) -> Self {
        unexpanded!()
    }

    pub fn __expand_read(
        scope: &Scope,
        role: Role,
        m: usize,
        n: usize,
        k: usize,
        part: &ViewExpand<T>,
    ) -> FragmentExpand<T, S> {
        let fragment = FragmentExpand::new(scope, role, (m, n, k));
        let load = LoadOp::new(scope.ctx_mut(), fragment.kind(scope), part.buffer, part.layout, part.view);
        let read = scope.register_with_result(&load);
        fragment.set(scope, read);
        fragment
    }

    /// As many rows as columns, read from memory, a row or with `turned` a column every `stride` of its elements; both begin at multiples of
    /// 16 bytes.
    pub fn fetch<V: CubePrimitive>(_role: Role, _side: usize, _numbers: &[V], _stride: u32, _turned: bool) -> Self {
        unexpanded!()
    }

    pub fn __expand_fetch<V: CubePrimitive>(
        scope: &Scope,
        role: Role,
        side: usize,
        numbers: &SliceExpand<V>,
        stride: NativeExpand<u32>,
        turned: bool,
    ) -> FragmentExpand<T, S> {
        let fragment = FragmentExpand::new(scope, role, (side, side, side));
        let numbers = pointer(scope, numbers);
        let stride = stride.read_value(scope);
        let fetch = FetchOp::new(scope.ctx_mut(), fragment.kind(scope), numbers, stride, turned);
        let fetched = scope.register_with_result(&fetch);
        fragment.set(scope, fetched);
        fragment
    }

    /// Written to memory, a row every `stride` numbers.
    pub fn put<V: CubePrimitive>(&self, _numbers: &mut [V], _stride: u32) {
        unexpanded!()
    }

    /// One of the entries that a thread has of a matrix of a plane; which one of the matrix is the driver's business.
    pub fn entry(&self, _index: usize) -> T {
        unexpanded!()
    }

    /// Another with the same entries.
    pub fn copied(&self) -> Self {
        unexpanded!()
    }

    /// Written to a tensor.
    pub fn write(&self, _part: &View<T>) {
        unexpanded!()
    }

    /// `self += left·right`.
    pub fn add_product<U: CubePrimitive>(&mut self, _left: &Fragment<U, S>, _right: &Fragment<U, S>) {
        unexpanded!()
    }

    /// The same numbers in another format, in another role.
    pub fn convert<U: CubePrimitive>(&self, _role: Role, _m: usize, _n: usize, _k: usize) -> Fragment<U, S> {
        unexpanded!()
    }

    /// Each entry as a function of itself.
    pub fn map(&mut self, _function: impl Fn(T) -> T) {
        unexpanded!()
    }

    /// Each entry as a function of itself and the one at the same place of another.
    pub fn map_with(&mut self, _other: &Fragment<T, S>, _function: impl Fn(T, T) -> T) {
        unexpanded!()
    }
}

impl<T: CubePrimitive, S: Scoped> FragmentExpand<T, S> {
    pub fn __expand_copied_method(&self, scope: &Scope) -> Self {
        let copy = Self { variable: scope.create_local_mut(self.kind(scope), None), ..*self };
        copy.set(scope, self.get(scope));
        copy
    }

    pub fn __expand_write_method(&self, scope: &Scope, part: &ViewExpand<T>) {
        let matrix = self.get(scope);
        scope.register(&StoreOp::new(scope.ctx_mut(), part.buffer, matrix, part.layout));
    }

    pub fn __expand_entry_method(&self, scope: &Scope, index: NativeExpand<usize>) -> NativeExpand<T> {
        let index = index.constant().expect("an index that is known").as_u32();
        let matrix = self.get(scope);
        scope.register_with_result(&EntryOp::new(scope.ctx_mut(), matrix, index)).into()
    }

    pub fn __expand_put_method<V: CubePrimitive>(
        &self,
        scope: &Scope,
        numbers: &mut SliceExpand<V>,
        stride: NativeExpand<u32>,
    ) {
        let numbers = pointer(scope, numbers);
        let (matrix, stride) = (self.get(scope), stride.read_value(scope));
        scope.register(&PutOp::new(scope.ctx_mut(), matrix, numbers, stride, MatrixLayout::RowMajor));
    }

    pub fn __expand_add_product_method<U: CubePrimitive>(
        &mut self,
        scope: &Scope,
        left: &FragmentExpand<U, S>,
        right: &FragmentExpand<U, S>,
    ) {
        let (left, right, sum) = (left.get(scope), right.get(scope), self.get(scope));
        let multiply = MultiplyAccumulateOp::new(scope.ctx_mut(), self.kind(scope), left, right, sum);
        let sum = scope.register_with_result(&multiply);
        self.set(scope, sum);
    }

    pub fn __expand_convert_method<U: CubePrimitive>(
        &self,
        scope: &Scope,
        role: Role,
        m: usize,
        n: usize,
        k: usize,
    ) -> FragmentExpand<U, S> {
        let output = FragmentExpand::<U, S>::new(scope, role, (m, n, k));
        let value = self.get(scope);
        let cast = CastOp::new(scope.ctx_mut(), output.kind(scope), value);
        let cast = scope.register_with_result(&cast);
        output.set(scope, cast);
        output
    }

    pub fn __expand_map_method(
        &mut self,
        scope: &Scope,
        mut function: impl FnMut(&Scope, NativeExpand<T>) -> NativeExpand<T>,
    ) {
        self.apply(scope, &[], |scope, places| function(scope, places[2].into()));
    }

    pub fn __expand_map_with_method(
        &mut self,
        scope: &Scope,
        other: &FragmentExpand<T, S>,
        mut function: impl FnMut(&Scope, NativeExpand<T>, NativeExpand<T>) -> NativeExpand<T>,
    ) {
        self.apply(scope, &[other.get(scope)], |scope, places| function(scope, places[2].into(), places[3].into()));
    }

    /// SPIR-V gives the function the row and the column first, then the entries of the matrices.
    fn apply(&self, scope: &Scope, others: &[Value], mut function: impl FnMut(&Scope, &[Value]) -> NativeExpand<T>) {
        let entry = T::Scalar::__expand_as_type(scope);
        let place = u32::__expand_as_type(scope);
        let mut arguments = vec![place, place, entry];
        arguments.extend(others.iter().map(|_| entry));
        let count = arguments.len();
        let kind = FunctionType::get(scope.ctx(), arguments, vec![entry]);
        let name = scope.func_ident(Some("map"));
        let func = FuncOp::new(scope.ctx_mut(), name.clone(), kind);
        let body = func.get_entry_block(scope.ctx());
        let places: Vec<Value> = (0..count).map(|i| body.deref(scope.ctx()).get_argument(i)).collect();
        let inner = scope.func_child(OpInserter::new_at_block_end(body));
        let result = function(&inner, &places).read_value(&inner);
        inner.register(&ReturnOp::new_with_value(scope.ctx_mut(), result));
        let captured = lift_closure(scope.ctx(), &func);
        scope.register_func(func);
        let mut matrices = vec![self.get(scope)];
        matrices.extend(others);
        matrices.extend(captured);
        let map = MapOp::new(scope.ctx_mut(), name, matrices);
        let mapped = scope.register_with_result(&map);
        self.set(scope, mapped);
    }
}

/// A tensor in memory, or a part of it. Rows are aligned to 16 bytes, and so are the parts that are read.
#[derive(Clone, Copy)]
pub(crate) struct View<T: CubePrimitive>(PhantomData<T>);

/// [`View`] while a kernel is written.
pub(crate) struct ViewExpand<T: CubePrimitive> {
    buffer: Value,
    layout: Value,
    view: Option<Value>,
    rank: usize,
    of: PhantomData<T>,
}

impl<T: CubePrimitive> CubeType for View<T> {
    type ExpandType = ViewExpand<T>;
}

plain_expand!(ViewExpand);

impl<T: CubePrimitive> View<T> {
    /// What lies outside the shape is read as zero and is not written. Without `bounded`, nothing may lie outside.
    pub fn new(_buffer: &[T], _shape: Sequence<u32>, _strides: Sequence<u32>, _bounded: bool) -> Self {
        unexpanded!()
    }

    pub fn __expand_new(
        scope: &Scope,
        buffer: &SliceExpand<T>,
        shape: SequenceExpand<u32>,
        strides: SequenceExpand<u32>,
        bounded: bool,
    ) -> ViewExpand<T> {
        let buffer = buffer.__extract_list(scope);
        let clamp = if bounded { ClampMode::Constant(0) } else { ClampMode::Undefined };
        let (shape, strides) = (values(scope, &shape), values(scope, &strides));
        let rank = shape.len();
        let layout = CreateLayoutOp::new(scope.ctx_mut(), shape, Some(strides), clamp);
        let layout = scope.register_with_result(&layout);
        ViewExpand { buffer, layout, view: None, rank, of: PhantomData }
    }

    /// A part, from `offsets`.
    pub fn part(&self, _offsets: Sequence<u32>, _shape: Sequence<u32>) -> Self {
        unexpanded!()
    }

    /// With the last two dimensions exchanged.
    pub fn transposed(&self) -> Self {
        unexpanded!()
    }
}

impl<T: CubePrimitive> ViewExpand<T> {
    pub fn __expand_part_method(
        &self,
        scope: &Scope,
        offsets: SequenceExpand<u32>,
        shape: SequenceExpand<u32>,
    ) -> Self {
        let slice = SliceOp::new(scope.ctx_mut(), self.layout, values(scope, &offsets), values(scope, &shape));
        Self { layout: scope.register_with_result(&slice), ..*self }
    }

    pub fn __expand_transposed_method(&self, scope: &Scope) -> Self {
        let mut order: Vec<usize> = (0..self.rank).collect();
        order.swap(self.rank - 2, self.rank - 1);
        let kind = TensorViewType::get(scope.ctx(), self.rank, false, order);
        let view = scope.register_with_result(&CreateViewOp::new(scope.ctx_mut(), kind.into()));
        Self { view: Some(view), ..*self }
    }
}

fn values(scope: &Scope, numbers: &SequenceExpand<u32>) -> Vec<Value> {
    numbers.iter_cloned().map(|number| number.read_value(scope)).collect()
}

/// Where a slice begins.
#[allow(
    unsafe_code,
    reason = "CubeCL asks for it where a pointer is taken; the operations that get it keep to the slice"
)]
fn pointer<V: CubePrimitive>(scope: &Scope, numbers: &SliceExpand<V>) -> Value {
    // SAFETY: the pointer is read by an operation of this kernel, while the slice is there.
    unsafe { *numbers.__expand_as_ptr_method(scope) }.value(scope)
}
