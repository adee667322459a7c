//! Both rules against their definitions, the laws that follow from those, and what a bank refuses.

mod support;

use lorahub_adapters::{AdapterError, Bank, Module, Rule, compose};
use support::{Rng, assert_close, base, exact, module, reference};

/// Both matrices are rounded to f32 once (2^-24 each); the product of two such sums stays within a few of those.
const TOLERANCE: f64 = 5e-7;

fn bank(modules: &[Module], rule: Rule) -> Bank {
    Bank::new(modules.to_vec(), rule).expect("a valid bank")
}

fn weights(rng: &mut Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| 1.5 * rng.value()).collect()
}

fn check(modules: &[Module], rule: Rule, w: &[f64], what: &str) -> Module {
    let composed = compose(&bank(modules, rule), w).expect(what);
    for path in modules[0].pairs.keys() {
        let expected = match rule {
            Rule::Reference => reference(modules, w, path),
            Rule::Exact => exact(modules, w, path),
        };
        let found = composed.delta(path).expect("the same targets");
        assert_close(&found, &expected, TOLERANCE, &format!("{what}, {path}"));
    }
    composed
}

#[test]
fn composed_modules_are_what_the_rules_define() {
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let n = 1 + (rng.next() % 5) as usize;
        let same: Vec<_> = (0..n)
            .map(|i| module(&i.to_string(), 3, 6.0, 100 * seed + i as u64))
            .collect();
        let scaled: Vec<_> = (0..n)
            .map(|i| module(&i.to_string(), 3, 1.0 + i as f64, 100 * seed + i as u64))
            .collect();
        let ranks: Vec<_> = (0..n)
            .map(|i| module(&i.to_string(), 1 + i, 3.0 + i as f64, 100 * seed + i as u64))
            .collect();
        let w = weights(&mut rng, n);
        let composed = check(&same, Rule::Reference, &w, "reference");
        assert_eq!((composed.rank, composed.scaling()), (3, 2.0));
        let composed = check(&scaled, Rule::Reference, &w, "reference, unequal scalings");
        assert_eq!((composed.rank, composed.scaling()), (3, 1.0 / 3.0));
        let composed = check(&ranks, Rule::Exact, &w, "exact, unequal ranks and scalings");
        assert_eq!((composed.rank, composed.scaling()), (n * (n + 1) / 2, 1.0));
    }
}

#[test]
fn weights_of_zero_take_no_rank_under_exact() {
    let modules: Vec<_> = (0..4).map(|i| module(&i.to_string(), 2 + i, 3.0, i as u64)).collect();
    let composed = check(&modules, Rule::Exact, &[0.0, 0.7, -0.0, -0.2], "two of four");
    assert_eq!(composed.rank, 3 + 5);
    let composed = check(&modules, Rule::Exact, &[0.0; 4], "none");
    assert_eq!(composed.rank, 1);
    assert!(
        composed
            .pairs
            .values()
            .all(|pair| pair.b.iter().chain(&pair.a).all(|&value| value == 0.0))
    );
    let same: Vec<_> = (0..4).map(|i| module(&i.to_string(), 2, 3.0, i as u64)).collect();
    assert_eq!(check(&same, Rule::Reference, &[0.0; 4], "none").rank, 2);
}

#[test]
fn opposite_weights_are_one_model_under_reference_and_two_under_exact() {
    let modules: Vec<_> = (0..3).map(|i| module(&i.to_string(), 2, 3.0, i)).collect();
    let w = [0.3, -1.2, 0.9];
    let opposite = w.map(|weight| -weight);
    for path in modules[0].pairs.keys() {
        let delta = |rule, w: &[f64]| {
            compose(&bank(&modules, rule), w)
                .expect("composes")
                .delta(path)
                .expect("is there")
        };
        assert_eq!(delta(Rule::Reference, &w), delta(Rule::Reference, &opposite));
        let negated: Vec<_> = delta(Rule::Exact, &w).into_iter().map(|value| -value).collect();
        assert_eq!(negated, delta(Rule::Exact, &opposite));
    }
}

#[test]
fn exact_is_linear_and_reference_is_quadratic() {
    let modules: Vec<_> = (0..3).map(|i| module(&i.to_string(), 2, 3.0, i)).collect();
    let mut rng = Rng(5);
    let (v, w) = (weights(&mut rng, 3), weights(&mut rng, 3));
    let sum: Vec<_> = v.iter().zip(&w).map(|(v, w)| 2.0 * v + w).collect();
    let double: Vec<_> = w.iter().map(|w| 2.0 * w).collect();
    for path in modules[0].pairs.keys() {
        let delta = |rule, w: &[f64]| {
            compose(&bank(&modules, rule), w)
                .expect("composes")
                .delta(path)
                .expect("is there")
        };
        let of_v = delta(Rule::Exact, &v);
        let of_w = delta(Rule::Exact, &w);
        let expected: Vec<_> = of_v
            .iter()
            .zip(&of_w)
            .map(|(v, w)| 2.0 * f64::from(*v) + f64::from(*w))
            .collect();
        assert_close(&delta(Rule::Exact, &sum), &expected, TOLERANCE, "exact");
        let expected: Vec<_> = delta(Rule::Reference, &w)
            .iter()
            .map(|value| 4.0 * f64::from(*value))
            .collect();
        assert_close(&delta(Rule::Reference, &double), &expected, TOLERANCE, "reference");
    }
}

