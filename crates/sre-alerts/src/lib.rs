//! Alerts that arrive.
//!
//! An [`AlertManager`] takes alerts, or makes them of signals, and decides what is news: the same key is sent once in a
//! while, worse news at once, and a resolution wherever the trigger went. Between an alert and a channel stand matchers,
//! silences, grouping and a rate limit; what they hold is sent later, and not lost. Delivery is at least once, in order
//! for each key, tried again with jittered back-off, and given up on the record. A [`PersistentAlertManager`] also keeps
//! the history in a store, and takes up after a restart what was not delivered.
//!
//! | feature | channel |
//! | --- | --- |
//! | `slack` | Slack, by an incoming webhook |
//! | `pagerduty` | PagerDuty, Events API v2 |
//! | `opsgenie` | Opsgenie |
//! | `teams` | Microsoft Teams, by a Workflows webhook |
//! | `alertmanager` | Prometheus Alertmanager |
//! | `webhook` | JSON to any URL, signed by the Standard Webhooks scheme |
//! | `file` | a file of JSON lines, or the standard output |
//! | always | [`CallbackChannel`]: a function of this process |
//! | `config` | all of these, named in a YAML file: [`NotifyConfig`] |
//! | `full` | everything |
mod channels;
#[cfg(feature = "config")]
mod config;
mod fingerprint;
mod follow_up;
mod group;
mod incident;
mod lane;
mod manager;
mod mapping;
mod matcher;
mod message;
mod mute;
mod options;
mod persistent;
mod queue;
mod sent;
mod shared;
mod state;
mod summary;
mod throttle;
mod worker;

#[cfg(feature = "alertmanager")]
pub use channels::alertmanager::AlertmanagerChannel;
pub use channels::callback::CallbackChannel;
#[cfg(feature = "file")]
pub use channels::file::FileChannel;
#[cfg(feature = "opsgenie")]
pub use channels::opsgenie::OpsgenieChannel;
#[cfg(feature = "pagerduty")]
pub use channels::pagerduty::PagerDutyChannel;
#[cfg(feature = "slack")]
pub use channels::slack::SlackChannel;
#[cfg(feature = "teams")]
pub use channels::teams::TeamsChannel;
#[cfg(feature = "webhook")]
pub use channels::webhook::{InvalidSecret, WebhookChannel};
#[cfg(feature = "config")]
pub use config::{NotifyConfig, NotifyError, SCHEMA};
pub use manager::{AlertManager, ManagerError};
pub use mapping::{Mapping, default_mapping};
pub use matcher::{InvalidMatcher, Matcher};
pub use mute::{InvalidSilence, MaintenanceWindow, Schedule, Silence, SilenceId};
pub use options::{AlertOptions, ChannelConfig, Escalation};
pub use persistent::PersistentAlertManager;
pub use sent::{Decision, DeliveryResult, Sent, Verdict};
pub use throttle::RateLimit;

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
