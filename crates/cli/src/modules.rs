//! The modules, and the rule that composes them.

use lorahub_adapters::{Bank, BaseSpec, Module, ModuleInfo, Rule};

use crate::args::Modules;
use crate::error::CliError;
use crate::family;
use crate::files::{FolderKind, JSON_BYTES, WEIGHTS_BYTES};
use crate::hub::Place;
use crate::output::{say, warn};

/// The layout of a module.
pub(crate) const MODULE: FolderKind = FolderKind {
    name: "module",
    expected: "adapter_config.json and adapter_model.safetensors or adapter_model.bin",
    instead: &[
        (
            "family.json",
            "this is a family; its modules are folders inside, to be given one by one",
        ),
        ("config.json", "this is a base model; give it to --base"),
    ],
};

const SAFETENSORS: &str = "adapter_model.safetensors";
const PICKLED: &str = "adapter_model.bin";

/// The modules of the command line, in order.
///
/// # Errors
/// [`CliError::NotAFolder`], [`CliError::Missing`], [`CliError::Adapter`].
pub(crate) fn load(places: &[Place], base: &BaseSpec) -> Result<Vec<Module>, CliError> {
    let short: Vec<String> = places.iter().map(Place::name).collect();
    let load = |(place, name): (&Place, &String)| {
        let unique = short.iter().filter(|other| *other == name).count() == 1;
        let name = if unique { name.clone() } else { place.to_string() };
        load_one(place, &name, Some(base))
    };
    places.iter().zip(&short).map(load).collect()
}

/// One module.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_one(place: &Place, name: &str, base: Option<&BaseSpec>) -> Result<Module, CliError> {
    let config = place.read(MODULE, "adapter_config.json", JSON_BYTES)?;
    // As PEFT has it: the older form is read where the newer one is missing.
    let pickled = !place.has(SAFETENSORS) && place.has(PICKLED);
    let file = if pickled { PICKLED } else { SAFETENSORS };
    let weights = place.read(MODULE, file, WEIGHTS_BYTES)?;
    Ok(Module::from_peft(name, &config, &weights, base)?)
}

/// The modules as a bank under the rule in use, which is said; none without modules.
///
/// # Errors
/// Those of [`load`] and [`family::default_rule`], and [`CliError::Adapter`] if the modules do not go together.
pub(crate) fn bank(arguments: &Modules, base: &BaseSpec) -> Result<Option<Bank>, CliError> {
    if arguments.places.is_empty() {
        return Ok(None);
    }
    let (rule, because) = rule(arguments)?;
    say(&format!("rule `{rule}` ({because})"));
    bank_under(rule, arguments, base).map(Some)
}

/// The rule in use, and why: as asked for, the family's, or the default.
///
/// # Errors
/// Those of [`family::default_rule`].
pub(crate) fn rule(arguments: &Modules) -> Result<(Rule, String), CliError> {
    match arguments.rule {
        Some(rule) => Ok((rule, "as --rule says".to_owned())),
        None => family::default_rule(&arguments.places),
    }
}

/// The modules as a bank under this rule.
///
/// # Errors
/// Those of [`load`], and [`CliError::Adapter`] if the modules do not go together.
pub(crate) fn bank_under(rule: Rule, arguments: &Modules, base: &BaseSpec) -> Result<Bank, CliError> {
    let bank = Bank::new(load(&arguments.places, base)?, rule)?;
    for note in bank.notes() {
        warn(note);
    }
    warn_of_bases(bank.modules());
    Ok(bank)
}

/// Sizes alone do not show that two modules were trained on different bases; what they say themselves may.
fn warn_of_bases(modules: &[ModuleInfo]) {
    let named = |module: &ModuleInfo| module.base_model.clone().map(|base| (module.name.clone(), base));
    let mut named = modules.iter().filter_map(named);
    let Some((first, base)) = named.next() else {
        return;
    };
    if let Some((other, other_base)) = named.find(|(_, other)| *other != base) {
        warn(&format!(
            "module `{first}` says it was trained on `{base}`, and `{other}` on `{other_base}`; modules of different \
             bases do not go together, unless these are two names of one"
        ));
    }
}
