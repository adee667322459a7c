//! Layers as one chain have the bits of their operations one by one, whoever does the chain: here a plain interpreter that
//! works on one row after another, as a thread that was given some of the rows may.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;

use lorahub_adapters::{BankTarget, Rule};
use lorahub_kernels::{
    F32Panels, LowRank, Output, Rows, RowsMut, Scratch, add_low_rank_in, gated_gelu, multiply, output_row, rms_norm,
};
use lorahub_tensor::{
    Backend, Chain, Chains, Cpu, CpuLora, CpuTensor, CpuWeight, Matrix, Norm, Packed, Products, Projection, Step,
    TensorError, WeightStorage,
};

/// Multiplies in this program, and does chains if it is told to.
#[derive(Debug)]
struct Interpreter {
    does_chains: bool,
    done: Rc<Cell<usize>>,
}

#[derive(Debug)]
struct Taken(Packed);

impl Taken {
    fn add(x: &[f32], rows: usize, first: usize, low: LowRank<'_>, out: &mut [f32]) {
        let mut out = RowsMut {
            data: out,
            stride: low.outputs,
        };
        let hidden = &mut vec![0.0; rows * low.rank];
        add_low_rank_in(
            Rows::new(x, rows, low.inputs),
            low,
            first,
            0..low.outputs,
            &mut out,
            hidden,
        );
    }

    fn rows(&self, x: &[f32], rows: usize, first: usize, low: Option<LowRank<'_>>, out: &mut [f32]) {
        let (outputs, inputs) = self.0.dims();
        let x_rows = Rows::new(x, rows, inputs);
        let to = &mut RowsMut {
            data: &mut *out,
            stride: outputs,
        };
        let scratch = &mut Scratch::default();
        match &self.0 {
            Packed::F32(packed) => multiply(x_rows, packed.view(), 0..outputs, to, Output::Store, scratch),
            Packed::F16(packed) => multiply(x_rows, packed.view(), 0..outputs, to, Output::Store, scratch),
            Packed::Q8(packed) | Packed::Q8Integer(packed) => {
                multiply(x_rows, packed.view(), 0..outputs, to, Output::Store, scratch);
            }
        }
        if let Some(low) = low {
            Self::add(x, rows, first, low, out);
        }
    }
}

impl Matrix for Taken {
    fn product(
        &self,
        rows: usize,
        heads: usize,
        x: &[f32],
        low: Option<LowRank<'_>>,
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        assert_eq!(heads, 1, "no layer here has heads of its own");
        self.rows(x, rows, 0, low, out);
        Ok(())
    }

    fn transposed_product(&self, _: usize, _: usize, _: &[f32], _: &mut [f32]) -> Result<(), TensorError> {
        panic!("no layer here transposes")
    }

    fn row(&self, output: usize, out: &mut [f32]) -> Result<(), TensorError> {
        let scratch = &mut Scratch::default();
        match &self.0 {
            Packed::F32(packed) => output_row(packed.view(), output, out, scratch),
            Packed::F16(packed) => output_row(packed.view(), output, out, scratch),
            Packed::Q8(packed) | Packed::Q8Integer(packed) => output_row(packed.view(), output, out, scratch),
        }
        Ok(())
    }
}

impl Products for Interpreter {
    fn instructions(&self) -> &str {
        "interpreted"
    }

    fn threads(&self) -> usize {
        1
    }

    fn take(&self, packed: Packed) -> Result<Box<dyn Matrix>, TensorError> {
        Ok(Box::new(Taken(packed)))
    }

    fn multiply(&self, x: Rows<'_>, weight: F32Panels<'_>, columns: usize, out: &mut RowsMut<'_>) {
        multiply(x, weight, 0..columns, out, Output::Store, &mut Scratch::default());
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        for (x, out) in x.chunks(weight.len()).zip(out.chunks_mut(weight.len())) {
            rms_norm(x, weight, eps, out);
        }
    }

