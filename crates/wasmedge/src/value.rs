//! Values that cross between guest and host.

use crate::ffi;

/// The type of a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
}

/// A number. References and vectors never cross.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// 32-bit integer.
    I32(i32),
    /// 64-bit integer.
    I64(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
}

impl ValueType {
    pub(crate) fn to_ffi(self) -> ffi::ValType {
        // SAFETY: these take nothing and return a plain struct.
        unsafe {
            match self {
                Self::I32 => ffi::val_type_i32(),
                Self::I64 => ffi::val_type_i64(),
                Self::F32 => ffi::val_type_f32(),
                Self::F64 => ffi::val_type_f64(),
            }
        }
    }
}

impl ValueType {
    /// None for a reference or a vector.
    pub(crate) fn from_ffi(ty: ffi::ValType) -> Option<Self> {
        // SAFETY: these take a plain struct and only look at it.
        unsafe {
            if ffi::val_type_is_i32(ty) {
                Some(Self::I32)
            } else if ffi::val_type_is_i64(ty) {
                Some(Self::I64)
            } else if ffi::val_type_is_f32(ty) {
                Some(Self::F32)
            } else if ffi::val_type_is_f64(ty) {
                Some(Self::F64)
            } else {
                None
            }
        }
    }
}

impl Value {
    /// Its type.
    pub fn ty(self) -> ValueType {
        match self {
            Self::I32(_) => ValueType::I32,
            Self::I64(_) => ValueType::I64,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
        }
    }

    pub(crate) fn to_ffi(self) -> ffi::Value {
        let low = match self {
            Self::I32(v) => u64::from(v as u32),
            Self::I64(v) => v as u64,
            Self::F32(v) => v.to_bits().into(),
            Self::F64(v) => v.to_bits(),
        };
        ffi::Value { raw: ffi::Raw128 { low, high: 0 }, ty: self.ty().to_ffi() }
    }

    pub(crate) fn from_bits(ty: ValueType, low: u64) -> Self {
        match ty {
            ValueType::I32 => Self::I32(low as i32),
            ValueType::I64 => Self::I64(low as i64),
            ValueType::F32 => Self::F32(f32::from_bits(low as u32)),
            ValueType::F64 => Self::F64(f64::from_bits(low)),
        }
    }

    /// None for a reference or a vector.
    pub(crate) fn from_ffi(value: &ffi::Value) -> Option<Self> {
        Some(Self::from_bits(ValueType::from_ffi(value.ty)?, value.raw.low))
    }
}
