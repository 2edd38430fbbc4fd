//! What stdout can show: colours and a screen on a terminal, text alone anywhere else.

use std::io::{self, IsTerminal as _};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};

/// A text without its colours, unless stdout shows them. (`NO_COLOR`, `CLICOLOR_FORCE` and a dumb terminal are honoured.)
pub fn fit(text: String) -> String {
    if shows_colours() { text } else { strip_str(&text).to_string() }
}

/// Whether stdout shows colours.
pub(crate) fn shows_colours() -> bool {
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => false,
        ColorChoice::Auto | ColorChoice::Always | ColorChoice::AlwaysAnsi => true,
    }
}

/// Whether stdout is a terminal.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal()
}
