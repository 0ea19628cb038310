//! A receiver of alerts that deduplicates by incident key.

use std::collections::HashMap;

/// The beginnings and ends of incidents, by key.
#[derive(Clone, Debug, Default)]
pub struct Incidents(HashMap<String, Incident>);

/// An incident as a receiver that deduplicates sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incident {
    /// Whether it has begun and not ended.
    pub is_open: bool,
    /// Number of beginnings, repeats not counted.
    pub begins: usize,
    /// Number of ends, repeats not counted. An end without a beginning counts: it is an error.
    pub ends: usize,
}

impl Incidents {
    /// Records a notification that the incident has begun or ended.
    pub fn record(&mut self, key: &str, is_end: bool) {
        let incident = self.0.entry(key.to_owned()).or_default();
        match is_end {
            true if incident.is_open || incident.begins == 0 => incident.ends += 1,
            false if !incident.is_open => incident.begins += 1,
            _ => {}
        }
        incident.is_open = !is_end;
    }

    /// Returns the incidents by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Incident)> {
        self.0.iter().map(|(key, incident)| (&**key, *incident))
    }

    /// Returns the number of incidents.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no incident.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of incidents for which `is_counted` returns true.
    pub fn count(&self, is_counted: impl Fn(Incident) -> bool) -> usize {
        self.0.values().filter(|incident| is_counted(**incident)).count()
    }
}

impl Incident {
    /// Returns whether it began once and ended once.
    pub fn is_whole(self) -> bool {
        self == Self { is_open: false, begins: 1, ends: 1 }
    }
}
