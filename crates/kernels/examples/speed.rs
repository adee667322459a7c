//! The kernels' speed as a wasm module, which `benches/speed.mjs` loads: each contender as one exported call.
//!
//! The peer is the `gemm` crate, called as candle calls it, and around it the loops that a backend on candle writes.

#[cfg(target_arch = "wasm32")]
mod exports {
    use gemm::Parallelism;
    use lorahub_kernels::{
        AttentionScratch, LogSumExp, Output, PackedF16, PackedF32, PackedQ8, Rows, RowsMut, Scratch, Weight,
        attention_head, gated_gelu, multiply, multiply_in, multiply_integer, rms_norm, softmax,
    };

    /// One product in every form.
    struct Products {
        m: usize,
        n: usize,
        k: usize,
        x: Vec<f32>,
        plain: Vec<f32>,
        f32s: PackedF32,
        halves: PackedF16,
        bytes: PackedQ8,
        out: Vec<f32>,
        scratch: Scratch,
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect()
    }

    /// Makes the operands of `[m, k] x [k, n]`.
    #[unsafe(no_mangle)]
    extern "C" fn products(m: usize, k: usize, n: usize) -> *mut core::ffi::c_void {
        let plain = numbers(n * k);
        let halves: Vec<[u8; 2]> = plain
            .iter()
            .map(|&value| half::f16::from_f32(value).to_le_bytes())
            .collect();
        let bytes: Vec<i8> = plain.iter().map(|value| (value * 254.0) as i8).collect();
        let scales = vec![half::f16::from_f32(1.0 / 254.0).to_bits(); n * k.div_ceil(32)];
        Box::into_raw(Box::new(Products {
            m,
            n,
            k,
            x: numbers(m * k),
            f32s: PackedF32::new(Rows::new(&plain, n, k), k),
            halves: PackedF16::new(&halves, n, k),
            bytes: PackedQ8::new(&bytes, &scales, n, k),
            plain,
            out: vec![0.0; m * n],
            scratch: Scratch::default(),
        }))
        .cast()
    }

    impl Products {
        fn peer(&mut self) {
            peer_product(
                (self.m, self.n, self.k),
                (&self.x, self.k, 1),
                (&self.plain, 1, self.k),
                (&mut self.out, self.n),
            );
        }

        fn packed<W: Weight>(x: &[f32], m: usize, weight: W, out: &mut [f32], scratch: &mut Scratch) {
            let (n, k) = (weight.outputs(), weight.inputs());
            let mut out = RowsMut { data: out, stride: n };
            multiply(Rows::new(x, m, k), weight, 0..n, &mut out, Output::Store, scratch);
        }
    }

    /// `lhs rhs` by candle's product; strides are (row, column).
    fn peer_product(
        (m, n, k): (usize, usize, usize),
        lhs: (&[f32], usize, usize),
        rhs: (&[f32], usize, usize),
        out: (&mut [f32], usize),
    ) {
        assert!((m - 1) * lhs.1 + (k - 1) * lhs.2 < lhs.0.len());
        assert!((k - 1) * rhs.1 + (n - 1) * rhs.2 < rhs.0.len());
        assert!((m - 1) * out.1 + n <= out.0.len());
        // SAFETY: the shapes and strides stay inside the slices, as asserted, and the result overlaps no operand.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.0.as_mut_ptr(),
                1,
                out.1 as isize,
                false,
                lhs.0.as_ptr(),
                lhs.2 as isize,
                lhs.1 as isize,
                rhs.0.as_ptr(),
                rhs.2 as isize,
                rhs.1 as isize,
                1.0f32,
                1.0f32,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }

    /// Multiplies `times` times: form 0 is candle's, then f32, f16, q8_0 and q8_0 in
    /// integers.
    #[unsafe(no_mangle)]
    extern "C" fn product(products: *mut core::ffi::c_void, form: u32, times: usize) {
        // SAFETY: the pointer came from `products`, and the host runs one call at a time.
        let products = unsafe { &mut *products.cast::<Products>() };
        for _ in 0..times {
            let Products {
                m,
                x,
                f32s,
                halves,
                bytes,
                out,
                scratch,
                ..
            } = &mut *products;
            match form {
                0 => products.peer(),
                1 => Products::packed(x, *m, f32s.view(), out, scratch),
                2 => Products::packed(x, *m, halves.view(), out, scratch),
                3 => Products::packed(x, *m, bytes.view(), out, scratch),
                _ => {
                    let (n, k) = (bytes.view().outputs(), bytes.view().inputs());
                    let mut out = RowsMut { data: out, stride: n };
                    multiply_integer(
                        Rows::new(x, *m, k),
                        bytes.view(),
                        0..n,
                        &mut out,
                        Output::Store,
                        scratch,
                    );
                }
            }
        }
    }

