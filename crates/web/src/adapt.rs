//! The long calls of [`Composer`]: the search, the evaluation on held-out rows, and the record of a run.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use lorahub_adapters::Rule;
use lorahub_composer::{
    BaseRef, Checkpoint, Clock, HeldOut, HeldOutSettings, ModuleRef, Objective, Outcome, RunInputs, RunRecord, Session,
    Settings, Shot, Step, backend_then, evaluate_held_out, shots_bytes,
};
use lorahub_weights::sha256_hex;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortSignal;

use crate::Composer;
use crate::error::Failure;
use crate::turns::{Signal, seconds};
use crate::types::{AdaptSettings, Report, from_js, rule, to_js};

/// The browser's clock.
struct Watch;

impl Clock for Watch {
    fn seconds(&self) -> f64 {
        seconds()
    }
}

#[wasm_bindgen]
impl Composer {
    /// Searches for the weights that compose the modules for these shots. `onProgress` is called after every generation;
    /// where it returns a promise, the search waits for it, which is how to pause.
    ///
    /// An aborted search returns the best so far, with `stopReason` `cancelled`. With `resume` it goes on from a
    /// checkpoint; if the signal is aborted already, that evaluates nothing and returns what the checkpoint has.
    ///
    /// # Errors
    /// `shots`, `settings` and the like for arguments out of range; `state` or `other_run` for a checkpoint that is none,
    /// or of a search over something else; `nothing_evaluated` when aborted before the first generation; those of the
    /// modules and the device.
    #[wasm_bindgen(unchecked_return_type = "Outcome")]
    pub async fn adapt(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Shot[]")] shots: JsValue,
        #[wasm_bindgen(unchecked_param_type = "AdaptSettings")] settings: JsValue,
        signal: Option<AbortSignal>,
        #[wasm_bindgen(unchecked_param_type = "((progress: Progress) => void | Promise<void>) | undefined")]
        on_progress: Option<js_sys::Function>,
    ) -> Result<JsValue, JsValue> {
        let found = self.search(
            from_js(shots)?,
            from_js(settings)?,
            Signal::new(signal),
            on_progress.as_ref(),
        );
        Ok(to_js(&found.await?)?)
    }

    /// Answers rows that the search has not seen under every candidate (weights by name), and counts the exact matches.
    ///
    /// An aborted evaluation returns the rows that every candidate has answered. `onProgress` is called with the number
    /// of answers given and asked for. `maxNewTokens` (256 unless given) ends answers that do not end by themselves.
    ///
    /// # Errors
    /// `weights` for a candidate of another length; those of the modules and the device.
    #[wasm_bindgen(unchecked_return_type = "HeldOut")]
    pub async fn evaluate(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Shot[]")] rows: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Record<string, number[]>")] candidates: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Rule")] rule_name: String,
        signal: Option<AbortSignal>,
        #[wasm_bindgen(unchecked_param_type = "((done: number, total: number) => void) | undefined")]
        on_progress: Option<js_sys::Function>,
        max_new_tokens: Option<usize>,
    ) -> Result<JsValue, JsValue> {
        let candidates: BTreeMap<String, Vec<f64>> = from_js(candidates)?;
        let candidates: Vec<_> = candidates.into_iter().collect();
        let report = |done: usize, total: usize| {
            if let Some(listener) = &on_progress {
                // A listener that throws is the listener's fault; the evaluation goes on.
                let _ = listener.call2(&JsValue::UNDEFINED, &(done as f64).into(), &(total as f64).into());
            }
        };
        let rule = rule(Some(rule_name), Rule::Exact)?;
        let mut settings = HeldOutSettings::default();
        if let Some(most) = max_new_tokens {
            settings.max_new_tokens = most;
        }
        let compared = self.held_out(from_js(rows)?, candidates, rule, settings, Signal::new(signal), report);
        Ok(to_js(&compared.await?)?)
    }

    /// The record of the last search, as `run.json` has it.
    ///
    /// # Errors
    /// `nothing_evaluated` before the first search has ended.
    #[wasm_bindgen(js_name = runRecord, unchecked_return_type = "Record<string, unknown>")]
    pub fn run_record(&self) -> Result<JsValue, JsValue> {
        let record = self.record.borrow();
        let record = record.as_ref().ok_or_else(|| {
            Failure::new(
                "nothing_evaluated",
                "no search has ended yet, so there is no record of one; adapt first",
            )
        })?;
        Ok(to_js(record)?)
    }
}

