use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use sre_core::{IndicatorSnapshot, InvalidSli, Sli, Timestamp, Usd, Window};

use crate::spec::IndicatorSpec;
use crate::{
    CalibrationDelta, CostPerTask, DelegationChainDepth, HallucinationRate, PolicyCompliance, RepeatedToolCalls,
    ResponseLatency, SloTarget, StepsPerTask, TaskSuccessRate, TimeToFirstToken, ToolCallAccuracy,
};

/// Indicator types by name, and indicator instances by agent.
///
/// ```
/// use std::sync::Arc;
/// use sre_core::{Clock, SystemClock};
/// use sre_slo::{SliRegistry, TaskSuccessRate};
/// let mut registry = SliRegistry::default();
/// let sli = Arc::new(TaskSuccessRate::new(0.95).unwrap());
/// registry.register_instance("agent-1", sli.clone());
/// sli.record_task(true);
/// assert_eq!(registry.collect("agent-1", SystemClock.now())[0].value, Some(1.0));
/// ```
pub struct SliRegistry {
    types: BTreeMap<String, Factory>,
    instances: BTreeMap<String, Vec<Arc<dyn Sli>>>,
}

type Factory = Box<dyn Fn(&mut Params<'_>) -> Result<Box<dyn Sli>, IndicatorError> + Send + Sync>;

/// An invalid indicator type or parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
#[non_exhaustive]
pub struct IndicatorError {
    /// The name of the parameter, or `type`.
    pub field: String,
    /// The value found.
    pub found: String,
    /// The valid values.
    pub expected: String,
}

impl IndicatorError {
    /// Creates an error, for indicators that check their own parameters.
    pub fn new(field: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { field: field.into(), found: found.into(), expected: expected.into() }
    }

    pub(crate) fn is_unknown_field(&self) -> bool {
        self.found == UNKNOWN_FIELD
    }
}

/// What is found where a parameter is unknown.
const UNKNOWN_FIELD: &str = "an unknown field";

impl From<InvalidSli> for IndicatorError {
    fn from(error: InvalidSli) -> Self {
        Self::new(error.field, format!("`{}`", error.found), error.expected)
    }
}

impl SliRegistry {
    /// Creates a registry without types.
    pub fn empty() -> Self {
        Self { types: BTreeMap::new(), instances: BTreeMap::new() }
    }

    /// Registers an indicator type under `name`, replacing one of the same name.
    pub fn register_type(
        &mut self,
        name: impl Into<String>,
        factory: impl Fn(&mut Params<'_>) -> Result<Box<dyn Sli>, IndicatorError> + Send + Sync + 'static,
    ) {
        self.types.insert(name.into(), Box::new(factory));
    }

    /// Returns the indicator type of that name.
    pub fn sli_type(&self, name: &str) -> Option<SliType<'_>> {
        self.types.get_key_value(name).map(|(name, factory)| SliType { name, factory })
    }

    /// Alias of [`sli_type`](Self::sli_type), the name in the Python package `agent-sre`.
    pub fn get_type(&self, name: &str) -> Option<SliType<'_>> {
        self.sli_type(name)
    }

    /// Returns the names of the registered types, sorted.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    /// Creates an indicator from a spec.
    ///
    /// # Errors
    ///
    /// Returns an error if the type or a parameter is unknown or invalid.
    pub fn create(&self, spec: &IndicatorSpec) -> Result<Box<dyn Sli>, IndicatorError> {
        self.known_type(&spec.kind)?.create(&spec.params)
    }

    /// Returns every error of the type and parameters in a spec.
    pub(crate) fn errors_of(&self, spec: &IndicatorSpec) -> Vec<IndicatorError> {
        match self.known_type(&spec.kind) {
            Ok(of_type) => of_type.try_create(&spec.params).err().unwrap_or_default(),
            Err(error) => vec![error],
        }
    }

    fn known_type(&self, name: &str) -> Result<SliType<'_>, IndicatorError> {
        self.sli_type(name).ok_or_else(|| {
            let known = self.types().collect::<Vec<_>>().join(", ");
            IndicatorError::new("type", format!("`{name}`"), format!("one of {known}"))
        })
    }

    /// Registers an indicator instance of `agent`, for [`collect`](Self::collect).
    pub fn register_instance(&mut self, agent: impl Into<String>, indicator: Arc<dyn Sli>) {
        self.instances.entry(agent.into()).or_default().push(indicator);
    }

    /// Returns the indicator instances of `agent`.
    pub fn instances(&self, agent: &str) -> &[Arc<dyn Sli>] {
        self.instances.get(agent).map_or(&[], Vec::as_slice)
    }

    /// Returns the readings of the indicator instances of `agent`.
    pub fn collect(&self, agent: &str, now: Timestamp) -> Vec<IndicatorSnapshot> {
        self.instances(agent).iter().map(|indicator| indicator.snapshot(now)).collect()
    }

    /// Returns the readings of all indicator instances, by agent.
    pub fn collect_all(&self, now: Timestamp) -> BTreeMap<&str, Vec<IndicatorSnapshot>> {
        self.instances.keys().map(|agent| (agent.as_str(), self.collect(agent, now))).collect()
    }
}

