//! Ends sessions, everywhere.

use session_core::planted::{self, Defect};
use session_core::store::{EndMany, EndedBatch, Ending, Selection, TenantFilter};
use session_core::{Actor, DeviceInfo, EndCause, SessionId, StoreError, UserKey};

use crate::ending::Over;
use crate::entry::ActiveSession;
use crate::error::Error;
use crate::follower;
use crate::node::Node;
use crate::notice::{self, Notice};
use crate::write_back;

impl Node {
    pub(crate) async fn revoke(
        &self,
        id: SessionId,
        owner: &UserKey,
        by: Actor,
    ) -> Result<bool, Error> {
        let selection = Selection::user(owner.clone()).among([id]);
        Ok(self.revoke_selected(selection, by).await? > 0)
    }

    pub(crate) async fn revoke_selected(
        &self,
        selection: Selection,
        by: Actor,
    ) -> Result<u64, Error> {
        self.end_for(selection, EndCause::Revoked, by, None).await
    }

    pub(crate) async fn revoke_user(&self, owner: UserKey, by: Actor) -> Result<u64, Error> {
        self.revoke_selected(Selection::user(owner), by).await
    }

    pub(crate) async fn revoke_others(&self, current: &ActiveSession) -> Result<u64, Error> {
        let mut others = Selection::user(current.owner().clone()).except(current.id());
        if planted::is(Defect::OthersMeansAll) {
            others.except = None;
        }
        self.revoke_by(others, current).await
    }

    pub(crate) async fn revoke_by(
        &self,
        selection: Selection,
        current: &ActiveSession,
    ) -> Result<u64, Error> {
        self.end_for(selection, EndCause::Revoked, current.actor(), current.device()).await
    }

    pub(crate) async fn sign_out(&self, current: &ActiveSession) -> Result<(), Error> {
        if planted::is(Defect::SignOutKeeps) {
            return Ok(());
        }
        let tenant = TenantFilter::Is(current.tenant().cloned());
        let selection = Selection::session(current.id(), tenant);
        let (mut by, from) = (current.actor(), current.device());
        if planted::is(Defect::SystemSignsOut) {
            by = Actor::System;
        }
        self.end_for(selection, EndCause::SignedOut, by, from).await.map(|_| ())
    }

    /// Ends a session that is over, where the store agrees. False where it is not there, or was used
    /// since: then it has to be read again, a few times at most: `tries` counts them.
    pub(crate) async fn end_over(
        &self,
        id: SessionId,
        over: Over,
        tries: u32,
    ) -> Result<bool, Error> {
        if tries > MOST_TRIES {
            return Err(StoreError::unavailable("the store ends nothing of what it reads").into());
        }
        let ended = self.end_all(over.selection(id), over.cause(), Actor::System, None).await?;
        Ok(ended > 0)
    }

    /// As [`Node::end_over`], for a caller who may go away: a thief need not wait for the answer.
    pub(crate) async fn end_over_detached(
        &self,
        id: SessionId,
        over: Over,
        tries: u32,
    ) -> Result<bool, Error> {
        let node = self.clone();
        self.shared().detached(async move { node.end_over(id, over, tries).await }).await
    }

    /// Ends the sessions for a caller who may go away: what has begun is carried out to its end.
    pub(crate) async fn end_for(
        &self,
        selection: Selection,
        cause: EndCause,
        by: Actor,
        from: Option<DeviceInfo>,
    ) -> Result<u64, Error> {
        let node = self.clone();
        let end = async move { node.end_all(selection, cause, by, from).await };
        self.shared().detached(end).await
    }

    pub(crate) async fn end_all(
        &self,
        selection: Selection,
        cause: EndCause,
        by: Actor,
        from: Option<DeviceInfo>,
    ) -> Result<u64, Error> {
        selection.check()?;
        let shared = self.shared();
        // A stamp of before is better than no end.
        if shared.time.may_be_wrong() && self.know_the_time().await.is_err() {
            tracing::debug!("sessions end at a time that may be wrong");
        }
        write_back::before_end(shared, &selection).await;
        let mut end = EndMany { selection, after: None, cause, at: self.now(), by, from };
        let mut count = 0;
        loop {
            let most = if planted::is(Defect::FirstOnly) { 1 } else { EndedBatch::MAX_LIMIT };
            let turn = shared.paces.end.begin(most);
            let call = shared.store.end_many(&end, turn.size);
            let EndedBatch { ended, next } = match shared.store_call("end_many", call).await {
                Ok(batch) => batch,
                Err(error) => {
                    // A second call does not find what this one may have ended.
                    shared.cache.doubt(&end.selection);
                    return Err(error);
                }
            };
            let pause = turn.over(ended.len());
            ended.iter().for_each(|session| {
                if !planted::is(Defect::OwnCacheKept) {
                    shared.cache.end(session.id, cause);
                }
                shared.watchers.ended(session.id, cause);
            });
            if planted::is(Defect::ToldTwice) {
                let event = |session| Notice::Event(Ending::from(&end).event(session));
                ended.iter().for_each(|session| shared.notices.tell(event(session)));
            }
            notice::log_ended(&ended, cause, end.at, &end.by);
            if !ended.is_empty() {
                shared.changed(true);
            }
            count += ended.len() as u64;
            if next.is_none() || planted::is(Defect::FirstOnly) {
                // What another node has ended just before is no part of this, and is refused all the same.
                match &end.selection.ids {
                    Some(ids) if count < ids.len() as u64 => shared.cache.doubt(&end.selection),
                    Some(_) => {}
                    None => follower::read_now(shared).await,
                }
                return Ok(count);
            }
            end.after = next;
            shared.sleep(pause).await;
        }
    }
}

/// How often a session is read again that the store does not end.
const MOST_TRIES: u32 = 5;
