//! Reading the elements of a tensor in the asked type, a piece at a time.

use std::io::{self, Read};

use burn::tensor::{DType, Element, TensorData};
use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::format::StoredType;

// Weight files are little-endian, and their bytes are read as the numbers of this machine.
#[cfg(target_endian = "big")]
compile_error!("weight files are read on little-endian machines only");

/// Elements that are converted at once: small enough for the caches, large enough for long reads.
const PIECE: usize = 1 << 16;

/// Reads `shape` elements of the stored type from `source` as a tensor of the asked float type. Memory beyond the
/// result is one piece.
///
/// `None` for a type that is not read, stored or asked.
pub(super) fn read_elements(
    source: impl Read,
    stored: &StoredType,
    shape: &[usize],
    asked: DType,
) -> Option<io::Result<TensorData>> {
    match asked {
        DType::F64 => read_as::<f64>(source, stored, shape),
        DType::F32 => read_as::<f32>(source, stored, shape),
        DType::F16 => read_as::<f16>(source, stored, shape),
        DType::BF16 => read_as::<bf16>(source, stored, shape),
        _ => None,
    }
}

fn read_as<T: Float>(source: impl Read, stored: &StoredType, shape: &[usize]) -> Option<io::Result<TensorData>> {
    // Memory that the system hands out as zeros, without a pass over it.
    let mut values: Vec<T> = bytemuck::zeroed_vec(shape.iter().product());
    let read = match stored {
        StoredType::F64 => fill::<f64, T>(source, &mut values, T::from_f64),
        StoredType::F32 => fill::<f32, T>(source, &mut values, T::from_f32),
        StoredType::F16 => fill::<f16, T>(source, &mut values, T::from_f16),
        StoredType::BF16 => fill::<bf16, T>(source, &mut values, T::from_bf16),
        StoredType::Other(_) => return None,
    };
    Some(read.map(|()| TensorData::new(values, shape.to_vec())))
}

fn fill<S: Float, T: Float>(
    mut source: impl Read,
    values: &mut [T],
    convert: impl Fn(&[S], &mut [T]),
) -> io::Result<()> {
    if S::dtype() == T::dtype() {
        return source.read_exact(bytemuck::cast_slice_mut(values));
    }
    let mut piece = vec![S::zeroed(); PIECE.min(values.len())];
    for values in values.chunks_mut(PIECE) {
        let piece = &mut piece[..values.len()];
        source.read_exact(bytemuck::cast_slice_mut(piece))?;
        convert(piece, values);
    }
    Ok(())
}

/// A float that weights are stored or computed in. Slices have equal lengths.
trait Float: Element + Pod {
    fn from_f64(from: &[f64], to: &mut [Self]);
    fn from_f32(from: &[f32], to: &mut [Self]);
    fn from_f16(from: &[f16], to: &mut [Self]);
    fn from_bf16(from: &[bf16], to: &mut [Self]);
}

fn each<S: Copy, T>(from: &[S], to: &mut [T], convert: impl Fn(S) -> T) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
}

/// The 16-bit floats go through `f32`, which holds all of them, with the conversion instructions of the processor.
macro_rules! through_f32 {
    ($name:ident, $half:ty) => {
        fn $name(from: &[$half], to: &mut [Self]) {
            let mut wide = [0.0f32; 256];
            for (from, to) in from.chunks(wide.len()).zip(to.chunks_mut(wide.len())) {
                let wide = &mut wide[..from.len()];
                from.convert_to_f32_slice(wide);
                <Self as Float>::from_f32(wide, to);
            }
        }
    };
}