    /// Frees the operands.
    #[unsafe(no_mangle)]
    extern "C" fn drop_products(products: *mut core::ffi::c_void) {
        // SAFETY: the pointer came from `products` and is not used again.
        drop(unsafe { Box::from_raw(products.cast::<Products>()) });
    }

    /// Attends `times` times, eight heads of 64: form 0 with candle's product, form 1 with the kernels.
    #[unsafe(no_mangle)]
    extern "C" fn attention(length: usize, form: u32, times: usize) {
        const WIDTH: usize = 64;
        const LAYER: usize = 512;
        let [q, k, v] = [0; 3].map(|_| numbers(length * LAYER));
        let mut out = vec![0.0; length * LAYER];
        let mut scores = vec![0.0; length * length];
        let mut scratch = AttentionScratch::default();
        for head in (0..times).flat_map(|_| (0..LAYER).step_by(WIDTH)) {
            let rows = |data| Rows {
                data,
                stride: LAYER,
                count: length,
            };
            let (q, k, v, out) = (&q[head..], &k[head..], &v[head..], &mut out[head..]);
            if form == 1 {
                let mut out = RowsMut {
                    data: out,
                    stride: LAYER,
                };
                attention_head(
                    rows(q),
                    rows(k),
                    rows(v),
                    WIDTH,
                    None,
                    false,
                    &mut out,
                    &mut scratch,
                    |x, weight, columns, out| multiply_in(x, weight, columns, out, Output::Store, &mut []),
                );
                continue;
            }
            peer_product(
                (length, length, WIDTH),
                (q, LAYER, 1),
                (k, 1, LAYER),
                (&mut scores, length),
            );
            scores.chunks_exact_mut(length).for_each(plain_softmax);
            peer_product(
                (length, WIDTH, length),
                (&scores, length, 1),
                (v, LAYER, 1),
                (out, LAYER),
            );
        }
        std::hint::black_box(&out);
    }

    fn plain_softmax(row: &mut [f32]) {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let mut sum = 0.0;
        for value in row.iter_mut() {
            *value = (*value - largest).exp();
            sum += *value;
        }
        row.iter_mut().for_each(|value| *value /= sum);
    }

    fn plain_gelu(x: f32) -> f32 {
        0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).clamp(-10.0, 10.0).tanh())
    }

    /// Runs an operation on a row of `length` numbers `times` times: form 0 as plain loops, form 1 as the kernel.
    #[unsafe(no_mangle)]
    extern "C" fn row(operation: u32, length: usize, form: u32, times: usize) {
        let x = numbers(length);
        let mut out = x.clone();
        for _ in 0..times {
            out.copy_from_slice(&x);
            match (operation, form) {
                (0, 0) => {
                    let square_sum: f32 = x.iter().map(|value| value * value).sum();
                    let inverse = 1.0 / (square_sum / length as f32 + 1e-6).sqrt();
                    for (out, (value, weight)) in out.iter_mut().zip(x.iter().zip(&x)) {
                        *out = value * inverse * weight;
                    }
                }
                (0, _) => rms_norm(&x, &x, 1e-6, &mut out),
                (1, 0) => plain_softmax(&mut out),
                (1, _) => softmax(&mut out, None),
                (2, 0) => out
                    .iter_mut()
                    .zip(&x)
                    .for_each(|(gate, up)| *gate = plain_gelu(*gate) * up),
                (2, _) => gated_gelu(&mut out, &x),
                (_, 0) => {
                    let largest = out.iter().copied().fold(f32::MIN, f32::max);
                    out[0] = out.iter().map(|score| (score - largest).exp()).sum::<f32>().ln() + largest;
                }
                (_, _) => {
                    let mut sum = LogSumExp::default();
                    sum.push(&out);
                    out[0] = sum.finish() as f32;
                }
            }
            std::hint::black_box(&mut out);
        }
    }
}
