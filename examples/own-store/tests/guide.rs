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

/// The guide promises it.
#[test]
fn the_source_has_fewer_than_nine_hundred_lines() {
    let files = std::fs::read_dir("src").unwrap().map(|file| file.unwrap().path());
    let lines: Vec<_> =
        files.map(|file| std::fs::read_to_string(file).unwrap().lines().count()).collect();
    assert_eq!(lines.len(), 8);
    assert!(lines.iter().all(|lines| (60..=210).contains(lines)), "{lines:?}");
    assert!(lines.iter().sum::<usize>() < 900, "{lines:?}");
}
