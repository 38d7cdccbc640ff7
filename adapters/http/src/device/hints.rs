//! Client hints: what a browser says of itself in headers of their own (Sec-CH-UA-…). They are meant
//! to be read, while a `User-Agent` keeps the words that old servers look for.

use http::HeaderMap;

use super::known::System;
use crate::list;

/// The hints of a request; nothing where it has none, or none that can be read.
#[derive(Default)]
pub(super) struct Hints {
    /// The browser's name and its version.
    pub(super) browser: Option<(String, String)>,
    pub(super) system: Option<System>,
    /// Whether it is held in a hand or worn.
    pub(super) is_handheld: bool,
}

impl Hints {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name)?.to_str().ok().filter(|text| text.len() <= MAX_BYTES);
        let handheld = ["Mobile", "Tablet", "Watch", "XR", "EInk"];
        let forms = text("sec-ch-ua-form-factors").map(items).unwrap_or_default();
        Self {
            browser: text("sec-ch-ua").map(items).and_then(browser),
            system: text("sec-ch-ua-platform")
                .and_then(list::unquoted)
                .and_then(|platform| System::named_in(&platform)),
            is_handheld: text("sec-ch-ua-mobile") == Some("?1")
                || forms.iter().any(|(form, _)| handheld.contains(&form.as_str())),
        }
    }
}

/// The items of a list with their `v`; none where it cannot be read.
fn items(list: &str) -> Vec<(String, String)> {
    let item = |text: &str| {
        let parts = list::split(text, ';')?;
        let (name, parameters) = parts.split_first()?;
        let mut parameters = parameters.iter().filter_map(|parameter| list::pair(parameter));
        let version = parameters.find(|(name, _)| *name == "v");
        let version = version.map(|(_, version)| version.into_owned()).unwrap_or_default();
        Some((list::unquoted(name.trim())?.into_owned(), version))
    };
    let items = list::split(list, ',').map(|items| items.into_iter().filter_map(item).collect());
    items.unwrap_or_default()
}

/// The most telling brand. Browsers add one of no meaning, such as `Not?A_Brand`.
fn browser(brands: Vec<(String, String)>) -> Option<(String, String)> {
    let meaningless = |brand: &str| brand.contains("Not") && brand.contains("Brand");
    let mut brands: Vec<_> =
        brands.into_iter().filter(|(brand, _)| !meaningless(brand) && !brand.is_empty()).collect();
    brands.sort_by_key(|(brand, _)| brand == "Chromium");
    brands.into_iter().next()
}

/// The longest hint that is read.
const MAX_BYTES: usize = 512;