    fn gated_gelu(&self, gate: &mut [f32], up: &[f32]) {
        gated_gelu(gate, up);
    }

    fn chains(&self, _: usize) -> Option<&dyn Chains> {
        self.does_chains.then_some(self)
    }

    fn add_low_rank(&self, rows: usize, x: &[f32], low: LowRank<'_>, out: &mut [f32]) -> Result<(), TensorError> {
        Taken::add(x, rows, 0, low, out);
        Ok(())
    }
}

impl Chains for Interpreter {
    fn run(
        &self,
        chain: &Chain<'_>,
        inputs: &[(usize, &[f32])],
        outputs: &mut [(usize, &mut [f32])],
    ) -> Result<(), TensorError> {
        self.done.set(self.done.get() + 1);
        for row in 0..chain.rows {
            // What is not an input is nothing that may be relied on.
            let mut values: Vec<Vec<f32>> = chain.widths.iter().map(|&width| vec![f32::NAN; width]).collect();
            for (activation, whole) in inputs {
                let width = chain.widths[*activation];
                values[*activation].copy_from_slice(&whole[row * width..(row + 1) * width]);
            }
            for step in chain.steps {
                match *step {
                    Step::Norm { x, weight, eps, out } => {
                        let x = values[x].clone();
                        rms_norm(&x, weight, eps, &mut values[out]);
                    }
                    Step::Product { x, matrix, low, out } => {
                        let x = values[x].clone();
                        let matrix = (matrix as &dyn Any).downcast_ref::<Taken>().unwrap();
                        matrix.rows(&x, 1, row, low, &mut values[out]);
                    }
                    Step::GatedGelu { gate, up } => {
                        let up = values[up].clone();
                        gated_gelu(&mut values[gate], &up);
                    }
                    Step::Add { x, out } => {
                        let x = values[x].clone();
                        values[out].iter_mut().zip(x).for_each(|(out, x)| *out += x);
                    }
                }
            }
            for (activation, whole) in &mut *outputs {
                let width = chain.widths[*activation];
                whole[row * width..(row + 1) * width].copy_from_slice(&values[*activation]);
            }
        }
        Ok(())
    }
}

/// Irregular values from -1 to 1, times `scale`.
fn irregular(seed: usize, count: usize, scale: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + seed * 104_729) as f32 * 0.618_034).fract() * 2.0 * scale - scale)
        .collect()
}

fn activation(seed: usize, rows: usize, columns: usize) -> CpuTensor {
    let values = irregular(seed, rows * columns, 1.0);
    let tensor = candle_core::Tensor::from_vec(values, (rows, columns), &candle_core::Device::Cpu).unwrap();
    CpuTensor::from_candle(&tensor).unwrap()
}

