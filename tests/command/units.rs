//! Parsers of arguments with units, variables and folders.

use std::path::PathBuf;
use std::time::Duration;

/// Parses a time with its unit: `500ms`, `30s`, `15m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let allowed = "allowed: a whole number with a unit, such as 500ms, 30s, 15m or 1h";
    let (number, unit) = split(text, allowed)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(allowed.to_owned()),
    };
    let milliseconds = number.checked_mul(milliseconds);
    milliseconds
        .filter(|time| *time <= 365 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "allowed: at most a year".to_owned())
}

/// Parses a timeout in Lambda's range, from 1 s to 15 minutes.
pub(crate) fn time_limit(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_mins(15)).contains(&time) {
        Ok(time)
    } else {
        Err("allowed: from 1s to 15m".to_owned())
    }
}

/// Parses a number of bytes with its unit: `500KB`, `75MB`, `1GB`, in powers of 1,000 as for
/// networks.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let allowed = "allowed: a whole number above 0 with a unit, such as 500KB, 75MB or 1GB";
    let (number, unit) = split(text, allowed)?;
    let unit = match unit {
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(allowed.to_owned()),
    };
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| allowed.to_owned())
}

fn split<'a>(text: &'a str, allowed: &str) -> Result<(u64, &'a str), String> {
    let at = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(at.unwrap_or(text.len()));
    let number = number.parse().map_err(|_| allowed.to_owned())?;
    Ok((number, unit))
}

/// Parses a variable's name and value.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    let mut letters = name.chars();
    let good = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if good {
        Ok((name.to_owned(), value.to_owned()))
    } else {
        Err("allowed: NAME=VALUE; a name is a letter followed by letters, digits and _".to_owned())
    }
}

/// Parses the path of an existing folder.
pub(crate) fn folder(text: &str) -> Result<PathBuf, String> {
    match std::fs::canonicalize(text) {
        Ok(folder) if folder.is_dir() => Ok(folder),
        Ok(_) => Err("not a folder".to_owned()),
        Err(problem) => Err(format!("not a folder: {problem}")),
    }
}

/// Parses the path of a function's folder.
pub(crate) fn function_folder(text: &str) -> Result<PathBuf, String> {
    let folder = folder(text)?;
    if folder.join("bootstrap").is_file() {
        Ok(folder)
    } else {
        Err("the folder does not contain the program `bootstrap`".to_owned())
    }
}

#[test]
fn times_and_sizes_have_units() {
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("2h"), Ok(Duration::from_hours(2)));
    assert_eq!(bytes("75MB"), Ok(75_000_000));
    for wrong in [
        "",
        "5",
        "s",
        "-1s",
        "1.5s",
        "1 s",
        "99999999999999999h",
        "9000h0",
    ] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "75", "0MB", "75mb", "MB"] {
        assert!(bytes(wrong).is_err(), "{wrong}");
    }
    assert!(time_limit("16m").is_err() && time_limit("500ms").is_err());
}

#[test]
fn a_variable_has_a_name_and_a_value() {
    let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
    assert_eq!(variable("A=b=c"), pair("A", "b=c"));
    assert_eq!(variable("A_1="), pair("A_1", ""));
    for wrong in ["", "A", "=b", "1A=b", "A-B=c"] {
        assert!(variable(wrong).is_err(), "{wrong}");
    }
}
