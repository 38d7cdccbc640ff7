//! Reads. Each is one statement and so sees one moment, except a page that a filter leaves short.

use session_core::admission::Standing;
use session_core::store::{Loaded, Page, PageQuery, UserState, Version};
use session_core::{ClientId, DeviceKind, InvalidField, SessionId, StoreError, Timestamp, UserKey};
use sqlx::postgres::Postgres;

use super::db::{Db, store_error};
use crate::columns::Columns;
use crate::places::Places;
use crate::rows;
use crate::walk::Walk;

pub(super) async fn user(db: &Db, owner: &UserKey) -> Result<UserState, StoreError> {
    let row = sqlx::query(db.sql(USER))
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .fetch_one(&db.pool)
        .await
        .map_err(store_error)?;
    let mut places = Places::of(owner);
    for (tenant, user, policy, block) in list::<PlaceColumns>(row.text("places")?)? {
        places.add((&tenant, &user), policy.as_deref(), block.as_deref())?;
    }
    let sessions = list::<StandingColumns>(row.text("sessions")?)?;
    Ok(UserState {
        version: row.optional_integer("version")?.map_or(Version::NONE, Version),
        sessions: sessions.into_iter().map(standing).collect::<Result<_, _>>()?,
        policies: places.policies,
        blocks: places.blocks,
    })
}

pub(super) async fn load(db: &Db, id: SessionId) -> Result<Option<Loaded>, StoreError> {
    let row = sqlx::query(db.sql(LOAD))
        .bind(&id.as_bytes()[..])
        .fetch_optional(&db.pool)
        .await
        .map_err(store_error)?;
    row.map(|row| {
        let version = Version(row.integer("version")?);
        Ok(Loaded { session: rows::session(&row)?, version })
    })
    .transpose()
}

pub(super) async fn page(db: &Db, query: &PageQuery) -> Result<Page, StoreError> {
    let mut walk = Walk::page(query);
    let table = db.names.fill("{t}sessions");
    loop {
        let mut statement = walk.statement::<Postgres>(rows::SESSION, &table);
        let rows = statement.build().fetch_all(&db.pool).await.map_err(store_error)?;
        if let Some(walked) = walk.absorb(&rows, rows::session)? {
            return Ok(walked.into());
        }
    }
}

/// Tenant, user, policy, block.
type PlaceColumns = (String, String, Option<String>, Option<String>);

/// Id, kind of device, client, signed in, last accessed, deadline, claimed.
type StandingColumns = (String, String, Option<String>, i64, i64, i64, u8);

fn standing(columns: StandingColumns) -> Result<Standing, StoreError> {
    let (id, device_kind, client_id, signed_in, last_accessed, deadline, claimed) = columns;
    Ok(Standing {
        id: SessionId::from_bytes(const_hex::decode_to_array(id).map_err(StoreError::corrupt)?),
        device_kind: DeviceKind::from_stored(&device_kind)?,
        client_id: client_id.as_deref().map(ClientId::from_stored).transpose()?,
        signed_in: Timestamp::from_micros(signed_in),
        last_accessed: Timestamp::from_micros(last_accessed),
        deadline: Timestamp::from_micros(deadline),
        claimed: is_claimed(claimed)?,
    })
}

fn is_claimed(claimed: u8) -> Result<bool, StoreError> {
    match claimed {
        0 | 1 => Ok(claimed == 1),
        _ => Err(InvalidField::out_of_range("claimed", 0, 1).into()),
    }
}

fn list<T: serde::de::DeserializeOwned>(json: &str) -> Result<Vec<T>, StoreError> {
    serde_json::from_str(json).map_err(StoreError::corrupt)
}

/// The tenant is compared as a part of the range that the user's index serves: with "=", and without
/// statistics yet, the planner may walk all sessions of the tenant. The range alone says too little of how
/// few they are, and the planner reads a large table whole.
pub(super) const USER: &str = "SELECT \
    (SELECT version FROM {t}users WHERE tenant = $1 AND user_id = $2) AS version, \
    (SELECT COALESCE(json_agg(json_build_array(encode(id, 'hex'), device_kind, client_id, \
        signed_in, last_accessed, deadline, claimed)), '[]')::text \
        FROM {t}sessions \
        WHERE user_id = $2 AND (user_id, tenant) >= ($2, $1) AND (user_id, tenant) <= ($2, $1)) \
        AS sessions, \
    (SELECT COALESCE(json_agg(json_build_array(tenant, user_id, policy, block)), '[]')::text \
        FROM {t}policies \
        WHERE (tenant, user_id) IN (('', ''), ($1, ''), ($1, $2))) AS places";
/// After a restore of tables of different moments, a session may be there without its user's row.
pub(super) const LOAD: &str = "SELECT s.*, COALESCE(u.version, 0) AS version \
    FROM {t}sessions AS s \
    LEFT JOIN {t}users AS u ON u.tenant = s.tenant AND u.user_id = s.user_id WHERE s.id = $1";
