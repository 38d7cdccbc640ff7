//! Prints the description of the API.

fn main() {
    match session_http::api::openapi("/sessions").to_pretty_json() {
        Ok(text) => println!("{text}"),
        Err(error) => panic!("the description cannot be written: {error}"),
    }
}
