//! What calls cost in the core alone while a structure grows: nanoseconds for a step with n, 2n and 4n things
//! in it.
//!
//! `cargo bench -p varve-core --bench growth [NAME]`

#[path = "../tests/growing/mod.rs"]
mod growing;

use std::cell::Cell;
use std::time::Instant;

use growing::{Growing, World};

/// How often a step is made; the fastest time counts, as the machine does other things too.
const TIMES: u64 = 9;

thread_local! {
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static NANOS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the time that the kernel takes for inputs, without what the in-memory host does.
fn watch(on: bool) {
    match on {
        true => SINCE.set(Some(Instant::now())),
        false => {
            let took = SINCE.take().map_or(0, |since| since.elapsed().as_nanos());
            NANOS.set(NANOS.get() + took as u64);
        }
    }
}

fn measure(growing: &Growing, layer: &[u8]) -> [u64; 3] {
    let layer = growing.name.contains("layer").then(|| layer.to_vec());
    let mut w = World::boot(layer);
    (growing.setup)(&mut w);
    let mut made = 0;
    [1, 2, 4].map(|times| {
        while made < times * growing.few {
            (growing.grow)(&mut w, made);
            made += 1;
        }
        w.m.watch = Some(watch);
        let costs = (0..TIMES).map(|n| {
            NANOS.set(0);
            (growing.step)(&mut w, n);
            NANOS.get()
        });
        let least = costs.min().expect("several times");
        w.m.watch = None;
        least
    })
}

fn main() {
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(&**part));
    let layer = growing::layer();
    println!(
        "{:<60} {:>6} {:>9} {:>9} {:>9}",
        "", "n", "n: ns", "2n", "4n"
    );
    for growing in growing::all().filter(|growing| wanted(growing.name)) {
        let [one, two, four] = measure(growing, &layer);
        println!(
            "{:<60} {:>6} {one:>9} {two:>9} {four:>9}",
            growing.name, growing.few
        );
    }
}
