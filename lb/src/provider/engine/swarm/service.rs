//! How a replica becomes a service with one task: what Swarm is asked for, and what is read back.

use bollard::models::{
    EndpointSpec, EndpointSpecModeEnum, Limit, NetworkAttachmentConfig, ResourceObject, Service, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecUpdateConfig,
    ServiceSpecUpdateConfigFailureActionEnum, ServiceSpecUpdateConfigOrderEnum as Order, TaskSpec,
    TaskSpecContainerSpec, TaskSpecContainerSpecPrivileges, TaskSpecLogDriver, TaskSpecPlacement,
    TaskSpecResources, TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum,
};
use fleet::{Epoch, Rule};
use proto::control::Hostname;

use super::Settings;
use super::config::BIRTH;
use super::secret::{self, Secret};
use crate::provider::engine::dress::{self, GRACE};
use crate::provider::engine::identity::{FLEET, HOSTNAME};
use crate::provider::engine::record::Labels;

/// The label of a service: the epoch for which it was created.
const SINCE: &str = "lb.since";
/// The longest name of a service.
const LONGEST_NAME: usize = 63;
/// What a container may leave in its node's log: two files of this size.
const LOG: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "2")];

/// The name of the service of the replica with this hostname.
///
/// # Errors
/// Swarm takes no such name; what it takes.
pub(super) fn name(fleet: &str, hostname: &Hostname) -> Result<String, String> {
    let name = format!("{fleet}-{hostname}");
    if is_name(&name) {
        return Ok(name);
    }
    Err(format!(
        "{name} cannot be the name of a service: expected at most {LONGEST_NAME} letters, digits, - and _, with a letter or digit at both ends"
    ))
}

/// Which hostnames replicas of this fleet can have.
pub(crate) fn rule(fleet: &str) -> Rule {
    let fleet = fleet.to_owned();
    Rule::new(fleet.clone(), move |hostname| name(&fleet, hostname).map(drop))
}

/// Whether Swarm takes this as the name of a service.
pub(crate) fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let ends = [name.bytes().next(), name.bytes().last()];
    let has_ends = ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()));
    name.len() <= LONGEST_NAME && name.bytes().all(is_part) && has_ends
}

/// What a new replica gets.
pub(super) struct Plan<'a> {
    pub(super) settings: &'a Settings,
    pub(super) hostname: &'a Hostname,
    /// What distinguishes the fleet from an earlier one of its name.
    pub(super) birth: &'a str,
    /// The epoch for which it is created.
    pub(super) since: Epoch,
    pub(super) secrets: &'a [Secret],
    /// The id of the network of the fleet.
    pub(super) network: &'a str,
}

/// The body of `POST /services/create` for a new replica, in a service of this name.
pub(super) fn spec(name: String, plan: &Plan<'_>) -> ServiceSpec {
    ServiceSpec {
        name: Some(name),
        labels: Some(labels(plan)),
        mode: Some(replicas(1)),
        // No address is shared, so that each task is reached at its own.
        endpoint_spec: Some(EndpointSpec {
            mode: Some(EndpointSpecModeEnum::DNSRR),
            ..EndpointSpec::default()
        }),
        // The next task is there before the last one goes. One that does not start must not stop the next attempt.
        update_config: Some(ServiceSpecUpdateConfig {
            parallelism: Some(1),
            order: Some(Order::START_FIRST),
            failure_action: Some(ServiceSpecUpdateConfigFailureActionEnum::CONTINUE),
            ..ServiceSpecUpdateConfig::default()
        }),
        task_template: Some(task(plan)),
        ..ServiceSpec::default()
    }
}

fn labels(plan: &Plan<'_>) -> Labels {
    let (fleet, since) = (plan.settings.common.fleet.clone(), plan.since.0.to_string());
    let labels = [
        (FLEET, fleet),
        (BIRTH, plan.birth.to_owned()),
        (SINCE, since),
        (HOSTNAME, plan.hostname.to_string()),
    ];
    labels.map(|(name, value)| (name.to_owned(), value)).into()
}

