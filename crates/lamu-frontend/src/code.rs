//! Code on its way in: where a request says it is, fetched, looked through,
//! and put among the packages.
//!
//! Not here: reading archives (`lamu_store::archive`), unpacking (the worker).

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use lamu_api::Blob;
use lamu_model::{Digest, Region, UNZIPPED_BYTES_MAX, ZIP_INLINE_BYTES_MAX};
use lamu_store::Packages;
use lamu_store::archive::{self, ArchiveError, Limits};
use tokio::sync::Semaphore;

use crate::function::configuration::CodeRef;
use crate::function::refusal::Refusal;
use crate::s3::{self, Object, S3Config, S3Error};

/// Packages held in memory at once. One from S3 may have 250 MB; more wait.
const AT_ONCE_MAX: usize = 2;

const TOO_LARGE: &str = "Unzipped size must be smaller than 262144000 bytes";
const UNREADABLE: &str =
    "Could not unzip uploaded file. Please check your file, then try to upload again.";

/// Where a request says its code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Inline(Bytes),
    S3(Object),
}

/// The members of a request that say it.
#[derive(Debug, Default)]
pub struct Asked {
    pub zip_file: Option<Blob>,
    pub s3_bucket: Option<String>,
    pub s3_key: Option<String>,
    pub s3_object_version: Option<String>,
    pub s3_object_storage_mode: Option<String>,
    pub source_kms_key_arn: Option<String>,
}

impl Asked {
    pub fn source(self) -> Result<Source, Refusal> {
        if self.s3_object_storage_mode.as_deref() == Some("REFERENCE") {
            return Err(Refusal::Unsupported { what: "S3ObjectStorageMode REFERENCE" });
        }
        if self.source_kms_key_arn.is_some_and(|arn| !arn.is_empty()) {
            return Err(Refusal::Unsupported { what: "SourceKMSKeyArn" });
        }
        let s3 = self.s3_bucket.is_some() || self.s3_key.is_some();
        match (self.zip_file, self.s3_bucket, self.s3_key) {
            (Some(_), _, _) if s3 => Err(Refusal::invalid(
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
            )),
            (Some(zip), _, _) => Ok(Source::Inline(zip.0)),
            (None, Some(bucket), Some(key)) => {
                Ok(Source::S3(Object { bucket, key, version: self.s3_object_version }))
            }
            (None, Some(_), None) => {
                Err(Refusal::invalid("S3Key is required when S3Bucket is provided."))
            }
            (None, None, Some(_)) => {
                Err(Refusal::invalid("S3Bucket is required when S3Key is provided."))
            }
            (None, None, None) => {
                Err(Refusal::invalid("Please provide a source for function code."))
            }
        }
    }
}

/// A package that was looked through and is good, not yet stored.
#[derive(Debug)]
pub struct Checked {
    bytes: Bytes,
    digest: Digest,
    unzipped_bytes: u64,
    /// Its memory counts until it is stored or dropped.
    _permit: tokio::sync::OwnedSemaphorePermit,
}

#[derive(Debug)]
pub struct Intake {
    packages: Arc<dyn Packages>,
    s3: S3Config,
    temp_dir: PathBuf,
    at_once: Arc<Semaphore>,
}

impl Intake {
    /// Downloads are written to unnamed files in `temp_dir`.
    pub fn new(packages: Arc<dyn Packages>, s3: S3Config, temp_dir: PathBuf) -> Intake {
        Intake { packages, s3, temp_dir, at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }

    pub async fn check(
        &self,
        source: Source,
        region: &Region,
        now: DateTime<Utc>,
    ) -> Result<Checked, Refusal> {
        if let Source::Inline(zip) = &source
            && zip.len() as u64 > ZIP_INLINE_BYTES_MAX
        {
            return Err(Refusal::ZipTooLarge);
        }
        let internal = |what: String| Refusal::Internal(what);
        let permit =
            self.at_once.clone().acquire_owned().await.map_err(|e| internal(e.to_string()))?;
        let (s3, temp_dir, region) = (self.s3.clone(), self.temp_dir.clone(), region.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let (bytes, unzipped_bytes) = match source {
                Source::Inline(bytes) => {
                    let unzipped_bytes = inspect(Cursor::new(&bytes))?;
                    (bytes, unzipped_bytes)
                }
                Source::S3(object) => download(&s3, &region, &object, &temp_dir, now)?,
            };
            let digest = Digest::of(&bytes);
            Ok(Checked { bytes, digest, unzipped_bytes, _permit: permit })
        });
        checked.await.map_err(|error| internal(format!("a package could not be read: {error}")))?
    }