#[test]
fn the_unit_vector_gives_the_module_itself() {
    let modules: Vec<_> = (0..3).map(|i| module(&i.to_string(), 2, 1.0 + i as f64, i)).collect();
    for (i, module) in modules.iter().enumerate() {
        let mut unit = vec![0.0; 3];
        unit[i] = 1.0;
        for rule in [Rule::Reference, Rule::Exact] {
            let composed = compose(&bank(&modules, rule), &unit).expect("composes");
            assert_eq!(composed.rank, module.rank);
            for (path, pair) in &module.pairs {
                assert_eq!(composed.pairs[path].a, pair.a, "{rule}: A is copied");
                let expected: Vec<_> = module
                    .delta(path)
                    .expect("is there")
                    .into_iter()
                    .map(f64::from)
                    .collect();
                assert_close(&composed.delta(path).expect("is there"), &expected, 2e-7, "the update");
            }
        }
    }
    // Of the module whose scaling the others follow, `B` is copied too.
    let composed = compose(&bank(&modules, Rule::Reference), &[1.0, 0.0, 0.0]).expect("composes");
    assert_eq!(composed.pairs, modules[0].pairs);
    assert_eq!(composed.alpha, modules[0].alpha);
}

#[test]
fn the_bank_stacks_by_target_in_the_modules_order() {
    let modules = [module("one", 2, 4.0, 1), module("two", 3, 4.0, 2)];
    let bank = bank(&modules, Rule::Exact);
    assert_eq!((bank.len(), bank.is_empty(), bank.rule()), (2, false, Rule::Exact));
    assert_eq!(bank.names().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(bank.targets().len(), modules[0].pairs.len());
    assert!(bank.targets().is_sorted_by_key(|target| &target.path));
    for target in bank.targets() {
        let [one, two] = [&modules[0].pairs[&target.path], &modules[1].pairs[&target.path]];
        assert_eq!((target.d_in, target.d_out), (one.d_in, one.d_out));
        assert_eq!(target.ranks, [2, 3]);
        assert_eq!(target.scalings, [2.0, 4.0 / 3.0]);
        assert_eq!(target.a, [one.a.as_slice(), &two.a].concat());
        assert_eq!(target.b, [one.b.as_slice(), &two.b].concat());
        let pairs: Vec<_> = target.pairs().collect();
        assert_eq!(
            pairs,
            [
                (2, one.a.as_slice(), one.b.as_slice()),
                (3, two.a.as_slice(), two.b.as_slice())
            ]
        );
    }
    assert!(bank.notes().is_empty());
}

#[test]
fn unequal_scalings_are_folded_under_reference_and_said_so() {
    let modules = [module("one", 2, 4.0, 1), module("two", 2, 6.0, 2)];
    let folded = bank(&modules, Rule::Reference);
    for target in folded.targets() {
        assert_eq!(target.scalings, [2.0, 2.0]);
        let expected: Vec<_> = modules[1].pairs[&target.path]
            .b
            .iter()
            .map(|b| (f64::from(*b) * 1.5) as f32)
            .collect();
        assert_eq!(target.pairs().nth(1).expect("two modules").2, expected);
    }
    let [note] = folded.notes() else {
        panic!("one note, not {:?}", folded.notes())
    };
    for words in ["`two`", "scaling 3", "`one` has 2", "B is multiplied by 1.5"] {
        assert!(note.contains(words), "`{words}` is not in: {note}");
    }
    assert_eq!(folded.modules()[1].alpha, 6.0, "what the module says of itself stays");
    assert!(bank(&modules, Rule::Exact).notes().is_empty());
}

#[test]
fn bases_of_different_names_are_noted() {
    let mut other = module("two", 2, 4.0, 2);
    other.base_model = Some("another/t5".to_owned());
    let bank = Bank::new(vec![module("one", 2, 4.0, 1), other], Rule::Exact).expect("the shapes agree");
    let [note] = bank.notes() else {
        panic!("one note, not {:?}", bank.notes())
    };
    assert!(note.contains("`another/t5`") && note.contains("`tiny/t5`"), "{note}");
}

#[test]
fn modules_that_do_not_go_together_are_named() {
    let one = || module("one", 2, 4.0, 1);
    let mut fewer = module("two", 2, 4.0, 2);
    fewer.pairs.remove("decoder.block.0.layer.1.EncDecAttention.v");
    let mut wider = module("two", 2, 4.0, 2);
    let pair = wider
        .pairs
        .get_mut("decoder.block.0.layer.1.EncDecAttention.v")
        .expect("is there");
    (pair.d_in, pair.a) = (8, vec![0.5; 16]);
    let cases: [(Vec<Module>, Rule, &str, &[&str]); 5] = [
        (
            vec![],
            Rule::Exact,
            "bank-no-modules",
            &["0 modules", "at least one", "pick"],
        ),
        (
            vec![one(), fewer.clone()],
            Rule::Exact,
            "bank-targets-differ",
            &[
                "`two` has 4 targets",
                "`one` has 5",
                "EncDecAttention.v",
                "same target modules",
            ],
        ),
        (
            vec![fewer, one()],
            Rule::Exact,
            "bank-targets-differ",
            &["`one` has 5 targets", "`two` has 4"],
        ),
        (
            vec![one(), wider],
            Rule::Exact,
            "bank-sizes-differ",
            &[
                "`two` fits a [5, 8]",
                "`one` fits [5, 7]",
                "EncDecAttention.v",
                "one base model",
            ],
        ),
        (
            vec![one(), module("two", 3, 4.0, 2)],
            Rule::Reference,
            "bank-ranks-differ",
            &[
                "`two` has rank 3",
                "`one` has rank 2",
                "`reference` needs one rank",
                "use the rule `exact`",
            ],
        ),
    ];
    for (modules, rule, code, says) in cases {
        let error = Bank::new(modules, rule).expect_err(code);
        assert_eq!(error.code(), code, "{error}");
        for words in says {
            assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
        }
    }
}

#[test]
fn weights_that_cannot_be_used_are_named() {
    let bank = bank(&[module("one", 2, 4.0, 1), module("two", 2, 4.0, 2)], Rule::Reference);
    let cases: [(&[f64], &str, &[&str]); 5] = [
        (
            &[1.0],
            "compose-weight-count",
            &["1 weights for 2 modules", "one weight per module"],
        ),
        (&[1.0, 2.0, 3.0], "compose-weight-count", &["3 weights for 2 modules"]),
        (
            &[1.0, f64::NAN],
            "compose-weight-not-finite",
            &["`two`", "NaN", "finite"],
        ),
        (&[f64::INFINITY, 1.0], "compose-weight-not-finite", &["`one`", "inf"]),
        (
            &[1e39, 1.0],
            "compose-overflow",
            &["EncDecAttention.q", "range of f32", "smaller weights"],
        ),
    ];
    for (w, code, says) in cases {
        let error = compose(&bank, w).expect_err(code);
        assert_eq!(error.code(), code, "{error}");
        for words in says {
            assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
        }
    }
}

#[test]
fn rules_have_names() {
    for rule in [Rule::Reference, Rule::Exact] {
        assert_eq!(rule.to_string().parse(), Ok(rule));
        assert_eq!(serde_json::to_value(rule).expect("a name"), rule.to_string());
    }
    let error = "linear".parse::<Rule>().expect_err("no such rule");
    assert_eq!(
        error,
        AdapterError::UnknownRule {
            found: "linear".to_owned()
        }
    );
    assert!(error.to_string().contains("`reference` or `exact`"));
}

#[test]
fn modules_made_in_code_are_checked() {
    let good = module("mine", 2, 4.0, 1).pairs;
    let path = "encoder.block.0.layer.0.SelfAttention.q";
    let spoiled = |spoil: fn(&mut lorahub_adapters::LoraPair)| {
        let mut pairs = good.clone();
        spoil(pairs.get_mut(path).expect("is there"));
        pairs
    };
    let mut elsewhere = good.clone();
    let pair = elsewhere.remove(path).expect("is there");
    elsewhere.insert("encoder.block.9.layer.0.SelfAttention.q".to_owned(), pair);
    let cases = [
        (0, 4.0, good.clone(), "tensors-scaling"),
        (2, 0.0, good.clone(), "tensors-scaling"),
        (2, f64::NAN, good.clone(), "tensors-scaling"),
        (2, 4.0, Default::default(), "tensors-no-tensors"),
        (3, 4.0, good.clone(), "tensors-rank"),
        (2, 4.0, spoiled(|pair| pair.b.truncate(9)), "tensors-length"),
        (2, 4.0, spoiled(|pair| pair.a[3] = f32::INFINITY), "tensors-non-finite"),
        (
            2,
            4.0,
            spoiled(|pair| (pair.d_in, pair.a) = (8, vec![0.0; 16])),
            "tensors-base-shape",
        ),
        (
            2,
            4.0,
            spoiled(|pair| (pair.d_out, pair.b) = (4, vec![0.0; 8])),
            "tensors-base-shape",
        ),
        (2, 4.0, elsewhere, "tensors-not-in-base"),
    ];
    for (rank, alpha, pairs, code) in cases {
        let error = Module::new("mine", rank, alpha, pairs, Some(&base())).expect_err(code);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains("`mine`"), "{error}");
    }
}
