//! Secret of callers with `MODEL_TOKEN=session`.

use sha2::{Digest as _, Sha256};

use super::units::VariableReader;

/// Secret of the execution environment. Only its digest is kept, so that logs and dumps cannot reveal the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Variables that hold the secret; the first one that is set counts. Under `SnapStart` the environment has no
    /// credentials, only the token with which they are fetched.
    pub const VARIABLES: [&str; 2] = ["AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];

    /// Creates the token of a secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Returns `true` if `given` is the secret. The comparison leaks no timing, because it compares digests, whose
    /// common prefix a caller cannot control.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        *self == Self::of(given)
    }
}

/// Reads `MODEL_TOKEN`.
pub(super) fn read(reader: &mut VariableReader<'_>) -> Option<Token> {
    let is_wanted = reader.choice("MODEL_TOKEN", &[("off", false), ("session", true)]);
    is_wanted.filter(|&is_wanted| is_wanted)?;
    let secret = Token::VARIABLES.iter().find_map(|name| reader.text(name));
    if secret.is_none() {
        let [first, second] = Token::VARIABLES;
        let allowed = format!("off, because neither {first} nor {second} is set; Lambda sets them");
        reader.wrong("MODEL_TOKEN", "session", &allowed);
    }
    secret.map(|secret| Token::of(secret.as_bytes()))
}
