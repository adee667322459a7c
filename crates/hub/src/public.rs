//! The manifest of what is public: Flan-T5 in three sizes, and the modules of the LoRAHub paper.
//!
//! Names and seed lists are facts of the reference's code. Sizes, commits and hashes are not known here, so they are
//! absent until a refresh fills them in.

use crate::{Base, FileEntry, MANIFEST_VERSION, Manifest, ManifestError, Module, Repository, Set};

/// The sizes of Flan-T5 that fit a browser, smallest first.
pub const FLAN_T5: [&str; 3] = ["google/flan-t5-small", "google/flan-t5-base", "google/flan-t5-large"];

/// The base of every public module.
const MODULES_BASE: &str = FLAN_T5[2];
/// What every public module's repository is called, before its task.
const MODULES_PREFIX: &str = "lorahub/flan_t5_large-";

/// The tasks of the public modules, in the reference's order, one a line.
const TASKS: &str = include_str!("public/tasks.txt");
/// For each of the reference's seeds, a line: the seed, and the numbers of its 20 modules among [`TASKS`], in its order.
const SEEDS: &str = include_str!("public/seeds.txt");

/// The seeds of the reference's evaluation: 42 in its example, 1 to 5 on BBH.
pub const REFERENCE_SEEDS: [u32; 6] = [42, 1, 2, 3, 4, 5];

/// The public manifest.
///
/// # Errors
/// None with the lists that are built in.
pub fn public_manifest() -> Result<Manifest, ManifestError> {
    let entries = |paths: &[&str]| paths.iter().map(|path| FileEntry::new(path)).collect();
    let base = |id: &str| {
        Ok(Base {
            id: id.to_owned(),
            repository: Repository::new(id)?,
            commit: None,
            files: entries(&["config.json", "tokenizer.json", "model.safetensors"]),
            licence: Some("Apache-2.0".to_owned()),
            description: None,
        })
    };
    let module = |task: &str| {
        Ok(Module {
            name: task.to_owned(),
            base: MODULES_BASE.to_owned(),
            repository: Repository::new(&format!("{MODULES_PREFIX}{task}"))?,
            commit: None,
            files: entries(&["adapter_config.json", "adapter_model.bin"]),
            rule: Some("reference".to_owned()),
            task: Some(task.to_owned()),
            tags: Vec::new(),
            licence: None,
            description: None,
        })
    };
    let tasks: Vec<_> = TASKS.lines().collect();
    let set = |line: &str| {
        let mut words = line.split(' ');
        let seed = words.next().unwrap_or_default();
        let name = |number: &str| {
            let task = number.parse().ok().and_then(|number: usize| tasks.get(number));
            task.map(|task| task.to_string())
                .ok_or_else(|| ManifestError::Unlisted {
                    what: "module",
                    name: number.to_owned(),
                    by: seed.to_owned(),
                })
        };
        Ok(Set {
            name: format!("seed-{seed}"),
            modules: words.map(name).collect::<Result<_, _>>()?,
            description: Some(format!("The 20 modules that the reference draws with seed {seed}.")),
        })
    };
    let manifest = Manifest {
        schema: None,
        version: MANIFEST_VERSION,
        bases: FLAN_T5.into_iter().map(base).collect::<Result<_, _>>()?,
        modules: tasks.iter().map(|task| module(task)).collect::<Result<_, _>>()?,
        sets: SEEDS.lines().map(set).collect::<Result<_, ManifestError>>()?,
    };
    manifest.check()?;
    Ok(manifest)
}
