use std::sync::Arc;

use super::{Engine, EngineError, EngineSettings};
use crate::RuntimeBuilder;
use crate::trace::{TailSampler, TailSamplerOptions};

/// Its settings are part of `sre.yaml`. It comes before the objectives, so that it has the span of an event when they judge it.
pub(super) const ENGINE: Engine =
    Engine { files: &[], set_defaults: |settings| settings.traces = Some(TailSamplerOptions::default()), install };

fn install(builder: RuntimeBuilder, settings: &EngineSettings) -> Result<RuntimeBuilder, EngineError> {
    let Some(options) = settings.traces.as_ref().filter(|options| options.keeps_traces()) else { return Ok(builder) };
    Ok(builder.engine(Arc::new(TailSampler::new(options.clone()))))
}

/// Passes the verdicts of objectives to the sampler.
#[cfg(feature = "slo")]
pub(super) fn listener(sampler: Arc<TailSampler>) -> crate::slo::VerdictListener {
    Arc::new(move |event, slo, verdict| sampler.mark(event, slo.name(), slo.agent(), verdict))
}
