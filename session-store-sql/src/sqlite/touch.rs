//! Writes back accesses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use session_core::session::note_ip_address;
use session_core::store::{Touch, record};
use session_core::{SessionId, StoreError};

use super::tx::Tx;
use super::{Pools, store_error};
use crate::columns::Columns;

/// The batch has been folded.
pub(super) async fn touch(pools: &Pools, batch: Vec<Touch>) -> Result<Vec<SessionId>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let (count, after) = (batch.len(), Arc::clone(&pools.after));
    let touch = async move |mut tx: Tx<'_>| {
        let addresses = merge_addresses(&mut tx, &batch).await?;
        let found = write(&mut tx, &batch, &addresses).await?;
        tx.commit().await.map_err(store_error)?;
        after.wrote(count);
        let gone = batch.iter().filter(|touch| !found.contains(&touch.id.as_bytes()[..]));
        Ok(gone.map(|touch| touch.id).collect())
    };
    pools.after.checkpoints.pass(count).await;
    pools.writer.write(touch).await
}

/// The addresses of those sessions that have a new one.
async fn merge_addresses(
    tx: &mut Tx<'_>,
    batch: &[Touch],
) -> Result<HashMap<SessionId, String>, StoreError> {
    let with: HashMap<_, _> = batch
        .iter()
        .filter(|touch| !touch.ip_addresses.is_empty())
        .map(|touch| (&touch.id.as_bytes()[..], touch))
        .collect();
    if with.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<_> = with.keys().map(const_hex::encode).collect();
    let ids = serde_json::json!(ids).to_string();
    let rows = sqlx::query(ADDRESSES).bind(ids).fetch_all(&mut **tx).await.map_err(store_error)?;
    let mut merged = HashMap::new();
    for row in &rows {
        let Some(touch) = with.get(row.bytes("id")?) else { continue };
        let old = row.text("ip_addresses")?;
        // A record that cannot be read keeps its addresses, and holds up no other.
        let Ok(mut addresses) = record::parse_addresses(old) else { continue };
        touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut addresses, *ip));
        let new = record::address_list(&addresses);
        if new != old {
            merged.insert(touch.id, new);
        }
    }
    Ok(merged)
}

/// Answers which sessions exist.
async fn write(
    tx: &mut Tx<'_>,
    batch: &[Touch],
    addresses: &HashMap<SessionId, String>,
) -> Result<HashSet<Vec<u8>>, StoreError> {
    let entry = |touch: &Touch| {
        let id = const_hex::encode(touch.id.as_bytes());
        let (used, deadline) = (touch.last_accessed.as_micros(), touch.deadline.as_micros());
        let claimed = i64::from(touch.claimed);
        serde_json::json!([id, used, deadline, claimed, addresses.get(&touch.id)])
    };
    let entries = serde_json::Value::Array(batch.iter().map(entry).collect()).to_string();
    let found = sqlx::query_scalar(TOUCH).bind(entries).fetch_all(&mut **tx).await;
    Ok(found.map_err(store_error)?.into_iter().collect())
}

pub(super) const ADDRESSES: &str = "SELECT id, ip_addresses FROM session_kit_sessions \
    WHERE id IN (SELECT unhex(value) FROM json_each(?))";
pub(super) const TOUCH: &str = "UPDATE session_kit_sessions \
    SET last_accessed = MAX(last_accessed, touched.value ->> 1), \
        deadline = MAX(deadline, touched.value ->> 2), \
        claimed = MAX(claimed, touched.value ->> 3), \
        ip_addresses = COALESCE(touched.value ->> 4, ip_addresses) \
    FROM json_each(?) AS touched \
    WHERE session_kit_sessions.id = unhex(touched.value ->> 0) RETURNING session_kit_sessions.id";
