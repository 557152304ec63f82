//! What a function may ask for and a host here cannot give: a network of
//! AWS's, file systems of AWS's. It is kept and shown, and the function comes
//! to rest as failed, with the reason that AWS gives when it cannot either.
//!
//! Not here: instruction sets and runtimes, which are a worker's to know.

use lamu_api::shapes::{FileSystemConfig, VpcConfig};

use super::document::{Configuration, FileSystem, Vpc};
use super::refusal::Refusal;
use super::state::{Failure, FailureCode};

/// Why no host here can run it, if none can.
pub fn failure(of: &Configuration) -> Option<Failure> {
    if let Some(vpc) = of.vpc.as_ref().filter(|vpc| !vpc.subnets.is_empty()) {
        let reason = format!(
            "The function asks for the subnets {}, and this host has no VPC. Remove VpcConfig to run it here.",
            vpc.subnets.join(", ")
        );
        return Some(Failure { code: FailureCode::InvalidSubnet, reason });
    }
    let mount = of.file_systems.first()?;
    let reason = format!(
        "The file system {} cannot be mounted at {}: this host has no file systems of AWS. Remove FileSystemConfigs to run the function here.",
        mount.arn, mount.mount_path
    );
    Some(Failure { code: FailureCode::EfsMountFailure, reason })
}

/// What does not fit together, in the words of the service.
pub fn check(vpc: Option<&Vpc>, mounts: &[FileSystem]) -> Result<(), Refusal> {
    let within = vpc.is_some_and(|vpc| !vpc.subnets.is_empty());
    if vpc.is_some_and(|vpc| vpc.subnets.is_empty() != vpc.security_groups.is_empty()) {
        return Err(Refusal::invalid(
            "SubnetIds and SecurityIds must coexist or be both empty list.",
        ));
    }
    match mounts.first() {
        Some(mount) if !within => Err(Refusal::invalid(format!(
            "Function must be configured to execute in a VPC to reference access point {}.",
            mount.arn
        ))),
        _ => Ok(()),
    }
}

pub fn vpc(asked: &VpcConfig) -> Vpc {
    Vpc {
        subnets: asked.subnet_ids.clone().unwrap_or_default(),
        security_groups: asked.security_group_ids.clone().unwrap_or_default(),
        ipv6: asked.ipv6_allowed_for_dual_stack,
    }
}

pub fn file_systems(asked: &[FileSystemConfig]) -> Vec<FileSystem> {
    let mounts = asked.iter().map(|mount| FileSystem {
        arn: mount.arn.clone(),
        mount_path: mount.local_mount_path.clone(),
        direct_s3_read: mount.s3_files_config.as_ref().and_then(|of| of.direct_s3_read.clone()),
    });
    mounts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::document::tests::configuration;

    fn vpc_of(subnets: &[&str], groups: &[&str]) -> Vpc {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Vpc { subnets: owned(subnets), security_groups: owned(groups), ipv6: None }
    }

    fn mount() -> FileSystem {
        FileSystem {
            arn: "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-1".into(),
            mount_path: "/mnt/data".into(),
            direct_s3_read: None,
        }
    }

    #[test]
    fn what_no_host_here_has_fails_the_function() {
        let mut asks = configuration();
        assert_eq!(failure(&asks), None);
        asks.vpc = Some(Vpc::default());
        assert_eq!(failure(&asks), None, "an empty one asks for nothing");
        asks.file_systems = vec![mount()];
        assert_eq!(failure(&asks).unwrap().code, FailureCode::EfsMountFailure);
        asks.vpc = Some(vpc_of(&["subnet-1"], &["sg-1"]));
        let failed = failure(&asks).unwrap();
        assert_eq!(failed.code, FailureCode::InvalidSubnet);
        assert!(failed.reason.contains("subnet-1"), "{}", failed.reason);
    }

    #[test]
    fn subnets_and_groups_come_together_and_mounts_within_them() {
        let text = |vpc: Option<Vpc>, mounts: &[FileSystem]| match check(vpc.as_ref(), mounts) {
            Ok(()) => String::new(),
            Err(Refusal::Invalid(text)) => text,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(text(None, &[]), "");
        assert_eq!(text(Some(vpc_of(&["s"], &["g"])), &[mount()]), "");
        assert!(text(Some(vpc_of(&["s"], &[])), &[]).contains("must coexist"));
        assert!(text(Some(vpc_of(&[], &["g"])), &[]).contains("must coexist"));
        assert!(
            text(None, &[mount()]).starts_with("Function must be configured to execute in a VPC")
        );
    }
}
