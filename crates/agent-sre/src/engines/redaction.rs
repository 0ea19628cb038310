use std::sync::Arc;

use super::Engine;

pub(super) const ENGINE: Engine = Engine {
    files: &[],
    set_defaults: |_| {},
    install: |builder, settings| {
        Ok(match &settings.redaction {
            Some(redaction) => builder.stage(Arc::new(redaction.clone())),
            None => builder,
        })
    },
};
