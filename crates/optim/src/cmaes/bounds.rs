//! The box: a smooth, periodic map from all of R^n into it.
//!
//! The map is pycma's `BoundTransform` (`BoxConstraintsLinQuadTransformation`): the identity but for a margin at each
//! wall, where it bends quadratically and turns back. The search itself knows no walls; it works on the unbounded
//! *preimage* `u`, and only what is evaluated is mapped. Turning back makes an optimum on the wall look like the bottom
//! of a parabola, so that the search converges onto a wall instead of sliding along it.
//!
//! With margin `a`, lower wall `l`, upper wall `h`:
//!
//! ```text
//! l - a <= u <= l + a    x = l + (u - (l - a))^2 / (4 a)
//! l + a <= u <= h - a    x = u
//! h - a <= u <= h + a    x = h - (u - (h + a))^2 / (4 a)
//! elsewhere              mirrored at l - a and h + a
//! ```
//!
//! One choice is ours: pycma's margin is `max(1, |bound|) / 20`, ours is a fortieth of the box's width (the same 0.075
//! for `[-1.5, 1.5]`), so that shifting or scaling the whole problem changes nothing. A side without a bound is not
//! mapped; the wall opposite to it keeps pycma's margin, having no width to take a fortieth of.

use crate::OptimError;

/// Maps all of R^n smoothly into a box, coordinate by coordinate.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundTransform {
    walls: Vec<Wall>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Wall {
    lower: f64,
    upper: f64,
    lower_margin: f64,
    upper_margin: f64,
}

impl BoundTransform {
    /// The box with these bounds, one pair a coordinate; infinities stand for no bound.
    ///
    /// # Errors
    /// [`OptimError::Length`] when the two differ in length; [`OptimError::EmptyBox`] when a bound is NaN, a width is
    /// infinite although both bounds are finite, or no number lies strictly between two bounds.
    pub fn new(lower: &[f64], upper: &[f64]) -> Result<Self, OptimError> {
        if lower.len() != upper.len() {
            return Err(OptimError::Length {
                what: "upper bounds",
                expected: lower.len(),
                found: upper.len(),
            });
        }
        let wall = |(index, (&lower, &upper)): (usize, (&f64, &f64))| {
            let width = upper - lower;
            let both = lower.is_finite() && upper.is_finite();
            // `next_up` asks for a number strictly between the two; NaN fails every comparison.
            if !(lower.next_up() < upper && lower < f64::INFINITY && upper > f64::NEG_INFINITY)
                || (both && !width.is_finite())
            {
                return Err(OptimError::EmptyBox { index, lower, upper });
            }
            let margin = |bound: f64| match (both, bound.is_finite()) {
                (true, _) => width / 40.0,
                (false, true) => bound.abs().max(1.0) / 20.0,
                // No wall; any finite margin leaves it at infinity.
                (false, false) => 1.0,
            };
            Ok(Wall {
                lower,
                upper,
                lower_margin: margin(lower),
                upper_margin: margin(upper),
            })
        };
        Ok(Self {
            walls: lower
                .iter()
                .zip(upper)
                .enumerate()
                .map(wall)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The point of the box that `preimage` stands for; strictly inside, never on a wall.
    #[must_use]
    pub fn into_box(&self, preimage: &[f64]) -> Vec<f64> {
        self.walls
            .iter()
            .zip(preimage)
            .map(|(wall, &u)| wall.strictly_inside(wall.map(u)))
            .collect()
    }

    /// `x` with every coordinate on or outside a wall moved just inside it.
    #[must_use]
    pub fn strictly_inside(&self, x: &[f64]) -> Vec<f64> {
        self.walls
            .iter()
            .zip(x)
            .map(|(wall, &x)| wall.strictly_inside(x))
            .collect()
    }

    /// The preimage nearest to the box of a point; a point on or outside a wall is first moved just inside.
    #[must_use]
    pub fn preimage(&self, x: &[f64]) -> Vec<f64> {
        self.walls
            .iter()
            .zip(x)
            .map(|(wall, &x)| wall.inverse(wall.strictly_inside(x)))
            .collect()
    }

    /// The largest standard deviation that makes sense in coordinate `index`: a third of the width, as in pycma, since
    /// a wider distribution only folds onto itself. Infinite without two walls.
    #[must_use]
    pub fn max_deviation(&self, index: usize) -> f64 {
        self.walls
            .get(index)
            .map_or(f64::INFINITY, |wall| (wall.upper - wall.lower) / 3.0)
    }

    /// The first coordinate of `x` outside the closed box, with its bounds.
    pub(crate) fn outside(&self, x: &[f64]) -> Option<(usize, f64, f64)> {
        let mut pairs = self.walls.iter().zip(x).enumerate();
        pairs
            .find(|(_, (wall, x))| !(wall.lower..=wall.upper).contains(*x))
            .map(|(i, (wall, _))| (i, wall.lower, wall.upper))
    }
}

impl Wall {
    fn map(&self, u: f64) -> f64 {
        let u = self.fold(u);
        if u < self.lower + self.lower_margin {
            let above = u - (self.lower - self.lower_margin);
            self.lower + above * above / (4.0 * self.lower_margin)
        } else if u > self.upper - self.upper_margin {
            let below = u - (self.upper + self.upper_margin);
            self.upper - below * below / (4.0 * self.upper_margin)
        } else {
            u
        }
    }

    /// Mirrors `u` at the turning points until it lies between them.
    fn fold(&self, u: f64) -> f64 {
        let bottom = self.lower - self.lower_margin;
        let top = self.upper + self.upper_margin;
        match (self.lower.is_finite(), self.upper.is_finite()) {
            (true, true) => {
                let width = top - bottom;
                if (bottom..=top).contains(&u) {
                    return u;
                }
                // One period is down and up again; the remainder is exact, so that far points fold cleanly too.
                let offset = libm::fmod((u - bottom).abs(), 2.0 * width);
                bottom + offset.min(2.0 * width - offset)
            }
            (true, false) => bottom + (u - bottom).abs(),
            (false, true) => top - (top - u).abs(),
            (false, false) => u,
        }
    }

    fn inverse(&self, x: f64) -> f64 {
        if x < self.lower + self.lower_margin {
            self.lower - self.lower_margin + 2.0 * (self.lower_margin * (x - self.lower)).sqrt()
        } else if x > self.upper - self.upper_margin {
            self.upper + self.upper_margin - 2.0 * (self.upper_margin * (self.upper - x)).sqrt()
        } else {
            x
        }
    }

    fn strictly_inside(&self, x: f64) -> f64 {
        x.max(self.lower.next_up()).min(self.upper.next_down())
    }
}
