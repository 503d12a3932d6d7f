//! Pipes and FIFOs.
