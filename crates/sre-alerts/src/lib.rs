//! Routes alerts to channels and delivers them reliably.
//!
//! An [`AlertManager`] takes alerts, or turns signals into alerts. It drops duplicates within a dedup window, passes rising
//! severities at once, and sends a resolution to every channel that received its trigger. Matchers, silences, grouping and a
//! rate limit decide what a channel receives and when; what they hold back is delivered later. Delivery is at least once and
//! in order for each key, with jittered retries; a delivery that is given up is recorded. A [`PersistentAlertManager`] also
//! keeps the history in a store, and resumes unfinished deliveries after a restart.
//!
//! ```
//! use sre_alerts::{AlertManager, AlertOptions, CallbackChannel, ChannelConfig};
//! use sre_core::Alert;
//!
//! let manager = AlertManager::new(AlertOptions::default())?;
//! manager.add_channel(CallbackChannel::new("log", |alert| println!("{}", alert.title)), ChannelConfig::default())?;
//! let report = manager.send(&Alert::new("Budget spent", "5 % of tasks failed"));
//! assert_eq!(report.receivers().collect::<Vec<_>>(), ["log"]);
//! # Ok::<(), sre_alerts::ManagerError>(())
//! ```
//!
//! | feature | channel |
//! | --- | --- |
//! | `slack` | Slack, by an incoming webhook |
//! | `pagerduty` | PagerDuty, Events API v2 |
//! | `opsgenie` | Opsgenie |
//! | `teams` | Microsoft Teams, by a Workflows webhook |
//! | `alertmanager` | Prometheus Alertmanager |
//! | `webhook` | JSON to any URL, signed by the Standard Webhooks scheme |
//! | `file` | a file of JSON lines, or standard output |
//! | always | [`CallbackChannel`]: a function in this process |
//! | `config` | all of these, configured in a YAML file: [`NotifyConfig`] |
//! | `full` | everything |
mod channel_pipeline;
mod channels;
#[cfg(feature = "config")]
mod config;
mod delivery_log;
mod escalation;
mod fingerprint;
mod group;
mod incident;
mod maintenance;
mod manager;
mod mapping;
mod matcher;
mod message;
mod options;
mod persistent;
mod planned_alert;
mod queue;
mod rate_limit;
mod renotifications;
mod send_report;
mod shared;
mod silence;
mod silenced_alerts;
mod state;
mod summary;
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
pub use escalation::EscalationPolicy;
pub use maintenance::{MaintenanceWindow, Schedule};
pub use manager::{AlertManager, ManagerError};
pub use mapping::{Mapping, default_mapping};
pub use matcher::{InvalidMatcher, Matcher};
pub use options::{AlertOptions, ChannelConfig};
pub use persistent::PersistentAlertManager;
pub use rate_limit::RateLimit;
pub use send_report::{ChannelDecision, Decision, SendReport, Verdict};
pub use silence::{InvalidSilence, Silence, SilenceId};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
