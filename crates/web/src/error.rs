//! Errors as JavaScript sees them: an `Error` with a stable `code`, and `cause` where there is one.

use lorahub_adapters::AdapterError;
use lorahub_composer::ComposerError;
use lorahub_hub::HubError;
use lorahub_optim::OptimError;
use lorahub_t5::T5Error;
use wasm_bindgen::{JsCast as _, JsValue};

/// A failure on its way to JavaScript.
#[derive(Debug)]
pub(crate) struct Failure {
    code: String,
    message: String,
    /// What lies under it, outermost first.
    causes: Vec<String>,
}

impl Failure {
    /// A failure of these bindings' own: `message` is one sentence, what to do after its last semicolon.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            causes: Vec::new(),
        }
    }

    fn from_error(code: &str, error: &dyn std::error::Error) -> Self {
        let message = error.to_string();
        let causes = std::iter::successors(error.source(), |source| source.source());
        // A cause that the message already quotes says nothing new.
        let causes = causes
            .map(ToString::to_string)
            .filter(|cause| !message.contains(cause.as_str()));
        Self {
            // The crates below write some of their codes with hyphens; JavaScript gets one spelling.
            code: code.replace('-', "_"),
            causes: causes.collect(),
            message,
        }
    }

    /// The code, for decisions inside this crate.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }
}

impl From<T5Error> for Failure {
    fn from(error: T5Error) -> Self {
        match error {
            T5Error::Adapter(error) => (*error).into(),
            error => Self::from_error(error.code(), &error),
        }
    }
}

impl From<AdapterError> for Failure {
    fn from(error: AdapterError) -> Self {
        Self::from_error(error.code(), &error)
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::from_error(error.code(), &error)
    }
}

impl From<ComposerError> for Failure {
    fn from(error: ComposerError) -> Self {
        Self::from_error(error.code(), &error)
    }
}

impl From<OptimError> for Failure {
    fn from(error: OptimError) -> Self {
        Self::from_error("optimiser", &error)
    }
}

impl From<serde_wasm_bindgen::Error> for Failure {
    fn from(error: serde_wasm_bindgen::Error) -> Self {
        Self::new(
            "argument",
            format!("an argument has another form than its type says ({error}); see the type definitions"),
        )
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(
            "argument",
            format!("a text is not the JSON that was expected ({error}); see the type definitions"),
        )
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        let cause = |inner: JsValue, text: &String| {
            let error = js_sys::Error::new(text);
            if !inner.is_undefined() {
                error.set_cause(&inner);
            }
            error.unchecked_into()
        };
        let chain = failure.causes.iter().rev().fold(JsValue::UNDEFINED, cause);
        let error = js_sys::Error::new(&failure.message);
        error.set_name("LorahubError");
        if !chain.is_undefined() {
            error.set_cause(&chain);
        }
        // Setting a property of an error that was made a line above cannot fail.
        let _ = js_sys::Reflect::set(&error, &"code".into(), &failure.code.into());
        error.into()
    }
}
