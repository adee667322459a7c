//! One candidate, and generations of candidates, beside the bare products of the same passes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use lorahub_adapters::Rule;
use lorahub_t5::{Config, Cost, Modules, Prepared, Product};

use crate::bare::Repeated;
use crate::machine::{Spans, median, range};
use crate::workload::{Workload, tokens};
use crate::{Bare, Batch, BenchError, EvaluationReport, Lengths, Machine, Plan, Report, Shape, Stored};

/// Single evaluations before anything counts: V8 runs the first ones in its baseline compiler.
const WARM_UP: usize = 3;

pub(crate) async fn measure<B: Bare, M: Machine>(backend: &Rc<B>, plan: &Plan, machine: &M) -> Result<(), BenchError> {
    for &shape in &plan.shapes {
        machine.say(&format!("{}: random weights", shape.name()));
        let work = Workload::new(backend, shape, &plan.rules, plan.most_candidates())?;
        for &lengths in &plan.lengths {
            for (&rule, modules) in plan.rules.iter().zip(&work.modules) {
                let pass = Pass::new(&work, modules, shape, lengths, rule)?;
                machine.report(&Report::Evaluation(pass.measure(plan, machine).await?));
            }
        }
    }
    Ok(())
}

/// What is evaluated.
struct Pass<'a, B: Bare> {
    work: &'a Workload<B>,
    modules: &'a Modules<B>,
    shots: Prepared<B>,
    shape: Shape,
    lengths: Lengths,
    rule: Rule,
    cost: Cost,
}

impl<'a, B: Bare> Pass<'a, B> {
    fn new(
        work: &'a Workload<B>,
        modules: &'a Modules<B>,
        shape: Shape,
        lengths: Lengths,
        rule: Rule,
    ) -> Result<Self, BenchError> {
        let (inputs, targets) = (&lengths.inputs, &lengths.targets);
        Ok(Self {
            shots: work.t5.prepare(&tokens(&work.t5, inputs), &tokens(&work.t5, targets))?,
            cost: of_a_pass(work.t5.config(), inputs, targets),
            work,
            modules,
            shape,
            lengths,
            rule,
        })
    }

    /// Evaluates candidates `first .. first + count` together.
    async fn evaluate(&self, first: usize, count: usize) -> Result<(), BenchError> {
        let candidates: Vec<&[f64]> = self.work.candidates[first..first + count]
            .iter()
            .map(Vec::as_slice)
            .collect();
        let losses = self.modules.nll(&self.work.t5, &self.shots, &candidates).await?;
        if losses.iter().flatten().all(|loss| loss.is_finite()) {
            Ok(())
        } else {
            Err(BenchError::NotFinite {
                shape: self.shape.name(),
            })
        }
    }

    async fn singles(&self, count: usize) -> Result<(), BenchError> {
        for candidate in 0..count {
            self.evaluate(candidate, 1).await?;
        }
        Ok(())
    }

    async fn measure<M: Machine>(&self, plan: &Plan, machine: &M) -> Result<EvaluationReport, BenchError> {
        for _ in 0..WARM_UP {
            self.evaluate(0, 1).await?;
        }
        for &size in &plan.generations {
            self.evaluate(0, size).await?;
        }
        let sizes: Vec<usize> = [1].into_iter().chain(plan.generations.iter().copied()).collect();
        let mut floors = self.floors(machine, &sizes).await?;

        let mut singles = Spans::default();
        let mut batches: Vec<(usize, Spans, Vec<f64>)> = plan
            .generations
            .iter()
            .map(|&size| (size, Spans::default(), Vec::new()))
            .collect();
        for repetition in 0..plan.repetitions {
            let single = singles.time(machine, self.singles(plan.singles)).await? / plan.singles as f64;
            for (size, spans, ratios) in &mut batches {
                let together = spans.time(machine, self.evaluate(0, *size)).await?;
                ratios.push(together / (*size as f64 * single));
            }
            for floor in floors.values_mut() {
                floor.time(self.work.t5.backend(), machine).await?;
            }
            machine.say(&format!(
                "{}, {}, {}: {} of {}, single {:.1} ms",
                self.shape.name(),
                self.lengths.name,
                self.rule,
                repetition + 1,
                plan.repetitions,
                single * 1e3
            ));
        }

        let mut found = vec![self.batch(1, &singles, plan.singles, &[], &floors)];
        for (size, spans, ratios) in &batches {
            found.push(self.batch(*size, spans, *size, ratios, &floors));
        }
        Ok(EvaluationReport {
            shape: self.shape.name(),
            lengths: self.lengths.name,
            rule: self.rule,
            weights: Stored::F32,
            gflop: self.cost.flops() as f64 / 1e9,
            batches: found,
        })
    }

    /// The micro-batches in which `candidates` run: how many have which size.
    fn micro_batches(&self, candidates: usize) -> BTreeMap<usize, usize> {
        let together = (self.work.t5.backend().row_budget() / self.shots.rows()).max(1);
        let mut sizes = BTreeMap::new();
        if candidates >= together {
            sizes.insert(together, candidates / together);
        }
        if !candidates.is_multiple_of(together) {
            sizes.insert(candidates % together, 1);
        }
        sizes
    }

