//! The strategy parameters: Table 1 of the tutorial, set once from `n` and `lambda`.

/// Recombination weights and learning rates.
///
/// The chain of dependence is `lambda -> weights -> mu_eff -> c_1, c_mu -> negative weights`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Candidates of a generation.
    pub lambda: usize,
    /// Candidates with a positive weight, `floor(lambda / 2)`.
    pub mu: usize,
    /// `w_i`, `[lambda]`, descending. The first `mu` are positive and sum to one; the rest are negative with the active
    /// update (the middle one of an odd `lambda` is zero), zero without it. Equations 49 to 53.
    pub weights: Vec<f64>,
    /// Variance effective selection mass of the positive weights, equation 8.
    pub mu_eff: f64,
    /// Rate of cumulation for the step size, equation 55.
    pub c_sigma: f64,
    /// Damping of the step size, equation 55.
    pub d_sigma: f64,
    /// Rate of cumulation for the covariance matrix, equation 56.
    pub c_c: f64,
    /// Learning rate of the rank-one update, equation 57.
    pub c_1: f64,
    /// Learning rate of the rank-mu update, equation 58.
    pub c_mu: f64,
    /// `E||N(0, I)||`: the length a random `path_sigma` has. The exact value, not the tutorial's approximation.
    pub chi_n: f64,
}

impl Parameters {
    /// Table 1 for `n >= 1` coordinates and `lambda >= 2` candidates.
    ///
    /// `active` uses the negative weights too, so that bad candidates shrink the variance along their directions.
    #[must_use]
    pub fn new(n: usize, lambda: usize, active: bool) -> Self {
        let mu = lambda / 2;
        let n = n as f64;
        const ALPHA_COV: f64 = 2.0;

        // w'_i, equation 49: positive for the better half, negative for the worse.
        let ln_half = libm::log((lambda as f64 + 1.0) / 2.0);
        let mut weights: Vec<f64> = (1..=lambda).map(|i| ln_half - libm::log(i as f64)).collect();
        let mu_eff = selection_mass(&weights[..mu]);
        let mu_eff_minus = selection_mass(&weights[mu..]);

        let c_1 = ALPHA_COV / ((n + 1.3) * (n + 1.3) + mu_eff);
        let c_mu = (ALPHA_COV * (0.25 + mu_eff + 1.0 / mu_eff - 2.0)
            / ((n + 2.0) * (n + 2.0) + ALPHA_COV * mu_eff / 2.0))
            .min(1.0 - c_1);

        // Equations 50 to 53: positive weights sum to one, negative ones to the smallest of three limits, so that the
        // matrix neither decays by itself, nor learns faster from bad candidates than from good ones, nor can lose its
        // positive definiteness.
        let alpha_mu = 1.0 + c_1 / c_mu;
        let alpha_mu_eff = 1.0 + 2.0 * mu_eff_minus / (mu_eff + 2.0);
        let alpha_pos_def = (1.0 - c_1 - c_mu) / (n * c_mu);
        let negative_sum = if active {
            alpha_mu.min(alpha_mu_eff).min(alpha_pos_def)
        } else {
            0.0
        };
        scale_to_sum(&mut weights[..mu], 1.0);
        scale_to_sum(&mut weights[mu..], negative_sum);

        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        Self {
            lambda,
            mu,
            weights,
            mu_eff,
            c_sigma,
            d_sigma: 1.0 + 2.0 * (((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma,
            c_c: (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),
            c_1,
            c_mu,
            chi_n: expected_norm(n as usize),
        }
    }

    /// The tutorial's default population, `4 + floor(3 ln n)` (equation 48).
    #[must_use]
    pub fn default_lambda(n: usize) -> usize {
        4 + libm::floor(3.0 * libm::log(n as f64)) as usize
    }

    /// Generations between two eigendecompositions (tutorial, B.2): C changes too little in fewer to be worth `n^3`.
    #[must_use]
    pub fn decomposition_gap(&self, n: usize) -> u64 {
        libm::floor(1.0 / (10.0 * n as f64 * (self.c_1 + self.c_mu))).max(1.0) as u64
    }
}

/// `(sum w)^2 / sum w^2`, equation 8.
fn selection_mass(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let sum_of_squares: f64 = weights.iter().map(|w| w * w).sum();
    sum * sum / sum_of_squares
}

/// Scales weights of one sign to the absolute sum `sum`.
fn scale_to_sum(weights: &mut [f64], sum: f64) {
    let total: f64 = weights.iter().sum::<f64>().abs();
    for w in weights {
        *w *= sum / total;
    }
}

/// `E||N(0, I)|| = sqrt(2) Gamma((n + 1) / 2) / Gamma(n / 2)`, from `chi_1 = sqrt(2 / pi)`, `chi_2 = sqrt(pi / 2)` and
/// `chi_(k + 2) = chi_k (k + 1) / k`.
fn expected_norm(n: usize) -> f64 {
    let (mut k, mut chi) = if n % 2 == 1 {
        (1, (2.0 / std::f64::consts::PI).sqrt())
    } else {
        (2, std::f64::consts::FRAC_PI_2.sqrt())
    };
    while k < n {
        chi *= (k + 1) as f64 / k as f64;
        k += 2;
    }
    chi
}
