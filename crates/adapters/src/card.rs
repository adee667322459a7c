//! The model card of an exported module: `README.md` with YAML front matter.
//!
//! Names come from outside: in the front matter and in code they are quoted as JSON strings (which YAML and Python
//! read alike), elsewhere they are code spans without the characters that would end one.

use std::fmt::Write as _;

use crate::{Composition, Module, Provenance, Rule};

/// Writes the card.
pub(crate) fn model_card(module: &Module, provenance: &Provenance) -> String {
    let mut card = String::from("---\n");
    // The hub refuses cards whose base is not one of its own ids, so a path on somebody's disk stays out.
    if let Some(base) = module.base_model.as_deref().filter(|base| is_hub_id(base)) {
        push(&mut card, format_args!("base_model: {}\n", quoted(base)));
    }
    card.push_str("library_name: peft\n");
    if let Some(license) = &provenance.license {
        push(&mut card, format_args!("license: {}\n", quoted(license)));
    }
    card.push_str("tags:\n- lora\n- lorahub\n---\n\n");
    push(&mut card, format_args!("# {}\n\n", plain(&module.name)));
    match &provenance.composition {
        Some(composition) => push_composition(&mut card, module, composition),
        None => push(
            &mut card,
            format_args!(
                "A LoRA module of rank {} and alpha {}{} for {}.\n\n",
                module.rank,
                module.alpha,
                exceptions(module),
                base_in_words(module)
            ),
        ),
    }
    if let Some(sha256) = &provenance.base_sha256 {
        push(
            &mut card,
            format_args!("SHA-256 of the base's weights: {}.\n\n", code(sha256)),
        );
    }
    for note in &provenance.notes {
        push(&mut card, format_args!("{}\n\n", note.trim()));
    }
    push_usage(&mut card, module);
    card
}

fn push_composition(card: &mut String, module: &Module, composition: &Composition) {
    let rule = match composition.rule {
        Rule::Reference => "`A = sum w_i A_i` and `B = sum w_i B_i`, each sum on its own (rule `reference`)",
        Rule::Exact => "`delta W = sum w_i s_i B_i A_i` (rule `exact`; modules of weight 0 are left out)",
    };
    push(
        card,
        format_args!(
            "A LoRA module composed from {} others for {}, in the way of LoRAHub (arXiv 2307.13269): {rule}. Rank {}, \
             alpha {}{}.",
            composition.modules.len(),
            base_in_words(module),
            module.rank,
            module.alpha,
            exceptions(module)
        ),
    );
    if let Some(seed) = composition.seed {
        push(
            card,
            format_args!(" The weights were found by a search without gradients, seed {seed}."),
        );
    }
    card.push_str("\n\n| module | weight | SHA-256 of its weights |\n|---|---:|---|\n");
    for share in &composition.modules {
        let sha256 = share.sha256.as_deref().map(code).unwrap_or_default();
        push(
            card,
            format_args!("| {} | {} | {sha256} |\n", code(&share.name), share.weight),
        );
    }
    card.push('\n');
}

fn push_usage(card: &mut String, module: &Module) {
    let base = quoted(module.base_model.as_deref().unwrap_or("path/to/the/base"));
    let revision = module
        .base_revision
        .as_deref()
        .map(|revision| format!(", revision={}", quoted(revision)))
        .unwrap_or_default();
    push(
        card,
        format_args!(
            "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForSeq2SeqLM\n\nbase = \
             AutoModelForSeq2SeqLM.from_pretrained({base}{revision})\nmodel = PeftModel.from_pretrained(base, \
             \"path/to/this/folder\")\n```\n"
        ),
    );
}

/// What the module's one rank and alpha leave out.
fn exceptions(module: &Module) -> String {
    let mut text = String::new();
    if module.rslora {
        text.push_str(" (scaling alpha / sqrt(rank))");
    }
    let count = module.exceptions();
    if count > 0 {
        let targets = module.pairs.len();
        push(
            &mut text,
            format_args!(" ({count} of its {targets} targets have others, see `rank_pattern` and `alpha_pattern`)"),
        );
    }
    text
}

fn base_in_words(module: &Module) -> String {
    module
        .base_model
        .as_deref()
        .map_or_else(|| "a T5 base".to_owned(), code)
}

/// Writing to a `String` cannot fail.
fn push(card: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = card.write_fmt(text);
}

/// `owner/name`, as the hub spells them.
fn is_hub_id(base: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    matches!(base.split('/').collect::<Vec<_>>().as_slice(), [owner, name] if part(owner) && part(name))
}

/// A string that YAML, JSON and Python all read as `text`.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A code span.
fn code(text: &str) -> String {
    format!("`{}`", plain(text))
}

/// `text` without line breaks and without the characters that mean something in Markdown or HTML.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || "`|<>[]\\#*".contains(c) {
                ' '
            } else {
                c
            }
        })
        .collect()
}
