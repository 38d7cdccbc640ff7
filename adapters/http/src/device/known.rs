//! What is known by name: systems, browsers, applications, screens.

use super::agent::Agent;

/// What a device runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct System {
    /// Its readable name.
    pub(super) name: &'static str,
    /// Whether it is held in a hand or worn.
    pub(super) is_handheld: bool,
}

impl System {
    /// The first known system that this text names.
    pub(super) fn named_in(text: &str) -> Option<Self> {
        Self::find(|word, _| text.contains(word))
    }

    /// The system in an agent's comments. Applications name a phone's as a product, too; what names a
    /// desktop's so is a command line.
    pub(super) fn of(agent: &Agent<'_>) -> Option<Self> {
        Self::find(|word, is_handheld| {
            agent.comments_have(word) || is_handheld && agent.product(word).is_some()
        })
    }

    fn find(is_named: impl Fn(&str, bool) -> bool) -> Option<Self> {
        let (_, name, is_handheld) =
            SYSTEMS.into_iter().find(|(word, _, is_handheld)| is_named(word, *is_handheld))?;
        Some(Self { name, is_handheld })
    }
}

/// The screen in the living room that an agent names.
pub(super) fn screen(agent: &Agent<'_>) -> Option<&'static str> {
    SCREENS.iter().find(|(words, _)| agent.has_all(words)).map(|(_, name)| *name)
}

/// The browser that an agent names, and its version.
pub(super) fn browser<'a>(agent: &Agent<'a>) -> Option<(&'static str, &'a str)> {
    let found = |(product, name)| agent.product(product).map(|product| (name, product.version));
    let (name, version) = BROWSERS.into_iter().find_map(found)?;
    let own = agent.product("Version").filter(|_| name == "Safari");
    Some((name, own.map_or(version, |own| own.version)))
}

/// The readable name of a brand in a client hint.
pub(super) fn brand(brand: &str) -> &str {
    match brand {
        "Google Chrome" => "Chrome",
        "HeadlessChrome" => "Headless Chrome",
        "Microsoft Edge" => "Edge",
        "YaBrowser" => "Yandex Browser",
        brand => brand,
    }
}

/// A word in a comment or a hint, the system's name, whether it is held in a hand or worn. The first
/// one counts: an iPhone says that it is like Mac OS X, Android that it is Linux.
const SYSTEMS: [(&str, &str, bool); 22] = [
    ("Windows Phone", "Windows Phone", true),
    ("iPhone", "iPhone", true),
    ("iPad", "iPad", true),
    ("iPod", "iPod", true),
    ("watchOS", "Apple Watch", true),
    ("iOS", "iPhone or iPad", true),
    ("OpenHarmony", "HarmonyOS", true),
    ("HarmonyOS", "HarmonyOS", true),
    ("Android", "Android", true),
    ("Tizen", "Tizen", true),
    ("Chrome OS", "ChromeOS", false),
    ("Chromium OS", "ChromeOS", false),
    ("CrOS", "ChromeOS", false),
    ("Windows", "Windows", false),
    ("Macintosh", "macOS", false),
    ("Mac OS X", "macOS", false),
    ("macOS", "macOS", false),
    ("FreeBSD", "FreeBSD", false),
    ("NetBSD", "NetBSD", false),
    ("OpenBSD", "OpenBSD", false),
    ("Linux", "Linux", false),
    ("Fuchsia", "Fuchsia", false),
];

