pub(crate) mod agents;
mod forgetful;
pub(crate) mod hop;
