use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_sre::adapter::Body;
use agent_sre::trace::TailSamplerOptions;
use agent_sre::yaml::{ConfigError, Fields, Kind, Node, document, set};
use agent_sre::{
    ExporterConfig, Redaction, RunLimits, SettingsFile, Window, exporter_schemas, read_exporters, settings_files,
};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::dropped_agents::DroppedAgents;
use crate::overrides::Overrides;
use crate::token::{Scope, Token};

/// The settings of the service.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on; `127.0.0.1:4318`, OTLP/HTTP's port on the loopback interface.
    pub listen: SocketAddr,
    /// The folder of the journal and the alerts; `sre-data`.
    pub data: PathBuf,
    /// Files of objectives, or folders of such files; if empty, every agent has a built-in objective.
    pub slos: Vec<PathBuf>,
    /// The file of alert channels; without it, alerts are only stored, shown and logged.
    pub notify: Option<PathBuf>,
    /// The settings files of engines, by the names of [`settings_files`]: `limits`, `prices`, `breakers`. An engine without one
    /// runs with its defaults; breakers then send no alerts.
    pub engine_files: BTreeMap<&'static str, PathBuf>,
    /// How long alerts are kept; overrides the file of channels, whose default is 90 days.
    pub retention: Option<Duration>,
    /// The tokens of clients. Required unless the service listens on a loopback address.
    pub tokens: Vec<Token>,
    /// The certificate and its key, for HTTPS.
    pub tls: Option<Tls>,
    /// Proxies and load balancers in front of the service, whose connections are those of many clients: they have no limit per
    /// address.
    pub trusted_proxies: Vec<IpNet>,
    /// Agents without series of their own in `/metrics`.
    pub metrics_drop_agents: DroppedAgents,
    /// The exporters.
    pub exporters: Vec<ExporterConfig>,
    /// Redaction of events before engines, alerts and exporters.
    pub redact: Redaction,
    /// The traces of bad and slow tasks.
    pub traces: TailSamplerOptions,
    /// Limits of memory, disk and time.
    pub server_limits: ServerLimits,
    /// The file of these settings, which is watched for changes.
    pub file: Option<PathBuf>,
    /// What [`Config::with_overrides`] has applied, and applies again at a reload.
    pub overrides: Overrides,
}

/// The PEM files for HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl Tls {
    /// Creates settings with these PEM files.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into() }
    }
}

/// Limits of memory, disk and time. Requests beyond them are refused with an error status.
///
/// Later versions may have more fields: end with `..Default::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Size of a request body, also when decompressed, in bytes; 16 MiB.
    pub max_body: usize,
    /// Memory of all requests in progress together, in bytes: their bodies and the records decoded from them. At least
    /// 2 × (4 × `max_body` + 1 MiB); 192 MiB. Up to an eighth of it, beyond that least size, is kept for requests that need at
    /// most 2 MiB.
    pub max_in_flight: usize,
    /// Concurrent connections; 512.
    pub max_connections: usize,
    /// Concurrent connections of an address, or of an IPv6 network of 64 bits; a quarter of `max_connections`. Clients on this
    /// machine and `trusted_proxies` have no such limit.
    pub max_connections_per_address: Option<usize>,
    /// How long a client may take to finish a request, from connecting or from its last answer on, and how long it may stall
    /// while reading a response; 30 s.
    pub client_timeout: Duration,
    /// Agents with series of their own, and as many models; 1,000. The others share one.
    pub max_agents: usize,
    /// Open runs and traces per format; 10,000. Beyond, the oldest is closed as incomplete.
    pub max_open_runs: usize,
    /// How long a task may take before it counts as incomplete and failed; 10 min.
    pub task_timeout: Duration,
    /// Size of the journal, in bytes; 2 GiB.
    pub max_journal: u64,
    /// Size of new journal entries after which a snapshot replaces them, in bytes; 256 MiB. A snapshot is also written
    /// every minute.
    pub snapshot_after: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_body: 16 << 20,
            max_in_flight: 192 << 20,
            max_connections: 512,
            max_connections_per_address: None,
            client_timeout: Duration::from_secs(30),
            max_agents: 1_000,
            max_open_runs: 10_000,
            task_timeout: Duration::from_secs(600),
            max_journal: 2 << 30,
            snapshot_after: 256 << 20,
        }
    }
}

