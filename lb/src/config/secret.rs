//! Secrets that may stand in a file: the token of the control port, and the seed.

use std::fs;
use std::path::Path;

/// The token of the control port, from wherever it is given.
pub(super) fn token(given: Option<String>, file: Option<&Path>) -> Result<Option<String>, String> {
    let (flag, token) = match (given, file) {
        (Some(_), Some(_)) => {
            return Err("--control-token-file: there is a --control-token already; give one of them".into());
        }
        (Some(token), None) => ("--control-token".to_owned(), token),
        (None, Some(file)) => read("--control-token-file", file)?,
        (None, None) => return Ok(None),
    };
    if token.is_empty() {
        Err(format!("{flag}: invalid value ``: expected any other text"))
    } else {
        Ok(Some(token))
    }
}

/// The secret in a file, after what a message about it begins with.
pub(super) fn read(flag: &str, file: &Path) -> Result<(String, String), String> {
    let flag = format!("{flag}: {}", file.display());
    let text = fs::read_to_string(file).map_err(|error| format!("{flag} cannot be read: {error}"))?;
    // Editors and `echo` end a file with a line feed; a secret has none.
    Ok((flag, text.trim_end_matches(['\r', '\n']).to_owned()))
}
