//! What operators are given: health, metrics, a dashboard, alerts, and the page that explains them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use session_kit::http::Config;
use session_kit::http::metrics::METRICS as OF_HTTP;
use session_kit::metrics::{Kind, METRICS, Metric};
use yaml_rust2::{Yaml, YamlLoader};

use crate::app::{App, Ground, eventually};

const PAGE: &str = include_str!("../../../../docs/operations.md");
const ALERTS: &str = include_str!("../../../../docs/alerts.yml");
const DASHBOARD: &str = include_str!("../../../../docs/grafana/session-kit.json");

/// A probe gets 200 or 503 and what the page explains, without a session and on every adapter.
pub(crate) async fn a_probe_learns_whether_the_node_is_ready(on: Ground) {
    let briefly = |config: &mut Config| config.engine.max_staleness = Duration::from_secs(1);
    let app = App::with(on, briefly).await;
    let probe = app.stranger();
    let health = probe.get("/sessions/health").await;
    assert_eq!(health.status, 200, "{}", health.text());
    assert_eq!(health.header("cache-control"), Some("no-store"));
    let health = health.json();
    assert_eq!(health["ready"], true);
    let mut fields = BTreeSet::new();
    collect(&health, "", &mut fields);
    for field in &fields {
        assert!(PAGE.contains(&format!("| `{field}` |")), "docs/operations.md explains no {field}");
    }
    app.probe.away(true);
    eventually("the log is silent", async || probe.get("/sessions/health").await.status == 503)
        .await;
    let health = probe.get("/sessions/health").await;
    assert_eq!(health.header("retry-after"), Some("1"));
    app.probe.away(false);
    eventually("it is ready again", async || probe.get("/sessions/health").await.status == 200)
        .await;
}

/// The names of all fields, with a point between those of an object and its own.
fn collect(value: &Value, prefix: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = format!("{prefix}{name}");
                collect(value, &format!("{name}."), fields);
                fields.insert(name);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, prefix, fields)),
        _ => {}
    }
}

/// What is exported is what is documented, and Prometheus can read it.
pub(crate) async fn prometheus_reads_the_metrics(on: Ground) {
    let app = App::start(on).await;
    let browser = app.browser("alice").await;
    assert_eq!(browser.whoami().await, 200);
    let stranger = app.stranger();
    let active = r#"session_kit_checks_total{source="cache",verdict="active"}"#;
    eventually("the check is counted", async || {
        let metrics = stranger.get("/metrics").await;
        metrics.text().lines().any(|line| line.starts_with(active) && !line.ends_with(" 0"))
    })
    .await;
    let metrics = stranger.get("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    let known = known();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let metric = find(&known, name).unwrap_or_else(|| panic!("{name} is not documented"));
        seen.insert(metric.name);
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
    }
    let counters = METRICS.iter().chain(OF_HTTP).filter(|metric| metric.kind == Kind::Counter);
    for metric in counters {
        assert!(seen.contains(metric.name), "{}", metric.name);
    }
    for kind in ["token", "origin", "admin"] {
        assert!(text.contains(&format!("session_kit_http_refusals_total{{kind=\"{kind}\"}}")));
    }
    let help = format!(
        "# HELP session_kit_ready {}",
        METRICS.iter().find(|metric| metric.name == "session_kit_ready").unwrap().help
    );
    assert!(text.contains(&help), "{text}");
}

fn known() -> BTreeMap<&'static str, &'static Metric> {
    METRICS.iter().chain(OF_HTTP).map(|metric| (metric.name, metric)).collect()
}

/// The metric of a series: those of a histogram have suffixes.
fn find(known: &BTreeMap<&'static str, &'static Metric>, name: &str) -> Option<&'static Metric> {
    if let Some(metric) = known.get(name).filter(|metric| metric.kind != Kind::Histogram) {
        return Some(metric);
    }
    let suffixes = ["_bucket", "_sum", "_count"];
    let of = suffixes.iter().find_map(|suffix| known.get(name.strip_suffix(suffix)?));
    of.copied().filter(|metric| metric.kind == Kind::Histogram)
}

/// The metrics that an expression names. Each is known, and so is every label and value it selects.
fn used(expression: &str) -> Vec<&'static Metric> {
    let known = known();
    let mut used = Vec::new();
    for (at, _) in expression.match_indices("session_kit_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let metric = find(&known, name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not documented: {expression}"));
        if let Some(selector) = rest.strip_prefix('{') {
            check_selector(metric, selector.split('}').next().unwrap());
        }
        used.push(metric);
    }
    assert!(!used.is_empty(), "{expression}");
    used
}

