//! Token and seed: where they may stand, and that no message says them back.

use super::*;

#[test]
fn a_seed_is_a_number_and_is_not_said_back() {
    let seed = |text: &str| good(&["--hash-seed", text]).mapping.scheme.seed;
    assert_eq!([seed("7"), seed("0x1F"), seed("0")], [Seed(7), Seed(31), Seed(0)]);
    assert_eq!(seed("18446744073709551615"), Seed(u64::MAX));
    for wrong in ["", "secret", "-1", "+1", "0x", "0x+1", "1.5", "18446744073709551616"] {
        let expected =
            "--hash-seed: invalid value: expected a whole number below 2^64, decimal or as 0x1F; 0 is none";
        assert_eq!(problems(&["--hash-seed", wrong]), [expected], "{wrong}");
    }
}

#[test]
fn a_token_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let path = file.to_str().unwrap();
    let given = ["--control", "0.0.0.0:0", "--control-token-file", path];
    for (text, token) in [("secret", "secret"), ("secret\n", "secret"), ("two words\r\n", "two words")] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(good(&given).control_token.as_deref(), Some(token));
    }
    std::fs::write(&file, "\n").unwrap();
    assert_eq!(
        problems(&given),
        [format!("--control-token-file: {path}: invalid value ``: expected any other text")]
    );
    let both = problems(&[&given[..], &["--control-token", "secret"]].concat());
    assert_eq!(both, ["--control-token-file: there is a --control-token already; give one of them"]);
    std::fs::remove_file(&file).unwrap();
    let missing = problems(&given);
    assert!(missing[0].starts_with(&format!("--control-token-file: {path} cannot be read: ")), "{missing:?}");
}

#[test]
fn a_seed_may_stand_in_a_file_and_is_not_said_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seed");
    let path = file.to_str().unwrap();
    for (text, seed) in [("7", 7), ("0x1F\n", 31), ("18446744073709551615\r\n", u64::MAX)] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(good(&["--hash-seed-file", path]).mapping.scheme.seed, Seed(seed));
    }
    for wrong in ["", "secret\n", "7\n8\n"] {
        std::fs::write(&file, wrong).unwrap();
        let expected = format!(
            "--hash-seed-file: {path}: invalid value: expected a whole number below 2^64, decimal or as 0x1F; 0 is none"
        );
        assert_eq!(problems(&["--hash-seed-file", path]), [expected], "{wrong}");
    }
    let both = problems(&["--hash-seed-file", path, "--hash-seed", "0"]);
    assert_eq!(both, ["--hash-seed-file: there is a --hash-seed already; give one of them"]);
    std::fs::remove_file(&file).unwrap();
    let missing = problems(&["--hash-seed-file", path]);
    assert!(missing[0].starts_with(&format!("--hash-seed-file: {path} cannot be read: ")), "{missing:?}");
}
