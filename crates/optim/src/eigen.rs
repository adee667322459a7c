//! Eigendecomposition of a symmetric matrix: Householder tridiagonalisation, then implicit QL.
//!
//! The algorithms `tred2` and `tql2` of EISPACK (Bowdler, Martin, Reinsch and Wilkinson, *Handbook for Automatic
//! Computation*, vol. II, 1971), in f64. Ours rather than a linear algebra crate's, because the bits must not depend on
//! the target: only `+ - * /`, square roots and `libm::hypot` are used, in one fixed order.

/// `C = B diag(values) B^T`.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// Eigenvalues in ascending order, `[n]`.
    pub values: Vec<f64>,
    /// Orthonormal eigenvectors as the columns of `B`, row-major `[n, n]`: `vectors[i * n + k]` is coordinate `i` of
    /// the vector that belongs to `values[k]`.
    pub vectors: Vec<f64>,
}

/// QL steps allowed per eigenvalue; EISPACK gives up at 30, two or three are usual.
const MAX_QL_STEPS: usize = 60;

/// Decomposes the symmetric matrix `c`, row-major `[n, n]`. Only the lower triangle is read.
///
/// Returns `None` if an entry is not finite, if `c` is not `n * n` long, or if the iteration does not converge (which
/// no finite matrix is known to cause).
#[must_use]
pub fn symmetric(c: &[f64], n: usize) -> Option<Eigen> {
    if n == 0 || c.len() != n.checked_mul(n)? || !c.iter().all(|entry| entry.is_finite()) {
        return None;
    }
    // Working copy, transposed: row k of `v` becomes eigenvector k, so that every inner loop runs over one row.
    let mut v = c.to_vec();
    for i in 0..n {
        for j in 0..i {
            v[j * n + i] = v[i * n + j];
        }
    }
    let mut d = vec![0.0; n];
    let mut e = vec![0.0; n];
    tridiagonalise(&mut v, &mut d, &mut e, n);
    implicit_ql(&mut v, &mut d, &mut e, n)?;

    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| d[a].total_cmp(&d[b]));
    let mut vectors = vec![0.0; n * n];
    for (k, &from) in order.iter().enumerate() {
        for i in 0..n {
            vectors[i * n + k] = v[from * n + i];
        }
    }
    Some(Eigen {
        values: order.iter().map(|&k| d[k]).collect(),
        vectors,
    })
}

/// `tred2`: on return `d` is the diagonal, `e[1..]` the subdiagonal of `T = Q^T C Q`, and row `k` of `v` is column `k`
/// of `Q`.
fn tridiagonalise(v: &mut [f64], d: &mut [f64], e: &mut [f64], n: usize) {
    // `v` is symmetric here, so that the transposed layout reads the same entries as EISPACK's.
    let at = |row: usize, column: usize| column * n + row;
    for j in 0..n {
        d[j] = v[at(n - 1, j)];
    }
    for i in (1..n).rev() {
        let scale: f64 = d[..i].iter().map(|entry| entry.abs()).sum();
        let mut h = 0.0;
        if scale == 0.0 {
            e[i] = d[i - 1];
            for j in 0..i {
                d[j] = v[at(i - 1, j)];
                v[at(i, j)] = 0.0;
                v[at(j, i)] = 0.0;
            }
        } else {
            for entry in &mut d[..i] {
                *entry /= scale;
                h += *entry * *entry;
            }
            let f = d[i - 1];
            let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
            e[i] = scale * g;
            h -= f * g;
            d[i - 1] = f - g;
            e[..i].fill(0.0);
            for j in 0..i {
                let f = d[j];
                v[at(j, i)] = f;
                let mut g = e[j] + v[at(j, j)] * f;
                for k in j + 1..i {
                    g += v[at(k, j)] * d[k];
                    e[k] += v[at(k, j)] * f;
                }
                e[j] = g;
            }
            let mut f = 0.0;
            for j in 0..i {
                e[j] /= h;
                f += e[j] * d[j];
            }
            let hh = f / (h + h);
            for j in 0..i {
                e[j] -= hh * d[j];
            }
            for j in 0..i {
                let (f, g) = (d[j], e[j]);
                for k in j..i {
                    v[at(k, j)] -= f * e[k] + g * d[k];
                }
                d[j] = v[at(i - 1, j)];
                v[at(i, j)] = 0.0;
            }
        }
        d[i] = h;
    }
    // Accumulate the reflections.
    for i in 0..n - 1 {
        v[at(n - 1, i)] = v[at(i, i)];
        v[at(i, i)] = 1.0;
        let h = d[i + 1];
        if h != 0.0 {
            for k in 0..=i {
                d[k] = v[at(k, i + 1)] / h;
            }
            for j in 0..=i {
                let mut g = 0.0;
                for k in 0..=i {
                    g += v[at(k, i + 1)] * v[at(k, j)];
                }
                for k in 0..=i {
                    v[at(k, j)] -= g * d[k];
                }
            }
        }
        for k in 0..=i {
            v[at(k, i + 1)] = 0.0;
        }
    }
    for j in 0..n {
        d[j] = v[at(n - 1, j)];
        v[at(n - 1, j)] = 0.0;
    }
    v[at(n - 1, n - 1)] = 1.0;
    e[0] = 0.0;
}