fn check_selector(metric: &Metric, selector: &str) {
    for matcher in selector.split(", ") {
        let (label, value) = matcher.split_once('=').unwrap();
        let (label, value) = (label.trim_end_matches('!'), value.trim_start_matches('~'));
        if ["job", "instance"].contains(&label) {
            continue;
        }
        let values = metric.labels.iter().find(|(name, _)| *name == label);
        let (_, values) = values.unwrap_or_else(|| panic!("{} has no {label}", metric.name));
        for value in value.trim_matches('"').split('|') {
            assert!(values.contains(&value), "{}: {label} is never {value}", metric.name);
        }
    }
}

#[test]
fn every_alert_is_of_a_known_metric_and_explained() {
    let alerts = YamlLoader::load_from_str(ALERTS).unwrap();
    let groups = alerts[0]["groups"].as_vec().unwrap();
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_vec().unwrap()).collect();
    let mut names = BTreeSet::new();
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} stands twice");
        let expression = rule["expr"].as_str().unwrap();
        assert!(is_closed(expression), "{expression}");
        // What Prometheus itself says of its targets.
        if !expression.starts_with("up{job=") {
            used(expression);
        }
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        assert!(
            !summary.is_empty() && summary.matches("{{").count() == summary.matches("}}").count()
        );
        let runbook = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"].as_str(), Some(runbook.as_str()));
        assert!(PAGE.contains(&format!("\n### {name}\n")), "docs/operations.md explains no {name}");
        let lasts = &rule["for"];
        let is_duration = |text: &str| {
            let (number, unit) = text.split_at(text.len() - 1);
            number.parse::<u32>().is_ok() && ["s", "m", "h"].contains(&unit)
        };
        assert!(matches!(lasts, Yaml::BadValue) || is_duration(lasts.as_str().unwrap()), "{name}");
    }
    let explained = PAGE.lines().filter_map(|line| line.strip_prefix("### SessionKit"));
    assert_eq!(explained.count(), names.len(), "the page explains an alert that is not there");
}

/// Whether every quote and bracket has its end.
fn is_closed(expression: &str) -> bool {
    let mut open = Vec::new();
    let (mut is_text, mut is_whole) = (false, true);
    for c in expression.chars() {
        match c {
            '"' => is_text = !is_text,
            _ if is_text => {}
            '(' => open.push(')'),
            '{' => open.push('}'),
            '[' => open.push(']'),
            ')' | '}' | ']' => is_whole &= open.pop() == Some(c),
            _ => {}
        }
    }
    is_whole && !is_text && open.is_empty()
}

/// A push is missed where it is expected, and nowhere else: neither where the store has none, nor only for as
/// long as one was there before.
#[test]
fn a_push_that_was_never_there_is_missed_too() {
    let alerts = YamlLoader::load_from_str(ALERTS).unwrap();
    let rules = alerts[0]["groups"][0]["rules"].as_vec().unwrap();
    let lost = rules.iter().find(|rule| rule["alert"].as_str() == Some("SessionKitPushLost"));
    let expression = lost.unwrap()["expr"].as_str().unwrap();
    assert_eq!(expression, "session_kit_push_connected < session_kit_push_expected");
}

#[test]
fn the_dashboard_shows_every_metric() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut shown, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in side("x")..side("x") + side("w") {
            assert!(x < 24, "{panel}");
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().unwrap() {
            let metrics = used(target["expr"].as_str().unwrap());
            shown.extend(metrics.iter().map(|metric| metric.name));
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    for variable in &variables[1..] {
        used(variable["query"]["query"].as_str().unwrap());
    }
    let missing: Vec<_> = known().into_keys().filter(|name| !shown.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "on no panel");
}

#[test]
fn every_metric_stands_in_the_page_as_it_is() {
    let rows: Vec<_> = METRICS.iter().chain(OF_HTTP).map(row).collect();
    let missing: Vec<_> = rows.iter().filter(|row| !PAGE.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md has not:\n{}", rows.join("\n"));
    let documented = PAGE.lines().filter(|line| line.starts_with("| `session_kit_")).count();
    assert_eq!(documented, rows.len(), "the page has a metric that is not there");
}

/// The metric's line in the page's table.
fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Histogram => "histogram",
        _ => "gauge",
    };
    let unit = metric.unit.map_or("0 or 1", |unit| unit.as_str());
    let label = |(name, values): &(&str, &[&str])| format!("`{name}`: {}", values.join(", "));
    let labels: Vec<_> = metric.labels.iter().map(label).collect();
    format!("| `{}` | {kind} | {unit} | {} | {} |", metric.name, labels.join("; "), metric.help)
}
