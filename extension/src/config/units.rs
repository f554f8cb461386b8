//! Reader of single variables: text, choices, numbers, durations and paths. Collects all errors.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::environment::Environment;
use super::variables::VARIABLES;

/// Maximum length of a socket's path on Linux, including the terminating NUL.
const MAX_SOCKET_PATH: usize = 108;

/// Reader of variables that collects errors.
pub(super) struct VariableReader<'a> {
    environment: &'a Environment,
    errors: Vec<String>,
    /// Variables with invalid characters, for which no further error is added.
    unreadable: Vec<&'static str>,
}

impl<'a> VariableReader<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            errors: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Returns `config`, or all errors.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(self.errors))
        }
    }

    /// Adds an error for an invalid value.
    pub(super) fn wrong(&mut self, variable: &str, value: &str, allowed: &str) {
        if self.unreadable.contains(&variable) {
            return;
        }
        self.errors.push(format!(
            "{variable}={value:?} is not allowed: expected {allowed}"
        ));
    }

    /// Adds an error for each variable with characters that are never valid.
    pub(super) fn check_characters(&mut self) {
        let is_wrong = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        for variable in VARIABLES {
            let name = variable.name;
            // Entries of a list may be on separate lines.
            let separator = match name {
                "MODELS"
                | "MODEL_VERSION"
                | "MODEL_LABEL"
                | "MODEL_CONFIDENCE_OUTPUT"
                | "MODEL_METRICS_DIMENSIONS" => Some(','),
                "MODEL_CUSTOM_OPS" => Some(':'),
                _ => None,
            };
            let is_separator = |c: char| Some(c) == separator;
            if let Some(value) = self.text(name)
                && value
                    .split(is_separator)
                    .any(|it| it.trim().contains(is_wrong))
            {
                let allowed = "UTF-8 text without control characters such as line breaks";
                self.wrong(name, value, allowed);
                self.unreadable.push(name);
            }
        }
    }

    /// Adds an error that concerns no single value.
    pub(super) fn error(&mut self, message: &str) {
        self.errors.push(message.to_owned());
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

    /// Reads one of several words, in upper or lower case.
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

    /// Reads an integer between `min` and `max`.
    pub(super) fn number(&mut self, name: &str, min: u64, max: u64) -> Option<u64> {
        let allowed = format!("a whole number from {min} to {max}");
        self.parsed(name, &allowed, |value| {
            value
                .parse()
                .ok()
                .filter(|number| (min..=max).contains(number))
        })
    }

    /// Reads a duration with its unit.
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

    /// Reads a list of absolute paths, separated by colons, of existing files; empty if the variable is not set.
    pub(super) fn files(&mut self, name: &str) -> Vec<PathBuf> {
        let Some(value) = self.text(name) else {
            return Vec::new();
        };
        let mut files = Vec::new();
        for path in value.split(':').map(str::trim) {
            let allowed = "absolute paths of files, separated by colons";
            let file = PathBuf::from(path);
            if !file.is_absolute() {
                self.wrong(name, value, &format!("{allowed}; {path:?} is not absolute"));
            } else if !file.is_file() {
                self.wrong(
                    name,
                    value,
                    &format!("{allowed}; the file {path:?} does not exist"),
                );
            }
            files.push(file);
        }
        files
    }

    pub(super) fn socket_path(&mut self, name: &str) -> Option<PathBuf> {
        self.parsed(
            name,
            "an absolute path of at most 107 bytes, the limit for Unix sockets",
            |value| {
                Some(PathBuf::from(value))
                    .filter(|path| path.is_absolute() && value.len() < MAX_SOCKET_PATH)
            },
        )
    }

    /// Reads a prefix of request paths.
    pub(super) fn base_path(&mut self, name: &str) -> Option<String> {
        let allowed = "a path such as /scoring: segments of letters, digits and -._~%!$&'()*+,;=:@, separated by slashes";
        self.parsed(name, allowed, |value| {
            let fits = |c: char| c.is_alphanumeric() || "/-._~%!$&'()*+,;=:@".contains(c);
            value.chars().all(fits).then(|| value.to_owned())
        })
    }

    /// Reads a CloudWatch namespace.
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
    fn durations_need_a_unit() {
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