fn replicas(replicas: i64) -> ServiceSpecMode {
    let replicated = ServiceSpecModeReplicated { replicas: Some(replicas) };
    ServiceSpecMode { replicated: Some(replicated), ..ServiceSpecMode::default() }
}

fn task(plan: &Plan<'_>) -> TaskSpec {
    let log = LOG.map(|(name, value)| (name.to_owned(), value.to_owned()));
    TaskSpec {
        container_spec: Some(container(plan)),
        resources: Some(resources(plan.settings)),
        restart_policy: Some(TaskSpecRestartPolicy {
            condition: Some(TaskSpecRestartPolicyConditionEnum::ANY),
            delay: Some(0),
            ..TaskSpecRestartPolicy::default()
        }),
        placement: Some(TaskSpecPlacement {
            constraints: Some(plan.settings.constraints.clone()),
            ..TaskSpecPlacement::default()
        }),
        networks: Some(vec![NetworkAttachmentConfig {
            target: Some(plan.network.to_owned()),
            aliases: Some(vec![plan.hostname.to_string()]),
            ..NetworkAttachmentConfig::default()
        }]),
        log_driver: Some(TaskSpecLogDriver { name: Some("json-file".to_owned()), options: Some(log.into()) }),
        ..TaskSpec::default()
    }
}

fn container(plan: &Plan<'_>) -> TaskSpecContainerSpec {
    let common = &plan.settings.common;
    let (capability_drop, capability_add) = common.capabilities.taken_and_given();
    TaskSpecContainerSpec {
        image: Some(common.image.clone()),
        hostname: Some(plan.hostname.to_string()),
        env: Some(dress::environment(common, plan.hostname).collect()),
        // Not the label of the fleet: an `lb` with --provider docker on that node would take it for one of its own.
        labels: Some(dress::not_composes().collect()),
        capability_drop: Some(capability_drop),
        capability_add: Some(capability_add),
        // Engines before 25 do not know it, and ignore it.
        privileges: Some(TaskSpecContainerSpecPrivileges {
            no_new_privileges: Some(true),
            ..TaskSpecContainerSpecPrivileges::default()
        }),
        secrets: Some(plan.secrets.iter().map(secret::reference).collect()),
        stop_grace_period: i64::try_from(GRACE.as_nanos()).ok(),
        ..TaskSpecContainerSpec::default()
    }
}

/// What a replica may use. Swarm keeps that much free for it, so that it starts where there is room.
fn resources(Settings { common, cpus, .. }: &Settings) -> TaskSpecResources {
    TaskSpecResources {
        limits: Some(Limit {
            nano_cpus: *cpus,
            memory_bytes: common.memory,
            // For a service, 0 is no limit.
            pids: Some(common.pids.max(0)),
        }),
        reservations: Some(ResourceObject {
            nano_cpus: *cpus,
            memory_bytes: common.memory,
            ..ResourceObject::default()
        }),
        ..TaskSpecResources::default()
    }
}

/// A service with the label of the fleet, as Swarm lists it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) name: String,
    /// The hostname in its label.
    pub(super) hostname: Option<Hostname>,
    /// What distinguishes its fleet from an earlier one of the same name.
    birth: Option<String>,
    /// The epoch for which it was created.
    since: Option<Epoch>,
    pub(super) version: u64,
    pub(super) spec: ServiceSpec,
}

impl Listed {
    /// Reads one service. `None` if it has not the label of this fleet, even if the list was asked for it.
    pub(super) fn of(service: Service, fleet: &str) -> Option<Self> {
        let spec = service.spec?;
        let labels = spec.labels.clone()?;
        let is_ours = labels.get(FLEET).is_some_and(|label| label == fleet);
        is_ours.then_some(())?;
        Some(Listed {
            id: service.id.filter(|id| is_id(id))?,
            name: spec.name.clone()?,
            hostname: labels.get(HOSTNAME).and_then(|name| Hostname::try_from(name.clone()).ok()),
            birth: labels.get(BIRTH).cloned(),
            since: labels.get(SINCE).and_then(|since| since.parse().ok()).map(Epoch),
            version: service.version?.index?,
            spec,
        })
    }

