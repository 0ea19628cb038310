//! Tests `sre config` as a user runs it.

mod common;

use std::path::Path;

use common::{SLO, serve, sre, text};

fn write(folder: &Path, name: &str, text: &str) -> String {
    std::fs::write(folder.join(name), text).unwrap();
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn configuration_errors_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "slo.yaml", SLO);
    let check = |settings: &str| {
        let file = write(folder.path(), "sre.yaml", &format!("{settings}listen: 127.0.0.1:0\n"));
        let output = sre(&["config", "check", &file], "");
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, printed) = check("slos: [slo.yaml]\n");
    assert_eq!((code, printed.ends_with("sre.yaml: valid, 1 objective\n")), (0, true), "{printed}");
    write(folder.path(), "limits.yaml", "per_task: 2\nkill_at: 95\n");
    for (settings, expected) in [
        ("slos: [slo.yaml]\nmax_body: lots\n", "sre.yaml:2: `max_body: lots`: expected a number of bytes"),
        ("slos: [slo.yaml]\nslos: [slo.yaml]\n", "sre.yaml:2: `slos`: duplicate field, first set on line 1\n"),
        ("slos: [\n", "sre.yaml:1: unclosed bracket '['\n"),
        ("limits: limits.yaml\n", "limits.yaml:2: `kill_at: 95`: expected a share above 0"),
        ("slos: [nothing.yaml]\n", "nothing.yaml: No such file or directory"),
        ("tls: {certificate: slo.yaml, key: slo.yaml}\n", "slo.yaml"),
    ] {
        let (code, printed) = check(settings);
        assert!(code == 2 && printed.contains(expected), "{settings}: {printed}");
    }
    let output = sre(&["config", "token", "--scope", "read", "--name", "people"], "");
    let (token, lines) = (text(&output.stdout), text(&output.stderr));
    assert!(token.starts_with("sre_") && !lines.contains(token.trim()), "the token is printed once");
    let line = lines.lines().last().unwrap();
    let settings = format!("tokens:\n{line}\nslos: [slo.yaml]\n");
    assert_eq!(check(&settings).0, 0, "{settings}");
}

/// Whatever stops the service at its start stops the check with the same message.
#[test]
fn what_stops_a_start_fails_the_check() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("slo.yaml", SLO),
        ("log.yaml", "channels: [{type: stdout, name: log}]\n"),
        ("twice.yaml", "channels: [{type: stdout}, {type: stdout}]\n"),
        ("secret.yaml", "channels: [{type: pagerduty, routing_key: \"${SRE_TEST_NOT_SET}\"}]\n"),
        ("limits.yaml", "agents: {a: {daily: 5}}\n"),
        ("price.json", "{\"m\": {\"input_cost_per_token\": -1}}"),
        ("breakers.yaml", "failure_threshold: 0\n"),
        ("file", ""),
    ] {
        write(folder.path(), name, text);
    }
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    write(folder.path(), "cert.pem", &own.cert.pem());
    write(folder.path(), "key.pem", &other.signing_key.serialize_pem());
    for (settings, expected) in [
        ("notify: log.yaml\n", "log.yaml: `name: log`: the service has a channel of this name"),
        ("notify: twice.yaml\n", "`channels[1].name: stdout`: found a second channel of this name"),
        ("notify: secret.yaml\n", "the environment variable SRE_TEST_NOT_SET to be set"),
        ("prices: price.json\n", "price.json: `m.input_cost_per_token`: found -1"),
        ("breakers: breakers.yaml\n", "breakers.yaml:1: "),
        ("limits: missing.yaml\n", "missing.yaml"),
        ("limits: limits.yaml\n", "agents.a.daily"),
        ("slos: [empty]\n", "empty: found no objective, expected at least one"),
        ("slos: [slo.yaml, slo.yaml]\n", "found a second objective with this name"),
        ("listen: 0.0.0.0:0\n", "`tokens` are needed for both scopes"),
        ("tls: {certificate: cert.pem, key: missing.pem}\n", "missing.pem"),
        ("tls: {certificate: cert.pem, key: key.pem}\n", "cert.pem: "),
        ("data: file\n", "file: "),
        ("data: file/new/data\n", "file/new/data: "),
        ("data: /proc/data\n", "/proc/data: "),
    ] {
        let listen = if settings.starts_with("listen") { "" } else { "listen: 127.0.0.1:0\n" };
        let data = if settings.starts_with("data") { "" } else { "data: data\n" };
        let config = write(folder.path(), "sre.yaml", &format!("{listen}{data}{settings}"));
        let checked = sre(&["config", "check", &config], "");
        let (printed, code) = (text(&checked.stderr), checked.status.code());
        assert!(code == Some(2) && printed.contains(expected), "{settings}: {printed}");
        assert!(!folder.path().join("data").exists(), "{settings}: the check makes no folder");
        let served = serve(&["--config", &config, "--stop-after", "1s"]).output().unwrap();
        assert_eq!(served.status.code(), Some(2), "{settings}");
        if !settings.starts_with("data") {
            assert_eq!(text(&served.stderr).lines().last(), printed.lines().last(), "{settings}");
        }
    }
}

