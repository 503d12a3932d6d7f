//! What system calls cost in the core alone: calls a second on one processor, and allocations in each, on the
//! in-memory host.
//!
//! `cargo bench -p varve-core --bench calls [NAME]`

#[path = "../../imgfs/tests/counting/mod.rs"]
mod counting;
#[path = "../tests/guest/direct.rs"]
mod direct;

use std::time::{Duration, Instant};

use counting::counted;
use direct::{Direct, STEPS, files};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// How long a step is repeated, and how often; the best one counts, as the machine does other things too.
const TIME: Duration = Duration::from_millis(50);
const ROUNDS: u32 = 5;

fn main() {
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(&**part));
    println!("{:<32} {:>12} {:>12}", "call", "calls/s", "allocations");
    for step in STEPS.iter().filter(|step| wanted(step.name)) {
        let mut d = Direct::boot();
        let files = files(&mut d);
        let (mut best, mut allocations, mut steps) = (0.0_f64, 0, 0_u64);
        for round in 0..=ROUNDS {
            let start = Instant::now();
            let mut count = 0_u32;
            let ((), made, _) = counted(|| {
                while start.elapsed() < TIME {
                    for _ in 0..100 {
                        (step.run)(&mut d, &files);
                    }
                    count += 100;
                }
            });
            // The first round warms up.
            if round > 0 {
                let calls = f64::from(count) * f64::from(step.calls);
                best = best.max(calls / start.elapsed().as_secs_f64());
                allocations += made;
                steps += u64::from(count);
            }
        }
        let each = allocations as f64 / steps as f64 / f64::from(step.calls);
        println!("{:<32} {best:>12.0} {each:>12.2}", step.name);
    }
    faults();
}

/// First touches of anonymous memory, one page after another: pages a second.
fn faults() {
    const PAGES: u64 = 2048;
    const ROUNDS: u64 = 20;
    let mut d = Direct::boot();
    let (mut inputs, mut time) = (0, Duration::ZERO);
    for _ in 0..ROUNDS {
        let at = d.call6(9, [0, PAGES * 4096, 3, 0x22, u64::MAX, 0]) as u64;
        let start = Instant::now();
        let mut page = 0;
        while page < PAGES {
            let made = d.write_fault(at + page * 4096);
            inputs += 1;
            page += made.max(1);
        }
        time += start.elapsed();
        assert_eq!(d.call(11, [at, PAGES * 4096, 0, 0]), 0);
    }
    let pages = (PAGES * ROUNDS) as f64;
    println!(
        "first touch: {:.0} pages/s, {:.1} pages a fault",
        pages / time.as_secs_f64(),
        pages / f64::from(inputs)
    );
}