    /// Whether it is of the fleet with this birth, and not of an earlier one of its name.
    pub(super) fn is_of(&self, birth: &str) -> bool {
        self.birth.as_deref() == Some(birth)
    }

    /// Whether it was there in this epoch, and not created for a later one.
    pub(super) fn is_of_epoch(&self, epoch: Epoch) -> bool {
        self.since.is_some_and(|since| since <= epoch)
    }

    /// How many tasks it is meant to have; `None` if it is not of that kind.
    pub(super) fn replicas(&self) -> Option<i64> {
        self.spec.mode.as_ref()?.replicated.as_ref()?.replicas
    }

    /// How many times it has been told to replace its task.
    pub(super) fn force_update(&self) -> u64 {
        self.spec.task_template.as_ref().and_then(|task| task.force_update).unwrap_or(0)
    }

    /// Its specification with one task.
    pub(super) fn with_one_replica(&self) -> ServiceSpec {
        ServiceSpec { mode: Some(replicas(1)), ..self.spec.clone() }
    }

    /// Its specification with a change that does nothing but replace its task, before or after the next one runs.
    pub(super) fn with_the_next_task(&self, order: Order) -> ServiceSpec {
        let mut spec = self.spec.clone();
        spec.update_config.get_or_insert_default().order = Some(order);
        let template = spec.task_template.get_or_insert_default();
        template.force_update = Some(self.force_update().wrapping_add(1));
        spec
    }
}

