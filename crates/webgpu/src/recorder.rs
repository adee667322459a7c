//! Commands between one submission and the next.
//!
//! Dispatches are kept in a list and encoded into one compute pass when they are submitted: a pass costs tens of
//! microseconds in a browser, a dispatch inside one a few. Their parameters lie in one uniform buffer, a slot each,
//! written once a submission.

use std::collections::HashMap;
use std::rc::Rc;

use crate::kernel::{PARAMS_SLOT, Pipeline};
use crate::memory::Allocation;

/// Dispatches of one submission: enough to amortise it, few enough that the GPU starts early.
const DISPATCHES: usize = 64;

/// Bind groups kept; beyond this they are all made anew, which a steady workload never reaches.
const BIND_GROUPS: usize = 4096;

struct Command {
    pipeline: Rc<Pipeline>,
    bind_group: wgpu::BindGroup,
    groups: [u32; 2],
}

/// A copy into a buffer that the host maps, after the dispatches.
pub(crate) struct Readback<'a> {
    pub(crate) from: &'a Allocation,
    pub(crate) to: &'a wgpu::Buffer,
    /// Where in `to`.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    arena: wgpu::Buffer,
    params: Vec<u8>,
    commands: Vec<Command>,
    /// By layout and buffers.
    bind_groups: HashMap<(usize, Vec<u64>), wgpu::BindGroup>,
}

impl Recorder {
    pub(crate) fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: DISPATCHES as u64 * PARAMS_SLOT,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self {
            device,
            queue,
            arena,
            params: Vec::with_capacity(DISPATCHES * PARAMS_SLOT as usize),
            commands: Vec::with_capacity(DISPATCHES),
            bind_groups: HashMap::new(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.commands.len() == DISPATCHES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Appends a dispatch. The recorder must not be full.
    pub(crate) fn push(&mut self, pipeline: Rc<Pipeline>, params: &[u8], buffers: &[&Allocation], groups: [u32; 2]) {
        self.params.resize(self.commands.len() * PARAMS_SLOT as usize, 0);
        self.params.extend_from_slice(params);
        let bind_group = self.bind_group(&pipeline, buffers);
        self.commands.push(Command {
            pipeline,
            bind_group,
            groups,
        });
    }

    fn bind_group(&mut self, pipeline: &Pipeline, buffers: &[&Allocation]) -> wgpu::BindGroup {
        let key = (
            pipeline.layout.id,
            buffers.iter().map(|buffer| buffer.id()).collect::<Vec<_>>(),
        );
        if let Some(bind_group) = self.bind_groups.get(&key) {
            return bind_group.clone();
        }
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.arena,
                offset: 0,
                size: wgpu::BufferSize::new(PARAMS_SLOT),
            }),
        }];
        for (binding, buffer) in (1..).zip(buffers) {
            entries.push(wgpu::BindGroupEntry {
                binding,
                resource: buffer.buffer().as_entire_binding(),
            });
        }
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout.layout,
            entries: &entries,
        });
        if self.bind_groups.len() == BIND_GROUPS {
            self.bind_groups.clear();
        }
        self.bind_groups.insert(key, bind_group.clone());
        bind_group
    }

    /// Drops every cached bind group that holds one of these buffers, which are about to be destroyed.
    pub(crate) fn forget(&mut self, buffers: &[u64]) {
        if !buffers.is_empty() {
            self.bind_groups
                .retain(|(_, ids), _| !ids.iter().any(|id| buffers.contains(id)));
        }
    }

    /// Submits what is recorded, and the copies after it.
    pub(crate) fn submit(&mut self, readbacks: &[Readback<'_>]) -> wgpu::SubmissionIndex {
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if !self.commands.is_empty() {
            self.queue.write_buffer(&self.arena, 0, &self.params);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut current: Option<Rc<Pipeline>> = None;
            for (slot, command) in (0u32..).zip(self.commands.drain(..)) {
                if !current
                    .as_ref()
                    .is_some_and(|pipeline| Rc::ptr_eq(pipeline, &command.pipeline))
                {
                    pass.set_pipeline(&command.pipeline.pipeline);
                    current = Some(command.pipeline);
                }
                pass.set_bind_group(0, &command.bind_group, &[slot * PARAMS_SLOT as u32]);
                pass.dispatch_workgroups(command.groups[0], command.groups[1], 1);
            }
            self.params.clear();
        }
        for of in readbacks {
            encoder.copy_buffer_to_buffer(of.from.buffer(), 0, of.to, of.offset, of.bytes);
        }
        self.queue.submit([encoder.finish()])
    }
}
