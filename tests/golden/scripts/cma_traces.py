"""Golden data for lorahub-optim, made with pycma.

    python tests/golden/scripts/cma_traces.py --out tests/golden/cma

needs cma 4.5.0 and numpy 2.4.6, runs for about three minutes on one core, and writes

    parameters.json   strategy parameters for many (n, lambda)
    traces.json       distribution after 1, 10 and 100 tells, from samples both sides can make
    evaluations.json  evaluations that pycma's defaults need to reach 1e-8
    bounds.json       pycma's BoundTransform and its inverse on [-1.5, 1.5]

Seeded throughout; two runs write the same bytes on one machine (evaluations.json may differ in a few runs between
machines, because numpy's eigh differs in the last bits).

pycma 4.5 departs from the tutorial (arXiv:1604.00772) in c_sigma, d_sigma, h_sigma and, below six candidates, c_1.
parameters.json therefore takes these from the tutorial's Table 1, written out below, and everything else from pycma;
traces.json runs pycma's own update with these set to the tutorial's and its two guards against
degenerate matrices (an initial C of exp(1e-4 i / n), 1e-9 added to every length) taken out. evaluations.json is pycma as it comes.
"""

import argparse
import json
import math
import pathlib
import platform
import sys
import warnings

import cma
import numpy as np
from cma.boundary_handler import BoundTransform
from cma.recombination_weights import RecombinationWeights
from cma.sampler import GaussFullSampler
from cma.sigma_adaptation import CMAAdaptSigmaCSA

PINNED = {"cma": "4.5.0", "numpy": "2.4.6"}


def provenance():
    return {
        "script": "tests/golden/scripts/cma_traces.py",
        "cma": cma.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


# --- Strategy parameters -------------------------------------------------------------------------------------------


def chi(n):
    """E||N(0, I)|| in n dimensions, exactly (pycma's own table ends at 100)."""
    return math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))


def tutorial_csa(n, mueff):
    """c_sigma and d_sigma of the tutorial, equation 55."""
    cs = (mueff + 2) / (n + mueff + 5)
    return cs, 1 + 2 * max(0, math.sqrt((mueff - 1) / (n + 1)) - 1) + cs


def parameters():
    rows = []
    for n in (2, 5, 20, 50, 200):
        for lam in (4, 5, 6, 7, 8, 12, 15, 16, 32, 64):
            weights = RecombinationWeights(lam)
            mueff = weights.mueff
            if lam >= 6:
                learned = GaussFullSampler(n).parameters(mueff=mueff, lam=lam)
                c1, cmu = learned["c1"], learned["cmu"]
            else:
                c1 = 2 / ((n + 1.3) ** 2 + mueff)
                cmu = min(1 - c1, 2 * (0.25 + mueff + 1 / mueff - 2) / ((n + 2) ** 2 + mueff))
            weights.finalize_negative_weights(n, c1, cmu)
            cs, damps = tutorial_csa(n, mueff)
            options = {"popsize": lam, "verbose": -9, "CMA_mirrors": 0}
            cc = cma.CMAEvolutionStrategy(n * [0.0], 1, options).sp.cc
            rows.append({
                "n": n, "lambda": lam, "mu": weights.mu, "weights": list(weights), "mu_eff": mueff,
                "c_sigma": cs, "d_sigma": damps, "c_c": cc, "c_1": c1, "c_mu": cmu, "chi_n": chi(n),
            })
    return {"provenance": provenance(), "rows": rows}


# --- Traces --------------------------------------------------------------------------------------------------------


class Stream:
    """Numbers that Python and Rust make alike to the last bit: Irwin-Hall sums over a 64-bit LCG (Knuth's MMIX)."""

    def __init__(self, seed):
        self.state = seed

    def uniform(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 11) / 2**53

    def normal(self):
        total = 0.0
        for _ in range(12):
            total += self.uniform()
        return total - 6.0


class TutorialCSA(CMAAdaptSigmaCSA):
    """pycma's cumulative step-size adaptation with the tutorial's h_sigma; counts how often it stalls."""

    stalls = 0

    def hsig(self, es):
        self._update_ps(es)
        decayed = 1 - (1 - self.cs) ** (2 * es.countiter)
        go = np.linalg.norm(self.ps) / math.sqrt(decayed) < (1.4 + 2 / (es.N + 1)) * chi(es.N)
        self.stalls += not go
        return go


class TutorialSampler(GaussFullSampler):
    """pycma's sampler, starting at the identity and without the 1e-9 that its update adds to lengths."""

    updating = False

    def __init__(self, n):
        super().__init__(n)
        # pycma starts a little off the identity, to keep eigh from meeting equal eigenvalues.
        self.C, self.B, self.D = np.eye(n), np.eye(n), np.ones(n)

    def norm(self, x):
        return super().norm(x) - 1e-9 * self.updating

    def update(self, vectors, weights, c1_times_delta_hsigma=0):
        self.updating = True
        super().update(vectors, weights, c1_times_delta_hsigma)
        self.updating = False


FUNCTIONS = {
    "sphere": lambda x: sum(x**2),
    "ellipsoid": lambda x: sum(10 ** (6 * i / (len(x) - 1)) * v**2 for i, v in enumerate(x)),
    "rosenbrock": lambda x: sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "rastrigin": lambda x: 10 * len(x) + sum(x**2 - 10 * np.cos(2 * np.pi * x)),
}

