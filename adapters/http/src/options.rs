//! What an operator may set; plain data, readable with serde.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_core::policy::Policy;
use session_core::{InvalidField, time};
use session_engine::Options;

use crate::client_ip::ClientIpOptions;
use crate::cookie::CookieOptions;
use crate::next::local_path;
use crate::origin::Origin;

/// All options of a node: its engine's and its HTTP rules'. In a configuration file they are the
/// tables `engine` and `http`.
///
/// ```
/// use session_core::policy::PreventConcurrentLogin;
/// use session_http::{Config, HttpOptions};
///
/// let config = Config::default()
///     .with_policy(PreventConcurrentLogin::LogoutFromSameTypeDevices)
///     .with_http(HttpOptions::default().with_sign_in_path("/login"));
/// assert!(config.http.cookie.secure);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Policies, timeouts, cache, write-back, cleanup.
    pub engine: Options,
    /// Cookie, addresses, pages.
    pub http: HttpOptions,
}

impl Config {
    /// The defaults with a cookie that browsers keep over plain HTTP, for a developer's machine and
    /// for nothing else.
    pub fn development() -> Self {
        let http = HttpOptions::default().with_cookie(CookieOptions::development());
        Self::default().with_http(http)
    }

    /// The defaults, which are those of NIST SP 800-63B-4 for AAL1: see [`Options::aal1`]. The cookie
    /// does not outlive the browser.
    pub fn aal1() -> Self {
        Self::default().with_engine(Options::aal1())
    }

    /// The defaults for NIST SP 800-63B-4, AAL2: see [`Options::aal2`].
    pub fn aal2() -> Self {
        Self::default().with_engine(Options::aal2())
    }

    /// The defaults for NIST SP 800-63B-4, AAL3: see [`Options::aal3`].
    pub fn aal3() -> Self {
        Self::default().with_engine(Options::aal3())
    }

    /// The policy where none is set in the store.
    #[must_use]
    pub fn with_policy(mut self, policy: impl Into<Policy>) -> Self {
        self.engine.default_policy = policy.into();
        self
    }

    /// The engine's options.
    #[must_use]
    pub fn with_engine(mut self, engine: Options) -> Self {
        self.engine = engine;
        self
    }

    /// The options of the HTTP rules.
    #[must_use]
    pub fn with_http(mut self, http: HttpOptions) -> Self {
        self.http = http;
        self
    }
}

/// Options of the HTTP rules. Durations are seconds in configuration files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpOptions {
    /// The cookie that carries the token.
    pub cookie: CookieOptions,
    /// How the client's address is found.
    pub client_ip: ClientIpOptions,
    /// Where the API and the pages live, within wherever they are mounted. Default `/sessions`.
    pub prefix: String,
    /// Where a browser that asks for a page is sent to sign in, as a path of this origin. The page is
    /// added as the parameter `next`. Default nowhere: the answer is 401.
    pub sign_in_path: Option<String>,
    /// Where a browser is sent when its user has to prove again who they are, as a path of this origin
    /// with `next` as above. With it, what ends other sessions and what an admin changes need a user
    /// who has proved that within `fresh_within` (OWASP ASVS 5.0, 7.5.2). Default nowhere.
    pub reauthenticate_path: Option<String>,
    /// How long ago the user may have proved who they are, in seconds, where `reauthenticate_path` is
    /// set. Default 15 minutes.
    #[serde(with = "time::seconds")]
    pub fresh_within: Duration,
    /// Other origins whose pages may change something here: those of sister hosts, of apps in a web
    /// view, or our own behind a proxy that rewrites `Host`. This lifts the check of the origin; what a
    /// page of another origin reads with `fetch` needs a CORS layer around the routes besides. Default
    /// none.
    pub allowed_origins: Vec<Origin>,
    /// How many accounts one browser may be signed in to side by side. Default 1.
    pub max_accounts: u32,
    /// Whether responses to requests that had a session get `Cache-Control: private, no-store` and
    /// `Vary: Cookie`, unless the application sets a `Cache-Control` of its own. Default true.
    pub private_responses: bool,
    /// The body of a request to the API has to arrive within this time, in seconds. Default 10.
    #[serde(with = "time::seconds")]
    pub body_timeout: Duration,
    /// The most streams that one session may have open on this node: event streams, and connections of
    /// the application's opened with [`Live`](crate::Live), such as WebSockets. Default 8.
    pub max_streams_per_session: u32,
    /// The most of them open on this node. Default 10,000.
    pub max_streams: u32,
    /// An event stream ends after this time, in seconds, and the client opens another. Default 1 hour.
    #[serde(with = "time::seconds")]
    pub stream_lifetime: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            cookie: CookieOptions::default(),
            client_ip: ClientIpOptions::default(),
            prefix: "/sessions".to_owned(),
            sign_in_path: None,
            reauthenticate_path: None,
            fresh_within: Duration::from_secs(15 * 60),
            allowed_origins: Vec::new(),
            max_accounts: 1,
            private_responses: true,
            body_timeout: Duration::from_secs(10),
            max_streams_per_session: 8,
            max_streams: 10_000,
            stream_lifetime: Duration::from_secs(3600),
        }
    }
}

