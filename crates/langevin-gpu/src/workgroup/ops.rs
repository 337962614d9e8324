//! Operations in CubeCL's intermediate representation, and what they are in SPIR-V.

use burn_cubecl::cubecl::ir as cubecl_ir;
use cubecl_ir::interfaces::{ScalarType, TypedExt};
use cubecl_ir::prelude::*;
use cubecl_ir::{CanMaterialize, ConstantValue, try_cast_ty};
use cubecl_spirv::attributes::attr_to_spirv_dialect;
use cubecl_spirv::ops::to_spirv_dialect::ToSpirvDialectOp;
use cubecl_spirv::types::ty_to_spirv_dialect;
use pliron::builtin::attributes::{BoolAttr, IdentifierAttr, VecAttr};
use pliron::builtin::ops::ConstantOp;
use pliron::identifier::Identifier;
use pliron_spirv::attrs::{CompositeAttr, LiteralIntegerAttr};
use pliron_spirv::ext::gl;
use pliron_spirv::ops::CompositeExtractOp;
use pliron_spirv::ops::khr::CooperativeMatrixLoadOp;
use pliron_spirv::ops::nv::CooperativeMatrixPerElementOpOp;
use pliron_spirv::tensor_addressing_nv::{CooperativeMatrixLoadTensorOp, CooperativeMatrixStoreTensorOp};
use rspirv::spirv::{CooperativeMatrixLayout, MemoryAccess, TensorAddressingOperands};

/// Bytes that every row of a tensor is aligned to: what the hardware moves at once.
const ALIGNMENT: u32 = 16;

/// A matrix read from a part of a tensor.
#[pliron_op(name = "langevin.load", format, verifier = "succ")]
#[op_interfaces(NResultsInterface<1>, OneResultInterface)]
#[op_traits(CanMaterialize)]
pub(super) struct LoadOp;

impl LoadOp {
    pub fn new(ctx: &mut Context, result: TypeHandle, buffer: Value, layout: Value, view: Option<Value>) -> Self {
        let mut operands = vec![buffer, layout];
        operands.extend(view);
        Self { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![result], operands, vec![], 0) }
    }
}

#[op_interface_impl]
impl ToSpirvDialectOp for LoadOp {
    fn to_spirv_dialect(
        &self,
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        _: &OperandsInfo,
    ) -> Result<()> {
        let operands: Vec<Value> = self.get_operation().deref(ctx).operands().collect();
        let view = operands.get(2).copied();
        let result = self.get_result(ctx).get_type(ctx);
        let matrix = ty_to_spirv_dialect(ctx, result);
        let zero = {
            let scalar = result.element_ty(ctx);
            let element = try_cast_ty!(scalar.deref(ctx), ctx, dyn ScalarType).elem_type(ctx);
            let zero = ConstantValue::from(0).cast_to(element);
            let zero = attr_to_spirv_dialect(ctx, &zero.as_attribute(ctx, element));
            let zeros = CompositeAttr::new(VecAttr(vec![zero]), matrix);
            let constant = ConstantOp::new(ctx, Box::new(zeros));
            rewriter.append_op_with_result(ctx, &constant)
        };
        let addressing = match view {
            Some(_) => TensorAddressingOperands::TENSOR_VIEW,
            None => TensorAddressingOperands::NONE,
        };
        let load = CooperativeMatrixLoadTensorOp::new(
            ctx,
            matrix,
            operands[0],
            zero,
            operands[1],
            MemoryAccess::ALIGNED,
            Some(ALIGNMENT),
            addressing,
            view,
            None,
        );
        rewriter.append_op(ctx, &load);
        rewriter.replace_operation(ctx, self.get_operation(), load.get_operation());
        Ok(())
    }
}

/// A matrix read from memory, by rows or by columns.
#[pliron_op(
    name = "langevin.fetch",
    attributes = (langevin_fetch_turned: BoolAttr),
    verifier = "succ",
    format
)]
#[op_interfaces(NResultsInterface<1>, OneResultInterface)]
#[op_traits(CanMaterialize)]
pub(super) struct FetchOp;

impl FetchOp {
    pub fn new(ctx: &mut Context, result: TypeHandle, numbers: Value, stride: Value, turned: bool) -> Self {
        let operands = vec![numbers, stride];
        let op = Self { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![result], operands, vec![], 0) };
        op.set_attr_langevin_fetch_turned(ctx, BoolAttr::new(turned));
        op
    }
}

#[op_interface_impl]
impl ToSpirvDialectOp for FetchOp {
    fn to_spirv_dialect(
        &self,
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        _: &OperandsInfo,
    ) -> Result<()> {
        let operands: Vec<Value> = self.get_operation().deref(ctx).operands().collect();
        let turned = self.get_attr_langevin_fetch_turned(ctx).expect("set by the constructor").clone();
        let matrix = ty_to_spirv_dialect(ctx, self.get_result(ctx).get_type(ctx));
        let layout = match bool::from(turned) {
            true => CooperativeMatrixLayout::ColumnMajorKHR,
            false => CooperativeMatrixLayout::RowMajorKHR,
        };
        let load = CooperativeMatrixLoadOp::new(
            ctx,
            matrix,
            operands[0],
            layout,
            Some(operands[1]),
            MemoryAccess::ALIGNED,
            Some(ALIGNMENT),
        );
        rewriter.append_op(ctx, &load);
        rewriter.replace_operation(ctx, self.get_operation(), load.get_operation());
        Ok(())
    }
}

