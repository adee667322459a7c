//! What does not fit is named, and a device that is gone says so.

use lorahub_tensor::{AttentionPlan, Backend, Segments, TensorError};
use lorahub_webgpu::{Options, WeightStorage};

use crate::{Matrix, Values, open, read};

fn message<T>(result: Result<T, TensorError>) -> String {
    result.map(|_| ()).expect_err("this must not fit").to_string()
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (gpu, mut random) = (open(Options::default()), Values(24));
    let weight = Matrix::random(&mut random, 3, 4, 1.0).weight(&gpu);
    let x = Matrix::random(&mut random, 2, 5, 1.0).tensor(&gpu);
    let error = message(gpu.linear(&x, &weight, None));
    assert!(error.contains("4 columns") && error.contains("5 columns"), "{error}");
    let error = message(gpu.embed(&weight, &gpu.ids(&[0, 3]).unwrap()));
    assert!(error.contains("id 3") && error.contains("3 rows"), "{error}");
    let error = message(gpu.add(&x, &Matrix::random(&mut random, 5, 2, 1.0).tensor(&gpu)));
    assert!(error.contains("(2, 5)") && error.contains("(5, 2)"), "{error}");
    let error = message(gpu.gather_rows(&x, &[0, 2]));
    assert!(error.contains("id 2"), "{error}");
    let error = message(gpu.weight(&[2, 2], vec![0.0; 3]));
    assert!(error.contains("4 values") && error.contains("3 values"), "{error}");
    let segments = Segments::new(vec![2]).unwrap();
    let error = message(pollster::block_on(gpu.nll(&x, &weight, 1.0, &[0, 0], &segments, 1)));
    assert!(error.contains("nll"), "{error}");
    let plan = AttentionPlan {
        candidates: 2,
        query: &segments,
        key: &segments,
        heads: 1,
        causal: false,
    };
    let error = message(gpu.attention(&x, &x, &x, &plan, None));
    assert!(error.contains("4 rows") && error.contains("2 rows"), "{error}");
}

#[test]
fn a_matrix_larger_than_a_binding_is_refused_with_both_numbers() {
    let gpu = open(Options {
        weights: WeightStorage::F32,
        max_binding_bytes: Some(4096),
        ..Options::default()
    });
    let error = gpu.weight(&[40, 40], vec![1.0; 1600]).map(|_| ()).unwrap_err();
    let TensorError::Device(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.code, "adapter_too_small");
    let error = error.to_string();
    assert!(
        error.contains("6400") && error.contains("4096") && error.contains("binding_size"),
        "{error}"
    );
}

/// A full device says what it had no room for; what it holds stays usable, and what is dropped makes room.
#[test]
fn a_full_device_is_out_of_memory() {
    let gpu = open(Options {
        weights: WeightStorage::F32,
        pool_bytes: Some(0),
        device_bytes: Some(48 << 10),
        ..Options::default()
    });
    let values = || vec![1.0; 8 << 10];
    let held = gpu.weight(&[64, 128], values()).unwrap();
    let error = gpu.weight(&[64, 128], values()).map(|_| ()).unwrap_err();
    let TensorError::Device(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.code, "device_memory");
    let error = error.to_string();
    assert!(
        error.contains("32768") && error.contains("weights") && error.contains("in use"),
        "{error}"
    );
    let x = gpu.embed(&held, &gpu.ids(&[3]).unwrap()).unwrap();
    assert_eq!(read(&gpu, &x), [1.0; 128]);
    drop(held);
    pollster::block_on(gpu.checkpoint()).unwrap();
    read(&gpu, &gpu.add(&x, &x).unwrap());
    gpu.weight(&[64, 128], values()).unwrap();
}

#[test]
fn a_lost_device_says_so_from_then_on() {
    fn lost<T>(what: &str, result: Result<T, TensorError>) {
        match result {
            Err(TensorError::Device(error)) => assert_eq!(error.code, "device_lost", "{what}: {error}"),
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what}: the device is gone"),
        }
    }
    let gpu = open(Options::default());
    let mut random = Values(25);
    let weight = Matrix::random(&mut random, 4, 4, 1.0).weight(&gpu);
    let norm = gpu.weight(&[4], vec![1.0; 4]).unwrap();
    let x = Matrix::random(&mut random, 4, 4, 1.0).tensor(&gpu);
    let ids = gpu.argmax(&x, &weight).unwrap();
    let bias = gpu.relative_bias(&weight, &[0, 1, 2]).unwrap();
    let mut cache = gpu.cache(4, 2, 4).unwrap();
    let segments = Segments::new(vec![4]).unwrap();
    let plan = AttentionPlan {
        candidates: 1,
        query: &segments,
        key: &segments,
        heads: 1,
        causal: false,
    };
    read(&gpu, &x);
    // Recorded and not submitted when the device goes.
    let y = gpu.add(&x, &x).unwrap();
    gpu.destroy();
    lost("read", pollster::block_on(gpu.read(&y)));
    lost("read_ids", pollster::block_on(gpu.read_ids(&ids)));
    lost(
        "read_steps",
        pollster::block_on(gpu.read_steps(std::slice::from_ref(&ids))),
    );
    lost("checkpoint", pollster::block_on(gpu.checkpoint()));
    lost("weight", gpu.weight(&[2], vec![0.0; 2]));
    lost("ids", gpu.ids(&[1]));
    lost("embed", gpu.embed(&weight, &ids));
    lost("rms_norm", gpu.rms_norm(&x, &norm, 1e-6));
    lost("linear", gpu.linear(&x, &weight, None));
    lost("repeat", gpu.repeat(&x, 2));
    lost("relative_bias", gpu.relative_bias(&weight, &[0, 1, 2]));
    lost("attention", gpu.attention(&x, &x, &x, &plan, None));
    lost("cache", gpu.cache(1, 1, 4));
    lost("attention_step", gpu.attention_step(&x, &x, &x, &mut cache, 4, &bias));
    lost("cache_keep", gpu.cache_keep(&mut cache, &[0]));
    lost("gated_gelu", gpu.gated_gelu(&x, &x));
    lost("relu", gpu.relu(&x));
    lost("add", gpu.add(&x, &x));
    lost("gather_rows", gpu.gather_rows(&x, &[0]));
    lost("logits", gpu.logits(&x, &weight, 1.0));
    lost(
        "nll",
        pollster::block_on(gpu.nll(&x, &weight, 1.0, &[0; 4], &segments, 1)),
    );
    lost("argmax", gpu.argmax(&x, &weight));

    // And another one can be opened at once.
    let gpu = open(Options::default());
    let x = Matrix::random(&mut random, 2, 4, 1.0);
    let doubled: Vec<f32> = x.data.iter().map(|value| value + value).collect();
    let x = x.tensor(&gpu);
    assert_eq!(read(&gpu, &gpu.add(&x, &x).unwrap()), doubled);
}

#[test]
fn a_checkpoint_can_stop_the_pass() {
    let gpu = open(Options::default().with_yield(|| std::future::ready(false)));
    assert!(matches!(
        pollster::block_on(gpu.checkpoint()),
        Err(TensorError::Cancelled)
    ));
    let gpu = open(Options::default().with_yield(|| std::future::ready(true)));
    assert!(pollster::block_on(gpu.checkpoint()).is_ok());
}

#[test]
fn the_name_says_adapter_and_kernel() {
    let gpu = open(Options::default());
    let name = gpu.name();
    assert!(
        name.starts_with("webgpu (") && name.contains(gpu.matmul().name()),
        "{name}"
    );
    assert_eq!(gpu.is_software(), name.contains("software"), "{name}");
}
