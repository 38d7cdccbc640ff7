//! The tables of `docs/scale.md`.

use std::time::Duration;

use session_core::cleanup::Cleanup;
use session_engine::Options;

use super::Fleet;
use super::measured::{self, COMMITS, POSTGRES, REDIS};
use super::relay::{self, Relays};

/// Every table that is computed, in the order of the page.
pub fn tables() -> Vec<String> {
    vec![
        workload(),
        homes(),
        servers(),
        followers(),
        relays(),
        cleanup(),
        connections(),
        settings(),
        figures(),
    ]
}

fn workload() -> String {
    let fleet = Fleet::of_the_page();
    table(
        ["", "per second", "from"],
        [
            ["requests".into(), number(fleet.requests), "given".into()],
            ["sign-ins, and as many ends".into(), number(fleet.sign_ins()), life(&fleet)],
            ["renewals".into(), number(fleet.renewals()), "`renew_after` 600 s".into()],
            ["changes".into(), number(fleet.entries()), "a renewal is two".into()],
            [
                "log entries that invalidate".into(),
                number(fleet.invalidations()),
                "all but the sign-ins".into(),
            ],
        ],
    )
}

fn life(fleet: &Fleet) -> String {
    let days = fleet.options.timeouts.absolute.unwrap_or_default().as_secs() / (24 * 3600);
    format!("`timeouts.absolute`, {days} days")
}

/// One node with and without affinity.
fn homes() -> String {
    let one = Fleet::of_the_page();
    let all = Fleet { homes: one.nodes, ..one.clone() };
    let roomy = all.clone().with(|options| options.with_cache_capacity(6_000_000));
    let fleets = [one, all, roomy];
    let row = |name: &str, of: &dyn Fn(&Fleet) -> f64, unit: &str| {
        let [one, all, roomy] = fleets.each_ref().map(|fleet| number(of(fleet)) + unit);
        [name.into(), one, all, roomy]
    };
    table(
        ["one node, per second", "one home", "any node", "any node, capacity 6,000,000"],
        [
            row("sessions in use that it sees", &|f| f.active * f.homes / f.nodes, ""),
            row("memory of the cache", &|f| f.cache_bytes() / 1e6, " MB"),
            row("memory of ends that it remembers", &|f| f.ends_bytes() / 1e6, " MB"),
            row("sessions read on a miss", &|f| f.loads().misses, ""),
            row("sessions read again after a change", &|f| f.loads().again, ""),
            row("records read by renewals", &|f| f.loads().renewed, ""),
            row("sessions written back", &|f| f.write_back().sessions, ""),
            row("calls of `touch`", &|f| f.write_back().calls, ""),
        ],
    )
}

/// What the store has to bear.
fn servers() -> String {
    let one = Fleet::of_the_page();
    let all = Fleet { homes: one.nodes, ..one.clone() };
    let row = |name: &str, of: &dyn Fn(&Fleet) -> f64, unit: &str| {
        [name.into(), number(of(&one)) + unit, number(of(&all)) + unit]
    };
    table(
        ["the store, per second", "one home", "any node"],
        [
            row("commits", &Fleet::entries, ""),
            row("reads of a session", &|f| f.loads().all() * f.nodes, ""),
            row("sessions written back", &|f| f.write_back().sessions * f.nodes, ""),
            row("calls of `touch`", &|f| f.write_back().calls * f.nodes, ""),
            row("sessions, PostgreSQL", &|f| f.sessions * POSTGRES.session / 1e9, " GB"),
            row("sessions, Redis", &|f| f.sessions * REDIS.session / 1e9, " GB"),
            row(
                "ended sessions of 30 days, PostgreSQL",
                &|f| f.history_bytes(&POSTGRES) / 1e9,
                " GB",
            ),
            row("ended sessions of a day, Redis", &|f| f.history_bytes(&REDIS) / 1e9, " GB"),
            row("ended sessions deleted", &Fleet::sign_ins, ""),
            row("PostgreSQL servers for the commits", &|f| (f.entries() / COMMITS).ceil(), ""),
            row(
                "cores of PostgreSQL for the write-back",
                &|f| f.write_back().sessions * f.nodes * POSTGRES.touched,
                "",
            ),
        ],
    )
}