/// Two to the power of a number.
#[pliron_op(name = "langevin.exp2", format, verifier = "succ")]
#[op_interfaces(NResultsInterface<1>, OneResultInterface)]
#[op_traits(CanMaterialize)]
pub(super) struct Exp2Op;

impl Exp2Op {
    pub fn new(ctx: &mut Context, x: Value) -> Self {
        let kind = x.get_type(ctx);
        Self { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![kind], vec![x], vec![], 0) }
    }
}

#[op_interface_impl]
impl ToSpirvDialectOp for Exp2Op {
    fn to_spirv_dialect(
        &self,
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        _: &OperandsInfo,
    ) -> Result<()> {
        let x = self.get_operation().operand(ctx, 0);
        let kind = ty_to_spirv_dialect(ctx, self.get_result(ctx).get_type(ctx));
        let power = gl::Exp2Op::new(ctx, kind, x);
        rewriter.append_op(ctx, &power);
        rewriter.replace_operation(ctx, self.get_operation(), power.get_operation());
        Ok(())
    }
}

/// One of the entries of a matrix that a thread has.
#[pliron_op(
    name = "langevin.entry",
    attributes = (langevin_entry_index: LiteralIntegerAttr),
    verifier = "succ",
    format
)]
#[op_interfaces(NResultsInterface<1>, OneResultInterface)]
#[op_traits(CanMaterialize)]
pub(super) struct EntryOp;

impl EntryOp {
    pub fn new(ctx: &mut Context, matrix: Value, index: u32) -> Self {
        let entry = matrix.get_type(ctx).element_ty(ctx);
        let op = Self { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![entry], vec![matrix], vec![], 0) };
        op.set_attr_langevin_entry_index(ctx, LiteralIntegerAttr::from(index));
        op
    }
}

#[op_interface_impl]
impl ToSpirvDialectOp for EntryOp {
    fn to_spirv_dialect(
        &self,
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        _: &OperandsInfo,
    ) -> Result<()> {
        let matrix = self.get_operation().operand(ctx, 0);
        let index = self.get_attr_langevin_entry_index(ctx).expect("set by the constructor").clone();
        let entry = ty_to_spirv_dialect(ctx, self.get_result(ctx).get_type(ctx));
        let extract = CompositeExtractOp::new(ctx, entry, matrix, vec![index]);
        rewriter.append_op(ctx, &extract);
        rewriter.replace_operation(ctx, self.get_operation(), extract.get_operation());
        Ok(())
    }
}

/// A matrix written to a part of a tensor.
#[pliron_op(name = "langevin.store", format, verifier = "succ")]
#[op_traits(CanMaterialize)]
pub(super) struct StoreOp;

impl StoreOp {
    pub fn new(ctx: &mut Context, buffer: Value, matrix: Value, layout: Value) -> Self {
        let operands = vec![buffer, matrix, layout];
        Self { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![], operands, vec![], 0) }
    }
}

#[op_interface_impl]
impl ToSpirvDialectOp for StoreOp {
    fn to_spirv_dialect(
        &self,
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        _: &OperandsInfo,
    ) -> Result<()> {
        let operands: Vec<Value> = self.get_operation().deref(ctx).operands().collect();
        let store = CooperativeMatrixStoreTensorOp::new(
            ctx,
            operands[0],
            operands[1],
            operands[2],
            MemoryAccess::ALIGNED,
            Some(ALIGNMENT),
            TensorAddressingOperands::NONE,
            None,
        );
        rewriter.append_op(ctx, &store);
        rewriter.erase_operation(ctx, self.get_operation());
        Ok(())
    }
}

/// A function of the row, the column, the entries there of some matrices, and captured values.
#[pliron_op(
    name = "langevin.map",
    attributes = (langevin_map_function: IdentifierAttr),
    verifier = "succ",
    format
)]
#[op_interfaces(NResultsInterface<1>, OneResultInterface)]
#[op_traits(CanMaterialize)]
pub(super) struct MapOp;

impl MapOp {
    /// The result has the type of the first matrix; the others and then the captured values follow it among the arguments.
    pub fn new(ctx: &mut Context, function: Identifier, matrices: Vec<Value>) -> Self {
        let result = matrices[0].get_type(ctx);
        let op = Self { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![result], matrices, vec![], 0) };
        op.set_attr_langevin_map_function(ctx, IdentifierAttr::new(function));
        op
    }
}

#[op_interface_impl]
impl ToSpirvDialectOp for MapOp {
    fn to_spirv_dialect(
        &self,
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        _: &OperandsInfo,
    ) -> Result<()> {
        let operands: Vec<Value> = self.get_operation().deref(ctx).operands().collect();
        let function = self.get_attr_langevin_map_function(ctx).map(|function| function.clone().into());
        let function: Identifier = function.expect("set by the constructor");
        let result = ty_to_spirv_dialect(ctx, self.get_result(ctx).get_type(ctx));
        let map = CooperativeMatrixPerElementOpOp::new(ctx, result, operands[0], function, operands[1..].to_vec());
        rewriter.append_op(ctx, &map);
        rewriter.replace_operation(ctx, self.get_operation(), map.get_operation());
        Ok(())
    }
}
