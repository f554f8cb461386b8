//! Reader of Rust sources: the paths that a file names, and the names that its imports bind.
//!
//! A token reader, not a parser. Comments, strings and character literals are skipped, and `use` trees are expanded.
//! `crate::`, `self::` and `super::` are resolved against the module in which they stand. Paths that begin with an
//! imported name are found at its import. Macros are read like other code.

use std::collections::{BTreeMap, BTreeSet};

/// Module path from the crate's root, without `crate`.
pub(super) type ModulePath = Vec<String>;

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamedPath {
    /// Segments from the crate's root.
    pub(super) segments: ModulePath,
    /// `true` in code that is compiled for tests alone.
    pub(super) is_test: bool,
}

/// Contents of one source file.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Module that the file defines.
    pub(super) module: ModulePath,
    /// Paths into the own crate.
    pub(super) paths: BTreeSet<NamedPath>,
    /// Targets of the file's imports, by the name that the import binds.
    pub(super) imports: BTreeMap<String, ModulePath>,
}

impl Source {
    /// Reads the file at `path`, relative to `src`.
    pub(super) fn read(path: &str, text: &str) -> Self {
        let tokens = tokens(text);
        let mut reader = Reader {
            children: child_modules(&tokens),
            tokens,
            at: 0,
            scopes: Vec::new(),
            source: Source {
                module: module_of(path),
                ..Source::default()
            },
        };
        reader.read();
        reader.source
    }
}

/// Module path of the file at `path`, relative to `src`. `main.rs` is a crate of its own, and has a path all the same.
pub(super) fn module_of(path: &str) -> ModulePath {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    if stem == "lib" {
        return Vec::new();
    }
    stem.split('/').map(str::to_owned).collect()
}

