//! What an operator wants to know of the store.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::{Collection, IndexModel};
use session_core::store::StoreReport;

use crate::agreement::VERSION;
use crate::collections::Collections;
use crate::error::Failed;
use crate::record;

/// Reads only, and nothing that grows with the number of sessions.
pub(crate) async fn of(store: &Collections, is_pushed: bool) -> Result<StoreReport, Failed> {
    let admin = store.client.database("admin");
    let build = admin.run_command(doc! { "buildInfo": 1 }).await?;
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    let (mut problems, mut needed) = (Vec::new(), 0);
    for (collection, indexes) in store.indexes() {
        needed += indexes.len();
        problems.extend(missing(collection, &indexes).await?);
    }
    let said = |yes| if yes { "yes" } else { "no" }.to_owned();
    let newest = store.newest().await?.number;
    let mut details = vec![
        ("database".to_owned(), store.users.namespace().db),
        ("topology".to_owned(), topology(&hello)),
        ("transactions".to_owned(), said(store.transactional)),
        ("push".to_owned(), said(is_pushed)),
        ("last number of the log".to_owned(), newest.to_string()),
        ("sequencer".to_owned(), format!("readers; last decided {}", store.decided().await?)),
        ("indexes".to_owned(), format!("{} of {needed}", needed - problems.len())),
    ];
    if let Some(ended) = store.history_from().await? {
        details.push(("history from".to_owned(), ended.to_string()));
    }
    Ok(StoreReport {
        server: format!("MongoDB {}", build.get_str("version").unwrap_or("of no version")),
        schema: Some(VERSION.into()),
        clock: record::time(&hello, "localTime")?,
        log_from: store.log_from().await?,
        pending: store.count_pending().await?,
        details,
        problems,
    })
}

async fn missing(
    collection: &Collection<Document>,
    indexes: &[IndexModel],
) -> Result<Vec<String>, Failed> {
    let there: Vec<_> = collection.list_indexes().await?.try_collect().await?;
    let is_there = |keys: &Document| there.iter().any(|index| same(&index.keys, keys));
    let missing = indexes.iter().filter(|index| !is_there(&index.keys));
    let name = collection.name();
    Ok(missing.map(|index| format!("{name} has no index on {}", index.keys)).collect())
}

/// A server may tell directions as numbers of another type.
fn same(keys: &Document, others: &Document) -> bool {
    let plain = |keys: &Document| -> Vec<_> {
        let direction = |value: &mongodb::bson::Bson| {
            value.as_i32().map(f64::from).or(value.as_f64()).unwrap_or_default() > 0.0
        };
        keys.iter().map(|(name, value)| (name.clone(), direction(value))).collect()
    };
    plain(keys) == plain(others)
}

fn topology(hello: &Document) -> String {
    match (hello.get_str("setName"), hello.get_str("msg")) {
        (Ok(name), _) => format!("replica set {name}"),
        (_, Ok("isdbgrid")) => "sharded cluster".to_owned(),
        _ => "standalone".to_owned(),
    }
}
