//! What stdout can show: colours and a screen on a terminal, text alone anywhere else.

use std::io::{self, IsTerminal as _};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};

/// A text without its colours, unless stdout shows them. (`NO_COLOR`, `CLICOLOR_FORCE` and a dumb terminal are honoured.)
pub fn fit(text: String) -> String {
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => strip_str(&text).to_string(),
        ColorChoice::Auto | ColorChoice::Always | ColorChoice::AlwaysAnsi => text,
    }
}

/// Whether stdout is a terminal.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal()
}
