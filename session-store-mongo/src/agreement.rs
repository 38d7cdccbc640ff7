//! What all nodes agree on, the first one deciding: the format, the keys; and the indexes.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Collection, IndexModel};
use session_core::store::{TagKey, check_version};
use session_core::{FleetKey, StoreError};

use crate::collections::Collections;
use crate::error::{Failed, is_duplicate};
use crate::record;

/// The first node decides about the key of the tags, and about the format.
pub(crate) async fn agree(
    agreement: &Collection<Document>,
    proposed: &TagKey,
) -> Result<TagKey, Failed> {
    let key = record::bytes(proposed.as_bytes());
    let first = doc! { "_id": "agreement", "version": VERSION, "key": key };
    let agreed = first_of(agreement, first).await?;
    let version = agreed.get_i32("version").map_err(|_| record::malformed("version"))?;
    let oldest = agreed.get_i32("oldest").ok().map(i64::from);
    check_version("the collections have", version.into(), oldest, VERSION.into())?;
    Ok(TagKey::from_bytes(key_in(&agreed)?))
}

impl Collections {
    /// The first node decides about the secret of the fleet, too.
    pub(crate) async fn agree_on_fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, Failed> {
        let key = record::bytes(proposed.as_bytes());
        let agreed = first_of(&self.agreement, doc! { "_id": "fleet", "key": key }).await?;
        let agreed = FleetKey::from_bytes(key_in(&agreed)?);
        Ok(self.fleet.get_or_init(|| agreed).clone())
    }

    /// Called where the log is gone: checks that what this node knows is still what all agree on. A
    /// database that was dropped has forgotten it, and another node may have agreed on something
    /// else.
    pub(crate) async fn agree_again(&self) -> Result<(), Failed> {
        let mut agreed = agree(&self.agreement, &self.tags).await? == self.tags;
        if let Some(known) = self.fleet.get() {
            let first = doc! { "_id": "fleet", "key": record::bytes(known.as_bytes()) };
            agreed &= key_in(&first_of(&self.agreement, first).await?)? == *known.as_bytes();
        }
        if agreed {
            return self.make_indexes().await;
        }
        let text = "the collections were emptied, and another node has chosen other keys: \
                    open the store again";
        Err(StoreError::internal(text).into())
    }

    /// Making an index that is there does nothing.
    pub(crate) async fn make_indexes(&self) -> Result<(), Failed> {
        for (collection, indexes) in self.indexes() {
            collection.create_indexes(indexes).await?;
        }
        Ok(())
    }

    /// The indexes of each collection, but that of the `_id`.
    pub(crate) fn indexes(&self) -> [(&Collection<Document>, Vec<IndexModel>); 6] {
        let index = |keys: Document, options: IndexOptions| {
            IndexModel::builder().keys(keys).options(options).build()
        };
        let plain = |keys| index(keys, IndexOptions::default());
        let sparse = |keys| index(keys, IndexOptions::builder().sparse(true).build());
        let at_once = IndexOptions::builder().expire_after(Duration::ZERO).build();
        let numbers = IndexOptions::builder().unique(true).sparse(true).build();
        let list = vec![
            plain(doc! { "signed_in": -1, "_id": 1 }),
            plain(doc! { "tenant": 1, "signed_in": -1, "_id": 1 }),
            plain(doc! { "user_id": 1, "signed_in": -1, "_id": 1 }),
            plain(doc! { "client_id": 1, "signed_in": -1, "_id": 1 }),
            plain(doc! { "deadline": 1, "_id": 1 }),
        ];
        let history = vec![
            plain(doc! { "ended": -1, "_id": 1 }),
            plain(doc! { "tenant": 1, "ended": -1, "_id": 1 }),
            plain(doc! { "user_id": 1, "ended": -1, "_id": 1 }),
        ];
        let users = vec![index(doc! { "until": 1 }, at_once), sparse(doc! { "waiting": 1 })];
        let log = vec![index(doc! { "number": 1 }, numbers), sparse(doc! { "order": 1 })];
        let leases = vec![plain(doc! { "until": 1 })];
        [
            (&self.list, list),
            (&self.history, history),
            (&self.users, users),
            (&self.log, log),
            (&self.leases, leases),
            (&self.places, vec![sparse(doc! { "waiting": 1 })]),
        ]
    }
}

/// The document of this `_id`: the one that is there, or else this one.
async fn first_of(agreement: &Collection<Document>, first: Document) -> Result<Document, Failed> {
    let id = doc! { "_id": first.get("_id") };
    match agreement.insert_one(first).await {
        Err(error) if !is_duplicate(&error) => return Err(error.into()),
        _ => {}
    }
    // A majority may not have another node's yet.
    agreement.find_one(id).await?.ok_or(Failed::Conflict)
}

fn key_in<const N: usize>(agreed: &Document) -> Result<[u8; N], Failed> {
    let key = agreed.get_binary_generic("key").map_err(|_| record::malformed("key"))?;
    Ok(key.as_slice().try_into().map_err(|_| record::malformed("key"))?)
}

/// Of the collections' format.
pub(crate) const VERSION: i32 = 3;
