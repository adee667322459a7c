//! The CPU on matrices that it holds narrow: every operation gives what it gives in f32 on the widened values.

use candle_core::{DType, Device, Tensor, Var};
use lorahub_tensor::{Arithmetic, AttentionPlan, Backend, Cpu, CpuTensor, Segments, TensorError, WeightStorage};
use lorahub_weights::quant::{Format, Narrow};

/// Irregular values between -1 and 1.
fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| ((i as f32 + seed) * 12.9898).sin()).collect()
}

/// One product is cut into blocks of columns and the other is not, which sums in another order.
fn assert_close(what: &str, narrow: &[f32], wide: &[f32]) {
    assert_eq!(narrow.len(), wide.len(), "{what}");
    let largest = wide.iter().fold(1f32, |max, value| max.max(value.abs()));
    for (index, (a, b)) in narrow.iter().zip(wide).enumerate() {
        assert!((a - b).abs() <= 4e-6 * largest, "{what}[{index}]: {a}, in f32 {b}");
    }
}

/// Everything that reads a matrix: rows, a bias, a product, losses, scores, and the best ids.
fn all(cpu: &Cpu, shape: [usize; 2], table: &[f32], x: &[f32]) -> ([Vec<f32>; 5], Vec<u32>) {
    let [rows, columns] = shape;
    let weight = cpu.weight(&shape, table.to_vec()).unwrap();
    let read = |tensor| pollster::block_on(cpu.read(&tensor)).unwrap();
    let ids: Vec<u32> = (0..7).map(|i| (i * 31 % rows) as u32).collect();
    let count = x.len() / columns;
    let x = CpuTensor::from_candle(&Tensor::from_slice(x, (count, columns), &Device::Cpu).unwrap()).unwrap();
    let segments = Segments::new(vec![1, count - 1]).unwrap();
    let bias = cpu.relative_bias(&weight, &[5, 1, 9, 2, 30]).unwrap();
    let three = Segments::new(vec![3]).unwrap();
    let plan = AttentionPlan {
        candidates: 1,
        query: &three,
        key: &three,
        heads: columns,
        causal: false,
    };
    let tensor =
        |data: Vec<f32>| CpuTensor::from_candle(&Tensor::from_vec(data, (3, columns), &Device::Cpu).unwrap()).unwrap();
    let (zero, names) = (tensor(vec![0.0; 3 * columns]), tensor(values(3 * columns, 5.0)));
    let targets: Vec<u32> = (0..count).map(|i| (i * 17 % rows) as u32).collect();
    (
        [
            read(cpu.embed(&weight, &cpu.ids(&ids).unwrap()).unwrap()),
            read(cpu.linear(&x, &weight, None).unwrap()),
            read(pollster::block_on(cpu.nll(&x, &weight, 0.5, &targets, &segments, 1)).unwrap()),
            read(cpu.logits(&x, &weight, 0.5).unwrap()),
            // The bias alone: queries of zero, and values that name their key.
            read(cpu.attention(&zero, &zero, &names, &plan, Some(&bias)).unwrap()),
        ],
        pollster::block_on(cpu.read_ids(&cpu.argmax(&x, &weight).unwrap())).unwrap(),
    )
}

#[test]
fn narrow_is_f32_on_the_widened_values() {
    for (storage, format) in [
        (WeightStorage::F16, Format::F16),
        (WeightStorage::Q8, Format::Q8_0),
        (WeightStorage::Q4, Format::Q4_0),
    ] {
        // One row of the result and many; 900 x 256 is widened in two blocks; 150 scores past the 128 rows of a block.
        for ([rows, columns], count) in [([40, 32], 2), ([77, 96], 5), ([900, 256], 33), ([33, 64], 150)] {
            let table = values(rows * columns, 1.0);
            let x = values(count * columns, 2.0);
            let widened = Narrow::quantise(format, rows, columns, &table).unwrap().widen();
            let (wide, wide_ids) = all(&Cpu::new(), [rows, columns], &widened, &x);
            let narrow = Cpu::new().with_weights(storage);
            for cpu in [narrow.clone(), narrow.with_packed_weights()] {
                let (narrow, ids) = all(&cpu, [rows, columns], &table, &x);
                let what = format!("{} {rows} x {columns}", storage.name());
                assert_eq!(narrow[0], wide[0], "{what}: rows are copies");
                for (narrow, wide) in narrow.iter().zip(&wide) {
                    assert_close(&what, narrow, wide);
                }
                assert_eq!(ids, wide_ids, "{what}");
            }
        }
    }
}