/// A folder that exists, is in use, or cannot be opened, and an address that is taken.
#[test]
fn the_check_finds_what_other_processes_hold_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "slo.yaml", SLO);
    let check = |listen: &str, data: &str, more: &[&str]| {
        let settings = format!("slos: [slo.yaml]\nlisten: {listen}\ndata: {data}\n");
        let file = write(folder.path(), "sre.yaml", &settings);
        let output = sre(&[&["config", "check", &file], more].concat(), "");
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let free = "127.0.0.1:0";
    assert_eq!(check(free, "a/new/folder", &[]).0, 0);
    assert!(!folder.path().join("a").exists());

    let taken = std::net::TcpListener::bind(free).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, printed) = check(&address, "data", &[]);
    assert!(code == 2 && printed.contains(&format!("cannot listen on {address}: ")), "{printed}");
    assert_eq!(check(&address, "data", &["--reload"]).0, 0, "a running service has the address itself");

    // As a service has it.
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let journal = agent_sre::sqlite::SqliteJournal::open(folder.path().join("data/journal.db"), 1 << 30).unwrap();
    let (code, printed) = check(free, "data", &[]);
    assert!(code == 2 && printed.contains("journal.db: in use by another process"), "{printed}");
    assert_eq!(check(free, "data", &["--reload"]).0, 0);
    drop(journal);
    let names = || {
        let files = std::fs::read_dir(folder.path().join("data")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!((check(free, "data", &[]).0, names()), (0, vec!["journal.db".to_owned()]));
    std::fs::write(folder.path().join("data/alerts.db"), "not a database".repeat(100)).unwrap();
    let (code, printed) = check(free, "data", &[]);
    assert!(code == 2 && printed.contains("alerts.db: "), "{printed}");
}

#[test]
fn the_check_reads_the_saved_state() {
    use agent_sre::JournalStore;
    use agent_sre::sqlite::SqliteJournal;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "slo.yaml", SLO);
    let config = write(folder.path(), "sre.yaml", "slos: [slo.yaml]\nlisten: 127.0.0.1:0\ndata: data\n");
    let served = || serve(&["--config", &config, "--stop-after", "1s"]).output().unwrap();
    assert_eq!(served().status.code(), Some(0));
    let path = folder.path().join("data/journal.db");
    let files = || {
        let names = std::fs::read_dir(folder.path().join("data")).unwrap().map(|file| file.unwrap().file_name());
        (names.collect::<std::collections::BTreeSet<_>>(), std::fs::read(&path).unwrap())
    };
    let before = files();
    let checked = || sre(&["config", "check", &config], "");
    assert_eq!(checked().status.code(), Some(0), "{}", text(&checked().stderr));
    assert!(files() == before, "the check changes nothing");

    // A state of a version to come.
    SqliteJournal::open(&path, 1 << 30).unwrap().put_snapshot(0, &[99]).unwrap();
    let (checked, served) = (checked(), served());
    let (printed, code) = (text(&checked.stderr), checked.status.code());
    assert!(code == Some(2) && printed.contains("found state of version 99"), "{printed}");
    assert_eq!(served.status.code(), Some(2));
    assert_eq!(text(&served.stderr).lines().last(), printed.lines().last());
}
