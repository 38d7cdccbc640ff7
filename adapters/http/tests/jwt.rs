//! JSON Web Tokens that name a session.
#![cfg(feature = "jwt")]

mod log;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Uri};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
};
use serde_json::{Value, json};
use session_core::{Actor, Session, SessionId, UserId, UserKey};
use session_engine::SignIn;
use session_http::jwt::{JwtOptions, JwtVoucher};
use session_http::{Config, Credential, Head, Hooks, HttpSessions, Identity};
use session_store_memory::MemoryStore;

use crate::log::Log;

const ISSUER: &str = "https://login.example.com";

/// A key of the issuer.
struct Key {
    id: &'static str,
    algorithm: Algorithm,
    der: Vec<u8>,
    public: Value,
}

impl Key {
    fn ed25519(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let public = json!({
            "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "alg": "EdDSA",
            "x": text(pair.public_key_raw()),
        });
        Self { id, algorithm: Algorithm::EdDSA, der: pair.serialize_der(), public }
    }

    fn p256(id: &'static str) -> Self {
        Self::of_curve(id, Algorithm::ES256, &PKCS_ECDSA_P256_SHA256, "P-256")
    }

    fn p384(id: &'static str) -> Self {
        Self::of_curve(id, Algorithm::ES384, &PKCS_ECDSA_P384_SHA384, "P-384")
    }

    fn of_curve(
        id: &'static str,
        algorithm: Algorithm,
        kind: &'static SignatureAlgorithm,
        curve: &str,
    ) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        // A point without compression: a byte, then both coordinates.
        let point = &pair.public_key_raw()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let public = json!({
            "kty": "EC", "crv": curve, "kid": id, "x": text(x), "y": text(y),
        });
        Self { id, algorithm, der: pair.serialize_der(), public }
    }

    /// The key of RFC 7515, A.2, which is published: nothing here can make one.
    fn rsa(id: &'static str, algorithm: Algorithm) -> Self {
        let der = include_bytes!("rfc7515-a2.der").to_vec();
        // The modulus has 256 bytes, after the headers of the sequence, the version and itself.
        let modulus = text(&der[12..12 + 256]);
        let public = json!({ "kty": "RSA", "kid": id, "use": "sig", "n": modulus, "e": "AQAB" });
        Self { id, algorithm, der, public }
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_with(claims, |_| {})
    }

    fn sign_with(&self, claims: &Value, change: impl FnOnce(&mut Header)) -> String {
        let mut header = Header::new(self.algorithm);
        change(&mut header);
        header.kid = Some(self.id.to_owned());
        let key = match self.algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_der(&self.der),
            Algorithm::RS256 | Algorithm::PS256 => EncodingKey::from_rsa_der(&self.der),
            _ => EncodingKey::from_ec_der(&self.der),
        };
        encode(&header, claims, &key).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The issuer's endpoint for its keys.
#[derive(Clone, Default)]
struct Issuer {
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicU32>,
    away: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

impl Issuer {
    fn publish(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.public.clone()).collect();
    }

    fn voucher(&self) -> JwtVoucher {
        self.voucher_with(JwtOptions::new(ISSUER, "orders"))
    }

