use sre_core::event::Message;
use sre_core::{LlmUsage, Run};

/// A conversation, recorded manually. Dropping it without ending it records it as incomplete.
#[derive(Debug)]
pub struct Conversation(pub(crate) Run);

impl Conversation {
    /// Records a message. Its text is not kept.
    pub fn on_message(&self, sender: &str) {
        self.0.record(Message::new(sender));
    }

    /// Records a call of a function, which failed if `error` is given.
    pub fn on_function_call(&self, function: &str, error: Option<&str>) {
        self.0.tool_call(function, error);
    }

    /// Records a model call.
    pub fn on_llm_call(&self, usage: LlmUsage) {
        self.0.llm_call(usage);
    }

    /// Records the end of the conversation.
    pub fn on_conversation_end(self, success: bool, error: Option<&str>) {
        self.0.end(success, error);
    }
}
