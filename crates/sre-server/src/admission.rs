use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use agent_sre::private::lock;
use agent_sre::{Collect, Metric, Timestamp};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Config;

/// Decides which connections are accepted: at most a number in all, and at most a number of each address.
///
/// Networks that are exempt have no limit of their own. An IPv6 client is its /64 network, since most have a whole one to choose
/// addresses from.
#[derive(Debug)]
pub(crate) struct Admission {
    max_connections: usize,
    max_per_address: usize,
    exempt: Vec<IpNet>,
    open: Mutex<Open>,
    counters: ConnectionCounters,
}

/// The number of open connections.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Connections that the service has closed.
#[derive(Debug, Default)]
struct ConnectionCounters {
    beyond_all: AtomicU64,
    beyond_address: AtomicU64,
    timed_out: AtomicU64,
}

/// A connection slot, released on drop.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    /// The address whose limit it counts for; `None` for an exempt one.
    address: Option<IpAddr>,
}

impl Admission {
    /// Returns the limits of a configuration, from which this machine and the trusted proxies are exempt.
    pub(crate) fn new(config: &Config) -> Self {
        let loopback = [Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).into(), Ipv6Net::from(Ipv6Addr::LOCALHOST).into()];
        let exempt = IntoIterator::into_iter(loopback).chain(config.trusted_proxies.iter().copied()).collect();
        let server_limits = &config.server_limits;
        Self::with_exempt(server_limits.max_connections, server_limits.connections_per_address(), exempt)
    }

    pub(crate) fn with_exempt(max_connections: usize, max_per_address: usize, exempt: Vec<IpNet>) -> Self {
        Self {
            max_connections,
            max_per_address,
            exempt,
            open: Mutex::default(),
            counters: ConnectionCounters::default(),
        }
    }

    /// Admits a connection from an address, or counts it as refused and returns `None`.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let address = address.to_canonical();
        let address = (!self.exempt.iter().any(|network| network.contains(&address))).then(|| client_of(address));
        let mut open = lock(&self.open);
        if open.all >= self.max_connections {
            self.counters.beyond_all.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Some(address) = address {
            let own = open.by_address.get(&address).copied().unwrap_or_default();
            if own >= self.max_per_address {
                self.counters.beyond_address.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            open.by_address.insert(address, own + 1);
        }
        open.all += 1;
        drop(open);
        Some(Admitted { admission: self.clone(), address })
    }
}

impl Admitted {
    /// Counts that the connection is closed because its client was too slow.
    pub(crate) fn count_timeout(&self) {
        self.admission.counters.timed_out.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = lock(&self.admission.open);
        open.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(own) = open.by_address.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// Returns the address that stands for a client.
fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Net::new_assert(address, 64).network().into(),
        IpAddr::V4(_) => address,
    }
}

impl Collect for Admission {
    fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let counters = &self.counters;
        let open = Metric::gauge("sre.server.connections", lock(&self.open).all as f64);
        emit(open.with_help("Open connections."));
        for (limit, counter) in
            [("max_connections", &counters.beyond_all), ("max_connections_per_address", &counters.beyond_address)]
        {
            let refused = Metric::counter("sre.server.refused_connections", count(counter));
            let help = "Connections closed at once because of a limit.";
            emit(refused.with_labels(&[("limit", limit)]).with_help(help));
        }
        let timed_out = Metric::counter("sre.server.timed_out_connections", count(&counters.timed_out));
        emit(timed_out.with_help("Connections closed because the client exceeded `client_timeout`."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerLimits;

    fn admission(trusted_proxies: &[&str]) -> Arc<Admission> {
        let trusted_proxies = trusted_proxies.iter().map(|network| network.parse().unwrap()).collect();
        let server_limits = ServerLimits { max_connections: 12, ..ServerLimits::default() };
        Arc::new(Admission::new(&Config { trusted_proxies, server_limits, ..Config::default() }))
    }

    fn admitted(admission: &Arc<Admission>, address: &str, connections: usize) -> Vec<Admitted> {
        let address = address.parse().unwrap();
        (0..connections).filter_map(|_| admission.admit(address)).collect()
    }

    #[test]
    fn an_address_gets_a_quarter_of_all_connections_and_all_of_them_are_bounded() {
        let limits = admission(&[]);
        let first = admitted(&limits, "203.0.113.1", 5);
        assert_eq!(first.len(), 3);
        // An IPv4 client on an IPv6 socket is the same client.
        assert!(admitted(&limits, "::ffff:203.0.113.1", 1).is_empty());
        let others = ["203.0.113.2", "203.0.113.3", "2001:db8::1"].map(|address| admitted(&limits, address, 5));
        assert_eq!(others.each_ref().map(Vec::len), [3; 3]);
        assert!(admitted(&limits, "203.0.113.4", 1).is_empty(), "all connections are in use");
        drop(first);
        assert_eq!(admitted(&limits, "203.0.113.1", 5).len(), 3);
        assert!(lock(&limits.open).by_address.len() == 3, "addresses without connections are evicted");
    }

    #[test]
    fn an_ipv6_client_is_a_network_of_64_bits() {
        let limits = admission(&[]);
        let held = admitted(&limits, "2001:db8:0:1::1", 2);
        assert_eq!(admitted(&limits, "2001:db8:0:1:ffff::2", 5).len(), 1);
        assert_eq!(admitted(&limits, "2001:db8:0:2::1", 5).len(), 3);
        drop(held);
    }

    #[test]
    fn loopback_and_trusted_proxies_have_no_limit_of_their_own() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "192.0.2.7", "10.1.2.3", "2001:db8:5::9"] {
            let limits = admission(&["192.0.2.7/32", "10.0.0.0/8", "2001:db8:5::/48"]);
            assert_eq!(admitted(&limits, address, 20).len(), 12, "{address}");
        }
    }
}
