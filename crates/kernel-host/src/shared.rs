//! Products on several threads, in a memory that they share.

use std::any::Any;
use std::rc::Rc;

use lorahub_kernels::{
    F32Panels, Job, LowRank, LowRankJob, Operation, Output, PANEL, Rows, RowsMut, cut_by_rows, gated_gelu, multiply_in,
    packed_rows, rms_norm,
};
use lorahub_tensor::{Chain, Chains, Matrix, Packed, Products, Step, TensorError};

use crate::HostError;
use crate::module::{ALIGN, Build};
use crate::own::Own;
use crate::space::{Kept, Piece, Space, added, job, low_rank_job, of_head, on_rows, parts, transposed_job};
use crate::team::Team;

#[derive(Debug)]
struct Threads {
    space: Rc<Space>,
    build: Build,
    team: Team,
    /// The operands of the jobs under way.
    operands: Kept,
    /// The same instructions in the program's own memory, where the program itself has not got them.
    here: Option<Own>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared(Rc<Threads>);

impl Shared {
    /// Starts the workers, `threads - 1` of them.
    pub(crate) async fn open(build: Build, threads: usize) -> Result<Self, HostError> {
        let space = Rc::new(Space::new()?);
        Ok(Self(Rc::new(Threads {
            team: Team::open(build, threads, space.clone()).await?,
            space,
            build,
            operands: Kept::default(),
            here: match build {
                Build::Relaxed => Some(Own::open()?),
                Build::Simd128 => None,
            },
        })))
    }
}

/// Places one after another in a piece that has room for them.
struct Places<'a> {
    space: &'a Space,
    next: u32,
}

impl Places<'_> {
    /// Room for so many numbers.
    fn room(&mut self, numbers: usize) -> u32 {
        let at = self.next;
        self.next += (4 * numbers).next_multiple_of(ALIGN) as u32;
        at
    }

    /// The numbers, copied.
    fn put(&mut self, numbers: &[f32]) -> u32 {
        let at = self.room(numbers.len());
        self.space.write_numbers(at, numbers);
        at
    }

    /// LoRAs for `rows` rows, copied, with memory between their matrices for so many workers.
    fn put_low_rank(&mut self, low: &LowRank<'_>, rows: usize, workers: usize) -> LowRankJob {
        let a = self.put(low.a.as_flattened());
        let b = self.put(low.b.as_flattened());
        let factors = low.factors.map_or(0, |factors| self.put(factors));
        let hidden = self.room(workers * rows * low.rank);
        low_rank_job(low, rows as u32, [a, b, factors, hidden])
    }
}

/// Numbers of LoRAs' parts, and of what is between their matrices.
fn low_rank_numbers(low: &LowRank<'_>, rows: usize, workers: usize) -> [usize; 4] {
    [
        low.a.as_flattened().len(),
        low.b.as_flattened().len(),
        low.factors.map_or(0, <[f32]>::len),
        workers * rows * low.rank,
    ]
}