impl HttpOptions {
    /// The cookie that carries the token.
    #[must_use]
    pub fn with_cookie(mut self, cookie: CookieOptions) -> Self {
        self.cookie = cookie;
        self
    }

    /// How the client's address is found.
    #[must_use]
    pub fn with_client_ip(mut self, client_ip: ClientIpOptions) -> Self {
        self.client_ip = client_ip;
        self
    }

    /// Where the API and the pages live.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Where a browser that asks for a page is sent to sign in.
    #[must_use]
    pub fn with_sign_in_path(mut self, path: impl Into<String>) -> Self {
        self.sign_in_path = Some(path.into());
        self
    }

    /// Where a browser is sent when its user has to prove again who they are.
    #[must_use]
    pub fn with_reauthenticate_path(mut self, path: impl Into<String>) -> Self {
        self.reauthenticate_path = Some(path.into());
        self
    }

    /// How long ago the user may have proved who they are.
    #[must_use]
    pub const fn with_fresh_within(mut self, within: Duration) -> Self {
        self.fresh_within = within;
        self
    }

    /// Other origins whose pages may change something here.
    #[must_use]
    pub fn with_allowed_origins(mut self, origins: impl Into<Vec<Origin>>) -> Self {
        self.allowed_origins = origins.into();
        self
    }

    /// How many accounts one browser may be signed in to side by side.
    #[must_use]
    pub const fn with_max_accounts(mut self, max: u32) -> Self {
        self.max_accounts = max;
        self
    }

    /// Whether responses to requests that had a session are marked as private.
    #[must_use]
    pub const fn with_private_responses(mut self, private: bool) -> Self {
        self.private_responses = private;
        self
    }

    /// How long the body of a request to the API may take.
    #[must_use]
    pub const fn with_body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// The most streams and WebSockets that one session may have open on this node.
    #[must_use]
    pub const fn with_max_streams_per_session(mut self, max: u32) -> Self {
        self.max_streams_per_session = max;
        self
    }

    /// The most streams and WebSockets open on this node.
    #[must_use]
    pub const fn with_max_streams(mut self, max: u32) -> Self {
        self.max_streams = max;
        self
    }

    /// How long an event stream stays open.
    #[must_use]
    pub const fn with_stream_lifetime(mut self, lifetime: Duration) -> Self {
        self.stream_lifetime = lifetime;
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option.
    pub fn validate(&self) -> Result<(), InvalidField> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        let prefix = self.prefix.strip_prefix('/').filter(|rest| !rest.is_empty());
        let fits = |part: &str| !["", ".", ".."].contains(&part) && part.chars().all(plain);
        if !prefix.is_some_and(|rest| rest.split('/').all(fits)) {
            let expected = "a plain path that begins with a slash and ends without one";
            return Err(InvalidField::malformed("prefix", expected));
        }
        for (name, path) in [
            ("sign_in_path", &self.sign_in_path),
            ("reauthenticate_path", &self.reauthenticate_path),
        ] {
            let is_page = |path: &String| !path.contains('#') && local_path(path).is_some();
            if !path.as_ref().is_none_or(is_page) {
                return Err(InvalidField::malformed(name, "a path of this origin"));
            }
        }
        for (name, duration) in [
            ("body_timeout", self.body_timeout),
            ("fresh_within", self.fresh_within),
            ("stream_lifetime", self.stream_lifetime),
        ] {
            if duration.is_zero() || duration > LONGEST {
                return Err(InvalidField::malformed(name, "longer than zero, at most 10 years"));
            }
        }
        if !(1..=MAX_ACCOUNTS).contains(&self.max_accounts) {
            return Err(InvalidField::out_of_range("max_accounts", 1, MAX_ACCOUNTS.into()));
        }
        for (name, max) in [
            ("max_streams_per_session", self.max_streams_per_session),
            ("max_streams", self.max_streams),
        ] {
            if max == 0 {
                return Err(InvalidField::out_of_range(name, 1, u32::MAX.into()));
            }
        }
        self.cookie.validate()
    }
}

