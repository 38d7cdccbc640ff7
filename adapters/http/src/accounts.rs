//! Several accounts in one browser, side by side: the one in use has the cookie, each of the others a
//! cookie of its own with a number.

use session_core::{SessionId, UserKey};
use session_engine::{Access, ActiveSession, Held};

use crate::auth::Auth;
use crate::cookie::CookieHeaders;
use crate::presented::named;
use crate::problem::Problem;
use crate::rejection::Rejection;

/// The other accounts of this browser that a sign-in has to take into account.
#[derive(Default)]
pub(crate) struct Beside {
    /// A session of the user who signs in, which goes on in the account in use, or ends.
    pub(crate) replaced: Option<Held>,
    /// Removes the cookie of `replaced`, unless the account in use takes its place.
    pub(crate) cookie: CookieHeaders,
    /// The cookie in which the account in use has room: that one, or one that is empty.
    pub(crate) free: Option<String>,
}

impl Auth {
    /// The accounts that this browser is signed in to, the one in use first.
    ///
    /// # Errors
    /// 503 when only the store could tell and it is away.
    pub async fn accounts(&self) -> Result<Vec<ActiveSession>, Rejection> {
        let mut accounts: Vec<_> = self.session().cloned().into_iter().collect();
        for name in self.account_names() {
            accounts.extend(self.account(&name).await?);
        }
        Ok(accounts)
    }

    /// Puts the account of this session in use, and the one in use in its place.
    ///
    /// # Errors
    /// 404 when this browser is not signed in to it, 503 when only the store could tell and it is away,
    /// 403 across origins.
    pub async fn switch_account(&self, id: SessionId) -> Result<CookieHeaders, Rejection> {
        self.refuse_cross_origin()?;
        if self.session().is_some_and(|session| session.id() == id) {
            return Ok(CookieHeaders::keep());
        }
        let (options, headers) = (&self.http().options().cookie, self.head().headers);
        for name in self.account_names() {
            let account = self.account(&name).await?;
            let account = account.filter(|account| account.id() == id);
            let Some(account) = account else { continue };
            let Some(stored) = named(headers, name.as_bytes()).of_session(&account) else {
                continue;
            };
            let cookie = options.set_named(&options.name, &stored, account.timeouts());
            let parked = self.session().and_then(|current| self.park(&name, current));
            return Ok(cookie.and(parked.unwrap_or_else(|| options.remove_named(&name))));
        }
        Err(Problem::not_found().into())
    }

    /// What a sign-in of this user has to know.
    pub(crate) async fn beside(&self, owner: &UserKey) -> Result<Beside, Rejection> {
        let mut beside = Beside::default();
        for name in self.account_names() {
            match self.held_beside(&name).await? {
                Some(account) if account.owner == *owner => {
                    beside.replaced = Some(account);
                    beside.cookie = self.http().options().cookie.remove_named(&name);
                    beside.free = Some(name);
                }
                None if beside.free.is_none() => beside.free = Some(name),
                _ => {}
            }
        }
        Ok(beside)
    }

    /// Moves the account in use into the cookie of this name; none where its token is in no cookie.
    pub(crate) fn park(&self, name: &str, current: &ActiveSession) -> Option<CookieHeaders> {
        let options = &self.http().options().cookie;
        let stored = options.presented(self.head().headers).of_session(current)?;
        Some(options.set_named(name, &stored, current.timeouts()))
    }

    /// Ends every account beside the one in use, and takes its cookie back.
    pub(crate) async fn end_accounts(&self) -> Result<CookieHeaders, Rejection> {
        let mut cookies = CookieHeaders::keep();
        for name in self.account_names() {
            if let Some(account) = self.held_beside(&name).await? {
                self.http().manager().sign_out_held(&account).await?;
                cookies = cookies.and(self.http().options().cookie.remove_named(&name));
            }
        }
        Ok(cookies)
    }

    fn account_names(&self) -> impl Iterator<Item = String> {
        let options = self.http().options();
        (1..options.max_accounts).map(|number| options.cookie.account_name(number))
    }

    /// The session in the cookie of this name. Looking is no access.
    async fn account(&self, name: &str) -> Result<Option<ActiveSession>, Rejection> {
        let Some(token) = self.token_beside(name) else { return Ok(None) };
        match self.http().manager().validate(token, Access::passive(None)).await {
            Ok(verdict) => Ok(verdict.session()),
            Err(error) if error.is_corrupt() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Auth::account`], to be given up.
    async fn held_beside(&self, name: &str) -> Result<Option<Held>, Rejection> {
        let Some(token) = self.token_beside(name) else { return Ok(None) };
        Ok(self.http().manager().held(&[token]).await?)
    }

    /// The token in the cookie of this name, where there is exactly one.
    fn token_beside(&self, name: &str) -> Option<&[u8]> {
        let presented = named(self.head().headers, name.as_bytes());
        let mut tokens = presented.tokens();
        let (token, another) = (tokens.next()?, tokens.next());
        another.is_none().then_some(token)
    }
}
