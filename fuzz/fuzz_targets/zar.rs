//! Any bytes as an image of the zar tool.
#![no_main]

use std::sync::atomic::AtomicBool;

use libfuzzer_sys::fuzz_target;
use varve_fuzz::scratch;
use varve_image::oci::{ConvertOptions, Layout, Source, convert};

fuzz_target!(|bytes: &[u8]| {
    let dir = scratch();
    let file = dir.path().join("image.zar");
    std::fs::write(&file, bytes).unwrap();
    let layout = Layout::create(&dir.path().join("out")).unwrap();
    let stop = AtomicBool::new(false);
    let options = ConvertOptions::new("x", &stop);
    if convert(&Source::Zar(vec![file]), &layout, &options, &()).is_err() {
        assert!(layout.images().unwrap().is_empty());
    }
});
