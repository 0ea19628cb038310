//! Cost guards for AI agents: what calls cost, and who may spend how much.
//!
//! ```
//! use sre_core::Usd;
//! use sre_cost::{CostGuard, Refused};
//! let guard = CostGuard::new();
//! let usd = |text: &str| text.parse::<Usd>().unwrap();
//! guard.check_and_charge("planner", usd("0.25")).unwrap();
//! assert_eq!(guard.org_spent_month(), usd("0.25"));
//! assert!(matches!(guard.check_and_charge("planner", usd("2.50")), Err(Refused::Task { .. })));
//! ```
mod account;
mod accounts;
mod allowance;
mod anomaly;
mod books;
mod budget;
mod guard;
mod limits;
mod observe;
mod operations;
mod org;
mod period;
mod price;
mod price_file;
mod pricing;
mod refused;
mod reservation;
mod shared;
#[cfg(feature = "config")]
mod spec;
mod spend;
mod summary;
mod tasks;
mod told;

pub use guard::CostGuard;
pub use limits::{InvalidLimits, Limits, ScopeLimits};
pub use observe::CostObserver;
pub use price::{ModelPrice, PriceBook, Tokens};
pub use price_file::FileError;
pub use pricing::{Pricing, PricingReport};
pub use refused::Refused;
pub use reservation::Reservation;
#[cfg(feature = "config")]
pub use spec::LIMITS_SCHEMA;
pub use spend::Spend;
pub use sre_core::{CostAlert, CostAlertKind, CostScope, CostStatus, CostsSnapshot, LedgerStore};
pub use summary::{AgentBudget, CostSummary};
pub use tasks::TaskCost;

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