/// Keeps every time that follows from a duration within what a clock can show.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Each is a cookie that browsers send with every request.
const MAX_ACCOUNTS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::SameSite;

    #[test]
    fn options_that_cannot_work_are_named() {
        let of = |options: HttpOptions| options.validate().map_err(|error| error.field);
        let cookie = |name: &str, secure| {
            let cookie = CookieOptions::default().with_name(name).with_secure(secure);
            of(HttpOptions::default().with_cookie(cookie))
        };
        assert_eq!(of(HttpOptions::default().with_prefix("/auth/sessions")), Ok(()));
        for prefix in ["", "/", "sessions", "/sessions/", "/{id}", "/a b", "//a", "/../a", "/a/./b"]
        {
            assert_eq!(of(HttpOptions::default().with_prefix(prefix)), Err("prefix"), "{prefix}");
        }
        assert_eq!(cookie("", true), Err("cookie.name"));
        assert_eq!(cookie("a;b", true), Err("cookie.name"));
        assert_eq!(cookie("__Host-session", false), Err("cookie.secure"));
        let forgotten = CookieOptions::default().with_max_age(Duration::ZERO);
        assert_eq!(of(HttpOptions::default().with_cookie(forgotten)), Err("cookie.max_age"));
        for path in ["login", "//evil.example", "https://evil.example", "/login#form"] {
            let options = HttpOptions::default().with_sign_in_path(path);
            assert_eq!(of(options), Err("sign_in_path"), "{path}");
        }
        let away = HttpOptions::default().with_reauthenticate_path("https://evil.example");
        assert_eq!(of(away), Err("reauthenticate_path"));
        let none = HttpOptions::default().with_max_accounts(9);
        assert_eq!(of(none), Err("max_accounts"));
        let of_domain = CookieOptions::default().with_domain("example.com".to_owned());
        assert_eq!(of(HttpOptions::default().with_cookie(of_domain)), Err("cookie.domain"));
        let embedded = CookieOptions::development().with_same_site(SameSite::None);
        assert_eq!(of(HttpOptions::default().with_cookie(embedded)), Err("cookie.secure"));
        let none = HttpOptions::default().with_body_timeout(Duration::ZERO);
        assert_eq!(of(none), Err("body_timeout"));
        assert_eq!(of(HttpOptions::default().with_max_streams(0)), Err("max_streams"));
    }

    #[test]
    fn each_level_has_a_configuration() {
        for (config, engine) in [
            (Config::aal1(), Options::aal1()),
            (Config::aal2(), Options::aal2()),
            (Config::aal3(), Options::aal3()),
        ] {
            assert_eq!(config.engine, engine);
            assert!(!config.http.cookie.remember, "a secret does not outlive the browser");
        }
    }

    #[test]
    fn a_configuration_reads_as_data_and_unknown_options_are_named() {
        let text = r#"{"engine":{"propagation_bound":2},"http":{"client_ip":{"trusted_proxies":["unix","10.0.0.1","fd00::/8"]}}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.engine.propagation_bound, Duration::from_secs(2));
        let shown = serde_json::to_value(&config).unwrap();
        let proxies = &shown["http"]["client_ip"]["trusted_proxies"];
        assert_eq!(*proxies, serde_json::json!(["unix", "10.0.0.1/32", "fd00::/8"]));
        let error = serde_json::from_str::<Config>(r#"{"http":{"cookies":{}}}"#).unwrap_err();
        assert!(error.to_string().contains("cookies"), "{error}");
    }
}
