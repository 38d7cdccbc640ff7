//! A demo, a driver, and browsers.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::wd::WindowHandle;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use session_demo::{Adapter, Place, read_config};
use session_kit::UserKey;
use session_kit::core::{Actor, DeviceKind, SessionId};
use session_kit::engine::{SessionManager, SignIn};
use session_kit::http::{Config, Hooks, HttpSessions};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::PATIENCE;

pub(crate) struct Demo {
    address: SocketAddr,
    http: HttpSessions,
    _folder: TempDir,
}

/// A session that no browser holds.
pub(crate) struct Elsewhere {
    id: SessionId,
    owner: UserKey,
}

impl Elsewhere {
    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }
}

impl Demo {
    /// On the adapter and the server that the environment names, in a schema of its own; by default
    /// on axum and a SQLite file.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let place = match std::env::var("SESSION_KIT_BROWSER_POSTGRES_URL") {
            Ok(url) => Place::Postgres(own_schema(&url).await),
            Err(_) => Place::File(folder.path().join("demo.db")),
        };
        let adapter = adapter();
        println!("sessions in {place}, with {adapter:?}");
        let (store, mut config) = (place.open().await.unwrap(), read_config(None).unwrap());
        change(&mut config);
        let demo =
            session_demo::Demo::start(store, &place, config, Hooks::default()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let http = demo.http().clone();
        tokio::spawn(demo.serve(adapter, listener, std::future::pending()));
        Self { address, http, _folder: folder }
    }

    pub(crate) fn manager(&self) -> &SessionManager {
        self.http.manager()
    }

    /// Begins a session, later than every one before it.
    pub(crate) async fn session(&self, tenant: Option<&str>, user: &str, agent: &str) -> Elsewhere {
        let tenant = tenant.map(|tenant| tenant.parse().unwrap());
        let owner = UserKey { tenant, user: user.parse().unwrap() };
        let new = SignIn::new(owner.clone())
            .with_device_kind(DeviceKind::Console)
            .with_device_info(Some(agent.parse().unwrap()));
        let begun = self.manager().now();
        let id = self.manager().sign_in(new).await.unwrap().session.id();
        // Stores keep milliseconds.
        while self.manager().now().since(begun).as_millis() < 2 {
            tokio::task::yield_now().await;
        }
        Elsewhere { id, owner }
    }

    /// How many sessions the same user has.
    pub(crate) async fn count(&self, session: &Elsewhere) -> u64 {
        self.manager().count(&session.owner).await.unwrap()
    }

    pub(crate) async fn revoke(&self, session: &Elsewhere) {
        assert!(self.manager().revoke(session.id, &session.owner, Actor::System).await.unwrap());
    }

    /// Revokes all sessions of a user.
    pub(crate) async fn end(&self, user: &str) {
        let owner = UserKey::new(user.parse().unwrap());
        self.manager().revoke_user(owner, Actor::System).await.unwrap();
    }
}

fn adapter() -> Adapter {
    match std::env::var("SESSION_KIT_BROWSER_ADAPTER").as_deref() {
        Ok("axum") | Err(_) => Adapter::Axum,
        Ok("actix") => Adapter::Actix,
        Ok("poem") => Adapter::Poem,
        Ok(other) => panic!("SESSION_KIT_BROWSER_ADAPTER is {other}: axum, actix or poem"),
    }
}

async fn own_schema(url: &str) -> String {
    let mut server = PgConnection::connect(url).await.unwrap();
    let name = format!("browser_{:x}", std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed));
    let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {name}"));
    sqlx::query(create).execute(&mut server).await.unwrap();
    format!("{url}?options[search_path]={name}")
}

static NEXT: AtomicU32 = AtomicU32::new(0);
const NAME: &str = "demo.example";
/// More than there are others to whom a free port may go at the same moment.
const TRIES: usize = 10;

pub(crate) struct Driver {
    url: String,
    _process: Child,
}

