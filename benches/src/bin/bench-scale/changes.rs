//! The calls that change many sessions, delete, or set.

use std::sync::Arc;
use std::time::Duration;

use session_benches::people::{KINDS, People, TENANTS};
use session_benches::{Failure, now};
use session_core::policy::PolicyScope;
use session_core::store::{
    Continuation, EndMany, EndedBatch, PolicyChange, Selection, Sweep, TenantFilter,
};
use session_core::{Actor, DeviceKind, EndCause};

use crate::beside::next;
use crate::calls::{BOUND, Calls};

impl Calls {
    pub(crate) async fn policies(&mut self) -> Result<(), Failure> {
        let (store, people, written) = (self.store(), self.people, self.written);
        let seed = Arc::clone(&self.seed);
        let scope = || -> Result<_, Failure> {
            Ok(PolicyScope::User(people.owner(next(&seed).below(written.users))?))
        };
        self.measure("policy", None, async |_| {
            store.policy(&scope()?).await?;
            Ok(true)
        })
        .await?;
        self.measure("set_policy", BOUND, async |_| {
            let (scope, at, by) = (scope()?, now(), Actor::Application);
            store.set_policy(&PolicyChange { scope, policy: None, at, by }).await?;
            Ok(true)
        })
        .await?;
        self.measure("report", BOUND, async |_| {
            store.report().await?;
            Ok(true)
        })
        .await?;
        self.measure("lease", None, async |_| {
            store.lease("bench", "one", Duration::from_secs(1)).await?;
            Ok(true)
        })
        .await
    }

    pub(crate) async fn ends(&mut self) -> Result<(), Failure> {
        let seed = Arc::clone(&self.seed);
        let (store, people, written) = (self.store(), self.people, self.written);
        self.measure("end one", BOUND, async |_| {
            let (user, n) = people.any(written.users, &mut next(&seed));
            let id = people.id(&*store, user, n)?;
            store.end_many(&end(Selection::session(id, TenantFilter::Any)), 1).await?;
            Ok(true)
        })
        .await?;
        // Not the user whom the next run reads.
        let all = Selection::user(people.owner(1)?);
        self.end("end a user with 1,000, each call", all).await?;
        let tenant = TenantFilter::Is(Some(TENANTS[1].parse()?));
        self.end("end by tenant, 500 a call", Selection::within(tenant)).await?;
        let kind = DeviceKind::new(KINDS[2])?;
        let selection = Selection::within(TenantFilter::Any).on(kind);
        self.end("end by kind, 500 a call", selection).await
    }

    pub(crate) async fn end(
        &mut self,
        name: &'static str,
        selection: Selection,
    ) -> Result<(), Failure> {
        let store = self.store();
        let mut call = end(selection);
        self.walk(name, BOUND, FEW_CALLS, async |_| {
            call.after = store.end_many(&call, EndedBatch::MAX_LIMIT).await?.next;
            Ok(call.after.is_some())
        })
        .await
    }

    pub(crate) async fn cleanup(&mut self) -> Result<(), Failure> {
        let store = self.store();
        let mut after: Option<Continuation> = None;
        self.walk("sweep, 500 a call", BOUND, FEW_CALLS, async |_| {
            let sweep = Sweep { overdue: Duration::ZERO, after: after.take(), at: now() };
            after = store.sweep(&sweep, EndedBatch::MAX_LIMIT).await?.next;
            Ok(after.is_some())
        })
        .await?;
        let nothing = 2 * People::SPAN;
        self.trim("trim where nothing is old, each call", nothing, |_| true).await?;
        let old = People::SPAN / 2;
        self.trim("trim, 500 a call", old, |trimmed| trimmed > 0).await
    }

    async fn trim(
        &mut self,
        name: &'static str,
        older_than: Duration,
        goes_on: impl Fn(u32) -> bool,
    ) -> Result<(), Failure> {
        let store = self.store();
        self.walk(name, BOUND, FEW_CALLS, async |_| {
            Ok(goes_on(store.trim_log(older_than, EndedBatch::MAX_LIMIT).await?))
        })
        .await
    }
}

fn end(selection: Selection) -> EndMany {
    let (cause, by) = (EndCause::Revoked, Actor::Application);
    EndMany { selection, after: None, cause, at: now(), by, from: None }
}

/// So many calls tell how long one takes, and leave most of the sessions for the next run.
const FEW_CALLS: u64 = 40;
