//! Encodes and decodes the two messages of the hand-off protocol, version 1, as specified in `docs/HANDOFF.md`.
//!
//! Pure: no I/O, no descriptors. Decoding accepts any bytes: they are a message or [`Malformed`]. It never panics and
//! never allocates more than the message.

use std::fmt;

/// The protocol version that every message from `lb` carries.
pub const VERSION: u8 = 1;
/// The environment variable that gives a replica the path of its hand-off socket.
pub const VARIABLE: &str = "LB_HANDOFF";
/// The longest slot name in bytes; longer ones are truncated.
pub const LONGEST_SLOT: usize = u8::MAX as usize;
/// The longest key and the longest request id in bytes; longer ones are truncated.
pub const LONGEST_KEY: usize = 1024;
/// The longest message from `lb`, in bytes.
pub const LONGEST_MESSAGE: usize = HEADER + LONGEST_SLOT + 2 * LONGEST_KEY;
/// The most numbers in one message to `lb`.
pub const MOST_CLOSED: usize = 512;

/// The bytes before the slot name.
const HEADER: usize = 16;
/// Byte offsets in the header.
const VERSION_AT: usize = 8;
const ATTEMPT_AT: usize = 9;
const FLAGS_AT: usize = 10;
const SLOT_LENGTH_AT: usize = 11;
/// The length that stands for "no request id".
const NO_ID: u16 = u16::MAX;
/// Flags: which parts were truncated.
const KEY_IS_CUT: u8 = 1;
const ID_IS_CUT: u8 = 2;
const SLOT_IS_CUT: u8 = 4;
const ALL_FLAGS: u8 = KEY_IS_CUT | ID_IS_CUT | SLOT_IS_CUT;

/// What `lb` tells a replica about a connection that it hands over. Always a valid message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Metadata {
    message: Vec<u8>,
    slot: u8,
    key: u16,
}

impl Metadata {
    /// The message about connection `number`, with attempt 0. Parts that are too long are truncated and flagged.
    #[must_use]
    pub fn new(number: u64, slot: &[u8], key: &[u8], request_id: Option<&[u8]>) -> Self {
        let (slot, slot_is_cut) = cut(slot, LONGEST_SLOT, SLOT_IS_CUT);
        let (key, key_is_cut) = cut(key, LONGEST_KEY, KEY_IS_CUT);
        let (id, id_is_cut) = cut(request_id.unwrap_or_default(), LONGEST_KEY, ID_IS_CUT);
        let id_length = if request_id.is_some() { id.len() as u16 } else { NO_ID };
        let mut message = Vec::with_capacity(HEADER + slot.len() + key.len() + id.len());
        message.extend(number.to_le_bytes());
        message.extend([VERSION, 0, slot_is_cut | key_is_cut | id_is_cut, slot.len() as u8]);
        message.extend((key.len() as u16).to_le_bytes());
        message.extend(id_length.to_le_bytes());
        [slot, key, id].iter().for_each(|part| message.extend_from_slice(part));
        Metadata { message, slot: slot.len() as u8, key: key.len() as u16 }
    }

    /// Sets how many candidates failed before this one; 255 means 255 or more.
    #[must_use]
    pub fn after(mut self, attempt: u8) -> Self {
        self.message[ATTEMPT_AT] = attempt;
        self
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// The bytes are not a message of version 1.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let (header, rest) = message.split_first_chunk::<HEADER>().ok_or(Malformed::Length)?;
        if header[VERSION_AT] != VERSION {
            return Err(Malformed::Version(header[VERSION_AT]));
        }
        if header[FLAGS_AT] & !ALL_FLAGS != 0 {
            return Err(Malformed::Flags(header[FLAGS_AT]));
        }
        let slot = header[SLOT_LENGTH_AT];
        let key = u16::from_le_bytes([header[12], header[13]]);
        let id = match u16::from_le_bytes([header[14], header[15]]) {
            NO_ID => 0,
            length => length,
        };
        let are_short = [key, id].into_iter().all(|length| usize::from(length) <= LONGEST_KEY);
        if !are_short || rest.len() != usize::from(slot) + usize::from(key) + usize::from(id) {
            return Err(Malformed::Length);
        }
        Ok(Metadata { message: message.to_vec(), slot, key })
    }

