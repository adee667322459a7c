//! Modules in `adapter_model.bin`: read as their safetensors twins are, with the same strictness.

#[path = "../../../tests/hostile/adapters.rs"]
mod hostile;
#[path = "../../../tests/hostile/torch.rs"]
mod torch;

use hostile::Adapter;
use lorahub_adapters::{BaseSpec, Module, TargetSpec};
use lorahub_weights::{Limits, SafeTensors, sha256_hex};

fn base() -> BaseSpec {
    let target = |(path, d_in, d_out)| TargetSpec { path, d_in, d_out };
    BaseSpec {
        id: Some(hostile::BASE.to_owned()),
        revision: Some("main".to_owned()),
        targets: hostile::base_targets().into_iter().map(target).collect(),
    }
}

/// The tensors of a safetensors file as a PyTorch archive; `None` if the file or a value in it is broken.
fn archive(safetensors: &[u8]) -> Option<Vec<u8>> {
    let file = SafeTensors::parse(safetensors, &Limits::ADAPTER).ok()?;
    let mut tensors = Vec::new();
    for name in file.names() {
        let data = file
            .f32(name)
            .ok()?
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        tensors.push((name.to_owned(), file.shape(name).ok()?.to_vec(), data));
    }
    Some(torch::archive_of(&tensors))
}

#[test]
fn an_archive_gives_the_module_of_its_safetensors_twin() {
    let adapter = Adapter::valid();
    let config = adapter.config_json();
    let bin = archive(&adapter.safetensors()).expect("valid");
    let expected = Module::from_peft("mine", config.as_bytes(), &adapter.safetensors(), Some(&base())).expect("valid");
    let found = Module::from_peft("mine", config.as_bytes(), &bin, Some(&base())).expect("valid");
    assert_eq!(found.pairs, expected.pairs);
    assert_eq!(found.sha256, Some(sha256_hex(&bin)));
}

#[test]
fn every_fault_of_the_tensors_is_found_in_an_archive_too() {
    let mut checked = 0;
    for case in hostile::bad_adapters() {
        let Some(bin) = archive(&case.safetensors) else {
            continue;
        };
        let error = Module::from_peft("mine", case.config_json.as_bytes(), &bin, Some(&base())).expect_err(case.what);
        assert_eq!(error.code(), case.code, "{}: {error}", case.what);
        checked += usize::from(case.code.starts_with("tensors-"));
    }
    assert!(checked > 20, "{checked}");
}

/// A public LoRAHub module as its repository holds it: PEFT of 2023 wrote the configuration, PyTorch the archive.
/// All 24 + 24 blocks and the real names; only the widths are small.
#[test]
fn a_public_lorahub_module_is_read() {
    const CONFIG: &str = r#"{
  "auto_mapping": null,
  "base_model_name_or_path": "google/flan-t5-large",
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "layers_pattern": null,
  "layers_to_transform": null,
  "lora_alpha": 32,
  "lora_dropout": 0.1,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 16,
  "revision": null,
  "target_modules": [
    "q",
    "v"
  ],
  "task_type": "SEQ_2_SEQ_LM"
}"#;
    const D_MODEL: usize = 3;
    let attentions = (0..24).flat_map(|block| {
        [
            format!("encoder.block.{block}.layer.0.SelfAttention"),
            format!("decoder.block.{block}.layer.0.SelfAttention"),
            format!("decoder.block.{block}.layer.1.EncDecAttention"),
        ]
    });
    let (mut targets, mut tensors) = (Vec::new(), Vec::new());
    for (number, attention) in attentions.enumerate() {
        for leaf in ["q", "k", "v", "o"] {
            let path = format!("{attention}.{leaf}");
            let values = |first: usize| -> Vec<u8> {
                (0..16 * D_MODEL)
                    .flat_map(|i| ((first + i) as f32 / 64.0).to_le_bytes())
                    .collect()
            };
            if leaf == "q" || leaf == "v" {
                tensors.push((hostile::key(&path, "lora_A"), vec![16, D_MODEL], values(number)));
                tensors.push((hostile::key(&path, "lora_B"), vec![D_MODEL, 16], values(number + 1000)));
            }
            let (d_in, d_out) = (D_MODEL, D_MODEL);
            targets.push(TargetSpec { path, d_in, d_out });
        }
    }
    assert_eq!(
        tensors[0].0,
        "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
    );
    let base = BaseSpec {
        id: Some("google/flan-t5-large".to_owned()),
        revision: None,
        targets,
    };
    let bin = torch::archive_of(&tensors);
    let module = Module::from_peft("qasc_is_correct_1", CONFIG.as_bytes(), &bin, Some(&base)).expect("a real module");
    assert_eq!(
        (module.rank, module.alpha, module.scaling(), module.pairs.len()),
        (16, 32.0, 2.0, 144)
    );
    let pair = &module.pairs["decoder.block.23.layer.1.EncDecAttention.v"];
    assert_eq!((pair.a[0], pair.b[47]), (71.0 / 64.0, 1118.0 / 64.0));
    // Half of it, and the same for another base.
    let half = torch::archive_of(&tensors[..144]);
    let error = Module::from_peft("half", CONFIG.as_bytes(), &half, Some(&base)).expect_err("half of the tensors");
    assert_eq!(error.code(), "tensors-missing-targets");
    let small = BaseSpec {
        id: Some("google/flan-t5-small".to_owned()),
        ..base
    };
    let error = Module::from_peft("other", CONFIG.as_bytes(), &bin, Some(&small)).expect_err("another base");
    assert_eq!(error.code(), "tensors-base-id");
}

/// PyTorch's own file of a tiny adapter, with the configuration that PEFT would give it.
#[test]
fn what_torch_wrote_is_a_module() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/hostile/torch/adapter_model.bin"
    );
    let bin = std::fs::read(path).expect("a committed file");
    let config = Adapter::valid().config_json();
    let module = Module::from_peft("mine", config.as_bytes(), &bin, Some(&base())).expect("valid");
    assert_eq!((module.rank, module.pairs.len()), (2, 6));
}
