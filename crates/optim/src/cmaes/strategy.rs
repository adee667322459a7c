//! The strategy itself: ask, tell, stop.

use super::settings::{check_finite, check_length};
use super::stop::History;
use super::{BoundTransform, Covariance, Parameters, Settings, StopReason};
use crate::{OptimError, Rng};

/// Sigma stays within these, so that a loss without a minimum, or losses of pure noise, never make it overflow.
const SIGMA_RANGE: (f64, f64) = (1e-150, 1e150);

/// The CMA evolution strategy with active update, box, injection and best-ever archive.
///
/// One generation is one [`ask`](Self::ask) and one [`tell`](Self::tell); the caller evaluates in between and decides
/// when to end, [`stop`](Self::stop) says when it would be wise to.
///
/// Serialises at any moment, also between ask and tell, and the restored search goes on with the same bits.
#[derive(Clone, Debug)]
pub struct CmaEs {
    pub(super) settings: Settings,
    pub(super) parameters: Parameters,
    pub(super) bounds: Option<BoundTransform>,
    /// `m`, in the unbounded space of preimages.
    pub(super) m: Vec<f64>,
    pub(super) sigma: f64,
    pub(super) covariance: Covariance,
    /// `p_c`, in the coordinates of `y`.
    pub(super) path_c: Vec<f64>,
    /// `p_sigma`, in the coordinates of `z`.
    pub(super) path_sigma: Vec<f64>,
    pub(super) generation: u64,
    /// The generation at which the covariance was last decomposed.
    pub(super) decomposed_at: u64,
    /// Whether the covariance has changed in a way that does not wait for the lazy gap.
    pub(super) roots_stale: bool,
    pub(super) evaluations: u64,
    pub(super) rng: Rng,
    /// The generation under evaluation; empty between tell and ask.
    pub(super) asked: Vec<Candidate>,
    /// Points waiting for a place in a generation, oldest first.
    pub(super) injections: Vec<Vec<f64>>,
    pub(super) best: Option<Best>,
    pub(super) history: History,
}

/// A point under evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    /// What is evaluated, inside the box.
    pub(super) x: Vec<f64>,
    /// Where it lies in the sampling distribution, whitened: the preimage is `m + sigma C^(1/2) z`.
    pub(super) z: Vec<f64>,
    /// Whether it was injected rather than sampled; then `z` is clipped and `x` is not.
    pub(super) injected: bool,
}

/// The best point ever evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Best {
    pub(super) x: Vec<f64>,
    pub(super) loss: f64,
}

impl CmaEs {
    /// A search before its first generation.
    ///
    /// # Errors
    /// Everything [`Settings`] can have wrong: dimension, step sizes, lengths, bounds, lambda.
    pub fn new(settings: Settings) -> Result<Self, OptimError> {
        let (parameters, bounds) = settings.check()?;
        let n = settings.mean.len();
        let m = bounds
            .as_ref()
            .map_or_else(|| settings.mean.clone(), |bounds| bounds.preimage(&settings.mean));
        let scales = settings.scales.clone().unwrap_or_else(|| vec![1.0; n]);
        let mut search = Self {
            parameters,
            bounds,
            m,
            sigma: settings.sigma,
            covariance: Covariance::diagonal(&scales),
            path_c: vec![0.0; n],
            path_sigma: vec![0.0; n],
            generation: 0,
            decomposed_at: 0,
            roots_stale: false,
            evaluations: 0,
            rng: Rng::new(settings.seed),
            asked: Vec::new(),
            injections: Vec::new(),
            best: None,
            history: History::default(),
            settings,
        };
        search.limit_deviations();
        Ok(search)
    }

    /// The candidates to evaluate, `[lambda, n]`, strictly inside the box; injected ones first.
    ///
    /// Asking again before telling returns the same candidates, which is how a search restored between the two goes on.
    pub fn ask(&mut self) -> Vec<Vec<f64>> {
        // The generator leaves `self` for the call; it comes back advanced.
        let mut rng = self.rng.clone();
        let candidates = self.ask_with(|| rng.normal());
        self.rng = rng;
        candidates
    }

    /// [`ask`](Self::ask) with standard normal numbers from elsewhere, such as recorded, mirrored or quasi-random ones.
    ///
    /// `normal` is called `n` times for each sampled candidate, and not at all when a generation is already asked. It
    /// must return finite numbers.
    pub fn ask_with(&mut self, mut normal: impl FnMut() -> f64) -> Vec<Vec<f64>> {
        if self.asked.is_empty() {
            let gap = self.parameters.decomposition_gap(self.dimension());
            if self.roots_stale || self.generation - self.decomposed_at >= gap {
                self.covariance.decompose();
                self.decomposed_at = self.generation;
                self.roots_stale = false;
            }
            // At least half of every generation is sampled, so that no stream of injections can starve the search.
            let injected = self.injections.len().min(self.parameters.mu);
            let waiting = self.injections.split_off(injected);
            let injected = std::mem::replace(&mut self.injections, waiting);
            self.asked = injected.into_iter().map(|x| self.place(x)).collect();
            while self.asked.len() < self.parameters.lambda {
                let z: Vec<f64> = (0..self.dimension()).map(|_| normal()).collect();
                let x = self.point(&self.covariance.colour(&z));
                self.asked.push(Candidate { x, z, injected: false });
            }
        }
        self.asked.iter().map(|candidate| candidate.x.clone()).collect()
    }

