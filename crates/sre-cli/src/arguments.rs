//! Values of options that several commands take.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_sre::{EngineSettings, FailOn, SettingsError, settings_files};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgMatches, Command, value_parser};

/// The settings files of engines, by name: an option for each.
pub(crate) struct EngineFiles(pub(crate) BTreeMap<&'static str, PathBuf>);

impl EngineFiles {
    /// Reads the files into `settings`.
    pub(crate) fn load(&self, settings: &mut EngineSettings) -> Result<(), SettingsError> {
        settings_files().try_for_each(|file| self.0.get(file.name).map_or(Ok(()), |path| file.load(path, settings)))
    }
}

impl clap::Args for EngineFiles {
    fn augment_args(command: Command) -> Command {
        let option =
            |name, help| Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
        settings_files().fold(command, |command, file| command.arg(option(file.name, file.help)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for EngineFiles {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name| Some((name, matches.get_one::<PathBuf>(name)?.clone()));
        Ok(Self(settings_files().filter_map(|file| given(file.name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

/// Returns the parser of `--fail-on`.
pub(crate) fn fail_on() -> impl TypedValueParser<Value = FailOn> {
    PossibleValuesParser::new(FailOn::ALL.map(FailOn::as_str)).try_map(|name| name.parse())
}

/// Parses `--url`. Without a scheme, `http://` is assumed.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let is_valid = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if is_valid { Ok(url) } else { Err("expected a URL such as http://127.0.0.1:4318".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_needs_no_scheme() {
        for (text, expected) in [
            ("127.0.0.1:4318", Some("http://127.0.0.1:4318")),
            ("localhost:4318", Some("http://localhost:4318")),
            ("[::1]:4318", Some("http://[::1]:4318")),
            ("sre.example/prefix", Some("http://sre.example/prefix")),
            ("https://sre.example", Some("https://sre.example")),
            ("ftp://sre.example", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(url(text).ok().as_deref(), expected, "{text}");
        }
    }
}
