//! Path walk.
