use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use sre_core::Usd;

/// What may be spent. What is not set has the default.
///
/// ```
/// use sre_cost::{CostGuard, Limits, ScopeLimits};
/// let researcher = ScopeLimits { per_agent_daily: Some("250".parse().unwrap()), ..ScopeLimits::default() };
/// let limits = Limits { agents: [("researcher".to_owned(), researcher)].into(), ..Limits::default() };
/// let guard = CostGuard::with_limits(limits).unwrap();
/// assert_eq!(guard.get_budget("researcher").daily_limit_usd.to_string(), "250");
/// assert_eq!(guard.get_budget("writer").daily_limit_usd.to_string(), "100");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// What a task may cost: $2.
    pub per_task: Usd,
    /// What an agent may spend a day: $100.
    pub per_agent_daily: Usd,
    /// What everybody together may spend a month: $5,000.
    pub org_monthly: Usd,
    /// The shares of a limit at which to tell: 0.5, 0.75, 0.9 and 0.95.
    pub alert_thresholds: Vec<f64>,
    /// The share of its daily limit at which an agent is slowed down: 0.85.
    pub throttle_at: f64,
    /// The share of its daily limit at which an agent is refused: 0.95.
    pub kill_at: f64,
    /// How often a slowed-down agent may begin something: once every 10 s.
    pub throttle_every: Duration,
    /// Whether agents are slowed down and refused at those shares: yes. The limits themselves hold in any case.
    pub auto_throttle: bool,
    /// Whether unusual costs and runaway spending are told: yes.
    pub anomaly_detection: bool,
    /// After how long a reservation that nobody settles comes to nothing: 15 min.
    pub reservation_timeout: Duration,
    /// Whose days and months: UTC's.
    pub time_zone: TimeZone,
    /// What is different for an agent, by its name.
    pub agents: BTreeMap<String, ScopeLimits>,
    /// What is different for each agent of a team, by the team's name, and what the team may spend a day.
    pub teams: BTreeMap<String, ScopeLimits>,
    /// What may be spent on a model, by its name.
    pub models: BTreeMap<String, ScopeLimits>,
    /// The most agents that have books of their own: 100,000. What more of them spend counts for the organisation alone.
    pub max_agents: usize,
    /// The most tasks whose costs are kept one by one: 16,384. The oldest make room.
    pub max_tasks: usize,
}

/// What is different for an agent, a team or a model. For its agents, an agent's own settings win over its team's. A model's say
/// what an agent may spend on it, besides what it may spend in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScopeLimits {
    /// What a task may cost, or spend on the model.
    pub per_task: Option<Usd>,
    /// What an agent may spend a day, or a day on the model.
    pub per_agent_daily: Option<Usd>,
    /// What all together may spend a day. Not for agents.
    pub daily: Option<Usd>,
    /// The shares of a limit at which to tell.
    pub alert_thresholds: Option<Vec<f64>>,
    /// The share of its daily limit at which an agent is slowed down. A model needs a `per_agent_daily` for this.
    pub throttle_at: Option<f64>,
    /// The share of its daily limit at which an agent is refused. A model needs a `per_agent_daily` for this.
    pub kill_at: Option<f64>,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
pub struct InvalidLimits {
    /// Which, with its path.
    pub field: String,
    /// What it was.
    pub found: String,
    /// What it may be.
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

/// The most that a limit or a single amount may be: a billion dollars, so that sums stay within what an amount can hold.
pub(crate) const MOST: Usd = Usd::from_nanos(1_000_000_000 * 1_000_000_000);

impl Limits {
    /// That every setting can be; the error names the first that cannot.
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
                return Err(invalid(field, format!("{time:?}"), "more than nothing, at most a month"));
            }
        }
        for (field, most) in [("max_agents", self.max_agents), ("max_tasks", self.max_tasks)] {
            if most == 0 {
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
                return Err(invalid(&path(field), share.to_string(), "`per_agent_daily` beside it, whose share it is"));
            }
        }
        match self.daily.filter(|_| kind == "agents") {
            Some(daily) => Err(invalid(&path("daily"), daily.to_string(), "`per_agent_daily`: an agent is not many")),
            None => Ok(()),
        }
    }
}

fn invalid(field: &str, found: String, expected: &'static str) -> InvalidLimits {
    InvalidLimits { field: field.to_owned(), found, expected }
}

fn amount(field: &str, found: Option<Usd>) -> Result<(), InvalidLimits> {
    match found.filter(|amount| amount.is_negative() || *amount > MOST) {
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
    fn what_cannot_be_is_refused_and_named() {
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
