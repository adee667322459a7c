//! Products on several threads, in a memory that they share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_channel::oneshot;
use js_sys::{Array, Atomics, Function, Int32Array, Object, Reflect, WebAssembly};
use lorahub_kernels::{
    F32Panels, Job, LowRank, LowRankJob, Output, PANEL, Rows, RowsMut, SharedJob, multiply_in, packed_rows,
};
use lorahub_tensor::{Matrix, Packed, Products, TensorError};
use wasm_bindgen::prelude::*;
use web_sys::{Blob, BlobPropertyBag, Url, Worker};

use crate::HostError;
use crate::module::{ALIGN, Build, Exports, PLACE, compile, data_and_stack, instantiate};
use crate::own::Own;
use crate::space::{Piece, Space, added, job, low_rank_job, of_head, parts, transposed_job};

/// Multiply-adds below which a product is done before a second thread would have woken up.
const ALONE: usize = 1 << 20;

/// Looks at a word before its watcher goes to sleep: some tens of microseconds, which is what waking up takes.
const LOOKS: u32 = 20_000;

/// Milliseconds in which a thread does its part of a product, however slow the machine.
const PATIENCE_MS: f64 = 30_000.0;

/// What a worker has for itself in the shared memory: the words that it watches, its job, its scratch memory, and the
/// instance's own place.
#[derive(Debug)]
struct Seat {
    at: Piece,
}

impl Seat {
    const WORDS: u32 = 0;
    const JOB: u32 = ALIGN as u32;
    const SCRATCH: u32 = Self::JOB + size_of::<SharedJob>().next_multiple_of(ALIGN) as u32;
    const PLACE: u32 = Self::SCRATCH + Job::SCRATCH.next_multiple_of(ALIGN) as u32;

    fn new(space: &Space) -> Result<Self, HostError> {
        let at = space.take(Self::PLACE as usize + PLACE)?;
        Ok(Self { at })
    }

    fn address(&self, part: u32) -> u32 {
        self.at.address() + part
    }

    /// Sets the next job, with this seat's scratch memory. `worker` says which of the pieces between the matrices of
    /// LoRAs is this seat's.
    fn give(&self, space: &Space, shared: SharedJob, worker: u32) {
        let job = shared.job;
        let own = 4 * worker * job.m * job.low_rank.rank;
        let job = Job {
            scratch: self.address(Self::SCRATCH),
            low_rank: LowRankJob {
                hidden: job.low_rank.hidden + own,
                ..job.low_rank
            },
            ..job
        };
        space.write(self.address(Self::JOB), &SharedJob { job, ..shared }.to_bytes());
    }
}

#[derive(Debug)]
struct Helper {
    worker: Worker,
    seat: Seat,
    words: Int32Array,
}

impl Helper {
    /// Lets it begin with the job that its seat was given.
    fn begin(&self, number: i32) -> Result<(), HostError> {
        Atomics::store(&self.words, 0, number)?;
        Atomics::notify(&self.words, 0)?;
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.worker.terminate();
    }
}