impl Threads {
    /// Places for operands of so many numbers each.
    fn places(&self, sizes: impl IntoIterator<Item = usize>) -> Result<Places<'_>, HostError> {
        let bytes = sizes
            .into_iter()
            .map(|numbers| (4 * numbers).next_multiple_of(ALIGN))
            .sum();
        Ok(Places {
            space: &self.space,
            next: self.operands.at_least(&self.space, bytes)?,
        })
    }

    /// Copies the operands into the shared memory, runs the job there for each head, and copies the results out. Without
    /// a product of its own the job adds to what `out` holds.
    fn compute(
        &self,
        job: Job,
        heads: usize,
        x: &[f32],
        low: Option<LowRank<'_>>,
        out: &mut [f32],
    ) -> Result<(), HostError> {
        let rows = out.len() / (job.n as usize).max(1);
        assert!(
            x.len() == rows * heads * job.k as usize && out.len() == rows * job.n as usize,
            "operands of another shape"
        );
        let low_sizes = low.map(|low| low_rank_numbers(&low, rows, self.team.workers()));
        let sizes = [x.len(), out.len()];
        let mut places = self.places(sizes.into_iter().chain(low_sizes.into_iter().flatten()))?;
        let x = places.put(x);
        let out_at = match job.weights {
            0 => places.put(out),
            _ => places.room(out.len()),
        };
        let low_rank = low.map(|low| places.put_low_rank(&low, rows, self.team.workers()));
        let job = Job {
            x,
            m: rows as u32,
            out: out_at,
            low_rank: low_rank.unwrap_or_default(),
            ..job
        };
        let heads = heads as u32;
        let jobs: Vec<Job> = (0..heads).map(|head| of_head(job, head, heads)).collect();
        self.team.run(&jobs)?;
        self.space.read_numbers(out_at, out);
        Ok(())
    }

    /// The same of the transposed product, [`Matrix::transposed_product`].
    fn compute_transposed(&self, job: Job, heads: usize, x: &[f32], out: &mut [f32]) -> Result<(), HostError> {
        let (outputs, inputs) = (job.n as usize, job.k as usize);
        let rows = x.len() / outputs;
        assert!(
            x.len() == rows * outputs && out.len() == rows * heads * inputs,
            "operands of another shape"
        );
        let panels = PANEL * packed_rows(inputs, outputs / heads);
        let panel_sizes = std::iter::repeat_n(panels, heads);
        let mut places = self.places([x.len(), out.len()].into_iter().chain(panel_sizes))?;
        let (x, out_at) = (places.put(x), places.room(out.len()));
        let jobs = (0..heads as u32).map(|head| {
            let weights = places.room(panels);
            let transpose = Job {
                out: weights,
                ..of_head(job, head, heads as u32)
            };
            self.team.transpose(transpose)?;
            let job = transposed_job((outputs, inputs), head, heads as u32);
            Ok(Job {
                weights,
                x: x + job.x,
                m: rows as u32,
                out: out_at + job.out,
                ..job
            })
        });
        let jobs = jobs.collect::<Result<Vec<Job>, HostError>>()?;
        self.team.run(&jobs)?;
        self.space.read_numbers(out_at, out);
        Ok(())
    }

    /// See [`Chains::run`].
    fn chain(
        &self,
        chain: &Chain<'_>,
        inputs: &[(usize, &[f32])],
        outputs: &mut [(usize, &mut [f32])],
    ) -> Result<(), HostError> {
        let (rows, workers) = (chain.rows, self.team.workers());
        let own = chain.steps.iter().flat_map(|step| match step {
            Step::Norm { weight, .. } => [weight.len(), 0, 0, 0],
            Step::Product { low: Some(low), .. } => low_rank_numbers(low, rows, workers),
            Step::Product { low: None, .. } | Step::GatedGelu { .. } | Step::Add { .. } => [0; 4],
        });
        let activations = chain.widths.iter().map(|width| rows * width);
        let mut places = self.places(activations.clone().chain(own))?;
        let at: Vec<u32> = activations.map(|numbers| places.room(numbers)).collect();
        for &(activation, values) in inputs {
            assert_eq!(values.len(), rows * chain.widths[activation], "values of an activation");
            self.space.write_numbers(at[activation], values);
        }
        let rows_job = |operation, x: usize, out: usize| {
            assert_eq!(chain.widths[x], chain.widths[out], "columns of an operation's operands");
            Job {
                x: at[x],
                m: rows as u32,
                out: at[out],
                ..on_rows(operation, chain.widths[x])
            }
        };
        let jobs = chain.steps.iter().map(|step| match *step {
            Step::Norm { x, weight, eps, out } => Job {
                weights: places.put(weight),
                eps,
                ..rows_job(Operation::RmsNorm, x, out)
            },
            Step::Product { x, matrix, low, out } => {
                let Some(held) = (matrix as &dyn Any).downcast_ref::<Held>() else {
                    panic!("a matrix that other products have taken");
                };
                let dims = [chain.widths[out], chain.widths[x]].map(|size| size as u32);
                assert_eq!(dims, [held.job.n, held.job.k], "columns of a product's operands");
                Job {
                    x: at[x],
                    m: rows as u32,
                    out: at[out],
                    low_rank: low.map_or(LowRankJob::default(), |low| places.put_low_rank(&low, rows, workers)),
                    ..held.job
                }
            }
            Step::GatedGelu { gate, up } => rows_job(Operation::GatedGelu, up, gate),
            Step::Add { x, out } => rows_job(Operation::Add, x, out),
        });
        let jobs: Vec<Job> = jobs.collect();
        self.team.run(&jobs)?;
        for (activation, values) in outputs {
            assert_eq!(
                values.len(),
                rows * chain.widths[*activation],
                "values of an activation"
            );
            self.space.read_numbers(at[*activation], values);
        }
        Ok(())
    }
}

