//! [`Composer`]: a base model with its modules.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use lorahub_adapters::{Bank, Composition, Module, Provenance, Rule, check_together, compose, export};
use lorahub_composer::{Candidate, ComposerError, Objective, RunRecord, Shot, ShotLosses};
use lorahub_devices::{Device, DeviceReport, Opened};
use lorahub_t5::{AnyEngine, AnyModel, Config, ModelFiles, expected_tensors};
use wasm_bindgen::prelude::*;

use crate::error::Failure;
use crate::turns::{Signal, Turns, seconds};
use crate::types::{
    AdaptSettings, BaseFacts, Conversion, DeviceMemory, Estimate, ModuleFacts, Score, from_js, rule, to_js,
};
use crate::words::{unknown_words, words};

/// Tokens that a generation may have, unless the caller says otherwise.
const MAX_NEW_TOKENS: usize = 256;

/// Size of the WebAssembly heap, which grows and never shrinks.
fn heap_bytes() -> f64 {
    let memory: js_sys::WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    memory
        .buffer()
        .unchecked_into::<js_sys::ArrayBuffer>()
        .byte_length()
        .into()
}

/// A base model on its device, with modules. [`Device::load`](crate::Device::load) makes one.
#[wasm_bindgen]
pub struct Composer {
    pub(crate) turns: Rc<Turns>,
    pub(crate) model: Rc<dyn AnyModel>,
    device: Device,
    report: DeviceReport,
    tuning: Option<String>,
    pub(crate) base_id: String,
    words: Vec<String>,
    conversion: Conversion,
    pub(crate) modules: RefCell<Vec<Module>>,
    /// The modules on the device without shots, by rule: for generation and evaluation.
    engines: RefCell<Vec<(Rule, Rc<dyn AnyEngine>)>>,
    pub(crate) record: RefCell<Option<RunRecord>>,
}

#[wasm_bindgen]
impl Composer {
    /// Adds one module (a base without modules scores and answers as well), from the bytes of `adapter_config.json` and
    /// `adapter_model.safetensors`. All modules must be added before the first call that composes.
    ///
    /// # Errors
    /// A code of its own for every way in which a module can be unusable, also beside the first one under any rule; the
    /// message names the module.
    #[wasm_bindgen(js_name = addModule, unchecked_return_type = "ModuleFacts")]
    pub fn add_module(&self, name: &str, config: &[u8], weights: &[u8]) -> Result<JsValue, JsValue> {
        let add = || -> Result<JsValue, Failure> {
            if !self.engines.borrow().is_empty() {
                return Err(Failure::new(
                    "modules_in_use",
                    format!("`{name}` comes too late, the modules are in use; add every module before the first call"),
                ));
            }
            let module = Module::from_peft(name, config, weights, Some(&self.model.base_spec()))?;
            if let Some(first) = self.modules.borrow().first() {
                check_together(first, &module, Rule::Exact)?;
            }
            let facts = to_js(&ModuleFacts {
                name: &module.name,
                rank: module.rank,
                scaling: module.scaling(),
                sha256: &module.sha256,
            })?;
            self.modules.borrow_mut().push(module);
            Ok(facts)
        };
        Ok(add()?)
    }

    /// Why the modules cannot be composed under a rule; `undefined` if they can.
    ///
    /// # Errors
    /// `argument` for another rule.
    pub fn obstacle(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Rule")] rule_name: String,
    ) -> Result<Option<String>, JsValue> {
        let rule = rule(Some(rule_name), Rule::Exact)?;
        let modules = self.modules.borrow();
        let Some(first) = modules.first() else { return Ok(None) };
        let obstacle = |other| check_together(first, other, rule).err();
        Ok(modules.iter().find_map(obstacle).map(|error| error.to_string()))
    }

    /// The name of what computes.
    #[wasm_bindgen(getter)]
    pub fn backend(&self) -> String {
        self.model.backend()
    }