    /// Takes the losses of the asked candidates, in their order, and adapts the distribution.
    ///
    /// A loss that is not finite (NaN or either infinity) ranks as the worst and never becomes the best. If none is
    /// finite there is nothing to learn: the generation counts, the distribution stays.
    ///
    /// # Errors
    /// [`OptimError::NothingAsked`] without a generation under evaluation, [`OptimError::LossCount`] unless there is
    /// one loss per candidate. The generation then still waits for its losses.
    pub fn tell(&mut self, losses: &[f64]) -> Result<(), OptimError> {
        if self.asked.is_empty() {
            return Err(OptimError::NothingAsked);
        }
        if losses.len() != self.asked.len() {
            return Err(OptimError::LossCount {
                expected: self.asked.len(),
                found: losses.len(),
            });
        }
        let losses: Vec<f64> = losses
            .iter()
            .map(|&loss| if loss.is_finite() { loss } else { f64::INFINITY })
            .collect();
        let asked = std::mem::take(&mut self.asked);
        let n = self.dimension();
        self.generation += 1;
        self.evaluations += losses.len() as u64;

        // Sort by loss; equal losses keep the order of ask. `total_cmp` has no NaN to stumble over.
        let mut order: Vec<usize> = (0..losses.len()).collect();
        order.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]));
        self.history
            .push(order.iter().map(|&k| losses[k]).collect(), self.generation, n);
        let first = order[0];
        if losses[first].is_infinite() {
            return Ok(());
        }
        self.archive(&asked[first].x, losses[first]);
        let ranked: Vec<&Candidate> = order.iter().map(|&k| &asked[k]).collect();
        let p = &self.parameters;

        // Selection and recombination: y_w = sum w_i y_i and m <- m + sigma y_w (equations 41 and 42), with the
        // whitened z_w = C^(-1/2) y_w = sum w_i z_i, exact because the root is symmetric.
        let mut steps: Vec<Vec<f64>> = ranked
            .iter()
            .map(|candidate| self.covariance.colour(&candidate.z))
            .collect();
        let y_w = weighted_sum(&p.weights[..p.mu], steps.iter().map(Vec::as_slice), n);
        let z_w = weighted_sum(
            &p.weights[..p.mu],
            ranked.iter().map(|candidate| candidate.z.as_slice()),
            n,
        );
        for (m, y) in self.m.iter_mut().zip(&y_w) {
            *m += self.sigma * y;
        }

        // Step-size path (equation 43), and whether it is too long to trust the rank-one update (h_sigma): then sigma
        // is growing fast and the covariance path waits.
        cumulate(&mut self.path_sigma, p.c_sigma, p.mu_eff, &z_w);
        let path_length = norm(&self.path_sigma);
        let decayed = 1.0 - libm::pow(1.0 - p.c_sigma, 2.0 * self.generation as f64);
        let h_sigma = path_length / decayed.sqrt() < (1.4 + 2.0 / (n as f64 + 1.0)) * p.chi_n;

        // Covariance path (equation 45).
        if h_sigma {
            cumulate(&mut self.path_c, p.c_c, p.mu_eff, &y_w);
        } else {
            self.path_c.iter_mut().for_each(|entry| *entry *= 1.0 - p.c_c);
        }

        // Covariance matrix (equations 46 and 47). A step with a negative weight is taken at length sqrt(n), so that
        // the matrix stays positive definite; an injected one is not used against its direction, because its length
        // says nothing about the distribution.
        let mut rates = Vec::with_capacity(steps.len());
        for ((&weight, candidate), y) in p.weights.iter().zip(&ranked).zip(&mut steps) {
            if weight >= 0.0 {
                rates.push(p.c_mu * weight);
                continue;
            }
            let length = norm(&candidate.z);
            if candidate.injected || length < f64::MIN_POSITIVE {
                rates.push(0.0);
                continue;
            }
            rates.push(p.c_mu * weight);
            let factor = (n as f64).sqrt() / length;
            y.iter_mut().for_each(|entry| *entry *= factor);
        }
        let lost_variance = if h_sigma { 0.0 } else { p.c_1 * p.c_c * (2.0 - p.c_c) };
        let decay = 1.0 + lost_variance - p.c_1 - rates.iter().sum::<f64>();
        self.covariance.update(decay, p.c_1, &self.path_c, &rates, &steps);

        // Step size (equation 44), at most e-fold in a generation.
        let log_change = p.c_sigma / p.d_sigma * (path_length / p.chi_n - 1.0);
        self.sigma = (self.sigma * libm::exp(log_change.min(1.0))).clamp(SIGMA_RANGE.0, SIGMA_RANGE.1);
        self.limit_deviations();
        Ok(())
    }

    /// Queues a point from elsewhere; the next [`ask`](Self::ask) evaluates it in place of a sample.
    ///
    /// It is evaluated where it is, but for coordinates on or outside a wall, which are moved just inside. In the
    /// update its step is shortened to the length a sample may have (Hansen 2011, arXiv:1110.4181), so that a point
    /// from far away shows the direction without tearing the distribution apart. A generation holds at most `mu`
    /// injected points; more wait for the next.
    ///
    /// # Errors
    /// [`OptimError::Length`] or [`OptimError::NotFinite`] if `x` is no point of the search space.
    pub fn inject(&mut self, x: &[f64]) -> Result<(), OptimError> {
        check_length("injected point", self.dimension(), x)?;
        check_finite("injected point", x)?;
        self.injections.push(x.to_vec());
        Ok(())
    }

    /// Lets the best-ever archive know of a point evaluated elsewhere. Neither the distribution nor the count of
    /// evaluations changes; a loss that is not finite is ignored.
    ///
    /// # Errors
    /// [`OptimError::Length`] or [`OptimError::NotFinite`] if `x` is no point of the search space.
    pub fn observe(&mut self, x: &[f64], loss: f64) -> Result<(), OptimError> {
        check_length("observed point", self.dimension(), x)?;
        check_finite("observed point", x)?;
        if loss.is_finite() {
            self.archive(x, loss);
        }
        Ok(())
    }

    /// The best point ever told or observed, with its loss; the first of equals. `None` before a finite loss.
    #[must_use]
    pub fn best(&self) -> Option<(&[f64], f64)> {
        self.best.as_ref().map(|best| (best.x.as_slice(), best.loss))
    }

    /// The first reason to end that holds after the last [`tell`](Self::tell), if any (tutorial, B.3).
    #[must_use]
    pub fn stop(&self) -> Option<StopReason> {
        let tolerances = &self.settings.tolerances;
        let n = self.dimension();
        if let (Some(best), Some(target)) = (&self.best, tolerances.target)
            && best.loss <= target
        {
            return Some(StopReason::Target {
                loss: best.loss,
                target,
            });
        }
        if let Some(limit) = tolerances.max_evaluations
            && self.evaluations >= limit
        {
            return Some(StopReason::MaxEvaluations {
                evaluations: self.evaluations,
                limit,
            });
        }
        if self.generation == 0 {
            return None;
        }
        if let Some(range) = self.history.range(n)
            && range <= tolerances.tol_fun
        {
            return Some(StopReason::TolFun {
                range,
                tolerance: tolerances.tol_fun,
            });
        }
        let deviations = self.deviations();
        let path = self.path_c.iter().map(|step| self.sigma * step.abs());
        let deviation = deviations.iter().copied().chain(path).fold(0.0, f64::max);
        let tolerance = tolerances.tol_x * self.settings.sigma;
        if deviation < tolerance {
            return Some(StopReason::TolX { deviation, tolerance });
        }
        let growth = |(i, deviation): (usize, &f64)| deviation / (self.settings.sigma * self.scale(i));
        let factor = deviations.iter().enumerate().map(growth).fold(0.0, f64::max);
        if factor > tolerances.tol_up {
            return Some(StopReason::TolUp {
                factor,
                limit: tolerances.tol_up,
            });
        }
        // Finite, because a reason may have to pass through JSON.
        let condition = self.covariance.condition().min(f64::MAX);
        if condition > tolerances.condition {
            return Some(StopReason::Condition {
                condition,
                limit: tolerances.condition,
            });
        }
        let unmoved = |(i, deviation): &(usize, &f64)| self.m[*i] + 0.2 * **deviation == self.m[*i];
        if let Some((coordinate, &deviation)) = deviations.iter().enumerate().find(unmoved) {
            return Some(StopReason::NoEffect { coordinate, deviation });
        }
        if tolerances.stagnation {
            return self
                .history
                .stagnation(n)
                .map(|generations| StopReason::Stagnation { generations });
        }
        None
    }

    /// Generations told so far.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Losses told so far.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// Coordinates of the search, `n`.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.m.len()
    }

    /// The mean of the distribution as a point of the box: the strategy's own best guess, never evaluated itself.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        self.bounds
            .as_ref()
            .map_or_else(|| self.m.clone(), |bounds| bounds.into_box(&self.m))
    }

    /// The step size.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Standard deviation of each coordinate, `sigma sqrt(C_ii)`.
    #[must_use]
    pub fn deviations(&self) -> Vec<f64> {
        (0..self.dimension())
            .map(|i| self.sigma * self.covariance.deviation(i))
            .collect()
    }

    /// The covariance matrix, without `sigma^2`.
    #[must_use]
    pub fn covariance(&self) -> &Covariance {
        &self.covariance
    }

    /// The evolution paths `(p_sigma, p_c)`.
    #[must_use]
    pub fn paths(&self) -> (&[f64], &[f64]) {
        (&self.path_sigma, &self.path_c)
    }

    /// Weights and learning rates in use.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The settings the search was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The point to evaluate for a step `y`.
    fn point(&self, y: &[f64]) -> Vec<f64> {
        let preimage: Vec<f64> = self.m.iter().zip(y).map(|(m, y)| m + self.sigma * y).collect();
        match &self.bounds {
            Some(bounds) => bounds.into_box(&preimage),
            None => preimage,
        }
    }

    /// Finds an injected point's place in the distribution: its whitened step, clipped to the Mahalanobis length
    /// `sqrt(n) + 2 n / (n + 2)` (Hansen 2011).
    fn place(&self, x: Vec<f64>) -> Candidate {
        let n = self.dimension() as f64;
        let (x, preimage) = match &self.bounds {
            Some(bounds) => (bounds.strictly_inside(&x), bounds.preimage(&x)),
            None => (x.clone(), x),
        };
        // The clamp keeps the squares below finite for points at the end of the number range.
        let step = |(u, m): (&f64, &f64)| ((u - m) / self.sigma).clamp(-1e100, 1e100);
        let y: Vec<f64> = preimage.iter().zip(&self.m).map(step).collect();
        let mut z = self.covariance.whiten(&y);
        let length = norm(&z);
        let limit = n.sqrt() + 2.0 * n / (n + 2.0);
        if length > limit {
            z.iter_mut().for_each(|entry| *entry *= limit / length);
        }
        Candidate { x, z, injected: true }
    }

    /// Keeps every standard deviation below what the box has room for.
    fn limit_deviations(&mut self) {
        let Some(bounds) = &self.bounds else { return };
        let factor = |(i, deviation): (usize, f64)| (bounds.max_deviation(i) / deviation).min(1.0);
        let factors: Vec<f64> = self.deviations().into_iter().enumerate().map(factor).collect();
        if factors.iter().any(|&factor| factor < 1.0) {
            self.covariance.scale_coordinates(&factors);
            self.path_c
                .iter_mut()
                .zip(&factors)
                .for_each(|(step, factor)| *step *= factor);
            self.roots_stale = true;
        }
    }

    fn archive(&mut self, x: &[f64], loss: f64) {
        if self.best.as_ref().is_none_or(|best| loss < best.loss) {
            self.best = Some(Best { x: x.to_vec(), loss });
        }
    }

    fn scale(&self, i: usize) -> f64 {
        self.settings.scales.as_ref().map_or(1.0, |scales| scales[i])
    }
}

