//! Every program is valid WGSL and agrees with what the host believes of it.

use std::collections::BTreeSet;

use naga::{AddressSpace, ScalarKind, StorageAccess, TypeInner};

use crate::kernel::{Access, Program};
use crate::kernels::programs;

fn parse(program: &Program) -> (naga::Module, naga::valid::ModuleInfo) {
    let source = program.wgsl();
    let name = program.kernel.name;
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
    // Nothing beyond WebGPU's core, to which naga counts everything but unpack2x16float.
    let core = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), core)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
    (module, info)
}

#[test]
fn every_program_is_valid_wgsl() {
    for program in programs() {
        let (module, _) = parse(&program);
        let name = program.kernel.name;
        assert_eq!(module.entry_points.len(), 1, "{name}");
        let entry = &module.entry_points[0];
        assert_eq!(entry.name, name);
        let size: u32 = entry.workgroup_size.iter().product();
        assert!(size <= 256, "{name}: {size} invocations");
    }
}

#[test]
fn workgroup_memory_fits_the_default_limit() {
    for program in programs() {
        let (module, info) = parse(&program);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let used = info.get_entry_point(0);
        let bytes: u32 = module
            .global_variables
            .iter()
            .filter(|(handle, variable)| variable.space == AddressSpace::WorkGroup && !used[*handle].is_empty())
            .map(|(_, variable)| layouter[variable.ty].size.next_multiple_of(16))
            .sum();
        assert!(bytes <= 16 << 10, "{}: {bytes} bytes", program.kernel.name);
    }
}

/// Bindings are what the host declares, by number and access, and storage buffers at most eight.
#[test]
fn bindings_match_the_host() {
    for program in programs() {
        let (module, _) = parse(&program);
        let name = program.kernel.name;
        let mut found = BTreeSet::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            assert_eq!(binding.group, 0, "{name}");
            let access = match variable.space {
                AddressSpace::Uniform => {
                    assert_eq!(binding.binding, 0, "{name}: the uniform is binding 0");
                    continue;
                }
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::Write,
                AddressSpace::Storage { .. } => Access::Read,
                other => panic!("{name}: {other:?}"),
            };
            assert!(
                found.insert((binding.binding, access == Access::Write)),
                "{name}: a binding twice"
            );
        }
        let expected = (1..)
            .zip(program.kernel.bindings)
            .map(|(binding, access)| (binding, *access == Access::Write));
        assert_eq!(found, expected.collect(), "{name}");
        assert!(found.len() <= 8, "{name}: {} storage buffers", found.len());
    }
}

/// `Params` has the same names, types, offsets and size on both sides.
#[test]
fn params_match_the_host() {
    for program in programs() {
        let (module, _) = parse(&program);
        let kernel = program.kernel;
        let uniform = module
            .global_variables
            .iter()
            .find(|(_, variable)| variable.space == AddressSpace::Uniform)
            .unwrap_or_else(|| panic!("{}: no uniform", kernel.name));
        let TypeInner::Struct { members, span } = &module.types[uniform.1.ty].inner else {
            panic!("{}: params is no struct", kernel.name);
        };
        let found: Vec<(&str, usize, &str)> = members
            .iter()
            .map(|member| {
                let kind = match module.types[member.ty].inner {
                    TypeInner::Scalar(scalar) if scalar.width == 4 && scalar.kind == ScalarKind::Uint => "u32",
                    TypeInner::Scalar(scalar) if scalar.width == 4 && scalar.kind == ScalarKind::Float => "f32",
                    ref other => panic!("{}: {other:?}", kernel.name),
                };
                (member.name.as_deref().unwrap_or_default(), member.offset as usize, kind)
            })
            .collect();
        let expected: Vec<_> = kernel
            .fields
            .iter()
            .map(|field| (field.name, field.offset, field.kind))
            .collect();
        assert_eq!(found, expected, "{}", kernel.name);
        assert_eq!(*span as usize, kernel.params_bytes, "{}", kernel.name);
        assert!(
            kernel.params_bytes as u64 <= crate::kernel::PARAMS_SLOT,
            "{}",
            kernel.name
        );
    }
}

/// Every shader file belongs to a program, so that none can stand there untested.
#[test]
fn every_shader_file_is_used() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files = |folder: &std::path::Path| -> BTreeSet<String> {
        std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".wgsl")?.to_owned()))
            .collect()
    };
    let programs = programs();
    let kernels: BTreeSet<String> = programs.iter().map(|program| program.kernel.name.to_owned()).collect();
    let includes = programs.iter().flat_map(|program| &program.includes);
    let includes: BTreeSet<String> = includes.map(|include| include.name.to_owned()).collect();
    assert_eq!(files(&folder), kernels);
    assert_eq!(files(&folder.join("include")), includes);
}
