use super::*;
use crate::field::ExtraData;
use crate::rotation::{self, SignInAgain};
use crate::session::{AssuranceLevel, Authentication, Unknown};
use crate::token::{FleetKey, Token};
use crate::usage::Timeouts;

const STEP_UP: [u8; 16] = [5; 16];

fn token() -> Token {
    let key = FleetKey::from_bytes([7; 32]);
    Token::new(&key, SessionId::from_random([1; 16]), [2; 12], [3; 16])
}

fn session() -> Session {
    let token = token();
    let at = Timestamp::from_micros;
    let owner = UserKey::in_tenant("north".parse().unwrap(), "alice".parse().unwrap());
    let mut session = Session {
        device_kind: DeviceKind::Mobile,
        device_info: DeviceInfo::truncated("Firefox, on \"Linux\""),
        device_name: Some("Kitchen".parse().unwrap()),
        client_id: Some("shop".parse().unwrap()),
        ip_addresses: vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()],
        last_accessed: at(i64::MAX),
        claimed: true,
        deadline: at(i64::MAX),
        authentication: Authentication {
            at: at(i64::MIN),
            level: Some(AssuranceLevel::Aal2),
            methods: vec!["pwd".parse().unwrap(), "otp".parse().unwrap()],
            unknown: Unknown::new(),
        },
        absolute_expiry: Some(at(4)),
        timeouts: Some(Timeouts::aal3()),
        impersonator: Some(UserKey::in_tenant("south".parse().unwrap(), "root".parse().unwrap())),
        // A number type would cut the digits.
        data: Some(ExtraData::from_json("{\"n\":1.00000000000000000001}").unwrap()),
        ..Session::new(owner, &token, at(1))
    };
    let (begun, next) = rotation::begin(&session, &token, [4; 16], None, at(5));
    session = rotation::confirm(&begun.unwrap(), &next, &Timeouts::default(), at(6));
    session = rotation::begin(&session, &next, [6; 16], None, at(7)).0.unwrap();
    let again = SignInAgain {
        at: at(8),
        device_info: DeviceInfo::truncated("Firefox"),
        data: session.data.clone(),
        timeouts: Some(Timeouts::aal2()),
        unknown: Unknown::new(),
    };
    rotation::sign_in_again(&session, &next, STEP_UP, Authentication::at(at(8)), again).0
}

fn event() -> Event {
    let Session { id, owner, .. } = session();
    let by = Actor::User(UserKey::new("root".parse().unwrap()));
    Event::of_session(EventKind::Rotated, Timestamp::from_micros(7), by, owner, id)
}

#[test]
fn records_round_trip() {
    let mut session = session();
    assert_eq!(decode_session(&encode_session(&session)).unwrap(), session);
    session.owner.tenant = None;
    session.device_info = None;
    session.client_id = None;
    session.ip_addresses = Vec::new();
    session.device_name = None;
    session.absolute_expiry = None;
    session.timeouts = None;
    session.impersonator = None;
    session.authentication = Authentication::at(Timestamp::EPOCH);
    session.data = None;
    session.token.retired = None;
    session.token.successor = None;
    session.token.step_ups.clear();
    assert_eq!(decode_session(&encode_session(&session)).unwrap(), session);
    assert_eq!(decode_event(&encode_event(&event())).unwrap(), event());
    let policy = Event { user: None, session: None, tenant: None, ..event() };
    assert_eq!(decode_event(&encode_event(&policy)).unwrap(), policy);
}

#[test]
fn damage_is_an_error() {
    let whole = json_object(session_fields(&session()));
    let damages = [Value::Bool(true), "\0".into(), Value::Array(vec![7.into()])];
    for name in whole.keys() {
        for damage in &damages {
            let mut damaged = whole.clone();
            damaged.insert(name.clone(), damage.clone());
            assert!(read_session(&damaged).is_err(), "{name}: {damage}");
        }
    }
    let text = details(&session());
    let all: Map<String, Value> = serde_json::from_str(&text).unwrap();
    for name in all.keys().filter(|name| *name != "level") {
        for damage in &damages {
            let mut damaged = all.clone();
            damaged.insert(name.clone(), damage.clone());
            let mut record = whole.clone();
            record.insert("details".into(), Value::Object(damaged).to_string().into());
            assert!(read_session(&record).is_err(), "{name}: {damage}");
        }
    }
    let whole = json_object(event_fields(&event()));
    for name in whole.keys() {
        let mut damaged = whole.clone();
        damaged.insert(name.clone(), true.into());
        assert!(read_event(&damaged).is_err(), "{name}");
    }
    assert!(decode_session(b"[]").is_err());
}

