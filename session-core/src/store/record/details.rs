//! The part of a session's record that no store looks for: one JSON object.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::admission::Standing;
use crate::field::{AuthMethod, DeviceInfo, DeviceName, ExtraData, InvalidField, TenantId, UserId};
use crate::rotation::{RetiredToken, SignInAgain, StepUp, Successor, TokenState};
use crate::session::{AssuranceLevel, Authentication, Session, Unknown, UserKey};
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::token::TokenDigest;
use crate::usage::Timeouts;

/// The details as they are written. Times are microseconds, digests hexadecimal.
#[derive(Serialize, Deserialize)]
pub(super) struct Details {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_info: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_name: Option<String>,
    #[serde(flatten)]
    authentication: Proof,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absolute_expiry: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeouts: Option<OwnTimeouts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    impersonator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    impersonator_tenant: Option<String>,
    /// JSON as a text, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    token: Digest,
    family: Digest,
    issued: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<Next>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    step_ups: Vec<NextWithProof>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<Last>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Serialize, Deserialize)]
struct Proof {
    authenticated_at: i64,
    /// One of a newer version is unknown to an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<String>,
}

/// A proof in an object of its own, with what is beside it.
#[derive(Serialize, Deserialize)]
struct OwnProof {
    #[serde(flatten)]
    proof: Proof,
    #[serde(flatten)]
    unknown: Unknown,
}

/// In microseconds; none switches one off.
#[derive(Serialize, Deserialize)]
struct OwnTimeouts {
    idle: Option<u64>,
    absolute: Option<u64>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Serialize, Deserialize)]
struct Next {
    token: Digest,
    salt: Hex<16>,
    issued: i64,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Serialize, Deserialize)]
struct NextWithProof {
    proof: OwnProof,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sign_in: Option<SignIn>,
    #[serde(flatten)]
    next: Next,
}

#[derive(Serialize, Deserialize)]
struct SignIn {
    at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_info: Option<String>,
    /// JSON as a text, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeouts: Option<OwnTimeouts>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Serialize, Deserialize)]
struct Last {
    token: Digest,
    at: i64,
    #[serde(flatten)]
    proof: Proof,
    #[serde(flatten)]
    unknown: Unknown,
}

type Digest = Hex<32>;

/// Bytes as hexadecimal digits.
struct Hex<const N: usize>([u8; N]);

impl Details {
    pub(super) fn of(session: &Session) -> Self {
        let text = |text: &str| text.to_owned();
        let (token, impersonator) = (&session.token, session.impersonator.as_ref());
        let mut unknown = session.unknown.clone();
        let own_timeouts = take_object(&mut unknown, "timeouts");
        let authentication = Proof::of(&session.authentication, &mut unknown);
        Self {
            device_info: session.device_info.as_ref().map(|info| text(info.as_str())),
            device_name: session.device_name.as_ref().map(|name| text(name.as_str())),
            authentication,
            absolute_expiry: session.absolute_expiry.map(Timestamp::as_micros),
            timeouts: session.timeouts.map(|own| OwnTimeouts::of(own, own_timeouts)),
            impersonator: impersonator.map(|key| text(key.user.as_str())),
            impersonator_tenant: impersonator
                .and_then(|key| key.tenant.as_ref().map(|tenant| text(tenant.as_str()))),
            data: session.data.as_ref().map(|data| text(data.as_json())),
            token: Hex(*token.current.as_bytes()),
            family: Hex(*token.family.as_bytes()),
            issued: token.issued.as_micros(),
            successor: token.successor.as_ref().map(Next::of),
            step_ups: token.step_ups.iter().map(NextWithProof::of).collect(),
            retired: token.retired.as_ref().map(Last::of),
            unknown,
        }
    }

    pub(super) fn write(&self) -> String {
        // Texts, numbers and maps of texts always can be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn read(text: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text).map_err(StoreError::corrupt)
    }

    /// The session that these are the details of.
    pub(super) fn complete(
        mut self,
        standing: Standing,
        owner: UserKey,
        ip_addresses: Vec<IpAddr>,
    ) -> Result<Session, StoreError> {
        let Standing { id, device_kind, client_id, signed_in, last_accessed, deadline, claimed } =
            standing;
        let impersonator_tenant = read(self.impersonator_tenant.as_deref(), TenantId::from_stored)?;
        Ok(Session {
            id,
            owner,
            device_kind,
            device_info: read(self.device_info.as_deref(), DeviceInfo::from_stored)?,
            device_name: read(self.device_name.as_deref(), DeviceName::from_stored)?,
            client_id,
            ip_addresses,
            signed_in,
            last_accessed,
            claimed,
            deadline,
            authentication: self.authentication.read()?,
            absolute_expiry: self.absolute_expiry.map(Timestamp::from_micros),
            timeouts: self.timeouts.map(|own| own.read(&mut self.unknown)),
            impersonator: read(self.impersonator.as_deref(), UserId::from_stored)?
                .map(|user| UserKey { tenant: impersonator_tenant, user }),
            data: read(self.data.as_deref(), ExtraData::from_json)?,
            token: TokenState {
                current: TokenDigest::from_bytes(self.token.0),
                family: TokenDigest::from_bytes(self.family.0),
                issued: Timestamp::from_micros(self.issued),
                successor: self.successor.map(Next::read),
                step_ups: self
                    .step_ups
                    .into_iter()
                    .map(NextWithProof::read)
                    .collect::<Result<_, _>>()?,
                retired: self.retired.map(Last::read).transpose()?,
            },
            unknown: self.unknown,
        })
    }
}

impl Proof {
    /// What a newer version has written beside it goes to `beside`.
    fn of(authentication: &Authentication, beside: &mut Unknown) -> Self {
        let Authentication { at, level, methods, unknown } = authentication;
        let mut unknown = unknown.clone();
        let newer = unknown.remove("level");
        beside.append(&mut unknown);
        Self {
            authenticated_at: at.as_micros(),
            level: level.map(|level| level.as_str().into()).or(newer),
            methods: methods.iter().map(|method| method.as_str().to_owned()).collect(),
        }
    }