/// What wasm does, natively: sizes that are no multiple of a panel, and more inputs than a block of `k`.
#[test]
fn packed_for_the_kernels_is_the_same_matrix() {
    for ([rows, columns], count) in [([40, 32], 2), ([77, 97], 5), ([35, 515], 33), ([33, 1], 150)] {
        let (table, x) = (values(rows * columns, 1.0), values(count * columns, 2.0));
        let (packed, ids) = all(&Cpu::new().with_packed_weights(), [rows, columns], &table, &x);
        let (wide, wide_ids) = all(&Cpu::new(), [rows, columns], &table, &x);
        assert_eq!(packed[0], wide[0], "rows are copies");
        for (packed, wide) in packed.iter().zip(&wide) {
            assert_close(&format!("{rows} x {columns}"), packed, wide);
        }
        assert_eq!(ids, wide_ids);
    }
}

/// Activations are rounded to 16 bits, and nothing else is.
#[test]
fn integer_products_are_those_of_rounded_activations() {
    for ([rows, columns], count) in [([40, 32], 1), ([77, 96], 5), ([90, 1024], 33)] {
        let (table, x) = (values(rows * columns, 1.0), values(count * columns, 2.0));
        let widened = Narrow::quantise(Format::Q8_0, rows, columns, &table).unwrap().widen();
        let product = |arithmetic| {
            let cpu = Cpu::new().with_weights(WeightStorage::Q8).with_packed_weights();
            let cpu = cpu.with_arithmetic(arithmetic);
            let weight = cpu.weight(&[rows, columns], table.clone()).unwrap();
            let x = Tensor::from_slice(&x, (count, columns), &Device::Cpu).unwrap();
            let x = CpuTensor::from_candle(&x).unwrap();
            pollster::block_on(cpu.read(&cpu.linear(&x, &weight, None).unwrap())).unwrap()
        };
        let (exact, integer) = (product(Arithmetic::F32), product(Arithmetic::Integer));
        assert_ne!(exact, integer, "the mode is off");
        for (at, (exact, integer)) in exact.iter().zip(&integer).enumerate() {
            let largest = x[at / rows * columns..][..columns]
                .iter()
                .fold(0f32, |most, x| most.max(x.abs()));
            let weights: f32 = widened[at % rows * columns..][..columns]
                .iter()
                .map(|weight| weight.abs())
                .sum();
            // Half a step for each activation, and as much again for what f32 rounds.
            let tolerance = largest / 32767.0 * weights;
            assert!(
                (exact - integer).abs() <= tolerance,
                "{exact} and {integer}, {tolerance}"
            );
        }
    }
}

#[test]
fn narrow_takes_less_memory() {
    let data = values(64 * 64, 3.0);
    let bytes = |storage| {
        Cpu::new()
            .with_weights(storage)
            .weight(&[64, 64], data.clone())
            .unwrap()
            .bytes()
    };
    let f32_bytes = 64 * 64 * 4;
    assert_eq!(bytes(WeightStorage::F32), f32_bytes);
    assert_eq!(bytes(WeightStorage::Lossless), f32_bytes, "these values are no f16");
    assert_eq!(bytes(WeightStorage::F16), f32_bytes / 2);
    assert_eq!(bytes(WeightStorage::Q8), 64 * 2 * 34);
    assert_eq!(bytes(WeightStorage::Q4), 64 * 2 * 18);
    let exact = Cpu::new().with_weights(WeightStorage::Lossless);
    assert_eq!(
        exact.weight(&[64, 64], vec![0.5; 64 * 64]).unwrap().bytes(),
        f32_bytes / 2
    );
}

#[test]
fn gradients_need_f32() {
    let cpu = Cpu::new().with_weights(WeightStorage::Q8);
    let weight = cpu.weight(&[64, 64], values(64 * 64, 4.0)).unwrap();
    let x = Var::zeros((2, 64), DType::F32, &Device::Cpu).unwrap();
    let x = CpuTensor::from_candle(x.as_tensor()).unwrap();
    let error = cpu.linear(&x, &weight, None).unwrap_err();
    assert!(matches!(error, TensorError::Shape { .. }));
    assert!(
        error.to_string().contains("q8_0") && error.to_string().contains("gradients"),
        "{error}"
    );
}

#[test]
fn the_name_says_how_weights_are_held() {
    assert!(!Cpu::new().name().contains("weights"));
    assert!(
        Cpu::new()
            .with_weights(WeightStorage::Q8)
            .name()
            .contains("q8_0 weights")
    );
    let integer = |cpu: Cpu| {
        cpu.with_arithmetic(Arithmetic::Integer)
            .name()
            .contains("integer products")
    };
    let packed = Cpu::new().with_packed_weights();
    assert!(integer(packed.clone().with_weights(WeightStorage::Q8)));
    assert!(!integer(packed), "other matrices are not multiplied in integers");
    assert!(
        !integer(Cpu::new().with_weights(WeightStorage::Q8)),
        "nor are those that are not packed"
    );
}
