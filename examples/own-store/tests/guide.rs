//! What `docs/writing-a-store.md` quotes is in the source.

#[test]
fn the_guide_quotes_the_source() {
    let words = |code: &str| code.split_whitespace().collect::<Vec<_>>().join(" ");
    let guide = std::fs::read_to_string("../../docs/writing-a-store.md").unwrap();
    let quotes: Vec<_> = guide.split("```rust\n// ").skip(1).collect();
    assert!(!quotes.is_empty());
    for quote in quotes {
        let (path, code) = quote.split_once('\n').unwrap();
        let (code, _) = code.split_once("```").unwrap();
        let source = words(&std::fs::read_to_string(path).unwrap());
        for part in code.split("// ...\n") {
            assert!(source.contains(&words(part)), "{path} lacks\n{part}");
        }
    }
}
