//! Tickets over HTTP: they remember how the sign-in that was refused would have been answered.

use session_core::SessionId;
use session_engine::{SignedIn, Ticket};

use crate::auth::Auth;
use crate::cookie::CookieHeaders;
use crate::problem::Problem;
use crate::rejection::Rejection;

/// How a client gets the token of its sign-in.
///
/// It stands before the ticket and is no secret: who holds the ticket may choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HandedOver {
    /// By the cookie, kept as the options say.
    #[default]
    Cookie,
    /// By a cookie that the browser keeps when it is closed.
    Remembered,
    /// By a cookie that ends with the browser.
    Forgotten,
    /// In the body of the response.
    Body,
}

impl HandedOver {
    /// By a cookie.
    pub(crate) const fn by_cookie(remember: bool) -> Self {
        if remember { Self::Remembered } else { Self::Forgotten }
    }

    /// The ticket as the client gets it.
    pub(crate) fn mark(self, ticket: &Ticket) -> String {
        format!("{}{}", self.prefix(), ticket.expose())
    }

    /// Takes a ticket of a client apart. The engine's own tickets have no point.
    fn of(marked: &str) -> (Self, &str) {
        let known = [Self::Remembered, Self::Forgotten, Self::Body].into_iter();
        let mut found = known.filter_map(|by| Some((by, marked.strip_prefix(by.prefix())?)));
        found.next().unwrap_or((Self::Cookie, marked))
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Cookie => "",
            Self::Remembered => "r.",
            Self::Forgotten => "s.",
            Self::Body => "b.",
        }
    }
}

impl Auth {
    /// Ends the session that a user has chosen and begins the one that a limit has refused: for the
    /// ticket of the problem `urn:session-kit:too-many-sessions` ([`Problem::ticket`]). It answers as the
    /// sign-in would have been answered that was refused, by the cookie or, after
    /// [`Auth::sign_in_app`], with the token in the body ([`CookieHeaders::is_in_the_body`]).
    ///
    /// The ticket works once and for five minutes, on every node. The client that shows it has shown
    /// the password. It is no longer valid once every session that the limit had counted has ended.
    ///
    /// # Errors
    /// 410 `urn:session-kit:invalid-ticket` for a ticket that was used, is no longer valid or was not
    /// made by this fleet. 409 with a new ticket where the limit refuses it even so: the chosen session was
    /// not one of the user's, or another sign-in has taken its place. Otherwise as [`Auth::sign_in`].
    pub async fn sign_in_with_ticket(
        &self,
        ticket: &str,
        end: SessionId,
    ) -> Result<(SignedIn, CookieHeaders), Rejection> {
        self.refuse_cross_origin()?;
        let (by, ticket) = HandedOver::of(ticket);
        let begin = async || {
            let signed_in = self.http().manager().sign_in_with_ticket(ticket, end).await;
            signed_in.map_err(|error| Problem::from(error).handed_over(by))
        };
        let remember = match by {
            HandedOver::Body => return Ok((begin().await?, CookieHeaders::in_the_body())),
            HandedOver::Cookie => self.http().options().cookie.remember,
            HandedOver::Remembered => true,
            HandedOver::Forgotten => false,
        };
        // The store is asked about the browser's cookies first: what fails then has begun nothing.
        let strays = self.strays(self.by_cookie().map(|current| current.id())).await?;
        let signed_in = begin().await?;
        let cookie = self.after_ticket(&signed_in, strays, remember).await;
        Ok((signed_in, cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_says_how_it_is_answered() {
        for (marked, by) in [
            ("abc_-", HandedOver::Cookie),
            ("r.abc_-", HandedOver::Remembered),
            ("s.abc_-", HandedOver::Forgotten),
            ("b.abc_-", HandedOver::Body),
        ] {
            assert_eq!(HandedOver::of(marked), (by, "abc_-"));
        }
        assert_eq!(HandedOver::of("x.abc"), (HandedOver::Cookie, "x.abc"));
        assert_eq!(HandedOver::of(""), (HandedOver::Cookie, ""));
    }
}
