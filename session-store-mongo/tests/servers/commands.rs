//! What the store asks the server for, by the driver's command events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::ClientOptions;
use session_conformance::sample::{add_many, end, insert, now, session, user};
use session_core::store::{
    Change, Commit, Entries, Outcome, PageQuery, Selection, TenantFilter, Touch,
};
use session_core::{Actor, EndCause, Session, Store, Timestamp};
use session_store_mongo::{MongoStore, Transactions};

use crate::namespace::{ALONE, Fresh, url};

/// A command that was sent.
#[derive(Debug)]
struct Sent {
    name: String,
    /// Whether it is answered as of a time that this node has seen.
    is_causal: bool,
    /// How many documents it writes, at most.
    writes: usize,
}

/// The commands that a store has sent.
#[derive(Clone, Default)]
struct Commands(Arc<Mutex<Vec<Sent>>>);

impl Commands {
    async fn store(&self, fresh: &Fresh) -> MongoStore {
        let mut client = ClientOptions::parse(url()).await.unwrap();
        let sent = Arc::clone(&self.0);
        client.command_event_handler = Some(EventHandler::callback(move |event| {
            let CommandEvent::Started(started) = event else { return };
            let concern = started.command.get_document("readConcern");
            let is_causal = concern.is_ok_and(|concern| concern.contains_key("afterClusterTime"));
            let (name, writes) = (started.command_name, writes(&started.command));
            sent.lock().unwrap().push(Sent { name, is_causal, writes });
        }));
        fresh.open_with(client).await.unwrap()
    }

    /// Those since the last time.
    fn taken(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn names(&self) -> Vec<String> {
        self.taken().into_iter().map(|sent| sent.name).collect()
    }
}

/// A command names each document that it writes, by itself or in a list of ids.
fn writes(command: &Document) -> usize {
    let parts = ["documents", "updates", "deletes"];
    let parts = parts.into_iter().filter_map(|name| command.get_array(name).ok()).flatten();
    let named = parts.map(|part| {
        let ids = part.as_document().and_then(|part| part.get_document("q").ok());
        let ids = ids.and_then(|filter| filter.get_document("_id").ok());
        ids.and_then(|ids| ids.get_array("$in").ok()).map_or(1, Vec::len)
    });
    named.sum()
}

/// On a sharded cluster a shard can be behind the log. What is read after an entry is read as of it.
#[tokio::test]
async fn reads_of_users_and_sessions_see_what_the_log_has_told() {
    let _alone = ALONE.write().await;
    let (commands, fresh) = (Commands::default(), Fresh::new(Transactions::WhereThereAre));
    let writer = fresh.store().await;
    let mine = session(&writer, &user("alice"), now(&writer).await);
    insert(&writer, &mine).await;
    let store = commands.store(&fresh).await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    insert(&writer, &session(&writer, &mine.owner, mine.signed_in)).await;
    assert_eq!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().events.len(), 1);

    commands.taken();
    let all = PageQuery::live(TenantFilter::Any, mine.signed_in);
    let mut of_user = PageQuery::live(TenantFilter::Is(None), mine.signed_in);
    of_user.user = Some(mine.owner.user.clone());
    let later = mine.signed_in.plus(Duration::from_secs(1));
    let touch = Touch {
        id: mine.id,
        last_accessed: later,
        deadline: mine.deadline,
        claimed: true,
        ip_addresses: vec!["192.0.2.7".parse().unwrap()],
    };
    let mut read = 0;
    for what in ["user", "load", "page", "page of a user", "the log's end", "touch"] {
        match what {
            "user" => assert_eq!(store.user(&mine.owner).await.unwrap().sessions.len(), 2),
            "load" => assert!(store.load(mine.id).await.unwrap().is_some()),
            "page" => assert_eq!(store.page(&all).await.unwrap().sessions.len(), 2),
            "page of a user" => {
                assert_eq!(store.page(&of_user).await.unwrap().sessions.len(), 2);
            }
            // A node that begins there reads no entry of it.
            "the log's end" => drop(store.log_since(None, Entries::All, 0).await.unwrap()),
            _ => assert_eq!(store.touch(std::slice::from_ref(&touch)).await.unwrap(), []),
        }
        for sent in commands.taken() {
            let is_read = ["find", "aggregate"].contains(&sent.name.as_str());
            assert!(!is_read || sent.is_causal, "{what}: {sent:?}");
            read += usize::from(is_read);
        }
    }
    assert!(read >= 6, "{read} reads");
}

/// The documentation of the crate states these numbers.
#[tokio::test]
async fn a_sign_in_costs_few_commands() {
    let _alone = ALONE.write().await;
    let (commands, fresh) = (Commands::default(), Fresh::new(Transactions::WhereThereAre));
    let store = commands.store(&fresh).await;
    let at = now(&store).await;
    let [first, second] = [(); 2].map(|()| session(&store, &user("alice"), at));
    let begin = |session: &Session| Change::Insert(Box::new(session.clone()));
    let evict = Change::End(first.id, EndCause::Evicted);
    for (changes, count) in [(vec![begin(&first)], 9), (vec![evict, begin(&second)], 13)] {
        commands.taken();
        let expected = store.user(&first.owner).await.unwrap().version;
        let (owner, by, from) = (first.owner.clone(), Actor::Application, None);
        let sign_in = Commit { owner, expected, changes, at, by, from };
        assert_eq!(store.commit(&sign_in).await.unwrap(), Outcome::Done);
        let names = commands.names();
        assert_eq!(names.len(), count, "{names:?}");
    }
}