fn bits(tensor: &CpuTensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.to_candle().unwrap().flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

const WIDTH: usize = 64;
const INNER: usize = 96;
const CANDIDATES: usize = 3;

/// Every layer's results, with LoRAs under this rule or without, and the number of chains that were done.
fn layers(does_chains: bool, storage: WeightStorage, rule: Option<Rule>, tokens: usize) -> (Vec<Vec<u32>>, usize) {
    let done = Rc::new(Cell::new(0));
    let cpu = Cpu::new().with_weights(storage).with_products(Rc::new(Interpreter {
        does_chains,
        done: done.clone(),
    }));
    let rows = CANDIDATES * tokens;
    let (x, attended) = (activation(1, rows, WIDTH), activation(2, rows, INNER));
    let norm = cpu.weight(&[WIDTH], irregular(3, WIDTH, 2.0)).unwrap();
    let linear = |seed: usize, d_in: usize, d_out: usize| -> (CpuWeight, Option<CpuLora>) {
        let weight = cpu.weight(&[d_out, d_in], irregular(seed, d_out * d_in, 0.3)).unwrap();
        let lora = rule.map(|rule| {
            let bank = BankTarget {
                path: "encoder.block.0.layer.0.SelfAttention.q".into(),
                d_in,
                d_out,
                ranks: vec![4; 2],
                scalings: vec![2.0; 2],
                a: irregular(seed + 1, 8 * d_in, 0.5),
                b: irregular(seed + 2, 8 * d_out, 0.5),
            };
            let w = [vec![0.5, -1.5], vec![0.0, 0.0], vec![1.0, 0.25]];
            cpu.compose(&cpu.bank(&bank, rule).unwrap(), &w).unwrap()
        });
        (weight, lora)
    };
    let [q, k, v] = [10, 20, 30].map(|seed| linear(seed, WIDTH, INNER));
    let [o, out] = [40, 50].map(|seed| linear(seed, INNER, WIDTH));
    fn of((weight, lora): &(CpuWeight, Option<CpuLora>)) -> Projection<'_, Cpu> {
        let lora = lora.as_ref();
        Projection { weight, lora }
    }
    let norm = || Norm {
        weight: &norm,
        eps: 1e-6,
    };
    let own = cpu.normed_linears(&x, norm(), [of(&q), of(&k), of(&v)]).unwrap();
    let sum = cpu.linear_residual(&x, &attended, of(&o)).unwrap();
    let fed = cpu.gated_feed_forward(&x, norm(), [of(&q), of(&k)], of(&out)).unwrap();
    let results = own.iter().chain([&sum, &fed]).map(bits).collect();
    (results, done.get())
}

#[test]
fn a_chain_has_the_bits_of_its_operations() {
    for storage in [WeightStorage::F32, WeightStorage::F16, WeightStorage::Q8] {
        for rule in [None, Some(Rule::Reference), Some(Rule::Exact)] {
            for tokens in [1, 7] {
                let (chained, done) = layers(true, storage, rule, tokens);
                let (one_by_one, none) = layers(false, storage, rule, tokens);
                assert_eq!(
                    (done, none),
                    (3, 0),
                    "{} {rule:?}: chains that were done",
                    storage.name()
                );
                assert_eq!(chained, one_by_one, "{} {rule:?}, {tokens} tokens", storage.name());
            }
        }
    }
}

/// The kernels have no form for q4_0, so nobody has taken the matrices.
#[test]
fn what_nobody_has_taken_is_no_chain() {
    let (found, done) = layers(true, WeightStorage::Q4, Some(Rule::Reference), 5);
    assert_eq!(done, 0);
    assert_eq!(found, layers(false, WeightStorage::Q4, Some(Rule::Reference), 5).0);
}

#[test]
fn operands_of_another_shape_are_named() {
    let products = Interpreter {
        does_chains: true,
        done: Rc::default(),
    };
    let cpu = Cpu::new().with_products(Rc::new(products));
    let [wide, narrow] = [(1, WIDTH), (2, INNER)].map(|(seed, columns)| activation(seed, 4, columns));
    let norm = cpu.weight(&[WIDTH], irregular(3, WIDTH, 1.0)).unwrap();
    let norm = || Norm {
        weight: &norm,
        eps: 1e-6,
    };
    let [to_inner, to_wide] = [(INNER, WIDTH), (WIDTH, INNER)]
        .map(|(d_out, d_in)| cpu.weight(&[d_out, d_in], irregular(4, d_out * d_in, 1.0)).unwrap());
    let of = |weight| Projection { weight, lora: None };
    let refused = [
        cpu.normed_linears(&narrow, norm(), [of(&to_inner)]).map(drop),
        cpu.normed_linears(&wide, norm(), [of(&to_wide)]).map(drop),
        cpu.linear_residual(&narrow, &narrow, of(&to_wide)).map(drop),
        cpu.gated_feed_forward(&wide, norm(), [of(&to_inner), of(&to_inner)], of(&to_inner))
            .map(drop),
        cpu.gated_feed_forward(&narrow, norm(), [of(&to_inner), of(&to_inner)], of(&to_wide))
            .map(drop),
    ];
    for result in refused {
        assert!(matches!(result, Err(TensorError::Shape { .. })), "{result:?}");
    }
}