impl Driver {
    pub(crate) async fn start() -> Self {
        for _ in 0..TRIES {
            let mut process = Command::new("chromedriver")
                .args(["--port=0"])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("chromedriver is missing: `cargo xtask test` installs it");
            let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(port) = line.split("successfully on port ").nth(1) {
                    let url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
                    // Nobody reads on, but the pipe has to stay open.
                    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                    return Self { url, _process: process };
                }
            }
            // It wants one port of both IP versions, and ends where somebody has one of them.
        }
        panic!("chromedriver says no port");
    }

    pub(crate) async fn browser(&self, demo: &Demo, scheme: &str) -> Browser {
        self.browser_of(demo, scheme, None).await
    }

    /// A browser whose window has this width and height, in pixels.
    pub(crate) async fn browser_of(
        &self,
        demo: &Demo,
        scheme: &str,
        size: Option<(u32, u32)>,
    ) -> Browser {
        let preferred = if scheme == "dark" { 0 } else { 1 };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--host-resolver-rules=MAP {NAME} 127.0.0.1"),
            "--window-size=1100,900",
            &format!("--blink-settings=preferredColorScheme={preferred}"),
        ];
        let mut capabilities = serde_json::Map::new();
        let mut options = json!({ "args": arguments });
        if let Some((width, height)) = size {
            // No window is that narrow.
            let metrics = json!({ "width": width, "height": height, "mobile": false });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        let client = ClientBuilder::new(hyper_connector())
            .capabilities(capabilities)
            .connect(&self.url)
            .await
            .expect("chromium starts: `cargo xtask test` installs it");
        Browser { client, host: demo.address.to_string() }
    }

    pub(crate) async fn stop(self, browsers: Vec<Browser>) {
        for browser in browsers {
            self.close(browser).await;
        }
    }

    pub(crate) async fn close(&self, browser: Browser) {
        browser.client.close().await.unwrap();
    }
}

fn hyper_connector() -> hyper_util::client::legacy::connect::HttpConnector {
    hyper_util::client::legacy::connect::HttpConnector::new()
}

pub(crate) struct Browser {
    client: Client,
    host: String,
}

impl Browser {
    /// At the demo by a name that is not this machine's. Over plain HTTP browsers keep some of what
    /// they can do from such a page.
    pub(crate) fn at_a_name(self) -> Self {
        let port = self.host.rsplit(':').next().unwrap();
        Self { host: format!("{NAME}:{port}"), ..self }
    }

    pub(crate) async fn open(&self, path: &str) {
        self.client.goto(&format!("http://{}{path}", self.host)).await.unwrap();
    }

    pub(crate) async fn sign_in(&self, user: &str) {
        self.try_sign_in(user).await;
        self.see_text("#user", user).await;
    }

    /// Signs in by this name of the form as a user of a tenant.
    pub(crate) async fn sign_in_as(&self, name: &str, user: &str) {
        self.try_sign_in(name).await;
        self.see_text("#user", user).await;
    }

    pub(crate) async fn try_sign_in(&self, user: &str) {
        self.open("/login").await;
        self.fill_sign_in(user).await;
    }

    /// On the page to sign in.
    pub(crate) async fn fill_sign_in(&self, user: &str) {
        self.type_into("input[name='user']", user).await;
        self.type_into("input[name='password']", user).await;
        self.click("button").await;
    }

    /// Waits until it is there.
    pub(crate) async fn see(&self, selector: &str) {
        let begun = std::time::Instant::now();
        // A browser on its way to another page may answer with an error.
        while let Err(error) = self.client.find(Locator::Css(selector)).await {
            let source = self.client.source().await;
            assert!(begun.elapsed() < PATIENCE, "{selector} does not come: {error}: {source:?}");
        }
    }