/// The server's clock in one of its answers.
fn clock_of(reply: &Document) -> Option<DateTime> {
    let cursor = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let clock = match cursor {
        Ok(found) => found.first()?.as_document()?.get_datetime("clock"),
        Err(_) => reply.get_datetime("localTime"),
    };
    clock.ok().copied()
}

#[tokio::test]
async fn a_read_of_the_log_tells_the_servers_clock() {
    let _alone = ALONE.read().await;
    let (heard, fresh) = (Arc::new(Mutex::new(None)), Fresh::new(Transactions::WhereThereAre));
    let mut client = ClientOptions::parse(url()).await.unwrap();
    let hears = Arc::clone(&heard);
    client.command_event_handler = Some(EventHandler::callback(move |event| {
        let CommandEvent::Succeeded(answered) = event else { return };
        if let Some(clock) = clock_of(&answered.reply) {
            *hears.lock().unwrap() = Some(clock);
        }
    }));
    let store = fresh.open_with(client).await.unwrap();
    let mine = session(&store, &user("alice"), now(&store).await);
    for empty in [true, false] {
        *heard.lock().unwrap() = None;
        let clock = store.log_since(None, Entries::All, 0).await.unwrap().clock;
        let told = heard.lock().unwrap().expect("the server tells its clock");
        assert_eq!(clock, Timestamp::from_micros(told.timestamp_millis() * 1000), "empty: {empty}");
        if empty {
            insert(&store, &mine).await;
        }
    }
}

/// A server takes the longer for a command the more it writes, and a transaction may last so long and no
/// longer: what a call does to many sessions is many commands.
#[tokio::test]
async fn no_command_writes_more_than_a_hundred_documents() {
    let _alone = ALONE.write().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        let (commands, fresh) = (Commands::default(), Fresh::new(transactions));
        let store = commands.store(&fresh).await;
        let begun = add_many(&store, &user("alice"), 150).await;
        let later = begun[0].signed_in.plus(Duration::from_secs(1));
        let touch = |mine: &Session| Touch {
            id: mine.id,
            last_accessed: later,
            deadline: mine.deadline,
            claimed: true,
            ip_addresses: Vec::new(),
        };
        commands.taken();
        let batch: Vec<_> = begun.iter().map(touch).collect();
        assert_eq!(store.touch(&batch).await.unwrap(), []);
        bounded("a touch", &commands.taken(), 2 * batch.len());
        let all = end(&store, Selection::user(user("alice"))).await;
        commands.taken();
        assert_eq!(store.end_many(&all, 500).await.unwrap().ended.len(), begun.len());
        // The entry of the list, that of the log, and the record of the history.
        bounded("an end", &commands.taken(), 3 * begun.len());
        store.log_since(None, Entries::All, 0).await.unwrap();
        bounded("a numbering", &commands.taken(), begun.len());
    }
}

/// A node died while it delivered its changes, after ten entries. The next one asks which are there.
#[tokio::test]
async fn a_delivery_goes_on_in_few_commands() {
    let _alone = ALONE.write().await;
    let (commands, fresh) = (Commands::default(), Fresh::new(Transactions::Never));
    let store = commands.store(&fresh).await;
    let owner = user("alice");
    add_many(&store, &owner, 30).await;
    let database = fresh.database().await;
    let log = fresh.collection(&database, "log");
    let of_alice = doc! { "user_id": "alice" };
    let told = log.find(of_alice.clone()).sort(doc! { "order": 1 }).await.unwrap();
    let told: Vec<Document> = told.try_collect().await.unwrap();
    assert_eq!(told.len(), 30);
    let lost: Vec<_> = told[10..].iter().map(|entry| entry.get("_id")).collect();
    log.delete_many(doc! { "_id": { "$in": lost } }).await.unwrap();
    let outbox: Vec<_> = told.into_iter().map(|entry| doc! { "entry": entry }).collect();
    // No reader of the log takes it over during this test.
    let waiting = DateTime::from_millis(253_370_764_800_000);
    let left = doc! { "$set": { "outbox": outbox, "waiting": waiting } };
    fresh.collection(&database, "users").update_one(doc! {}, left).await.unwrap();
    commands.taken();
    assert_eq!(store.user(&owner).await.unwrap().sessions.len(), 30);
    let sent = commands.names();
    println!("delivered by {sent:?}");
    assert_eq!(sent.iter().filter(|name| *name == "insert").count(), 2, "{sent:?}");
    assert_eq!(log.count_documents(of_alice).await.unwrap(), 30);
}

fn bounded(what: &str, sent: &[Sent], least: usize) {
    let writes: Vec<_> = sent.iter().map(|sent| sent.writes).collect();
    println!("{what} writes {writes:?} documents");
    assert!(writes.iter().all(|writes| *writes <= 100), "{what}: {sent:?}");
    assert!(writes.iter().sum::<usize>() >= least, "{what} is counted: {sent:?}");
}
