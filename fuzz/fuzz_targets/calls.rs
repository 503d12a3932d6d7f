//! Guests that make the system calls an input says, and what happens around them: nothing panics, no input
//! has outputs without bound, and the kernel's books agree at the end.
#![no_main]

#[path = "../../core/tests/generator/mod.rs"]
mod generator;

use std::sync::OnceLock;

use generator::{Random, furnish, layers, machine, step};
use libfuzzer_sys::fuzz_target;

/// Most steps of one input.
const STEPS_MAX: usize = 400;

fuzz_target!(|data: &[u8]| {
    static IMAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let images = IMAGES.get_or_init(layers);
    let random = Random::from_bytes(data);
    let mut machine = machine(images, &random);
    furnish(&mut machine);
    for _ in 0..STEPS_MAX {
        if random.is_used_up() || machine.exit.is_some() {
            break;
        }
        step(&mut machine, &random);
        let outputs = machine.last.len();
        assert!(
            outputs <= generator::OUTPUTS_MAX,
            "{outputs} outputs of one input"
        );
        machine.log.clear();
        machine.lines.clear();
    }
    if let Err(what) = machine.kernel.check() {
        panic!("{what}");
    }
});
