//! Random guests: calls out of the table with arguments of the right and of the wrong kind, injected faults, and the replay of what happened.
//!
//! The seed is printed; `VARVE_TEST_SEED=N` runs one seed only.

mod generator;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use generator::{Random, furnish, layers, step};
use varve_core::Kernel;
use varve_core::boot::{BootConfig, Layer, Tree};
use varve_core::event::Output;
use varve_core::journal::{Replay, Step};
use varve_core::machine::ImageId;
use varve_core::memhost::{Machine, MemHost, bare};

const SEEDS: u64 = 6;
/// Steps with one seed, on as many machines as it takes: a guest may end itself.
const STEPS: usize = 4000;
/// So few that guests run out of memory now and then.
const FRAMES: u32 = 1024;
/// `None`: an image is so damaged that nothing starts.
fn boot(images: &[Vec<u8>]) -> Option<Machine> {
    let layer = |number| Layer::Image(ImageId(number));
    let root = Tree {
        layers: (0..images.len() as u32).map(layer).collect(),
        read_only: false,
        upper_limit: Some(1 << 20),
        index: None,
    };
    let config = BootConfig {
        strace: true,
        vdso: true,
        ..bare(root)
    };
    Machine::record(config, MemHost::new(FRAMES, images.to_vec()), 1).ok()
}

fn run(images: &[Vec<u8>], random: &Random, steps: usize) -> Option<(Machine, usize)> {
    let mut machine = boot(images)?;
    furnish(&mut machine);
    let mut idle = 0;
    let mut done = 0;
    while done < steps {
        done += 1;
        step(&mut machine, random);
        if let Err(what) = machine.kernel.check() {
            let last = machine.lines.len().saturating_sub(5);
            panic!("{what}; the last lines: {:#?}", &machine.lines[last..]);
        }
        idle = match machine.threads.values().any(|thread| thread.runs) {
            true => 0,
            false => idle + 1,
        };
        if machine.exit.is_some() || idle > 20 {
            break;
        }
    }
    Some((machine, done))
}

/// Makes the run again from its journal, which compares every output, every port call with its arguments (so all bytes that the kernel wrote to guest
/// memory) and the state after every input; gives the lines of strace.
fn replay(images: &[Vec<u8>], journal: &[u8], first: &Machine) -> Vec<String> {
    let images = MemHost::new(FRAMES, images.to_vec()).images;
    let mut replay = Replay::open(journal).expect("it is whole");
    let mut inputs = Vec::new();
    let mut lines = Vec::new();
    loop {
        match replay
            .next(&images)
            .unwrap_or_else(|error| panic!("{error}"))
        {
            Some(Step::Input(now, input)) => inputs.push((now, input)),
            Some(_) => {}
            None => break,
        }
        for output in replay.outputs() {
            if let Output::Strace { tid, line } = output {
                lines.push(format!("[{tid}] {line}"));
            }
        }
    }
    assert!(inputs == first.log, "all inputs came back");
    let digest = replay.kernel().map(Kernel::digest);
    assert_eq!(digest, Some(first.kernel.digest()));
    assert_eq!(replay.exit(), first.exit);
    lines
}

fn seeds() -> Vec<u64> {
    match std::env::var("VARVE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("VARVE_TEST_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

fn with_seeds(test: impl Fn(u64)) {
    for seed in seeds() {
        println!("seed {seed}");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("again with VARVE_TEST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Runs guests and runs them again; gives how often each call succeeded.
fn twice(images: &[Vec<u8>], random: &Random) -> BTreeMap<String, usize> {
    let mut results = BTreeMap::new();
    let mut steps = 0;
    while steps < STEPS {
        let Some((mut first, done)) = run(images, random, STEPS - steps) else {
            return results;
        };
        let journal = first.finish().expect("it was recorded");
        let lines = replay(images, &journal, &first);
        let traced = first.lines.iter().filter(|line| line.starts_with('['));
        assert!(traced.eq(&lines), "strace's lines");
        steps += done;
        for line in &lines {
            if let Some((call, result)) = line.rsplit_once(" = ") {
                // "[1] getpid()"
                let name = call.split(['(', ']']).nth(1).unwrap_or_default();
                if !result.starts_with("-1") {
                    *results.entry(name.trim().to_string()).or_default() += 1;
                }
            }
        }
    }
    results
}

#[test]
fn a_log_of_inputs_gives_the_same_outputs_and_state() {
    let images = layers();
    with_seeds(|seed| {
        let succeeded = twice(&images, &Random::new(seed));
        // It is no use if nothing succeeds.
        assert!(succeeded.len() > 60, "{succeeded:?}");
    });
}

/// The images with eight bits turned.
fn damage(images: &[Vec<u8>], random: &Random) -> Vec<Vec<u8>> {
    let mut images = images.to_vec();
    for _ in 0..8 {
        // Behind the superblock.
        let image = random.below(2) as usize;
        let at = 1152 + random.below(images[image].len() as u64 - 1152) as usize;
        images[image][at] ^= 1 << random.below(8);
    }
    for image in &mut images {
        // `feature_compat`: without the checksum, which would give the damage away.
        image[1024 + 8] &= !1;
    }
    images
}

#[test]
fn damaged_layers_end_in_errors() {
    let images = layers();
    with_seeds(|seed| {
        let random = Random::new(!seed);
        // Such that there is something to run.
        let images = loop {
            let images = damage(&images, &random);
            if boot(&images).is_some() {
                break images;
            }
        };
        twice(&images, &random);
    });
}