/// `tql2`: turns the tridiagonal matrix into its eigenvalues `d` (unsorted) and rotates the rows of `v` into the
/// eigenvectors of the original matrix.
fn implicit_ql(v: &mut [f64], d: &mut [f64], e: &mut [f64], n: usize) -> Option<()> {
    e.copy_within(1.., 0);
    e[n - 1] = 0.0;
    let mut shift = 0.0;
    let mut largest = 0.0_f64;
    for l in 0..n {
        largest = largest.max(d[l].abs() + e[l].abs());
        // The first negligible subdiagonal entry splits the matrix; e[n - 1] is zero, so there is one.
        let m = (l..n).find(|&m| e[m].abs() <= f64::EPSILON * largest)?;
        if m > l {
            let mut steps = 0;
            loop {
                steps += 1;
                if steps > MAX_QL_STEPS {
                    return None;
                }
                // Implicit shift by the eigenvalue of the leading two by two block that is nearer to d[l].
                let g = d[l];
                let p = (d[l + 1] - g) / (2.0 * e[l]);
                let r = if p < 0.0 {
                    -libm::hypot(p, 1.0)
                } else {
                    libm::hypot(p, 1.0)
                };
                d[l] = e[l] / (p + r);
                d[l + 1] = e[l] * (p + r);
                let next_diagonal = d[l + 1];
                let h = g - d[l];
                for entry in &mut d[l + 2..] {
                    *entry -= h;
                }
                shift += h;

                let mut p = d[m];
                let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
                let (mut s, mut s2) = (0.0, 0.0);
                let next_subdiagonal = e[l + 1];
                for i in (l..m).rev() {
                    c3 = c2;
                    c2 = c;
                    s2 = s;
                    let g = c * e[i];
                    let h = c * p;
                    let r = libm::hypot(p, e[i]);
                    e[i + 1] = s * r;
                    s = e[i] / r;
                    c = p / r;
                    p = c * d[i] - s * g;
                    d[i + 1] = h + s * (c * g + s * d[i]);
                    let (low, high) = v.split_at_mut((i + 1) * n);
                    for (a, b) in low[i * n..].iter_mut().zip(&mut high[..n]) {
                        let upper = *b;
                        *b = s * *a + c * upper;
                        *a = c * *a - s * upper;
                    }
                }
                p = -s * s2 * c3 * next_subdiagonal * e[l] / next_diagonal;
                e[l] = s * p;
                d[l] = c * p;
                if e[l].abs() <= f64::EPSILON * largest {
                    break;
                }
            }
        }
        d[l] += shift;
        e[l] = 0.0;
    }
    d.iter().all(|value| value.is_finite()).then_some(())
}