/// Every node reads the log: with the number of nodes, at the same number of changes.
fn followers() -> String {
    let rows = [1.0, 10.0, 50.0, 100.0, 1_000.0].map(|nodes| {
        let silent = Fleet { nodes, ..Fleet::of_the_page() };
        let pushed = Fleet { pushes: true, ..silent.clone() };
        let follower = silent.follower();
        let sent = follower.entries * nodes * POSTGRES.entry_sent;
        [
            number(nodes),
            number(pushed.follower().statements * nodes),
            number(follower.statements * nodes),
            number(follower.entries * nodes),
            number(sent / 1e6),
            number(cores(&silent)),
        ]
    });
    let heads = ["nodes", "statements, push", "statements", "entries", "MB", "cores of PostgreSQL"];
    table(heads, rows)
}

/// Cores of the store that the followers keep busy.
fn cores(fleet: &Fleet) -> f64 {
    let follower = fleet.follower();
    fleet.nodes * busy(follower.statements, follower.entries)
}

/// Cores of the store that so many statements keep busy, which answer with so many entries.
fn busy(statements: f64, entries: f64) -> f64 {
    statements * POSTGRES.read + entries * POSTGRES.of_entry()
}

fn relays() -> String {
    let (fleet, relays) = (Fleet::of_the_page(), Relays::default());
    let full = relay::frame(1_000.0, relays.cursor);
    table(
        ["", "relays of 50 nodes", "every node reads"],
        [
            ["readers of the log".into(), number(relays.count(&fleet)), number(fleet.nodes)],
            [
                "entries that the store sends, per second".into(),
                number(relays.entries_read(&fleet)),
                number(fleet.invalidations() * fleet.nodes),
            ],
            [
                "cores of PostgreSQL".into(),
                number(busy(relays.statements(&fleet), relays.entries_read(&fleet))),
                number(cores(&fleet)),
            ],
            ["frames to a node, per second".into(), number(relays.frames(&fleet)), "–".into()],
            ["bytes of a frame of 1,000".into(), number(full), "–".into()],
            [
                "to a node, per second".into(),
                number(relays.bytes_to_node(&fleet) / 1e3) + " kB",
                number(fleet.invalidations() * POSTGRES.entry_sent / 1e3) + " kB",
            ],
            [
                "from a relay, per second".into(),
                number(relays.bytes_from_relay(&fleet) / 1e6) + " MB",
                "–".into(),
            ],
        ],
    )
}

fn cleanup() -> String {
    let fleet = Fleet::of_the_page();
    let tuned = fleet.clone().with(|options| options.with_cleanup(tuned_cleanup()));
    let row = |name: &str, of: &dyn Fn(&Fleet) -> f64, unit: &str| {
        [name.into(), number(of(&fleet)) + unit, number(of(&tuned)) + unit]
    };
    table(
        ["PostgreSQL", "defaults", "`log_retention` 600"],
        [
            row("entries written per second", &Fleet::entries, ""),
            row("entries trimmed per second, at most", &|f| f.cleanup(&POSTGRES).trimmed, ""),
            row("runs of the cleanup in an hour, at most", &|f| f.cleanup(&POSTGRES).runs, ""),
            row("entries kept, with that many runs", &|f| f.cleanup(&POSTGRES).kept, ""),
            row("the log then", &|f| f.cleanup(&POSTGRES).kept * POSTGRES.entry / 1e9, " GB"),
            row("entries before each run, with one in an hour", &|f| f.cleanup(&POSTGRES).most, ""),
            row("the log then", &|f| f.cleanup(&POSTGRES).most * POSTGRES.entry / 1e9, " GB"),
            row("a run ends what an hour has left, in", &|f| f.cleanup(&POSTGRES).sweep, " s"),
        ],
    )
}

/// With a log that reaches back no longer than nodes need.
fn tuned_cleanup() -> Cleanup {
    Cleanup::default().with_log_retention(Duration::from_secs(600))
}

