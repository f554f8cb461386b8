//! Reading single variables: text, choices, numbers, durations, paths. Collects what is wrong.

use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, Environment};

/// Linux's limit on a socket's path, its terminating NUL included.
const SOCKET_PATH_LIMIT: usize = 108;

pub(super) struct Reader<'a> {
    environment: &'a Environment,
    mistakes: Vec<String>,
    /// Variables whose value cannot be read at all, of which nothing else is said.
    unreadable: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            mistakes: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// The configuration, unless something was wrong.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(self.mistakes))
        }
    }

    /// Notes a mistake.
    pub(super) fn wrong(&mut self, variable: &str, value: &str, allowed: &str) {
        if self.unreadable.contains(&variable) {
            return;
        }
        self.mistakes.push(format!(
            "{variable}={value:?} is not allowed: expected {allowed}"
        ));
    }

    /// Notes each variable whose value has characters that no value can have.
    pub(super) fn check_characters(&mut self) {
        let is_wrong = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        for variable in super::VARIABLES {
            let name = variable.name;
            // The entries of a list may stand on lines of their own.
            let separator = match name {
                "MODELS" | "MODEL_VERSION" | "MODEL_LABEL" => Some(','),
                "MODEL_CUSTOM_OPS" => Some(':'),
                _ => None,
            };
            let is_separator = |c: char| Some(c) == separator;
            if let Some(value) = self.text(name)
                && value
                    .split(is_separator)
                    .any(|it| it.trim().contains(is_wrong))
            {
                let allowed = "text in UTF-8 without control characters, such as line ends";
                self.wrong(name, value, allowed);
                self.unreadable.push(name);
            }
        }
    }

    /// Notes that something is missing.
    pub(super) fn missing(&mut self, what: &str) {
        self.mistakes.push(what.to_owned());
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.environment.get(name)
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.wrong(name, value, allowed);
        }
        parsed
    }

    /// One of a few words, in any case.
    pub(super) fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let allowed = format!("one of {}", words.join(", "));
        self.parsed(name, &allowed, |value| {
            choices
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(value))
                .map(|(_, choice)| *choice)
        })
    }

    /// A whole number within limits.
    pub(super) fn number(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        let allowed = format!("a whole number from {least} to {most}");
        self.parsed(name, &allowed, |value| {
            value
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
        })
    }

    /// A duration with its unit.
    pub(super) fn duration(&mut self, name: &str) -> Option<Duration> {
        self.parsed(
            name,
            "0, or a whole number with a unit: ms, s, m, h or d (such as 500ms, 45s, 5m)",
            parse_duration,
        )
    }

    pub(super) fn absolute_path(&mut self, name: &str) -> Option<PathBuf> {
        self.parsed(name, "an absolute path", |value| {
            Some(PathBuf::from(value)).filter(|path| path.is_absolute())
        })
    }

    /// Files that are there, by absolute paths with colons between them; none where the variable is not set.
    pub(super) fn files(&mut self, name: &str) -> Vec<PathBuf> {
        let Some(value) = self.text(name) else {
            return Vec::new();
        };
        let mut files = Vec::new();
        for path in value.split(':').map(str::trim) {
            let allowed = "absolute paths of files, separated by colons";
            let file = PathBuf::from(path);
            if !file.is_absolute() {
                self.wrong(name, value, &format!("{allowed}; {path:?} is none"));
            } else if !file.is_file() {
                self.wrong(
                    name,
                    value,
                    &format!("{allowed}; there is no file {path:?}"),
                );
            }
            files.push(file);
        }
        files
    }

    pub(super) fn socket_path(&mut self, name: &str) -> Option<PathBuf> {
        self.parsed(
            name,
            "an absolute path of at most 107 bytes, the limit of a Unix socket's address",
            |value| {
                Some(PathBuf::from(value))
                    .filter(|path| path.is_absolute() && value.len() < SOCKET_PATH_LIMIT)
            },
        )
    }

    /// A path in front of the local API's own.
    pub(super) fn base_path(&mut self, name: &str) {
        let allowed = "a path such as /scoring: segments of letters, digits and -._~%!$&'()*+,;=:@, with slashes between";
        self.parsed(name, allowed, |value| {
            let fits = |c: char| c.is_alphanumeric() || "/-._~%!$&'()*+,;=:@".contains(c);
            value.chars().all(fits).then_some(())
        });
    }

    /// A CloudWatch namespace.
    pub(super) fn namespace(&mut self, name: &str) -> Option<String> {
        let allowed =
            "1 to 255 of the characters A-Z a-z 0-9 . - _ / # and :, not starting with AWS/";
        self.parsed(name, allowed, |value| {
            let fits = |c: char| c.is_ascii_alphanumeric() || ".-_/#:".contains(c);
            (value.len() <= 255 && !value.starts_with("AWS/") && value.chars().all(fits))
                .then(|| value.to_owned())
        })
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units_and_nothing_else() {
        for (text, ms) in [
            ("0", 0),
            ("500ms", 500),
            ("45s", 45_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2 d", 172_800_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 minutes",
            "1s1",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