impl Default for SliRegistry {
    /// Creates a registry with the indicator types of this crate.
    fn default() -> Self {
        let mut registry = Self::empty();
        registry.register_type("task_success_rate", |params| {
            Ok(Box::new(TaskSuccessRate::over(params.ratio("target", 0.995)?, params.window(Window::MONTH)?)?))
        });
        registry.register_type("tool_call_accuracy", |params| {
            Ok(Box::new(ToolCallAccuracy::over(params.ratio("target", 0.999)?, params.window(Window::WEEK)?)?))
        });
        registry.register_type("response_latency", |params| {
            let (target, percentile) = (params.positive("target_ms", 5000.0)?, params.percentile()?);
            Ok(Box::new(ResponseLatency::over(target, percentile, params.window(Window::HOUR)?)?))
        });
        registry.register_type("cost_per_task", |params| {
            let target = params.usd("target_usd", Usd::from_nanos(500_000_000))?;
            Ok(Box::new(CostPerTask::over(target, params.window(Window::DAY)?)?))
        });
        registry.register_type("hallucination_rate", |params| {
            Ok(Box::new(HallucinationRate::over(params.share("target", 0.05)?, params.window(Window::DAY)?)?))
        });
        registry.register_type("policy_compliance", |params| {
            Ok(Box::new(PolicyCompliance::over(params.ratio("target", 1.0)?, params.window(Window::DAY)?)?))
        });
        registry.register_type("delegation_chain_depth", |params| {
            Ok(Box::new(DelegationChainDepth::over(params.count("max_depth", 3)?, params.window(Window::DAY)?)))
        });
        registry.register_type("calibration_delta", |params| {
            Ok(Box::new(CalibrationDelta::over(params.share("target", 0.05)?, params.window(Window::MONTH)?)?))
        });
        registry.register_type("time_to_first_token", |params| {
            let (target, percentile) = (params.positive("target_ms", 2000.0)?, params.percentile()?);
            Ok(Box::new(TimeToFirstToken::over(target, percentile, params.window(Window::HOUR)?)?))
        });
        registry.register_type("steps_per_task", |params| {
            Ok(Box::new(StepsPerTask::over(params.count("max_steps", 20)?, params.window(Window::DAY)?)))
        });
        registry.register_type("repeated_tool_calls", |params| {
            Ok(Box::new(RepeatedToolCalls::over(params.count("max_repeats", 3)?, params.window(Window::DAY)?)))
        });
        registry
    }
}

impl fmt::Debug for SliRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliRegistry").field("types", &self.types.keys()).finish_non_exhaustive()
    }
}

/// A registered indicator type.
#[derive(Clone, Copy)]
pub struct SliType<'a> {
    name: &'a str,
    factory: &'a Factory,
}

impl SliType<'_> {
    /// Returns the name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Creates an indicator of this type. Parameters that are absent have their defaults.
    ///
    /// # Errors
    ///
    /// Returns the first error if parameters are unknown or invalid.
    pub fn create(&self, params: &BTreeMap<String, Value>) -> Result<Box<dyn Sli>, IndicatorError> {
        self.try_create(params).map_err(|mut errors| errors.swap_remove(0))
    }

    /// Creates an indicator, or returns every error, at least one.
    fn try_create(&self, params: &BTreeMap<String, Value>) -> Result<Box<dyn Sli>, Vec<IndicatorError>> {
        let mut params = Params { given: params, known: Vec::new(), errors: Vec::new() };
        let created = (self.factory)(&mut params);
        let unknown: Vec<IndicatorError> = params.unknown().collect();
        let mut errors = params.errors;
        match created {
            Ok(indicator) if errors.is_empty() && unknown.is_empty() => return Ok(indicator),
            Ok(_) => errors.extend(unknown),
            // Parameters that were not read before the error may be known.
            Err(error) => errors.push(error),
        }
        Err(errors)
    }
}