    /// The encoded message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.message
    }

    /// The number of the connection, unique within its Unix connection.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.message.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// How many candidates failed before this one; 255 means 255 or more.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.message[ATTEMPT_AT]
    }

    /// The name of the slot of this replica, UTF-8 in every version of `lb` so far.
    #[must_use]
    pub fn slot(&self) -> &[u8] {
        self.part(HEADER, self.slot.into())
    }

    /// The key: the bytes that `lb` hashed.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.part(HEADER + usize::from(self.slot), self.key.into())
    }

    /// The request id as it stands in the first line. `None` if the line has none or was not read; the key is then random
    /// or the client's IP address.
    #[must_use]
    pub fn request_id(&self) -> Option<&[u8]> {
        let begin = HEADER + usize::from(self.slot) + usize::from(self.key);
        let is_there = self.message[HEADER - 2..HEADER] != NO_ID.to_le_bytes();
        is_there.then(|| self.message.get(begin..).unwrap_or_default())
    }

    /// Whether [`Metadata::slot`] was truncated.
    #[must_use]
    pub fn is_slot_cut(&self) -> bool {
        self.message[FLAGS_AT] & SLOT_IS_CUT != 0
    }

    /// Whether [`Metadata::key`] was truncated.
    #[must_use]
    pub fn is_key_cut(&self) -> bool {
        self.message[FLAGS_AT] & KEY_IS_CUT != 0
    }

    /// Whether [`Metadata::request_id`] was truncated.
    #[must_use]
    pub fn is_id_cut(&self) -> bool {
        self.message[FLAGS_AT] & ID_IS_CUT != 0
    }

    fn part(&self, begin: usize, length: usize) -> &[u8] {
        self.message.get(begin..begin + length).unwrap_or_default()
    }
}

/// The first `most` bytes, and `flag` if there are more.
fn cut(bytes: &[u8], most: usize, flag: u8) -> (&[u8], u8) {
    bytes.get(..most).map_or((bytes, 0), |beginning| (beginning, if bytes.len() > most { flag } else { 0 }))
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("number", &self.number())
            .field("attempt", &self.attempt())
            .field("slot", &self.slot().escape_ascii().to_string())
            .field("key", &self.key().escape_ascii().to_string())
            .field("request_id", &self.request_id().map(|id| id.escape_ascii().to_string()))
            .finish_non_exhaustive()
    }
}

/// Encodes the report that these connections are closed. `None` if there are none, or more than [`MOST_CLOSED`].
#[must_use]
pub fn encode_closed(numbers: &[u64]) -> Option<Vec<u8>> {
    (1..=MOST_CLOSED).contains(&numbers.len()).then(|| numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
}

/// Decodes a replica's report into the numbers of closed connections.
///
/// # Errors
/// The bytes are not a report of version 1.
pub fn decode_closed(message: &[u8]) -> Result<Vec<u64>, Malformed> {
    let (numbers, rest) = message.as_chunks();
    if numbers.is_empty() || numbers.len() > MOST_CLOSED || !rest.is_empty() {
        return Err(Malformed::Length);
    }
    Ok(numbers.iter().copied().map(u64::from_le_bytes).collect())
}

/// Why a message is not one of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It is too short, too long, or not as long as its header says.
    Length,
    /// It has another version.
    Version(u8),
    /// It has flags that version 1 does not define.
    Flags(u8),
    /// It carries this many descriptors instead of one.
    Descriptors(usize),
    /// Its descriptor is not a TCP socket.
    NoTcp,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Length => write!(f, "invalid message length"),
            Malformed::Version(version) => write!(f, "invalid message version {version}: expected {VERSION}"),
            Malformed::Flags(flags) => write!(f, "invalid message flags {flags:#04x}"),
            Malformed::Descriptors(count) => write!(f, "invalid number of descriptors {count}: expected 1"),
            Malformed::NoTcp => write!(f, "the descriptor is not a TCP socket"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests;
