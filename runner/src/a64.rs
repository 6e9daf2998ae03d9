// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Instructions of A64 that composed code has in common.

const B: u32 = 0x1400_0000;

/// `STR X<t>, [X11], #8`.
pub(crate) const fn log(t: u32) -> u32 {
    0xf800_8560 | t
}

/// `B <to>`, at `from`.
pub(crate) const fn branch(from: u64, to: u64) -> u32 {
    B | (to.wrapping_sub(from) >> 2) as u32 & 0x03ff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_those_of_the_assembler() {
        // As GNU as assembles `str x9, [x11], #8`, `b .`, `b .+16` and `b .-8`.
        assert_eq!(log(9), 0xf800_8569);
        assert_eq!(branch(0x1000, 0x1000), 0x1400_0000);
        assert_eq!(branch(0x1000, 0x1010), 0x1400_0004);
        assert_eq!(branch(0x1008, 0x1000), 0x17ff_fffe);
    }
}