impl ServerLimits {
    /// Returns the maximum number of connections of an address.
    pub(crate) fn connections_per_address(&self) -> usize {
        self.max_connections_per_address.unwrap_or(self.max_connections / 4).max(1)
    }

    /// Returns the limits of the open runs of a format.
    pub(crate) fn run_limits(&self) -> RunLimits {
        let Self { task_timeout, max_open_runs, .. } = *self;
        RunLimits { task_timeout, max_open_runs, ..RunLimits::default() }
    }

    /// Returns the part of `max_in_flight` that is for bodies and the records in them, in bytes. The rest is for what requests take
    /// beside: threads, buffers, and pages of the journal.
    pub(crate) fn bodies_in_flight(&self) -> usize {
        self.max_in_flight - (self.max_in_flight / 6).min(self.max_in_flight.saturating_sub(self.least_in_flight()))
    }

    /// Returns the part of [`bodies_in_flight`](Self::bodies_in_flight) that is for small requests, in bytes.
    pub(crate) fn reserved_in_flight(&self) -> usize {
        (self.max_in_flight / 8).min(self.bodies_in_flight().saturating_sub(self.least_in_flight()))
    }

    /// Returns the least `max_in_flight`, in bytes: enough for two requests of `max_body`, each with its records.
    fn least_in_flight(&self) -> usize {
        self.max_body.saturating_add(Body::max_decoded_size(self.max_body)).saturating_mul(2)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4318)),
            data: "sre-data".into(),
            slos: Vec::new(),
            notify: None,
            engine_files: BTreeMap::new(),
            retention: None,
            tokens: Vec::new(),
            tls: None,
            trusted_proxies: Vec::new(),
            metrics_drop_agents: DroppedAgents::default(),
            exporters: Vec::new(),
            redact: Redaction::default(),
            traces: TailSamplerOptions::default(),
            server_limits: ServerLimits::default(),
            file: None,
            overrides: Overrides::default(),
        }
    }
}

/// Returns the JSON Schema of `sre.yaml`, for editors.
pub fn config_schema() -> Value {
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("a schema is JSON");
    let mut schema = parse(include_str!("config.schema.json"));
    for file in settings_files() {
        schema["properties"][file.name] = json!({"type": "string", "description": format!("{}.", file.help)});
    }
    let mut references = Vec::new();
    for (kind, own) in exporter_schemas() {
        let mut own = parse(own);
        for common in ["name", "interval", "resource"] {
            own["properties"][common] = json!({"$ref": format!("#/$defs/exporter_{common}")});
        }
        own["properties"]["type"] = json!({"const": kind});
        own["required"].as_array_mut().expect("each lists its required settings").insert(0, "type".into());
        schema["$defs"][kind] = own;
        references.push(json!({"$ref": format!("#/$defs/{kind}")}));
    }
    schema["properties"]["exporters"]["items"]["oneOf"] = references.into();
    schema
}

const BYTES: &str = "a number of bytes such as 16MiB, above 0";