#[test]
fn what_a_newer_version_has_written_is_kept() {
    let mut newer = json_object(session_fields(&session()));
    let mut all: Value = serde_json::from_str(newer["details"].as_str().unwrap()).unwrap();
    let risk = serde_json::json!({ "score": [7, null] });
    let places = [
        "",
        "/timeouts",
        "/successor",
        "/step_ups/0",
        "/step_ups/0/proof",
        "/step_ups/0/sign_in",
        "/step_ups/0/sign_in/timeouts",
        "/retired",
    ];
    for place in places {
        all.pointer_mut(place).unwrap()["risk"] = risk.clone();
    }
    for proof in ["", "/step_ups/0/proof", "/retired"] {
        all.pointer_mut(proof).unwrap()["level"] = "aal9".into();
    }
    newer.insert("details".into(), all.to_string().into());
    let mut read = read_session(&newer).unwrap();
    assert_eq!(read.authentication.level, None, "an unknown level proves nothing");
    assert_eq!(serde_json::from_str::<Value>(&details(&read)).unwrap(), all);
    assert_eq!(decode_session(&encode_session(&read)).unwrap(), read);
    // It stays with the token, and with the proof, that it was written for.
    let stepped = token().successor(&[4; 16]).successor(&STEP_UP);
    read = rotation::confirm(&read, &stepped, &Timeouts::default(), Timestamp::from_micros(9));
    let mut written: Value = serde_json::from_str(&details(&read)).unwrap();
    assert_eq!(written["level"], "aal9");
    assert_eq!(written["risk"], risk);
    assert_eq!(written["retired"]["level"], "aal9");
    assert_eq!(written["retired"]["risk"], Value::Null);
    // One that this version knows takes its place.
    read.authentication.level = Some(AssuranceLevel::Aal2);
    written = serde_json::from_str(&details(&read)).unwrap();
    assert_eq!(written["level"], "aal2");
}

#[test]
fn limits_are_checked_when_a_record_is_read() {
    let mut session = session();
    let address = |n| [10, 0, 0, n].into();
    session.ip_addresses = (0..16).map(address).collect();
    let method = |n| format!("method-{n}").parse().unwrap();
    session.authentication.methods = (0..16).map(method).collect();
    assert_eq!(decode_session(&encode_session(&session)).unwrap(), session);
    let beyond = |change: fn(&mut Session)| {
        let mut session = session.clone();
        change(&mut session);
        decode_session(&encode_session(&session)).unwrap_err().to_string()
    };
    let error = beyond(|session| session.ip_addresses.push([10, 0, 1, 1].into()));
    assert!(error.ends_with("ip_addresses has 17 entries, the limit is 16"), "{error}");
    let error = beyond(|session| session.authentication.methods.push("pwd".parse().unwrap()));
    assert!(error.ends_with("methods has 17 entries, the limit is 16"), "{error}");
    let retired = session.token.retired.as_mut().unwrap();
    retired.authentication.methods = (0..17).map(method).collect();
    assert!(decode_session(&encode_session(&session)).is_err());
}

#[test]
fn an_ended_session_round_trips() {
    let ended = EndedSession {
        session: session(),
        ended: Timestamp::from_micros(9),
        cause: EndCause::Evicted,
        by: Actor::System,
        from: DeviceInfo::truncated("Safari on iOS"),
    };
    assert_eq!(decode_ended_session(&encode_ended_session(&ended)).unwrap(), ended);
    let newer = json_object(ended_fields(&ended));
    let mut newer = newer.clone();
    newer.insert("cause".into(), "at_risk".into());
    newer.insert("actor".into(), "service:7".into());
    let read = read_ended_session(&newer).unwrap();
    assert_eq!((read.cause, read.by), (EndCause::Unknown, Actor::Unknown));
}
