//! The relaxed-simd build in the program's own memory, on one thread.

use std::cell::{RefCell, UnsafeCell};
use std::mem::offset_of;
use std::rc::Rc;

use lorahub_kernels::{F32Panels, Form, Job, LowRank, Operation, PANEL, Rows, RowsMut, Scratch, Weight as _};
use lorahub_tensor::{Matrix, Packed, Products, TensorError};

use crate::HostError;
use crate::module::{ALIGN, Build, Exports, PLACE, RELAXED, compile, instantiate};
use crate::space::{added, job, low_rank_job, of_head, on_rows, parts, transposed_job, without_addresses};

/// Memory that the instance alone uses.
#[repr(C, align(64))]
struct Place {
    itself: [u8; PLACE],
    scratch: [u8; Job::SCRATCH],
}
const _: () = assert!(align_of::<Place>() == ALIGN && offset_of!(Place, scratch).is_multiple_of(ALIGN));

struct Instance {
    exports: Exports,
    place: Box<UnsafeCell<Place>>,
    /// What LoRAs have between their two matrices; kept and grown.
    hidden: RefCell<Vec<f32>>,
    /// Where matrices are transposed, head by head; kept and grown.
    transposed: RefCell<Vec<[f32; PANEL]>>,
}

impl Instance {
    /// Runs a job whose operands all lie in the program's memory.
    fn run(&self, job: Job, low: Option<LowRank<'_>>) {
        let mut hidden = self.hidden.borrow_mut();
        let low_rank = low.map(|low| {
            let least = job.m as usize * low.rank;
            let length = hidden.len().max(least);
            hidden.resize(length, 0.0);
            let factors = low.factors.map_or(0, |factors| factors.as_ptr() as u32);
            let (a, b) = (low.a.as_ptr() as u32, low.b.as_ptr() as u32);
            low_rank_job(&low, job.m, [a, b, factors, hidden.as_mut_ptr() as u32])
        });
        let job = Job {
            scratch: self.place.get() as u32 + offset_of!(Place, scratch) as u32,
            low_rank: low_rank.unwrap_or_default(),
            ..job
        };
        // The call reads and writes what the job points at, as far as its shapes say.
        self.exports.run(&raw const job as u32);
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Own(Rc<Instance>);

impl Own {
    pub(crate) fn open() -> Result<Self, HostError> {
        let place = Box::new(UnsafeCell::new(Place {
            itself: [0; PLACE],
            scratch: [0; Job::SCRATCH],
        }));
        let at = place.get() as u32;
        let exports = instantiate(&compile(RELAXED)?, &wasm_bindgen::memory(), at)?;
        Ok(Self(Rc::new(Instance {
            exports,
            place,
            hidden: RefCell::default(),
            transposed: RefCell::default(),
        })))
    }
}

impl Products for Own {
    fn instructions(&self) -> &str {
        Build::Relaxed.instructions()
    }

    fn threads(&self) -> usize {
        1
    }

    fn take(&self, packed: Packed) -> Result<Box<dyn Matrix>, TensorError> {
        Ok(Box::new(Held {
            packed,
            instance: self.0.clone(),
            scratch: RefCell::default(),
        }))
    }

    fn multiply(&self, x: Rows<'_>, weight: F32Panels<'_>, columns: usize, out: &mut RowsMut<'_>) {
        let (outputs, inputs) = (weight.outputs(), weight.inputs());
        // From a matrix's first number to its last.
        let reach = |stride: usize, width: usize| x.count.saturating_sub(1) * stride + width;
        assert!(
            columns <= outputs
                && x.data.len() >= reach(x.stride, inputs)
                && out.data.len() >= reach(out.stride, columns),
            "operands of another shape"
        );
        let job = Job {
            weights: weight.rows().as_ptr() as u32,
            x: x.data.as_ptr() as u32,
            x_stride: x.stride as u32,
            m: x.count as u32,
            out: out.data.as_mut_ptr() as u32,
            out_stride: out.stride as u32,
            columns: columns as u32,
            ..without_addresses(Form::F32, (outputs, inputs))
        };
        self.0.run(job, None);
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let rows = x.len() / weight.len().max(1);
        check(rows, x, weight.len(), out, weight.len());
        let job = Job {
            weights: weight.as_ptr() as u32,
            x: x.as_ptr() as u32,
            m: rows as u32,
            out: out.as_mut_ptr() as u32,
            eps,
            ..on_rows(Operation::RmsNorm, weight.len())
        };
        self.0.run(job, None);
    }

    fn gated_gelu(&self, gate: &mut [f32], up: &[f32]) {
        check(1, up, gate.len(), gate, gate.len());
        let job = Job {
            x: up.as_ptr() as u32,
            m: 1,
            out: gate.as_mut_ptr() as u32,
            ..on_rows(Operation::GatedGelu, gate.len())
        };
        self.0.run(job, None);
    }

    fn add_low_rank(&self, rows: usize, x: &[f32], low: LowRank<'_>, out: &mut [f32]) -> Result<(), TensorError> {
        check(rows, x, low.inputs, out, low.outputs);
        let job = Job {
            x: x.as_ptr() as u32,
            m: rows as u32,
            out: out.as_mut_ptr() as u32,
            ..added(&low)
        };
        self.0.run(job, Some(low));
        Ok(())
    }
}

/// What a job points at lies where its shapes say.
fn check(rows: usize, x: &[f32], inputs: usize, out: &[f32], outputs: usize) {
    assert!(
        x.len() == rows * inputs && out.len() == rows * outputs,
        "operands of another shape"
    );
}

#[derive(Debug)]
struct Held {
    packed: Packed,
    instance: Rc<Instance>,
    scratch: RefCell<Scratch>,
}

impl Matrix for Held {
    fn product(
        &self,
        rows: usize,
        heads: usize,
        x: &[f32],
        low: Option<LowRank<'_>>,
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        let (outputs, inputs) = self.packed.dims();
        check(rows, x, heads * inputs, out, outputs);
        let (weights, scales) = parts(&self.packed);
        let job = Job {
            weights: weights.as_ptr() as u32,
            scales: scales.as_ptr() as u32,
            x: x.as_ptr() as u32,
            m: rows as u32,
            out: out.as_mut_ptr() as u32,
            ..job(&self.packed)
        };
        for head in 0..heads as u32 {
            self.instance.run(of_head(job, head, heads as u32), low);
        }
        Ok(())
    }

    fn transposed_product(&self, rows: usize, heads: usize, x: &[f32], out: &mut [f32]) -> Result<(), TensorError> {
        let (outputs, inputs) = self.packed.dims();
        check(rows, x, outputs, out, heads * inputs);
        let (scratch, memory) = (
            &mut *self.scratch.borrow_mut(),
            &mut *self.instance.transposed.borrow_mut(),
        );
        let width = outputs / heads;
        for head in 0..heads {
            let weights = self
                .packed
                .transposed(head * width..(head + 1) * width, memory, scratch);
            let job = transposed_job((outputs, inputs), head as u32, heads as u32);
            let job = Job {
                weights: weights.as_ptr() as u32,
                x: x.as_ptr() as u32 + job.x,
                m: rows as u32,
                out: out.as_mut_ptr() as u32 + job.out,
                ..job
            };
            self.instance.run(job, None);
        }
        Ok(())
    }

    fn row(&self, output: usize, out: &mut [f32]) -> Result<(), TensorError> {
        self.packed.row(output, out, &mut self.scratch.borrow_mut());
        Ok(())
    }
}
