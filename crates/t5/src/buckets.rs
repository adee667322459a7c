//! T5's relative position buckets (Raffel et al. 2020, section 2.1; mesh-tensorflow's rule as Hugging Face runs it).

/// The bucket of each distance from `-(reach - 1)` to `reach - 1`, key position minus query position.
///
/// The encoder is `bidirectional`: half of the buckets for keys behind, half for keys ahead. The decoder is not: keys
/// ahead share bucket 0, which causal attention never sees. Half of a side's buckets are exact, the rest grow
/// logarithmically up to `max_distance`, past which all distances share the last one.
pub(crate) fn buckets(reach: usize, bidirectional: bool, count: usize, max_distance: usize) -> Vec<u32> {
    let reach = reach as i64;
    (1 - reach..reach)
        .map(|distance| bucket(distance, bidirectional, count, max_distance))
        .collect()
}

fn bucket(distance: i64, bidirectional: bool, count: usize, max_distance: usize) -> u32 {
    let (first, count, distance) = if bidirectional {
        let half = count / 2;
        (
            if distance > 0 { half } else { 0 },
            half,
            distance.unsigned_abs() as usize,
        )
    } else {
        (0, count, (-distance).max(0) as usize)
    };
    let exact = count / 2;
    let own = if distance < exact {
        distance
    } else {
        // In f32 and in this order, as PyTorch does it: whole logarithms decide which side of an edge a distance is on.
        let ratio = libm::logf(distance as f32 / exact as f32);
        let whole = libm::log(max_distance as f64 / exact as f64) as f32;
        let step = (ratio / whole * (count - exact) as f32) as usize;
        (exact + step).min(count - 1)
    };
    (first + own) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_without_room_beyond_the_exact_buckets_keeps_to_its_last() {
        for distance in [-500, -3, -1, 0, 1, 3, 500] {
            assert!(bucket(distance, true, 4, 4) < 4);
            assert!(bucket(distance, false, 2, 8) < 2);
        }
    }

    #[test]
    fn the_decoder_differs_from_the_encoder_from_distance_nine_on() {
        // Values of Hugging Face's `_relative_position_bucket` for 32 buckets and distance 128.
        let decoder = |distance: i64| bucket(-distance, false, 32, 128);
        let encoder = |distance: i64| bucket(-distance, true, 32, 128);
        for distance in 0..=8 {
            assert_eq!(decoder(distance), encoder(distance), "distance {distance}");
        }
        assert_eq!((decoder(9), encoder(9)), (9, 8));
        assert_eq!((decoder(32), encoder(32)), (21, 12));
        assert_eq!((decoder(1000), encoder(1000)), (31, 15));
        assert_eq!(bucket(1000, true, 32, 128), 31);
        assert_eq!(bucket(7, false, 32, 128), 0);
    }
}
