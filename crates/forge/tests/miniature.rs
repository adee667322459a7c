//! The whole recipe in small: what is trained learns, and what is composed beats its parts.

#![allow(clippy::unwrap_used, reason = "a failing stage is the test's failure")]

use lorahub_forge::ForgeError;
use lorahub_forge::family::Family;
use lorahub_forge::miniature::{make, recipe};

#[test]
fn a_miniature_family_is_trained_and_composed() {
    let folder = std::env::temp_dir().join(format!("lorahub-miniature-{}", std::process::id()));
    let losses = make(&folder, 0).unwrap();
    assert!(losses.composed < 0.8 * losses.base, "{losses:?}");
    assert!(
        losses.composed < losses.single && losses.single < losses.base,
        "{losses:?}"
    );

    // The same recipe finds its work done; another seed does not take it for its own.
    let family = Family::at(&folder);
    family.make_base(&recipe(0)).unwrap();
    assert!(matches!(family.make_base(&recipe(1)), Err(ForgeError::Recipe { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
}
