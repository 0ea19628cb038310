use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Serialize;
use sre_core::Usd;
use sre_core::private::duration;

/// The limits of a guard: per task, per agent and day, and for the organisation per month. Later versions may have more
/// fields: end with `..Default::default()`. The JSON has the form of a limits file.
///
/// ```
/// use sre_cost::{CostGuard, Limits, ScopeLimits};
/// let researcher = ScopeLimits { per_agent_daily: Some("250".parse().unwrap()), ..ScopeLimits::default() };
/// let limits = Limits { agents: [("researcher".to_owned(), researcher)].into(), ..Limits::default() };
/// let guard = CostGuard::with_limits(limits).unwrap();
/// assert_eq!(guard.budget("researcher").daily_limit_usd.to_string(), "250");
/// assert_eq!(guard.budget("writer").daily_limit_usd.to_string(), "100");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// The limit per task. Default: $2.
    pub per_task: Usd,
    /// The limit per agent and day. Default: $100.
    pub per_agent_daily: Usd,
    /// The organisation's limit per month. Default: $5,000.
    pub org_monthly: Usd,
    /// The shares of a limit at which an alert is sent. Default: 0.5, 0.75, 0.9 and 0.95.
    pub alert_thresholds: Vec<f64>,
    /// The share of its daily limit at which an agent is throttled. Default: 0.85.
    pub throttle_at: f64,
    /// The share of its daily limit at which an agent is blocked until the next day or a reset. Default: 0.95.
    pub kill_at: f64,
    /// How often a throttled agent may start a call or task. Default: every 10 s.
    #[serde(serialize_with = "duration::serialize")]
    pub throttle_every: Duration,
    /// Whether agents are throttled and blocked at those shares. The limits apply in any case. Default: true.
    pub auto_throttle: bool,
    /// Whether unusual costs and runaway spending raise alerts. Default: true.
    pub anomaly_detection: bool,
    /// When a reservation that is neither committed nor released expires. Default: 15 min.
    #[serde(serialize_with = "duration::serialize")]
    pub reservation_timeout: Duration,
    /// The time zone of days and months. Default: UTC.
    #[serde(serialize_with = "jiff::fmt::serde::tz::required::serialize")]
    pub time_zone: TimeZone,
    /// Settings of single agents, by name.
    pub agents: BTreeMap<String, ScopeLimits>,
    /// Settings of each agent of a team, and the team's daily limit, by the team's name.
    pub teams: BTreeMap<String, ScopeLimits>,
    /// Limits for models, by name.
    pub models: BTreeMap<String, ScopeLimits>,
    /// The maximum number of agents with an account. What further agents spend counts toward shared budgets and the
    /// organisation's only, and they cannot reserve. Default: 100,000.
    pub max_agents: usize,
    /// The maximum number of tasks with a cost of their own; the oldest are evicted. Default: 16,384.
    pub max_tasks: usize,
}

/// Settings of an agent, a team or a model. An agent's own settings take precedence over its team's. A model's settings limit
/// what each agent spends on it, in addition to the agent's overall limits.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ScopeLimits {
    /// The limit per task, or per task on the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_task: Option<Usd>,
    /// The limit per agent and day, overall or on the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_agent_daily: Option<Usd>,
    /// The limit per day for all agents together. Not for agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<Usd>,
    /// The shares of a limit at which an alert is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_thresholds: Option<Vec<f64>>,
    /// The share of its daily limit at which an agent is throttled. For a model, requires `per_agent_daily`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_at: Option<f64>,
    /// The share of its daily limit at which an agent is blocked. For a model, requires `per_agent_daily`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_at: Option<f64>,
}

/// A setting that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[error("`{field}`: found {found}, expected {expected}")]
pub struct InvalidLimits {
    /// The path of the setting.
    pub field: String,
    /// The value.
    pub found: String,
    /// The valid values.
    pub expected: &'static str,
}

impl Default for Limits {
    fn default() -> Self {
        const DOLLAR: i64 = 1_000_000_000;
        Self {
            per_task: Usd::from_nanos(2 * DOLLAR),
            per_agent_daily: Usd::from_nanos(100 * DOLLAR),
            org_monthly: Usd::from_nanos(5_000 * DOLLAR),
            alert_thresholds: vec![0.5, 0.75, 0.9, 0.95],
            throttle_at: 0.85,
            kill_at: 0.95,
            throttle_every: Duration::from_secs(10),
            auto_throttle: true,
            anomaly_detection: true,
            reservation_timeout: Duration::from_secs(900),
            time_zone: TimeZone::UTC,
            agents: BTreeMap::new(),
            teams: BTreeMap::new(),
            models: BTreeMap::new(),
            max_agents: 100_000,
            max_tasks: 16_384,
        }
    }
}

/// The maximum of a limit or a single amount: a billion dollars, so that sums of several fit into a [`Usd`].
pub(crate) const MAX_AMOUNT: Usd = Usd::from_nanos(1_000_000_000 * 1_000_000_000);

