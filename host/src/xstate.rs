//! The floating-point state of a new program.

/// The state that a program starts with, as FXSAVE and XSAVE have it, `size` bytes long (at least 28): all
/// exceptions masked (`FCW` 0x37f, `MXCSR` 0x1f80), everything else zero.
pub fn fresh_xstate(size: usize) -> Vec<u8> {
    let mut state = vec![0; size];
    state[..2].copy_from_slice(&0x37fu16.to_le_bytes());
    state[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    state
}