/// The words of a screen, all of which have to be there.
const SCREENS: [(&[&str], &str); 31] = [
    (&["AppleTV"], "Apple TV"),
    (&["Apple TV"], "Apple TV"),
    (&["tvOS"], "Apple TV"),
    (&["Roku"], "Roku"),
    (&["PlayStation 5"], "PlayStation 5"),
    (&["PlayStation 4"], "PlayStation 4"),
    (&["PlayStation"], "PlayStation"),
    (&["PLAYSTATION"], "PlayStation"),
    (&["Xbox Series"], "Xbox Series X or S"),
    (&["Xbox One"], "Xbox One"),
    (&["Xbox"], "Xbox"),
    (&["XBOX"], "Xbox"),
    (&["Nintendo Switch"], "Nintendo Switch"),
    (&["Nintendo"], "Nintendo"),
    (&["Android", "; AFT"], "Fire TV"),
    (&["CrKey"], "Chromecast"),
    (&["Chromecast"], "Chromecast"),
    (&["Tizen", "TV"], "Samsung TV"),
    (&["Web0S"], "LG TV"),
    (&["webOS", "TV"], "LG TV"),
    (&["NetCast"], "LG TV"),
    (&["BRAVIA"], "Sony TV"),
    (&["VIDAA"], "Hisense TV"),
    (&["VIZIO"], "Vizio TV"),
    (&["Viera"], "Panasonic TV"),
    (&["NETTV"], "Philips TV"),
    (&["Android", " TV"], "Android TV"),
    (&["GoogleTV"], "Google TV"),
    (&["SMART-TV"], "a TV"),
    (&["SmartTV"], "a TV"),
    (&["HbbTV"], "a TV"),
];

/// A product and the browser's name. The first one counts: most say that they are Chrome or Safari, too.
const BROWSERS: [(&str, &str); 31] = [
    ("Edg", "Edge"),
    ("EdgA", "Edge"),
    ("EdgiOS", "Edge"),
    ("Edge", "Edge"),
    ("OPR", "Opera"),
    ("OPT", "Opera"),
    ("OPX", "Opera GX"),
    ("Opera", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Vivaldi", "Vivaldi"),
    ("Brave", "Brave"),
    ("DuckDuckGo", "DuckDuckGo"),
    ("Ddg", "DuckDuckGo"),
    ("YaBrowser", "Yandex Browser"),
    ("UCBrowser", "UC Browser"),
    ("MiuiBrowser", "Mi Browser"),
    ("HuaweiBrowser", "Huawei Browser"),
    ("Whale", "Whale"),
    ("Silk", "Silk"),
    ("Focus", "Firefox Focus"),
    ("FxiOS", "Firefox"),
    ("SeaMonkey", "SeaMonkey"),
    ("Firefox", "Firefox"),
    ("GSA", "Google"),
    ("CriOS", "Chrome"),
    ("HeadlessChrome", "Headless Chrome"),
    ("Chromium", "Chromium"),
    ("Epiphany", "GNOME Web"),
    ("Konqueror", "Konqueror"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
];

/// A product and the readable name of the desktop application that it stands for.
pub(super) const DESKTOP_APPS: [(&str, &str); 13] = [
    ("Slack", "Slack"),
    ("Teams", "Microsoft Teams"),
    ("discord", "Discord"),
    ("Discord", "Discord"),
    ("Code", "VS Code"),
    ("Signal", "Signal"),
    ("Signal-Desktop", "Signal"),
    ("Notion", "Notion"),
    ("Figma", "Figma"),
    ("Obsidian", "Obsidian"),
    ("Postman", "Postman"),
    ("Spotify", "Spotify"),
    ("Thunderbird", "Thunderbird"),
];

/// Products of scripts that name a system or stand behind another product. Every other one is known by
/// naming neither a browser nor a system.
pub(super) const SCRIPTS: [&str; 6] =
    ["curl", "Wget", "PowerShell", "WindowsPowerShell", "aiohttp", "NuGet"];

/// Products that say how an application is made, not which one it is.
pub(super) const MAKINGS: [&str; 16] = [
    "Mozilla",
    "AppleWebKit",
    "Gecko",
    "Version",
    "Chrome",
    "Mobile",
    "Safari",
    "Electron",
    "Edg",
    "Dalvik",
    "okhttp",
    "Dart",
    "CFNetwork",
    "Darwin",
    "Alamofire",
    "Build",
];