    /// Waits until it says this, among other things; or nothing.
    pub(crate) async fn see_text(&self, selector: &str, text: &str) {
        let begun = std::time::Instant::now();
        loop {
            let shown = match self.client.find(Locator::Css(selector)).await {
                Ok(element) => element.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            };
            if shown.contains(text) && (!text.is_empty() || shown.is_empty()) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{selector} says {shown:?}, not {text:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the element of this name has the focus.
    pub(crate) async fn see_focus(&self, name: &str) {
        let begun = std::time::Instant::now();
        loop {
            let focused = self.focused().await;
            if focused == name {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{focused:?} has the focus, not {name:?}");
        }
    }

    /// The name of the element that has the focus; `BODY` where none has.
    pub(crate) async fn focused(&self) -> String {
        let name = "const { activeElement: made } = document;
            return made === document.body ? 'BODY' : made.ariaLabel ?? made.textContent.trim()";
        self.js(name).await.as_str().unwrap_or_default().to_owned()
    }

    /// Runs a script, and returns what it returns.
    pub(crate) async fn js(&self, script: &str) -> Value {
        self.js_with(script, Vec::new()).await
    }

    pub(crate) async fn js_with(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.unwrap()
    }

    /// Runs a script until it calls its last argument.
    pub(crate) async fn js_async(&self, script: &str) {
        self.client.execute_async(script, Vec::new()).await.unwrap();
    }

    /// Runs a script that returns a number.
    pub(crate) async fn number(&self, script: &str) -> i64 {
        let value = self.js(script).await;
        value.as_f64().unwrap_or_else(|| panic!("{value} is no number")) as i64
    }

    /// The path and the query of the page.
    pub(crate) async fn address(&self) -> String {
        let address = self.js("return location.pathname + location.search").await;
        address.as_str().unwrap().to_owned()
    }

    pub(crate) async fn back(&self) {
        self.client.back().await.unwrap();
    }

    pub(crate) async fn delete_cookies(&self) {
        self.client.delete_all_cookies().await.unwrap();
    }

    /// What stands in a field.
    pub(crate) async fn value(&self, selector: &str) -> String {
        let element = self.client.find(Locator::Css(selector)).await.unwrap();
        element.prop("value").await.unwrap().unwrap_or_default()
    }

    /// The tab that it shows.
    pub(crate) async fn tab(&self) -> WindowHandle {
        self.client.window().await.unwrap()
    }

    pub(crate) async fn new_tab(&self) -> WindowHandle {
        self.client.new_window(true).await.unwrap().handle
    }

    pub(crate) async fn switch(&self, tab: &WindowHandle) {
        self.client.switch_to_window(tab.clone()).await.unwrap();
    }

    /// Closes the tab that it shows.
    pub(crate) async fn close_tab(&self) {
        self.client.close_window().await.unwrap();
    }

    /// Waits until it is no longer there.
    pub(crate) async fn gone(&self, selector: &str) {
        let begun = std::time::Instant::now();
        while self.is_there(selector).await {
            assert!(begun.elapsed() < PATIENCE, "{selector} does not go");
        }
    }

    pub(crate) async fn is_there(&self, selector: &str) -> bool {
        self.count(selector).await > 0
    }

    pub(crate) async fn shows(&self, selector: &str) -> bool {
        self.client.find(Locator::Css(selector)).await.unwrap().is_displayed().await.unwrap()
    }

    pub(crate) async fn count(&self, selector: &str) -> usize {
        self.client.find_all(Locator::Css(selector)).await.unwrap().len()
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        self.client.find(Locator::Css(selector)).await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn click(&self, selector: &str) {
        self.act(selector, async |element| element.click().await).await;
    }

    /// Presses a key while the element has the focus.
    pub(crate) async fn press(&self, selector: &str, key: char) {
        self.act(selector, async |element| element.send_keys(&key.to_string()).await).await;
    }

    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        self.act(selector, async |element| {
            element.clear().await?;
            element.send_keys(text).await
        })
        .await;
    }

    pub(crate) async fn choose(&self, selector: &str, value: &str) {
        self.act(selector, async |element| element.select_by_value(value).await).await;
    }

    /// Into `target/screenshots`.
    pub(crate) async fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let picture = self.client.screenshot().await.unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }

    /// A live update may replace an element between finding it and using it, and one that loads switches
    /// fields off for a moment: find it again.
    async fn act(
        &self,
        selector: &str,
        action: impl AsyncFn(fantoccini::elements::Element) -> Result<(), CmdError>,
    ) {
        let begun = std::time::Instant::now();
        loop {
            self.see(selector).await;
            let element = self.client.find(Locator::Css(selector)).await;
            let result = match element {
                Ok(element) => action(element).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => return,
                Err(CmdError::Standard(error)) if passes(&error.error) => {
                    assert!(begun.elapsed() < PATIENCE, "{selector}: {error}");
                }
                Err(error) => panic!("{selector}: {error}"),
            }
        }
    }
}

fn passes(status: &ErrorStatus) -> bool {
    matches!(
        status,
        ErrorStatus::StaleElementReference
            | ErrorStatus::NoSuchElement
            | ErrorStatus::ElementNotInteractable
            | ErrorStatus::ElementClickIntercepted
            | ErrorStatus::InvalidElementState
    )
}
