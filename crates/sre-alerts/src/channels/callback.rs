use async_trait::async_trait;
use sre_core::{Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification};

/// Calls a function of this process. It runs on the manager's delivery thread, so it should return quickly. A panic fails the
/// delivery and has no other effect.
pub struct CallbackChannel {
    name: String,
    callback: Box<dyn Fn(&Alert) + Send + Sync>,
}

impl CallbackChannel {
    /// Creates a channel that calls `callback` with every alert.
    pub fn new(name: impl Into<String>, callback: impl Fn(&Alert) + Send + Sync + 'static) -> Self {
        Self { name: name.into(), callback: Box::new(callback) }
    }
}

#[async_trait]
impl AlertChannel for CallbackChannel {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(
        &self,
        notification: Notification<'_>,
        _http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        (self.callback)(notification.alert);
        Ok(DeliveryReceipt::default())
    }
}
