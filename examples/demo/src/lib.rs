//! A small application with session governance, once for each framework. A user's password is the
//! user's name.

mod accounts;
mod actix;
mod axum;
mod doctor;
mod forms;
mod live;
mod metrics;
mod pages;
mod place;
mod poem;
mod settings;
mod sign_in;
mod stop;
mod unblock;

use std::net::TcpListener;
use std::sync::Arc;

use session_kit::core::Store;
use session_kit::http::{Config, Hooks, HttpSessions};

use crate::accounts::{Accounts, guard};
pub use crate::doctor::Diagnosis;
pub use crate::place::Place;
pub use crate::settings::{BadConfig, read_config, set_option};
pub use crate::stop::stop_signal;
pub use crate::unblock::{lift_block, lifted_in_words, place_of};

/// The error and what caused it, each once.
pub fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |error| error.source());
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The framework that the demo runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Adapter {
    /// axum.
    #[default]
    Axum,
    /// actix-web.
    Actix,
    /// poem.
    Poem,
}

/// The application over one store.
#[derive(Clone, Debug)]
pub struct Demo {
    http: HttpSessions,
    accounts: Accounts,
}

impl Demo {
    /// Starts a node on a store. The roles of users are kept beside the sessions.
    ///
    /// # Errors
    /// When an option is out of bounds, or the store cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        place: &Place,
        config: Config,
        hooks: Hooks,
    ) -> Result<Self, session_kit::engine::Error> {
        metrics::collect();
        let accounts = Accounts::beside(place);
        let hooks = hooks.with_guard(guard).with_claims(accounts.clone());
        let http = HttpSessions::start_with(store, config, hooks).await?;
        Ok(Self { http, accounts })
    }

    /// The node.
    pub const fn http(&self) -> &HttpSessions {
        &self.http
    }

    /// Serves until `stop` resolves, then writes back what is unstored.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        adapter: Adapter,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let http = self.http.clone();
        let served = match adapter {
            Adapter::Axum => axum::serve(self, listener, stop).await,
            Adapter::Actix => actix::serve(self, listener, stop).await,
            Adapter::Poem => poem::serve(self, listener, stop).await,
        };
        http.shutdown().await;
        served
    }
}
