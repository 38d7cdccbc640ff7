//! Reading: one session by its id, and sessions in the order of their sign-ins.

use redb::{Error, ReadTransaction, ReadableTable};
use session_core::admission::Standing;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::record::decode_session;
use session_core::store::{Loaded, Page, PageQuery, UserState};
use session_core::{Session, SessionId, UserKey};

use crate::change::version;
use crate::file::{BLOCKS, Bytes, Id, PLACES, POLICIES, SESSIONS, USERS, core_error, readable};
use crate::places::{Place, list, places, scope};
use crate::settings::setting;

/// Everything that a decision about a user needs, out of one snapshot.
pub(crate) fn user(file: &ReadTransaction, owner: &UserKey) -> Result<UserState, Error> {
    let sessions = file.open_table(SESSIONS)?;
    let found = places(file, PLACES, &PolicyScope::User(owner.clone()), None)?;
    let lost = || Error::Corrupted("a place without a session".to_owned());
    let standing = |place: Result<Place, _>| {
        Ok(Standing::from(&session(&sessions, place?.1)?.ok_or_else(lost)?))
    };
    let sessions = found.map(standing).collect::<Result<_, Error>>()?;
    let (mut policies, mut blocks) = (PolicyLayers::default(), Vec::new());
    for scope in PolicyScope::of(owner) {
        policies.set(&scope, setting(&file.open_table(POLICIES)?, &scope, Policy::from_stored)?);
        let block = setting(&file.open_table(BLOCKS)?, &scope, Block::from_stored)?;
        blocks.extend(block.map(|block| (scope, block)));
    }
    let version = version(&file.open_table(USERS)?, owner)?;
    Ok(UserState { version, sessions, policies, blocks })
}

pub(crate) fn load(file: &ReadTransaction, id: SessionId) -> Result<Option<Loaded>, Error> {
    let Some(session) = session(&file.open_table(SESSIONS)?, id)? else { return Ok(None) };
    let version = version(&file.open_table(USERS)?, &session.owner)?;
    Ok(Some(Loaded { session, version }))
}

pub(crate) fn page(file: &ReadTransaction, query: &PageQuery) -> Result<Page, Error> {
    let sessions = file.open_table(SESSIONS)?;
    let covered =
        |id| Ok(readable(session(&sessions, id))?.filter(|session| query.covers(session)));
    let scope = scope(&query.tenant, query.user.as_ref());
    let (sessions, next) = list(file, PLACES, &scope, (query.after, query.limit), covered)?;
    Ok(Page { sessions, next })
}

pub(crate) fn session(
    sessions: &impl ReadableTable<Id, Bytes>,
    id: SessionId,
) -> Result<Option<Session>, Error> {
    let Some(bytes) = sessions.get(id.as_bytes())? else { return Ok(None) };
    decode_session(bytes.value()).map(Some).map_err(core_error)
}
