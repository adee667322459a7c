//! What a kernel is: its WGSL, its bindings, its parameters; and the pipelines made of them.
//!
//! A kernel is one file `shaders/<name>.wgsl` whose entry point and GPU label are the same name. It may lean on
//! includes (how a matrix is read, how heads are read), which come in variants, and on constants that size arrays. The
//! module that the device compiles is constants, includes and kernel, one after another.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

/// How a kernel uses a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A field of a kernel's `Params`, to be held against the WGSL by a test.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) kind: &'static str,
}

/// A kernel as written. Binding 0 is the uniform `params`; `bindings` are 1 and up.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    pub(crate) bindings: &'static [Access],
    #[cfg(test)]
    pub(crate) fields: &'static [Field],
    pub(crate) params_bytes: usize,
}

/// WGSL that several kernels share.
#[derive(Debug)]
pub(crate) struct Include {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
}

/// A kernel with its includes and constants: one pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) kernel: &'static Kernel,
    pub(crate) includes: Vec<&'static Include>,
    pub(crate) constants: Vec<(&'static str, u32)>,
}

/// Names a program among all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ProgramKey {
    kernel: &'static str,
    includes: Vec<&'static str>,
    constants: Vec<(&'static str, u32)>,
}

impl Program {
    pub(crate) fn new(kernel: &'static Kernel) -> Self {
        Self {
            kernel,
            includes: Vec::new(),
            constants: Vec::new(),
        }
    }

    pub(crate) fn include(mut self, include: &'static Include) -> Self {
        self.includes.push(include);
        self
    }

    pub(crate) fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// The module's text. It depends on nothing but the program, so browsers can cache what they compile of it.
    pub(crate) fn wgsl(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.constants {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "const {name} = {value}u;");
        }
        for include in &self.includes {
            text.push_str(include.source);
        }
        text.push_str(self.kernel.source);
        text
    }

    fn key(&self) -> ProgramKey {
        ProgramKey {
            kernel: self.kernel.name,
            includes: self.includes.iter().map(|include| include.name).collect(),
            constants: self.constants.clone(),
        }
    }
}

/// Declares a kernel's `Params` once on the host: the struct that is uploaded and the fields that a test compares with
/// the WGSL. All fields are 4 bytes wide, so that neither side pads.
macro_rules! params {
    (pub(crate) struct Params { $($(#[$doc:meta])* $field:ident: $kind:ident,)* }) => {
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct Params {
            $($(#[$doc])* pub(crate) $field: $kind,)*
        }

        #[cfg(test)]
        impl Params {
            pub(crate) const FIELDS: &'static [crate::kernel::Field] = &[
                $(crate::kernel::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!(Params, $field),
                    kind: stringify!($kind),
                },)*
            ];
        }
    };
}
pub(crate) use params;

/// Declares the [`Kernel`] of the module it stands in: `shaders/<name>.wgsl` and the module's `Params`.
macro_rules! kernel {
    ($name:literal, [$($access:ident),*]) => {
        pub(crate) static KERNEL: crate::kernel::Kernel = crate::kernel::Kernel {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
            bindings: &[$(crate::kernel::Access::$access),*],
            #[cfg(test)]
            fields: Params::FIELDS,
            params_bytes: size_of::<Params>(),
        };
    };
}
pub(crate) use kernel;

/// Bytes of one kernel's parameters in the arena: WebGPU's default alignment of a dynamic uniform offset.
pub(crate) const PARAMS_SLOT: u64 = 256;

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: Rc<Layout>,
}

/// A bind group layout, shared by the kernels that bind alike.
pub(crate) struct Layout {
    /// Unique among the layouts, for the bind group cache.
    pub(crate) id: usize,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// Pipelines by program, compiled at first use.
pub(crate) struct Pipelines {
    device: wgpu::Device,
    layouts: RefCell<HashMap<Vec<Access>, Rc<Layout>>>,
    pipelines: RefCell<HashMap<ProgramKey, Rc<Pipeline>>>,
    /// See [`Options::edit_wgsl`](crate::Options::edit_wgsl).
    edit: Option<fn(&'static str, String) -> String>,
}

impl Pipelines {
    pub(crate) fn new(device: wgpu::Device, edit: Option<fn(&'static str, String) -> String>) -> Self {
        Self {
            device,
            layouts: RefCell::default(),
            pipelines: RefCell::default(),
            edit,
        }
    }

    /// Number of pipelines compiled so far.
    pub(crate) fn len(&self) -> usize {
        self.pipelines.borrow().len()
    }

    pub(crate) fn get(&self, program: &Program) -> Rc<Pipeline> {
        let key = program.key();
        if let Some(pipeline) = self.pipelines.borrow().get(&key) {
            return pipeline.clone();
        }
        let kernel = program.kernel;
        let layout = self.layout(kernel.bindings);
        let wgsl = match self.edit {
            Some(edit) => edit(kernel.name, program.wgsl()),
            None => program.wgsl(),
        };
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(wgsl.into()),
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout.layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                // No kernel reads workgroup memory that it has not written.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let pipeline = Rc::new(Pipeline { pipeline, layout });
        self.pipelines.borrow_mut().insert(key, pipeline.clone());
        pipeline
    }

    fn layout(&self, bindings: &'static [Access]) -> Rc<Layout> {
        let layouts = &mut *self.layouts.borrow_mut();
        if let Some(layout) = layouts.get(bindings) {
            return layout.clone();
        }
        let entry = |binding: u32, ty: wgpu::BufferBindingType, has_dynamic_offset: bool| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset,
                min_binding_size: None,
            },
            count: None,
        };
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
        for (binding, access) in (1..).zip(bindings) {
            let read_only = *access == Access::Read;
            entries.push(entry(binding, wgpu::BufferBindingType::Storage { read_only }, false));
        }
        let layout = Rc::new(Layout {
            id: layouts.len(),
            layout: self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            }),
        });
        layouts.insert(bindings.to_vec(), layout.clone());
        layout
    }
}
