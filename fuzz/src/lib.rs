//! What the fuzz targets do, one function for each. Each takes any bytes and panics where a promise is
//! broken; private parsers are reached through the public API.

mod address;
mod api;
mod headers;
mod node;
mod rows;
mod tokens;

pub use address::{forwarded, user_agent, x_forwarded_for};
pub use api::{cursor, json_body, next, origin, path, query};
pub use rows::stored_rows;
pub use tokens::{bearer, cookie, flow, token};
