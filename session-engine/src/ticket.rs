//! Tickets: a sign-in that a limit has refused, sealed for the client that may choose what to end.
//!
//! A ticket is the whole request, encrypted and authenticated with a key of the fleet, so that every
//! node can open it and none has to keep it. The key is in the store, and a copy of the store must sign
//! in no user: so a ticket also has a secret, and the store holds the digest of all that is in the ticket
//! as a lease, for as long as it is good. It names the session that it will begin: a session id never comes
//! back, so a ticket works once. Where the store forgets sessions that have ended sooner than a ticket runs
//! out, its first use takes a second lease, and no other use gets it.
//!
//! It depends on the sessions that the limit counted when it refused the sign-in. Once all of them have ended,
//! as they do where a password is changed, or the user is blocked or erased, the ticket is no longer valid.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use session_core::admission::Standing;
use session_core::planted::{self, Defect};
use session_core::usage::Timeouts;
use session_core::{
    Authentication, ClientId, DeviceInfo, DeviceKind, ExtraData, InvalidField, SessionId,
    StoreError, TenantId, Timestamp, UserId, UserKey,
};
use sha2::{Digest, Sha256};

use crate::admit::TicketUse;
use crate::entropy::{random, unique_name};
use crate::error::Error;
use crate::node::Node;
use crate::rotate::Proof;
use crate::sign_in::SignIn;

/// A sign-in that was refused, for
/// [`SessionManager::sign_in_with_ticket`](crate::SessionManager::sign_in_with_ticket). A secret like a token.
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
    /// Random, so that the digest in the store does not give the ticket away.
    secret: [u8; 32],
    expires: Timestamp,
    /// Sessions that the limit counted when it refused the sign-in, the newest.
    refused_by: Vec<SessionId>,
    id: SessionId,
    tenant: Option<TenantId>,
    user: UserId,
    device_kind: DeviceKind,
    device_info: Option<DeviceInfo>,
    client_id: Option<ClientId>,
    ip: Option<std::net::IpAddr>,
    /// As it is, but for white space around it.
    data: Option<Box<RawValue>>,
    authentication: Authentication,
    timeouts: Option<Timeouts>,
    impersonator: Option<UserId>,
    impersonator_tenant: Option<TenantId>,
    replaces: Option<SessionId>,
}

/// What every ticket for one sign-in has in common.
pub(crate) struct Issued {
    /// What was sealed, as it was.
    text: Vec<u8>,
    expires: Timestamp,
    refused_by: Vec<SessionId>,
    /// The session that the ticket begins.
    pub(crate) id: SessionId,
}

impl Issued {
    /// Whether a session still stands that the limit counted.
    pub(crate) fn holds(&self, sessions: &[Standing]) -> bool {
        sessions.iter().any(|standing| self.refused_by.contains(&standing.id))
    }
}

impl Node {
    /// A ticket for a sign-in that was refused. Where a ticket was used for it, the same one again: it
    /// works once, and no longer than it did. One whose use has been noted is replaced.
    pub(crate) async fn ticket(
        &self,
        request: &SignIn,
        refused_by: Vec<SessionId>,
        used: Option<&TicketUse>,
    ) -> Result<Ticket, Error> {
        let shared = self.shared();
        let entropy = shared.entropy.as_ref();
        if let Some(used) = used.filter(|_| !self.notes_uses()) {
            return Ok(self.seal(&used.issued.text));
        }
        let id = shared.store.session_id(&request.owner, self.now(), random(entropy));
        let (expires, refused_by) = match used {
            Some(TicketUse { issued, .. }) => (issued.expires, issued.refused_by.clone()),
            None => (self.now().plus(Ticket::VALID_FOR), refused_by),
        };
        let SignIn { owner, device_kind, device_info, client_id, ip, data, .. } = request.clone();
        let impersonator = request.impersonator.as_ref();
        let sealed = Sealed {
            secret: random(entropy),
            expires,
            refused_by,
            id,
            tenant: owner.tenant,
            user: owner.user,
            device_kind,
            device_info,
            client_id,
            ip,
            data: data.as_ref().map(raw).transpose()?,
            authentication: request.proof.authentication(self.now())?,
            timeouts: request.timeouts,
            impersonator: impersonator.map(|key| key.user.clone()),
            impersonator_tenant: impersonator.and_then(|key| key.tenant.clone()),
            replaces: request.replaces,
        };
        let text = serde_json::to_vec(&sealed).unwrap_or_default();
        let name = name(&text);
        let issue = shared.store.lease(&name, ISSUED, Ticket::VALID_FOR);
        if !shared.store_call("lease", issue).await? {
            return Err(StoreError::internal("this ticket was issued before").into());
        }
        Ok(self.seal(&text))
    }

