//! The addresses of the data port.

use super::{good, listens, problems, words};

#[test]
fn the_data_port_may_have_several_addresses_and_a_port_of_all() {
    let config =
        good(&words("--listen 127.0.0.1:1,[::1]:1 --listen :5000 --listen 127.0.0.1:0 --listen 127.0.0.1:0"));
    assert_eq!(listens(&config), ["127.0.0.1:1", "[::1]:1", "[::]:5000", "127.0.0.1:0", "127.0.0.1:0"]);
    for wrong in [":", ":x", ":65536", ":-1", ":+1", "5000", "", "127.0.0.1"] {
        let problems = problems(&["--listen", "127.0.0.1:1", "--listen", wrong]);
        let expected = format!("--listen: invalid value `{wrong}`: expected an address and a port, such as");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
    }
    assert_eq!(
        listens(&good(&words("--listen unix:/run/lb.sock,:5000"))),
        ["unix:/run/lb.sock", "[::]:5000"]
    );
    assert_eq!(problems(&["--listen", "unix:"]).len(), 1);
    let twice = problems(&words("--listen :5000 --listen [::]:5000"));
    assert_eq!(twice, ["--listen: [::]:5000 is given twice; each address must be unique"]);
}
