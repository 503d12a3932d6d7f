//! A million random system calls: none panics, none answers without bound, and the kernel's books agree all
//! the way.
//!
//! `VARVE_TEST_CALLS=N` makes N calls; `VARVE_TEST_SEED=N` starts from another seed (seeds follow each other
//! until all calls are made).

mod generator;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use generator::{OUTPUTS_MAX, Random, furnish, layers, machine, step};
use varve_core::memhost::Machine;

const CALLS: usize = 1_000_000;
/// Calls of one machine at most, so that the guests of many begin afresh.
const MACHINE_CALLS: usize = 20_000;
const CHECK_EVERY: usize = 2500;
/// Steps in which nothing runs before a machine is given up.
const IDLE_MAX: usize = 6;

fn number(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

/// Makes calls until the guests have ended; gives how many.
fn run(images: &[Vec<u8>], random: &Random, calls: usize, seen: &mut BTreeSet<u64>) -> usize {
    let mut machine = machine(images, random);
    furnish(&mut machine);
    let (mut done, mut idle) = (0, 0);
    let check = |machine: &Machine| {
        if let Err(what) = machine.kernel.check() {
            panic!("{what}");
        }
    };
    while done < calls && machine.exit.is_none() && idle < IDLE_MAX {
        if let Some(entry) = step(&mut machine, random) {
            done += 1;
            seen.insert(entry.number);
        }
        let outputs = machine.last.len();
        assert!(outputs <= OUTPUTS_MAX, "{outputs} outputs of one input");
        if done % CHECK_EVERY == 0 {
            check(&machine);
        }
        idle = match machine.threads.values().any(|thread| thread.runs) {
            true => 0,
            false => idle + 1,
        };
        machine.log.clear();
        machine.lines.clear();
    }
    check(&machine);
    done
}

#[test]
fn a_million_random_calls() {
    let images = layers();
    let calls = number("VARVE_TEST_CALLS", CALLS);
    let mut seed = number("VARVE_TEST_SEED", 0) as u64;
    let mut seen = BTreeSet::new();
    let (mut done, mut machines) = (0, 0);
    while done < calls {
        let most = MACHINE_CALLS.min(calls - done);
        let made = catch_unwind(AssertUnwindSafe(|| {
            run(&images, &Random::new(seed), most, &mut seen)
        }));
        match made {
            // A machine that ends at once has made a step of its seed all the same.
            Ok(made) => done += made.max(1),
            Err(panic) => {
                eprintln!("again with VARVE_TEST_CALLS={most} VARVE_TEST_SEED={seed}");
                resume_unwind(panic);
            }
        }
        seed += 1;
        machines += 1;
    }
    println!(
        "{done} calls on {machines} machines, {} of the table",
        seen.len()
    );
    let there = varve_core::syscall::TABLE
        .iter()
        .filter(|entry| !matches!(entry.support, varve_core::syscall::Support::Missing(_)));
    assert!(seen.len() + 3 > there.count());
}
