//! Products with packed weights.

use std::ops::Range;

use half::f16;
use lorahub_kernels::{
    K_BLOCK, Output, PANEL, PackedF16, PackedF32, PackedQ8, Q8_BLOCK, Rows, RowsMut, Scratch, Weight, multiply,
    packed_rows, transpose,
};

use super::{Numbers, UNIT, assert_near};

/// `x W^T`, all rows and columns at once.
fn product<W: Weight>(x: &[f32], m: usize, weight: W) -> Vec<f32> {
    let mut out = vec![f32::NAN; m * weight.outputs()];
    let mut to = RowsMut {
        data: &mut out,
        stride: weight.outputs(),
    };
    let x = Rows::new(x, m, weight.inputs());
    multiply(
        x,
        weight,
        0..weight.outputs(),
        &mut to,
        Output::Store,
        &mut Scratch::default(),
    );
    out
}

fn packed(w: &[f32], n: usize, k: usize) -> PackedF32 {
    PackedF32::new(Rows::new(w, n, k), k)
}

/// Compares with f64. Every one of the k products and k sums (and of the blocks' sums) rounds once, relative to partial
/// sums that are at most the sum of magnitudes: k + blocks + 1 units of it, to first order; 2 more cover the rest.
fn check(out: &[f32], x: &[f32], w: &[f32], m: usize, n: usize, k: usize) {
    assert_eq!(out.len(), m * n);
    for row in 0..m {
        for column in 0..n {
            let (mut sum, mut magnitude) = (0f64, 0f64);
            for i in 0..k {
                let term = f64::from(x[row * k + i]) * f64::from(w[column * k + i]);
                sum += term;
                magnitude += term.abs();
            }
            let roundings = (k + k.div_ceil(K_BLOCK) + 3) as f64;
            let tolerance = roundings * (UNIT * magnitude + f64::from(f32::from_bits(1)));
            assert_near(out[row * n + column], sum, tolerance, || {
                format!("[{row}, {column}] of {m} x {k} x {n}")
            });
        }
    }
}

fn check_shape(m: usize, n: usize, k: usize, scale: f32) {
    let mut numbers = Numbers((m * 1_000_000 + n * 1000 + k) as u64);
    let x: Vec<f32> = numbers.take(m * k).iter().map(|value| value * scale).collect();
    let w = numbers.take(n * k);
    check(&product(&x, m, packed(&w, n, k).view()), &x, &w, m, n, k);
    let mut transposed = PackedF32::default();
    let columns: Vec<f32> = (0..k)
        .flat_map(|i| (0..n).map(move |j| (i, j)))
        .map(|(i, j)| w[j * k + i])
        .collect();
    transposed.pack_transposed(Rows::new(&columns, k, n), n);
    assert_eq!(
        product(&x, m, transposed.view()),
        product(&x, m, packed(&w, n, k).view())
    );
}

pub(crate) fn products_of_every_small_shape() {
    for m in 1..=20 {
        for n in 1..=20 {
            for k in 1..=20 {
                check_shape(m, n, k, 1.0);
            }
        }
    }
}

pub(crate) fn products_around_the_blocks() {
    for k in [K_BLOCK - 1, K_BLOCK, K_BLOCK + 1, 2 * K_BLOCK + 3] {
        for m in [1, 2, 5] {
            for n in [PANEL - 1, PANEL, PANEL + 1, 2 * PANEL, 3 * PANEL, 3 * PANEL + 1] {
                check_shape(m, n, k, 1.0);
            }
        }
    }
    // The block of rows is 240.
    for m in [239, 240, 241, 481] {
        check_shape(m, 35, 33, 1.0);
    }
}

pub(crate) fn products_of_extreme_values() {
    // The last two reach f32's end with all terms of one sign: 520 * 6e35, and 9 * 3.5e37.
    for scale in [0.0, 1e-38, 1e4, 6e35] {
        check_shape(4, 17, 520, scale);
    }
    for (m, n, k) in [(1, 16, 7), (1, 33, 7), (3, 40, 9)] {
        check_shape(m, n, k, 3.5e37);
    }
    // The sum is beyond f32, although no term is.
    let out = product(&[3e38; 8], 2, packed(&[1.0; 20 * 4], 20, 4).view());
    assert!(out.iter().all(|&value| value == f32::INFINITY), "{out:?}");
}

