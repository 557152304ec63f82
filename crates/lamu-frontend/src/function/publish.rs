//! Publishing `$LATEST`: whether it makes a version, and what the version is
//! ("Versions, CodeSha256, RevisionId" of the API reference).

use lamu_model::VersionId;
use uuid::Uuid;

use super::document::{Configuration, FunctionKey, VersionDoc};
use super::state::VersionState;

/// Ids and time for a version that may come to be.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    pub id: VersionId,
    pub revision_id: Uuid,
}

impl Fresh {
    pub fn new() -> Fresh {
        Fresh { id: VersionId(Uuid::new_v4()), revision_id: Uuid::new_v4() }
    }
}

impl Default for Fresh {
    fn default() -> Fresh {
        Fresh::new()
    }
}

/// Whether `$LATEST` is what the last publish made a version of. Everything a
/// user set is compared, the description of `$LATEST` included.
pub fn unchanged(latest: &Configuration, last: &VersionDoc) -> bool {
    let Configuration {
        id: _,
        revision_id: _,
        modified_ms: _,
        description,
        role,
        runtime,
        handler,
        timeout_secs,
        memory_mib,
        ephemeral_mib,
        environment,
        tracing_active,
        log,
        architecture,
        dead_letter_target,
        code,
        code_bytes: _,
        code_unzipped_bytes: _,
        layers,
        kms_key_arn,
        vpc,
        file_systems,
    } = latest;
    let last_configuration = &last.configuration;
    *description == last.source_description
        && *role == last_configuration.role
        && *runtime == last_configuration.runtime
        && *handler == last_configuration.handler
        && *timeout_secs == last_configuration.timeout_secs
        && *memory_mib == last_configuration.memory_mib
        && *ephemeral_mib == last_configuration.ephemeral_mib
        && *environment == last_configuration.environment
        && *tracing_active == last_configuration.tracing_active
        && *log == last_configuration.log
        && *architecture == last_configuration.architecture
        && *dead_letter_target == last_configuration.dead_letter_target
        && *kms_key_arn == last_configuration.kms_key_arn
        && *vpc == last_configuration.vpc
        && *file_systems == last_configuration.file_systems
        && *code == last_configuration.code
        && *layers == last_configuration.layers
}

/// The version that a publish of `latest` makes.
pub fn version(
    function: &FunctionKey,
    latest: &Configuration,
    number: u64,
    description: Option<&str>,
    state: VersionState,
    fresh: Fresh,
) -> VersionDoc {
    let mut configuration = latest.clone();
    configuration.id = fresh.id;
    configuration.revision_id = fresh.revision_id;
    if let Some(description) = description {
        description.clone_into(&mut configuration.description);
    }
    VersionDoc {
        function: function.clone(),
        number,
        configuration,
        source_description: latest.description.clone(),
        state,
        policy: None,
    }
}

#[cfg(test)]
mod tests {
    use lamu_model::Digest;

    use super::*;
    use crate::function::document::tests::{configuration, key};

    #[test]
    fn a_second_publish_of_the_same_thing_is_no_change() {
        let latest = configuration();
        let first =
            version(&key("f"), &latest, 1, Some("first"), VersionState::Active, Fresh::new());
        assert_eq!(first.configuration.description, "first");
        assert!(unchanged(&latest, &first));

        let mut touched = latest.clone();
        touched.revision_id = Uuid::from_u128(99);
        touched.modified_ms += 1;
        touched.id = VersionId(Uuid::from_u128(99));
        assert!(unchanged(&touched, &first), "ids and times are no change");
    }

    #[test]
    fn whatever_a_user_sets_is_a_change() {
        let latest = configuration();
        let first = version(&key("f"), &latest, 1, None, VersionState::Active, Fresh::new());
        type Change = fn(&mut Configuration);
        let changes: [(&str, Change); 8] = [
            ("description", |c| c.description = "new".into()),
            ("code", |c| c.code = Digest::of(b"other")),
            ("memory", |c| c.memory_mib = 256),
            ("timeout", |c| c.timeout_secs = 9),
            ("environment", |c| c.environment = Some(Default::default())),
            ("role", |c| c.role = "arn:aws:iam::000000000000:role/s".into()),
            ("tracing", |c| c.tracing_active = true),
            ("log group", |c| c.log.group = "/x".into()),
        ];
        for (what, change) in changes {
            let mut changed = latest.clone();
            change(&mut changed);
            assert!(!unchanged(&changed, &first), "{what}");
        }
    }

    #[test]
    fn a_version_keeps_the_description_of_latest_unless_told_otherwise() {
        let mut latest = configuration();
        latest.description = "of latest".into();
        let fresh = Fresh::new();
        let made = version(&key("f"), &latest, 3, None, VersionState::Active, fresh);
        assert_eq!(made.configuration.description, "of latest");
        assert_eq!(made.configuration.id, fresh.id);
        assert_eq!(made.configuration.code, latest.code);
    }
}
