//! What reads sessions: of one user, one by its id, pages of them.

use redb::{ReadTransaction, ReadableTable};
use session_core::admission::Standing;
use session_core::store::record::decode_session;
use session_core::store::{Loaded, Page, PageQuery, UserState, limit_within};
use session_core::{Session, SessionId, UserKey};

use crate::change::version;
use crate::file::{Failure, SESSIONS, USERS};
use crate::settings::policy_layers;
use crate::walk::{Place, of_user, places};

/// Everything that a decision about a user needs, out of one snapshot.
pub(crate) fn user(file: &ReadTransaction, owner: &UserKey) -> Result<UserState, Failure> {
    let sessions = file.open_table(SESSIONS)?;
    let mut standings = Vec::new();
    for place in of_user(file, (owner.tenant_text(), owner.user.as_str()), None)? {
        let session = session(&sessions, place?.id)?;
        standings.extend(session.as_ref().map(Standing::from));
    }
    Ok(UserState {
        version: version(&file.open_table(USERS)?, owner)?,
        sessions: standings,
        policies: policy_layers(file, owner)?,
    })
}

pub(crate) fn load(file: &ReadTransaction, id: SessionId) -> Result<Option<Loaded>, Failure> {
    let Some(session) = session(&file.open_table(SESSIONS)?, id)? else { return Ok(None) };
    let version = version(&file.open_table(USERS)?, &session.owner)?;
    Ok(Some(Loaded { session, version }))
}

/// Takes one session more than the page has place for, to know whether there is a next page.
pub(crate) fn page(file: &ReadTransaction, query: &PageQuery) -> Result<Page, Failure> {
    let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
    let sessions = file.open_table(SESSIONS)?;
    let walk = places(file, &query.tenant, query.user.as_ref(), query.after.map(Place::from))?;
    let mut covered = Vec::new();
    for (examined, place) in (1..).zip(walk) {
        let place = place?;
        let session = session(&sessions, place.id)?;
        covered.extend(session.filter(|session| query.covers(session)));
        if covered.len() > limit as usize {
            break;
        }
        if examined == PageQuery::MAX_EXAMINED {
            return Ok(Page { sessions: covered, next: Some(place.cursor()) });
        }
    }
    Ok(Page::cut(covered, limit))
}

pub(crate) fn session(
    sessions: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    id: SessionId,
) -> Result<Option<Session>, Failure> {
    let Some(bytes) = sessions.get(id.as_bytes())? else { return Ok(None) };
    Ok(Some(decode_session(bytes.value())?))
}
