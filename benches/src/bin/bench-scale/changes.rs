//! The calls that change many sessions, delete, or set.

use std::sync::Arc;
use std::time::Duration;

use session_benches::people::{KINDS, People, TENANTS};
use session_benches::{Failure, now};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{
    BlockChange, Continuation, EndMany, EndedBatch, Forget, HistoryQuery, PolicyChange, Selection,
    Sweep, TenantFilter,
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
        self.measure("set_block", BOUND, async |n| {
            let (at, by) = (now(), Actor::Application);
            let block = Block { reason: None, until: None, since: at, by: by.clone() };
            // Each is lifted by the next call.
            let scope = PolicyScope::User(people.owner(n / 2)?);
            let block = (n % 2 == 0).then_some(block);
            store.set_block(&BlockChange { scope, block, at, by }).await?;
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
        self.end("end a user with 1,000, each call", None, all).await?;
        let tenant = |n: usize| -> Result<_, Failure> {
            Ok(Selection::within(TenantFilter::Is(Some(TENANTS[n].parse()?))))
        };
        self.end_paced("end by tenant, paced", tenant(1)?).await?;
        self.end("end by tenant, 500 a call", None, tenant(2)?).await?;
        let of_kind = |n: usize| -> Result<_, Failure> {
            Ok(Selection::within(TenantFilter::Any).on(DeviceKind::new(KINDS[n])?))
        };
        self.end_paced("end by kind, paced", of_kind(2)?).await?;
        self.end("end by kind, 500 a call", None, of_kind(3)?).await
    }

    /// With calls of the largest size.
    pub(crate) async fn end(
        &mut self,
        name: &'static str,
        target: Option<f64>,
        selection: Selection,
    ) -> Result<(), Failure> {
        let store = self.store();
        let mut call = end(selection);
        self.walk(name, target, FEW_CALLS, async |_| {
            call.after = store.end_many(&call, EndedBatch::MAX_LIMIT).await?.next;
            Ok(call.after.is_some())
        })
        .await
    }

    async fn end_paced(&mut self, name: &'static str, selection: Selection) -> Result<(), Failure> {
        let store = self.store();
        let mut call = end(selection);
        self.paced(name, EndedBatch::MAX_LIMIT, PACED_CALLS, async |size| {
            let batch = store.end_many(&call, size).await?;
            call.after = batch.next;
            Ok((batch.ended.len() as u32, call.after.is_some()))
        })
        .await
    }

    pub(crate) async fn sweeps(&mut self) -> Result<(), Failure> {
        let store = self.store();
        let mut after: Option<Continuation> = None;
        let mut sweep = async |size| -> Result<_, Failure> {
            let sweep = Sweep { overdue: Duration::ZERO, after: after.take(), at: now() };
            let batch = store.sweep(&sweep, size).await?;
            let ended = batch.ended.len() as u32;
            after = batch.next;
            Ok((if after.is_some() { size } else { ended }, after.is_some()))
        };
        self.paced("sweep, paced", EndedBatch::MAX_LIMIT, PACED_CALLS, &mut sweep).await?;
        self.walk("sweep, 500 a call", None, FEW_CALLS / 2, async |_| {
            Ok(sweep(EndedBatch::MAX_LIMIT).await?.1)
        })
        .await
    }

    /// What the calls before have ended.
    pub(crate) async fn history(&mut self) -> Result<(), Failure> {
        let (store, people) = (self.store(), self.people);
        self.measure("load of an ended session", None, async |n| {
            // The user who was ended as a whole.
            let id = people.id(&*store, 1, n % People::MOST)?;
            store.ended(id).await?;
            Ok(true)
        })
        .await?;
        let all = HistoryQuery::within(TenantFilter::Any);
        let tenant = TenantFilter::Is(Some(TENANTS[1].parse()?));
        let kind = Some(DeviceKind::new("no such kind")?);
        for (name, query) in [
            ("history, first page", all.clone()),
            ("history, first page of a tenant", HistoryQuery::within(tenant)),
            ("history of a user with 1,000", HistoryQuery::user(people.owner(1)?)),
            ("history of no such kind", HistoryQuery { device_kind: kind, ..all }),
        ] {
            let mut query = query;
            let first = query.after;
            self.measure(name, BOUND, async |_| {
                let page = store.history(&query).await?;
                query.after = if page.sessions.is_empty() { page.next } else { first };
                Ok(true)
            })
            .await?;
        }
        Ok(())
    }

    /// From the history and from the log.
    pub(crate) async fn deletes(&mut self) -> Result<(), Failure> {
        let (store, people) = (self.store(), self.people);
        let old = Forget::OlderThan(2 * People::SPAN);
        self.measure("forget where nothing is old, each call", BOUND, async |_| {
            store.forget(&old, EndedBatch::MAX_LIMIT).await?;
            Ok(true)
        })
        .await?;
        for (name, forget) in [
            ("forget a user with 1,000, paced", Forget::User(people.owner(1)?)),
            ("forget by age, paced", Forget::OlderThan(Duration::ZERO)),
        ] {
            self.paced(name, EndedBatch::MAX_LIMIT, PACED_CALLS, async |size| {
                let gone = store.forget(&forget, size).await?;
                Ok((gone, gone > 0))
            })
            .await?;
        }
        let nothing = 2 * People::SPAN;
        self.measure("trim where nothing is old, each call", BOUND, async |_| {
            store.trim_log(nothing, EndedBatch::MAX_LIMIT).await?;
            Ok(true)
        })
        .await?;
        let old = People::SPAN / 2;
        self.paced("trim, paced", EndedBatch::MAX_LIMIT, PACED_CALLS, async |size| {
            let gone = store.trim_log(old, size).await?;
            Ok((gone, gone > 0))
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
const PACED_CALLS: u64 = 200;
