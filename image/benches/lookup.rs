//! What a look-up costs in stacks of 1, 10, 50 and 100 layers, through the union and through the merged
//! index.
//!
//! Every layer has the same directories and files of its own; all files of the whole stack are looked up by
//! their full paths, in an order that jumps between layers. Nanoseconds for one path of three names, best of
//! several rounds taken in turn. Writes a table to standard output, and JSON to `VARVE_BENCH_JSON` if that is
//! set.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use varve_image::{BuildOptions, MergeLayer, build_dir, merge};
use varve_imgfs::{ImageId, MemBlock, MemImages, MergedIndex, Stack};

const DEPTHS: [usize; 4] = [1, 10, 50, 100];
/// Files of a stack, whatever its depth: what differs is only in how many layers they lie.
const FILES: usize = 4000;
const DIRS: usize = 20;
const ROUNDS: usize = 7;

/// The files of a stack of so many layers, built in a directory.
fn build(dir: &Path, depth: usize) -> Result<MemImages, Box<dyn Error>> {
    let mut blocks = Vec::new();
    for layer in 0..depth {
        let tree = dir.join(format!("{depth}-{layer}"));
        for sub in 0..DIRS {
            fs::create_dir_all(tree.join(format!("usr/d{sub}")))?;
        }
        for file in (layer..FILES).step_by(depth) {
            fs::write(tree.join(format!("usr/d{}/f{file}", file % DIRS)), "x")?;
        }
        let image = dir.join("image");
        build_dir(&tree, &image, &BuildOptions::default(), &mut ())?;
        blocks.push(MemBlock {
            bytes: fs::read(&image)?,
            mapped: true,
        });
        fs::remove_dir_all(tree)?;
    }
    let mut images = MemImages(blocks);
    let layers: Vec<_> = (0..depth)
        .map(|layer| MergeLayer {
            image: ImageId(layer as u32),
            digest: [layer as u8; 32],
        })
        .collect();
    let index = dir.join("index");
    merge(&images, &layers, &index, &mut ())?;
    images.0.push(MemBlock {
        bytes: fs::read(index)?,
        mapped: true,
    });
    Ok(images)
}

/// Looks all files up once; nanoseconds for each.
fn round(images: &MemImages, stack: &mut Stack) -> Result<f64, Box<dyn Error>> {
    let paths: Vec<_> = (0..FILES)
        .map(|number| number * 1009 % FILES)
        .map(|file| {
            [
                b"usr".to_vec(),
                format!("d{}", file % DIRS).into(),
                format!("f{file}").into(),
            ]
        })
        .collect();
    let start = Instant::now();
    for path in &paths {
        let mut dirs = Vec::with_capacity(3);
        let mut at = stack.root();
        for name in path {
            at = stack
                .lookup(images, at, name)
                .map_err(|errno| format!("{errno}"))?;
            dirs.push(at);
        }
        stack.attr(images, at).map_err(|errno| format!("{errno}"))?;
        for dir in dirs {
            stack.forget(dir);
        }
    }
    Ok(start.elapsed().as_nanos() as f64 / FILES as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let temp = tempfile::tempdir()?;
    let mut rows = Vec::new();
    for depth in DEPTHS {
        let images = build(temp.path(), depth)?;
        let ids: Vec<_> = (0..depth as u32).map(ImageId).collect();
        let index = MergedIndex {
            image: ImageId(depth as u32),
            digests: (0..depth).map(|layer| [layer as u8; 32]).collect(),
        };
        let union = Stack::open(&images, &ids, None).map_err(|e| format!("{e:?}"))?;
        let merged = Stack::open(&images, &ids, Some(&index)).map_err(|e| format!("{e:?}"))?;
        rows.push((depth, images, [union, merged], [f64::INFINITY; 2]));
    }
    for _ in 0..ROUNDS {
        for (_, images, stacks, best) in &mut rows {
            for (stack, best) in stacks.iter_mut().zip(best) {
                *best = best.min(round(images, stack)?);
            }
        }
    }
    let base = rows[0].3;
    println!(
        "{:>6} {:>10} {:>7} {:>10} {:>7}",
        "layers", "union ns", "ratio", "index ns", "ratio"
    );
    let mut list = Vec::new();
    for (depth, _, _, [union, merged]) in &rows {
        println!(
            "{depth:>6} {union:>10.0} {:>7.2} {merged:>10.0} {:>7.2}",
            union / base[0],
            merged / base[1]
        );
        list.push(serde_json::json!({ "layers": depth, "union_ns": union, "index_ns": merged }));
    }
    if let Some(path) = std::env::var_os("VARVE_BENCH_JSON") {
        fs::write(path, serde_json::to_string_pretty(&list)?)?;
    }
    Ok(())
}
