//! Every way in which an optimiser can refuse what it is given.

/// Why settings, a point, losses or a saved state are unusable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimError {
    /// No coordinates, or more than a full covariance matrix is meant for.
    #[error("the search has {found} coordinates, expected 1 to {limit}; search over fewer modules (screen them first)")]
    Dimension {
        /// Length of the mean.
        found: usize,
        /// [`crate::cmaes::MAX_DIMENSION`].
        limit: usize,
    },
    /// A generation too small to rank, or absurdly large.
    #[error("lambda is {found}, expected 2 to {limit} candidates a generation; leave it unset for the default")]
    Lambda {
        /// The value given.
        found: usize,
        /// [`crate::cmaes::MAX_LAMBDA`].
        limit: usize,
    },
    /// A step size that is not a positive, ordinary number.
    #[error("{what} is {found}, expected a number from 1e-100 to 1e100; try a tenth of the range to be searched")]
    StepSize {
        /// `sigma` or `scales[i]`.
        what: String,
        /// The value given.
        found: f64,
    },
    /// Initial scales too far apart for one covariance matrix.
    #[error("scales range from {smallest} to {largest}, expected a ratio of at most {limit}; rescale the coordinates")]
    Scales {
        /// The smallest scale.
        smallest: f64,
        /// The largest scale.
        largest: f64,
        /// Largest ratio accepted.
        limit: f64,
    },
    /// A vector of another length than the search has coordinates.
    #[error("{what} has {found} entries, expected {expected}: one per coordinate of the mean")]
    Length {
        /// What was given, such as `lower bounds` or `injected point`.
        what: &'static str,
        /// Coordinates of the search.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// NaN or infinity where a point is expected.
    #[error("{what} has {found} at coordinate {index}, expected a finite number")]
    NotFinite {
        /// What was given.
        what: &'static str,
        /// Which coordinate.
        index: usize,
        /// The value given.
        found: f64,
    },
    /// Bounds between which no number lies.
    #[error(
        "the bounds of coordinate {index} are {lower} and {upper}, expected lower < upper and a finite width; \
         use infinities for a side without a bound"
    )]
    EmptyBox {
        /// Which coordinate.
        index: usize,
        /// Its lower bound.
        lower: f64,
        /// Its upper bound.
        upper: f64,
    },
    /// A start outside its own box.
    #[error("the mean is {found} at coordinate {index}, expected {lower} to {upper}; start inside the bounds")]
    MeanOutside {
        /// Which coordinate.
        index: usize,
        /// The value given.
        found: f64,
        /// Lower bound.
        lower: f64,
        /// Upper bound.
        upper: f64,
    },
    /// `tell` without a generation under evaluation.
    #[error("there is no generation to tell losses of; call ask first")]
    NothingAsked,
    /// Not one loss per candidate.
    #[error("{found} losses for {expected} candidates; tell the whole generation at once, NaN where there is none")]
    LossCount {
        /// Candidates of the generation.
        expected: usize,
        /// Losses given.
        found: usize,
    },
    /// A saved state that no run of this version can have written.
    #[error("the saved state is unusable: {what}; start the search again")]
    State {
        /// What is wrong with it.
        what: String,
    },
}
