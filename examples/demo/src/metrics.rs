//! The process's metrics, in the text format of Prometheus.

use std::sync::{Once, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use session_kit::http::metrics::{METRICS as OF_HTTP, describe};
use session_kit::metrics::METRICS;

/// The type of what [`render`] returns.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Collects the metrics of this process from now on. Another recorder of the process stays, and
/// [`render`] then has nothing to show.
pub(crate) fn collect() {
    static COLLECTING: Once = Once::new();
    COLLECTING.call_once(|| {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_ok() {
            describe();
            // Without it, histograms would grow while nobody reads them.
            let upkeep = handle.clone();
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(Duration::from_secs(5));
                    upkeep.run_upkeep();
                }
            });
            let _ = HANDLE.set(handle);
        }
    });
}

/// What has been collected.
pub(crate) fn render() -> String {
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}

fn builder() -> PrometheusBuilder {
    let histograms = METRICS.iter().chain(OF_HTTP).filter(|metric| !metric.buckets.is_empty());
    histograms.fold(PrometheusBuilder::new(), |builder, metric| {
        let name = Matcher::Full(metric.name.to_owned());
        // Only a histogram without a bucket is refused.
        builder.set_buckets_for_metric(name, metric.buckets).unwrap_or_default()
    })
}

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
