//! The tests themselves, for native and wasm builds alike. Expected values come from plain loops in f64.

mod attention;
mod integer;
mod low_rank;
mod multiply;
mod rows;

/// Lists functions as tests: for the test harness natively, in `CASES` for the wasm module.
macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// Every test and its name.
        #[cfg(target_arch = "wasm32")]
        pub(crate) const CASES: &[(&str, fn())] =
            &[$((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),*];

        $(
            #[cfg(not(target_arch = "wasm32"))]
            #[test]
            fn $name() {
                $module::$name();
            }
        )*
    };
}

cases! {
    multiply::products_of_every_small_shape,
    multiply::products_around_the_blocks,
    multiply::products_of_extreme_values,
    multiply::a_row_has_the_same_bits_alone_and_in_a_batch,
    multiply::columns_are_a_part_of_the_whole,
    multiply::products_are_added,
    multiply::strides_leave_the_gaps_alone,
    multiply::packing_again_forgets_the_old_weights,
    multiply::a_product_of_nothing,
    multiply::infinities_and_nans_reach_their_results,
    multiply::narrow_weights_are_widened_exactly,
    multiply::transposes_are_packed_like_any_other,
    multiply::every_f16_number,
    multiply::an_infinite_f16_is_noticed,
    multiply::narrow_products_of_every_small_shape,
    integer::integer_products_of_every_small_shape,
    integer::integer_products_around_the_blocks,
    integer::integers_are_multiplied_exactly,
    integer::an_integer_row_has_the_same_bits_alone_in_a_batch_and_in_parts,
    integer::integer_products_are_added_and_leave_gaps_alone,
    integer::integers_hide_no_infinity_or_nan,
    low_rank::low_ranks_are_added,
    low_rank::parts_of_low_ranks_have_the_bits_of_the_whole,
    rows::norms,
    rows::norms_of_extreme_values,
    rows::softmaxes,
    rows::softmaxes_of_extreme_values,
    rows::exponentials_over_the_whole_range,
    rows::gelus_over_the_whole_range,
    rows::log_sums,
    rows::log_sums_of_extreme_values,
    attention::heads_of_every_small_shape,
    attention::heads_around_the_blocks,
    attention::causal_heads_do_not_see_ahead,
    attention::a_nan_reaches_its_query,
}

/// Unit roundoff of f32: half the distance from 1 to the next number.
const UNIT: f64 = f32::EPSILON as f64 / 2.0;

/// Numbers from -1 to 1 that are the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        // Knuth's MMIX generator; the upper bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// Asserts that `found` is within `tolerance` of `expected`, or not finite just as it is.
fn assert_near(found: f32, expected: f64, tolerance: f64, what: impl Fn() -> String) {
    let same = if expected.is_nan() || (expected as f32).is_infinite() {
        found.is_nan() == expected.is_nan() && (found.is_nan() || found == expected as f32)
    } else {
        (f64::from(found) - expected).abs() <= tolerance
    };
    assert!(
        same,
        "{}: {found:e}, expected {expected:e} within {tolerance:e}",
        what()
    );
}