    fn voucher_with(&self, options: JwtOptions) -> JwtVoucher {
        let issuer = self.clone();
        let fetch = move || {
            issuer.asked.fetch_add(1, Ordering::Relaxed);
            let away = issuer.away.load(Ordering::Relaxed);
            let keys = json!({ "keys": *issuer.keys.lock().unwrap() }).to_string();
            let hangs = issuer.hangs.load(Ordering::Relaxed);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                if away { Err(std::io::Error::other("away")) } else { Ok(keys) }
            }
        };
        JwtVoucher::new(options, fetch).unwrap()
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn start(issuer: &Issuer) -> HttpSessions {
    start_with(issuer.voucher()).await
}

async fn start_with(voucher: JwtVoucher) -> HttpSessions {
    let claims = |session: Session| async move {
        Ok::<_, std::io::Error>(json!({ "of": session.owner.user.as_str() }))
    };
    let hooks = Hooks::default().with_voucher(voucher).with_claims(claims);
    HttpSessions::start_with(Arc::new(MemoryStore::new()), Config::default(), hooks).await.unwrap()
}

fn alice() -> UserKey {
    UserKey::new(UserId::new("alice").unwrap())
}

async fn sign_in(http: &HttpSessions) -> SessionId {
    http.manager().sign_in(SignIn::new(alice())).await.unwrap().session.id()
}

fn claims(id: SessionId) -> Value {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    json!({ "iss": ISSUER, "aud": "orders", "exp": now + 300, "sid": id, "role": "root" })
}

async fn identify(http: &HttpSessions, token: &str) -> Identity {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let uri = Uri::from_static("/");
    http.identify(Head::new(&Method::GET, &uri, &headers), None).resolve().await
}

#[tokio::test]
async fn a_token_names_a_live_session_and_nothing_else() {
    let (issuer, ed, ec) = (Issuer::default(), Key::ed25519("one"), Key::p256("two"));
    issuer.publish(&[&ed, &ec]);
    let http = start(&issuer).await;
    let id = sign_in(&http).await;
    for key in [&ed, &ec] {
        let identity = identify(&http, &key.sign(&claims(id))).await;
        let session = identity.session().expect("a session");
        assert_eq!(session.id(), id);
        assert_eq!(session.claims()["of"], "alice", "its claims are fresh");
        assert_eq!(session.claims().get("role"), None, "and not the token's");
        assert_eq!(identity.credential(), Some(Credential::Vouched { ambient: false }));
    }
    assert_eq!(issuer.asked(), 1, "the keys are kept");
    http.manager().revoke_user(alice(), Actor::Application).await.unwrap();
    for key in [&ed, &ec] {
        let ended = identify(&http, &key.sign(&claims(id))).await;
        assert!(matches!(ended, Identity::Ended(_)), "even before its exp");
    }
    http.shutdown().await;
}

#[tokio::test]
async fn tokens_that_do_not_fit_are_worth_nothing() {
    let (issuer, key) = (Issuer::default(), Key::ed25519("one"));
    issuer.publish(&[&key]);
    let http = start(&issuer).await;
    let id = sign_in(&http).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims(id);
        claims[name] = value;
        key.sign(&claims)
    };
    let good = key.sign(&claims(id));
    let (head, signature) = (good.split('.').next().unwrap(), good.rsplit('.').next().unwrap());
    let other = sign_in(&http).await;
    let forged = BASE64_URL_SAFE_NO_PAD.encode(claims(other).to_string());
    let unsigned = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"one"}"#);
    // The public key as a shared secret: a verifier that takes both kinds of signature takes this.
    let mut shared = Header::new(Algorithm::HS256);
    shared.kid = Some("one".to_owned());
    let secret = BASE64_URL_SAFE_NO_PAD.decode(key.public["x"].as_str().unwrap()).unwrap();
    let secret = EncodingKey::from_secret(&secret);
    let stranger = Key::ed25519("one");
    let critical = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"one","crit":["b64"]}"#);
    let critical = format!("{critical}.{}", good.split_once('.').unwrap().1);
    for (token, what) in [
        (with("exp", json!(1)), "expired"),
        (with("nbf", json!(u32::MAX)), "not valid yet"),
        (with("nbf", json!("tomorrow")), "no time"),
        (with("events", json!({})), "a logout token"),
        (key.sign_with(&claims(id), |header| header.typ = Some("logout+jwt".into())), "its type"),
        (critical, "extensions that have to be understood"),
        (with("iss", json!("https://evil.example")), "another issuer"),
        (with("aud", json!("billing")), "for another audience"),
        (with("sid", json!("alice")), "no session id"),
        (with("sid", json!(SessionId::from_bytes([9; 16]))), "no such session"),
        (stranger.sign(&claims(id)), "another key of the same name"),
        (format!("{head}.{forged}.{signature}"), "another's signature"),
        (format!("{unsigned}.{forged}."), "no signature"),
        (encode(&shared, &claims(id), &secret).unwrap(), "a shared secret"),
        ("a.b.c".to_owned(), "no JWT"),
        (String::new(), "nothing"),
    ] {
        assert!(matches!(identify(&http, &token).await, Identity::Anonymous), "{what}");
    }
    let mut without = claims(id);
    without.as_object_mut().unwrap().remove("exp");
    assert!(matches!(identify(&http, &key.sign(&without)).await, Identity::Anonymous), "no exp");
    assert!(identify(&http, &good).await.session().is_some());
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_rotated_withdrawn_and_outlive_an_outage_of_the_issuer() {
    let (issuer, old, new) = (Issuer::default(), Key::ed25519("old"), Key::p256("new"));
    issuer.publish(&[&old]);
    issuer.away.store(true, Ordering::Relaxed);
    let http = start(&issuer).await;
    let id = sign_in(&http).await;
    let by_old = || old.sign(&claims(id));
    let first = identify(&http, &by_old()).await;
    assert!(matches!(first, Identity::Unavailable), "no word on the token, so no refusal");
    issuer.away.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(identify(&http, &by_old()).await.session().is_some());
    // A new key is found, and unknown ones do not make the node ask for ever.
    issuer.publish(&[&old, &new]);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(identify(&http, &new.sign(&claims(id))).await.session().is_some());
    let asked = issuer.asked();
    for _ in 0..100 {
        let unknown = Key::ed25519("unknown").sign(&claims(id));
        assert!(matches!(identify(&http, &unknown).await, Identity::Anonymous));
    }
    assert_eq!(issuer.asked(), asked);
    // A withdrawn key is refused when the keys have grown old and newer ones have come.
    issuer.publish(&[&new]);
    tokio::time::advance(Duration::from_secs(600)).await;
    while identify(&http, &by_old()).await.session().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(identify(&http, &by_old()).await, Identity::Anonymous));
    // Without the issuer the last keys are good for a day.
    issuer.away.store(true, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(23 * 3600)).await;
    assert!(identify(&http, &new.sign(&claims(id))).await.session().is_some());
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(matches!(identify(&http, &new.sign(&claims(id))).await, Identity::Unavailable));
    http.shutdown().await;
}

