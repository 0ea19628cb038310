use std::future::Future;

use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::Value;

/// A transport that can drop the trace context of requests.
pub(crate) struct Forgetful<T> {
    pub(crate) transport: T,
    pub(crate) drops_context: bool,
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Forgetful<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.transport.send(if self.drops_context { without_context(&message) } else { message })
    }

    fn receive(&mut self) -> impl Future<Output = Option<RxJsonRpcMessage<RoleClient>>> + Send {
        self.transport.receive()
    }

    fn close(&mut self) -> impl Future<Output = Result<(), T::Error>> + Send {
        self.transport.close()
    }
}

/// Returns a message as a proxy passes it on that knows no trace context.
fn without_context(message: &TxJsonRpcMessage<RoleClient>) -> TxJsonRpcMessage<RoleClient> {
    let mut json = serde_json::to_value(message).unwrap();
    if let Some(meta) = json.pointer_mut("/params/_meta").and_then(Value::as_object_mut) {
        meta.remove("traceparent");
    }
    serde_json::from_value(json).unwrap()
}
