//! The YAML file that configures channels and routing; see `docs/alerts.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde_json::Value;
use sre_core::yaml::{ConfigError, Environment, Fields, Node, documents};
use sre_core::{AlertChannel, Retention, Secret, Severity, Timestamp, Window};

use crate::{
    AlertManager, AlertOptions, AlertmanagerChannel, ChannelConfig, EscalationPolicy, FileChannel, MaintenanceWindow,
    ManagerError, Matcher, OpsgenieChannel, PagerDutyChannel, RateLimit, Schedule, Silence, SlackChannel, TeamsChannel,
    WebhookChannel,
};

/// The JSON Schema of the channels file, for editors.
pub const SCHEMA: &str = include_str!("notify.schema.json");

/// The channels and routing that a file configures.
#[derive(Default)]
#[non_exhaustive]
pub struct NotifyConfig {
    /// The channels, in the order of the file.
    pub channels: Vec<(Arc<dyn AlertChannel>, ChannelConfig)>,
    /// The manager's options; defaults where the file sets nothing.
    pub options: AlertOptions,
    /// The file of the alert history; a relative path is relative to the channels file's folder.
    pub history: Option<PathBuf>,
}

/// A channels file that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// Its content is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Reading the file failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl NotifyConfig {
    /// Loads a file. `${NAME}` in a text is replaced by the environment variable of that name.
    pub fn load(path: &Path) -> Result<Self, NotifyError> {
        let text = std::fs::read_to_string(path).map_err(|source| NotifyError::Io { path: path.to_owned(), source })?;
        let mut config = Self::parse(&text, &path.display().to_string(), &|name| std::env::var(name).ok())?;
        if let Some(history) = &mut config.history {
            *history = path.parent().unwrap_or(Path::new("")).join(&*history);
        }
        Ok(config)
    }

    /// Parses a text. `file` is its name in errors; `environment` returns the value of `${NAME}`.
    ///
    /// ```
    /// use sre_alerts::NotifyConfig;
    /// let text = "channels:\n  - {type: pagerduty, name: oncall, routing_key: \"${PD_KEY}\", min_severity: critical}\n";
    /// let config = NotifyConfig::parse(text, "notify.yaml", &|name| Some(format!("the value of {name}"))).unwrap();
    /// assert_eq!(config.channels[0].0.name(), "oncall");
    /// ```
    pub fn parse(text: &str, file: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let documents = documents(text, file)?;
        let [document] = &documents[..] else {
            let message = format!("found {} documents, expected one with `channels`", documents.len());
            return Err(ConfigError::document(file, 1, message));
        };
        Reader { file, environment }.read(document)
    }

    /// Creates a manager with the file's channels. The HTTP client and the store are not part of the file: set them in
    /// [`NotifyConfig::options`] first.
    pub fn start(self) -> Result<AlertManager, ManagerError> {
        let manager = AlertManager::new(self.options)?;
        manager.add_channels(self.channels)?;
        Ok(manager)
    }
}

struct Reader<'a> {
    file: &'a str,
    environment: &'a Environment<'a>,
}

const URL: &str = "an absolute http or https URL";
const DURATION: &str = "a duration such as 30s, 5m or 4h";