/// The keys, and what needs them: two lines each, however many requests an outage meets.
#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_is_said_once_and_its_return_once() {
    let (log, _listening) = Log::begin();
    let (issuer, key) = (Issuer::default(), Key::ed25519("one"));
    issuer.publish(&[&key]);
    let http = start(&issuer).await;
    let id = sign_in(&http).await;
    log.take();
    for (away, lines) in [
        (true, ["the keys of the JWT issuer cannot be fetched", "the voucher fails"]),
        (false, ["the keys of the JWT issuer can be fetched again", "the voucher works again"]),
    ] {
        issuer.away.store(away, Ordering::Relaxed);
        for _ in 0..10 {
            identify(&http, &key.sign(&claims(id))).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let said = log.take();
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(lines.iter().all(|line| said.contains(line)), "{said}");
    }
    http.shutdown().await;
}

/// Every algorithm that can be taken is, and none that is not.
#[tokio::test]
async fn each_algorithm_is_taken_where_the_options_say_so() {
    use session_http::jwt::Algorithm as Taken;
    let keys = [
        (Key::ed25519("ed"), Taken::EdDsa),
        (Key::p256("256"), Taken::Es256),
        (Key::p384("384"), Taken::Es384),
        (Key::rsa("rsa", Algorithm::RS256), Taken::Rs256),
        (Key::rsa("pss", Algorithm::PS256), Taken::Ps256),
    ];
    for (_, taken) in &keys {
        let issuer = Issuer::default();
        issuer.publish(&keys.iter().map(|(key, _)| key).collect::<Vec<_>>());
        let options = JwtOptions::new(ISSUER, "orders").with_algorithms([*taken]);
        let http = start_with(issuer.voucher_with(options)).await;
        let id = sign_in(&http).await;
        for (key, other) in &keys {
            let identity = identify(&http, &key.sign(&claims(id))).await;
            assert_eq!(identity.session().is_some(), taken == other, "{taken:?}, {other:?}");
        }
        http.shutdown().await;
    }
}

/// A client that leaves, an issuer that hangs, and keys of other kinds harm nobody else.
#[tokio::test(start_paused = true)]
async fn a_fetch_is_nobodys_own_and_has_a_time_limit() {
    let (issuer, key) = (Issuer::default(), Key::ed25519("one"));
    issuer.publish(&[&key]);
    issuer.keys.lock().unwrap().push(json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AA" }));
    issuer.keys.lock().unwrap().push(json!({ "kty": "OKP", "crv": "Ed448", "x": "AA" }));
    issuer.hangs.store(true, Ordering::Relaxed);
    let http = start(&issuer).await;
    let id = sign_in(&http).await;
    let token = key.sign(&claims(id));
    let hung = identify(&http, &token).await;
    assert!(matches!(hung, Identity::Unavailable), "after the fetch's time limit");
    issuer.hangs.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(30)).await;
    let asked = issuer.asked();
    {
        let mut leaving = Box::pin(identify(&http, &token));
        assert!(futures_util::poll!(&mut leaving).is_pending());
    }
    while issuer.asked() == asked {
        tokio::task::yield_now().await;
    }
    assert!(identify(&http, &token).await.session().is_some(), "the fetch went on");
    assert_eq!(issuer.asked(), asked + 1);
    http.shutdown().await;
}

#[test]
fn options_that_would_take_anything_are_refused() {
    let fetch = || async { Ok::<_, std::io::Error>(String::new()) };
    let field = |options: JwtOptions| JwtVoucher::new(options, fetch).unwrap_err().field;
    assert_eq!(field(JwtOptions::new("", "orders")), "issuer");
    assert_eq!(field(JwtOptions::new(ISSUER, "")), "audience");
    let options = || JwtOptions::new(ISSUER, "orders");
    assert_eq!(field(options().with_algorithms([])), "algorithms");
    assert_eq!(field(options().with_leeway(Duration::from_secs(7200))), "leeway");
    assert_eq!(field(options().with_refetch_after(Duration::ZERO)), "refetch_after");
    assert_eq!(field(options().with_keys_max_age(Duration::from_secs(1))), "keys_max_age");
}