    /// What computes, and why.
    ///
    /// # Errors
    /// None in practice: a conversion of plain values.
    #[wasm_bindgen(getter, unchecked_return_type = "DeviceReport")]
    pub fn device(&self) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.report)?)
    }

    /// What the measurement of the GPU's kernels found: give it to the next `load`, and that is spared.
    #[wasm_bindgen(getter)]
    pub fn tuning(&self) -> Option<String> {
        self.tuning.clone()
    }

    /// What the GPU's buffers hold; `null` on the CPU, whose memory is the WebAssembly's.
    ///
    /// # Errors
    /// None in practice: a conversion of plain numbers.
    #[wasm_bindgen(getter, js_name = deviceMemory, unchecked_return_type = "DeviceMemory | null")]
    pub fn device_memory(&self) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.device.memory().map(DeviceMemory::from))?)
    }

    /// What is known of the base.
    ///
    /// # Errors
    /// None in practice: a conversion of plain numbers.
    #[wasm_bindgen(getter, unchecked_return_type = "BaseFacts")]
    pub fn base(&self) -> Result<JsValue, JsValue> {
        let tensors = expected_tensors(self.model.config());
        let params = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        Ok(to_js(&BaseFacts {
            params,
            sha256: self.model.sha256(),
        })?)
    }

    /// What became of the conversion of the base's weights: read from the store, kept there, or not.
    ///
    /// # Errors
    /// None in practice: a conversion of plain values.
    #[wasm_bindgen(getter, unchecked_return_type = "Conversion")]
    pub fn conversion(&self) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.conversion)?)
    }

    /// The words of the vocabulary, where it is one of whole words; else empty.
    pub fn words(&self) -> Vec<String> {
        self.words.clone()
    }

    /// The words of a text that are not in the vocabulary: `[start, end)` in UTF-16 units.
    ///
    /// # Errors
    /// `base_tokenizer` if the tokenizer cannot handle the text.
    #[wasm_bindgen(js_name = unknownSpans, unchecked_return_type = "[number, number][]")]
    pub fn unknown_spans(&self, text: &str) -> Result<JsValue, JsValue> {
        let spans = self.model.tokenizer().unknown_spans(text).map_err(Failure::from)?;
        Ok(to_js(&unknown_words(text, spans))?)
    }

    /// The token ids of a text, `</s>` last.
    ///
    /// # Errors
    /// As [`unknownSpans`](Self::unknown_spans).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        Ok(self.model.tokenizer().encode(text).map_err(Failure::from)?)
    }

    /// The losses of each candidate on the shots, all candidates in one generation.
    ///
    /// # Errors
    /// Those of the modules, the weights and the device.
    #[wasm_bindgen(unchecked_return_type = "Score[]")]
    pub async fn score(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Shot[]")] shots: JsValue,
        #[wasm_bindgen(unchecked_param_type = "number[][]")] candidates: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Rule")] rule_name: String,
    ) -> Result<JsValue, JsValue> {
        let candidates: Vec<Vec<f64>> = from_js(candidates)?;
        let scored = self.scores(from_js(shots)?, &candidates, rule(Some(rule_name), Rule::Exact)?);
        Ok(to_js(&scored.await?)?)
    }

    /// Scores of every token at every target position, row by row, under the base (`weights` absent) or a composition.
    ///
    /// # Errors
    /// Those of the modules, the weights and the device.
    pub async fn logits(
        &self,
        input_ids: Vec<u32>,
        target_ids: Vec<u32>,
        weights: Option<Vec<f64>>,
        #[wasm_bindgen(unchecked_param_type = "Rule")] rule_name: String,
    ) -> Result<Vec<f32>, JsValue> {
        let bank = match &weights {
            Some(_) => Some(self.bank(rule(Some(rule_name), Rule::Exact)?)?),
            None => None,
        };
        let adapter = bank.as_ref().zip(weights.as_deref());
        let _turn = self.turns.take(&Signal::default()).await;
        let logits = self.model.logits(adapter, &input_ids, &target_ids).await;
        Ok(logits.map_err(Failure::from)?)
    }

    /// Answers one input greedily. `onText` is called with the whole text so far after every token.
    ///
    /// # Errors
    /// `cancelled` when aborted; `memory` for an input beyond the budget; those of the weights and device.
    #[wasm_bindgen(unchecked_return_type = "Generated")]
    pub async fn generate(
        &self,
        text: String,
        weights: Vec<f64>,
        #[wasm_bindgen(unchecked_param_type = "Rule")] rule_name: String,
        max_new_tokens: Option<usize>,
        signal: Option<web_sys::AbortSignal>,
        #[wasm_bindgen(unchecked_param_type = "((text: string) => void) | undefined")] on_text: Option<
            js_sys::Function,
        >,
    ) -> Result<JsValue, JsValue> {
        let engine = self.engine(rule(Some(rule_name), Rule::Exact)?)?;
        let _turn = self.turns.take(&Signal::new(signal)).await;
        let mut on_token = |text: &str, _ids: &[u32]| {
            if let Some(on_text) = &on_text {
                // A listener that throws is the listener's fault; the answer goes on.
                let _ = on_text.call1(&JsValue::UNDEFINED, &text.into());
            }
            ControlFlow::Continue(())
        };
        let limit = max_new_tokens.unwrap_or(MAX_NEW_TOKENS);
        let answer = engine.generate_stream(&weights, &text, limit, &mut on_token).await;
        Ok(to_js(&answer.map_err(Failure::from)?)?)
    }

    /// Time and memory that a run would take, by timing a few evaluations on these shots.
    ///
    /// # Errors
    /// Those that the run itself would begin with.
    #[wasm_bindgen(unchecked_return_type = "Estimate")]
    pub async fn estimate(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Shot[]")] shots: JsValue,
        #[wasm_bindgen(unchecked_param_type = "AdaptSettings")] settings: JsValue,
    ) -> Result<JsValue, JsValue> {
        let settings: AdaptSettings = from_js(settings)?;
        let estimated = self.estimated(from_js(shots)?, settings.rule.unwrap_or(Rule::Exact), settings.budget);
        Ok(to_js(&estimated.await?)?)
    }

    /// Seconds that one evaluation of another model would take on this device, by its `config.json`: five examples of 64
    /// tokens with answers of 16. Measured on one block of its size with made-up weights, so that a download can be judged
    /// before it is begun.
    ///
    /// # Errors
    /// `base_config`; the device's.
    #[wasm_bindgen(js_name = secondsFor)]
    pub async fn seconds_for(&self, config: Vec<u8>) -> Result<f64, JsValue> {
        const USUAL: (&[usize], &[usize]) = (&[64; 5], &[16; 5]);
        let config = Config::from_json(&config).map_err(Failure::from)?;
        let _turn = self.turns.take(&Signal::default()).await;
        let measured = self.device.evaluation_seconds(&config, USUAL, &seconds).await;
        Ok(measured.map_err(Failure::from)?)
    }

    /// The composed module as PEFT reads it, in one uncompressed zip archive.
    ///
    /// # Errors
    /// Those of the modules and the weights.
    #[wasm_bindgen(js_name = exportModule)]
    pub fn export_module(
        &self,
        weights: Vec<f64>,
        #[wasm_bindgen(unchecked_param_type = "Rule")] rule_name: String,
        seed: Option<f64>,
        license: Option<String>,
    ) -> Result<Vec<u8>, JsValue> {
        let exported = || -> Result<Vec<u8>, Failure> {
            let bank = self.bank(rule(Some(rule_name), Rule::Exact)?)?;
            let seed = seed
                .filter(|seed| *seed >= 0.0 && seed.fract() == 0.0)
                .map(|seed| seed as u64);
            let provenance = Provenance {
                composition: Some(Composition::new(&bank, &weights, seed)?),
                base_sha256: Some(self.model.sha256().to_owned()),
                license,
                notes: Vec::new(),
            };
            let module = compose(&bank, &weights)?;
            Ok(export(&module, &provenance)?.zip("composed")?)
        };
        Ok(exported()?)
    }
}