impl fmt::Debug for SliType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliType").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The parameters of an indicator in a spec, each with its default. An invalid one is read as its default and is an error once all
/// are read.
#[derive(Debug)]
pub struct Params<'a> {
    given: &'a BTreeMap<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<IndicatorError>,
}

impl Params<'_> {
    /// Reads a target ratio: above 0 and up to 1, a percentage above 1, or a string such as `95%`.
    pub fn ratio(&mut self, field: &'static str, default: f64) -> Result<f64, IndicatorError> {
        self.read(field, default, "a ratio such as 0.95 or a percentage such as `95%`", |value| {
            serde_json::from_value::<SloTarget>(value.clone()).ok().map(SloTarget::ratio)
        })
    }

    /// Reads an upper bound of a ratio: from 0 to below 1, or a string such as `5%`.
    pub fn share(&mut self, field: &'static str, default: f64) -> Result<f64, IndicatorError> {
        self.read(field, default, "a ratio from 0 to below 1, or a percentage such as `5%`", |value| {
            let share = match value.as_str() {
                Some(text) => text.trim().strip_suffix('%')?.trim().parse::<f64>().ok()? / 100.0,
                None => value.as_f64()?,
            };
            (0.0..1.0).contains(&share).then_some(share)
        })
    }

    /// Reads a number above 0.
    pub fn positive(&mut self, field: &'static str, default: f64) -> Result<f64, IndicatorError> {
        self.read(field, default, "a number above 0", |value| {
            value.as_f64().filter(|number| *number > 0.0 && number.is_finite())
        })
    }

    /// Reads the field `percentile`: above 0 and up to 1, by default 0.95.
    pub fn percentile(&mut self) -> Result<f64, IndicatorError> {
        self.read("percentile", 0.95, "a number above 0 and up to 1, such as 0.95", |value| {
            value.as_f64().filter(|number| *number > 0.0 && *number <= 1.0)
        })
    }

    /// Reads an integer of at least 0.
    pub fn count(&mut self, field: &'static str, default: u32) -> Result<u32, IndicatorError> {
        self.read(field, default, "a whole number", |value| value.as_u64().and_then(|count| count.try_into().ok()))
    }

    /// Reads an amount in US dollars of at least 0.
    pub fn usd(&mut self, field: &'static str, default: Usd) -> Result<Usd, IndicatorError> {
        self.read(field, default, "an amount of dollars, at least 0", |value| {
            serde_json::from_value(value.clone()).ok().filter(|amount: &Usd| !amount.is_negative())
        })
    }

    /// Reads text.
    pub fn text(&mut self, field: &'static str, default: &str) -> Result<String, IndicatorError> {
        self.read(field, default.to_owned(), "text", |value| value.as_str().map(str::to_owned))
    }

    /// Reads `true` or `false`.
    pub fn flag(&mut self, field: &'static str, default: bool) -> Result<bool, IndicatorError> {
        self.read(field, default, "true or false", Value::as_bool)
    }

    /// Reads the field `window`.
    pub fn window(&mut self, default: Window) -> Result<Window, IndicatorError> {
        self.read("window", default, "a duration such as 5m, 6h or 30d", |value| value.as_str()?.parse().ok())
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        default: T,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, IndicatorError> {
        self.known.push(field);
        let Some(value) = self.given.get(field) else { return Ok(default) };
        Ok(parse(value).unwrap_or_else(|| {
            let found = format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            self.errors.push(IndicatorError::new(field, found, expected));
            default
        }))
    }

    fn unknown(&self) -> impl Iterator<Item = IndicatorError> {
        let unknown = self.given.keys().filter(|field| !self.known.contains(&field.as_str()));
        unknown
            .map(|field| IndicatorError::new(field, UNKNOWN_FIELD, format!("one of type, {}", self.known.join(", "))))
    }
}