    /// Stores it. Hold the sweeper's intake guard until something refers to it.
    pub async fn store(&self, checked: &Checked) -> Result<CodeRef, Refusal> {
        let digest = self.packages.put(checked.bytes.clone()).await?;
        Ok(CodeRef { digest, ..checked.code() })
    }

    /// What a stored package unpacks to.
    pub async fn unzipped_bytes(&self, digest: &Digest) -> Result<u64, Refusal> {
        let internal = |what: String| Refusal::Internal(what);
        let permit =
            self.at_once.clone().acquire_owned().await.map_err(|e| internal(e.to_string()))?;
        let bytes = self.packages.get(digest).await?;
        let inspected = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            inspect(Cursor::new(&bytes))
        });
        inspected
            .await
            .map_err(|error| internal(format!("a package could not be read: {error}")))?
    }
}

impl Checked {
    pub fn code(&self) -> CodeRef {
        CodeRef {
            digest: self.digest,
            bytes: self.bytes.len() as u64,
            unzipped_bytes: self.unzipped_bytes,
        }
    }
}

fn download(
    s3: &S3Config,
    region: &Region,
    object: &Object,
    temp_dir: &std::path::Path,
    now: DateTime<Utc>,
) -> Result<(Bytes, u64), Refusal> {
    let io = |what: &'static str| move |error| Refusal::Internal(format!("{what}: {error}"));
    let mut file: File = tempfile::tempfile_in(temp_dir).map_err(io("make a temporary file"))?;
    s3::fetch(s3, region, object, &mut file, UNZIPPED_BYTES_MAX, now).map_err(of_s3)?;
    file.seek(SeekFrom::Start(0)).map_err(io("read a downloaded package"))?;
    let unzipped_bytes = inspect(&mut file)?;
    file.seek(SeekFrom::Start(0)).map_err(io("read a downloaded package"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io("read a downloaded package"))?;
    Ok((Bytes::from(bytes), unzipped_bytes))
}

/// The bytes it unpacks to.
fn inspect(reader: impl std::io::Read + std::io::Seek) -> Result<u64, Refusal> {
    match archive::inspect(reader, &Limits::default()) {
        Ok(summary) => Ok(summary.unzipped_bytes),
        Err(ArchiveError::TooLarge { .. }) => Err(Refusal::invalid(TOO_LARGE)),
        Err(error @ (ArchiveError::Empty | ArchiveError::Unreadable { .. })) => {
            tracing::debug!(%error, "refused a package");
            Err(Refusal::invalid(UNREADABLE))
        }
        Err(error @ ArchiveError::Io { .. }) => {
            Err(Refusal::Internal(format!("a package could not be read: {error}")))
        }
    }
}

fn of_s3(error: S3Error) -> Refusal {
    match error {
        S3Error::Refused { code, message } => Refusal::invalid(format!(
            "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        )),
        S3Error::TooLarge => Refusal::invalid(TOO_LARGE),
        S3Error::Unreachable(why) => Refusal::invalid(format!(
            "Error occurred while GetObject. S3 Error Code: ServiceUnavailable. S3 Error Message: The S3 endpoint could not be reached: {why}"
        )),
        S3Error::Io(error) => Refusal::Internal(format!("a package could not be fetched: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: Result<Source, Refusal>) -> String {
        match result {
            Err(Refusal::Invalid(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn code_comes_from_exactly_one_place() {
        let zip = || Some(Blob(Bytes::from_static(b"zip")));
        let bucket = || Some("b".to_owned());
        let key = || Some("k".to_owned());

        let inline = Asked { zip_file: zip(), ..Asked::default() };
        assert_eq!(inline.source().unwrap(), Source::Inline(Bytes::from_static(b"zip")));
        let s3 = Asked { s3_bucket: bucket(), s3_key: key(), ..Asked::default() };
        assert!(matches!(s3.source(), Ok(Source::S3(_))));

        let both = Asked { zip_file: zip(), s3_bucket: bucket(), ..Asked::default() };
        assert!(text(both.source()).contains("do not provide other"));
        assert!(text(Asked::default().source()).contains("provide a source"));
        let half = Asked { s3_bucket: bucket(), ..Asked::default() };
        assert!(text(half.source()).contains("S3Key"));
    }

    #[test]
    fn what_is_no_zip_is_refused_in_the_words_of_the_service() {
        match inspect(Cursor::new(b"not a zip".as_slice())) {
            Err(Refusal::Invalid(text)) => assert_eq!(text, UNREADABLE),
            other => panic!("{other:?}"),
        }
    }
}
