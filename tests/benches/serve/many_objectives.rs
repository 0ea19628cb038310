//! What an open page and a scrape cost with many objectives, all of which change every second.

use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::{Service, figure, memory, nanos, post_to};

const OBJECTIVES: usize = 1_000;
const AGENTS: usize = 20;

pub(super) fn measure(folder: &Path, time: Duration) -> Vec<Value> {
    let objective =
        |number| format!("name: answers-{number}\ntarget: 0.95\nindicators: [{{type: task_success_rate}}]\n");
    let objectives: Vec<String> = (0..OBJECTIVES).map(objective).collect();
    std::fs::write(folder.join("slos.yaml"), objectives.join("---\n")).expect("a file");
    std::fs::write(folder.join("sre.yaml"), "data: data\nslos: [slos.yaml]\n").expect("a file");
    let service = Service::start(folder);
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (service.address.clone(), stop.clone());
    let load = std::thread::spawn(move || {
        let mut stream = BufReader::new(TcpStream::connect(address).expect("a service"));
        for task in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            assert_eq!(post_to(&mut stream, "/v1/events/sre", tasks(task).as_bytes()), 200);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    std::thread::sleep(Duration::from_secs(5));
    let process = service.child.id();
    let (cores, before) = use_of(process, time);
    let (address, stopped) = (service.address.clone(), stop.clone());
    let page = std::thread::spawn(move || read(&address, &stopped));
    std::thread::sleep(Duration::from_secs(3));
    let (cores_with_page, with_page) = use_of(process, time);
    let (mut times, mut series) = (Vec::new(), 0);
    for _ in 0..9 {
        let (time, answer) = service.get("/metrics");
        series = answer.lines().filter(|line| line.starts_with("sre_")).count();
        times.push(time);
        // A scrape that is still being sent would be shared.
        std::thread::sleep(Duration::from_millis(1_100));
    }
    times.sort_unstable();
    stop.store(true, Ordering::Relaxed);
    load.join().expect("the load");
    let received = page.join().expect("the page") as f64;
    service.kill();
    let of = format!("{} objectives that change every second", OBJECTIVES * AGENTS);
    eprintln!(
        "{of}: {cores:.3} cores and {before:.0} MiB without a page, {series} series, {:.0} kB received",
        received / 1e3
    );
    vec![
        figure(format!("an open page, {of}"), (cores_with_page - cores) * 100.0, "%", json!({"at_most": 10})),
        figure(format!("memory for an open page, {of}"), with_page - before, "MiB", json!({"at_most": 300})),
        figure(format!("`/metrics`, per series, {of}"), nanos(times[4]) / series as f64, "ns", json!({"at_most": 300})),
    ]
}

/// Returns a task of each agent, which has just finished.
fn tasks(number: usize) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
    (0..AGENTS).fold(String::new(), |mut lines, agent| {
        let success = !(number + agent).is_multiple_of(7);
        let _ = writeln!(
            lines,
            "{{\"event\":\"task_finished\",\"time\":{now:.3},\"agent\":\"agent-{agent:02}\",\"task\":\"{number}\",\"success\":{success},\"duration_ms\":20}}"
        );
        lines
    })
}

/// Returns the cores that a process uses for some time, and its largest resident memory meanwhile, in MiB.
fn use_of(process: u32, time: Duration) -> (f64, f64) {
    // Forgets the largest so far.
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("a process");
    (cores(process, time), memory(process, "VmHWM:"))
}

/// Returns the cores that a process uses.
fn cores(process: u32, time: Duration) -> f64 {
    /// Clock ticks a second, which Linux has for `/proc` on every architecture that this runs on.
    const TICKS: f64 = 100.0;
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
        let fields: Vec<f64> =
            stat.rsplit(')').next().unwrap_or_default().split(' ').filter_map(|field| field.parse().ok()).collect();
        // The numbers after the state and the name: user and system time are the 11th and 12th of them.
        fields[10] + fields[11]
    };
    let (begun, before) = (Instant::now(), ticks());
    std::thread::sleep(time);
    (ticks() - before) / TICKS / begun.elapsed().as_secs_f64()
}

/// Reads live updates as a page does. Returns the number of bytes.
fn read(address: &str, stop: &AtomicBool) -> usize {
    let mut stream = TcpStream::connect(address).expect("a service");
    stream.write_all(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let (mut part, mut received) = (vec![0; 1 << 20], 0);
    while !stop.load(Ordering::Relaxed) {
        received += stream.read(&mut part).expect("an update");
    }
    received
}
