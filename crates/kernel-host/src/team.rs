//! The workers of a shared memory, and jobs for all of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_channel::oneshot;
use js_sys::{Array, Atomics, Function, Int32Array, Object, Reflect, WebAssembly};
use lorahub_kernels::{Cut, Job, Operation, SharedJobs, cut_by_rows};
use wasm_bindgen::prelude::*;
use web_sys::{Blob, BlobPropertyBag, Url, Worker};

use crate::HostError;
use crate::module::{ALIGN, Build, Exports, PLACE, compile, data_and_stack, instantiate};
use crate::space::{Kept, Piece, Space};

/// Multiply-adds below which a product is done before a second thread would have woken up.
const ALONE: usize = 1 << 20;

/// Looks at a word before its watcher goes to sleep: some tens of microseconds, which is what waking up takes.
const LOOKS: u32 = 20_000;

/// Milliseconds in which a thread does its part of a product, however slow the machine.
const PATIENCE_MS: f64 = 30_000.0;

/// What a worker has for itself in the shared memory: the words that it watches, what it is to do, its scratch memory, and
/// the instance's own place.
#[derive(Debug)]
struct Seat {
    at: Piece,
}

impl Seat {
    const WORDS: u32 = 0;
    const JOBS: u32 = ALIGN as u32;
    const SCRATCH: u32 = Self::JOBS + size_of::<SharedJobs>().next_multiple_of(ALIGN) as u32;
    const PLACE: u32 = Self::SCRATCH + Job::SCRATCH.next_multiple_of(ALIGN) as u32;

    fn new(space: &Space) -> Result<Self, HostError> {
        let at = space.take(Self::PLACE as usize + PLACE)?;
        Ok(Self { at })
    }

    fn address(&self, part: u32) -> u32 {
        self.at.address() + part
    }

    /// Sets what is to be done next, by this worker with its own scratch memory.
    fn give(&self, space: &Space, jobs: SharedJobs, worker: u32) {
        let scratch = self.address(Self::SCRATCH);
        let own = SharedJobs {
            scratch,
            worker,
            ..jobs
        };
        space.write(self.address(Self::JOBS), &own.to_bytes());
    }
}

#[derive(Debug)]
struct Helper {
    worker: Worker,
    seat: Seat,
    words: Int32Array,
}

impl Helper {
    /// Lets it begin with what its seat was given.
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

/// This thread and its helpers, at a memory that they share.
#[derive(Debug)]
pub(crate) struct Team {
    space: Rc<Space>,
    exports: Exports,
    seat: Seat,
    helpers: Vec<Helper>,
    /// The jobs under way.
    jobs: Kept,
    number: Cell<i32>,
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
        ("jobs", seat.address(Seat::JOBS).into()),
        ("looks", LOOKS.into()),
    ] as [(&str, JsValue); 7]
    {
        Reflect::set(&message, &name.into(), &value)?;
    }
    worker.post_message(&message)?;
    let words = Int32Array::new_with_byte_offset_and_length(&space.memory().buffer(), seat.address(Seat::WORDS), 2);
    Ok((Helper { worker, seat, words }, ready))
}

impl Team {
    /// Starts the helpers, one less than `threads`.
    pub(crate) async fn open(build: Build, threads: usize, space: Rc<Space>) -> Result<Self, HostError> {
        let module = compile(build.shared())?;
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
        Ok(Self {
            space,
            exports,
            seat,
            helpers,
            jobs: Kept::default(),
            number: Cell::new(0),
        })
    }

    /// Threads, this one included.
    pub(crate) fn workers(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Writes the weights of one output of the job's matrix, on this thread.
    pub(crate) fn output_row(&self, job: Job, output: u32) -> Result<(), HostError> {
        self.exports.output_row(self.alone(job)?, output);
        Ok(())
    }

    /// Packs the transpose of the job's outputs, on this thread.
    pub(crate) fn transpose(&self, job: Job) -> Result<(), HostError> {
        self.exports.transpose(self.alone(job)?);
        Ok(())
    }

    /// The address of a job that this thread does alone, with its own scratch memory.
    fn alone(&self, job: Job) -> Result<u32, HostError> {
        let scratch = self.seat.address(Seat::SCRATCH);
        self.write(&[Job { scratch, ..job }])
    }

    /// The address of these jobs.
    fn write(&self, jobs: &[Job]) -> Result<u32, HostError> {
        let bytes: Vec<u8> = jobs.iter().flat_map(Job::to_bytes).collect();
        let at = self.jobs.at_least(&self.space, bytes.len())?;
        self.space.write(at, &bytes);
        Ok(at)
    }

    /// Runs jobs over the same rows: by rows all of them at once, else one by one.
    pub(crate) fn run(&self, jobs: &[Job]) -> Result<(), HostError> {
        let together = match jobs {
            [first, _, ..] if !cut_by_rows(first.m, self.workers() as u32) => 1,
            _ => jobs.len().max(1),
        };
        jobs.chunks(together).try_for_each(|jobs| self.run_together(jobs))
    }

    /// Runs jobs on as many threads as they are worth.
    fn run_together(&self, jobs: &[Job]) -> Result<(), HostError> {
        let products = jobs.iter().filter(|job| job.operation == Operation::Product);
        let work: usize = products
            .map(|job| job.m as usize * job.columns as usize * job.k as usize)
            .sum();
        let helpers = if work < ALONE { &[] } else { &self.helpers[..] };
        let at = self.write(jobs)?;
        // This thread's own first word counts the parts that are taken: nobody else watches it.
        let taken = self.seat.address(Seat::WORDS);
        self.space.write(taken, &0u32.to_le_bytes());
        let shared = SharedJobs {
            jobs: at,
            count: jobs.len() as u32,
            cut: Cut::new(jobs, helpers.len() as u32 + 1),
            taken,
            scratch: 0,
            worker: 0,
        };
        let number = self.number.get().wrapping_add(1);
        self.number.set(number);
        for (helper, worker) in helpers.iter().zip(1..) {
            helper.seat.give(&self.space, shared, worker);
            helper.begin(number)?;
        }
        self.seat.give(&self.space, shared, 0);
        self.exports.share(self.seat.address(Seat::JOBS));
        for helper in helpers {
            self.wait(helper, number)?;
        }
        Ok(())
    }

    /// Until the helper has done these jobs.
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