    fn read(self) -> Result<Authentication, InvalidField> {
        let mut read = Authentication::at(Timestamp::from_micros(self.authenticated_at));
        let methods = self.methods.iter().map(|method| AuthMethod::from_stored(method));
        read.methods = methods.collect::<Result<_, _>>()?;
        if let Some(level) = self.level {
            match AssuranceLevel::deserialize(&level) {
                Ok(known) => read.level = Some(known),
                Err(_) => _ = read.unknown.insert("level".to_owned(), level),
            }
        }
        read.validate()?;
        Ok(read)
    }
}

impl OwnProof {
    fn of(authentication: &Authentication) -> Self {
        let mut unknown = Unknown::new();
        let proof = Proof::of(authentication, &mut unknown);
        Self { proof, unknown }
    }

    fn read(self) -> Result<Authentication, InvalidField> {
        let mut unknown = self.unknown;
        let mut read = self.proof.read()?;
        read.unknown.append(&mut unknown);
        Ok(read)
    }
}

impl OwnTimeouts {
    fn of(timeouts: Timeouts, unknown: Unknown) -> Self {
        let micros = |timeout: Duration| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        let (idle, absolute) = (timeouts.idle.map(micros), timeouts.absolute.map(micros));
        Self { idle, absolute, unknown }
    }

    /// What a newer version has written beside them stays in the session's own `unknown`.
    fn read(self, unknown: &mut Unknown) -> Timeouts {
        if !self.unknown.is_empty() {
            unknown.insert("timeouts".to_owned(), Value::Object(self.unknown));
        }
        Timeouts::none()
            .with_idle(self.idle.map(Duration::from_micros))
            .with_absolute(self.absolute.map(Duration::from_micros))
    }
}

impl Next {
    fn of(successor: &Successor) -> Self {
        Self {
            token: Hex(*successor.digest.as_bytes()),
            salt: Hex(successor.salt),
            issued: successor.issued.as_micros(),
            unknown: successor.unknown.clone(),
        }
    }

    fn read(self) -> Successor {
        Successor {
            digest: TokenDigest::from_bytes(self.token.0),
            salt: self.salt.0,
            issued: Timestamp::from_micros(self.issued),
            unknown: self.unknown,
        }
    }
}

impl NextWithProof {
    fn of(step_up: &StepUp) -> Self {
        let StepUp { next, authentication, sign_in } = step_up;
        Self {
            proof: OwnProof::of(authentication),
            sign_in: sign_in.as_ref().map(SignIn::of),
            next: Next::of(next),
        }
    }

    fn read(self) -> Result<StepUp, InvalidField> {
        Ok(StepUp {
            next: self.next.read(),
            authentication: self.proof.read()?,
            sign_in: self.sign_in.map(SignIn::read).transpose()?,
        })
    }
}

impl SignIn {
    fn of(sign_in: &SignInAgain) -> Self {
        let mut unknown = sign_in.unknown.clone();
        let own_timeouts = take_object(&mut unknown, "timeouts");
        Self {
            at: sign_in.at.as_micros(),
            device_info: sign_in.device_info.as_ref().map(|info| info.as_str().to_owned()),
            data: sign_in.data.as_ref().map(|data| data.as_json().to_owned()),
            timeouts: sign_in.timeouts.map(|own| OwnTimeouts::of(own, own_timeouts)),
            unknown,
        }
    }

    fn read(mut self) -> Result<SignInAgain, InvalidField> {
        Ok(SignInAgain {
            at: Timestamp::from_micros(self.at),
            device_info: read(self.device_info.as_deref(), DeviceInfo::from_stored)?,
            data: read(self.data.as_deref(), ExtraData::from_json)?,
            timeouts: self.timeouts.map(|own| own.read(&mut self.unknown)),
            unknown: self.unknown,
        })
    }
}

impl Last {
    fn of(retired: &RetiredToken) -> Self {
        let mut unknown = retired.unknown.clone();
        Self {
            token: Hex(*retired.digest.as_bytes()),
            at: retired.at.as_micros(),
            proof: Proof::of(&retired.authentication, &mut unknown),
            unknown,
        }
    }

    fn read(self) -> Result<RetiredToken, InvalidField> {
        Ok(RetiredToken {
            digest: TokenDigest::from_bytes(self.token.0),
            at: Timestamp::from_micros(self.at),
            authentication: self.proof.read()?,
            unknown: self.unknown,
        })
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&const_hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        let mut bytes = [0; N];
        // The decoder also takes what begins with 0x.
        if text.len() != 2 * N {
            return Err(de::Error::invalid_length(text.len(), &"hexadecimal digits"));
        }
        const_hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(de::Error::custom)?;
        Ok(Self(bytes))
    }
}

fn read<T>(
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, InvalidField>,
) -> Result<Option<T>, InvalidField> {
    text.map(parse).transpose()
}

fn take_object(unknown: &mut Unknown, name: &str) -> Unknown {
    match unknown.remove(name) {
        Some(Value::Object(object)) => object,
        _ => Unknown::new(),
    }
}
