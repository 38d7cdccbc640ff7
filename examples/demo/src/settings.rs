//! The configuration file, and options on the command line.

use std::path::Path;

use serde_json::Value;
use session_kit::http::Config;

/// An option that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BadConfig {
    place: String,
    reason: String,
}

/// The options of a file in TOML, over those of the demo: a cookie that goes over plain HTTP, and a
/// page to sign in. `docs/session-kit.toml` has every option.
///
/// # Errors
/// When the file cannot be read, or names an option that there is not, or a value that does not fit.
pub fn read_config(path: Option<&Path>) -> Result<Config, BadConfig> {
    let mut demo = Config::development();
    demo.http.sign_in_path = Some("/login".to_owned());
    demo.http.reauthenticate_path = Some("/login".to_owned());
    let Some(path) = path else { return Ok(demo) };
    let place = || format!("the configuration file {}", path.display());
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| BadConfig { place: place(), reason: error.to_string() })?;
    over(demo, &text).map_err(|reason| BadConfig { place: place(), reason })
}

/// Sets one option, as in `engine.renew_after=600`: its path in the file, and a value in TOML. A value
/// that is none is taken as text.
///
/// # Errors
/// As [`read_config`].
pub fn set_option(config: Config, setting: &str) -> Result<Config, BadConfig> {
    let bad = |reason: String| BadConfig { place: format!("--set {setting}"), reason };
    let (path, value) = setting.split_once('=').ok_or_else(|| bad("OPTION=VALUE".to_owned()))?;
    let line = format!("{path} = {value}");
    let is_toml = toml::from_str::<toml::Table>(&line).is_ok();
    let line = if is_toml { line } else { format!("{path} = {}", Value::from(value)) };
    over(config, &line).map_err(bad)
}

/// The options that a text in TOML names, over others.
fn over(below: Config, text: &str) -> Result<Config, String> {
    // By itself first: its errors show the line.
    toml::from_str::<Config>(text).map_err(|error| error.to_string())?;
    let above: Value = toml::from_str(text).map_err(|error| error.to_string())?;
    let merged = serde_json::to_value(below).map(|below| merge(below, above));
    merged.and_then(serde_json::from_value).map_err(|error| error.to_string())
}

fn merge(below: Value, above: Value) -> Value {
    match (below, above) {
        (Value::Object(mut below), Value::Object(above)) => {
            for (name, value) in above {
                let old = below.remove(&name).unwrap_or_default();
                below.insert(name, merge(old, value));
            }
            Value::Object(below)
        }
        (_, above) => above,
    }
}

#[cfg(test)]
mod tests {
    use session_kit::core::usage::Timeouts;

    use super::*;

    fn read(text: &str) -> Result<Config, BadConfig> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session-kit.toml");
        std::fs::write(&path, text).unwrap();
        read_config(Some(&path))
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let config =
            read("[http]\nprefix = \"/auth\"\n[engine.write_back]\nevery_hits = 3").unwrap();
        assert_eq!(config.http.prefix, "/auth");
        assert_eq!(config.engine.write_back.every_hits, 3);
        assert_eq!(config.http.sign_in_path.as_deref(), Some("/login"));
        assert_eq!(config.http.cookie.name, "session");
        assert_eq!(read("").unwrap(), read_config(None).unwrap());
    }

    #[test]
    fn a_mistake_is_named_with_its_file_and_line() {
        let error = read("[http]\nprefixx = 1").unwrap_err().to_string();
        for part in ["session-kit.toml", "line 2", "prefixx"] {
            assert!(error.contains(part), "{error}");
        }
        let error = read_config(Some(Path::new("/nowhere.toml"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere.toml: No such file"), "{error}");
    }

    #[test]
    fn one_option_may_be_set_by_itself() {
        let set = |settings: &[&str]| {
            let begin = read_config(None).unwrap();
            settings.iter().try_fold(begin, |config, setting| set_option(config, setting))
        };
        let config = set(&[
            "engine.renew_after=600",
            "engine.addresses=prefix",
            "engine.history.keep=0",
            r#"engine.default_policy.limits=[{max=1,scope="user",on_exceed="reject"}]"#,
            "http.prefix=/auth",
        ]);
        let config = config.unwrap();
        assert_eq!(config.engine.renew_after, Some(std::time::Duration::from_secs(600)));
        assert_eq!(config.engine.addresses, session_kit::engine::Addresses::Prefix);
        assert_eq!(config.engine.history.keep, Some(std::time::Duration::ZERO));
        assert_eq!(config.engine.default_policy.limits.len(), 1);
        assert_eq!(config.http.prefix, "/auth");
        assert_eq!(config.http.sign_in_path.as_deref(), Some("/login"));
        for (bad, word) in [("engine.renew=1", "renew"), ("engine.renew_after=x", "x"), ("a", "=")]
        {
            let error = set(&[bad]).unwrap_err().to_string();
            assert!(error.starts_with("--set ") && error.contains(word), "{error}");
        }
    }

    /// TOML has no word for nothing.
    #[test]
    fn zero_switches_off_what_is_on_by_default() {
        let off = "[engine]\nmax_sessions_per_user = 0\nrenew_after = 0\n\
                   [engine.timeouts]\nidle = 0\nabsolute = 0\n";
        let config = read(off).unwrap();
        assert_eq!(config.engine.max_sessions_per_user, None);
        assert_eq!(config.engine.renew_after, None);
        assert_eq!(config.engine.timeouts, Timeouts::none());
        assert!(config.engine.validate().is_ok());
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["engine"]["timeouts"]["idle"], 0.0, "{written}");
        assert_eq!(serde_json::from_value::<Config>(written).unwrap(), config);
    }

    #[test]
    fn the_documented_file_has_every_option_with_its_default() {
        let text = include_str!("../../../docs/session-kit.toml");
        let file: Config = toml::from_str(text).unwrap();
        assert_eq!(file, Config::default());
        let file: Value = toml::from_str(text).unwrap();
        let mut missing = Vec::new();
        compare("", &serde_json::to_value(Config::default()).unwrap(), &file, text, &mut missing);
        assert_eq!(missing, [""; 0]);
    }

    /// The options that a file lacks; one that is none by default is there as a comment.
    fn compare(at: &str, all: &Value, file: &Value, text: &str, missing: &mut Vec<String>) {
        for (name, value) in all.as_object().into_iter().flatten() {
            let path = format!("{at}.{name}");
            match file.get(name) {
                Some(there) => compare(&path, value, there, text, missing),
                None if value.is_null() && is_shown_as_none(name, text) => {}
                None => missing.push(path),
            }
        }
    }

    /// Whether there is a line `# name = …  # default: none` that sets an option without its `# `.
    fn is_shown_as_none(name: &str, text: &str) -> bool {
        let start = format!("# {name} = ");
        let is_shown = |line: &&str| line.starts_with(&start) && line.ends_with("# default: none");
        let Some(line) = text.lines().find(is_shown) else { return false };
        let with = toml::from_str::<Config>(&text.replace(line, &line["# ".len()..]));
        with.unwrap_or_else(|error| panic!("{line}: {error}")) != Config::default()
    }
}
