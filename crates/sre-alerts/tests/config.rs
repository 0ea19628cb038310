//! The channels file: what it accepts, and its errors.
#![cfg(feature = "config")]

use std::time::Duration;

use proptest::prelude::*;
use sre_alerts::{NotifyConfig, RateLimit, Schedule};
use sre_core::{Severity, Timestamp};

const EVERYTHING: &str = r#"
channels:
  - {type: slack, name: ops, url: "https://hooks.slack.com/services/${SLACK}", min_severity: info}
  - {type: pagerduty, name: oncall, routing_key: "${PD_KEY}", min_severity: critical, matchers: ["team=search"]}
  - {type: opsgenie, name: og, api_key: "${OG_KEY}", url: "https://api.eu.opsgenie.com", enabled: false}
  - {type: teams, name: tm, url: "https://example.com/workflows/x", rate_limit: 4/1s}
  - {type: alertmanager, name: am, url: "http://127.0.0.1:9093"}
  - {type: webhook, name: hook, url: "https://example.com/hook", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
  - {type: file, name: log, path: alerts.jsonl}
  - {type: stdout}
dedup_window: 10m
group_by: [agent, team]
group_wait: 10s
repeat_interval: 4h
escalations:
  - {channels: [ops, oncall], after: 15m}
silences:
  - {matchers: ['agent="loud"'], ends_at: "2027-01-01T00:00:00Z", author: ann, comment: known}
maintenance:
  - {name: move, from: "2026-12-24T18:00:00Z", until: "2026-12-24T20:00:00Z"}
  - {name: weekend, days: [sat, Sunday], from: "22:00", to: "02:00", time_zone: Europe/Berlin, matchers: ["slo=nightly"]}
history: alerts.db
retention: {age: 30d, size_mb: 100}
"#;

fn environment(name: &str) -> Option<String> {
    matches!(name, "SLACK" | "PD_KEY" | "OG_KEY").then(|| format!("s3cr3t-{name}"))
}

fn parse(text: &str) -> Result<NotifyConfig, String> {
    NotifyConfig::parse(text, "notify.yaml", &environment).map_err(|error| error.to_string())
}

#[test]
fn every_field_is_read() {
    let config = parse(EVERYTHING).unwrap();
    let names: Vec<&str> = config.channels.iter().map(|(channel, _)| channel.name()).collect();
    assert_eq!(names, ["ops", "oncall", "og", "tm", "am", "hook", "log", "stdout"]);
    let of = |at: usize| &config.channels[at].1;
    assert_eq!(
        (of(0).min_severity, of(1).min_severity, of(4).min_severity),
        (Severity::Info, Severity::Critical, Severity::Warning)
    );
    assert_eq!((of(1).matchers[0].to_string(), of(2).enabled), ("team=\"search\"".to_owned(), false));
    assert_eq!(of(3).rate_limit, Some(RateLimit { messages: 4.try_into().unwrap(), per: Duration::from_secs(1) }));
    let options = &config.options;
    assert_eq!((options.dedup_window, options.group_wait), (Duration::from_secs(600), Duration::from_secs(10)));
    assert_eq!(
        (&options.group_by[..], options.repeat_interval),
        (&["agent".to_owned(), "team".to_owned()][..], Some(Duration::from_secs(14_400)))
    );
    assert_eq!((options.escalations[0].channels.len(), options.escalations[0].after), (2, Duration::from_secs(900)));
    assert_eq!(
        (options.silences[0].ends_at, &*options.silences[0].author),
        (Timestamp::from_secs(1_798_761_600), "ann")
    );
    assert!(matches!(options.maintenance[0].schedule, Schedule::Once { .. }));
    assert!(matches!(&options.maintenance[1].schedule, Schedule::Weekly { days, .. } if days.len() == 2));
    assert_eq!(options.retention.size, 100_000_000);
    assert_eq!(config.history.as_deref(), Some("alerts.db".as_ref()));
}

/// Ten lines, without any field that has a default.
#[test]
fn every_channel_type_has_a_short_form() {
    let text = r#"
channels:
  - {type: slack, name: ops, url: "https://hooks.slack.com/services/T/B/x", min_severity: warning}
  - {type: pagerduty, name: oncall, routing_key: "${PD_KEY}", min_severity: critical}   # url only to override the endpoint
  - {type: opsgenie, name: og, api_key: "a1b2"}
  - {type: teams, name: tm, url: "https://example.com/workflows/x"}
  - {type: alertmanager, name: am, url: "http://127.0.0.1:9093"}
  - {type: webhook, name: hook, url: "https://example.com/hook", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
dedup_window: 5m
history: alerts.db
"#;
    assert_eq!(parse(text).unwrap().channels.len(), 6);
}

#[test]
fn the_schema_and_the_parser_agree() {
    sre_testkit::conformance::schema(sre_alerts::SCHEMA, &[EVERYTHING], &[], &|text| parse(text).map(drop));
}

#[test]
fn an_error_says_where_and_what_to_fix_and_shows_no_secret() {
    for (text, expected) in [
        ("channels: []", "notify.yaml:1: `channels`: found none, expected at least one"),
        ("", "notify.yaml:1: found 0 documents, expected one with `channels`"),
        (
            "channels:\n  - {type: pager, name: x}",
            "notify.yaml:2: `channels[0].type: pager`: expected slack, pagerduty,",
        ),
        ("channels:\n  - {name: x}", "notify.yaml:2: `channels[0].type`: found nothing, expected slack,"),
        (
            "channels:\n  - {type: slack, name: x}",
            "notify.yaml:2: `channels[0].url`: expected an absolute http or https URL",
        ),
        ("channels:\n  - {type: slack, url: s3cr3t}", "notify.yaml:2: `channels[0].url`: expected an absolute"),
        ("channels:\n  - {type: slack, url: [s3cr3t]}", "notify.yaml:2: `channels[0].url`: expected a text"),
        (
            "channels:\n  - type: pagerduty\n    routing_key: \"${NOT_SET}\"",
            "notify.yaml:3: `channels[0].routing_key`: expected the environment variable NOT_SET to be set",
        ),
        ("channels:\n  - {type: pagerduty}", "`channels[0].routing_key`: expected the vendor's key"),
        (
            "channels:\n  - {type: webhook, url: \"https://x.y\", secret: \"s3cr3t\"}",
            "notify.yaml:2: `channels[0].secret`: found a text without `whsec_`",
        ),
        ("channels:\n  - {type: stdout, min_severity: awful}", "`channels[0].min_severity: awful`: expected info,"),
        (
            "channels:\n  - {type: stdout, rate_limit: 0/1m}",
            "`channels[0].rate_limit: 0/1m`: expected messages per time",
        ),
        ("channels:\n  - {type: stdout, matchers: [team]}", "`matchers[0]`: matcher `team`: expected name=value"),
        (
            "channels:\n  - {type: stdout, color: red}",
            "notify.yaml:2: `channels[0].color`: unknown field, expected one of",
        ),
        ("channels:\n  - {type: stdout}\n  - {type: stdout}", "`channels[1].name: stdout`: found a second channel"),
        ("channels: [{type: stdout}]\ndedup_window: soon", "notify.yaml:2: `dedup_window: soon`: expected a duration"),
        (
            "channels: [{type: stdout}]\nescalations: [{channels: [stdout, boss], after: 5m}]",
            "notify.yaml:2: `escalations[0].channels: boss`: expected the name of one of the `channels`",
        ),
        (
            "channels: [{type: stdout}]\nsilences: [{ends_at: \"2027-01-01T00:00:00Z\"}]",
            "notify.yaml:2: `silences[0].matchers`: found none, expected at least one",
        ),
        (
            "channels: [{type: stdout}]\nmaintenance: [{days: [someday], from: \"1:00\", to: \"2:00\"}]",
            "someday`: expected mon,",
        ),
        ("channels: [", "notify.yaml:1: "),
    ] {
        let error = parse(text).err().unwrap_or_else(|| panic!("{text} was read"));
        assert!(error.contains(expected), "{text}\n  {error}\n  {expected}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(channels|type|name|: |\\n|  - |\\{|\\}|\\[|slack|\\$\\{|\"|[a-z0-9/=]){0,40}") {
        let _ = parse(&text);
    }
}
