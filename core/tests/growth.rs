//! What a guest does with one of many things costs about the same however many there are.
//!
//! Work is counted by what the kernel looks at: `touching` says how.

mod growing;
mod touching;

use growing::{Growing, World};

#[global_allocator]
static ALLOCATOR: touching::Touching = touching::Touching;

/// How often something is done; the cheapest time counts, as tables grow at times.
const TIMES: u64 = 5;

/// Pages that are looked at with few things, and with four times as many.
fn looked_at(growing: &Growing, layer: &[u8]) -> [usize; 2] {
    let layer = growing.name.contains("layer").then(|| layer.to_vec());
    let mut w = World::boot(layer);
    (growing.setup)(&mut w);
    let mut made = 0;
    [growing.few, 4 * growing.few].map(|count| {
        while made < count {
            (growing.grow)(&mut w, made);
            made += 1;
        }
        w.m.watch = Some(touching::watch);
        let costs = (0..TIMES).map(|n| {
            touching::touched();
            (growing.step)(&mut w, n);
            touching::touched()
        });
        let least = costs.min().expect("several times");
        w.m.watch = None;
        w.m.kernel.check().unwrap();
        least
    })
}

#[test]
fn work_on_one_of_many_things_does_not_grow_with_their_number() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let layer = growing::layer();
    let mut wrong = Vec::new();
    for growing in growing::all().filter(|growing| growing.name.contains(&only)) {
        let [few, many] = touching::apart(|| looked_at(growing, &layer));
        println!("{:<60} {few:>6} {many:>6}", growing.name);
        // Trees of four times as many things are one level deeper.
        if many > few + few / 3 + 10 {
            wrong.push(format!("{}: {few} pages, then {many}", growing.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
