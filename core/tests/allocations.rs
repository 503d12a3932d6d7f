//! Calls that do not wait allocate nothing once everything they need is there.

#[path = "../../imgfs/tests/counting/mod.rs"]
mod counting;
#[path = "guest/direct.rs"]
mod direct;

use counting::counted;
use direct::{Direct, STEPS, files};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

#[test]
fn simple_calls_allocate_nothing() {
    let mut d = Direct::boot();
    let files = files(&mut d);
    let mut wrong = Vec::new();
    for step in STEPS {
        for _ in 0..100 {
            (step.run)(&mut d, &files);
        }
        let ((), allocations, _) = counted(|| {
            for _ in 0..1000 {
                (step.run)(&mut d, &files);
            }
        });
        if allocations > 0 {
            wrong.push((step.name, allocations));
        }
    }
    assert!(wrong.is_empty(), "allocations in 1000 steps: {wrong:?}");
}
