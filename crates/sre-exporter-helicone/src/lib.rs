//! Headers for model calls through [Helicone](https://www.helicone.ai)'s proxy, and scores and feedback for its requests.
//!
//! Helicone sees model calls because they pass through it. [`HeliconeHeaders`] names the agent and task that a call belongs
//! to, and what to do with it. [`HeliconeExporter`] then sends the results of the call: evaluations, policy checks and
//! outcomes of events that carry the id of the call's request in Helicone as the attribute `helicone_id` (or `helicone-id`).
//!
//! ```
//! use sre_core::{AgentEvent, Secret};
//! use sre_exporter_helicone::{CallContext, HeliconeHeaders};
//!
//! let helicone = HeliconeHeaders::new(Secret::new("sk-helicone-…"));
//! let line = br#"{"event":"task_started","time":1790000000,"agent":"support","task":"ticket-7"}"#;
//! let context = CallContext::of(&AgentEvent::from_json(line)?);
//! let headers = helicone.headers(&context)?;
//! assert_eq!(headers["helicone-session-id"], "ticket-7");
//! assert_eq!(headers["helicone-property-agent"], "support");
//! assert!(headers["helicone-auth"].is_sensitive(), "the key is not printed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sources: <https://docs.helicone.ai/helicone-headers/header-directory>,
//! <https://docs.helicone.ai/rest/request/post-v1request-score> and
//! <https://docs.helicone.ai/rest/request/post-v1request-feedback>.
//!
//! # Differences from Helicone's own clients
//!
//! Helicone's client (`@helicone/helicone`) adds headers to the calls of the provider's client, and sends scores and feedback.
//! `tests/client.rs` compares both with what it sent.
//!
//! - A call with a task or a trace also has the headers of a session, for which the client has no setting.
//! - Feedback is posted to `/v1/request/ID/feedback`, as by the client's `HeliconeAPIClient`. Its older `logFeedback` posts to
//!   `/v1/feedback` of the proxy instead.
//! - All scores of a request in a batch are one request: of several at about the same time, Helicone keeps the last one.
//! - Scores are sent in hundredths, rounded, because Helicone stores whole numbers and skips others. The client sends the numbers
//!   of its caller.
//!
//! For the same scores and feedback, the requests are at most 1.1 times as long as those of the client.
//!
//! # The reference's methods
//!
//! | of the reference | here |
//! | --- | --- |
//! | `HeliconeHeaders.get_headers(session_name, user_id, custom_properties)` | [`HeliconeHeaders::headers`] |
//! | `HeliconeLogger.log_feedback(helicone_id, rating, comment)` | [`HeliconeExporter::send_feedback`]; feedback in Helicone has no comment |
//! | `HeliconeLogger.log_slo_score(helicone_id, slo_name, …)` | [`HeliconeExporter::score_slo`] |
//! | `is_offline`, `logged_events`, `clear()`, `get_stats()` | `Outbox::stats`: what was sent is not kept |
mod context;
mod exporter;
mod headers;
mod options;
mod score;
mod settings;

pub use context::CallContext;
pub use exporter::HeliconeExporter;
pub use headers::{HeliconeHeaders, InvalidHeader};
pub use options::{Caching, PostHog, RateLimitPolicy, RateLimitSegment, RateLimitUnit, Retries, TokenLimitHandler};
pub use settings::HeliconeSettings;
