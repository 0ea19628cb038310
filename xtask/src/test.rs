use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cargo;

/// An outside program that some tests use when it is there.
struct Outside {
    program: &'static str,
    debian: &'static str,
}

const OUTSIDE: [Outside; 1] = [Outside { program: "promtool", debian: "prometheus" }];

pub(crate) fn run(install: bool) -> anyhow::Result<()> {
    if install {
        OUTSIDE.iter().filter(|outside| !is_there(outside.program)).for_each(fetch);
    }
    // Tests that find no outside program write their names here; see `sre_testkit::outside`.
    let skipped = PathBuf::from("target/skipped-tests.txt");
    let _ = std::fs::remove_file(&skipped);
    std::fs::create_dir_all("target")?;
    let path = std::path::absolute(&skipped)?;
    let tested = cargo(&["test", "--workspace", "--all-features"], &[("SRE_SKIPPED", &path.to_string_lossy())]);
    match std::fs::read_to_string(&skipped) {
        Ok(list) => eprintln!("\nskipped:\n{list}"),
        Err(_) => eprintln!("\nnothing was skipped"),
    }
    tested
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Tries to install; a test that still finds nothing is skipped and listed.
fn fetch(outside: &Outside) {
    eprintln!("$ apt-get install {}", outside.debian);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()).stdin(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let installed = apt(&["update", "-q"]) && apt(&["install", "-y", "-q", "--no-install-recommends", outside.debian]);
    if !installed {
        eprintln!("{} cannot be installed here", outside.debian);
    }
}
