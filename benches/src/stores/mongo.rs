//! MongoDB.

use std::sync::Arc;

use ::mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use ::mongodb::options::{Acknowledgment, WriteConcern};
use ::mongodb::{Client, Database};
use session_core::store::record::{FieldValue, session_fields};
use session_core::{Session, Store, async_trait};
use session_store_mongo::{MongoOptions, MongoStore};

use super::{Backend, Bare};
use crate::Failure;

/// A database.
pub(super) struct Mongo {
    url: String,
    database: String,
}

struct Writer(Database);

impl Mongo {
    pub(super) fn new(namespace: &str) -> Result<Self, Failure> {
        let url = super::url("SESSION_KIT_MONGODB_URL")?;
        Ok(Self { url, database: namespace.to_owned() })
    }

    async fn database(&self) -> Result<Database, Failure> {
        Ok(Client::with_uri_str(&self.url).await?.database(&self.database))
    }
}

#[async_trait]
impl Backend for Mongo {
    async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        let options = MongoOptions::default().with_database(self.database.clone());
        Ok(Arc::new(MongoStore::connect_with(&self.url, options).await?))
    }

    async fn bare(&self) -> Result<Option<Arc<dyn Bare>>, Failure> {
        let database = self.database().await?;
        for name in [USERS, LIST] {
            database.create_collection(name).await?;
        }
        Ok(Some(Arc::new(Writer(database))))
    }

    async fn remove(&self) -> Result<(), Failure> {
        Ok(self.database().await?.drop().await?)
    }
}

/// A document for the user with the session in it, and one for the session in the list, in a
/// transaction that a majority has in its journals.
#[async_trait]
impl Bare for Writer {
    async fn write(&self, session: &Session) -> Result<(), Failure> {
        let Self(database) = self;
        let record = document(session);
        let user = doc! {
            "_id": format!("{}/{}", session.owner.tenant_text(), session.owner.user),
            "version": 1_i64,
            "sessions": [record.clone()],
        };
        let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let mut transaction = database.client().start_session().await?;
        transaction.start_transaction().write_concern(concern).await?;
        let (users, list) = (database.collection(USERS), database.collection(LIST));
        users.insert_one(user).session(&mut transaction).await?;
        list.insert_one(record).session(&mut transaction).await?;
        Ok(transaction.commit_transaction().await?)
    }
}

fn document(session: &Session) -> Document {
    let value = |value: FieldValue<'_>| match value {
        FieldValue::Null => Bson::Null,
        FieldValue::Integer(number) => Bson::Int64(number),
        FieldValue::Text(text) => Bson::String(text.into_owned()),
        FieldValue::Bytes(bytes) => {
            Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
        }
    };
    session_fields(session)
        .into_iter()
        .filter(|(_, field)| *field != FieldValue::Null)
        .map(|(name, field)| (name.to_owned(), value(field)))
        .collect()
}

const USERS: &str = "bare_users";
const LIST: &str = "bare_list";
