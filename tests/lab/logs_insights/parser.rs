//! Parser of queries: recursive descent over [tokens](super::token).

use std::time::Duration;

use serde_json::Value;

use super::condition::{Condition, Operator};
use super::stats::{Aggregate, Function, Group};
use super::token::{Token, tokens};
use super::{Command, SortKey};

/// Reads all commands of a query.
pub(super) fn parse(text: &str) -> Result<Vec<Command>, String> {
    let mut parser = Parser {
        tokens: tokens(text)?.into_iter().rev().collect(),
    };
    let mut commands = vec![parser.command()?];
    while parser.take_symbol("|") {
        commands.push(parser.command()?);
    }
    match parser.tokens.pop() {
        None => Ok(commands),
        Some(token) => Err(format!("expected a command, found {token:?}")),
    }
}

struct Parser {
    /// Remaining tokens, the next one last.
    tokens: Vec<Token>,
}

impl Parser {
    fn command(&mut self) -> Result<Command, String> {
        let name = self.word("a command")?;
        match name.to_ascii_lowercase().as_str() {
            "fields" => Ok(Command::Fields(self.list(Self::field)?)),
            "filter" => Ok(Command::Filter(self.any()?)),
            "stats" => self.stats(),
            "sort" => Ok(Command::Sort(self.list(Self::sort_key)?)),
            "limit" => {
                let number = self.word("a number")?;
                let number = number
                    .parse()
                    .map_err(|_| format!("{number} is no number"))?;
                Ok(Command::Limit(number))
            }
            _ => Err(format!("unknown command {name}")),
        }
    }

    fn stats(&mut self) -> Result<Command, String> {
        let aggregates = self.list(Self::aggregate)?;
        let groups = if self.take_word("by") {
            self.list(Self::group)?
        } else {
            Vec::new()
        };
        Ok(Command::Stats { aggregates, groups })
    }

    fn aggregate(&mut self) -> Result<Aggregate, String> {
        let name = self.word("a function")?;
        self.symbol("(")?;
        let field = if self.take_symbol("*") {
            None
        } else {
            Some(self.field()?)
        };
        let argument = if self.take_symbol(",") {
            Some(self.word("a number")?)
        } else {
            None
        };
        self.symbol(")")?;
        let (function, shown) = Function::read(&name, field, argument)?;
        let alias = if self.take_word("as") {
            self.field()?
        } else {
            shown
        };
        Ok(Aggregate { function, alias })
    }

    fn group(&mut self) -> Result<Group, String> {
        let field = self.field()?;
        if field != "bin" || !self.take_symbol("(") {
            return Ok(Group::Field(field));
        }
        let period = self.word("a period")?;
        self.symbol(")")?;
        Ok(Group::Bin {
            length: duration(&period)?,
            alias: format!("bin({period})"),
        })
    }

    fn sort_key(&mut self) -> Result<SortKey, String> {
        let field = self.field()?;
        let is_descending = self.take_word("desc");
        if !is_descending {
            let _ = self.take_word("asc");
        }
        Ok(SortKey {
            field,
            is_descending,
        })
    }

    fn any(&mut self) -> Result<Condition, String> {
        let mut conditions = vec![self.all()?];
        while self.take_word("or") {
            conditions.push(self.all()?);
        }
        Ok(Condition::Any(conditions))
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut conditions = vec![self.condition()?];
        while self.take_word("and") {
            conditions.push(self.condition()?);
        }
        Ok(Condition::All(conditions))
    }

    fn condition(&mut self) -> Result<Condition, String> {
        if self.take_word("not") {
            return Ok(Condition::Not(Box::new(self.condition()?)));
        }
        if self.take_symbol("(") {
            let condition = self.any()?;
            self.symbol(")")?;
            return Ok(condition);
        }
        if self.take_word("ispresent") {
            self.symbol("(")?;
            let field = self.field()?;
            self.symbol(")")?;
            return Ok(Condition::IsPresent(field));
        }
        let field = self.field()?;
        let is_negated = self.take_word("not");
        let condition = if self.take_word("in") {
            self.symbol("[")?;
            let values = self.list(Self::value)?;
            self.symbol("]")?;
            Condition::In { field, values }
        } else if self.take_word("like") {
            match self.next("a text")? {
                Token::Text(text) => Condition::Like { field, text },
                other => return Err(format!("expected a text, found {other:?}")),
            }
        } else {
            let symbol = self.next("an operator")?;
            let operator = match &symbol {
                Token::Symbol(symbol) if !is_negated => Operator::read(symbol),
                _ => None,
            };
            let operator =
                operator.ok_or_else(|| format!("expected an operator, found {symbol:?}"))?;
            let value = self.value()?;
            Condition::Compare {
                field,
                operator,
                value,
            }
        };
        Ok(if is_negated {
            Condition::Not(Box::new(condition))
        } else {
            condition
        })
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.next("a value")? {
            Token::Text(text) => Ok(text.into()),
            Token::Word(word) => {
                serde_json::from_str(&word).map_err(|_| format!("{word} is no value"))
            }
            other => Err(format!("expected a value, found {other:?}")),
        }
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let mut items = vec![item(self)?];
        while self.take_symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn field(&mut self) -> Result<String, String> {
        match self.next("a field")? {
            Token::Word(name) | Token::Field(name) => Ok(name),
            other => Err(format!("expected a field, found {other:?}")),
        }
    }

    fn word(&mut self, wanted: &str) -> Result<String, String> {
        match self.next(wanted)? {
            Token::Word(word) => Ok(word),
            other => Err(format!("expected {wanted}, found {other:?}")),
        }
    }

    fn symbol(&mut self, wanted: &str) -> Result<(), String> {
        match self.next(wanted)? {
            Token::Symbol(symbol) if symbol == wanted => Ok(()),
            other => Err(format!("expected {wanted}, found {other:?}")),
        }
    }

    fn next(&mut self, wanted: &str) -> Result<Token, String> {
        let token = self.tokens.pop();
        token.ok_or_else(|| format!("expected {wanted}, found the end"))
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let is_next = |token: &mut Token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.tokens.pop_if(is_next).is_some()
    }

    fn take_symbol(&mut self, wanted: &str) -> bool {
        let is_next =
            |token: &mut Token| matches!(token, Token::Symbol(symbol) if symbol == wanted);
        self.tokens.pop_if(is_next).is_some()
    }
}

/// Reads a period such as `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1));
    match number.and_then(|number| number.parse::<u64>().ok()) {
        Some(number) if number * seconds > 0 => Ok(Duration::from_secs(number * seconds)),
        _ => Err(format!("{text} is no period")),
    }
}
