//! The answer to a raw line: a server's name, a space and the line.

use super::failure::Failure;

/// `SERVER LINE`, while it arrives.
#[derive(Debug, Default)]
pub(crate) struct LineAnswer {
    server: Vec<u8>,
    is_named: bool,
    matched: usize,
}

/// The longest name of a server.
const NAME_MAX: usize = 256;

/// Whether these bytes can be the name of a server: short and printable.
pub(super) fn is_name(name: &[u8]) -> bool {
    name.len() < NAME_MAX && name.iter().all(u8::is_ascii_graphic)
}

impl LineAnswer {
    /// The name before the line, as far as it has arrived.
    pub(super) fn server(&self) -> &[u8] {
        &self.server
    }

    /// Bytes of the line that have come back.
    pub(super) fn received(&self) -> u64 {
        self.matched as u64
    }

    pub(super) fn begin(&mut self) {
        self.server.clear();
        (self.is_named, self.matched) = (false, 0);
    }

    /// Takes in the bytes that arrived; returns whether `line` has come back whole.
    pub(super) fn feed(&mut self, mut bytes: &[u8], line: &[u8]) -> Result<bool, Failure> {
        if !self.is_named {
            let space = bytes.iter().position(|&byte| byte == b' ');
            let name = &bytes[..space.unwrap_or(bytes.len())];
            self.server.extend_from_slice(&name[..name.len().min(NAME_MAX)]);
            let is_name = is_name(&self.server);
            let Some(space) = space.filter(|_| is_name) else {
                return if is_name { Ok(false) } else { Err(Failure::Wrong) };
            };
            (self.is_named, bytes) = (true, &bytes[space + 1..]);
        }
        let rest = &line[self.matched..];
        if !rest.starts_with(bytes) {
            return Err(Failure::Wrong);
        }
        self.matched += bytes.len();
        Ok(self.matched == line.len())
    }
}
