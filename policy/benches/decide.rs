//! What a path costs: decided in every trapped call and in every call of the layer.

#![expect(clippy::unwrap_used, reason = "a broken bench is to end")]

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{PathTable, PathView, RuleKind, Verdict};
use std::hint::black_box;

/// As many rules as a pod with a few mounts has.
fn table() -> PathTable {
    let mut table = PathTable::new(Verdict::Local);
    for number in 0..12 {
        let mount = format!("/var/run/secrets/mount-{number}");
        table.push(RuleKind::Tree, mount.as_bytes(), Verdict::RemoteRead).unwrap();
    }
    for file in ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"] {
        table.push(RuleKind::Exact, file.as_bytes(), Verdict::RemoteRead).unwrap();
    }
    table
}

fn decide(criterion: &mut Criterion) {
    let table = table();
    let view = PathView::from_bytes(table.to_bytes()).unwrap();
    for (name, path) in [
        ("local", "/home/ann/shop/node_modules/express/lib/router/index.js"),
        ("pod", "/var/run/secrets/mount-11/token"),
        ("untidy", "/home/ann/./shop//src/../app.py"),
    ] {
        criterion.bench_function(&format!("decide {name}"), |bench| {
            bench.iter(|| view.decide(black_box(path.as_bytes())));
        });
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
