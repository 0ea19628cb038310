//! The channels, and the HTTP request that most of them share.

#[cfg(feature = "alertmanager")]
pub(crate) mod alertmanager;
pub(crate) mod callback;
#[cfg(feature = "file")]
pub(crate) mod file;
#[cfg(feature = "opsgenie")]
pub(crate) mod opsgenie;
#[cfg(feature = "pagerduty")]
pub(crate) mod pagerduty;
#[cfg(any(
    feature = "alertmanager",
    feature = "opsgenie",
    feature = "pagerduty",
    feature = "slack",
    feature = "teams",
    feature = "webhook"
))]
mod post;
#[cfg(feature = "slack")]
pub(crate) mod slack;
#[cfg(feature = "teams")]
pub(crate) mod teams;
#[cfg(feature = "webhook")]
pub(crate) mod webhook;