/// `p <- (1 - c) p + sqrt(c (2 - c) mu_eff) step`, so that a random step leaves the path's length distribution as it is.
fn cumulate(path: &mut [f64], c: f64, mu_eff: f64, step: &[f64]) {
    let normalisation = (c * (2.0 - c) * mu_eff).sqrt();
    for (entry, s) in path.iter_mut().zip(step) {
        *entry = (1.0 - c) * *entry + normalisation * s;
    }
}

fn weighted_sum<'a>(weights: &[f64], rows: impl Iterator<Item = &'a [f64]>, n: usize) -> Vec<f64> {
    let mut sum = vec![0.0; n];
    for (weight, row) in weights.iter().zip(rows) {
        for (total, entry) in sum.iter_mut().zip(row) {
            *total += weight * entry;
        }
    }
    sum
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|entry| entry * entry).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::{CmaEs, Settings};

    /// C, its path and the deviations are in the same units after the cut.
    #[test]
    fn cutting_the_deviations_back_scales_the_covariance_path_too() {
        let bounds = Some((vec![-1.5, -150.0], vec![1.5, 150.0]));
        let mut search = CmaEs::new(Settings {
            bounds,
            ..Settings::new(vec![0.0; 2], 0.5)
        })
        .expect("valid settings");
        search.sigma = 4.0;
        search.path_c = vec![1.0, 1.0];
        search.limit_deviations();
        assert_eq!(search.deviations(), [1.0, 4.0]);
        assert_eq!(search.path_c, [0.25, 1.0]);
        assert!(search.roots_stale);
    }
}
