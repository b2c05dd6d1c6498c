//! 128 bits that are worked on at once.

/// 128 bits, as two words of 64 or four of 32 or sixteen bytes, the low ones first.
pub(super) trait Lane: Copy {
    /// `word` four times.
    fn splat(word: u32) -> Self;
    fn from_bytes(bytes: [u8; 16]) -> Self;
    fn to_bytes(self) -> [u8; 16];
    fn to_words(self) -> [u32; 4];
    fn and(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    /// Each 64-bit word up by `N` bits.
    fn shl<const N: u32>(self) -> Self;
    /// Each 64-bit word down by `N` bits.
    fn shr<const N: u32>(self) -> Self;
    /// Zero less each byte, modulo 256.
    fn negate_bytes(self) -> Self;
    /// The low eight bytes of both, alternating.
    fn zip_low(self, other: Self) -> Self;
    /// The high eight bytes of both, alternating.
    fn zip_high(self, other: Self) -> Self;
}

/// A lane of WebAssembly's simd128.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[derive(Clone, Copy)]
pub(super) struct Simd(std::arch::wasm32::v128);

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd {
    use std::arch::wasm32::*;

    use super::{Lane, Simd};

    impl Lane for Simd {
        #[inline(always)]
        fn splat(word: u32) -> Self {
            Simd(u32x4_splat(word))
        }

        #[inline(always)]
        fn from_bytes(bytes: [u8; 16]) -> Self {
            // SAFETY: both are 16 bytes without padding, and any bits are a v128.
            Simd(unsafe { std::mem::transmute::<[u8; 16], v128>(bytes) })
        }

        #[inline(always)]
        fn to_bytes(self) -> [u8; 16] {
            // SAFETY: both are 16 bytes without padding, and any bits are bytes.
            unsafe { std::mem::transmute::<v128, [u8; 16]>(self.0) }
        }

        #[inline(always)]
        fn to_words(self) -> [u32; 4] {
            // SAFETY: both are 16 bytes without padding, and any bits are words.
            unsafe { std::mem::transmute::<v128, [u32; 4]>(self.0) }
        }

        #[inline(always)]
        fn and(self, other: Self) -> Self {
            Simd(v128_and(self.0, other.0))
        }

        #[inline(always)]
        fn xor(self, other: Self) -> Self {
            Simd(v128_xor(self.0, other.0))
        }

        #[inline(always)]
        fn shl<const N: u32>(self) -> Self {
            Simd(u64x2_shl(self.0, N))
        }

        #[inline(always)]
        fn shr<const N: u32>(self) -> Self {
            Simd(u64x2_shr(self.0, N))
        }

        #[inline(always)]
        fn negate_bytes(self) -> Self {
            Simd(i8x16_neg(self.0))
        }

        #[inline(always)]
        #[rustfmt::skip]
        fn zip_low(self, other: Self) -> Self {
            Simd(i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(
                self.0, other.0,
            ))
        }

        #[inline(always)]
        #[rustfmt::skip]
        fn zip_high(self, other: Self) -> Self {
            Simd(i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(
                self.0, other.0,
            ))
        }
    }
}

/// A lane of two ordinary words, so that what runs in a tab is tested by every `cargo test`.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(super) struct Words([u64; 2]);

#[cfg(test)]
impl Lane for Words {
    fn splat(word: u32) -> Self {
        Words([u64::from(word) << 32 | u64::from(word); 2])
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Words([bits as u64, (bits >> 64) as u64])
    }

    fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.0[1]) << 64 | u128::from(self.0[0])).to_le_bytes()
    }

    fn to_words(self) -> [u32; 4] {
        let [a, b] = self.0;
        [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
    }

    fn and(self, other: Self) -> Self {
        Words([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }

    fn xor(self, other: Self) -> Self {
        Words([self.0[0] ^ other.0[0], self.0[1] ^ other.0[1]])
    }

    fn shl<const N: u32>(self) -> Self {
        Words(self.0.map(|word| word << N))
    }

    fn shr<const N: u32>(self) -> Self {
        Words(self.0.map(|word| word >> N))
    }

    fn negate_bytes(self) -> Self {
        Self::from_bytes(self.to_bytes().map(u8::wrapping_neg))
    }

    fn zip_low(self, other: Self) -> Self {
        let of = [self.to_bytes(), other.to_bytes()];
        Self::from_bytes(std::array::from_fn(|i| of[i % 2][i / 2]))
    }

    fn zip_high(self, other: Self) -> Self {
        let of = [self.to_bytes(), other.to_bytes()];
        Self::from_bytes(std::array::from_fn(|i| of[i % 2][8 + i / 2]))
    }
}
