//! Reads. Each is one statement and so sees one moment, except a page that a filter leaves short.

use session_core::admission::Standing;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{Loaded, Page, PageQuery, UserState, Version};
use session_core::{ClientId, DeviceKind, SessionId, StoreError, Timestamp, UserKey};
use sqlx::postgres::Postgres;

use super::db::{Db, store_error};
use crate::columns::Columns;
use crate::rows;
use crate::walk::Walk;

pub(super) async fn user(db: &Db, owner: &UserKey) -> Result<UserState, StoreError> {
    let row = sqlx::query(db.sql(USER))
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .fetch_one(&db.pool)
        .await
        .map_err(store_error)?;
    let mut layers = PolicyLayers::default();
    for (tenant, user, text) in list::<(String, String, String)>(row.text("policies")?)? {
        layers.set_by_key((&tenant, &user), Some(Policy::from_stored(&text)?));
    }
    let sessions = list::<StandingColumns>(row.text("sessions")?)?;
    Ok(UserState {
        version: row.optional_integer("version")?.map_or(Version::NONE, Version),
        sessions: sessions.into_iter().map(standing).collect::<Result<_, _>>()?,
        policies: layers,
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

pub(super) async fn policy(db: &Db, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
    let (tenant, user) = scope.key();
    let text: Option<String> = sqlx::query_scalar(db.sql(POLICY))
        .bind(tenant)
        .bind(user)
        .fetch_optional(&db.pool)
        .await
        .map_err(store_error)?;
    text.as_deref().map(Policy::from_stored).transpose()
}

/// Id, kind of device, client, signed in, last accessed, absolute expiry.
type StandingColumns = (String, String, Option<String>, i64, i64, Option<i64>);

fn standing(columns: StandingColumns) -> Result<Standing, StoreError> {
    let (id, device_kind, client_id, signed_in, last_accessed, absolute_expiry) = columns;
    Ok(Standing {
        id: SessionId::from_bytes(const_hex::decode_to_array(id).map_err(StoreError::corrupt)?),
        device_kind: DeviceKind::from_stored(&device_kind)?,
        client_id: client_id.as_deref().map(ClientId::from_stored).transpose()?,
        signed_in: Timestamp::from_micros(signed_in),
        last_accessed: Timestamp::from_micros(last_accessed),
        absolute_expiry: absolute_expiry.map(Timestamp::from_micros),
    })
}

fn list<T: serde::de::DeserializeOwned>(json: &str) -> Result<Vec<T>, StoreError> {
    serde_json::from_str(json).map_err(StoreError::corrupt)
}

/// The rows are compared as a range, which one index serves: with "=", and without statistics yet, the
/// planner may walk all sessions of the tenant.
pub(super) const USER: &str = "SELECT \
    (SELECT version FROM {t}users WHERE tenant = $1 AND user_id = $2) AS version, \
    (SELECT COALESCE(json_agg(json_build_array(encode(id, 'hex'), device_kind, client_id, \
        signed_in, last_accessed, absolute_expiry)), '[]')::text \
        FROM {t}sessions \
        WHERE (user_id, tenant) >= ($2, $1) AND (user_id, tenant) <= ($2, $1)) AS sessions, \
    (SELECT COALESCE(json_agg(json_build_array(tenant, user_id, policy)), '[]')::text \
        FROM {t}policies \
        WHERE (tenant, user_id) IN (('', ''), ($1, ''), ($1, $2))) AS policies";
pub(super) const LOAD: &str = "SELECT s.*, u.version FROM {t}sessions AS s \
    JOIN {t}users AS u ON u.tenant = s.tenant AND u.user_id = s.user_id WHERE s.id = $1";
pub(super) const POLICY: &str = "SELECT policy FROM {t}policies WHERE tenant = $1 AND user_id = $2";