impl Float for f64 {
    fn from_f64(from: &[f64], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    fn from_f32(from: &[f32], to: &mut [Self]) {
        each(from, to, f64::from);
    }
    through_f32!(from_f16, f16);
    through_f32!(from_bf16, bf16);
}

impl Float for f32 {
    fn from_f64(from: &[f64], to: &mut [Self]) {
        each(from, to, |value| value as f32);
    }
    fn from_f32(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    fn from_f16(from: &[f16], to: &mut [Self]) {
        from.convert_to_f32_slice(to);
    }
    fn from_bf16(from: &[bf16], to: &mut [Self]) {
        each(from, to, bf16::to_f32);
    }
}

impl Float for f16 {
    fn from_f64(from: &[f64], to: &mut [Self]) {
        // Torch rounds twice here, too.
        each(from, to, |value| f16::from_f32(value as f32));
    }
    fn from_f32(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
    fn from_f16(from: &[f16], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    through_f32!(from_bf16, bf16);
}

impl Float for bf16 {
    fn from_f64(from: &[f64], to: &mut [Self]) {
        each(from, to, |value| bf16::from_f32(value as f32));
    }
    fn from_f32(from: &[f32], to: &mut [Self]) {
        each(from, to, bf16::from_f32);
    }
    through_f32!(from_f16, f16);
    fn from_bf16(from: &[bf16], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], stored: &StoredType, count: usize, asked: DType) -> TensorData {
        read_elements(bytes, stored, &[count], asked).unwrap().unwrap()
    }

    #[test]
    fn every_half_keeps_its_value_in_wider_types_and_its_bits_on_the_way_back() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&bits);
        let wide = read(bytes, &StoredType::F16, bits.len(), DType::F32);
        let values = wide.try_to_vec::<f32>().unwrap();
        let double = read(bytes, &StoredType::F16, bits.len(), DType::F64).try_to_vec::<f64>().unwrap();
        let back = read(wide.as_bytes(), &StoredType::F32, bits.len(), DType::F16).try_to_vec::<f16>().unwrap();
        for (i, &bits) in bits.iter().enumerate() {
            let expected = f16::from_bits(bits);
            if expected.is_nan() {
                assert!(values[i].is_nan() && double[i].is_nan() && back[i].is_nan());
                continue;
            }
            assert_eq!(values[i], expected.to_f32_const());
            assert_eq!(double[i], expected.to_f64_const());
            assert_eq!(back[i].to_bits(), bits);
        }
        let wide = read(bytes, &StoredType::BF16, bits.len(), DType::F32);
        for (value, &bits) in wide.try_to_vec::<f32>().unwrap().iter().zip(&bits) {
            assert!(value.is_nan() || value.to_bits() == u32::from(bits) << 16);
        }
    }

    #[test]
    fn conversions_round_to_the_nearest_and_ties_to_even() {
        let tie = 1.0 + 2f64.powi(-11);
        let values = [tie + 2f64.powi(-20), tie, 1.0 + 3.0 * 2f64.powi(-11), 65504.0, 1e6, -0.0];
        let expected = [1.0 + 2f64.powi(-10), 1.0, 1.0 + 2f64.powi(-9), 65504.0, f64::INFINITY, 0.0];
        let single: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        for (stored, bytes) in [
            (StoredType::F64, bytemuck::cast_slice::<f64, u8>(&values)),
            (StoredType::F32, bytemuck::cast_slice::<f32, u8>(&single)),
        ] {
            let half = read(bytes, &stored, values.len(), DType::F16).try_to_vec::<f16>().unwrap();
            let half: Vec<f64> = half.iter().map(|v| v.to_f64()).collect();
            assert_eq!(half, expected);
            assert!(half[5].is_sign_negative());
        }
        let tie = 1.0 + 2f64.powi(-8);
        let values = [tie + 2f64.powi(-20), tie, 1.0 + 3.0 * 2f64.powi(-8)];
        let brain = read(bytemuck::cast_slice(&values), &StoredType::F64, 3, DType::BF16).try_to_vec::<bf16>().unwrap();
        let brain: Vec<f64> = brain.iter().map(|v| v.to_f64()).collect();
        assert_eq!(brain, [1.0 + 2f64.powi(-7), 1.0, 1.0 + 2f64.powi(-6)]);
    }

    #[test]
    fn long_tensors_are_read_in_pieces() {
        let values: Vec<f32> = (0..3 * PIECE + 5).map(|i| (i % 2048) as f32).collect();
        for asked in [DType::F16, DType::F64] {
            let data = read(bytemuck::cast_slice(&values), &StoredType::F32, values.len(), asked);
            assert!(data.iter::<f32>().eq(values.iter().copied()), "{asked:?}");
        }
        let short = read_elements(&[0u8; 7][..], &StoredType::F32, &[2], DType::F16).unwrap();
        assert_eq!(short.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_elements(&[][..], &StoredType::Other("I8".into()), &[0], DType::F32).is_none());
        assert!(read_elements(&[][..], &StoredType::F32, &[0], DType::I32).is_none());
    }
}
