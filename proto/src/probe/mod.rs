//! What a health check says to a server that speaks no HTTP, and what its answer shows.
//!
//! Each language is a question, sent as soon as the connection is there, and a judge of the bytes that have come back so far. A judge that
//! has decided never changes its mind when more bytes arrive. Nothing here proves who the server is, or logs in anywhere.

pub mod line;
pub mod postgres;
pub mod redis;
pub mod tls;

use line::Exchange;

/// The longest answer that is looked at, in bytes.
pub const LONGEST: usize = 4096;

/// What the bytes of an answer show so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: more bytes are needed.
    More,
    /// The server is ready.
    Good,
    /// It is not, or is another kind of server: the reason.
    Bad(String),
}

impl Verdict {
    fn bad(reason: impl Into<String>) -> Self {
        Verdict::Bad(reason.into())
    }
}

/// What a server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Language {
    /// Bytes of the user's own.
    Line(Exchange),
    /// The protocol of PostgreSQL, version 3.
    Postgres,
    /// The protocol of Redis.
    Redis,
    /// TLS; a client that asks for the server of this name.
    Tls(Option<String>),
}

impl Language {
    /// The bytes that a client begins with. `random` makes a TLS client like no other.
    #[must_use]
    pub fn question(&self, random: [u8; 32]) -> Vec<u8> {
        match self {
            Language::Line(exchange) => exchange.send.clone(),
            Language::Postgres => postgres::startup(),
            Language::Redis => redis::PING.to_vec(),
            Language::Tls(name) => tls::client_hello(random, name.as_deref()),
        }
    }

    /// Judges all bytes that have come back so far. It asks for no more once there are [`LONGEST`].
    #[must_use]
    pub fn judge(&self, answer: &[u8]) -> Verdict {
        let verdict = match self {
            Language::Line(exchange) => exchange.judge(answer),
            Language::Postgres => postgres::judge(answer),
            Language::Redis => redis::judge(answer),
            Language::Tls(_) => tls::judge(answer),
        };
        match verdict {
            Verdict::More if answer.len() >= LONGEST => Verdict::bad("its answer has no end"),
            verdict => verdict,
        }
    }

    /// Whether there may be a second question on a connection. Bytes of the user's own are asked again only if they are whole lines: in
    /// other protocols they may begin a session, which a client does once.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        match self {
            Language::Line(exchange) => exchange.send.ends_with(b"\n"),
            Language::Redis => true,
            Language::Postgres | Language::Tls(_) => false,
        }
    }

    /// Whether a good answer is over, so that the next bytes will answer the next question.
    #[must_use]
    pub fn is_over(&self, answer: &[u8]) -> bool {
        self.goes_on() && answer.ends_with(b"\n")
    }
}

/// The beginning of an answer, fit for a reason.
fn quoted(answer: &[u8]) -> String {
    const MOST: usize = 100;
    let dots = if answer.len() > MOST { "..." } else { "" };
    format!("\"{}\"{dots}", answer[..answer.len().min(MOST)].escape_ascii())
}

#[cfg(test)]
mod tests;