/// The three formats of the same random matrix.
fn formats(n: usize, k: usize, seed: u64) -> (PackedF32, PackedF16, PackedQ8) {
    let mut numbers = Numbers(seed);
    let halves: Vec<[u8; 2]> = numbers
        .take(n * k)
        .iter()
        .map(|&value| f16::from_f32(value).to_le_bytes())
        .collect();
    let (values, scales) = q8(&mut numbers, n, k);
    (
        packed(&numbers.take(n * k), n, k),
        PackedF16::new(&halves, n, k),
        PackedQ8::new(&values, &scales, n, k),
    )
}

/// Bytes and the bits of their scales.
pub(super) fn q8(numbers: &mut Numbers, n: usize, k: usize) -> (Vec<i8>, Vec<u16>) {
    let values = numbers
        .take(n * k)
        .iter()
        .map(|value| (value * 127.0).round() as i8)
        .collect();
    let scales = numbers.take(n * k.div_ceil(Q8_BLOCK));
    let scales = scales.iter().map(|&value| f16::from_f32(value / 100.0).to_bits());
    (values, scales.collect())
}

fn check_bits<W: Weight>(weight: W, seed: u64) {
    let (n, k) = (weight.outputs(), weight.inputs());
    for m in [2, 3, 4, 7, 241] {
        let x = Numbers(seed).take(m * k);
        let together = product(&x, m, weight);
        for (row, x) in x.chunks_exact(k).enumerate() {
            let alone = product(x, 1, weight);
            for (a, b) in alone.iter().zip(&together[row * n..]) {
                assert_eq!(a.to_bits(), b.to_bits(), "row {row} of {m} x {k} x {n}");
            }
        }
    }
}

pub(crate) fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    for (n, k) in [(16, 40), (33, 65), (48, 700), (7, 1030)] {
        let (f32s, halves, bytes) = formats(n, k, 5);
        check_bits(f32s.view(), 6);
        check_bits(halves.view(), 7);
        check_bits(bytes.view(), 8);
    }
}

pub(crate) fn columns_are_a_part_of_the_whole() {
    let (m, n, k) = (5, 70, 45);
    let (weight, _, bytes) = formats(n, k, 9);
    let x = Numbers(10).take(m * k);
    for columns in [0..16, 16..17, 16..70, 64..70, 32..64, 48..48, 0..69] {
        check_columns(&x, m, weight.view(), columns.clone());
        check_columns(&x, m, bytes.view(), columns.clone());
        check_columns(&x, 1, weight.view(), columns);
    }
}

fn check_columns<W: Weight>(x: &[f32], m: usize, weight: W, columns: std::ops::Range<usize>) {
    let (n, width) = (weight.outputs(), columns.len());
    let whole = product(x, m, weight);
    let mut part = vec![7.0; m * width];
    let mut out = RowsMut {
        data: &mut part,
        stride: width,
    };
    let x = Rows::new(x, m, weight.inputs());
    multiply(
        x,
        weight,
        columns.clone(),
        &mut out,
        Output::Store,
        &mut Scratch::default(),
    );
    for row in 0..m {
        let expected = &whole[row * n..][columns.clone()];
        assert_eq!(
            &part[row * width..][..width],
            expected,
            "columns {columns:?} of row {row}"
        );
    }
}

pub(crate) fn products_are_added() {
    for (m, n, k) in [(1, 35, 20), (2, 16, 513), (5, 35, 20)] {
        let (weight, halves, _) = formats(n, k, 11);
        let x = Numbers(12).take(m * k);
        check_added(&x, m, weight.view());
        check_added(&x, m, halves.view());
    }
}

fn check_added<W: Weight>(x: &[f32], m: usize, weight: W) {
    let n = weight.outputs();
    let mut out = vec![100.0; m * n];
    let mut to = RowsMut {
        data: &mut out,
        stride: n,
    };
    let x_rows = Rows::new(x, m, weight.inputs());
    multiply(x_rows, weight, 0..n, &mut to, Output::Add, &mut Scratch::default());
    for (value, product) in out.iter().zip(product(x, m, weight)) {
        // One rounding for each block of k, of numbers below 200, and one for the product's own last sum.
        assert_near(*value, 100.0 + f64::from(product), 3.0 * 200.0 * UNIT, || {
            "100 + product".into()
        });
    }
}

