//! Points of the search with a name.

/// One module alone at weight 1, of `modules`.
pub fn unit(modules: usize, module: usize) -> Vec<f64> {
    (0..modules)
        .map(|other| if other == module { 1.0 } else { 0.0 })
        .collect()
}

/// All modules with equal weights, `w_i = 1/N`.
pub fn uniform(modules: usize) -> Vec<f64> {
    vec![1.0 / modules as f64; modules]
}