impl Config {
    /// Reads `sre.yaml`. Paths in it are relative to its folder.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or is invalid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::document(&file, 1, format!("cannot be read: {error}")))?;
        let mut config = Self::parse(&text, &file)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let relative = |path: &mut PathBuf| *path = folder.join(&*path);
        relative(&mut config.data);
        config.slos.iter_mut().for_each(relative);
        config.notify.iter_mut().chain(config.engine_files.values_mut()).for_each(relative);
        config.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key]).for_each(relative);
        config.file = Some(path.to_owned());
        Ok(config)
    }

    /// Applies settings that take precedence, now and at every reload.
    #[must_use]
    pub fn with_overrides(self, overrides: Overrides) -> Self {
        let Overrides { listen, data, slos, notify, engine_files } = overrides.clone();
        Self {
            listen: listen.unwrap_or(self.listen),
            data: data.unwrap_or(self.data),
            slos: if slos.is_empty() { self.slos } else { slos },
            notify: notify.or(self.notify),
            engine_files: self.engine_files.into_iter().chain(engine_files).collect(),
            overrides,
            ..self
        }
    }

    /// Parses the text of `sre.yaml`; `file` names it in errors. `${NAME}` in the settings of an exporter is replaced by the
    /// environment variable of that name.
    ///
    /// # Errors
    ///
    /// Returns an error with the line, the field, what was found and what was expected.
    ///
    /// ```
    /// use sre_server::Config;
    /// let config = Config::parse("listen: 127.0.0.1:9000\nmax_body: 1MiB", "sre.yaml").unwrap();
    /// assert_eq!((config.listen.port(), config.server_limits.max_body), (9000, 1 << 20));
    /// let error = Config::parse("listen: here", "sre.yaml").unwrap_err();
    /// assert_eq!(error.to_string(), "sre.yaml:1: `listen: here`: expected an address such as 127.0.0.1:4318");
    /// ```
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(config);
        }
        let document = document(text, file, "the service's settings")?;
        let mut fields = Fields::new(&document, file, "")?;
        let address = |value: &Value| value.as_str()?.parse().ok();
        set(&mut config.listen, fields.read("listen", "an address such as 127.0.0.1:4318", address)?);
        set(&mut config.data, path(&mut fields, "data")?);
        config.slos = paths(&mut fields, "slos")?;
        config.notify = path(&mut fields, "notify")?;
        for SettingsFile { name, .. } in settings_files() {
            config.engine_files.extend(path(&mut fields, name)?.map(|path| (*name, path)));
        }
        config.retention = fields.duration("retention")?;
        if let Some(node) = fields.take("tokens") {
            // Whatever stands here may be a token itself, which must not appear in the error.
            let tokens = fields.items("tokens", node).map_err(ConfigError::masked)?.iter().enumerate();
            let read = |(number, node)| token(node, file, number).map_err(without_token);
            config.tokens = tokens.map(read).collect::<Result<_, _>>()?;
        }
        config.tls = fields.take("tls").map(|node| tls(node, file)).transpose()?;
        if let Some(node) = fields.take("metrics") {
            config.metrics_drop_agents = dropped_agents(node, file)?;
        }
        if let Some(node) = fields.take("exporters") {
            config.exporters = read_exporters(node, file, &|name| std::env::var(name).ok())?;
        }
        if let Some(node) = fields.take("redact") {
            config.redact = Redaction::read(node, file)?;
        }
        if let Some(node) = fields.take("traces") {
            config.traces = traces(node, file)?;
        }
        config.trusted_proxies = networks(&mut fields, "trusted_proxies")?;
        let server_limits = &mut config.server_limits;
        set(&mut server_limits.max_body, bytes(&mut fields, "max_body")?);
        set(&mut server_limits.max_in_flight, bytes(&mut fields, "max_in_flight")?);
        set(&mut server_limits.max_journal, bytes(&mut fields, "max_journal")?);
        set(&mut server_limits.snapshot_after, bytes(&mut fields, "snapshot_after")?);
        let above_0 = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|number| *number > 0);
        for (setting, name) in [
            (&mut server_limits.max_connections, "max_connections"),
            (&mut server_limits.max_agents, "max_agents"),
            (&mut server_limits.max_open_runs, "max_open_runs"),
        ] {
            set(setting, fields.read(name, "a whole number above 0", above_0)?);
        }
        server_limits.max_connections_per_address =
            fields.read("max_connections_per_address", "a whole number above 0", above_0)?;
        set(&mut server_limits.client_timeout, fields.window("client_timeout")?.map(Window::duration));
        set(&mut server_limits.task_timeout, fields.window("task_timeout")?.map(Window::duration));
        fields.finish()?;
        let least = server_limits.least_in_flight();
        if server_limits.max_in_flight < least {
            let found = server_limits.max_in_flight.to_string();
            let expected = format!("at least {}, which is 2 × (4 × `max_body` + 1MiB)", bytes_text(least as u64));
            return Err(ConfigError::invalid(file, &document, "", "max_in_flight", found, &expected));
        }
        Ok(config)
    }

    /// Returns the files that cause a reload when they change: this one and those it names.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.engine_files.values().cloned().collect();
        files.extend(self.notify.iter().chain(&self.file).cloned());
        files.extend(self.tls.iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]));
        for path in &self.slos {
            match std::fs::read_dir(path) {
                Ok(folder) => files.extend(folder.flatten().map(|entry| entry.path())),
                Err(_) => files.push(path.clone()),
            }
        }
        files.sort();
        files
    }
}

fn path(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<PathBuf>, ConfigError> {
    let text = |value: &Value| value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from);
    fields.read(name, "a path", text)
}

