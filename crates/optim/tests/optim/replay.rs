//! Recorded losses give the recorded bits. The browser's test replays the same file in WebAssembly.
//!
//! The file is written by `cargo run -p lorahub-optim --example record`; a change of these bits changes every saved
//! and published search, so it needs a reason.

use crate::golden::load;
use lorahub_optim::{OptimError, Recording, replay};

#[test]
fn recorded_losses_give_the_recorded_bits() {
    let recordings: Vec<Recording> = load("replay");
    assert_eq!(recordings.len(), 2);
    for (i, recording) in recordings.iter().enumerate() {
        assert!(recording.losses.len() >= 12 && recording.asked.len() == recording.losses.len() + 1);
        assert!(
            recording.losses.iter().flatten().any(|loss| !loss.is_finite()),
            "recording {i} has a missing loss"
        );
        assert_eq!(recording.first_difference(), Ok(None), "recording {i}");
    }
}

#[test]
fn a_changed_loss_or_bit_is_noticed() {
    let recordings: Vec<Recording> = load("replay");
    let mut recording = recordings[0].clone();
    recording.losses[3].rotate_left(1);
    let difference = recording.first_difference().expect("replays").expect("differs");
    assert_eq!(difference.generation, 4);

    let mut recording = recordings[1].clone();
    let last = recording.asked.len() - 1;
    recording.asked[last][5] = recording.asked[last][5].next_up();
    let difference = recording.first_difference().expect("replays").expect("differs");
    assert_eq!((difference.generation, difference.index), (last, 5));

    let mut recording = recordings[1].clone();
    recording.asked[last].pop();
    let difference = recording.first_difference().expect("replays").expect("differs");
    assert_eq!((difference.generation, difference.recorded), (last, None));
}

#[test]
fn a_ragged_recording_is_an_error() {
    let recordings: Vec<Recording> = load("replay");
    let recording = &recordings[0];
    let mut losses = recording.losses.clone();
    losses[1].pop();
    let error = replay(recording.settings.clone(), &losses);
    assert_eq!(
        error,
        Err(OptimError::LossCount {
            expected: 16,
            found: 15
        })
    );
}
