use std::time::Duration;

use sre_core::{BackendApi, InvalidExporter, Secret};

use crate::origin::OriginSettings;

/// The exporter's name.
pub(crate) const NAME: &str = "datadog";

/// The keys of a Datadog organisation, and how records are tagged.
///
/// Later versions may have more fields: end with `..DatadogSettings::new(api_key)`.
#[derive(Clone, Debug)]
pub struct DatadogSettings {
    /// An API key.
    pub api_key: Secret,
    /// An application key with the permissions to read and write SLOs. Only needed for [`sync_slos`](Self::sync_slos).
    pub app_key: Option<Secret>,
    /// The site, such as `datadoghq.eu` or `us5.datadoghq.com`; `datadoghq.com` by default.
    pub site: String,
    /// The base URL of a proxy, instead of the site's.
    pub url: Option<String>,
    /// The tag `service`; by default the resource's `service.name`.
    pub service: Option<String>,
    /// The tag `env`; by default the resource's `deployment.environment.name`.
    pub env: Option<String>,
    /// The tag `version`; by default the resource's `service.version`.
    pub version: Option<String>,
    /// The host; by default the resource's `host.name`.
    pub host: Option<String>,
    /// Further tags of everything, such as `team:support`.
    pub tags: Vec<String>,
    /// The interval of counts, from which Datadog calculates rates: that at which metrics are sent; 1 minute by default.
    pub interval: Duration,
    /// Handling of counter values from before the first batch.
    pub initial_counts: InitialCounts,
    /// Whether each objective is also an SLO in Datadog, which is created and kept in step.
    pub sync_slos: bool,
}

/// Handling of counter values from before an exporter's first batch, which may have been sent already. A counter that appears
/// later begins at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitialCounts {
    /// 0: only what is counted from then on is sent. For a service that restores its counters after a restart; as Datadog's
    /// Agent does.
    #[default]
    Drop,
    /// The whole value. For a process whose counters begin at 0, and that sends them once, such as `sre export`.
    Keep,
}

impl DatadogSettings {
    /// Creates settings for the site `datadoghq.com`.
    pub fn new(api_key: Secret) -> Self {
        Self {
            api_key,
            app_key: None,
            site: "datadoghq.com".to_owned(),
            url: None,
            service: None,
            env: None,
            version: None,
            host: None,
            tags: Vec::new(),
            interval: Duration::from_secs(60),
            initial_counts: InitialCounts::default(),
            sync_slos: false,
        }
    }

    /// The JSON Schema of the fields that [`read`](Self::read) takes, with an example of all.
    #[cfg(feature = "yaml")]
    pub const SCHEMA: &'static str = include_str!("settings.schema.json");

    /// Reads the fields by their names.
    #[cfg(feature = "yaml")]
    pub fn read(fields: &mut sre_core::yaml::Fields<'_>) -> Result<Self, sre_core::yaml::ConfigError> {
        let default = Self::new(fields.required_secret("api_key")?);
        let initial_counts = fields.read("initial_counts", "drop or keep", |value| match value.as_str() {
            Some("drop") => Some(InitialCounts::Drop),
            Some("keep") => Some(InitialCounts::Keep),
            _ => None,
        })?;
        Ok(Self {
            app_key: fields.secret("app_key")?,
            site: fields.text("site")?.unwrap_or(default.site),
            url: fields.text("url")?,
            service: fields.text("service")?,
            env: fields.text("env")?,
            version: fields.text("version")?,
            host: fields.text("host")?,
            tags: fields.texts("tags")?,
            interval: fields.duration("interval")?.unwrap_or(default.interval),
            initial_counts: initial_counts.unwrap_or_default(),
            sync_slos: fields.flag("sync_slos")?.unwrap_or_default(),
            api_key: default.api_key,
        })
    }
}

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Organisation {
    pub(crate) api: BackendApi,
    /// The API with the application key, if SLOs are kept in step.
    pub(crate) slo_api: Option<BackendApi>,
    pub(crate) origin: OriginSettings,
    /// The interval of counts, in seconds.
    pub(crate) interval: u64,
    pub(crate) initial_counts: InitialCounts,
}

impl TryFrom<DatadogSettings> for Organisation {
    type Error = InvalidExporter;

    fn try_from(settings: DatadogSettings) -> Result<Self, InvalidExporter> {
        let DatadogSettings { api_key, app_key, site, url, service, env, version, host, tags, .. } = settings;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if site.is_empty() || !site.chars().all(is_plain) {
            let message = format!("found `{site}`, expected a site such as datadoghq.com, without https:// and api.");
            return Err(InvalidExporter::new(NAME, "site", message));
        }
        let url = url.unwrap_or_else(|| format!("https://api.{site}"));
        let api = BackendApi::new(NAME, &url)?.with_secret_header("dd-api-key", "", &api_key)?;
        let slo_api = match app_key {
            Some(key) if settings.sync_slos => Some(api.clone().with_secret_header("dd-application-key", "", &key)?),
            None if settings.sync_slos => {
                return Err(InvalidExporter::new(
                    NAME,
                    "app_key",
                    "expected an application key, because of `sync_slos`",
                ));
            }
            _ => None,
        };
        let origin = OriginSettings { service, env, version, host, tags };
        let interval = settings.interval.as_secs().max(1);
        Ok(Self { api, slo_api, origin, interval, initial_counts: settings.initial_counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_errors_that_say_which() {
        let good = || DatadogSettings::new(Secret::new("s3cr3t"));
        let error = |settings: DatadogSettings| Organisation::try_from(settings).unwrap_err().to_string();
        let found = error(DatadogSettings { site: "https://api.datadoghq.eu".to_owned(), ..good() });
        assert!(found.starts_with("datadog: `site`: found `https://api.datadoghq.eu`"), "{found}");
        let found = error(DatadogSettings { url: Some("datadoghq.eu".to_owned()), ..good() });
        assert!(found.starts_with("datadog: `url`: expected a URL"), "{found}");
        let found = error(DatadogSettings::new(Secret::new("")));
        assert!(found.starts_with("datadog: `dd-api-key`: expected"), "{found}");
        let found = error(DatadogSettings { sync_slos: true, ..good() });
        assert!(found.starts_with("datadog: `app_key`: expected an application key"), "{found}");
        let eu = Organisation::try_from(DatadogSettings { site: "datadoghq.eu".to_owned(), ..good() }).unwrap();
        assert_eq!(eu.api.url("/api/v2/series"), "https://api.datadoghq.eu/api/v2/series");
        assert!(!format!("{eu:?}").contains("s3cr3t"));
    }
}
