use serde::{Deserialize, Serialize};

/// A measured figure with its required bound. Benchmarks that are not criterion's write them as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) measured: f64,
    /// `ns` is shown as ns, µs or ms.
    pub(super) unit: String,
    pub(super) required: Required,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Required {
    AtMost(f64),
    AtLeast(f64),
    /// At most this multiple of the peer's time.
    Times {
        most: f64,
        peer: String,
        of_peer: f64,
    },
}

impl Figure {
    /// Returns a number that is larger for a worse result.
    fn badness(&self) -> f64 {
        match self.required {
            Required::AtMost(_) => self.measured,
            Required::AtLeast(_) => -self.measured,
            Required::Times { of_peer, .. } => self.measured / of_peer,
        }
    }

    fn is_met(&self) -> bool {
        match self.required {
            Required::AtMost(most) => self.measured <= most,
            Required::AtLeast(least) => self.measured >= least,
            Required::Times { most, of_peer, .. } => self.measured / of_peer <= most,
        }
    }
}

/// Returns a table with a row for each figure: the range over all runs, and the worst of them, which has to meet the bound.
/// Every run has the same figures.
pub(super) fn table(runs: &[Vec<Figure>]) -> String {
    let mut table =
        "| what | measured | required | peer | worst ratio | |\n| --- | ---: | ---: | ---: | ---: | --- |\n".to_owned();
    for index in 0..runs.first().map_or(0, Vec::len) {
        let figures: Vec<&Figure> = runs.iter().filter_map(|run| run.get(index)).collect();
        table.extend(row(&figures));
    }
    table
}

fn row(figures: &[&Figure]) -> Option<String> {
    let worst = figures.iter().max_by(|a, b| a.badness().total_cmp(&b.badness()))?;
    let of_runs = || figures.iter().map(|figure| figure.measured);
    let (least, most) = (of_runs().fold(f64::INFINITY, f64::min), of_runs().fold(f64::NEG_INFINITY, f64::max));
    let unit = &worst.unit;
    let (required, peer, ratio) = match &worst.required {
        Required::AtMost(most) => (format!("≤ {}", amount(*most, unit)), "–".to_owned(), "–".to_owned()),
        Required::AtLeast(least) => (format!("≥ {}", amount(*least, unit)), "–".to_owned(), "–".to_owned()),
        Required::Times { most, peer, of_peer } => {
            let ratio = worst.measured / of_peer;
            (format!("≤ {most:.2} ×"), format!("`{peer}` {}", amount(*of_peer, unit)), format!("{ratio:.2}"))
        }
    };
    let (least, most) = (amount(least, unit), amount(most, unit));
    let range = if least == most { least } else { format!("{least} – {most}") };
    let mark = if worst.is_met() { "met" } else { "**missed**" };
    Some(format!("| {} | {range} | {required} | {peer} | {ratio} | {mark} |\n", worst.what))
}

fn amount(value: f64, unit: &str) -> String {
    let (value, unit) = match (unit, value) {
        ("ns", value) if value >= 1e6 => (value / 1e6, "ms"),
        ("ns", value) if value >= 1e3 => (value / 1e3, "µs"),
        _ => (value, unit),
    };
    let number = match value.abs() {
        size if size >= 10_000.0 => format!("{},{:03}", value as i64 / 1_000, value as i64 % 1_000),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_met_when_its_worst_run_is() {
        let of = |measured, of_peer| Figure {
            what: "call".to_owned(),
            measured,
            unit: "ns".to_owned(),
            required: Required::Times { most: 2.0, peer: "peer".to_owned(), of_peer },
        };
        let runs = [of(150.0, 100.0), of(90.0, 40.0), of(1_500.0, 1_000.0)];
        let table = table(&runs.map(|figure| vec![figure]));
        let row = table.lines().nth(2).unwrap();
        assert_eq!(row, "| call | 90.0 ns – 1.50 µs | ≤ 2.00 × | `peer` 40.0 ns | 2.25 | **missed** |");
    }

    #[test]
    fn amounts_have_three_digits() {
        assert_eq!(amount(204_842.4, "a second"), "204,842 a second");
        assert_eq!(amount(1_260_000.0, "ns"), "1.26 ms");
        assert_eq!((amount(198.4, "MiB"), amount(-0.5, "%")), ("198 MiB".to_owned(), "-0.50 %".to_owned()));
    }
}