impl Reader<'_> {
    fn read(&self, document: &Node) -> Result<NotifyConfig, ConfigError> {
        let mut fields = self.fields(document, "")?;
        let channels = self.list(&mut fields, "channels", |node, path| self.channel(node, path))?;
        let defaults = AlertOptions::default();
        let options = AlertOptions {
            dedup_window: fields.window("dedup_window")?.map_or(defaults.dedup_window, Window::duration),
            group_by: self.list(&mut fields, "group_by", |node, _| Ok(node.found()))?,
            group_wait: fields.window("group_wait")?.map_or(defaults.group_wait, Window::duration),
            repeat_interval: fields.window("repeat_interval")?.map(Window::duration),
            escalations: self.list(&mut fields, "escalations", |node, path| self.escalation(node, path, &channels))?,
            silences: self.list(&mut fields, "silences", |node, path| self.silence(node, path))?,
            maintenance: self.list(&mut fields, "maintenance", |node, path| self.maintenance(node, path))?,
            retention: match fields.take("retention") {
                Some(node) => self.retention(node)?,
                None => defaults.retention,
            },
            ..defaults
        };
        let history = fields.text("history")?.map(PathBuf::from);
        fields.finish()?;
        if channels.is_empty() {
            return Err(ConfigError::document(
                self.file,
                document.line,
                "`channels`: found none, expected at least one",
            ));
        }
        for (at, (channel, _)) in channels.iter().enumerate() {
            if channels[..at].iter().any(|(other, _)| other.name() == channel.name()) {
                let message = format!("`channels[{at}].name: {}`: found a second channel of this name", channel.name());
                return Err(ConfigError::document(self.file, document.line, message));
            }
        }
        Ok(NotifyConfig { channels, options, history })
    }

    fn channel(&self, node: &Node, path: &str) -> Result<(Arc<dyn AlertChannel>, ChannelConfig), ConfigError> {
        let mut fields = self.fields(node, path)?;
        let kinds = "slack, pagerduty, opsgenie, teams, alertmanager, webhook, file or stdout";
        let kind = fields.text("type")?;
        let type_error = || match node.entry("type") {
            Some((_, found)) => fields.error("type", found, kinds),
            None => {
                ConfigError::document(self.file, node.line, format!("`{path}type`: found nothing, expected {kinds}"))
            }
        };
        let Some(kind) = kind else { return Err(type_error()) };
        let error_of_type = type_error();
        let name = fields.text("name")?.filter(|name| !name.is_empty()).unwrap_or_else(|| kind.clone());
        let channel: Arc<dyn AlertChannel> = match kind.as_str() {
            "slack" => Arc::new(SlackChannel::new(name, url(&mut fields)?)),
            "teams" => Arc::new(TeamsChannel::new(name, url(&mut fields)?)),
            "alertmanager" => Arc::new(AlertmanagerChannel::new(name, url(&mut fields)?)),
            "pagerduty" => {
                let key = fields.required_secret("routing_key")?;
                let channel = PagerDutyChannel::new(name, key);
                Arc::new(match optional_url(&mut fields)? {
                    Some(url) => channel.with_url(url),
                    None => channel,
                })
            }
            "opsgenie" => {
                let key = fields.required_secret("api_key")?;
                let channel = OpsgenieChannel::new(name, key);
                Arc::new(match optional_url(&mut fields)? {
                    Some(url) => channel.with_url(url.expose()),
                    None => channel,
                })
            }
            "webhook" => {
                let channel = WebhookChannel::new(name, url(&mut fields)?);
                Arc::new(match fields.secret("secret")? {
                    Some(secret) => channel.with_secret(&secret).map_err(|error| {
                        ConfigError::document(self.file, node.line, format!("`{path}secret`: {error}"))
                    })?,
                    None => channel,
                })
            }
            "file" => match fields.text("path")? {
                Some(file) => Arc::new(FileChannel::new(name, file)),
                None => return Err(fields.missing("path", "the file to append to")),
            },
            "stdout" => Arc::new(FileChannel::stdout(name)),
            _ => return Err(error_of_type),
        };
        let defaults = ChannelConfig::default();
        let config = ChannelConfig {
            min_severity: fields
                .read("min_severity", "info, warning or critical", |value| {
                    value.as_str()?.parse().ok().filter(|severity| *severity != Severity::Resolved)
                })?
                .unwrap_or(defaults.min_severity),
            enabled: fields.flag("enabled")?.unwrap_or(defaults.enabled),
            matchers: self.matchers(&mut fields)?,
            rate_limit: fields.read("rate_limit", "messages per time, such as 10/1m", rate_limit)?,
        };
        fields.finish()?;
        Ok((channel, config))
    }

    fn escalation(
        &self,
        node: &Node,
        path: &str,
        known: &[(Arc<dyn AlertChannel>, ChannelConfig)],
    ) -> Result<EscalationPolicy, ConfigError> {
        let mut fields = self.fields(node, path)?;
        let after = fields.window("after")?.map(Window::duration);
        let channels = self.list(&mut fields, "channels", |node, _| {
            let name = node.found();
            if known.iter().any(|(channel, _)| channel.name() == name) {
                Ok(name)
            } else {
                let message = format!("`{path}channels: {name}`: expected the name of one of the `channels`");
                Err(ConfigError::document(self.file, node.line, message))
            }
        })?;
        fields.finish()?;
        match after {
            Some(after) if channels.len() >= 2 => Ok(EscalationPolicy { channels, after }),
            Some(_) => Err(fields.missing("channels", "at least two")),
            None => Err(fields.missing("after", DURATION)),
        }
    }

    fn silence(&self, node: &Node, path: &str) -> Result<Silence, ConfigError> {
        let mut fields = self.fields(node, path)?;
        let silence = Silence {
            matchers: self.matchers(&mut fields)?,
            starts_at: time(&mut fields, "starts_at")?.unwrap_or_default(),
            ends_at: match time(&mut fields, "ends_at")? {
                Some(ends_at) => ends_at,
                None => return Err(fields.missing("ends_at", "a time such as 2026-12-24T18:00:00Z")),
            },
            author: fields.text("author")?.unwrap_or_default(),
            comment: fields.text("comment")?.unwrap_or_default(),
        };
        fields.finish()?;
        silence.check().map_err(|error| {
            let error = error.to_string();
            ConfigError::document(self.file, node.line, format!("`{path}{}", error.trim_start_matches('`')))
        })?;
        Ok(silence)
    }

    fn maintenance(&self, node: &Node, path: &str) -> Result<MaintenanceWindow, ConfigError> {
        let mut fields = self.fields(node, path)?;
        let name = fields.text("name")?.unwrap_or_default();
        let matchers = self.matchers(&mut fields)?;
        let schedule = if node.entry("days").is_some() {
            let days = self.list(&mut fields, "days", |node, _| {
                weekday(&node.found()).ok_or_else(|| {
                    let message =
                        format!("`{path}days: {}`: expected mon, tue, wed, thu, fri, sat or sun", node.found());
                    ConfigError::document(self.file, node.line, message)
                })
            })?;
            let mut hour =
                |name| fields.read(name, "a time of day such as 22:00", |value| value.as_str()?.parse().ok());
            let (from, to): (Option<Time>, Option<Time>) = (hour("from")?, hour("to")?);
            let time_zone = fields
                .read("time_zone", "a time zone such as Europe/Berlin", |value| TimeZone::get(value.as_str()?).ok())?;
            let (Some(from), Some(to)) = (from, to) else {
                return Err(fields.missing("from", "`from` and `to`, times of day such as 22:00"));
            };
            Schedule::Weekly { days, from, to, time_zone: time_zone.unwrap_or(TimeZone::UTC) }
        } else {
            match (time(&mut fields, "from")?, time(&mut fields, "until")?) {
                (Some(from), Some(until)) => Schedule::Once { from, until },
                _ => return Err(fields.missing("from", "`from` and `until`, or `days`, `from` and `to`")),
            }
        };
        fields.finish()?;
        Ok(MaintenanceWindow { name, matchers, schedule })
    }

    fn retention(&self, node: &Node) -> Result<Retention, ConfigError> {
        let mut fields = Fields::new(node, self.file, "retention.")?;
        let defaults = Retention::default();
        let retention = Retention {
            age: fields.window("age")?.map_or(defaults.age, Window::duration),
            size: fields
                .read("size_mb", "a number of megabytes above 0", |value| value.as_u64().filter(|size| *size > 0))?
                .map_or(defaults.size, |megabytes| megabytes.saturating_mul(1_000_000)),
        };
        fields.finish()?;
        Ok(retention)
    }

    fn matchers(&self, fields: &mut Fields<'_>) -> Result<Vec<Matcher>, ConfigError> {
        self.list(fields, "matchers", |node, path| {
            let text = node.found();
            text.parse().map_err(|error| {
                ConfigError::document(self.file, node.line, format!("`{}`: {error}", path.trim_end_matches('.')))
            })
        })
    }

    /// Reads the items of a list, each with its path; empty if the field is missing.
    fn list<T>(
        &self,
        fields: &mut Fields<'_>,
        name: &'static str,
        read: impl Fn(&Node, &str) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(node) = fields.take(name) else { return Ok(Vec::new()) };
        let items = fields.items(name, node)?;
        items.iter().enumerate().map(|(at, node)| read(node, &format!("{name}[{at}]."))).collect()
    }

    /// Returns the fields of a mapping, with variables of the environment in texts.
    fn fields<'a>(&'a self, node: &'a Node, path: &'a str) -> Result<Fields<'a>, ConfigError> {
        Ok(Fields::new(node, self.file, path)?.with_environment(self.environment))
    }
}

fn url(fields: &mut Fields<'_>) -> Result<Secret, ConfigError> {
    let url = optional_url(fields)?;
    url.ok_or_else(|| fields.missing("url", URL))
}

fn optional_url(fields: &mut Fields<'_>) -> Result<Option<Secret>, ConfigError> {
    let Some(url) = fields.secret("url")? else { return Ok(None) };
    let is_absolute = url.expose().parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if is_absolute { Ok(Some(url)) } else { Err(fields.missing("url", URL)) }
}

fn time(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<Timestamp>, ConfigError> {
    fields.read(name, "a time such as 2026-12-24T18:00:00Z", |value| value.as_str()?.parse().ok())
}

fn rate_limit(value: &Value) -> Option<RateLimit> {
    let (messages, per) = value.as_str()?.split_once('/')?;
    let per = per.parse::<Window>().ok()?.duration();
    let limit = RateLimit { messages: messages.trim().parse().ok()?, per };
    (per / limit.messages.get() > Duration::ZERO).then_some(limit)
}

fn weekday(name: &str) -> Option<Weekday> {
    let days = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let name = name.to_lowercase();
    days.into_iter().find(|(short, _)| name.len() >= 3 && name.starts_with(short)).map(|(_, day)| day)
}
