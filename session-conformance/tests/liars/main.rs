//! The kit must be able to fail: stores that each break one guarantee, and the case that has to
//! find out.

mod blocking;
mod changing;
mod damaging;
mod ending;
mod fault;
mod liar;
mod logging;
mod paging;
mod reading;
mod remembering;
mod sharing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use session_conformance::{
    Backend, CASES, Namespace, RestorePoint, Store, async_trait, run, run_case_within,
};
use session_core::policy::PolicyScope;
use session_core::store::Change;
use session_core::{Session, SessionId, UserKey};
use session_store_memory::MemoryStore;
use tokio::task::JoinSet;

use crate::damaging::Setting;
use crate::fault::Fault;
use crate::liar::{Liar, World};

struct Liars(Fault);

struct Fresh(Fault, Arc<World>);

#[async_trait]
impl Backend for Liars {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Fresh(self.0, Arc::default()))
    }
}

#[async_trait]
impl Namespace for Fresh {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(Liar::new(self.0, Arc::clone(&self.1)).await)
    }

    async fn damage(&self, id: SessionId) -> bool {
        Liar::new(Fault::None, Arc::clone(&self.1)).await.notes().damaged.insert(id)
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        Liar::new(Fault::None, Arc::clone(&self.1)).await.notes().damaged_entries.insert(id)
    }

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        let liar = Liar::new(Fault::None, Arc::clone(&self.1)).await;
        let scope = PolicyScope::User(owner.clone());
        let settings = [Setting::Policy, Setting::Block].map(|setting| (setting, scope.clone()));
        liar.notes().damaged_settings.extend(settings);
        true
    }

    async fn remember_alive(&self, id: SessionId) -> bool {
        Liar::new(Fault::None, Arc::clone(&self.1)).await.remember_alive(id).await;
        true
    }

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        if self.0 != Fault::CopiesRepeatNumbers {
            return None;
        }
        let liar = Liar::new(Fault::None, Arc::clone(&self.1)).await;
        Some(Box::new(Backup(Arc::clone(&self.1), liar.alive().await)))
    }
}

/// The sessions as they were. A new store marks its entries as the one before it did.
struct Backup(Arc<World>, Vec<Session>);

#[async_trait]
impl RestorePoint for Backup {
    async fn restore(self: Box<Self>) {
        self.0.replace(MemoryStore::new());
        let liar = Liar::new(Fault::None, self.0).await;
        for session in self.1 {
            liar.force(&session.owner.clone(), vec![Change::Insert(Box::new(session))]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_liar_is_caught_by_the_case_that_is_about_it() {
    let mut running = JoinSet::new();
    for (fault, case) in Fault::ALL {
        running.spawn(async move {
            let liars = Arc::new(Liars(*fault));
            // This one waits by itself.
            let waits = *fault == Fault::PoliciesStayLocked;
            let patience = if waits { PATIENCE * 2 } else { PATIENCE };
            let report = run_case_within(liars, case, patience).await;
            for failure in &report.failures {
                println!("{fault:?}: {}", failure.reason.lines().next().unwrap_or_default());
            }
            let found = report.failures.iter().all(|failure| is_found(*fault, &failure.reason));
            if report.passed() {
                Some(format!("{fault:?} is not caught by {case}"))
            } else {
                (!found).then(|| format!("{fault:?}: {case} fails for another reason: {report}"))
            }
        });
    }
    let missed: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{} of {}: {missed:#?}", missed.len(), Fault::ALL.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_liar_that_does_not_lie_passes() {
    let report = run(Arc::new(Liars(Fault::None))).await;
    assert!(report.passed(), "{report}");
}

#[test]
fn every_case_has_a_liar() {
    let cases: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    let caught: BTreeSet<_> = Fault::ALL.iter().map(|(_, case)| *case).collect();
    let unknown: Vec<_> = caught.difference(&cases).collect();
    assert!(unknown.is_empty(), "no such case: {unknown:?}");
    let trusted: Vec<_> = cases.difference(&caught).collect();
    assert!(trusted.is_empty(), "no liar is caught by: {trusted:?}");
}

/// Whether a case has failed because it noticed the fault: at a place in the kit, not in the liar.
fn is_found(fault: Fault, reason: &str) -> bool {
    match WAIT_FOR_EVER.contains(&fault) {
        true => reason.starts_with("timed out"),
        false => reason.contains("\n  at session-conformance/src/"),
    }
}

/// The lies that make a case wait for what never comes: its time-out is what notices them.
const WAIT_FOR_EVER: [Fault; 6] = [
    Fault::GapsAreHiddenFromNodes,
    Fault::TrimOfNoneIsNone,
    Fault::EndsAreHiddenFromNodes,
    Fault::PushIsSilent,
    Fault::PushIsOfEndsOnly,
    Fault::LeaseNeverEnds,
];
/// How long a case may wait.
const PATIENCE: Duration = Duration::from_secs(20);
