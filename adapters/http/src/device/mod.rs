//! What the headers of a request say about the device.

mod agent;
mod hints;
mod known;

use std::borrow::Cow;

use http::HeaderMap;
use http::header::USER_AGENT;
use percent_encoding::percent_decode_str;
use session_core::{DeviceInfo, DeviceKind};

use self::agent::{Agent, Product};
use self::hints::Hints;
use self::known::{DESKTOP_APPS, MAKINGS, SCRIPTS, System};

/// The kind of device and readable text about it, such as `Firefox 140 on Linux`.
///
/// Client hints (`Sec-CH-UA` and its relatives) count before the `User-Agent`. A browser on a computer is
/// `Web`, a browser or an application on a phone or tablet `Mobile`, an installed program `Desktop`, a
/// television or a games console `Tv`, a command line or a script `Console`. An application that knows
/// better says so at sign-in.
pub fn device(headers: &HeaderMap) -> (DeviceKind, Option<DeviceInfo>) {
    let agent = headers.get(USER_AGENT).map(|value| value.as_bytes()).unwrap_or_default();
    // Cut first: a header may be as long as the server allows.
    let agent = String::from_utf8_lossy(&agent[..agent.len().min(MAX_AGENT_BYTES)]);
    let seen = Seen::of(Agent::parse(&agent), Hints::read(headers));
    let (kind, text) = seen.recognise();
    // A name may be made of nothing but what is left out.
    (kind, DeviceInfo::truncated(&text).or_else(|| DeviceInfo::truncated("unknown")))
}

/// A kind and a text.
type Recognised = (DeviceKind, String);

struct Seen<'a> {
    agent: Agent<'a>,
    hints: Hints,
    system: Option<System>,
    is_handheld: bool,
}

impl<'a> Seen<'a> {
    fn of(agent: Agent<'a>, hints: Hints) -> Self {
        let system = hints.system.or_else(|| System::of(&agent));
        let is_handheld = hints.is_handheld
            || system.is_some_and(|system| system.is_handheld)
            || agent.is_browser() && hints.system.is_none() && agent.comments_have("Mobile");
        Self { agent, hints, system, is_handheld }
    }

    fn recognise(&self) -> Recognised {
        self.screen()
            .or_else(|| self.script())
            .or_else(|| self.desktop_app())
            .or_else(|| self.mobile_app())
            .or_else(|| self.browser())
            .unwrap_or_else(|| self.program())
    }

    fn screen(&self) -> Option<Recognised> {
        known::screen(&self.agent).map(|name| (DeviceKind::Tv, name.to_owned()))
    }

    fn script(&self) -> Option<Recognised> {
        let product = SCRIPTS.iter().find_map(|name| self.agent.product(name))?;
        Some((DeviceKind::Console, with_version(product.name, product.version)))
    }

    /// One that is known, one made with Electron or WebView2, or a program that names a desktop system.
    fn desktop_app(&self) -> Option<Recognised> {
        if self.is_handheld {
            return None;
        }
        let known = DESKTOP_APPS
            .into_iter()
            .find_map(|(product, name)| Some((name, self.agent.product(product)?.version)));
        if let Some((name, version)) = known {
            return Some((DeviceKind::Desktop, self.on_system(&with_version(name, version))));
        }
        let is_native = || {
            let system = self.system.map(|system| system.name);
            !self.is_like_a_browser() && matches!(system, Some("Windows" | "macOS"))
        };
        if self.agent.product("Electron").is_some()
            || self.is_brand("Microsoft Edge WebView2")
            || is_native()
        {
            let own = self.own_name().map(|name| format!("{name}, ")).unwrap_or_default();
            return Some((DeviceKind::Desktop, self.on_system(&format!("{own}a desktop app"))));
        }
        None
    }

    /// One that names its system, or what only applications are made with.
    fn mobile_app(&self) -> Option<Recognised> {
        let has = |name| self.agent.product(name).is_some();
        let place = if has("Dart") {
            return Some((DeviceKind::Mobile, "an app built with Flutter".to_owned()));
        } else if has("okhttp") || has("Dalvik") {
            "Android"
        } else if has("CFNetwork") || has("Alamofire") {
            let named = self.system.filter(|_| self.is_handheld);
            named.map_or("iPhone, iPad or Mac", |system| system.name)
        } else if self.is_handheld && (!self.is_like_a_browser() || self.is_web_view()) {
            self.system?.name
        } else {
            return None;
        };
        let name = self.own_name().unwrap_or("an app".to_owned());
        Some((DeviceKind::Mobile, format!("{name} on {place}")))
    }

    /// Whether an application shows the page: Android says so, iOS leaves its browser's name out.
    fn is_web_view(&self) -> bool {
        let browser = known::browser(&self.agent).map(|(name, _)| name);
        match self.system.map(|system| system.name) {
            Some("Android") => {
                self.is_brand("Android WebView")
                    || self.agent.comments_have("; wv") && browser == Some("Chrome")
            }
            Some("iPhone" | "iPad") => browser.is_none() && self.hints.browser.is_none(),
            _ => false,
        }
    }

    fn browser(&self) -> Option<Recognised> {
        let hint = self.hints.browser.as_ref();
        let hint = hint.map(|(brand, version)| (known::brand(brand), version.as_str()));
        let own = known::browser(&self.agent).filter(|_| self.agent.is_browser());
        let named = match (hint, own) {
            // A browser made of Chromium that has not changed the hints.
            (Some(("Chromium", _)), Some((name, version))) if name != "Chrome" => {
                Some((name, version))
            }
            (hint, own) => hint.or(own),
        };
        let text = match named {
            Some((name, version)) => with_version(name, version),
            None if self.is_like_a_browser() => "unknown browser".to_owned(),
            None => return None,
        };
        let kind = if self.is_handheld { DeviceKind::Mobile } else { DeviceKind::Web };
        Some((kind, self.on_system(&text)))
    }

    /// Browsers begin as a browser does, or have turned the agent off.
    fn is_like_a_browser(&self) -> bool {
        self.agent.is_browser() || self.agent.first().is_none()
    }

    /// What names neither a browser nor a system is a script.
    fn program(&self) -> Recognised {
        let product = self.agent.first().unwrap_or(Product { name: "a script", version: "" });
        (DeviceKind::Console, with_version(product.name, product.version))
    }

    fn is_brand(&self, name: &str) -> bool {
        self.hints.browser.as_ref().is_some_and(|(brand, _)| brand == name)
    }

    /// The application's own name; iOS percent-encodes it.
    fn own_name(&self) -> Option<String> {
        let product = self.agent.other_than(&MAKINGS)?;
        product.name.starts_with(char::is_alphanumeric).then_some(())?;
        let name = percent_decode_str(product.name).decode_utf8();
        let name = name.unwrap_or(Cow::Borrowed(product.name));
        Some(with_version(name.trim(), product.version))
    }

    fn on_system(&self, what: &str) -> String {
        match self.system {
            Some(system) => format!("{what} on {}", system.name),
            None => what.to_owned(),
        }
    }
}

/// A name and the first number of its version.
fn with_version(name: &str, version: &str) -> String {
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    if (1..=9).contains(&major.len()) && major.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{name} {major}")
    } else {
        name.to_owned()
    }
}

/// The most of a `User-Agent` that is read.
const MAX_AGENT_BYTES: usize = 1024;