impl Products for Shared {
    fn instructions(&self) -> &str {
        self.0.build.instructions()
    }

    fn threads(&self) -> usize {
        self.0.team.workers()
    }

    fn take(&self, packed: Packed) -> Result<Box<dyn Matrix>, TensorError> {
        let space = &self.0.space;
        let (rows, scales) = parts(&packed);
        let weights = space.take(rows.len())?;
        space.write(weights.address(), rows);
        let scale_piece = match scales.is_empty() {
            true => None,
            false => Some(space.take(scales.len())?),
        };
        if let Some(piece) = &scale_piece {
            space.write(piece.address(), scales);
        }
        let job = Job {
            weights: weights.address(),
            scales: scale_piece.as_ref().map_or(0, Piece::address),
            ..job(&packed)
        };
        Ok(Box::new(Held {
            job,
            pieces: [Some(weights), scale_piece],
            threads: self.0.clone(),
        }))
    }

    fn multiply(&self, x: Rows<'_>, weight: F32Panels<'_>, columns: usize, out: &mut RowsMut<'_>) {
        match &self.0.here {
            Some(here) => here.multiply(x, weight, columns, out),
            None => multiply_in(x, weight, 0..columns, out, Output::Store, &mut []),
        }
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        if let Some(here) = &self.0.here {
            return here.rms_norm(x, weight, eps, out);
        }
        let width = weight.len().max(1);
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            rms_norm(x, weight, eps, out);
        }
    }

    fn gated_gelu(&self, gate: &mut [f32], up: &[f32]) {
        match &self.0.here {
            Some(here) => here.gated_gelu(gate, up),
            None => gated_gelu(gate, up),
        }
    }

    fn chains(&self, rows: usize) -> Option<&dyn Chains> {
        cut_by_rows(rows as u32, self.0.team.workers() as u32).then_some(self)
    }

    fn add_low_rank(&self, rows: usize, x: &[f32], low: LowRank<'_>, out: &mut [f32]) -> Result<(), TensorError> {
        debug_assert_eq!(out.len(), rows * low.outputs, "rows of results");
        Ok(self.0.compute(added(&low), 1, x, Some(low), out)?)
    }
}

impl Chains for Shared {
    fn run(
        &self,
        chain: &Chain<'_>,
        inputs: &[(usize, &[f32])],
        outputs: &mut [(usize, &mut [f32])],
    ) -> Result<(), TensorError> {
        Ok(self.0.chain(chain, inputs, outputs)?)
    }
}

/// A matrix in the shared memory.
#[derive(Debug)]
struct Held {
    /// With the matrix's form, shape and addresses.
    job: Job,
    pieces: [Option<Piece>; 2],
    threads: Rc<Threads>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for piece in self.pieces.iter_mut().filter_map(Option::take) {
            self.threads.space.free(piece);
        }
    }
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
        debug_assert_eq!(out.len(), rows * self.job.n as usize, "rows of results");
        Ok(self.threads.compute(self.job, heads, x, low, out)?)
    }

    fn transposed_product(&self, rows: usize, heads: usize, x: &[f32], out: &mut [f32]) -> Result<(), TensorError> {
        debug_assert_eq!(x.len(), rows * self.job.n as usize, "rows of activations");
        Ok(self.threads.compute_transposed(self.job, heads, x, out)?)
    }

    fn row(&self, output: usize, out: &mut [f32]) -> Result<(), TensorError> {
        let threads = &*self.threads;
        let row = threads.places([out.len()])?.room(out.len());
        threads.team.output_row(Job { out: row, ..self.job }, output as u32)?;
        threads.space.read_numbers(row, out);
        Ok(())
    }
}
