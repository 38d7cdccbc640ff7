//! Tickets: a sign-in that a limit has refused, sealed for the client that may choose what to end.
//!
//! A ticket is the whole request, encrypted and authenticated with a key of the fleet, so that every
//! node can open it and none has to keep it. It names the session that it will begin: a session id
//! never comes back, so a ticket works once.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use session_core::checker::Timeouts;
use session_core::{
    Authentication, ClientId, DeviceInfo, DeviceKind, ExtraData, SessionId, TenantId, Timestamp,
    UserId, UserKey,
};

use crate::clock;
use crate::error::Error;
use crate::manager::SessionManager;
use crate::rotate::Proof;
use crate::sign_in::SignIn;

/// A sign-in that was refused, for [`SessionManager::sign_in_with_ticket`]. A secret like a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// How long one works.
    pub const VALID_FOR: Duration = Duration::from_secs(300);

    /// The text form, to be handed only to the client that has shown the password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(redacted)")
    }
}

/// What is in a ticket.
#[derive(Serialize, Deserialize)]
struct Sealed {
    expires: Timestamp,
    id: SessionId,
    tenant: Option<TenantId>,
    user: UserId,
    device_kind: DeviceKind,
    device_info: Option<DeviceInfo>,
    client_id: Option<ClientId>,
    ip: Option<std::net::IpAddr>,
    /// JSON, byte for byte.
    data: Option<String>,
    authentication: Authentication,
    timeouts: Option<Timeouts>,
    impersonator: Option<UserId>,
    replaces: Option<SessionId>,
}

impl SessionManager {
    pub(crate) fn seal_ticket(&self, request: &SignIn) -> Result<Ticket, Error> {
        let shared = self.shared();
        let entropy = shared.entropy.as_ref();
        let now = self.now();
        let SignIn { owner, device_kind, device_info, client_id, ip, data, .. } = request.clone();
        let sealed = Sealed {
            expires: now.plus(Ticket::VALID_FOR),
            id: shared.store.session_id(&owner, clock::random(entropy)),
            tenant: owner.tenant,
            user: owner.user,
            device_kind,
            device_info,
            client_id,
            ip,
            data: data.map(|data| data.as_json().to_owned()),
            authentication: request.proof.authentication(now)?,
            timeouts: request.timeouts,
            impersonator: request.impersonator.clone(),
            replaces: request.replaces,
        };
        let nonce: [u8; 24] = clock::random(entropy);
        let text = serde_json::to_vec(&sealed).unwrap_or_default();
        let cipher = self.ticket_cipher();
        // Only a text beyond the cipher's 256 GiB is refused.
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), text.as_slice());
        let bytes = [nonce.as_slice(), &sealed.unwrap_or_default()].concat();
        Ok(Ticket(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The request in a ticket, and the session that it begins.
    pub(crate) fn open_ticket(&self, ticket: &str) -> Result<(SignIn, SessionId), Error> {
        let sealed = self.unseal(ticket).ok_or(Error::InvalidTicket)?;
        if sealed.expires <= self.now() {
            return Err(Error::InvalidTicket);
        }
        let owner = UserKey { tenant: sealed.tenant, user: sealed.user };
        let data = sealed.data.as_deref().map(ExtraData::from_json).transpose()?;
        let Authentication { at, level, methods } = sealed.authentication;
        let request = SignIn::new(owner)
            .with_device_kind(sealed.device_kind)
            .with_device_info(sealed.device_info)
            .with_client_id(sealed.client_id)
            .with_ip(sealed.ip)
            .with_data(data)
            .with_proof(Proof::default().at(at).with_level(level).with_methods(methods))
            .with_timeouts(sealed.timeouts)
            .with_impersonator(sealed.impersonator)
            .with_replaces(sealed.replaces);
        Ok((request, sealed.id))
    }

    fn unseal(&self, ticket: &str) -> Option<Sealed> {
        if ticket.len() > MAX_LENGTH {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(24)?;
        let text = self.ticket_cipher().decrypt(XNonce::from_slice(nonce), sealed).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn ticket_cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.shared().fleet_key.derive("ticket").into())
    }
}

/// Longer than a ticket with 4 KiB of data, all of it escaped.
const MAX_LENGTH: usize = 64 * 1024;
