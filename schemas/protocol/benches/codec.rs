//! What a frame costs on its way between laptop and agent.

#![expect(clippy::unwrap_used, reason = "a broken bench is to end")]

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use protocol::agent::{Data, ToAgent, Walk, request, to_agent};
use protocol::codec;
use std::hint::black_box;

fn frame(body: to_agent::Body) -> ToAgent {
    ToAgent { body: Some(body) }
}

fn frames(criterion: &mut Criterion) {
    let chunk =
        frame(to_agent::Body::Data(Data { stream: 7, bytes: Bytes::from(vec![1; codec::MAX_CHUNK]) }));
    let walk = Walk {
        path: Bytes::from_static(b"/etc/sample/banner.txt"),
        follow: true,
        inline: 65_536,
        list: true,
        keep: true,
    };
    let question =
        frame(to_agent::Body::Request(protocol::agent::Request { id: 9, op: Some(request::Op::Walk(walk)) }));
    for (name, message) in [("a full chunk", &chunk), ("a walk", &question)] {
        let mut encoded = BytesMut::new();
        codec::encode(message, &mut encoded).unwrap();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function("encode", |bench| {
            let mut out = BytesMut::with_capacity(encoded.len());
            bench.iter(|| {
                out.clear();
                codec::encode(black_box(message), &mut out).unwrap();
            });
        });
        group.bench_function("decode", |bench| {
            let decode = |mut buffer: BytesMut| codec::decode::<ToAgent>(&mut buffer).unwrap().unwrap();
            bench.iter_batched(|| encoded.clone(), decode, BatchSize::SmallInput);
        });
        group.finish();
    }
}

criterion_group!(benches, frames);
criterion_main!(benches);
