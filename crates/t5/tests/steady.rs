//! Once warm, a generation allocates nothing large on the CPU backend, and no more small things than the one before;
//! nor does a decode, and no step of it more than another.
//!
//! The kernels' path is counted, which is what wasm runs; natively the matrix product is another library's, which has
//! its own memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use lorahub_adapters::{Bank, LoraPair, Module, Rule};
use lorahub_t5::{Config, Decode, Modules, T5};
use lorahub_tensor::{Backend, Cpu, WeightStorage};
use pollster::block_on;

/// What counts as large: a page, below any activation of a real model.
const LARGE: usize = 4096;

static LARGE_ONES: AtomicUsize = AtomicUsize::new(0);
static SMALL_ONES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count(size: usize) {
    let counter = if size >= LARGE { &LARGE_ONES } else { &SMALL_ONES };
    counter.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's word.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's word.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Large and small allocations of `work`.
fn allocations(work: impl FnOnce()) -> (usize, usize) {
    let counts = || (LARGE_ONES.load(Ordering::Relaxed), SMALL_ONES.load(Ordering::Relaxed));
    let before = counts();
    work();
    let after = counts();
    (after.0 - before.0, after.1 - before.1)
}

fn irregular(count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 12.9898).sin() * scale).collect()
}

fn model(backend: &Rc<Cpu>) -> T5<Cpu> {
    let json = r#"{"model_type": "t5", "vocab_size": 1000, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2,
        "num_heads": 4, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "decoder_start_token_id": 0}"#;
    let device = backend.clone();
    let mut source = |_: &str, dims: &[usize]| {
        let scale = 1.7 / (*dims.last().unwrap() as f32).sqrt();
        Ok(device.weight(dims, irregular(dims.iter().product(), scale))?)
    };
    T5::load(
        backend.clone(),
        Config::from_json(json.as_bytes()).unwrap(),
        &mut source,
    )
    .unwrap()
}

fn modules(t5: &T5<Cpu>, rule: Rule) -> Modules<Cpu> {
    const RANK: usize = 16;
    let spec = t5.config().base_spec();
    let module = |index: usize| {
        let pairs: BTreeMap<String, LoraPair> = spec
            .targets
            .iter()
            .filter(|target| target.path.ends_with(".q") || target.path.ends_with(".v"))
            .map(|target| {
                let (d_in, d_out) = (target.d_in, target.d_out);
                let pair = LoraPair {
                    rank: RANK,
                    d_in,
                    d_out,
                    a: irregular(RANK * d_in, 0.05),
                    b: irregular(d_out * RANK, 0.05),
                };
                (target.path.clone(), pair)
            })
            .collect();
        Module::new(&format!("module-{index}"), RANK, 32.0, pairs, Some(&spec)).unwrap()
    };
    let modules = (0..20).map(module).collect();
    Modules::upload(t5, &Bank::new(modules, rule).unwrap()).unwrap()
}

/// One test at a time, for the counts are the whole process's; and one thread, as in wasm: handing work to others
/// allocates a little now and then.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static POOL: Once = Once::new();
    POOL.call_once(|| rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_warm_generation_allocates_nothing_large() {
    let _alone = alone();
    for storage in [WeightStorage::F32, WeightStorage::Q8] {
        let t5 = model(&Rc::new(Cpu::new().with_weights(storage).with_packed_weights()));
        let tokens = |lengths: &[usize]| -> Vec<Vec<u32>> {
            let sequence = |&length: &usize| (0..length as u32).map(|i| 2 + i * 31 % 990).collect();
            lengths.iter().map(sequence).collect()
        };
        let shots = t5
            .prepare(&tokens(&[64, 31, 50, 90, 7]), &tokens(&[16, 1, 9, 30, 4]))
            .unwrap();
        for rule in [Rule::Reference, Rule::Exact] {
            let modules = modules(&t5, rule);
            let generation = |seed: usize| {
                let weights: Vec<Vec<f64>> = (0..3)
                    .map(|c| (0..20).map(|n| ((seed * 97 + c * 20 + n) as f64).sin()).collect())
                    .collect();
                let candidates: Vec<&[f64]> = weights.iter().map(Vec::as_slice).collect();
                let losses = block_on(modules.nll(&t5, &shots, &candidates)).unwrap();
                assert!(losses.iter().flatten().all(|loss| loss.is_finite()));
            };
            let cold = allocations(|| generation(0));
            assert!(cold.0 > 10, "the counter counts: {cold:?}");
            generation(1);
            let warm = allocations(|| generation(2));
            let later: Vec<_> = (3..6).map(|seed| allocations(|| generation(seed))).collect();
            let what = format!("{} {rule}: {warm:?}, then {later:?}", storage.name());
            assert_eq!(warm.0, 0, "{what}");
            assert!(later.iter().all(|&later| later == warm), "{what}");
        }
    }
}

#[test]
fn a_warm_decode_allocates_nothing_large() {
    /// Beyond two pages of the cache.
    const STEPS: usize = 70;
    let _alone = alone();
    for storage in [WeightStorage::F32, WeightStorage::Q8] {
        let t5 = model(&Rc::new(Cpu::new().with_weights(storage).with_packed_weights()));
        let modules = modules(&t5, Rule::Reference);
        let adapter = modules.compose(&t5, &[&[0.05; 20]]).unwrap();
        for inputs in [vec![vec![5; 40]], vec![vec![5; 40], vec![7; 3], vec![9; 90]]] {
            // What each step allocates, and all of the decode with its encoder.
            let decode = || {
                let mut steps = Vec::with_capacity(STEPS);
                let whole = allocations(|| {
                    let mut decode = block_on(Decode::start(&t5, &adapter, &inputs, STEPS)).unwrap();
                    for _ in 0..STEPS {
                        steps.push(allocations(|| {
                            block_on(decode.step()).unwrap();
                        }));
                    }
                });
                (whole, steps)
            };
            let ((cold, _), _) = decode();
            assert!(cold > 10, "the counter counts: {cold}");
            decode();
            let (whole, steps) = decode();
            let what = format!(
                "{}, {} inputs: {whole:?}, of which {steps:?}",
                storage.name(),
                inputs.len()
            );
            assert_eq!(whole.0, 0, "{what}");
            assert_eq!(decode().0, whole, "{what}");
            // Keys and values go into pages; where one begins, two lists of pages may grow.
            assert!(steps[1..].iter().all(|step| step.1 <= steps[0].1 + 2), "{what}");
        }
    }
}
