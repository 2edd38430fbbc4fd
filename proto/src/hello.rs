//! The first message of a TLS client: which server it asks for, and by which protocols.
//!
//! Sources: RFC 8446, sections 4.1.2, 4.2 and 5.1; RFC 6066, section 3; RFC 7301; RFC 9849. It looks at the `ClientHello` only, and trusts no
//! length in it. A message may be cut into several records.

use std::borrow::Cow;

/// What is known of a `ClientHello` when only some of its bytes may have arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is right so far, and more bytes are needed.
    More,
    /// It is whole.
    Hello(Hello),
    /// It is none.
    Other,
}

/// What a `ClientHello` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name of the server in lower case. `None`: it says none, or hides the one that it means (encrypted client hello; some
    /// clients only pretend to, which cannot be told from outside).
    pub server_name: Option<String>,
    /// The protocols that it offers (ALPN), with commas between them, those that are no printable ASCII left out.
    pub protocols: Option<String>,
}

/// The type of a record that holds handshake messages, and the longest one (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
const LONGEST_RECORD: usize = 1 << 14;
/// The type of the message.
const CLIENT_HELLO: u8 = 1;
/// The types of extensions.
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const ENCRYPTED_HELLO: u16 = 0xfe0d;
/// The longest name of a host (RFC 1035, section 2.3.4), in bytes.
const LONGEST_NAME: usize = 255;

/// Reads the `ClientHello` at the beginning of `bytes`, which are all bytes so far.
#[must_use]
pub fn read(bytes: &[u8]) -> Progress {
    match message(bytes) {
        Ok(Some(message)) => hello(&message).map_or(Progress::Other, Progress::Hello),
        Ok(None) => Progress::More,
        Err(NotTls) => Progress::Other,
    }
}

/// These are not the first bytes of a TLS client.
struct NotTls;

/// The body of the first handshake message, put together from its records. `None`: it is not whole.
fn message(mut bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, NotTls> {
    let mut message = Cow::Borrowed(&b""[..]);
    loop {
        let (part, rest, is_whole) = record(bytes)?;
        if message.is_empty() {
            message = Cow::Borrowed(part);
        } else {
            message.to_mut().extend_from_slice(part);
        }
        if let Some(&kind) = message.first()
            && kind != CLIENT_HELLO
        {
            return Err(NotTls);
        }
        if let Some((&[_, a, b, c], body)) = message.split_first_chunk::<4>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if body.len() >= length {
                return Ok(Some(match message {
                    Cow::Borrowed(message) => Cow::Borrowed(&message[4..4 + length]),
                    Cow::Owned(message) => Cow::Owned(message[4..4 + length].to_vec()),
                }));
            }
        }
        if !is_whole {
            return Ok(None);
        }
        bytes = rest;
    }
}

/// The part of a message in the first record, what is behind that record, and whether the record is whole.
fn record(bytes: &[u8]) -> Result<(&[u8], &[u8], bool), NotTls> {
    // Version 3.x, whatever x is: clients put different ones there.
    let is_fine = bytes.iter().zip([HANDSHAKE, 3]).all(|(&byte, expected)| byte == expected);
    if !is_fine {
        return Err(NotTls);
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() else {
        return Ok((b"", b"", false));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > LONGEST_RECORD {
        return Err(NotTls);
    }
    Ok(rest.split_at_checked(length).map_or((rest, &b""[..], false), |(part, rest)| (part, rest, true)))
}

/// Reads the body of a whole message. `None`: it is malformed.
fn hello(body: &[u8]) -> Option<Hello> {
    let (_version_and_random, rest) = body.split_at_checked(2 + 32)?;
    let (_session, rest) = vector::<1>(rest)?;
    let (_ciphers, rest) = vector::<2>(rest)?;
    let (_compressions, rest) = vector::<1>(rest)?;
    let mut hello = Hello::default();
    if rest.is_empty() {
        return Some(hello);
    }
    let (mut extensions, _) = vector::<2>(rest).filter(|(_, behind)| behind.is_empty())?;
    let mut is_hidden = false;
    while !extensions.is_empty() {
        let (&[high, low], rest) = extensions.split_first_chunk::<2>()?;
        let (value, rest) = vector::<2>(rest)?;
        match u16::from_be_bytes([high, low]) {
            SERVER_NAME => hello.server_name = server_name(value)?,
            PROTOCOLS => hello.protocols = protocols(value)?,
            ENCRYPTED_HELLO => is_hidden = true,
            _ => {}
        }
        extensions = rest;
    }
    if is_hidden {
        hello.server_name = None;
    }
    Some(hello)
}

/// What has its length in the first `N` bytes, and what is behind it.
fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<N>()?;
    let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    rest.split_at_checked(length)
}

/// The first name of a host in the list. The inner `None`: there is none that can be one.
fn server_name(value: &[u8]) -> Option<Option<String>> {
    let (mut list, behind) = vector::<2>(value)?;
    while let Some((&kind, rest)) = list.split_first() {
        let (name, rest) = vector::<2>(rest)?;
        if kind == 0 {
            let is_name = (1..=LONGEST_NAME).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
            return Some(is_name.then(|| String::from_utf8_lossy(name).to_ascii_lowercase()));
        }
        list = rest;
    }
    behind.is_empty().then_some(None)
}

/// The protocols in the list.
fn protocols(value: &[u8]) -> Option<Option<String>> {
    let (mut list, behind) = vector::<2>(value)?;
    let mut all = String::new();
    while !list.is_empty() {
        let (protocol, rest) = vector::<1>(list)?;
        if protocol.iter().all(u8::is_ascii_graphic) {
            all.push_str(if all.is_empty() { "" } else { "," });
            all.push_str(&String::from_utf8_lossy(protocol));
        }
        list = rest;
    }
    behind.is_empty().then(|| (!all.is_empty()).then_some(all))
}

#[cfg(test)]
mod tests;
