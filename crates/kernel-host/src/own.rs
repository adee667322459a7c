//! The relaxed-simd build in the program's own memory, on one thread.

use std::cell::{RefCell, UnsafeCell};
use std::mem::offset_of;
use std::rc::Rc;

use lorahub_kernels::{Job, PANEL, SCRATCH_ROWS, Scratch};
use lorahub_tensor::{Matrix, Packed, Products, TensorError};

use crate::HostError;
use crate::module::{ALIGN, Build, Exports, PLACE, RELAXED, compile, instantiate};
use crate::space::{job, parts};

/// Memory that the instance alone uses.
#[repr(C, align(64))]
struct Place {
    itself: [u8; PLACE],
    scratch: [[f32; PANEL]; SCRATCH_ROWS],
}
const _: () = assert!(align_of::<Place>() == ALIGN);

struct Instance {
    exports: Exports,
    place: Box<UnsafeCell<Place>>,
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
            scratch: [[0.0; PANEL]; SCRATCH_ROWS],
        }));
        let at = place.get() as u32;
        let exports = instantiate(&compile(RELAXED)?, &wasm_bindgen::memory(), at)?;
        Ok(Self(Rc::new(Instance { exports, place })))
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
}

#[derive(Debug)]
struct Held {
    packed: Packed,
    instance: Rc<Instance>,
    scratch: RefCell<Scratch>,
}

impl Matrix for Held {
    fn product(&self, rows: usize, x: &[f32], out: &mut [f32]) -> Result<(), TensorError> {
        let (outputs, inputs) = self.packed.dims();
        assert!(
            x.len() == rows * inputs && out.len() == rows * outputs,
            "operands of another shape"
        );
        let (weights, scales) = parts(&self.packed);
        let job = Job {
            weights: weights.as_ptr() as u32,
            scales: scales.as_ptr() as u32,
            x: x.as_ptr() as u32,
            m: rows as u32,
            out: out.as_mut_ptr() as u32,
            scratch: self.instance.place.get() as u32 + offset_of!(Place, scratch) as u32,
            ..job(&self.packed)
        };
        // The call reads and writes what the job points at, as far as the lengths above allow.
        self.instance.exports.run(&raw const job as u32);
        Ok(())
    }

    fn row(&self, output: usize, out: &mut [f32]) -> Result<(), TensorError> {
        self.packed.row(output, out, &mut self.scratch.borrow_mut());
        Ok(())
    }
}