    /// The bare products of every micro-batch that these generations run.
    async fn floors<M: Machine>(
        &self,
        machine: &M,
        generations: &[usize],
    ) -> Result<BTreeMap<usize, Floor<B>>, BenchError> {
        let mut floors = BTreeMap::new();
        for size in generations
            .iter()
            .flat_map(|&size| self.micro_batches(size).into_keys())
        {
            if let Entry::Vacant(place) = floors.entry(size) {
                place.insert(Floor::new(&**self.work.t5.backend(), machine, &self.cost, size).await?);
            }
        }
        Ok(floors)
    }

    fn batch(
        &self,
        candidates: usize,
        spans: &Spans,
        parts: usize,
        ratios: &[f64],
        floors: &BTreeMap<usize, Floor<B>>,
    ) -> Batch {
        let sum = |seconds: fn(&Floor<B>) -> f64| -> f64 {
            self.micro_batches(candidates)
                .into_iter()
                .map(|(size, count)| count as f64 * floors.get(&size).map_or(f64::NAN, seconds))
                .sum::<f64>()
                / candidates as f64
        };
        let time = spans.timing(parts);
        let linears: u64 = self.cost.linears.iter().map(Product::flops).sum();
        let gflops = self.cost.flops() as f64 / time.ms / 1e6;
        let gemm_gflops = linears as f64 / sum(Floor::linears) / 1e9;
        let floor_ms = sum(Floor::all) * 1e3;
        Batch {
            candidates,
            time,
            gflops,
            gemm_gflops,
            share: gflops / gemm_gflops,
            floor_ms,
            times_floor: time.ms / floor_ms,
            of_singles: (!ratios.is_empty()).then(|| median(ratios)),
            of_singles_range: (!ratios.is_empty()).then(|| range(ratios)),
        }
    }
}

/// The products of one candidate's pass. [`Cost`] counts an evaluation in full; q, k and v of the first blocks do not
/// depend on the candidate and are done when the shots are prepared.
fn of_a_pass(config: &Config, inputs: &[usize], targets: &[usize]) -> Cost {
    let mut cost = Cost::of_evaluation(config, inputs, targets);
    for rows in [inputs.iter().sum::<usize>(), targets.iter().sum()] {
        let shared = cost.linears.iter_mut().find(|product| {
            (product.rows, product.d_in, product.d_out) == (rows, config.d_model, config.inner()) && product.count >= 3
        });
        if let Some(shared) = shared {
            shared.count -= 3;
        }
    }
    cost
}

/// A product of the pass, how often the pass does it, and its spans.
type Item<B> = (Repeated<B>, usize, Spans);

/// The bare products of one micro-batch.
struct Floor<B: Bare> {
    linears: Vec<Item<B>>,
    /// Empty where the backend does attention otherwise.
    attention: Vec<Item<B>>,
}

impl<B: Bare> Floor<B> {
    async fn new<M: Machine>(backend: &B, machine: &M, cost: &Cost, candidates: usize) -> Result<Self, BenchError> {
        let mut linears = Vec::new();
        for ((rows, d_in, d_out), count) in by_size(&cost.linears) {
            let repeated = Repeated::new(backend, machine, (rows * candidates, d_in, d_out)).await?;
            linears.push((repeated, count, Spans::default()));
        }
        let mut attention = Vec::new();
        if B::ATTENTION {
            for (size, count) in by_size(&cost.attention) {
                let repeated = Repeated::new(backend, machine, size).await?;
                attention.push((repeated, count * candidates, Spans::default()));
            }
        }
        Ok(Self { linears, attention })
    }

    async fn time<M: Machine>(&mut self, backend: &B, machine: &M) -> Result<(), BenchError> {
        for (repeated, _, spans) in self.linears.iter_mut().chain(&mut self.attention) {
            spans.time(machine, repeated.run(backend)).await?;
        }
        Ok(())
    }

    /// Seconds of the linears of one micro-batch.
    fn linears(&self) -> f64 {
        seconds(&self.linears)
    }

    /// Seconds of all products of one micro-batch.
    fn all(&self) -> f64 {
        seconds(&self.linears) + seconds(&self.attention)
    }
}

/// How often each size of product is done.
fn by_size(products: &[Product]) -> BTreeMap<(usize, usize, usize), usize> {
    let mut sizes = BTreeMap::new();
    for product in products {
        *sizes.entry((product.rows, product.d_in, product.d_out)).or_default() += product.count;
    }
    sizes
}

fn seconds<B: Bare>(items: &[Item<B>]) -> f64 {
    items
        .iter()
        .map(|(repeated, count, spans)| *count as f64 * spans.median() / repeated.calls as f64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_an_evaluation_without_the_first_blocks_shared_products() {
        let config = Shape::Small.config().expect("a config");
        let (inputs, targets) = (&Lengths::EQUAL_64.inputs, &Lengths::EQUAL_64.targets);
        let (whole, pass) = (
            Cost::of_evaluation(&config, inputs, targets),
            of_a_pass(&config, inputs, targets),
        );
        let shared = 3 * 2 * (5 * 64 + 5 * 16) * config.d_model as u64 * config.inner() as u64;
        assert_eq!(whole.flops() - pass.flops(), shared);
        assert_eq!(whole.attention, pass.attention);
    }
}
