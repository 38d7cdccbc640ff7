//! Calls of the store and of the claims provider: how long they may take, how many there are at a time, and
//! what the log says of those that fail.

use std::time::Duration;

use serde_json::Value;
use session_core::{Session, StoreError, StoreErrorKind};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::Error;
use crate::meter;
use crate::shared::Shared;
use crate::trouble::TroubleOver;

impl Shared {
    /// Calls the store, with the time limit of the options.
    pub(crate) async fn store_call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        self.store_call_within(name, self.options.store_timeout, call).await
    }

    /// Calls the store, with this time limit. One that is shorter than that of the options proves no outage,
    /// unless the log has been silent for the longer one: the store may only be slow.
    pub(crate) async fn store_call_within<T>(
        &self,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        let measured = meter::StoreCall::begin(name);
        let answer = self.on_runtime(|| tokio::time::timeout(limit, call)).await;
        let proves = answer.is_ok() || self.has_waited(limit);
        let result = answer.unwrap_or_else(|_| Err(StoreError::timed_out(name, limit)));
        measured.end(&result);
        if proves {
            self.note_answer(name, result.as_ref().err());
        }
        Ok(result?)
    }

    /// Whether the store has had the time of the options to answer a call that was given up after `limit`.
    fn has_waited(&self, limit: Duration) -> bool {
        let most = self.options.store_timeout;
        limit >= most || self.time.silence().is_none_or(|silence| silence >= most)
    }

    /// The deadline of a request that came at `asked` and has to ask the store.
    pub(crate) fn request_deadline(&self, asked: Instant) -> Instant {
        let claims = self.claims.as_ref().map(|_| self.options.claims_timeout);
        asked + self.options.store_timeout + claims.unwrap_or_default()
    }

    /// Awaits the answer; [`Error::Unavailable`] at the deadline. What must not stop half-way runs in a
    /// task of its own: [`Shared::detached`].
    pub(crate) async fn before<T>(
        &self,
        deadline: Instant,
        name: &'static str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let answer = self.on_runtime(|| tokio::time::timeout_at(deadline, answer)).await;
        let late = || StoreError::timed_out(name, limit);
        answer.unwrap_or_else(|_| Err(late().into()))
    }

    /// Says once that the store does not answer, or answers with defects, and once that this is over.
    fn note_answer(&self, method: &'static str, error: Option<&StoreError>) {
        let Some(error) = error else {
            if let Some(TroubleOver { lasted, calls }) = self.outage.ends() {
                tracing::info!(calls, ?lasted, "the store answers again");
            }
            if let Some(TroubleOver { lasted, calls }) = self.defect.ends() {
                tracing::info!(calls, ?lasted, "the store answers without defects again");
            }
            return;
        };
        if error.kind() == StoreErrorKind::Unavailable {
            if self.outage.begins() {
                tracing::warn!(method, %error, "the store does not answer");
            }
        } else if self.defect.begins() {
            tracing::error!(
                method,
                error = error as &dyn std::error::Error,
                "the store answers with a defect"
            );
        }
    }

    /// Waits for a place among the reads of sessions that requests wait for.
    pub(crate) async fn load_permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.permit("load", &self.loads_under_way).await
    }

    /// Waits for a place among the calls of the claims provider that come with such reads.
    pub(crate) async fn claims_permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        let permit = self.permit("claims", &self.claims_under_way).await;
        permit.map_err(|error| Error::Claims(error.to_string().into()))
    }

    async fn permit<'s>(
        &self,
        name: &'static str,
        places: &'s Semaphore,
    ) -> Result<SemaphorePermit<'s>, Error> {
        let limit = self.options.store_timeout;
        let permit = tokio::time::timeout(limit, places.acquire()).await;
        let late = || StoreError::timed_out(name, limit);
        // The semaphore is never closed.
        permit.ok().and_then(Result::ok).ok_or_else(|| late().into())
    }

    /// What the application knows of the session; null where it supplies no claims.
    pub(crate) async fn claims(&self, session: &Session) -> Result<Value, Error> {
        let Some(provider) = &self.claims else { return Ok(Value::Null) };
        let limit = self.options.claims_timeout;
        let late = || format!("no answer within {} s", limit.as_secs_f64()).into();
        let claims = tokio::time::timeout(limit, provider.claims(session)).await;
        let claims = claims.unwrap_or_else(|_| Err(late()));
        if let Err(error) = &claims {
            if self.claims_fail.begins() {
                tracing::warn!(%error, "the claims provider fails");
            }
        } else if let Some(TroubleOver { lasted, calls }) = self.claims_fail.ends() {
            tracing::info!(calls, ?lasted, "the claims provider works again");
        }
        claims.map_err(|error| Error::Claims(error.to_string().into()))
    }
}
