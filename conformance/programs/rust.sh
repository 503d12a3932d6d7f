# A Rust program: threads, channels, processes, panics.
cd /tmp; cat >main.rs <<'RS'
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, RwLock};
use std::time::{Duration, Instant};
use std::{fs, thread};

fn main() {
    let total = Arc::new(Mutex::new(0u64));
    let barrier = Arc::new(Barrier::new(8));
    let handles: Vec<_> = (0..8u64).map(|i| { let (total, barrier) = (total.clone(), barrier.clone()); thread::spawn(move || { barrier.wait(); for k in 0..10_000 { *total.lock().unwrap() += i * k; } }) }).collect();
    for handle in handles { handle.join().unwrap(); }
    println!("total {}", total.lock().unwrap());
    let (tx, rx) = mpsc::channel();
    for i in 0..4 { let tx = tx.clone(); thread::spawn(move || { for k in 0..100 { tx.send(i * 100 + k).unwrap(); } }); }
    drop(tx);
    println!("received {}", rx.iter().sum::<i32>());
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let started = Instant::now();
    let (lock, condvar) = &*pair;
    let (_guard, timeout) = condvar.wait_timeout(lock.lock().unwrap(), Duration::from_millis(30)).unwrap();
    println!("timed out {} {}", timeout.timed_out(), started.elapsed() >= Duration::from_millis(30));
    println!("panicked {:?}", thread::spawn(|| { std::panic::set_hook(Box::new(|_| {})); if true { panic!("on purpose") } }).join().is_err());
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through cat").unwrap();
    let mut text = String::new(); child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    println!("{text} {:?}", child.wait().unwrap().code());
    println!("{:?}", Command::new("/no/such").spawn().unwrap_err().kind());
    let map = RwLock::new(BTreeMap::new());
    thread::scope(|s| { for i in 0..4 { let map = &map; s.spawn(move || map.write().unwrap().insert(i, i * i)); } });
    println!("{:?}", map.read().unwrap());
    fs::create_dir_all("/tmp/r/a/b").unwrap(); fs::write("/tmp/r/a/file", vec![7; 100_000]).unwrap();
    println!("{} {:?}", fs::metadata("/tmp/r/a/file").unwrap().len(), fs::rename("/tmp/r/a/file", "/tmp/r/a/b/file").is_ok());
    let deep = thread::Builder::new().stack_size(64 << 20).spawn(|| { fn f(n: u32) -> u64 { let a = [n as u64; 64]; if n == 0 { 0 } else { f(n - 1) + a[(n % 64) as usize] } } f(50_000) }).unwrap();
    println!("{}", deep.join().unwrap());
    println!("{}", thread::available_parallelism().unwrap().get() > 0);
}
RS
rustc -O --edition 2021 main.rs -o main 2>&1; ./main; file -b main | cut -d, -f1-3
cat >over.rs <<'RS'
fn f(n: u64) -> u64 { let a = [n; 100]; if n == u64::MAX { 0 } else { f(n + 1) + a[(n % 100) as usize] } }
fn main() { println!("{}", f(0)); }
RS
rustc over.rs -o over 2>/dev/null; (ulimit -c 0; ./over 2>&1 | grep -v '^$' | grep -c overflow; exit ${PIPESTATUS[0]}); echo "overflow: $?"
printf '#[test]\nfn passes() {}\n#[test]\n#[should_panic]\nfn panics() { panic!() }\n' >t.rs; rustc --test t.rs -o t && ./t --test-threads 2 | sort | sed 's/finished in.*//'