# name, n, lambda, active, function, start (every coordinate), sigma, tells before the injection of the origin.
# Those that converge within 100 tells do so at the origin: pycma computes steps as differences of points, and would
# lose digits near any other.
TRACES = [
    ("small", 2, 6, True, "ellipsoid", 3.0, 2.0, None),
    ("odd lambda", 5, 9, True, "ellipsoid", 3.0, 2.0, None),
    ("default 20", 20, 12, True, "ellipsoid", 3.0, 2.0, None),
    ("search", 20, 16, True, "sphere", 0.5, 0.15, None),
    ("not active", 5, 8, False, "rosenbrock", 0.0, 0.5, None),
    ("stalled path", 5, 8, True, "sphere", 3.0, 0.001, None),
    ("injected", 5, 8, True, "sphere", 3.0, 0.1, 4),
]


def trace(name, n, lam, active, function, start, sigma, inject_after):
    options = {
        "popsize": lam, "CMA_active": active, "CMA_mirrors": 0, "updatecovwait": 0, "AdaptSigma": TutorialCSA,
        "verbose": -9, "seed": 1, "signals_filename": "", "conditioncov_alleviate": [None, None],
    }
    es = cma.CMAEvolutionStrategy(n * [start], sigma, options)
    es.sm = TutorialSampler(n)
    es._updateBDfromSM(es.sm)
    es.adapt_sigma.initialize(es)
    es.adapt_sigma.cs, es.adapt_sigma.damps = tutorial_csa(n, es.sp.weights.mueff)
    stream = Stream(n * 1000 + lam)
    pending = []

    def randn(number, dimension):
        # B (D * B^T z) = C^(1/2) z, whatever signs and order eigh gave the eigenvectors.
        assert (number, dimension) == (lam, n) and len(pending) == lam
        return np.array(pending) @ es.sm.B

    es.sm.randn = randn
    checkpoints = []
    for tell in range(1, 101):
        inject = inject_after is not None and tell == inject_after + 1
        pending[:] = [n * [0.0]] * inject + [[stream.normal() for _ in range(n)] for _ in range(lam - inject)]
        candidates = es.ask()
        if inject:
            candidates[0] = np.zeros(n)  # unknown to pycma, so that tell clips its length
        es.tell(candidates, [float(FUNCTIONS[function](x)) for x in candidates])
        if tell in (1, 10, 100):
            checkpoints.append({
                "tells": tell, "m": list(es.mean), "sigma": float(es.sigma),
                "c": [float(es.sm.C[i, j]) for i in range(n) for j in range(i + 1)],
                "path_sigma": list(es.adapt_sigma.ps), "path_c": list(es.pc),
            })
    return {
        "name": name, "n": n, "lambda": lam, "active": active, "function": function, "start": start, "sigma": sigma,
        "inject_after": inject_after, "stream_seed": n * 1000 + lam, "stalls": es.adapt_sigma.stalls,
        "checkpoints": checkpoints,
    }


def traces():
    return {"provenance": provenance(), "traces": [trace(*row) for row in TRACES]}


# --- Evaluations ---------------------------------------------------------------------------------------------------

# function, n, lambda (None: default), start, sigma, runs
PROBLEMS = [
    ("sphere", 5, None, 3.0, 2.0, 51),
    ("ellipsoid", 5, None, 3.0, 2.0, 51),
    ("rosenbrock", 5, None, 0.0, 0.5, 51),
    ("rastrigin", 5, 80, 3.0, 2.0, 51),
    ("sphere", 20, None, 3.0, 2.0, 31),
    ("ellipsoid", 20, None, 3.0, 2.0, 15),
    ("rosenbrock", 20, None, 0.0, 0.5, 15),
    ("sphere", 50, None, 3.0, 2.0, 15),
]
TARGET = 1e-8


def evaluations_to_target(function, n, lam, start, sigma, seed):
    options = {"verbose": -9, "seed": seed, "signals_filename": ""}
    if lam:
        options["popsize"] = lam
    es = cma.CMAEvolutionStrategy(n * [start], sigma, options)
    count = 0
    while not es.stop():
        candidates = es.ask()
        losses = [float(FUNCTIONS[function](x)) for x in candidates]
        for loss in losses:
            count += 1
            if loss < TARGET:
                return count
        es.tell(candidates, losses)
    return None


def evaluations():
    rows = []
    for function, n, lam, start, sigma, runs in PROBLEMS:
        counts = [evaluations_to_target(function, n, lam, start, sigma, seed) for seed in range(1, runs + 1)]
        hits = sorted(count for count in counts if count is not None)
        row = {
            "function": function, "n": n, "lambda": lam, "start": start, "sigma": sigma, "target": TARGET,
            "runs": runs, "hits": len(hits), "median": float(np.median(hits)), "evaluations": hits,
        }
        print(f"{function} {n}: {len(hits)} of {runs}, median {row['median']}", file=sys.stderr)
        rows.append(row)
    return {"provenance": provenance(), "rows": rows}


# --- Bounds --------------------------------------------------------------------------------------------------------


def bounds():
    transform = BoundTransform([-1.5, 1.5])
    preimages = [round(u * 0.0375, 4) for u in range(-200, 201)]
    inside = [round(x * 0.0187, 4) for x in range(-80, 81)]
    return {
        "provenance": provenance(), "lower": -1.5, "upper": 1.5,
        "preimages": preimages, "mapped": [float(transform.repair(np.array([u]))[0]) for u in preimages],
        "inside": inside, "inverse": [float(transform.inverse(np.array([x]))[0]) for x in inside],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the JSON files")
    out = parser.parse_args().out
    found = {"cma": cma.__version__, "numpy": np.__version__}
    if found != PINNED:
        sys.exit(f"these goldens are made with {PINNED}, found {found}; install the pinned versions")
    warnings.simplefilter("ignore")
    out.mkdir(parents=True, exist_ok=True)
    for make in (parameters, traces, bounds, evaluations):
        path = out / f"{make.__name__}.json"
        path.write_text(json.dumps(make(), separators=(",", ":")) + "\n")
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
