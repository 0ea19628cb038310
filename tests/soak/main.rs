//! Runs the service under load and faults of every kind for minutes, and then compares its counts with what it acknowledged: tasks, calls,
//! costs, and the events of objectives.
//!
//! `cargo xtask soak --minutes N` runs it. The faults: `kill -9`, a stop by SIGTERM, a reload, a full disk, a clock that steps forward
//! or back, clients that send slowly or nothing, and readers that never read. Their order follows from the seed.

mod load;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use load::{Counts, Load};
use service::Service;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long a full disk lasts.
const FULL_DISK: Duration = Duration::from_secs(2);
/// After the load, the last traces settle and those that wait for a retry are acknowledged.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Stop,
    Reload,
    FullDisk,
    ClockForward,
    ClockBack,
    SlowClients,
    SilentClients,
    IdleReaders,
}

/// How much memory the service may take, in bytes: `max_in_flight` and as much for what it keeps.
const MAX_MEMORY: u64 = 384 << 20;

const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Reload,
    Fault::FullDisk,
    Fault::ClockForward,
    Fault::ClockBack,
    Fault::SlowClients,
    Fault::SilentClients,
    Fault::IdleReaders,
];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [service::SERVE, folder] => service::serve(folder.as_ref()).await,
        [minutes, seed] => {
            let minutes: f64 = minutes.parse().expect("the first argument is a number of minutes");
            soak(Duration::from_secs_f64(60.0 * minutes), seed.parse().expect("the second argument is a whole number"));
        }
        _ => panic!("expected a number of minutes and a seed"),
    }
}

fn soak(time: Duration, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut service = Service::start();
    let load = Load::start(service.url.clone(), seed);
    let (begun, mut faults, mut memory) = (Instant::now(), BTreeMap::<Fault, u32>::new(), 0);
    let mut clients: Vec<TcpStream> = Vec::new();
    while begun.elapsed() < time {
        std::thread::sleep(Duration::from_millis(random.u64(200..2_000)));
        memory = memory.max(service.memory());
        // Clients of the fault before have gone.
        clients.clear();
        let fault = FAULTS[random.usize(..FAULTS.len())];
        *faults.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => service.restart(false),
            Fault::Stop => service.restart(true),
            Fault::Reload => service.change_objectives(random.f64()),
            Fault::FullDisk => {
                service.fill_disk(true);
                std::thread::sleep(FULL_DISK);
                service.fill_disk(false);
            }
            Fault::ClockForward => service.step_clock(random.i64(1..100)),
            Fault::ClockBack => service.step_clock(-random.i64(1..100)),
            Fault::SlowClients => {
                let head = "host: localhost\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{";
                let request = format!("POST /v1/traces HTTP/1.1\r\n{head}");
                send_slowly(connect(service.address(), 30, request.as_bytes()));
            }
            Fault::SilentClients => clients.extend(connect(service.address(), 30, b"")),
            Fault::IdleReaders => {
                clients.extend(connect(service.address(), 30, b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n"));
            }
        }
    }
    drop(clients);
    let acknowledged = load.stop();
    // An objective counts events that are ahead of the service's time once it has come to them.
    service.set_clock(0);
    assert_settles(&service, &acknowledged, &format!("seed {seed}"));
    service.restart(false);
    assert_settles(&service, &acknowledged, &format!("after the last kill, seed {seed}"));
    let mut all = Counts::default();
    acknowledged.values().for_each(|counts| all.add(counts));
    assert!(all.tasks > 0, "the load was acknowledged");
    let faults: Vec<String> = faults.iter().map(|(fault, times)| format!("{fault:?} {times}")).collect();
    assert!(memory < MAX_MEMORY, "the service took {} MiB", memory >> 20);
    println!(
        "| {} | {} | {} | {} | {} MiB | {seed} |",
        time.as_secs_f64() / 60.0,
        all.tasks,
        all.failed,
        faults.join(", "),
        memory >> 20
    );
}

/// Waits until the service counts exactly what was acknowledged. Panics if that takes too long, with the agents that differ.
fn assert_settles(service: &Service, acknowledged: &BTreeMap<String, Counts>, when: &str) {
    let begun = Instant::now();
    loop {
        let counted = service.counts();
        if counted == *acknowledged {
            return;
        }
        if begun.elapsed() > PATIENCE {
            let agents: BTreeSet<&String> = counted.keys().chain(acknowledged.keys()).collect();
            let differ = agents.into_iter().filter(|agent| counted.get(*agent) != acknowledged.get(*agent));
            let show = |agent: &String| {
                format!("{agent}: counted {:?}, acknowledged {:?}", counted.get(agent), acknowledged.get(agent))
            };
            panic!("{when}: {:#?}", differ.map(show).collect::<Vec<_>>());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Opens connections that send this, and do no more.
fn connect(to: SocketAddr, count: usize, send: &[u8]) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
        stream.write_all(send).ok()?;
        Some(stream)
    };
    (0..count).filter_map(open).collect()
}

/// Sends a byte now and then over each connection, until the service closes all of them or the time is over.
fn send_slowly(mut clients: Vec<TcpStream>) {
    std::thread::spawn(move || {
        for _ in 0..50 {
            clients.retain_mut(|client| client.write_all(b" ").is_ok());
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

/// Returns the body of an answer with status 200 to a `GET`.
fn get(from: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&from, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
}
