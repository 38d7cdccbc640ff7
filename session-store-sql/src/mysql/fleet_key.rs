//! The secret that all nodes share, in the row of the state.

use session_core::token::FleetKey;
use session_core::{InvalidField, StoreError};

use super::db::{Db, retried, store_error};

impl Db {
    /// Reads the key, and proposes one only where there is none yet.
    pub(super) async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        if let Some(key) = self.stored_key().await? {
            return Ok(key);
        }
        let proposed = &proposed.as_bytes()[..];
        retried(|| sqlx::query(self.sql(PROPOSE)).bind(proposed).execute(&self.pool)).await?;
        let key = self.stored_key().await?;
        key.ok_or_else(|| StoreError::internal("the state has no row"))
    }

    async fn stored_key(&self) -> Result<Option<FleetKey>, StoreError> {
        let key: Option<Option<Vec<u8>>> = sqlx::query_scalar(self.sql(READ))
            .fetch_optional(&self.pool)
            .await
            .map_err(store_error)?;
        let Some(key) = key.flatten() else { return Ok(None) };
        let malformed = |_| InvalidField::malformed("fleet_key", "of the right length");
        Ok(Some(FleetKey::from_bytes(key.try_into().map_err(malformed)?)))
    }
}

const READ: &str = "SELECT fleet_key FROM {t}state WHERE only_row = 1";
const PROPOSE: &str = "UPDATE {t}state SET fleet_key = ? WHERE only_row = 1 AND fleet_key IS NULL";