impl Composer {
    pub(crate) async fn on_device(
        base_id: String,
        files: ModelFiles<'_>,
        opened: Opened,
        turns: Rc<Turns>,
    ) -> Result<Self, Failure> {
        let Opened { device, report, tuning } = opened;
        Ok(Self {
            turns,
            model: device.load(files).await?,
            device,
            report,
            tuning,
            base_id,
            words: words(files.tokenizer),
            conversion: Conversion::None,
            modules: RefCell::default(),
            engines: RefCell::default(),
            record: RefCell::default(),
        })
    }

    pub(crate) fn loaded(mut self, conversion: Conversion) -> Self {
        self.conversion = conversion;
        self
    }

    fn gpu_bytes(&self) -> f64 {
        let memory = self.device.memory().unwrap_or_default();
        (memory.live_bytes + memory.free_bytes) as f64
    }

    /// The modules stacked for a rule; there must be some.
    fn bank(&self, rule: Rule) -> Result<Bank, Failure> {
        Ok(Bank::new(self.modules.borrow().clone(), rule)?)
    }

    /// The modules on the device, without shots; uploaded once for each rule.
    pub(crate) fn engine(&self, rule: Rule) -> Result<Rc<dyn AnyEngine>, Failure> {
        if let Some((_, engine)) = self.engines.borrow().iter().find(|(of, _)| *of == rule) {
            return Ok(engine.clone());
        }
        let engine: Rc<dyn AnyEngine> = self.engine_with(rule, &[])?.into();
        self.engines.borrow_mut().push((rule, engine.clone()));
        Ok(engine)
    }

