//! Acceptance tests of the optimiser: against pycma, against the tutorial's invariances, and against bad luck.

mod bounds;
mod eigen;
mod evaluations;
mod functions;
mod golden;
mod invariance;
mod replay;
mod resume;
mod robustness;
mod stationarity;
mod stop;
