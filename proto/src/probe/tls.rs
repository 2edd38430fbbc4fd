//! A health check of a TLS server: the first message of a client, and whether the answer is that of a server.
//!
//! Sources: RFC 8446, sections 4.1.2, 4.2, 5.1 and 6; RFC 6066, section 3. The handshake is not ended, and no certificate is looked at, so this
//! needs no cryptography.

use super::Verdict;

/// The types of records.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// The types of messages.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// The longest record.
const LONGEST_RECORD: u16 = 1 << 14;

/// Suites of TLS 1.3 and 1.2 that a server may choose from, the newest first.
const SUITES: [u16; 15] = [
    0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
    0x002f, 0x0035,
];
/// Groups: X25519, P-256 and P-384.
const GROUPS: [u16; 3] = [0x001d, 0x0017, 0x0018];
/// Algorithms of signatures: ECDSA, EdDSA, RSA-PSS and RSA.
const SIGNATURES: [u16; 11] =
    [0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0201];

/// Alerts by which a server refuses what this client offers: it has understood the message, and works.
const REFUSALS: [u8; 8] = [40, 49, 70, 71, 109, 112, 116, 120];

/// The question: a client of TLS 1.3 or 1.2 that asks for the server of this name.
#[must_use]
pub fn client_hello(random: [u8; 32], name: Option<&str>) -> Vec<u8> {
    let extensions = [
        name.map(|name| extension(0, &sized::<2>(&[&[0], &sized::<2>(name.as_bytes())[..]].concat())))
            .unwrap_or_default(),
        extension(10, &sized::<2>(&list(&GROUPS))),
        // Points are not compressed.
        extension(11, &[1, 0]),
        extension(13, &sized::<2>(&list(&SIGNATURES))),
        // The extended master secret, and a first handshake (RFC 7627; RFC 5746): some servers ask for both.
        extension(23, b""),
        extension(0xff01, &[0]),
        extension(43, &[4, 3, 4, 3, 3]),
        extension(51, &sized::<2>(&[&GROUPS[0].to_be_bytes()[..], &sized::<2>(&key_share())].concat())),
    ];
    let body = [
        &[3, 3][..],
        &random,
        &sized::<1>(b""),
        &sized::<2>(&list(&SUITES)),
        &sized::<1>(&[0]),
        &sized::<2>(&extensions.concat()),
    ];
    let message = [&[CLIENT_HELLO], &sized::<3>(&body.concat())[..]].concat();
    [&[HANDSHAKE, 3, 1], &sized::<2>(&message)[..]].concat()
}

/// Judges the answer.
#[must_use]
pub fn judge(answer: &[u8]) -> Verdict {
    let is_fine = match answer {
        [] => true,
        [kind, rest @ ..] => {
            [ALERT, HANDSHAKE].contains(kind) && rest.first().is_none_or(|&version| version == 3)
        }
    };
    if !is_fine {
        return Verdict::bad("it speaks no TLS");
    }
    let &[kind, _, _, high, low, first, ref rest @ ..] = answer else { return Verdict::More };
    let length = u16::from_be_bytes([high, low]);
    match (kind, length, first, rest.first()) {
        (HANDSHAKE, 4..=LONGEST_RECORD, SERVER_HELLO, _) => Verdict::Good,
        (ALERT, 2, _, None) => Verdict::More,
        (ALERT, 2, _, Some(alert)) if REFUSALS.contains(alert) => Verdict::Good,
        (ALERT, 2, _, Some(alert)) => Verdict::bad(format!("it answers with the TLS alert {alert}")),
        _ => Verdict::bad("it speaks no TLS"),
    }
}

/// A public key for X25519 whose secret is not known to anyone here: the base point (RFC 7748, section 4.1).
fn key_share() -> [u8; 32] {
    let mut point = [0; 32];
    point[0] = 9;
    point
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized::<2>(value)].concat()
}

fn list(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// The bytes behind their length, which takes `N` bytes.
fn sized<const N: usize>(bytes: &[u8]) -> Vec<u8> {
    [&bytes.len().to_be_bytes()[size_of::<usize>() - N..], bytes].concat()
}
