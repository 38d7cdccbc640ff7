//! TLS, with authorities and certificates of one's own. The Redis of the tests is
//! reached through a listener that speaks TLS and asks for certificates.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType, IsCa, KeyPair,
};
use redis::{Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, TlsCertificates};
use session_conformance::sample::{insert, now, session, user};
use session_core::{Store, StoreErrorKind};
use session_store_redis::{RedisStore, RedisTls};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::namespace::{ALONE, Prefix, url};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority");
    CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap()
}

fn signed(authority: &Authority, name: &str) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new([name.to_owned()]).unwrap();
    CertifiedKey { cert: cert.signed_by(&signing_key, authority).unwrap(), signing_key }
}

/// Listens in front of the Redis that the URL names; answers the URL of its own.
async fn listen(authority: &Authority) -> String {
    let url = url();
    let ConnectionAddr::Tcp(host, port) =
        url.as_str().into_connection_info().unwrap().addr().clone()
    else {
        panic!("{url} is TLS already or no address")
    };
    let mut known = RootCertStore::empty();
    known.add(authority.der().clone()).unwrap();
    let asks = WebPkiClientVerifier::builder(Arc::new(known)).build().unwrap();
    let CertifiedKey { cert, signing_key } = signed(authority, "127.0.0.1");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(asks)
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect((host.as_str(), port)).await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A refused client learns it by the handshake.
                if let Ok(mut client) = acceptor.accept(client).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    match url.rsplit_once('@') {
        Some((login, _)) => format!("{login}@{own}").replacen("redis://", "rediss://", 1),
        None => format!("rediss://{own}"),
    }
}

#[tokio::test]
async fn the_authorities_and_the_certificate_are_those_of_the_options() {
    let _shared = ALONE.read().await;
    let (ours, theirs) = (authority(), authority());
    let url = listen(&ours).await;
    let node = signed(&ours, "node");
    let mut known = RedisTls::default();
    known.authorities = Some(ours.pem().into_bytes());
    known.certificate = Some(node.cert.pem().into_bytes());
    known.key = Some(node.signing_key.serialize_pem().into_bytes());
    let mut options = Prefix::new(false).options;
    options.tls = Some(known.clone());
    let shown = format!("{options:?}");
    assert!(shown.contains("tls") && !shown.contains(&format!("{:?}", known.key)), "{shown}");
    let store = RedisStore::connect_with(&url, options.clone()).await.unwrap();
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    assert_eq!(store.load(mine.id).await.unwrap().unwrap().session, mine);
    let certificates = TlsCertificates {
        client_tls: Some(ClientTlsConfig {
            client_cert: node.cert.pem().into_bytes(),
            client_key: node.signing_key.serialize_pem().into_bytes(),
        }),
        root_cert: known.authorities.clone(),
    };
    let client = Client::build_with_tls(url.as_str(), certificates).unwrap();
    options.tls = None;
    let same = RedisStore::with_client(client, options.clone()).await.unwrap();
    assert_eq!(same.load(mine.id).await.unwrap().unwrap().session, mine);

    options.timeout = Duration::from_millis(300);
    let (mut anonymous, mut deceived) = (known.clone(), known.clone());
    (anonymous.certificate, anonymous.key) = (None, None);
    deceived.authorities = Some(theirs.pem().into_bytes());
    for refused in [Some(anonymous), Some(deceived), None] {
        options.tls = refused;
        let error = RedisStore::connect_with(&url, options.clone()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    }
    let (mut keyless, mut bare) = (known.clone(), known);
    (keyless.key, bare.certificate) = (None, None);
    for (half, missing) in [(keyless, "tls.key"), (bare, "tls.certificate")] {
        options.tls = Some(half);
        assert_eq!(options.validate().unwrap_err().field, missing);
    }
}
