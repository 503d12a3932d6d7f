//! Any bytes as an archive: a layer or an error, and a layer is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use varve_imgfs::{ImageId};
use varve_fuzz::{images, read_all, scratch};
use varve_image::{BuildOptions, build_tar, check};

fuzz_target!(|bytes: &[u8]| {
    let dir = scratch();
    let image = dir.path().join("layer");
    let built = build_tar(
        &mut &bytes[..],
        "fuzz",
        &image,
        &BuildOptions::default(),
        &mut (),
    );
    match built {
        Ok(report) if report.image_bytes < 64 << 20 => {
            let all = images(vec![std::fs::read(&image).unwrap()]);
            let report = check(&all, ImageId(0), &[]).unwrap();
            assert!(report.faults.is_empty(), "{:?}", report.faults);
            read_all(&all, &[ImageId(0)]);
        }
        Ok(_) => {}
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!image.exists());
        }
    }
});
