use async_trait::async_trait;
use sre_core::{Alert, AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification};

/// A function of this process. It runs on the manager's thread, so it should be quick; where it panics, the delivery has
/// failed, and nothing else happens.
pub struct CallbackChannel {
    name: String,
    callback: Box<dyn Fn(&Alert) + Send + Sync>,
}

impl CallbackChannel {
    /// A channel that calls `callback` with every alert.
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
