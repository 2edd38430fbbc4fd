//! `--user`: as whom `lb` goes on once its ports are bound.

use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::{getegid, geteuid};

use super::{Problems, Serve, Source};
use crate::privileges::Identity;

/// Reads the flag, and looks its names up in the user database of this machine.
pub(super) fn read(serve: &Serve, source: &Source, problems: &mut Problems) -> Option<Identity> {
    let given = serve.user.as_deref()?;
    if matches!(source, Source::Docker(_) | Source::Swarm(_)) {
        problems.add(
            "--user: it goes with --provider process, fixed and dns only: who may talk to the engine is root anyway",
        );
    }
    match look_up(given) {
        // A successor begins as the user that the lb before it has become.
        Ok(identity) if identity == (Identity { uid: geteuid().as_raw(), gid: getegid().as_raw() }) => None,
        Ok(identity) => {
            if !geteuid().is_root() {
                let user = geteuid().as_raw();
                problems
                    .add(format!("--user: only root can become another user, and lb runs as user {user}"));
            }
            Some(identity)
        }
        Err(because) => {
            problems.add(format!(
                "--user: invalid value `{given}`: expected NAME[:GROUP], each a name or number of this machine: {because}"
            ));
            None
        }
    }
}

fn look_up(given: &str) -> Result<Identity, String> {
    let (user, group) = given.split_once(':').map_or((given, None), |(user, group)| (user, Some(group)));
    let (uid, own_group) = match user.parse().map(Uid::from_raw) {
        Ok(uid) => (uid, found(User::from_uid(uid))?.map(|user| user.gid)),
        Err(_) => {
            let user = found(User::from_name(user))?.ok_or_else(|| format!("there is no user {user}"))?;
            (user.uid, Some(user.gid))
        }
    };
    let gid = match group.map(|group| (group, group.parse().map(Gid::from_raw))) {
        None => own_group.ok_or_else(|| format!("user {user} is not known here, so it takes a group"))?,
        Some((_, Ok(gid))) => gid,
        Some((group, Err(_))) => {
            found(Group::from_name(group))?.ok_or_else(|| format!("there is no group {group}"))?.gid
        }
    };
    // The last number means "no change" to the kernel (setresuid(2)).
    if uid.is_root() || uid.as_raw() == u32::MAX || gid.as_raw() == u32::MAX {
        return Err(format!("{user} is root, or no user at all"));
    }
    Ok(Identity { uid: uid.as_raw(), gid: gid.as_raw() })
}

fn found<T>(answer: nix::Result<Option<T>>) -> Result<Option<T>, String> {
    answer.map_err(|error| format!("the user database cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_a_number_and_so_is_a_group() {
        let identity = |uid, gid| Ok(Identity { uid, gid });
        assert_eq!(look_up("65534:7"), identity(65534, 7));
        assert_eq!(look_up("4000000000:0"), identity(4_000_000_000, 0));
        assert_eq!(look_up("65534:root"), identity(65534, 0));
        for (wrong, because) in [
            ("root", "root is root"),
            ("0:7", "0 is root"),
            ("4294967295:7", "no user at all"),
            ("7:4294967295", "no user at all"),
            ("4000000000", "user 4000000000 is not known here, so it takes a group"),
            ("no-such-user", "there is no user no-such-user"),
            ("65534:no-such-group", "there is no group no-such-group"),
            ("65534:", "there is no group "),
            ("", "there is no user "),
            ("-1:7", "there is no user -1"),
        ] {
            assert!(look_up(wrong).unwrap_err().contains(because), "{wrong}: {:?}", look_up(wrong));
        }
    }
}