pub(crate) fn strides_leave_the_gaps_alone() {
    let (m, n, k, gap) = (5, 19, 21, 3);
    let mut numbers = Numbers(13);
    let (x, w) = (numbers.take(m * (k + gap)), numbers.take(n * (k + gap)));
    let rows = |data, count| Rows {
        data,
        stride: k + gap,
        count,
    };
    let mut data = vec![7.0; m * (n + gap)];
    let mut out = RowsMut {
        data: &mut data,
        stride: n + gap,
    };
    let weight = PackedF32::new(rows(&w, n), k);
    multiply(
        rows(&x, m),
        weight.view(),
        0..n,
        &mut out,
        Output::Store,
        &mut Scratch::default(),
    );
    let tight = |data: &[f32]| {
        data.chunks_exact(k + gap)
            .flat_map(|row| &row[..k])
            .copied()
            .collect::<Vec<_>>()
    };
    let expected = product(&tight(&x), m, packed(&tight(&w), n, k).view());
    for (row, expected) in data.chunks_exact(n + gap).zip(expected.chunks_exact(n)) {
        assert_eq!(&row[..n], expected);
        assert_eq!(row[n..], [7.0; 3]);
    }
}

pub(crate) fn packing_again_forgets_the_old_weights() {
    let mut weight = packed(&[f32::NAN; 40 * 30], 40, 30);
    let w = Numbers(14).take(3 * 5);
    weight.pack(Rows::new(&w, 3, 5), 5);
    let x = Numbers(15).take(2 * 5);
    check(&product(&x, 2, weight.view()), &x, &w, 2, 3, 5);
    weight.pack_transposed(Rows::new(&w, 3, 5), 5);
    assert_eq!((weight.view().inputs(), weight.view().outputs()), (3, 5));
    assert!(product(&x[..3], 1, weight.view()).iter().all(|value| value.is_finite()));
}

pub(crate) fn a_product_of_nothing() {
    assert!(product(&[], 0, packed(&[1.0; 6], 2, 3).view()).is_empty());
    assert!(product(&[1.0; 3], 1, packed(&[], 0, 3).view()).is_empty());
    assert_eq!(product(&[], 2, packed(&[], 3, 0).view()), [0.0; 6]);
}

pub(crate) fn infinities_and_nans_reach_their_results() {
    let (n, k) = (35, 530);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for m in [1, 2, 3] {
            for place in [0, k - 1] {
                let mut numbers = Numbers(16);
                let (mut x, w) = (numbers.take(m * k), numbers.take(n * k));
                x[(m - 1) * k + place] = bad;
                let out = product(&x, m, packed(&w, n, k).view());
                let (clean, dirty) = out.split_at((m - 1) * n);
                assert!(
                    clean.iter().all(|value| value.is_finite()),
                    "{bad} leaked into other rows"
                );
                assert!(
                    dirty.iter().all(|value| !value.is_finite()),
                    "{bad} at {place} vanished"
                );
            }
        }
        let mut w = Numbers(17).take(n * k);
        w[(n - 1) * k + 3] = bad;
        let out = product(&Numbers(18).take(3 * k), 3, packed(&w, n, k).view());
        for row in out.chunks_exact(n) {
            assert!(row[..n - 1].iter().all(|value| value.is_finite()) && !row[n - 1].is_finite());
        }
    }
}

/// The numbers that narrow weights stand for, packed as f32, give the same bits.
pub(crate) fn narrow_weights_are_widened_exactly() {
    for (n, k) in [(16, 32), (40, 96), (19, 77), (33, 1088), (33, 1100)] {
        let mut numbers = Numbers(19);
        let halves: Vec<[u8; 2]> = numbers
            .take(n * k)
            .iter()
            .map(|&value| f16::from_f32(value).to_le_bytes())
            .collect();
        let wide: Vec<f32> = halves.iter().map(|&half| f16::from_le_bytes(half).to_f32()).collect();
        check_same(PackedF16::new(&halves, n, k).view(), packed(&wide, n, k).view());
        let (values, scales) = q8(&mut numbers, n, k);
        let blocks = k.div_ceil(Q8_BLOCK);
        let wide: Vec<f32> = (0..n * k)
            .map(|i| f32::from(values[i]) * f16::from_bits(scales[i / k * blocks + i % k / Q8_BLOCK]).to_f32())
            .collect();
        check_same(PackedQ8::new(&values, &scales, n, k).view(), packed(&wide, n, k).view());
        if k.is_multiple_of(Q8_BLOCK) {
            let block = |(values, scale): (&[i8], &u16)| {
                let values = values.iter().map(|&value| value as u8);
                scale.to_le_bytes().into_iter().chain(values).collect::<Vec<u8>>()
            };
            let blocks: Vec<u8> = values.chunks(Q8_BLOCK).zip(&scales).flat_map(block).collect();
            check_same(PackedQ8::from_blocks(&blocks, n, k).view(), packed(&wide, n, k).view());
        }
    }
}

