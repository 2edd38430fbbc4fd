//! The secrets of the Swarm that replicas get as files. What they hold is never read: Swarm does not even tell.

use bollard::models::{TaskSpecContainerSpecFile, TaskSpecContainerSpecSecrets};

/// Its users may read it, as `docker service create --secret` has it.
const MODE: u32 = 0o444;

/// A secret that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Secret {
    pub(super) name: String,
    pub(super) id: String,
}

/// A secret that is not there.
#[derive(Debug, thiserror::Error)]
#[error("--secret: there is no secret {0} in the Swarm: expected one that `docker secret create` has made")]
pub(super) struct Missing(pub(super) String);

/// How a service asks for this secret: as the file `/run/secrets/NAME`, which belongs to root.
pub(super) fn reference(Secret { name, id }: &Secret) -> TaskSpecContainerSpecSecrets {
    TaskSpecContainerSpecSecrets {
        file: Some(TaskSpecContainerSpecFile {
            name: Some(name.clone()),
            uid: Some("0".to_owned()),
            gid: Some("0".to_owned()),
            mode: Some(MODE),
        }),
        secret_id: Some(id.clone()),
        secret_name: Some(name.clone()),
    }
}
