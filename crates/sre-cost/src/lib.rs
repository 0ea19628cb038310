//! Cost guards for AI agents: model prices, and limits on what agents, teams and the organisation spend.
//!
//! ```
//! use sre_core::Usd;
//! use sre_cost::{CostGuard, Denied};
//! let guard = CostGuard::new();
//! let usd = |text: &str| text.parse::<Usd>().unwrap();
//! guard.check_and_charge("planner", usd("0.25")).unwrap();
//! assert_eq!(guard.org_spent_month(), usd("0.25"));
//! assert!(matches!(guard.check_and_charge("planner", usd("2.50")), Err(Denied::Task { .. })));
//! ```
mod account;
mod accounts;
mod agent_budget;
mod anomaly;
mod blocking_store;
mod budget;
mod denied;
mod exhaustion;
mod guard;
mod ledger;
mod limits;
mod notifier;
mod observer;
mod operations;
mod org;
mod period;
mod price;
mod price_file;
mod pricing;
mod public_prices;
mod reservation;
mod shared_budgets;
mod spend;
mod summary;
mod tasks;
#[cfg(feature = "config")]
mod yaml;

pub use denied::Denied;
pub use guard::CostGuard;
pub use limits::{InvalidLimits, Limits, ScopeLimits};
pub use observer::CostObserver;
pub use price::{ModelPrice, PriceBook, Tokens};
pub use price_file::FileError;
pub use pricing::{Pricing, PricingReport};
pub use reservation::Reservation;
pub use spend::Spend;
pub use sre_core::{CostAlert, CostAlertKind, CostScope, CostStatus, CostsSnapshot, LedgerStore};
pub use summary::{AgentBudget, CostSummary};
pub use tasks::TaskCost;
#[cfg(feature = "config")]
pub use yaml::LIMITS_SCHEMA;

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