#[derive(Debug)]
struct Threads {
    space: Space,
    build: Build,
    exports: Exports,
    seat: Seat,
    helpers: Vec<Helper>,
    /// The operands of the product under way; kept and grown.
    operands: RefCell<Option<Piece>>,
    number: Cell<i32>,
    /// The same instructions in the program's own memory, where the program itself has not got them.
    here: Option<Own>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared(Rc<Threads>);

impl Shared {
    /// Starts the workers, `threads - 1` of them.
    pub(crate) async fn open(build: Build, threads: usize) -> Result<Self, HostError> {
        let module = compile(build.shared())?;
        let space = Space::new()?;
        let seat = Seat::new(&space)?;
        let exports = instantiate(&module, space.memory(), seat.address(Seat::PLACE))?;
        let mut starting = Vec::new();
        for _ in 1..threads {
            starting.push(start(&module, &space)?);
        }
        let mut helpers = Vec::new();
        for (helper, ready) in starting {
            ready
                .await
                .map_err(|_| HostError::Start("a worker was dropped".to_owned()))??;
            helpers.push(helper);
        }
        Ok(Self(Rc::new(Threads {
            space,
            build,
            exports,
            seat,
            helpers,
            operands: RefCell::default(),
            number: Cell::new(0),
            here: match build {
                Build::Relaxed => Some(Own::open()?),
                Build::Simd128 => None,
            },
        })))
    }
}

/// A worker from a script's address. Where the page lets only trusted addresses be scripts, one of the policy `lorahub`.
fn new_worker(url: &str) -> Result<Worker, HostError> {
    thread_local! {
        /// Made once, because a page may forbid a second one of the name.
        static POLICY: RefCell<Option<JsValue>> = const { RefCell::new(None) };
    }
    let global = js_sys::global();
    let types = Reflect::get(&global, &"trustedTypes".into())?;
    let address = if types.is_undefined() {
        url.into()
    } else {
        let policy = match POLICY.take() {
            Some(policy) => policy,
            None => {
                let rules = Object::new();
                let as_it_is = Closure::<dyn FnMut(JsValue) -> JsValue>::new(|url| url).into_js_value();
                Reflect::set(&rules, &"createScriptURL".into(), &as_it_is)?;
                method(&types, "createPolicy")?.call2(&types, &"lorahub".into(), &rules)?
            }
        };
        let address = method(&policy, "createScriptURL")?.call1(&policy, &url.into())?;
        POLICY.set(Some(policy));
        address
    };
    let class = method(&global, "Worker")?;
    Ok(Reflect::construct(&class, &Array::of1(&address))?.unchecked_into())
}

fn method(of: &JsValue, name: &str) -> Result<Function, HostError> {
    Ok(Reflect::get(of, &name.into())?.dyn_into::<Function>()?)
}

type Ready = oneshot::Receiver<Result<(), HostError>>;

/// Starts one worker, which says when it is ready.
fn start(module: &WebAssembly::Module, space: &Space) -> Result<(Helper, Ready), HostError> {
    let seat = Seat::new(space)?;
    let options = BlobPropertyBag::new();
    options.set_type("text/javascript");
    let script = Array::of1(&include_str!("helper.js").into());
    let url = Url::create_object_url_with_blob(&Blob::new_with_str_sequence_and_options(&script, &options)?)?;
    let worker = new_worker(&url)?;
    let (say, ready) = oneshot::channel();
    let say = Rc::new(Cell::new(Some(say)));
    let on_error = {
        let say = say.clone();
        Closure::once_into_js(move |event: JsValue| {
            let message = Reflect::get(&event, &"message".into())
                .ok()
                .and_then(|text| text.as_string());
            let message = message.unwrap_or_else(|| "its script was refused".to_owned());
            if let Some(say) = say.take() {
                say.send(Err(HostError::Start(message))).ok();
            }
        })
    };
    let on_message = Closure::once_into_js(move |_: JsValue| {
        // The script has been read.
        Url::revoke_object_url(&url).ok();
        if let Some(say) = say.take() {
            say.send(Ok(())).ok();
        }
    });
    worker.set_onerror(Some(on_error.unchecked_ref()));
    worker.set_onmessage(Some(on_message.unchecked_ref()));
    let (base, stack) = data_and_stack(seat.address(Seat::PLACE));
    let message = Object::new();
    for (name, value) in [
        ("module", module.into()),
        ("memory", space.memory().into()),
        ("base", base.into()),
        ("stack", stack.into()),
        ("words", seat.address(Seat::WORDS).into()),
        ("job", seat.address(Seat::JOB).into()),
        ("looks", LOOKS.into()),
    ] as [(&str, JsValue); 7]
    {
        Reflect::set(&message, &name.into(), &value)?;
    }
    worker.post_message(&message)?;
    let words = Int32Array::new_with_byte_offset_and_length(&space.memory().buffer(), seat.address(Seat::WORDS), 2);
    Ok((Helper { worker, seat, words }, ready))
}

impl Threads {
    /// Places for the operands of one product, of so many numbers each.
    fn places<const N: usize>(&self, sizes: [usize; N]) -> Result<[u32; N], HostError> {
        let mut end = 0;
        let places = sizes.map(|numbers| {
            let start = end;
            end += (4 * numbers).next_multiple_of(ALIGN);
            start as u32
        });
        let at = self.operands(end)?;
        Ok(places.map(|place| at + place))
    }

