//! Layer versions as the API shows them.

use lamu_api::Timestamp;
use lamu_api::shapes::{
    GetLayerVersionResponse, LayerVersionContentOutput, LayerVersionsListItem,
    PublishLayerVersionResponse,
};

use super::store::LayerVersion;
use crate::function::render::code_sha256;

/// One version with its content, to be had at `location`.
pub fn whole(version: &LayerVersion, location: String) -> GetLayerVersionResponse {
    let LayerVersion { key, doc } = version;
    let item = item(version);
    GetLayerVersionResponse {
        compatible_architectures: item.compatible_architectures,
        compatible_runtimes: item.compatible_runtimes,
        content: Some(LayerVersionContentOutput {
            code_sha256: Some(code_sha256(&doc.code)),
            code_size: i64::try_from(doc.code_bytes).ok(),
            location: Some(location),
            ..LayerVersionContentOutput::default()
        }),
        created_date: item.created_date,
        description: item.description,
        layer_arn: Some(key.layer.arn().to_string()),
        layer_version_arn: item.layer_version_arn,
        license_info: item.license_info,
        version: item.version,
    }
}

/// The same as the answer to its publication.
pub fn published(version: &LayerVersion, location: String) -> PublishLayerVersionResponse {
    let shown = whole(version, location);
    PublishLayerVersionResponse {
        compatible_architectures: shown.compatible_architectures,
        compatible_runtimes: shown.compatible_runtimes,
        content: shown.content,
        created_date: shown.created_date,
        description: shown.description,
        layer_arn: shown.layer_arn,
        layer_version_arn: shown.layer_version_arn,
        license_info: shown.license_info,
        version: shown.version,
    }
}

/// As lists show it.
pub fn item(version: &LayerVersion) -> LayerVersionsListItem {
    let LayerVersion { key, doc } = version;
    LayerVersionsListItem {
        compatible_architectures: doc.architectures.clone(),
        compatible_runtimes: doc.runtimes.clone(),
        created_date: Some(Timestamp::from_millis(doc.created_ms).offset_millis()),
        description: Some(doc.description.clone()),
        layer_version_arn: Some(key.arn().to_string()),
        license_info: doc.license.clone(),
        version: i64::try_from(key.number).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::document::tests::doc;
    use crate::layer::name::tests::layer;

    #[test]
    fn a_version_shows_what_was_given_and_nothing_else() {
        let version = LayerVersion { key: layer("tools").version(2), doc: doc(b"zip") };
        let shown = serde_json::to_value(whole(&version, "http://here".into())).unwrap();
        let arn = "arn:aws:lambda:us-east-1:000000000000:layer:tools";
        let expected = serde_json::json!({
            "Content": {
                "CodeSha256": code_sha256(&version.doc.code),
                "CodeSize": 3,
                "Location": "http://here",
            },
            "CreatedDate": "2025-11-03T09:15:27.123+0000",
            "Description": "",
            "LayerArn": arn,
            "LayerVersionArn": format!("{arn}:2"),
            "Version": 2,
        });
        assert_eq!(shown, expected);
        let published = serde_json::to_value(published(&version, "http://here".into())).unwrap();
        assert_eq!(published, expected);
    }
}
