//! The payload of requests and answers: a fixed pattern, so that each byte can be checked without keeping it.

/// The payload: byte k is `b'!' + k % 89`, which is also what `/bytes/N` of the demo replica sends.
const PERIOD: usize = 89;
static PATTERN: [u8; PERIOD * 737] = pattern();

const fn pattern<const N: usize>() -> [u8; N] {
    let mut bytes = [b'!'; N];
    let mut k = 0;
    while k < N {
        bytes[k] += (k % PERIOD) as u8;
        k += 1;
    }
    bytes
}

/// A piece of the payload from byte `offset` on, at most `most` bytes long.
pub(crate) fn payload(offset: u64, most: u64) -> &'static [u8] {
    let rest = &PATTERN[(offset % PERIOD as u64) as usize..];
    &rest[..rest.len().min(usize::try_from(most).unwrap_or(usize::MAX))]
}

/// Whether these are the bytes of the payload from `offset` on.
pub(super) fn is_payload(mut offset: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let expected = payload(offset, bytes.len() as u64);
        let (these, rest) = bytes.split_at(expected.len());
        if these != expected {
            return false;
        }
        (offset, bytes) = (offset + these.len() as u64, rest);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_the_same_wherever_it_is_cut() {
        let whole: Vec<u8> = (0..200_000u64).map(|k| b'!' + (k % 89) as u8).collect();
        for (offset, most) in [(0, 5), (88, 3), (65_592, 200_000), (1_000, 70_000)] {
            let part = payload(offset, most);
            assert!(!part.is_empty() && part.len() as u64 <= most);
            assert_eq!(part, &whole[offset as usize..][..part.len()]);
        }
        assert!(is_payload(7, &whole[7..150_000]));
        assert!(!is_payload(8, &whole[7..150_000]));
    }
}
