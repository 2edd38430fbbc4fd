//! The key of a session, as its replica keeps it. Nothing here maps it to a slot.

/// The key of a session. It tells where the session would go under another mapping.
///
/// Its size is fixed, so that no client can fill the memory with long keys. A longer key is not kept.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The length in bytes; more than `LONGEST` if the key is too long to be kept.
    length: u8,
    bytes: [u8; LONGEST],
}

/// The longest key that is kept: any number, a UUID and any IP address are shorter.
pub(super) const LONGEST: usize = 39;

impl Key {
    pub(super) fn of(key: &[u8]) -> Self {
        let mut bytes = [0; LONGEST];
        match bytes.get_mut(..key.len()) {
            Some(room) => {
                room.copy_from_slice(key);
                Key { length: key.len() as u8, bytes }
            }
            None => Key { length: u8::MAX, bytes },
        }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length.into())
    }
}
