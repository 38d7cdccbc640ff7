//! What headers say about a device.

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use session_core::{DeviceInfo, DeviceKind};
use session_http::{READ_HEADERS, device};

const AGENTS: &str = include_str!("user-agents.tsv");

fn rows() -> impl Iterator<Item = [&'static str; 3]> {
    AGENTS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut parts = line.split('\t');
        [(); 3].map(|()| parts.next().unwrap_or_else(|| panic!("three columns: {line}")))
    })
}

fn seen(headers: &[(&'static str, &str)]) -> (String, String) {
    let headers = headers.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let (kind, info) = device(&headers.collect());
    (kind.to_string(), info.unwrap().to_string())
}

fn is(headers: &[(&'static str, &str)], kind: &str, info: &str) {
    assert_eq!(seen(headers), (kind.to_owned(), info.to_owned()), "{headers:?}");
}

#[test]
fn every_agent_of_the_table_is_recognised() {
    assert!(rows().count() > 90);
    for [kind, info, agent] in rows() {
        is(&[("user-agent", agent)], kind, info);
    }
    let (kind, info) = device(&HeaderMap::new());
    assert_eq!((kind, info), (DeviceKind::Web, DeviceInfo::new("unknown browser").ok()));
}

const CHROME_ON_WINDOWS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 \
    (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";
const CHROME_ON_LINUX: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 \
    (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";

#[test]
fn client_hints_count_before_the_agent() {
    let windows = ("user-agent", CHROME_ON_WINDOWS);
    let linux = ("user-agent", CHROME_ON_LINUX);
    let brands = |text| ("sec-ch-ua", text);
    let brave = brands(r#""Brave";v="141", "Not?A_Brand";v="8", "Chromium";v="141""#);
    is(&[windows, brave], "Web", "Brave 141 on Windows");
    let chrome = brands(r#""Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99""#);
    is(&[windows, chrome], "Web", "Chrome 142 on Windows");
    let greasy = brands(r#""Not\\A,\"Brand";v="99", "Microsoft Edge";v="141", "Chromium";v="141""#);
    is(&[windows, greasy], "Web", "Edge 141 on Windows");
    is(&[windows, brands(r#""Chromium";v="141""#)], "Web", "Chromium 141 on Windows");
    let platform = |text| ("sec-ch-ua-platform", text);
    is(&[linux, platform("\"Chrome OS\"")], "Web", "Chrome 141 on ChromeOS");
    is(&[linux, platform("\"macOS\"")], "Web", "Chrome 141 on macOS");
    // A phone in desktop mode, a tablet, and what is a phone by its form.
    let phone = [("sec-ch-ua-mobile", "?1"), platform("\"Android\"")];
    is(&[linux, chrome, phone[0], phone[1]], "Mobile", "Chrome 142 on Android");
    let tablet = ("sec-ch-ua-mobile", "?0");
    is(&[linux, tablet, phone[1]], "Mobile", "Chrome 141 on Android");
    is(&[windows, tablet], "Web", "Chrome 141 on Windows");
    is(&[windows, ("sec-ch-ua-form-factors", r#""Tablet""#)], "Mobile", "Chrome 141 on Windows");
    is(&[windows, ("sec-ch-ua-form-factors", r#""Desktop""#)], "Web", "Chrome 141 on Windows");
    // Without any agent, and in an application's window.
    is(&[brave, platform("\"Windows\"")], "Web", "Brave 141 on Windows");
    let view = brands(r#""Microsoft Edge WebView2";v="141", "Chromium";v="141""#);
    is(&[windows, view], "Desktop", "a desktop app on Windows");
    let view = brands(r#""Android WebView";v="141", "Chromium";v="141""#);
    is(&[linux, view, phone[0], phone[1]], "Mobile", "an app on Android");
    // An application says more than the engine inside it.
    let electron = CHROME_ON_LINUX.replace("Chrome/", "Slack/4.37 Chrome/") + " Electron/29.1.6";
    let chromium = brands(r#""Chromium";v="141", "Not?A_Brand";v="8""#);
    is(&[("user-agent", &electron), chromium], "Desktop", "Slack 4 on Linux");
    // What cannot be read says nothing.
    for text in ["\"", "a b", r#""Brave";v="141"#, "\u{e9}", "", ",;,", &"x".repeat(9000)] {
        let hints = [brands(text), platform(text), ("sec-ch-ua-form-factors", text)];
        is(&[windows, hints[0], hints[1], hints[2]], "Web", "Chrome 141 on Windows");
    }
}

#[test]
fn hostile_agents_are_boring() {
    let long = "x".repeat(100_000);
    let deep = format!("Mozilla/5.0 {}", "(".repeat(5_000));
    for agent in
        [" ", &long, "\u{fffd}\u{fffd}", "\u{200b}", "Mozilla/5.0 (((((", "\t;;", &deep, "/ / (/)"]
    {
        let (kind, info) = seen(&[("user-agent", agent)]);
        assert!(!kind.is_empty() && !info.is_empty() && info.len() <= DeviceInfo::MAX_BYTES);
    }
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_bytes(&[0xff, 0xfe, b'x']).unwrap());
    assert!(device(&headers).1.is_some());
}

/// A name that turns the text around it, or looks like another, is cleaned at the door.
#[test]
fn invisible_characters_of_an_agent_are_left_out() {
    let agent = "My\u{202e}App\u{200b}\u{feff}/1.0 (\u{2066}iPhone; iOS 17.0)";
    is(&[("user-agent", agent)], "Mobile", "MyApp 1 on iPhone");
    let encoded = "My%E2%80%AEApp%0A/1.0 CFNetwork/1494.0.7 Darwin/23.4.0";
    is(&[("user-agent", encoded)], "Mobile", "MyApp 1 on iPhone, iPad or Mac");
    let brand = "\"Bra\u{202e}ve\";v=\"1\"";
    is(&[("user-agent", CHROME_ON_LINUX), ("sec-ch-ua", brand)], "Web", "Chrome 141 on Linux");
    // Cut between characters.
    let (_, info) = seen(&[("user-agent", &"é".repeat(400))]);
    assert_eq!(info, "é".repeat(128));
}

fn header() -> impl Strategy<Value = HeaderValue> {
    let word = prop_oneof![
        3 => prop::sample::select(vec![
            "Mozilla/5.0", "(iPhone; ", "(Linux; Android 14; wv) ", ")", "(", "Chrome/1", "Electron/2",
            "okhttp/4", "TV", "Tizen", "\"", "\\", ";v=", ",", "?1", "\u{202e}", "%e2%80%ae", "Dart/3",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(prop_oneof![Just(b'\t'), 32..=126_u8, 128..=255_u8], 0..20),
    ];
    vec(word, 0..12).prop_map(|words| HeaderValue::from_bytes(&words.concat()).unwrap())
}

proptest! {
    #[test]
    fn no_headers_break_the_door(values in vec((0..READ_HEADERS.len(), header()), 0..6)) {
        let named = |(n, value): (usize, HeaderValue)| (READ_HEADERS[n].clone(), value);
        let (kind, info) = device(&values.into_iter().map(named).collect());
        let usual = [
            DeviceKind::Web, DeviceKind::Mobile, DeviceKind::Desktop, DeviceKind::Tv,
            DeviceKind::Console,
        ];
        prop_assert!(usual.contains(&kind));
        let info = info.unwrap();
        // The strict constructor takes what was cleaned.
        prop_assert_eq!(DeviceInfo::new(info.as_str()).unwrap(), info);
    }
}