impl Limits {
    /// Checks every setting.
    ///
    /// # Errors
    /// Returns the first setting that is out of range.
    pub fn validate(&self) -> Result<(), InvalidLimits> {
        amount("per_task", Some(self.per_task))?;
        amount("per_agent_daily", Some(self.per_agent_daily))?;
        amount("org_monthly", Some(self.org_monthly))?;
        thresholds("alert_thresholds", &self.alert_thresholds)?;
        share("throttle_at", Some(self.throttle_at))?;
        share("kill_at", Some(self.kill_at))?;
        for (field, time) in
            [("throttle_every", self.throttle_every), ("reservation_timeout", self.reservation_timeout)]
        {
            if time.is_zero() || time > Duration::from_secs(31 * 86_400) {
                return Err(invalid(field, format!("{time:?}"), "above 0, at most 31 days"));
            }
        }
        for (field, maximum) in [("max_agents", self.max_agents), ("max_tasks", self.max_tasks)] {
            if maximum == 0 {
                return Err(invalid(field, "0".to_owned(), "1 or more"));
            }
        }
        for (kind, scopes) in [("agents", &self.agents), ("teams", &self.teams), ("models", &self.models)] {
            scopes.iter().try_for_each(|(name, scope)| scope.validate(kind, name))?;
        }
        Ok(())
    }
}

impl ScopeLimits {
    fn validate(&self, kind: &str, name: &str) -> Result<(), InvalidLimits> {
        let path = |field: &str| format!("{kind}.{name}.{field}");
        amount(&path("per_task"), self.per_task)?;
        amount(&path("per_agent_daily"), self.per_agent_daily)?;
        amount(&path("daily"), self.daily)?;
        thresholds(&path("alert_thresholds"), self.alert_thresholds.as_deref().unwrap_or_default())?;
        share(&path("throttle_at"), self.throttle_at)?;
        share(&path("kill_at"), self.kill_at)?;
        let has_no_limit = kind == "models" && self.per_agent_daily.is_none();
        for (field, found) in [("throttle_at", self.throttle_at), ("kill_at", self.kill_at)] {
            if let Some(share) = found.filter(|_| has_no_limit) {
                return Err(invalid(
                    &path(field),
                    share.to_string(),
                    "`per_agent_daily` beside it, of which this is a share",
                ));
            }
        }
        match self.daily.filter(|_| kind == "agents") {
            Some(daily) => {
                Err(invalid(&path("daily"), daily.to_string(), "`per_agent_daily`, as `daily` is for teams and models"))
            }
            None => Ok(()),
        }
    }
}

fn invalid(field: &str, found: String, expected: &'static str) -> InvalidLimits {
    InvalidLimits { field: field.to_owned(), found, expected }
}

fn amount(field: &str, found: Option<Usd>) -> Result<(), InvalidLimits> {
    match found.filter(|amount| amount.is_negative() || *amount > MAX_AMOUNT) {
        Some(amount) => Err(invalid(field, amount.to_string(), "dollars, from 0 to a billion")),
        None => Ok(()),
    }
}

fn share(field: &str, found: Option<f64>) -> Result<(), InvalidLimits> {
    match found.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
        Some(share) => Err(invalid(field, share.to_string(), "a share above 0 and at most 1")),
        None => Ok(()),
    }
}

fn thresholds(field: &str, found: &[f64]) -> Result<(), InvalidLimits> {
    found.iter().try_for_each(|threshold| share(field, Some(*threshold)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_named() {
        let of = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.validate().map_err(|error| error.field)
        };
        assert_eq!(of(|_| {}), Ok(()));
        let negative = Usd::from_nanos(-1);
        assert!(negative.is_negative());
        for (field, change) in [
            ("per_task", (|limits| limits.per_task = Usd::from_nanos(-1)) as fn(&mut Limits)),
            ("per_agent_daily", |limits| limits.per_agent_daily = Usd::from_nanos(i64::MAX)),
            ("org_monthly", |limits| limits.org_monthly = Usd::from_nanos(i64::MIN)),
            ("alert_thresholds", |limits| limits.alert_thresholds = vec![0.5, f64::NAN]),
            ("alert_thresholds", |limits| limits.alert_thresholds = vec![50.0]),
            ("throttle_at", |limits| limits.throttle_at = 0.0),
            ("kill_at", |limits| limits.kill_at = f64::INFINITY),
            ("throttle_every", |limits| limits.throttle_every = Duration::ZERO),
            ("reservation_timeout", |limits| limits.reservation_timeout = Duration::MAX),
            ("max_agents", |limits| limits.max_agents = 0),
            ("teams.search.kill_at", |limits| {
                limits.teams.insert("search".into(), ScopeLimits { kill_at: Some(-0.5), ..ScopeLimits::default() });
            }),
            ("models.gpt-5.kill_at", |limits| {
                limits.models.insert("gpt-5".into(), ScopeLimits { kill_at: Some(0.5), ..ScopeLimits::default() });
            }),
            ("agents.a.daily", |limits| {
                limits.agents.insert("a".into(), ScopeLimits { daily: Some(Usd::ZERO), ..ScopeLimits::default() });
            }),
        ] {
            assert_eq!(of(change), Err(field.to_owned()));
        }
    }
}
