//! Whom connections over TLS trust, and who they say they are.

use std::fmt;

use redis::{ClientTlsConfig, TlsCertificates};
use session_core::InvalidField;

/// Certificates for `rediss://` URLs, each as PEM text.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use session_store_redis::{RedisOptions, RedisTls};
///
/// # let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
/// // The path of a file such as `ca.pem`.
/// let tls = RedisTls::default().with_authorities(std::fs::read(ca)?);
/// let options = RedisOptions::default().with_tls(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisTls {
    /// Of the authorities that sign servers' certificates. Default those of the system.
    pub authorities: Option<Vec<u8>>,
    /// This node's own, with those between it and its authority, for servers that ask for one
    /// (`tls-auth-clients`). Needs [`RedisTls::key`].
    pub certificate: Option<Vec<u8>>,
    /// The private key of [`RedisTls::certificate`].
    pub key: Option<Vec<u8>>,
}

impl RedisTls {
    /// Sets [`RedisTls::authorities`].
    #[must_use]
    pub fn with_authorities(mut self, authorities: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(authorities.into());
        self
    }

    /// Sets [`RedisTls::certificate`].
    #[must_use]
    pub fn with_certificate(mut self, certificate: impl Into<Vec<u8>>) -> Self {
        self.certificate = Some(certificate.into());
        self
    }

    /// Sets [`RedisTls::key`].
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidField> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => Err(InvalidField::malformed("tls.key", "that of the certificate")),
            (None, Some(_)) => Err(InvalidField::malformed("tls.certificate", "that of the key")),
            _ => Ok(()),
        }
    }

    pub(crate) fn certificates(&self) -> TlsCertificates {
        let own = self.certificate.clone().zip(self.key.clone());
        TlsCertificates {
            client_tls: own
                .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: self.authorities.clone(),
        }
    }
}

/// Without the key.
impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTls")
            .field("authorities", &self.authorities.is_some())
            .field("certificate", &self.certificate.is_some())
            .finish_non_exhaustive()
    }
}
