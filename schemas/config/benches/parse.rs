//! What a mirrord.json costs: read at each start, and at each key that is pressed in it.

use config_schema::{Format, parse};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const CONFIG: &str = r#"{
    "target": { "path": "deployment/shop/container/app", "namespace": "staging" },
    "agent": { "namespace": "agents", "tolerations": [{ "operator": "Exists" }], "log_level": "info" },
    "feature": {
        "env": { "exclude": ["PATH", "HOME", "KUBE*"], "override": { "LEVEL": "debug" } },
        "fs": { "mode": "read" },
        "network": {
            "incoming": { "mode": "steal", "ports": [8080], "http_filter": { "header_filter": "^x-debug: ann$" } },
            "outgoing": { "tcp": true, "udp": true },
            "dns": true
        }
    }
}"#;
/// The same with two mistakes, which are to be found with their places.
const MISTAKEN: &str =
    r#"{ "targett": "pod/shop", "feature": { "network": { "incoming": { "outgoing": true } } } }"#;

fn configs(criterion: &mut Criterion) {
    for (name, text) in [("right", CONFIG), ("mistaken", MISTAKEN)] {
        assert_eq!(parse(text, Format::Json).has_errors(), name == "mistaken");
        criterion.bench_function(&format!("parse {name}"), |bench| {
            bench.iter(|| parse(black_box(text), Format::Json))
        });
    }
}

criterion_group!(benches, configs);
criterion_main!(benches);