    fn seal(&self, text: &[u8]) -> Ticket {
        let nonce: [u8; 24] = random(self.shared().entropy.as_ref());
        // Only a text beyond the cipher's 256 GiB is refused.
        let sealed = self.ticket_cipher().encrypt(XNonce::from_slice(&nonce), text);
        let bytes = [nonce.as_slice(), &sealed.unwrap_or_default()].concat();
        Ticket(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The request in a ticket, and what is to be done with it.
    pub(crate) async fn open_ticket(
        &self,
        ticket: &str,
        end: SessionId,
    ) -> Result<(SignIn, TicketUse), Error> {
        let text = self.unseal(ticket).ok_or(Error::InvalidTicket)?;
        let sealed: Sealed = serde_json::from_slice(&text).map_err(|_| Error::InvalidTicket)?;
        if sealed.expires <= self.now() || !self.was_issued(&text).await? {
            return Err(Error::InvalidTicket);
        }
        let Sealed { expires, refused_by, id, .. } = sealed;
        let issued = Issued { text, expires, refused_by, id };
        let ticket = TicketUse { issued, end, user: unique_name(self.shared().entropy.as_ref()) };
        let owner = UserKey { tenant: sealed.tenant, user: sealed.user };
        let impersonator =
            sealed.impersonator.map(|user| UserKey { tenant: sealed.impersonator_tenant, user });
        let data =
            sealed.data.as_deref().map(RawValue::get).map(ExtraData::from_json).transpose()?;
        let Authentication { at, level, methods, unknown: _ } = sealed.authentication;
        let request = SignIn::new(owner)
            .with_device_kind(sealed.device_kind)
            .with_device_info(sealed.device_info)
            .with_client_id(sealed.client_id)
            .with_ip(sealed.ip)
            .with_data(data)
            .with_proof(Proof::default().at(at).with_level(level).with_methods(methods))
            .with_timeouts(sealed.timeouts)
            .with_impersonator(impersonator)
            .with_replaces(sealed.replaces);
        Ok((request, ticket))
    }

    /// Whether this fleet has issued this very ticket, a short time ago: then its lease is held,
    /// and nobody else can take it.
    async fn was_issued(&self, text: &[u8]) -> Result<bool, Error> {
        let shared = self.shared();
        let name = name(text);
        let take = shared.store.lease(&name, NOT_ISSUED, Duration::from_millis(1));
        Ok(!shared.store_call("lease", take).await?)
    }

    /// Notes that a ticket is being used, where no store remembers its session for long enough. False
    /// where another use has been noted.
    pub(crate) async fn note_use(&self, ticket: &TicketUse) -> Result<bool, Error> {
        if !self.notes_uses() {
            return Ok(true);
        }
        let shared = self.shared();
        let name = format!("{}:used", name(&ticket.issued.text));
        let take = shared.store.lease(&name, &ticket.user, Ticket::VALID_FOR);
        shared.store_call("lease", take).await
    }

    fn notes_uses(&self) -> bool {
        self.options().history_keep(self.shared().store.as_ref()) < Ticket::VALID_FOR
    }

    fn unseal(&self, ticket: &str) -> Option<Vec<u8>> {
        if ticket.len() > MAX_LENGTH {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(24)?;
        self.ticket_cipher().decrypt(XNonce::from_slice(nonce), sealed).ok()
    }

    fn ticket_cipher(&self) -> XChaCha20Poly1305 {
        if planted::is(Defect::TicketElsewhere) {
            let own = self.shared().health.speaker(self.shared());
            return XChaCha20Poly1305::new(&self.shared().fleet_key.derive(&own).into());
        }
        XChaCha20Poly1305::new(&self.shared().fleet_key.derive("ticket").into())
    }
}

fn raw(data: &ExtraData) -> Result<Box<RawValue>, InvalidField> {
    let raw = RawValue::from_string(data.as_json().to_owned());
    raw.map_err(|_| InvalidField::malformed("data", "JSON"))
}

/// The lease that a ticket holds while it is good. It shows a digest only, which the secret keeps from
/// being guessed.
fn name(text: &[u8]) -> String {
    format!("ticket:{}", const_hex::encode(Sha256::digest(text)))
}

const ISSUED: &str = "issued";
const NOT_ISSUED: &str = "not issued";
/// Longer than a ticket of the longest names and data.
const MAX_LENGTH: usize = 64 * 1024;
