//! Lies about one user and one session.

use session_core::policy::PolicyScope;
use session_core::store::{Loaded, UserState, Version};
use session_core::{
    DeviceInfo, ExtraData, Session, SessionId, Store, StoreError, Timestamp, UserKey,
};

use crate::fault::Fault;
use crate::liar::Liar;

impl Liar {
    pub(crate) async fn lie_in_user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let mut state = self.store().user(&self.key(owner)).await?;
        // A memory store never waits; let the others come in between.
        tokio::task::yield_now().await;
        for session in self.alive_where(|other| self.confuses(owner, other)).await {
            if state.sessions.iter().all(|known| known.id != session.id) {
                state.sessions.push((&session).into());
            }
        }
        match self.fault {
            Fault::UserIsCut => state.sessions.truncate(100),
            Fault::UserIsCutLater => state.sessions.truncate(1000),
            Fault::UserHidesUnclaimed => state.sessions.retain(|session| session.claimed),
            Fault::UserIsTorn => {
                self.dawdle().await;
                state.version = self.version(owner).await;
            }
            Fault::UserHidesExpired => state.sessions.retain(|s| s.deadline == Timestamp::MAX),
            Fault::UnknownUsersHaveAVersion if state.version == Version::NONE => {
                state.version = Version(1);
            }
            Fault::PoliciesAreStale => {
                let current = state.policies.clone();
                state.policies =
                    self.notes().policies.entry(owner.clone()).or_insert(current).clone();
            }
            Fault::PoliciesCrossTenants => {
                let north = UserKey::in_tenant("north".parse().unwrap(), owner.user.clone());
                state.policies.user = self.store().user(&north).await?.policies.user;
            }
            _ => {}
        }
        self.lie_about_blocks(&PolicyScope::of(owner), &mut state);
        state.version = self.shown(state.version);
        Ok(state)
    }

    /// Whether this liar takes the second user for the first.
    fn confuses(&self, asked: &UserKey, other: &UserKey) -> bool {
        let joined = |key: &UserKey| format!("{}:{}", key.tenant_text(), key.user);
        let [asked_name, other_name] = [asked.user.as_str(), other.user.as_str()];
        let same_tenant = asked.tenant == other.tenant;
        match self.fault {
            Fault::UserLeaksTenants => asked.user == other.user,
            Fault::NamesAreJoined => joined(asked) == joined(other),
            Fault::NamesArePrefixes => same_tenant && other_name.starts_with(asked_name),
            Fault::NamesArePatterns => {
                let fits = |(a, b): (char, char)| a == b || a == '_';
                same_tenant
                    && asked_name.chars().count() == other_name.chars().count()
                    && asked_name.chars().zip(other_name.chars()).all(fits)
            }
            Fault::NamesAreCut => {
                let cut = |text: &str| text[..text.floor_char_boundary(126)].to_owned();
                cut(asked_name) == cut(other_name)
                    && cut(asked.tenant_text()) == cut(other.tenant_text())
            }
            _ => false,
        }
    }

    async fn alive_where(&self, is: impl Fn(&UserKey) -> bool) -> Vec<Session> {
        let noted: Vec<_> = {
            let notes = self.notes();
            notes.begun.values().filter(|s| is(&s.owner)).map(|s| s.id).collect()
        };
        let mut alive = Vec::new();
        for id in noted {
            alive.extend(self.find(id).await);
        }
        alive
    }

    pub(crate) async fn lie_in_load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let loaded = self.store().load(id).await?;
        if self.fault == Fault::LoadAnswersTheLastOne {
            return Ok(self.answer_the_last_one(|notes| &mut notes.untaken, loaded).await);
        }
        let mut notes = self.notes();
        match self.fault {
            Fault::LoadIsStale => return Ok(notes.loads.entry(id).or_insert(loaded).clone()),
            Fault::LoadRemembersNone => {
                if loaded.is_none() {
                    notes.absent.insert(id);
                }
                return Ok(loaded.filter(|_| !notes.absent.contains(&id)));
            }
            _ => {}
        }
        let first = match &loaded {
            Some(_) => notes.loads.entry(id).or_insert_with(|| loaded.clone()).clone(),
            None => None,
        };
        drop(notes);
        Ok(loaded.map(|mut loaded| {
            if let (Fault::LoadAnswersOldVersions, Some(first)) = (self.fault, first) {
                loaded.version = first.version;
            }
            loaded.version = self.shown(loaded.version);
            Loaded { session: self.distorted(loaded.session), ..loaded }
        }))
    }

    /// The record as this liar reads it.
    fn distorted(&self, mut session: Session) -> Session {
        let notes = self.notes();
        let begun = notes.begun.get(&session.id).cloned();
        let touched = notes.touched.get(&session.id).cloned();
        let (Some(begun), Some(touched)) = (begun, touched) else { return session };
        let updated = notes.updated.get(&session.id).cloned();
        match (self.fault, updated) {
            (Fault::TouchMovesBack, _) => session.last_accessed = touched.last_accessed,
            (Fault::TouchMovesDeadlineBack, _) => session.deadline = touched.deadline,
            (Fault::TouchKeepsDeadline, None) => session.deadline = begun.deadline,
            (Fault::TouchTakesClaimsBack, None) => session.claimed = touched.claimed,
            (Fault::TouchLosesClaims, None) => session.claimed = begun.claimed,
            (Fault::TouchReplacesAddresses, _) => session.ip_addresses = touched.ip_addresses,
            (Fault::UpdateStoresNothing, Some(_)) => {
                let Session { last_accessed, claimed, deadline, ip_addresses, .. } = session;
                session = Session { last_accessed, claimed, deadline, ip_addresses, ..begun };
            }
            (Fault::UpdateMerges, Some(_)) => {
                session.data = session.data.or_else(|| notes.data.get(&session.id).cloned());
            }
            (Fault::UpdateMovesDeadlineBack, Some(updated)) => session.deadline = updated.deadline,
            (Fault::UpdateKeepsDeadline, Some(_)) => session.deadline = begun.deadline,
            (Fault::UpdateForgetsUse, Some(updated)) => {
                session.last_accessed = updated.last_accessed;
                session.ip_addresses = updated.ip_addresses;
            }
            (Fault::UpdateForgetsClaim, Some(updated)) => session.claimed = updated.claimed,
            (Fault::UpdateWritesFields, Some(updated)) => {
                session.device_kind = updated.device_kind;
                session.client_id = updated.client_id;
            }
            _ => {}
        }
        if let Some(written) = notes.written.get(&session.id) {
            session.last_accessed = written.last_accessed;
            session.claimed = written.claimed;
            session.ip_addresses.clone_from(&written.ip_addresses);
        }
        match self.fault {
            Fault::NoAddressIsOne if session.ip_addresses.is_empty() => {
                session.ip_addresses.push([0, 0, 0, 0].into());
            }
            Fault::DataIsParsed => {
                let parsed = session.data.map(|data| ExtraData::new(&data.to_value()).unwrap());
                session.data = parsed;
            }
            Fault::TimesBeginIn1970 => {
                session.authentication.at = session.authentication.at.max(Timestamp::EPOCH);
            }
            _ => {}
        }
        session
    }

    /// The record as this liar stores it.
    pub(crate) fn altered(&self, mut session: Session) -> Session {
        session.owner = self.key(&session.owner);
        if self.fault == Fault::FieldsAreCut {
            let cut = |info: DeviceInfo| {
                DeviceInfo::truncated(&info.as_str()[..info.as_str().len().min(254)])
            };
            session.device_info = session.device_info.and_then(cut);
        }
        session
    }
}