fn paths(fields: &mut Fields<'_>, name: &'static str) -> Result<Vec<PathBuf>, ConfigError> {
    let Some(node) = fields.take(name) else { return Ok(Vec::new()) };
    let path = |item: &Node| match &item.kind {
        Kind::Scalar(Value::String(path)) if !path.is_empty() => Ok(path.into()),
        _ => Err(fields.error(name, item, "a path")),
    };
    fields.items(name, node)?.iter().map(path).collect()
}

fn dropped_agents(node: &Node, file: &str) -> Result<DroppedAgents, ConfigError> {
    const DROP_AGENTS: &str = "drop_agents";
    let mut fields = Fields::new(node, file, "metrics.")?;
    let Some(node) = fields.take(DROP_AGENTS) else { return fields.finish().map(|()| DroppedAgents::default()) };
    let expression = |item: &Node| match &item.kind {
        Kind::Scalar(Value::String(text)) if DroppedAgents::new([text]).is_ok() => Ok(text.clone()),
        _ => Err(fields.error(DROP_AGENTS, item, "a regular expression such as load-test-.*")),
    };
    let expressions: Vec<String> = fields.items(DROP_AGENTS, node)?.iter().map(expression).collect::<Result<_, _>>()?;
    let dropped =
        DroppedAgents::new(expressions).map_err(|_| fields.error(DROP_AGENTS, node, "smaller expressions"))?;
    fields.finish().map(|()| dropped)
}

fn traces(node: &Node, file: &str) -> Result<TailSamplerOptions, ConfigError> {
    let mut options = TailSamplerOptions::default();
    let mut fields = Fields::new(node, file, "traces.")?;
    let count = |value: &Value| usize::try_from(value.as_u64()?).ok();
    let limits = &mut options.limits;
    set(&mut limits.bad_per_objective, fields.read("bad_per_objective", "a whole number", count)?);
    set(&mut limits.slow_per_objective, fields.read("slow_per_objective", "a whole number", count)?);
    set(&mut limits.max_bytes, bytes(&mut fields, "max_bytes")?);
    set(&mut options.max_open_bytes, bytes(&mut fields, "max_open_bytes")?);
    set(&mut options.texts, fields.read("texts", "true or false", Value::as_bool)?);
    fields.finish().map(|()| options)
}

fn networks(fields: &mut Fields<'_>, name: &'static str) -> Result<Vec<IpNet>, ConfigError> {
    let Some(node) = fields.take(name) else { return Ok(Vec::new()) };
    let network = |item: &Node| {
        let text = match &item.kind {
            Kind::Scalar(Value::String(text)) => text.as_str(),
            _ => "",
        };
        let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        parsed.map_err(|_| fields.error(name, item, "an address such as 10.0.0.7, or a network such as 10.0.0.0/8"))
    };
    fields.items(name, node)?.iter().map(network).collect()
}

fn token(node: &Node, file: &str, number: usize) -> Result<Token, ConfigError> {
    let path = format!("tokens[{number}].");
    if let Kind::Scalar(_) = &node.kind {
        let message = format!("tokens[{number}]: found ***, expected a mapping with `name`, `scope` and `sha256`");
        return Err(ConfigError::document(file, node.line, message));
    }
    let mut fields = Fields::new(node, file, &path)?;
    let missing = |field: &str, expected: &str| {
        ConfigError::document(file, node.line, format!("{path}{field}: found nothing, expected {expected}"))
    };
    const SCOPE: &str = "`ingest` or `read`";
    const HASH: &str = "64 hex digits, as `sre config token` prints them";
    let scope = fields.read("scope", SCOPE, |value| Scope::named(value.as_str()?))?;
    let sha256 = fields.read("sha256", HASH, |value| Token::hash_from_hex(value.as_str()?));
    let sha256 = sha256.map_err(ConfigError::masked)?;
    let name = fields.text("name")?.ok_or_else(|| missing("name", "the name of the owner"))?;
    fields.finish()?;
    let scope = scope.ok_or_else(|| missing("scope", SCOPE))?;
    Ok(Token { name, scope, sha256: sha256.ok_or_else(|| missing("sha256", HASH))? })
}

/// Masks a token that stands in place of a field or of its value.
fn without_token(error: ConfigError) -> ConfigError {
    let (ConfigError::Field { found: text, .. } | ConfigError::UnknownField { field: text, .. }) = &error else {
        return error;
    };
    if text.contains(Token::PREFIX) { error.masked() } else { error }
}