    /// Room for the operands of one product.
    fn operands(&self, bytes: usize) -> Result<u32, HostError> {
        let kept = &mut *self.operands.borrow_mut();
        if kept.as_ref().is_none_or(|piece| piece.size() < bytes) {
            if let Some(old) = kept.take() {
                self.space.free(old);
            }
            *kept = Some(self.space.take(bytes)?);
        }
        Ok(kept.as_ref().map_or(0, Piece::address))
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
        let hidden = low.map_or(0, |low| (self.helpers.len() + 1) * rows * low.rank);
        let (a, b, factors) = low.map_or((&[][..], &[][..], &[][..]), |low| {
            (
                low.a.as_flattened(),
                low.b.as_flattened(),
                low.factors.unwrap_or_default(),
            )
        });
        let [x_at, out_at, a_at, b_at, factors_at, hidden_at] =
            self.places([x.len(), out.len(), a.len(), b.len(), factors.len(), hidden])?;
        self.space.write_numbers(x_at, x);
        if job.weights == 0 {
            self.space.write_numbers(out_at, out);
        }
        let low_rank = low.map(|low| {
            self.space.write_numbers(a_at, a);
            self.space.write_numbers(b_at, b);
            self.space.write_numbers(factors_at, factors);
            let factors_at = low.factors.map_or(0, |_| factors_at);
            low_rank_job(&low, rows as u32, [a_at, b_at, factors_at, hidden_at])
        });
        let job = Job {
            x: x_at,
            m: rows as u32,
            out: out_at,
            low_rank: low_rank.unwrap_or_default(),
            ..job
        };
        for head in 0..heads as u32 {
            self.run(of_head(job, head, heads as u32))?;
        }
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
        let [x_at, out_at, panels_at] = self.places([x.len(), out.len(), panels])?;
        self.space.write_numbers(x_at, x);
        for head in 0..heads as u32 {
            let transpose = Job {
                out: panels_at,
                ..of_head(job, head, heads as u32)
            };
            self.give_alone(transpose);
            self.exports.transpose(self.seat.address(Seat::JOB));
            let job = transposed_job((outputs, inputs), head, heads as u32);
            self.run(Job {
                weights: panels_at,
                x: x_at + job.x,
                m: rows as u32,
                out: out_at + job.out,
                ..job
            })?;
        }
        self.space.read_numbers(out_at, out);
        Ok(())
    }

    /// Sets a job that this thread does alone.
    fn give_alone(&self, job: Job) {
        let (parts, taken) = (1, 0);
        self.seat.give(&self.space, SharedJob { job, parts, taken }, 0);
    }

    /// Runs one job on as many threads as it is worth.
    fn run(&self, job: Job) -> Result<(), HostError> {
        let work = job.m as usize * job.columns as usize * job.k as usize;
        let helpers = if work < ALONE { &[] } else { &self.helpers[..] };
        // This thread's own first word counts the parts that are taken: nobody else watches it.
        let taken = self.seat.address(Seat::WORDS);
        self.space.write(taken, &0u32.to_le_bytes());
        let shared = SharedJob {
            job,
            parts: job.parts(helpers.len() as u32 + 1),
            taken,
        };
        let number = self.number.get().wrapping_add(1);
        self.number.set(number);
        for (helper, worker) in helpers.iter().zip(1..) {
            helper.seat.give(&self.space, shared, worker);
            helper.begin(number)?;
        }
        self.seat.give(&self.space, shared, 0);
        self.exports.share(self.seat.address(Seat::JOB));
        for helper in helpers {
            self.wait(helper, number)?;
        }
        Ok(())
    }

    /// Until the helper has done this job.
    fn wait(&self, helper: &Helper, number: i32) -> Result<(), HostError> {
        let word = helper.seat.address(Seat::WORDS) + 4;
        let started = js_sys::Date::now();
        loop {
            // Before its first job, or after some that it had no part in, that is an older number.
            let done = Atomics::load(&helper.words, 1)?;
            if done == number {
                return Ok(());
            }
            if self.exports.look(word, done as u32, LOOKS) == done as u32 {
                if js_sys::Date::now() - started > PATIENCE_MS {
                    return Err(HostError::Thread);
                }
                // A page's own thread must not sleep, and is told so; it looks again.
                Atomics::wait_with_timeout(&helper.words, 1, done, PATIENCE_MS).ok();
            }
        }
    }
}

impl Products for Shared {
    fn instructions(&self) -> &str {
        self.0.build.instructions()
    }

    fn threads(&self) -> usize {
        self.0.helpers.len() + 1
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

    fn add_low_rank(&self, rows: usize, x: &[f32], low: LowRank<'_>, out: &mut [f32]) -> Result<(), TensorError> {
        debug_assert_eq!(out.len(), rows * low.outputs, "rows of results");
        Ok(self.0.compute(added(&low), 1, x, Some(low), out)?)
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
        let at = threads.operands(4 * out.len())?;
        threads.give_alone(Job { out: at, ..self.job });
        threads
            .exports
            .output_row(threads.seat.address(Seat::JOB), output as u32);
        threads.space.read_numbers(at, out);
        Ok(())
    }
}