fn connections() -> String {
    let fleet = Fleet::of_the_page();
    let rows = [POSTGRES, REDIS].map(|cost| {
        let all = number(cost.connections * fleet.nodes);
        [cost.name.into(), number(cost.connections), all]
    });
    table(["store", "of a node, to each server", "of the fleet, on each server"], rows)
}

/// What to turn, and what it changes.
fn settings() -> String {
    let page = Fleet::of_the_page();
    let calm = page.clone().with(|options| options.with_renew_after(None));
    let slow = calm.clone().with(|o| o.with_propagation_bound(Duration::from_secs(5)));
    let rare = page.clone().with(|options| {
        let rule = options.write_back.with_every_hits(100).with_max_delay(Duration::from_secs(300));
        options.with_write_back(rule)
    });
    let statements = |fleet: &Fleet| number(fleet.follower().statements * fleet.nodes);
    let touched = |fleet: &Fleet| number(fleet.write_back().sessions * fleet.nodes);
    table(
        ["setting", "from", "to", "what changes, per second", "from", "to"],
        [
            row6("`renew_after`", "600", "none", "log entries", [&page, &calm], |f| {
                number(f.entries())
            }),
            row6("the same", "600", "none", "statements of followers", [&page, &calm], statements),
            row6(
                "`propagation_bound`, without renewal",
                "1",
                "5",
                "statements of followers",
                [&calm, &slow],
                statements,
            ),
            row6(
                "`write_back.every_hits`, `max_delay`",
                "10, 30",
                "100, 300",
                "sessions written back",
                [&page, &rare],
                touched,
            ),
        ],
    )
}

fn row6(
    name: &str,
    from: &str,
    to: &str,
    what: &str,
    [before, after]: [&Fleet; 2],
    of: impl Fn(&Fleet) -> String,
) -> [String; 6] {
    [name.into(), from.into(), to.into(), what.into(), of(before), of(after)]
}

fn figures() -> String {
    let row = |name: &str, of: &dyn Fn(&measured::Cost) -> f64| {
        [name.into(), number(of(&POSTGRES)), number(of(&REDIS))]
    };
    table(
        ["measured", "PostgreSQL 15", "Redis 7.0"],
        [
            row("a read of the log that finds nothing, µs", &|c| c.read * 1e6),
            row("a page of 1,000 entries, ms", &|c| c.page * 1e3),
            row("an entry that is kept, bytes", &|c| c.entry),
            row("an entry that is sent, bytes", &|c| c.entry_sent),
            row("a session that is kept, bytes", &|c| c.session),
        ],
    )
}

impl Fleet {
    fn with(mut self, change: impl FnOnce(Options) -> Options) -> Self {
        self.options = change(self.options);
        self
    }
}

/// A table in Markdown: the first column to the left, the others as they come.
fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = vec!["---".to_owned(); N];
    let heads = heads.map(str::to_owned);
    let rows = rows.into_iter().map(|row| line(&row));
    [line(&heads), line(&rule)].into_iter().chain(rows).collect()
}

/// Three digits that count, with commas between thousands.
pub fn number(value: f64) -> String {
    let decimals = if value == 0.0 || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let rest = rest.trim_end_matches('0');
    let grouped = whole.as_bytes().rchunks(3).rev().map(|some| String::from_utf8_lossy(some));
    let grouped = grouped.collect::<Vec<_>>().join(",");
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that differs is printed, so that it can be pasted into the page.
    #[test]
    fn the_page_has_every_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scale.md");
        let text = std::fs::read_to_string(path).unwrap();
        let missing: Vec<_> =
            tables().into_iter().filter(|table| !text.contains(table.as_str())).collect();
        assert!(missing.is_empty(), "not in docs/scale.md:\n\n{}", missing.join("\n"));
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let texts = [0.0, 0.25, 3.0, 42.14, 1_234.6, 1e8].map(number);
        assert_eq!(texts, ["0", "0.25", "3", "42.1", "1,235", "100,000,000"]);
    }
}
