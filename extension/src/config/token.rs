//! The secret that callers must know with `MODEL_TOKEN=session`.

use sha2::{Digest as _, Sha256};

use super::units::Reader;

/// A secret of the execution environment, of which only the digest is kept: nothing that is logged or dumped shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The variables whose value it is: the first that is set. Under `SnapStart` there are no credentials in the
    /// environment, but the token by which they are fetched.
    pub const VARIABLES: [&str; 2] = ["AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];

    /// The token of this secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether this is the secret. How long that takes says nothing about it: what is compared are digests, and how many
    /// of their bytes are the same a caller can neither choose nor make use of.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        *self == Self::of(given)
    }
}

/// What `MODEL_TOKEN` says.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Token> {
    let is_wanted = reader.choice("MODEL_TOKEN", &[("off", false), ("session", true)]);
    is_wanted.filter(|&is_wanted| is_wanted)?;
    let secret = Token::VARIABLES.iter().find_map(|name| reader.text(name));
    if secret.is_none() {
        let [first, second] = Token::VARIABLES;
        let allowed = format!("off where neither {first} nor {second} is set, as on Lambda");
        reader.wrong("MODEL_TOKEN", "session", &allowed);
    }
    secret.map(|secret| Token::of(secret.as_bytes()))
}