    /// The modules on the device, with shots.
    pub(crate) fn engine_with(&self, rule: Rule, shots: &[Shot]) -> Result<Box<dyn AnyEngine>, Failure> {
        let bank = if self.modules.borrow().is_empty() {
            None
        } else {
            Some(self.bank(rule)?)
        };
        Ok(self.model.engine(bank.as_ref(), shots)?)
    }

    async fn scores(&self, shots: Vec<Shot>, candidates: &[Vec<f64>], rule: Rule) -> Result<Vec<Score>, Failure> {
        let engine = self.engine_with(rule, &shots)?;
        let asked: Vec<Candidate> = candidates
            .iter()
            .map(|weights| Candidate {
                weights: weights.clone(),
            })
            .collect();
        let _turn = self.turns.take(&Signal::default()).await;
        let losses = engine.evaluate(&asked).await.map_err(ComposerError::from)?;
        let score = |(losses, weights): (ShotLosses, &Vec<f64>)| {
            // Without modules there is no weight to penalise, and the mean of none is not a number.
            let penalised: &[f64] = if weights.is_empty() { &[0.0] } else { weights };
            Score {
                shot_loss: losses.shot_loss(),
                batch_loss: losses.batch_loss(),
                objective_reference: Objective::REFERENCE.value(&losses, penalised),
                objective_normalised: Objective::NORMALISED.value(&losses, penalised),
            }
        };
        Ok(losses.into_iter().zip(candidates).map(score).collect())
    }

    /// Times a few candidates in which every module takes part, as in the search, which is most of a run.
    async fn estimated(&self, shots: Vec<Shot>, rule: Rule, budget: usize) -> Result<Estimate, Failure> {
        /// Few enough to be done before anyone notices, enough to be a generation.
        const CANDIDATES: usize = 8;
        /// The first passes run before the browser has compiled well; the quickest is what a run will see.
        const MOST_PASSES: usize = 5;
        /// Seconds after which two passes have said enough.
        const ENOUGH: f64 = 0.4;
        /// Seconds for one candidate beyond which only a few are timed: all of them would take a large model minutes.
        const SLOW: f64 = 0.25;
        const FEW: usize = 3;
        /// The one is timed so often, and not again after so many seconds.
        const MOST_TRIES: usize = 4;
        const LONG: f64 = 2.0;
        let engine = self.engine_with(rule, &shots)?;
        let modules = engine.modules();
        let candidate = |index: usize| Candidate {
            weights: vec![0.1 + 0.01 * index as f64; modules],
        };
        let candidates: Vec<Candidate> = (0..CANDIDATES).map(candidate).collect();
        let _turn = self.turns.take(&Signal::default()).await;
        let time = async |candidates: &[Candidate]| -> Result<f64, ComposerError> {
            let began = seconds();
            engine.evaluate(candidates).await?;
            Ok(seconds() - began)
        };
        let start = seconds();
        let mut one = f64::INFINITY;
        for _ in 0..MOST_TRIES {
            one = one.min(time(&candidates[..1]).await?);
            if one <= SLOW || seconds() - start > LONG {
                break;
            }
        }
        let seconds_per_evaluation = if one > SLOW {
            // Reading the weights is shared by all candidates of a pass: what one more costs, and that part.
            let more = ((time(&candidates[..FEW]).await? - one) / (FEW - 1) as f64).clamp(0.0, one);
            more + (one - more) / CANDIDATES as f64
        } else {
            let mut quickest = f64::INFINITY;
            for pass in 1..=MOST_PASSES {
                quickest = quickest.min(time(&candidates).await?);
                if pass > 1 && seconds() - start > ENOUGH {
                    break;
                }
            }
            quickest / CANDIDATES as f64
        };
        let activations = engine.cost().map_or(0, |cost| cost.bytes) as f64;
        Ok(Estimate {
            seconds: seconds_per_evaluation * budget as f64,
            seconds_per_evaluation,
            // The heap or the GPU holds the model, the modules and by now the activations of these candidates; a
            // generation may have twice as many.
            bytes: heap_bytes() + self.gpu_bytes() + CANDIDATES as f64 * activations,
        })
    }
}