impl Composer {
    async fn search(
        &self,
        shots: Vec<Shot>,
        settings: AdaptSettings,
        signal: Signal,
        on_progress: Option<&js_sys::Function>,
    ) -> Result<Outcome, Failure> {
        let inputs = self.inputs(&shots);
        let (mut session, backend) = match &settings.resume {
            Some(json) => {
                let saved = Checkpoint::from_json(json.as_bytes())?;
                saved.check(&inputs)?;
                (
                    Session::resume(saved.session)?,
                    backend_then(&saved.backend, &self.backend()),
                )
            }
            None => (self.session(&settings)?, self.backend()),
        };
        let engine = self.engine_with(session.settings().rule, &shots)?;
        loop {
            if signal.aborted() {
                session.cancel();
            }
            let step = {
                let turn = self.turns.take(&signal).await;
                let step = session.step(&*engine, &Watch).await.map_err(Failure::from);
                // Short generations have no checkpoint that is due, and messages must be read all the same.
                turn.rest().await;
                step
            };
            match step {
                Ok(Step::Progress(progress)) => {
                    let checkpoint = Checkpoint::new(inputs.clone(), backend.clone(), session.state()).to_json()?;
                    let checkpoint = String::from_utf8_lossy(&checkpoint);
                    let report = Report {
                        progress: &progress,
                        checkpoint: &checkpoint,
                    };
                    tell(on_progress, &report).await?;
                }
                Ok(Step::Done { .. }) => break,
                // Stopped inside a generation: the session is as before it, and the next step ends it.
                Err(failure) if failure.code() == "cancelled" && signal.aborted() => session.cancel(),
                Err(failure) => return Err(failure),
            }
        }
        let outcome = session.outcome()?;
        let program = concat!("lorahub-web ", env!("CARGO_PKG_VERSION"));
        let record = RunRecord::new(program, outcome.clone(), session.settings(), inputs, backend);
        self.record.replace(Some(record));
        Ok(outcome)
    }

    /// A new search.
    fn session(&self, settings: &AdaptSettings) -> Result<Session, Failure> {
        let rule = settings.rule.unwrap_or(Rule::Exact);
        let settings = Settings {
            objective: match settings.objective {
                Some(name) => Objective::new(name, None)?,
                None => Objective::NORMALISED,
            },
            budget: settings.budget,
            seed: settings.seed,
            ..Settings::new(rule)
        };
        Ok(Session::new(settings, self.modules.borrow().len())?)
    }

    /// What a run on these shots is about.
    fn inputs(&self, shots: &[Shot]) -> RunInputs {
        let modules = self.modules.borrow();
        let module = |module: &lorahub_adapters::Module| ModuleRef {
            name: module.name.clone(),
            sha256: module.sha256.clone(),
        };
        RunInputs {
            base: BaseRef {
                id: self.base_id.clone(),
                sha256: self.model.sha256().to_owned(),
            },
            modules: modules.iter().map(module).collect(),
            shots_sha256: sha256_hex(&shots_bytes(shots)),
            shots: shots.len(),
        }
    }

    async fn held_out(
        &self,
        rows: Vec<Shot>,
        candidates: Vec<(String, Vec<f64>)>,
        rule: Rule,
        settings: HeldOutSettings,
        signal: Signal,
        report: impl Fn(usize, usize),
    ) -> Result<HeldOut, Failure> {
        let engine = self.engine(rule)?;
        // Ended between batches, not inside one, so that what has been answered is kept.
        let _turn = self.turns.take(&Signal::default()).await;
        let mut on_progress = |progress: lorahub_composer::HeldOutProgress| {
            report(progress.done, progress.total);
            if signal.aborted() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        Ok(evaluate_held_out(&*engine, &rows, &candidates, settings, &mut on_progress).await?)
    }
}

/// Reports to a listener and waits for what it returns. A listener that throws, or whose promise is rejected, is at fault
/// itself; the search goes on.
async fn tell(listener: Option<&js_sys::Function>, report: &Report<'_>) -> Result<(), Failure> {
    let Some(listener) = listener else {
        return Ok(());
    };
    if let Ok(returned) = listener.call1(&JsValue::UNDEFINED, &to_js(report)?)
        && let Ok(promise) = returned.dyn_into::<js_sys::Promise>()
    {
        let _ = JsFuture::from(promise).await;
    }
    Ok(())
}
