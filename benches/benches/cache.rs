//! Which map serves the hot path: look a session up and count the access.
//!
//! The keys are visited in one random order, so that 100,000 entries do not fit the caches of
//! the processor. A candidate must also bound its size; those marked `unbounded` are here to
//! show what that costs.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::{Arc, Mutex, RwLock};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use session_core::usage::{Activity, Timeouts, WriteBack};
use session_core::{SessionId, Timestamp};

type Entry = Arc<Mutex<Activity>>;

trait Cache {
    const NAME: &'static str;
    fn with(entries: &[(SessionId, Entry)]) -> Self;
    fn find(&self, id: &SessionId) -> Option<Entry>;
}

struct Moka(moka::sync::Cache<SessionId, Entry, RandomState>);

impl Cache for Moka {
    const NAME: &'static str = "moka";

    fn with(entries: &[(SessionId, Entry)]) -> Self {
        let capacity = entries.len() as u64 * 2;
        let cache = moka::sync::Cache::builder().max_capacity(capacity);
        let cache = cache.build_with_hasher(RandomState::default());
        entries.iter().for_each(|(id, entry)| cache.insert(*id, Arc::clone(entry)));
        Self(cache)
    }

    fn find(&self, id: &SessionId) -> Option<Entry> {
        self.0.get(id)
    }
}

struct QuickCache(quick_cache::sync::Cache<SessionId, Entry>);

impl Cache for QuickCache {
    const NAME: &'static str = "quick_cache";

    fn with(entries: &[(SessionId, Entry)]) -> Self {
        let cache = quick_cache::sync::Cache::new(entries.len() * 2);
        entries.iter().for_each(|(id, entry)| cache.insert(*id, Arc::clone(entry)));
        Self(cache)
    }

    fn find(&self, id: &SessionId) -> Option<Entry> {
        self.0.get(id)
    }
}

struct Papaya(papaya::HashMap<SessionId, Entry, RandomState>);

impl Cache for Papaya {
    const NAME: &'static str = "papaya, unbounded";

    fn with(entries: &[(SessionId, Entry)]) -> Self {
        let map = papaya::HashMap::with_hasher(RandomState::default());
        entries.iter().for_each(|(id, entry)| {
            map.pin().insert(*id, Arc::clone(entry));
        });
        Self(map)
    }

    fn find(&self, id: &SessionId) -> Option<Entry> {
        self.0.pin().get(id).cloned()
    }
}

struct Dash(dashmap::DashMap<SessionId, Entry, RandomState>);

impl Cache for Dash {
    const NAME: &'static str = "dashmap, unbounded";

    fn with(entries: &[(SessionId, Entry)]) -> Self {
        Self(entries.iter().cloned().collect())
    }

    fn find(&self, id: &SessionId) -> Option<Entry> {
        self.0.get(id).map(|entry| Arc::clone(&entry))
    }
}

struct Sharded {
    hasher: RandomState,
    shards: Vec<RwLock<HashMap<SessionId, Entry, RandomState>>>,
}

impl Sharded {
    fn shard(&self, id: &SessionId) -> &RwLock<HashMap<SessionId, Entry, RandomState>> {
        &self.shards[(self.hasher.hash_one(id) >> 56) as usize]
    }
}

impl Cache for Sharded {
    const NAME: &'static str = "256 locked maps, unbounded";

    fn with(entries: &[(SessionId, Entry)]) -> Self {
        let hasher = RandomState::default();
        let shards = (0..256).map(|_| RwLock::new(HashMap::with_hasher(hasher.clone()))).collect();
        let cache = Self { hasher, shards };
        for (id, entry) in entries {
            cache.shard(id).write().unwrap().insert(*id, Arc::clone(entry));
        }
        cache
    }

    fn find(&self, id: &SessionId) -> Option<Entry> {
        self.shard(id).read().unwrap().get(id).cloned()
    }
}

fn run<C: Cache>(criterion: &mut Criterion, entries: &[(SessionId, Entry)]) {
    let cache = C::with(entries);
    let (rule, timeouts) = (WriteBack::default(), Timeouts::default());
    let mut ids = entries.iter().map(|(id, _)| *id).cycle();
    let mut now = 0;
    let mut group = criterion.benchmark_group("find and count");
    group.bench_function(BenchmarkId::new(C::NAME, entries.len()), |bencher| {
        bencher.iter(|| {
            now += 1;
            let id = ids.next().expect("the ids go round");
            let entry = cache.find(black_box(&id)).expect("every id is resident");
            let mut activity = entry.lock().unwrap();
            black_box(activity.access(&rule, &timeouts, None, Timestamp::from_micros(now)))
        });
    });
    group.finish();
}

fn candidates(criterion: &mut Criterion) {
    for count in [1_000_u64, 100_000] {
        let hasher = RandomState::default();
        let mut entries: Vec<_> = (0..count)
            .map(|n| {
                let (high, low) = (hasher.hash_one(n), hasher.hash_one(!n));
                let id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
                let activity = Activity::stored(Timestamp::EPOCH, Vec::new());
                (SessionId::from_random(id), Arc::new(Mutex::new(activity)))
            })
            .collect();
        // Memory order and visiting order must not agree.
        entries.sort_by_key(|(id, _)| *id);
        run::<QuickCache>(criterion, &entries);
        run::<Moka>(criterion, &entries);
        run::<Sharded>(criterion, &entries);
        run::<Dash>(criterion, &entries);
        run::<Papaya>(criterion, &entries);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).without_plots();
    targets = candidates
}
criterion_main!(benches);
