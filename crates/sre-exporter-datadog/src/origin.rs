use serde::Serialize;
use sre_core::Resource;

use crate::names;

/// The settings about the exporting process. What they leave open is taken from the batch's resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct OriginSettings {
    pub(crate) service: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) tags: Vec<String>,
}

/// The exporting process: its host, and the tags of everything that it sends.
pub(crate) struct Origin {
    /// The tags of unified service tagging that stay the same over deployments: `service` and `env`.
    pub(crate) identity: Vec<String>,
    /// All tags.
    pub(crate) tags: Vec<String>,
    pub(crate) host: Option<String>,
}

/// The host of a series.
#[derive(Serialize)]
pub(crate) struct HostResource<'a> {
    r#type: &'static str,
    name: &'a str,
}

impl OriginSettings {
    pub(crate) fn of(&self, resource: &Resource) -> Origin {
        let attribute = |name: &str| resource.attributes.get(name).cloned();
        let tag = |key: &str, setting: &Option<String>, name: &str| {
            names::tag(key, &setting.clone().or_else(|| attribute(name)).unwrap_or_default())
        };
        let env = tag("env", &self.env, "deployment.environment.name");
        let identity = [tag("service", &self.service, "service.name"), env];
        let identity: Vec<String> = identity.into_iter().flatten().collect();
        let mut tags = identity.clone();
        tags.extend(tag("version", &self.version, "service.version"));
        tags.extend(self.tags.iter().map(|tag| names::normalized(tag.chars())));
        Origin { identity, tags, host: self.host.clone().or_else(|| attribute("host.name")) }
    }
}

impl Origin {
    /// Returns the tags of a record: its own, and those of the process.
    pub(crate) fn tags_with<'a>(&self, own: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
        let own = own.into_iter().filter_map(|(key, value)| names::tag(key, value));
        own.chain(self.tags.iter().cloned()).collect()
    }

    pub(crate) fn resources(&self) -> Option<[HostResource<'_>; 1]> {
        self.host.as_deref().map(|name| [HostResource { r#type: "host", name }])
    }
}