fn tls(node: &Node, file: &str) -> Result<Tls, ConfigError> {
    let mut fields = Fields::new(node, file, "tls.")?;
    let found = (path(&mut fields, "certificate")?, path(&mut fields, "key")?);
    fields.finish()?;
    match found {
        (Some(certificate), Some(key)) => Ok(Tls { certificate, key }),
        _ => Err(ConfigError::document(file, node.line, "tls: expected `certificate` and `key`")),
    }
}

const UNITS: [(&str, u64); 6] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];

/// Returns a number of bytes as it is written in the settings: in the largest unit of which it is a multiple.
fn bytes_text(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(unit, size)| format!("{}{unit}", bytes / size))
}

fn bytes<N: TryFrom<u64>>(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<N>, ConfigError> {
    fields.read(name, BYTES, |value| {
        let number = match value {
            Value::Number(number) => number.as_u64()?,
            Value::String(text) => {
                let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
                let (number, size) = unit.unwrap_or((text, 1));
                number.trim().parse::<u64>().ok()?.checked_mul(size)?
            }
            _ => return None,
        };
        N::try_from(number).ok().filter(|_| number > 0)
    })
}

#[cfg(test)]
mod tests {
    use agent_sre::TraceLimits;

    use super::*;

    /// Every setting but those of [`every_setting`].
    const MOST_SETTINGS: &str = "
listen: 0.0.0.0:4318
data: data
slos: [slos, more.yaml]
notify: channels.yaml
retention: 30d
tokens:
  - {name: agents, scope: ingest, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
tls: {certificate: cert.pem, key: key.pem}
metrics: {drop_agents: [load-test-.*, canary]}
redact: {attributes: [user.email, 'prompt.*'], texts: true, secrets: false, replacement: hash}
traces: {bad_per_objective: 5, slow_per_objective: 0, max_bytes: 1MB, max_open_bytes: 2MB, texts: true}
trusted_proxies: [192.0.2.7, 10.0.0.0/8, '2001:db8::/32']
max_body: 1MiB
max_in_flight: 11MB
max_connections: 7
max_connections_per_address: 3
client_timeout: 5s
max_agents: 8
max_open_runs: 9
task_timeout: 2m
max_journal: 1000000000
snapshot_after: 1MB
";

    /// Returns every setting, also the files of engines and the exporters with the examples of their schemas.
    fn every_setting() -> String {
        let mut text = MOST_SETTINGS.to_owned();
        settings_files().for_each(|file| text += &format!("{0}: {0}.yaml\n", file.name));
        text += "exporters:\n";
        for (kind, own) in exporter_schemas() {
            let mut example = serde_json::from_str::<Value>(own).unwrap()["examples"][0].take();
            example["type"] = kind.into();
            example["name"] = format!("my-{kind}").into();
            example["interval"] = "10s".into();
            example["resource"] = json!({"deployment.environment.name": "test"});
            text += &format!("- {example}\n");
        }
        text
    }

    #[test]
    fn every_setting_is_parsed() {
        let config = Config::parse(&every_setting(), "sre.yaml").unwrap();
        assert_eq!(config.slos, [PathBuf::from("slos"), "more.yaml".into()]);
        assert_eq!(config.retention, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!((config.tokens[0].scope, config.tokens[0].sha256[0]), (Scope::Ingest, 0x9f));
        let dropped = ["load-test-1", "canary", "canary-2"].map(|agent| config.metrics_drop_agents.contains(agent));
        assert_eq!(dropped, [true, true, false]);
        let exporters: Vec<&str> = config.exporters.iter().map(|config| config.exporter.name()).collect();
        let types: Vec<&str> = config.exporters.iter().map(|config| config.kind).collect();
        assert_eq!(types, agent_sre::exporter_types().collect::<Vec<_>>());
        assert_eq!(exporters, types.iter().map(|kind| format!("my-{kind}")).collect::<Vec<_>>());
        assert_eq!(config.engine_files.len(), settings_files().count());
        let proxies = ["192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
        assert_eq!(config.trusted_proxies, proxies);
        let limits = TraceLimits { bad_per_objective: 5, slow_per_objective: 0, max_bytes: 1_000_000 };
        assert_eq!(config.traces, TailSamplerOptions { limits, max_open_bytes: 2_000_000, texts: true });
        let server_limits = ServerLimits {
            max_body: 1 << 20,
            max_in_flight: 11_000_000,
            max_connections: 7,
            max_connections_per_address: Some(3),
            client_timeout: Duration::from_secs(5),
            max_agents: 8,
            max_open_runs: 9,
            task_timeout: Duration::from_secs(120),
            max_journal: 1_000_000_000,
            snapshot_after: 1_000_000,
        };
        assert_eq!(config.server_limits, server_limits);
        assert!(Config::parse("# nothing yet\n", "sre.yaml").is_ok());
    }

    #[test]
    fn errors_name_line_field_and_expectation() {
        for (text, expected) in [
            ("\nlisten: 4318", "f:2: `listen: 4318`: expected an address"),
            ("max_body: 0", "f:1: `max_body: 0`: expected a number of bytes"),
            ("max_body: 5 MiBs", "f:1: `max_body: 5 MiBs`: expected a number of bytes"),
            ("max_body: 99999999999999GiB", "f:1: `max_body: 99999999999999GiB`: expected"),
            (
                "max_in_flight: 1MiB",
                "f:1: `max_in_flight: 1MiB`: expected at least 130MiB, which is 2 × (4 × `max_body` + 1MiB)",
            ),
            ("max_in_flight: 1MiB\nmax_body: 1MB", "f:1: `max_in_flight: 1MiB`: expected at least 10097152, which is"),
            ("max_agents: none", "f:1: `max_agents: none`: expected a whole number above 0"),
            ("slos: objectives.yaml", "f:1: `slos: objectives.yaml`: expected a list"),
            ("tokens: [{name: a, scope: all}]", "f:1: `tokens[0].scope: all`: expected `ingest` or `read`"),
            ("tokens: [{name: a, scope: read, sha256: secret}]", "f:1: `tokens[0].sha256: ***`: expected 64 hex"),
            ("tokens: sre_5ec3e7", "f:1: `tokens: ***`: expected a list"),
            ("tokens: [sre_5ec3e7]", "f:1: tokens[0]: found ***, expected a mapping"),
            ("tokens: [[sre_5ec3e7]]", "f:1: tokens[0]: found a list, expected a mapping"),
            ("tokens: [{name: a, scope: sre_5ec3e7}]", "f:1: `tokens[0].scope: ***`: expected `ingest` or `read`"),
            ("tokens: [{name: [sre_5ec3e7]}]", "f:1: `tokens[0].name: a list`: expected a text"),
            ("tokens: [{name: a, scope: read, sre_5ec3e7: a}]", "f:1: `tokens[0].***`: unknown field, expected one of"),
            ("tokens: [{name: a, scope: read}]", "f:1: tokens[0].sha256: found nothing"),
            ("tls: {key: a}", "f:1: tls: expected `certificate` and `key`"),
            ("trusted_proxies: [proxy.example]", "f:1: `trusted_proxies: proxy.example`: expected an address such as"),
            ("trusted_proxies: [10.0.0.0/33]", "f:1: `trusted_proxies: 10.0.0.0/33`: expected an address such as"),
            (
                "max_connections_per_address: 0",
                "f:1: `max_connections_per_address: 0`: expected a whole number above 0",
            ),
            ("metrics: {drop_agents: [\"(\"]}", "f:1: `metrics.drop_agents: (`: expected a regular expression"),
            ("exporters: [{type: fax}]", "f:1: `exporters[0].type: fax`: expected one of otlp, "),
            ("metrics: {drop: a}", "f:1: `metrics.drop`: unknown field, expected one of drop_agents"),
            ("redact: {texts: some}", "f:1: `redact.texts: some`: expected true or false"),
            ("redact: {replacement: stars}", "f:1: `redact.replacement: stars`: expected `remove` or `hash`"),
            ("redact: [error]", "f:1: redact: found a list, expected a mapping"),
            ("traces: {bad_per_objective: -1}", "f:1: `traces.bad_per_objective: -1`: expected a whole number"),
            ("traces: false", "f:1: traces: found false, expected a mapping"),
            ("lissen: x", "f:1: `lissen`: unknown field, expected one of listen"),
        ] {
            let error = Config::parse(text, "f").unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("5ec3e7"), "{error}");
        }
    }

    #[test]
    fn the_schema_and_the_parser_agree() {
        let read = |text: &str| Config::parse(text, "f").map(drop).map_err(|error| error.to_string());
        sre_testkit::conformance::schema(&config_schema().to_string(), &[&every_setting()], &[], &read);
    }
}
