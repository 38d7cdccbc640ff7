//! The types that every framework's adapter offers under the same names. Each has to define its own,
//! to implement its framework's traits for them.

/// Defines, in an adapter's crate, `Sessions`, the extractors `CurrentSession`, `MaybeSession`,
/// `Ended`, `Fresh`, `Claims`, `SameOrigin`, `Live` and `SessionAuth`, and what they answer: `SessionCookie` and `Rejection`. Left to
/// the adapter are the traits of its framework.
///
/// The crate has to depend on `session-http` and `session-engine` under their own names.
#[macro_export]
macro_rules! adapter_types {
    () => {
        /// A node with what the framework needs of it; cheap to clone.
        #[derive(Clone, Debug)]
        pub struct Sessions(pub ::session_http::HttpSessions);

        impl Sessions {
            /// Starts a node on a store; see [`HttpSessions::start`](::session_http::HttpSessions::start).
            ///
            /// # Errors
            /// As there.
            pub async fn start(
                store: impl $crate::Store,
                config: ::session_http::Config,
            ) -> ::core::result::Result<Self, ::session_engine::Error> {
                ::session_http::HttpSessions::start(store, config).await.map(Self)
            }

            /// Starts a node with a guard, claims or a clock of the application.
            ///
            /// # Errors
            /// As [`HttpSessions::start`](::session_http::HttpSessions::start).
            pub async fn start_with(
                store: ::std::sync::Arc<dyn $crate::Store>,
                config: ::session_http::Config,
                hooks: ::session_http::Hooks,
            ) -> ::core::result::Result<Self, ::session_engine::Error> {
                ::session_http::HttpSessions::start_with(store, config, hooks).await.map(Self)
            }
        }

        $crate::adapter_types!(@deref [] Sessions => ::session_http::HttpSessions);

        /// The session that the request belongs to; 401 without one, 503 while nothing can be said
        /// about the token. A browser that asks for a page is sent to sign in and back.
        #[derive(Clone, Debug)]
        pub struct CurrentSession(pub ::session_engine::ActiveSession);

        $crate::adapter_types!(@deref [] CurrentSession => ::session_engine::ActiveSession);

        /// The session that the request belongs to, if there is one; 503 while nothing can be said
        /// about the token.
        #[derive(Clone, Debug)]
        pub struct MaybeSession(pub ::core::option::Option<::session_engine::ActiveSession>);

        /// How the session ended whose token the request carries, for a sign-in page that says why; none
        /// where there is nothing to tell. It refuses no request. See
        /// [`RequestSession::ended`](::session_http::RequestSession::ended).
        #[derive(Clone, Debug)]
        pub struct Ended(
            pub ::core::option::Option<::std::sync::Arc<::session_engine::Ending>>,
        );

        /// A session whose user has proved who they are within the last `SECONDS`; 401 with
        /// `urn:session-kit:reauthentication-required` otherwise. It goes by the token that the request
        /// carries: one that a re-authentication has replaced does not gain by it.
        ///
        /// Ask for the password again, then call [`SessionAuth::rotate`] with
        /// [`RotateReason::Reauthenticated`](::session_engine::RotateReason::Reauthenticated).
        #[derive(Clone, Debug)]
        pub struct Fresh<const SECONDS: u64>(pub ::session_engine::ActiveSession);

        impl<const SECONDS: u64> Fresh<SECONDS> {
            const WITHIN: ::core::time::Duration = ::core::time::Duration::from_secs(SECONDS);
        }

        $crate::adapter_types!(
            @deref [const SECONDS: u64] Fresh<SECONDS> => ::session_engine::ActiveSession
        );

        /// The session's claims as a type of the application; 500 when they are of another form.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Claims<T>(pub T);

        /// A request that no page of another origin has made, if it changes something; 403 otherwise.
        /// See [`RequestSession::same_origin`](::session_http::RequestSession::same_origin).
        #[derive(Clone, Copy, Debug)]
        pub struct SameOrigin(pub ());

        /// A connection that outlives its request and ends with its session: a WebSocket, server-sent
        /// events, a streaming body. 401 without a session, 403 for a WebSocket that a page of another
        /// origin opens, 429 when as many are open as may be, 503 while nothing can be said about the
        /// token. See [`Live`](::session_http::Live).
        #[derive(Debug)]
        pub struct Live(pub ::session_http::Live);

        $crate::adapter_types!(@deref [] Live => ::session_http::Live);

        impl Live {
            /// The items of a stream until the session ends; see
            /// [`Live::while_signed_in`](::session_http::Live::while_signed_in).
            pub fn while_signed_in<S: $crate::Stream>(
                self,
                items: S,
                last: impl ::core::ops::FnOnce(
                    ::session_http::Close,
                ) -> ::core::option::Option<S::Item>,
            ) -> impl $crate::Stream<Item = S::Item> {
                self.0.while_signed_in(items, last)
            }
        }

        /// Signs in, signs out and rotates for the sender of the request; see
        /// [`Auth`](::session_http::Auth).
        #[derive(Clone, Debug)]
        pub struct SessionAuth(pub ::session_http::Auth);

        impl SessionAuth {
            /// The session that the request belongs to, if there is one.
            pub const fn session(
                &self,
            ) -> ::core::option::Option<&::session_engine::ActiveSession> {
                self.0.session()
            }

            /// Begins a session; see [`Auth::sign_in`](::session_http::Auth::sign_in).
            ///
            /// # Errors
            /// As there.
            pub async fn sign_in<N>(
                &self,
                new: N,
            ) -> ::core::result::Result<(::session_engine::SignedIn, SessionCookie), Rejection>
            where
                N: ::core::convert::TryInto<::session_http::NewSession>,
                N::Error: ::core::convert::Into<::session_http::Problem>,
            {
                let (signed_in, cookie) = self.0.sign_in(new).await?;
                Ok((signed_in, SessionCookie(cookie)))
            }

            /// Begins a session with a request that comes from another site by right; see
            /// [`Auth::sign_in_from_callback`](::session_http::Auth::sign_in_from_callback).
            ///
            /// # Errors
            /// As there.
            pub async fn sign_in_from_callback<N>(
                &self,
                proof: ::session_http::CallbackProof,
                new: N,
            ) -> ::core::result::Result<(::session_engine::SignedIn, SessionCookie), Rejection>
            where
                N: ::core::convert::TryInto<::session_http::NewSession>,
                N::Error: ::core::convert::Into<::session_http::Problem>,
            {
                let (signed_in, cookie) = self.0.sign_in_from_callback(proof, new).await?;
                Ok((signed_in, SessionCookie(cookie)))
            }

            /// Ends the session that a user has chosen and begins the one that a limit has refused; see
            /// [`Auth::sign_in_with_ticket`](::session_http::Auth::sign_in_with_ticket).
            ///
            /// # Errors
            /// As there.
            pub async fn sign_in_with_ticket(
                &self,
                ticket: &str,
                end: $crate::SessionId,
            ) -> ::core::result::Result<(::session_engine::SignedIn, SessionCookie), Rejection>
            {
                let (signed_in, cookie) = self.0.sign_in_with_ticket(ticket, end).await?;
                Ok((signed_in, SessionCookie(cookie)))
            }

            /// Begins a session for a client without cookies: the token goes into the body of the
            /// response; see [`Auth::sign_in_app`](::session_http::Auth::sign_in_app).
            ///
            /// # Errors
            /// As there.
            pub async fn sign_in_app<N>(
                &self,
                new: N,
            ) -> ::core::result::Result<(::session_engine::SignedIn, SessionCookie), Rejection>
            where
                N: ::core::convert::TryInto<::session_http::NewSession>,
                N::Error: ::core::convert::Into<::session_http::Problem>,
            {
                let (signed_in, cookie) = self.0.sign_in_app(new).await?;
                Ok((signed_in, SessionCookie(cookie)))
            }

            /// Begins a sign-in at another site; see
            /// [`Auth::begin_flow`](::session_http::Auth::begin_flow).
            ///
            /// # Errors
            /// As there.
            pub fn begin_flow(
                &self,
                data: &str,
            ) -> ::core::result::Result<(::session_http::Flow, SessionCookie), Rejection> {
                let (flow, cookie) = self.0.begin_flow(data)?;
                Ok((flow, SessionCookie(cookie)))
            }

            /// Takes up a flow that has come back; see
            /// [`Auth::finish_flow`](::session_http::Auth::finish_flow).
            ///
            /// # Errors
            /// As there.
            pub fn finish_flow(
                &self,
                state: &str,
            ) -> ::core::result::Result<
                (::session_http::Flow, ::session_http::CallbackProof),
                Rejection,
            > {
                Ok(self.0.finish_flow(state)?)
            }

            /// The accounts that this browser is signed in to; see
            /// [`Auth::accounts`](::session_http::Auth::accounts).
            ///
            /// # Errors
            /// As there.
            pub async fn accounts(
                &self,
            ) -> ::core::result::Result<
                ::std::vec::Vec<::session_engine::ActiveSession>,
                Rejection,
            > {
                Ok(self.0.accounts().await?)
            }

            /// Puts another account in use; see
            /// [`Auth::switch_account`](::session_http::Auth::switch_account).
            ///
            /// # Errors
            /// As there.
            pub async fn switch_account(
                &self,
                id: $crate::SessionId,
            ) -> ::core::result::Result<SessionCookie, Rejection> {
                Ok(SessionCookie(self.0.switch_account(id).await?))
            }

            /// Ends the session and takes back the cookie; see
            /// [`Auth::sign_out`](::session_http::Auth::sign_out).
            ///
            /// # Errors
            /// As there.
            pub async fn sign_out(&self) -> ::core::result::Result<SessionCookie, Rejection> {
                Ok(SessionCookie(self.0.sign_out().await?))
            }

            /// Ends the session and every account beside it; see
            /// [`Auth::sign_out_all`](::session_http::Auth::sign_out_all).
            ///
            /// # Errors
            /// As there.
            pub async fn sign_out_all(&self) -> ::core::result::Result<SessionCookie, Rejection> {
                Ok(SessionCookie(self.0.sign_out_all().await?))
            }

            /// Replaces the token; see [`Auth::rotate`](::session_http::Auth::rotate).
            ///
            /// # Errors
            /// As there.
            pub async fn rotate(
                &self,
                reason: ::session_engine::RotateReason,
            ) -> ::core::result::Result<SessionCookie, Rejection> {
                Ok(SessionCookie(self.0.rotate(reason).await?))
            }

            /// Replaces the bearer token; see
            /// [`Auth::rotate_token`](::session_http::Auth::rotate_token).
            ///
            /// # Errors
            /// As there.
            pub async fn rotate_token(
                &self,
                reason: ::session_engine::RotateReason,
            ) -> ::core::result::Result<
                (::core::option::Option<$crate::Token>, SessionCookie),
                Rejection,
            > {
                let (token, cookie) = self.0.rotate_token(reason).await?;
                Ok((token, SessionCookie(cookie)))
            }
        }

        /// The cookie of a response, which the browser keeps or gives up.
        #[derive(Clone, Debug)]
        #[must_use = "the browser learns of it only through a response"]
        pub struct SessionCookie(pub ::session_http::CookieHeaders);

        /// A refusal, answered as `application/problem+json` or, for a browser that asks for a page,
        /// with the way to sign in. Never with a cookie.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Rejection(pub ::session_http::Rejection);

        impl<E: ::core::convert::Into<::session_http::Rejection>> ::core::convert::From<E>
            for Rejection
        {
            fn from(error: E) -> Self {
                Self(error.into())
            }
        }

        impl ::core::fmt::Display for Rejection {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(&self.0, f)
            }
        }

        impl ::core::error::Error for Rejection {
            fn source(&self) -> ::core::option::Option<&(dyn ::core::error::Error + 'static)> {
                ::core::error::Error::source(&self.0)
            }
        }
    };
    (@deref [$($generics:tt)*] $name:ty => $target:ty) => {
        impl<$($generics)*> ::core::ops::Deref for $name {
            type Target = $target;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
}
