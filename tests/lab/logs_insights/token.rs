//! Tokens of a query.

/// Token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Keyword, field, number or period.
    Word(String),
    /// Field in backticks.
    Field(String),
    /// Text in quotes.
    Text(String),
    /// Operator or punctuation.
    Symbol(String),
}

/// Splits a query. A comment begins with `#` and ends with its line.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '#' => {
                rest = rest.split_once('\n').map_or("", |(_, after)| after);
                rest = rest.trim_start();
                continue;
            }
            '"' | '\'' | '`' => {
                let (inside, after) = rest[1..]
                    .split_once(first)
                    .ok_or_else(|| format!("no end of {rest:?}"))?;
                let inside = inside.to_owned();
                let token = if first == '`' {
                    Token::Field(inside)
                } else {
                    Token::Text(inside)
                };
                (token, after)
            }
            _ if is_of_word(first) => {
                let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                (Token::Word(word.to_owned()), after)
            }
            _ => {
                let is_long = ["!=", "<=", ">="].iter().any(|long| rest.starts_with(long));
                let length = if is_long { 2 } else { first.len_utf8() };
                let (symbol, after) = rest.split_at(length);
                (Token::Symbol(symbol.to_owned()), after)
            }
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '@')
}