/// The transpose of some outputs' weights, of every form, has the bits of these weights packed as they are.
pub(crate) fn transposes_are_packed_like_any_other() {
    for (n, k, outputs) in [
        (16, 32, 0..16),
        (48, 40, 16..48),
        (64, 77, 16..51),
        (33, 1100, 32..33),
        (520, 3, 0..512),
    ] {
        let mut numbers = Numbers(23);
        let w = numbers.take(n * k);
        check_transpose(packed(&w, n, k).view(), &w, outputs.clone());
        let halves: Vec<[u8; 2]> = w.iter().map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        let wide: Vec<f32> = halves.iter().map(|&half| f16::from_le_bytes(half).to_f32()).collect();
        check_transpose(PackedF16::new(&halves, n, k).view(), &wide, outputs.clone());
        let (values, scales) = q8(&mut numbers, n, k);
        let blocks = k.div_ceil(Q8_BLOCK);
        let wide: Vec<f32> = (0..n * k)
            .map(|i| f32::from(values[i]) * f16::from_bits(scales[i / k * blocks + i % k / Q8_BLOCK]).to_f32())
            .collect();
        check_transpose(PackedQ8::new(&values, &scales, n, k).view(), &wide, outputs);
    }
}

fn check_transpose<W: Weight>(weight: W, w: &[f32], outputs: Range<usize>) {
    let k = weight.inputs();
    let transposed: Vec<f32> = (0..k)
        .flat_map(|input| outputs.clone().map(move |output| w[output * k + input]))
        .collect();
    let expected = packed(&transposed, k, outputs.len());
    let mut found = vec![[f32::NAN; PANEL]; packed_rows(k, outputs.len())];
    transpose(weight, outputs, &mut found, &mut Scratch::default());
    assert_eq!(found, expected.view().rows());
}

fn check_same<A: Weight, B: Weight>(narrow: A, wide: B) {
    for m in [1, 2, 5] {
        let x = Numbers(20).take(m * wide.inputs());
        assert_eq!(product(&x, m, narrow), product(&x, m, wide));
    }
}

/// One number that is not finite is noticed wherever it is packed.
pub(crate) fn an_infinite_f16_is_noticed() {
    let (n, k) = (33, 1030);
    for place in [0, 7, 511, 512, k - 1, 16 * k, n * k - k, n * k - 1] {
        for bits in [0x7c00u16, 0xfc00, 0x7e01] {
            let mut halves = vec![0x7bffu16.to_le_bytes(); n * k];
            assert!(PackedF16::new(&halves, n, k).view().is_finite());
            halves[place] = bits.to_le_bytes();
            assert!(
                !PackedF16::new(&halves, n, k).view().is_finite(),
                "{bits:#x} at {place}"
            );
        }
    }
}

/// Each number times 1, alone and in a batch: all of them, and the finite ones (which have kernels of their own).
pub(crate) fn every_f16_number() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let finite: Vec<u16> = all
        .iter()
        .copied()
        .filter(|&bits| f16::from_bits(bits).is_finite())
        .collect();
    for (bits, are_finite) in [(all, false), (finite, true)] {
        let halves: Vec<[u8; 2]> = bits.iter().map(|bits| bits.to_le_bytes()).collect();
        let weight = PackedF16::new(&halves, bits.len(), 1);
        assert_eq!(weight.view().is_finite(), are_finite);
        for m in [1, 2] {
            let out = product(&vec![1.0; m], m, weight.view());
            for (found, &bits) in out.iter().zip(bits.iter().cycle()) {
                let expected = f16::from_bits(bits).to_f32();
                assert!(
                    *found == expected || found.is_nan() && expected.is_nan(),
                    "{bits:#x}: {found}"
                );
            }
        }
    }
}

pub(crate) fn narrow_products_of_every_small_shape() {
    for m in 1..=5 {
        for n in 1..=20 {
            for k in 1..=20 {
                let mut numbers = Numbers((m * 1000 + n * 30 + k) as u64);
                let x = numbers.take(m * k);
                let (values, scales) = q8(&mut numbers, n, k);
                let wide: Vec<f32> = (0..n * k)
                    .map(|i| f32::from(values[i]) * f16::from_bits(scales[i / k]).to_f32())
                    .collect();
                check(
                    &product(&x, m, PackedQ8::new(&values, &scales, n, k).view()),
                    &x,
                    &wide,
                    m,
                    n,
                    k,
                );
            }
        }
    }
}
