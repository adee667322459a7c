//! The pool: what is dropped is used again, and after many rounds there is no more of it than after two.

use lorahub_tensor::Backend;
use lorahub_webgpu::{Gpu, Options};

use crate::{Matrix, Values, open, read};

fn round(gpu: &Gpu, random: &mut Values) {
    let weight = Matrix::random(random, 30, 30, 0.2).weight(gpu);
    let mut x = Matrix::random(random, 40, 30, 1.0).tensor(gpu);
    for _ in 0..10 {
        x = gpu.add(&x, &gpu.linear(&x, &weight, None).unwrap()).unwrap();
    }
    read(gpu, &x);
}

#[test]
fn rounds_leave_nothing_behind() {
    let (gpu, mut random) = (open(Options::default()), Values(26));
    let start = gpu.memory();
    for _ in 0..2 {
        round(&gpu, &mut random);
    }
    let after_two = gpu.memory();
    assert_eq!(after_two.live_bytes, start.live_bytes);
    assert_eq!(after_two.live_buffers, start.live_buffers);
    for _ in 0..18 {
        round(&gpu, &mut random);
    }
    assert_eq!(gpu.memory(), after_two);
}

#[test]
fn the_pool_keeps_to_its_budget() {
    let (gpu, mut random) = (
        open(Options {
            pool_bytes: Some(0),
            ..Options::default()
        }),
        Values(27),
    );
    for _ in 0..3 {
        round(&gpu, &mut random);
    }
    // The last tensors came back after the last submission; the next one destroys them.
    pollster::block_on(gpu.checkpoint()).unwrap();
    let x = Matrix::random(&mut random, 1, 1, 1.0).tensor(&gpu);
    read(&gpu, &x);
    let memory = gpu.memory();
    assert_eq!(memory.free_bytes, 0, "{memory:?}");
}
