#![cfg_attr(all(feature = "sqlite", feature = "axum"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "sqlite", feature = "axum")),
    doc = "Server-side session governance. Turn on the features `sqlite` and `axum` for the guide."
)]

pub use session_core as core;
pub use session_engine as engine;

/// Sessions in this process's memory (feature `memory`).
#[cfg(feature = "memory")]
pub use session_store_memory as memory;

/// Sessions in a SQL database (features `sqlite`, `postgres` and `mysql`).
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use session_store_sql as sql;

/// Sessions in Redis or Valkey, single or Cluster (feature `redis`).
#[cfg(feature = "redis")]
pub use session_store_redis as redis;

/// Sessions in MongoDB (feature `mongodb`).
#[cfg(feature = "mongodb")]
pub use session_store_mongo as mongodb;

/// The HTTP rules behind every adapter (feature `axum`).
#[cfg(feature = "axum")]
pub use session_http as http;

/// Layer, extractors and routes for axum (feature `axum`).
#[cfg(feature = "axum")]
pub use session_axum as axum;
