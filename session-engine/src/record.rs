//! Changes of a session's record after its sign-in: data, and the device's name.

use session_core::planted::{self, Defect};
use session_core::store::{Change, Commit, Loaded, Outcome, Version};
use session_core::{Actor, DeviceName, EventKind, ExtraData, Session, SessionId, UserKey};

use crate::error::Error;
use crate::node::Node;
use crate::notice;

impl Node {
    pub(crate) async fn update_data(
        &self,
        id: SessionId,
        by: Actor,
        mut change: impl FnMut(Option<&ExtraData>) -> Result<Option<ExtraData>, Error> + Send,
    ) -> Result<Option<Session>, Error> {
        let change = |session: &mut Session| {
            session.data = change(session.data.as_ref())?;
            // Sign-ins have brought data of their own, and their tokens are still to be used.
            let step_ups = session.token.step_ups.iter_mut();
            let sign_ins = step_ups.filter_map(|step_up| step_up.sign_in.as_mut());
            for sign_in in sign_ins.filter(|sign_in| sign_in.data.is_some()) {
                sign_in.data = change(sign_in.data.as_ref())?;
            }
            Ok(())
        };
        self.update(id, None, by, change).await
    }

    pub(crate) async fn name_device(
        &self,
        id: SessionId,
        owner: &UserKey,
        name: Option<DeviceName>,
        by: Actor,
    ) -> Result<Option<Session>, Error> {
        let change = |session: &mut Session| {
            session.device_name.clone_from(&name);
            Ok(())
        };
        self.update(id, Some(owner), by, change).await
    }

    async fn update(
        &self,
        id: SessionId,
        owner: Option<&UserKey>,
        by: Actor,
        mut change: impl FnMut(&mut Session) -> Result<(), Error> + Send,
    ) -> Result<Option<Session>, Error> {
        self.know_the_time().await?;
        let shared = self.shared();
        let mut conflicts = 0;
        loop {
            let Some(loaded) = shared.store_call("load", shared.store.load(id)).await? else {
                return Ok(None);
            };
            let Loaded { mut session, version } = loaded;
            let is_others = owner.is_some_and(|owner| *owner != session.owner);
            if is_others || self.as_known(session.clone()).is_none() {
                return Ok(None);
            }
            let before = session.clone();
            change(&mut session)?;
            if session == before {
                return Ok(self.as_known(session));
            }
            let kind = EventKind::Changed;
            match self.store_update(session.clone(), version, kind, by.clone()).await? {
                Outcome::Done => return Ok(self.as_known(session)),
                Outcome::Conflict => self.back_off(&mut conflicts).await,
            }
        }
    }

    /// Commits one record. The cache drops its copy also where the answer is lost: the change may have
    /// happened.
    pub(crate) async fn store_update(
        &self,
        mut session: Session,
        expected: Version,
        kind: EventKind,
        by: Actor,
    ) -> Result<Outcome, Error> {
        let shared = self.shared();
        if planted::is(Defect::NewerForgotten) {
            session.unknown.clear();
        }
        if planted::is(Defect::RecordRolledBack)
            && kind == EventKind::Changed
            && let Some(retired) = session.token.retired.take()
        {
            session.token.current = retired.digest;
        }
        let (id, owner) = (session.id, session.owner.clone());
        let changes = vec![Change::Update { session: Box::new(session), kind }];
        let commit = Commit { owner, expected, changes, at: self.now(), by, from: None };
        let outcome = shared.store_call("commit", shared.store.commit(&commit)).await;
        if !matches!(outcome, Ok(Outcome::Conflict)) {
            shared.cache.invalidate(id);
        }
        if matches!(outcome, Ok(Outcome::Done)) {
            notice::log_commit(&commit);
            shared.changed(true);
        }
        outcome
    }
}