/// Whether this is an id of Swarm. Ids become part of paths.
pub(super) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::engine::dress::testing::common;
    use crate::provider::engine::dress::{Common, Variable};

    fn host(name: &str) -> Hostname {
        Hostname::try_from(name.to_owned()).unwrap()
    }

    fn settings() -> Settings {
        let common = Common { memory: Some(64 << 20), ..common() };
        Settings {
            common,
            constraints: vec!["node.role==worker".to_owned()],
            secrets: Vec::new(),
            cpus: Some(500_000_000),
        }
    }

    fn planned(settings: &Settings) -> ServiceSpec {
        let hostname = host("a");
        let plan =
            Plan { settings, hostname: &hostname, birth: "b1", since: Epoch(7), secrets: &[], network: "n0" };
        spec(name("fleet", &hostname).unwrap(), &plan)
    }

    #[test]
    fn a_replica_is_a_service_with_one_task_that_swarm_restarts_at_once() {
        let spec = serde_json::to_value(planned(&settings())).unwrap();
        assert_eq!(spec["Name"], "fleet-a");
        let labels = json!({"lb.fleet": "fleet", "lb.birth": "b1", "lb.since": "7", "lb.hostname": "a"});
        assert_eq!(spec["Labels"], labels);
        assert_eq!(spec["Mode"], json!({"Replicated": {"Replicas": 1}}));
        assert_eq!(spec["EndpointSpec"], json!({"Mode": "dnsrr"}));
        assert_eq!(spec["UpdateConfig"]["Order"], "start-first");
        let task = &spec["TaskTemplate"];
        assert_eq!(task["RestartPolicy"], json!({"Condition": "any", "Delay": 0}));
        assert_eq!(task["Placement"], json!({"Constraints": ["node.role==worker"]}));
        assert_eq!(task["Networks"], json!([{"Target": "n0", "Aliases": ["a"]}]));
        let limits = json!({"NanoCPUs": 500_000_000, "MemoryBytes": 64 << 20, "Pids": 2048});
        let reserved = json!({"NanoCPUs": 500_000_000, "MemoryBytes": 64 << 20});
        assert_eq!(task["Resources"], json!({"Limits": limits, "Reservations": reserved}));
        assert_eq!(task["LogDriver"]["Options"]["max-size"], "10m");
        let container = &task["ContainerSpec"];
        assert_eq!((&container["Image"], &container["Hostname"]), (&json!("image"), &json!("a")));
        assert_eq!(container["Env"], json!(["SERVER_ID=a", "PORT=5000"]));
        assert_eq!(container["CapabilityDrop"], json!(["NET_RAW"]));
        assert!(container["Labels"].get("lb.fleet").is_none(), "--provider docker would take it for its own");
    }

    #[test]
    fn a_replica_gets_its_variables_and_secrets() {
        let mut settings = settings();
        settings.common.environment = vec![Variable { name: "A".to_owned(), value: "1 2".to_owned() }];
        let (hostname, secrets) = (host("a"), [Secret { name: "key".to_owned(), id: "s1".to_owned() }]);
        let plan = Plan {
            settings: &settings,
            hostname: &hostname,
            birth: "b1",
            since: Epoch(7),
            secrets: &secrets,
            network: "n0",
        };
        let spec = serde_json::to_value(spec("fleet-a".to_owned(), &plan)).unwrap();
        let container = &spec["TaskTemplate"]["ContainerSpec"];
        assert_eq!(container["Env"], json!(["SERVER_ID=a", "PORT=5000", "A=1 2"]));
        let file = json!({"Name": "key", "UID": "0", "GID": "0", "Mode": 0o444});
        assert_eq!(container["Secrets"], json!([{"File": file, "SecretID": "s1", "SecretName": "key"}]));
    }

    #[test]
    fn without_limits_there_are_none() {
        let mut settings = settings();
        (settings.cpus, settings.common.memory, settings.common.pids) = (None, None, -1);
        let spec = serde_json::to_value(planned(&settings)).unwrap();
        assert_eq!(spec["TaskTemplate"]["Resources"], json!({"Limits": {"Pids": 0}, "Reservations": {}}));
    }

    fn listed(spec: ServiceSpec) -> Option<Listed> {
        let spec = serde_json::to_value(spec).unwrap();
        let service = json!({"ID": "x1", "Version": {"Index": 7}, "Spec": spec});
        Listed::of(serde_json::from_value(service).unwrap(), "fleet")
    }

    #[test]
    fn a_service_is_read_back_and_changed_in_one_thing_only() {
        let asked = planned(&settings());
        let found = listed(asked.clone()).unwrap();
        assert_eq!((found.hostname.clone(), found.replicas()), (Some(host("a")), Some(1)));
        assert!(found.is_of("b1") && !found.is_of("b2"));
        assert!(found.is_of_epoch(Epoch(7)) && !found.is_of_epoch(Epoch(6)));
        assert_eq!(found.with_one_replica(), asked);
        let mut next = found.with_the_next_task(Order::START_FIRST);
        assert_eq!(next.task_template.as_mut().unwrap().force_update.take(), Some(1));
        assert_eq!(next, asked);
        let mut scaled = asked.clone();
        scaled.mode = Some(replicas(0));
        let scaled = listed(scaled).unwrap();
        assert_eq!((scaled.replicas(), scaled.with_one_replica()), (Some(0), asked));
    }

    #[test]
    fn a_name_is_one_that_swarm_takes() {
        assert_eq!(name("lb", &host("server-1")), Ok("lb-server-1".to_owned()));
        for wrong in ["a.b", "a-", "a_", &"a".repeat(61)] {
            assert!(name("lb", &host(wrong)).unwrap_err().contains("expected at most 63 letters"), "{wrong}");
        }
        assert!(name("lb", &host(&"a".repeat(60))).is_ok());
        assert!(!is_name("") && !is_name("-a") && !is_name("a/b"));
    }

    #[test]
    fn only_letters_and_digits_are_an_id() {
        assert!(
            is_id("td91df165cuqyybe36n80yaxc") && !is_id("") && !is_id("../x") && !is_id(&"a".repeat(65))
        );
    }
}
