//! Behind an nginx as Debian installs it, which collects responses by default.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use session_test_support::free_address;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::app::{App, Ground, eventually};
use crate::client::{Client, login_form};

/// A proxy in front of an application. It ends when it is dropped.
struct Nginx {
    address: SocketAddr,
    process: Child,
    _port: File,
    _folder: TempDir,
}

impl Nginx {
    async fn before(app: &App, version: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let (address, port) = free_address();
        let process = start(folder.path(), address, app.address, version);
        let mut nginx = Self { address, process, _port: port, _folder: folder };
        let browser = nginx.browser();
        while browser.try_send("GET", "/login", String::new()).await.is_err() {
            assert_eq!(nginx.process.try_wait().unwrap(), None, "nginx does not start");
            tokio::task::yield_now().await;
        }
        nginx
    }

    /// A browser whose requests come from another address than the proxy's.
    fn browser(&self) -> Client {
        let from = Some(Ipv4Addr::new(127, 0, 0, 2).into());
        Client { from, ..Client::new(self.address) }
    }
}

fn start(folder: &Path, address: SocketAddr, app: SocketAddr, version: &str) -> Child {
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {}/{name};\n", folder.display()))
        .concat();
    let configuration = format!(
        "daemon off;
master_process off;
user root root;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
{paths}    server {{
        listen {address};
        location / {{
            proxy_pass http://{app};
            proxy_http_version {version};
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
",
        folder = folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    // Debian's folder for it is on the path of root only.
    let debian = "/usr/sbin/nginx";
    Command::new(if Path::new(debian).is_file() { debian } else { "nginx" })
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nginx is missing: `apt-get install nginx-light`")
}

/// An application behind a proxy that speaks this version of HTTP to it.
async fn behind(on: Ground, version: &str) -> (App, Nginx) {
    let app = App::with(on, |config| {
        config.http.client_ip.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let nginx = Nginx::before(&app, version).await;
    (app, nginx)
}

/// Over the version that nginx takes by default, where it waits for whole buffers, and the other.
pub(crate) async fn events_arrive_through_nginx(on: Ground) {
    for version in ["1.0", "1.1"] {
        let (app, nginx) = behind(on, version).await;
        let mut alice = nginx.browser();
        assert_eq!(alice.login("alice").await, 303);
        let mut stream = alice.ask("GET", "/sessions/me/events").open().await;
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        stream.until(": open\n\n").await;
        let other = app.browser("alice").await.session_id().await;
        stream.until(&other).await;
        let path = format!("/sessions/admin/sessions/{}", alice.session_id().await);
        assert_eq!(app.browser("root").await.delete(&path).await.status, 204);
        assert!(stream.finish().await.contains("event: ended"));
    }
}

pub(crate) async fn the_address_is_the_clients_behind_nginx(on: Ground) {
    let (_app, nginx) = behind(on, "1.1").await;
    let mut alice = nginx.browser();
    let forged = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];
    let mut ask = alice.ask("POST", "/login").form(login_form("alice"));
    for (name, value) in forged {
        ask = ask.header(name, value);
    }
    let answer = ask.send().await;
    assert_eq!(answer.status, 303);
    alice.keep(&answer);
    let me = alice.ask("GET", "/sessions/me").header("x-forwarded-for", "6.6.6.6").send().await;
    assert_eq!(me.json()["sessions"][0]["ip_addresses"], json!(["127.0.0.2"]));
}

/// The pages and their calls prove their origin through a proxy that keeps the host.
pub(crate) async fn a_browser_works_through_nginx(on: Ground) {
    let (app, nginx) = behind(on, "1.1").await;
    let mut alice = nginx.browser();
    assert_eq!(alice.login("alice").await, 303);
    assert_eq!(alice.get("/sessions").await.headers["location"], "/sessions/");
    assert_eq!(alice.get("/sessions/").await.status, 200);
    let asset = alice.get("/sessions/assets/app.css").await;
    let known = alice.ask("GET", "/sessions/assets/app.css");
    let known = known.header("if-none-match", &asset.headers["etag"]).send().await;
    assert_eq!(known.status, 304);
    let ask = alice.ask("POST", "/sessions/me/revoke-others").without("sec-fetch-site");
    let ask = ask.header("origin", format!("http://{}", nginx.address));
    assert_eq!(ask.send().await.status, 200);
    // A stream that the browser leaves is left by the proxy, too.
    drop(alice.ask("GET", "/sessions/me/events").open().await);
    eventually("the server goes on", async || app.stranger().get("/").await.status == 200).await;
}
