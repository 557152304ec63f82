//! Which layers a function may have ("Message catalogue" of the API
//! reference, layers).
//!
//! Not here: whether they exist and may be used (`operations`).

use lamu_model::{Region, UNZIPPED_BYTES_MAX};

use super::name::LayerVersionKey;
use crate::function::document::LayerRef;
use crate::function::refusal::Refusal;

const LAYERS_MAX: usize = 5;

/// The versions behind the ARNs of a request, in its order.
pub fn read(arns: &[String], region: &Region) -> Result<Vec<LayerVersionKey>, Refusal> {
    if arns.len() > LAYERS_MAX {
        return Err(Refusal::invalid(format!("Cannot reference more than {LAYERS_MAX} layers.")));
    }
    let read_one = |arn: &String| {
        let version = LayerVersionKey::parse(arn)?.ok_or_else(|| missing(arn))?;
        if version.layer.region != *region {
            return Err(Refusal::invalid(format!(
                "Layers are not in the same region as the function. Layers are expected to be in region {region}."
            )));
        }
        Ok(version)
    };
    arns.iter().map(read_one).collect()
}

/// A request names a version that is not there.
pub fn missing(arn: impl std::fmt::Display) -> Refusal {
    Refusal::invalid(format!("Layer version {arn} does not exist."))
}

/// No layer may be there twice, in whatever versions.
pub fn check_once(versions: &[LayerVersionKey]) -> Result<(), Refusal> {
    for (at, version) in versions.iter().enumerate() {
        if let Some(before) = versions[..at].iter().find(|before| before.layer == version.layer) {
            return Err(Refusal::invalid(format!(
                "Two different versions of the same layer are not allowed to be referenced in the same function. {} and {} are versions of the same layer.",
                before.arn(),
                version.arn()
            )));
        }
    }
    Ok(())
}

/// Code and layers share one limit.
pub fn check_unzipped(code_bytes: u64, layers: &[LayerRef]) -> Result<(), Refusal> {
    let bytes =
        layers.iter().fold(code_bytes, |sum, layer| sum.saturating_add(layer.unzipped_bytes));
    if layers.is_empty() || bytes <= UNZIPPED_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_BYTES_MAX} bytes. The actual size is {bytes} bytes."
    )))
}

#[cfg(test)]
mod tests {
    use lamu_model::{Arn, Digest};

    use super::*;
    use crate::layer::name::tests::layer;

    fn text<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        match result {
            Err(Refusal::Invalid(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn arns(count: u64) -> Vec<String> {
        let arn = |i| layer(&format!("l{i}")).version(1).arn().to_string();
        (0..count).map(arn).collect()
    }

    #[test]
    fn five_layers_of_this_region_in_their_order() {
        let region = layer("l").region;
        let read_five = read(&arns(5), &region).unwrap();
        let names: Vec<&str> = read_five.iter().map(|v| v.layer.name.as_str()).collect();
        assert_eq!(names, ["l0", "l1", "l2", "l3", "l4"]);
        assert_eq!(text(read(&arns(6), &region)), "Cannot reference more than 5 layers.");
        assert_eq!(
            text(read(&arns(1), &Region::new("eu-west-1"))),
            "Layers are not in the same region as the function. Layers are expected to be in region eu-west-1."
        );
        let of_aws = "arn:aws:lambda:::awslayer:AmazonLinux1803".to_owned();
        assert_eq!(
            text(read(std::slice::from_ref(&of_aws), &region)),
            format!("Layer version {of_aws} does not exist.")
        );
    }

    #[test]
    fn one_layer_in_two_versions_is_refused_and_names_both() {
        let versions = [layer("a").version(1), layer("b").version(1), layer("a").version(2)];
        assert!(check_once(&versions[..2]).is_ok());
        let text = text(check_once(&versions));
        assert!(text.starts_with("Two different versions of the same layer"), "{text}");
        assert!(text.ends_with(&format!(
            "{} and {} are versions of the same layer.",
            versions[0].arn(),
            versions[2].arn()
        )));
    }

    #[test]
    fn code_and_layers_share_one_limit() {
        let layer = |unzipped_bytes| LayerRef {
            arn: Arn::new("arn"),
            code: Digest::of(b""),
            code_bytes: 1,
            unzipped_bytes,
        };
        let half = UNZIPPED_BYTES_MAX / 2;
        assert!(check_unzipped(half, &[layer(half)]).is_ok());
        assert_eq!(
            text(check_unzipped(half + 1, &[layer(half)])),
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes."
        );
        assert!(check_unzipped(u64::MAX, &[layer(u64::MAX)]).is_err());
    }
}
