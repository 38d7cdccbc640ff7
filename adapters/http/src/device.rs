//! What a `User-Agent` says about the device.

use http::HeaderMap;
use http::header::USER_AGENT;
use session_core::{DeviceInfo, DeviceKind};
use woothee::parser::{Parser, WootheeResult};

/// The kind of device and readable text about it.
///
/// A browser on a computer is `Web`, one on a phone or tablet `Mobile`; what is no browser is
/// `Console`. An application that knows better says so at sign-in.
pub fn device(headers: &HeaderMap) -> (DeviceKind, Option<DeviceInfo>) {
    // Cut first: a header may be as long as the server allows.
    let agent = headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(agent) = agent.as_deref().and_then(DeviceInfo::truncated) else {
        return (DeviceKind::Web, None);
    };
    match Parser::new().parse(agent.as_str()) {
        // A library's own words say more than what the parser makes of them.
        Some(known) if kind(&known) == DeviceKind::Console => (DeviceKind::Console, Some(agent)),
        Some(known) => (kind(&known), describe(&known).or(Some(agent))),
        None => (DeviceKind::Console, Some(agent)),
    }
}

fn kind(agent: &WootheeResult<'_>) -> DeviceKind {
    match agent.category {
        "smartphone" | "mobilephone" => DeviceKind::Mobile,
        "pc" | "appliance" => DeviceKind::Web,
        _ => DeviceKind::Console,
    }
}

fn describe(agent: &WootheeResult<'_>) -> Option<DeviceInfo> {
    let known = |text: &str| !text.is_empty() && text != "UNKNOWN";
    if !known(agent.name) {
        return None;
    }
    let mut text = agent.name.to_owned();
    if let Some(major) = agent.version.split('.').next().filter(|major| known(major)) {
        text = format!("{text} {major}");
    }
    if known(agent.os) {
        text = format!("{text} on {}", agent.os);
    }
    DeviceInfo::truncated(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn seen(agent: &str) -> (String, String) {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_bytes(agent.as_bytes()).unwrap());
        let (kind, info) = device(&headers);
        (kind.to_string(), info.map(|info| info.to_string()).unwrap_or_default())
    }

    #[test]
    fn usual_agents_are_told_apart() {
        for (agent, kind, info) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Web",
                "Firefox 140 on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
                "Web",
                "Chrome 141 on Windows 10",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
                "Mobile",
                "Safari 18 on iPhone",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
                "Mobile",
                "Chrome 141 on Android",
            ),
        ] {
            assert_eq!(seen(agent), (kind.to_owned(), info.to_owned()), "{agent}");
        }
        assert_eq!(seen("curl/8.5.0"), ("Console".into(), "curl/8.5.0".into()));
        assert_eq!(
            seen("something-of-ours/1.0"),
            ("Console".into(), "something-of-ours/1.0".into())
        );
    }

    #[test]
    fn hostile_agents_are_boring() {
        for agent in [" ", &"x".repeat(100_000), "\u{fffd}\u{fffd}", "Mozilla/5.0 (((((", "\t;;"] {
            let (kind, info) = seen(agent);
            assert!(!kind.is_empty() && info.len() <= DeviceInfo::MAX_BYTES);
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_bytes(&[0xff, 0xfe, b'x']).unwrap());
        assert!(device(&headers).1.is_some());
        assert_eq!(device(&HeaderMap::new()), (DeviceKind::Web, None));
    }
}
