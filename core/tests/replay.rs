//! Random guests: calls out of the table with arguments of the right and of the wrong kind, injected faults,
//! and the replay of what happened.
//!
//! The seed is printed; `VARVE_TEST_SEED=N` runs one seed only.

mod generator;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use generator::{Random, furnish, layers, step};
use varve_core::Kernel;
use varve_core::abi::PAGE_SIZE;
use varve_core::boot::{BootConfig, Init, Layer, Strace, Tree};
use varve_core::event::{ExitStatus, Output};
use varve_core::journal::{Replay, Step};
use varve_core::machine::{ImageId, Trap};
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
        strace: Some(Strace::default()),
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

/// Makes the run again from its journal, which compares every output, every port call with its arguments (so
/// all bytes that the kernel wrote to guest memory) and the state after every input; gives the lines of
/// strace.
fn replay(images: &[Vec<u8>], journal: &[u8], first: &Machine) -> Vec<String> {
    let images = MemHost::new(FRAMES, images.to_vec()).images;
    let mut replay = Replay::open(journal).expect("it is whole");
    replay.trace(Strace::default());
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
            if let Output::Strace { tid, line, .. } = output {
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

/// A replay shows the same lines, but for what the kernel did not look at, as the call failed before: it has
/// an address there.
fn same_lines(then: &[String], replayed: &[String]) {
    let then: Vec<_> = then.iter().filter(|line| line.starts_with('[')).collect();
    assert_eq!(then.len(), replayed.len(), "strace's lines");
    for (then, replayed) in then.into_iter().zip(replayed) {
        if then == replayed {
            continue;
        }
        let ends = |line: &str| {
            let (call, result) = line.rsplit_once(" = ").unwrap_or((line, ""));
            let name = call.split('(').next().unwrap_or_default();
            (name.to_owned(), result.to_owned())
        };
        assert_eq!(ends(then), ends(replayed));
        assert!(replayed.contains("0x"), "{then}\n{replayed}");
    }
}

#[test]
fn a_recorded_run_shows_what_a_call_that_failed_early_was_given() {
    const UNLINKAT: u64 = 263;
    let images = layers();
    let mut machine = boot(&images).expect("the layers are whole");
    let first = machine.first();
    let mapped = machine.call(first, 9, &[0, PAGE_SIZE, 3, 0x22, u64::MAX, 0]);
    let addr = mapped.expect("it does not block") as u64;
    machine
        .poke(first, addr, b"/etc/name\0")
        .expect("there is memory");
    // Flags that there are not, which the kernel finds before it reads the path.
    let cwd = -100i64 as u64;
    assert_eq!(
        machine.call(first, UNLINKAT, &[cwd, addr, 1 << 20]),
        Some(-22)
    );
    let line = machine.lines.last().expect("it is traced").clone();
    assert!(
        line.contains("unlinkat(AT_FDCWD, \"/etc/name\", "),
        "{line}"
    );
    let journal = machine.finish().expect("it was recorded");
    same_lines(&machine.lines, &replay(&images, &journal, &machine));
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
        same_lines(&first.lines, &lines);
        steps += done;
        for line in &lines {
            if let Some((call, result)) = line.rsplit_once(" = ") {
                // "[1] getpid()"
                let name = call.split(['(', ']']).nth(1).unwrap_or_default();
                if !result.starts_with("-1") {
                    *results.entry(name.trim().to_owned()).or_default() += 1;
                }
            }
        }
    }
    results
}

#[test]
fn tracing_changes_nothing() {
    let images = layers();
    let run = |strace| {
        let layer = |number| Layer::Image(ImageId(number));
        let root = Tree {
            layers: (0..images.len() as u32).map(layer).collect(),
            upper_limit: Some(1 << 20),
            ..Tree::default()
        };
        let config = BootConfig {
            strace,
            ..bare(root)
        };
        let host = MemHost::new(FRAMES, images.clone());
        let mut machine = Machine::record(config, host, 1).expect("it boots");
        let random = Random::new(1);
        furnish(&mut machine);
        for _ in 0..STEPS / 2 {
            step(&mut machine, &random);
            if machine.exit.is_some() {
                break;
            }
        }
        (machine.finish().expect("it was recorded"), machine)
    };
    let (journal, plain) = run(None);
    let full = Strace {
        paths: true,
        full: true,
        ..Strace::default()
    };
    let (same, traced) = run(Some(full));
    assert_eq!(plain.kernel.digest(), traced.kernel.digest());
    assert!(journal == same, "the log knows nothing of it");
    assert!(traced.lines.len() > plain.lines.len() + 100);
    // What nobody looked at then is shown afterwards as it would have been.
    let lines = replay(&images, &journal, &plain);
    let (_, traced) = run(Some(Strace::default()));
    same_lines(&traced.lines, &lines);
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

/// How far a host's guests lag behind, and a host that has no room for more mappings, are part of the
/// journal.
#[test]
fn a_run_whose_host_lags_behind_is_made_again() {
    const MMAP: u64 = 9;
    const MUNMAP: u64 = 11;
    const PAGES: u64 = 8;
    let images = layers();
    let mut machine = boot(&images).expect("the layers are whole");
    let first = machine.first();
    machine.host.memory.flushed = Some(1);
    for round in 0..60 {
        let len = PAGES * PAGE_SIZE;
        let mapped = machine.call(first, MMAP, &[0, len, 3, 0x22, u64::MAX, 0]);
        let addr = mapped.expect("it does not block") as u64;
        for page in 0..PAGES {
            let written = machine.poke(first, addr + page * PAGE_SIZE, &[1]);
            written.expect("there is memory");
        }
        if round % 10 == 5 {
            let regs = machine.threads[&first].regs;
            machine.trap(first, regs, Trap::Crowded);
            assert!(machine.pages.is_empty());
            assert_eq!(machine.peek(first, addr, 1), Ok(vec![1]));
        }
        assert_eq!(machine.call(first, MUNMAP, &[addr, len]), Some(0));
        machine.kernel.check().unwrap();
        if round % 7 == 3 {
            // All but the last two inputs' outputs are in force; what they freed is used again.
            machine.host.memory.flushed = Some(machine.batch() - 1);
        }
    }
    let journal = machine.finish().expect("it was recorded");
    replay(&images, &journal, &machine);
}

/// The host loses a thread: of the program that was asked for it is the end of the run, and told as that,
/// whoever is the first process; of another one it is a kill.
#[test]
fn a_lost_program_is_no_program_that_was_killed() {
    const FORK: u64 = 57;
    const WAIT4: u64 = 61;
    const EXIT_GROUP: u64 = 231;
    let images = layers();
    for lost in ["init", "program", "another", "reused"] {
        let layer = |number| Layer::Image(ImageId(number));
        let root = Tree {
            layers: (0..images.len() as u32).map(layer).collect(),
            ..Tree::default()
        };
        let args = vec![b"/bin/program".to_vec()];
        let config = BootConfig {
            init: Init::Supervised { args },
            ..bare(root)
        };
        let host = MemHost::new(FRAMES, images.clone());
        let mut machine = Machine::record(config, host, 1).expect("it boots");
        let init = machine.first();
        let children = |machine: &Machine| -> Vec<_> {
            let others = machine.threads.keys().copied();
            others.filter(|&thread| thread != init).collect()
        };
        assert_eq!(machine.call(init, FORK, &[]), Some(2));
        let program = children(&machine)[0];
        let expected = match lost {
            "init" | "program" => {
                let thread = if lost == "init" { init } else { program };
                let regs = machine.threads[&thread].regs;
                machine.trap(thread, regs, Trap::Lost);
                ExitStatus::Lost
            }
            "another" => {
                assert_eq!(machine.call(init, FORK, &[]), Some(3));
                let other = children(&machine);
                let other = *other.iter().find(|&&other| other != program).expect("two");
                let regs = machine.threads[&other].regs;
                machine.trap(other, regs, Trap::Lost);
                ExitStatus::Exited(7)
            }
            _ => {
                // The program has ended as it wanted to; what is lost later is another matter.
                machine.call(program, EXIT_GROUP, &[7]);
                assert_eq!(machine.call(init, WAIT4, &[u64::MAX, 0, 0, 0]), Some(2));
                ExitStatus::Exited(7)
            }
        };
        if machine.exit.is_none() {
            machine.call(init, EXIT_GROUP, &[7]);
        }
        assert_eq!(machine.exit, Some(expected), "{lost}");
        let journal = machine.finish().expect("it was recorded");
        replay(&images, &journal, &machine);
    }
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