/// Token of Rust code; literals and comments are not tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Separator,
    Symbol(char),
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("::") {
            tokens.push(Token::Separator);
            2
        } else if let Some(length) = string(rest).or_else(|| character(rest)) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..length]));
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Symbol(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// Length of the string literal at the beginning of `text`; `None` if there is none.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| text.starts_with(prefix))?;
    let after_prefix = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
        let content = after_prefix[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = content
            .find(&end)
            .map_or(content.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let content = after_prefix.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = content.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    Some(prefix.len() + 1 + end.map_or(content.len(), |end| end + 1))
}

/// Length of the character literal or the quote of a lifetime at the beginning of `text`; `None` if there is neither.
fn character(text: &str) -> Option<usize> {
    let content = text.strip_prefix('\'')?;
    if let Some(escaped) = content.strip_prefix('\\') {
        let after = escaped.chars().next().map_or(0, char::len_utf8);
        return Some(2 + after + escaped[after..].find('\'')? + 1);
    }
    let first = content.chars().next()?;
    let is_literal = content[first.len_utf8()..].starts_with('\'');
    Some(if is_literal { 2 + first.len_utf8() } else { 1 })
}

/// Names in `mod name;`.
fn child_modules(tokens: &[Token<'_>]) -> BTreeSet<String> {
    let declared = tokens.windows(3).filter_map(|window| match window {
        [Token::Word("mod"), Token::Word(name), Token::Symbol(';')] => Some((*name).to_owned()),
        _ => None,
    });
    declared.collect()
}

/// A pair of braces that is open.
#[derive(Debug)]
struct Scope {
    /// Name of the inline module that the braces hold.
    module: Option<String>,
    is_test: bool,
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    children: BTreeSet<String>,
    scopes: Vec<Scope>,
    source: Source,
}

impl<'a> Reader<'a> {
    fn read(&mut self) {
        use Token::{Separator, Symbol, Word};
        // `true` from `#[cfg(test)]` to the end of the item's head.
        let mut is_test_item = false;
        // Name of an inline module whose opening brace follows.
        let mut module = None;
        while let Some(token) = self.next() {
            let is_test = is_test_item || self.scopes.iter().any(|scope| scope.is_test);
            match token {
                Symbol('#') if self.tokens[self.at..].starts_with(&CFG_TEST) => is_test_item = true,
                Symbol(';') => is_test_item = false,
                Symbol('{') => self.scopes.push(Scope {
                    module: module.take(),
                    is_test: std::mem::take(&mut is_test_item),
                }),
                Symbol('}') => drop(self.scopes.pop()),
                Word("mod") if self.tokens.get(self.at + 1) == Some(&Symbol('{')) => {
                    if let Some(Word(name)) = self.next() {
                        module = Some(name.to_owned());
                    }
                }
                Word("use") => {
                    self.read_use(&mut Vec::new(), is_test);
                    is_test_item = false;
                }
                Word(first @ ("crate" | "super" | "self" | "model_sidecar"))
                    if self.tokens.get(self.at) == Some(&Separator) =>
                {
                    self.read_path(first, is_test);
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    /// Reads a path in an expression or a type, from behind its first segment.
    fn read_path(&mut self, first: &str, is_test: bool) {
        let mut path = vec![first.to_owned()];
        while let [Token::Separator, Token::Word(name), ..] = self.tokens[self.at..] {
            path.push(name.to_owned());
            self.at += 2;
        }
        self.add(&path, is_test);
    }

    /// Reads a tree of imports below `prefix`, to the comma, brace or semicolon behind it; returns that token.
    fn read_use(&mut self, prefix: &mut ModulePath, is_test: bool) -> Option<Token<'a>> {
        use Token::{Separator, Symbol, Word};
        let depth = prefix.len();
        let mut alias = None;
        let mut is_group = false;
        let end = loop {
            match self.next() {
                Some(Word("as")) => {
                    if let Some(Word(name)) = self.next() {
                        alias = Some(name.to_owned());
                    }
                }
                Some(Word("self")) if !prefix.is_empty() => {}
                Some(Word(name)) => prefix.push(name.to_owned()),
                Some(Separator | Symbol('*')) => {}
                Some(Symbol('{')) => {
                    is_group = true;
                    while self.read_use(prefix, is_test) == Some(Symbol(',')) {}
                }
                end => break end,
            }
        };
        if !is_group
            && !prefix.is_empty()
            && let Some(target) = self.add(prefix, is_test)
            && self.scopes.is_empty()
            && let Some(name) = alias.or_else(|| target.last().cloned())
        {
            self.source.imports.insert(name, target);
        }
        prefix.truncate(depth);
        end
    }

    /// Adds a path; returns its segments from the crate's root, or `None` for a path into another crate.
    fn add(&mut self, path: &[String], is_test: bool) -> Option<ModulePath> {
        let segments = self.absolute(path)?;
        self.source.paths.insert(NamedPath {
            segments: segments.clone(),
            is_test,
        });
        Some(segments)
    }

    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let inline = self.scopes.iter().filter_map(|scope| scope.module.clone());
        let mut base: ModulePath = self.source.module.iter().cloned().chain(inline).collect();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" | "model_sidecar" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while let Some((_, after)) =
                    rest.split_first().filter(|(first, _)| *first == "super")
                {
                    base.pop();
                    rest = after;
                }
            }
            first if self.children.contains(first) => base.clone_from(&self.source.module),
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }
}

const CFG_TEST: [Token<'static>; 6] = [
    Token::Symbol('['),
    Token::Word("cfg"),
    Token::Symbol('('),
    Token::Word("test"),
    Token::Symbol(')'),
    Token::Symbol(']'),
];

#[test]
fn paths_are_resolved_against_their_module() {
    let text = r#"
        //! crate::comment::x
        mod child;
        pub use child::Thing;
        use std::fmt;
        use super::sibling::{self, Other as Another, deep::{A, B}};
        use crate::{a, b::C};
        fn body() -> Option<char> {
            let text = "crate::string::x";
            let quoted = ('"', '\'', b'"', "\"", 'x');
            crate::sys::cpus();
            super::parent_item();
        }
        mod inline {
            fn f() { super::own_item(); super::super::outer::g() }
        }
        #[cfg(test)]
        mod tests {
            use super::*;
            use crate::only_tests::X;
        }
    "#;
    let source = Source::read("module/file.rs", text);
    let found = |is_test: bool| -> Vec<String> {
        let paths = source.paths.iter().filter(|path| path.is_test == is_test);
        paths.map(|path| path.segments.join("::")).collect()
    };
    let expected = [
        "a",
        "b::C",
        "module::file::child::Thing",
        "module::file::own_item",
        "module::outer::g",
        "module::parent_item",
        "module::sibling",
        "module::sibling::Other",
        "module::sibling::deep::A",
        "module::sibling::deep::B",
        "sys::cpus",
    ];
    assert_eq!(found(false), expected);
    assert_eq!(found(true), ["module::file", "only_tests::X"]);
    let names: Vec<&str> = source.imports.keys().map(String::as_str).collect();
    assert_eq!(names, ["A", "Another", "B", "C", "Thing", "a", "sibling"]);
}

#[test]
fn literals_are_skipped_whole() {
    let text = r##"r#"a " b"# b"\"" '\u{1F}' 'a 'b' br"c\" x::y /* z */ c"d""##;
    let expected = [
        Token::Word("a"),
        Token::Word("x"),
        Token::Separator,
        Token::Word("y"),
    ];
    assert_eq!(tokens(text), expected);
}
