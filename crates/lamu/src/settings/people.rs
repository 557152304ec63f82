//! Who may call and what they may do: accounts, principals, the policies
//! attached to them, and the keys they sign with.
//!
//! ```text
//!  [policies]      a name for a document of IAM, here or in a file
//!  [[accounts]]    an account's organization
//!  [[principals]]  a user or role, with the names of its policies
//!  [[keys]]        a key of a principal, or of an account's root
//! ```
//!
//! Not here: what policies say and decide (`lamu_frontend`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lamu_frontend::{Attached, Policy, Principal, managed_policy, managed_policy_names};
use lamu_model::AccountId;

use super::sources::{Entry, Origin, Sources};
use super::{Key, account};

/// Of one policy, AWS's own bound for those that are attached by name.
const POLICY_BYTES_MAX: u64 = 64 * 1024;

/// A user or a role, with what is attached to it.
#[derive(Debug)]
struct Person {
    account: AccountId,
    kind: Kind,
    /// With its path.
    name: String,
    policies: Vec<Arc<Policy>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    User,
    Role,
}

/// Reads them all, in the order in which they refer to each other.
pub fn keys(sources: &mut Sources, default: &AccountId) -> Vec<Key> {
    let organizations = organizations(sources);
    let policies = policies(sources);
    let people = people(sources, default, &policies);
    let mut keys: Vec<Key> = Vec::new();
    for mut entry in sources.take_list("keys") {
        let id = entry.text(sources, "access_key_id");
        let secret = entry.text(sources, "secret_access_key");
        let of = entry.text(sources, "principal");
        let in_account = account_of(sources, &mut entry);
        entry.finish(sources, "a key has access_key_id, secret_access_key, principal and account");
        let origin = &entry.origin;
        let Ok(in_account) = in_account else { continue };
        let (id, secret) = match (id, secret) {
            (Some(id), Some(secret)) => (id, secret),
            (None, _) => {
                sources.refuse_at(origin, "access_key_id is missing".to_owned());
                continue;
            }
            (_, None) => {
                sources.refuse_at(origin, "secret_access_key is missing".to_owned());
                continue;
            }
        };
        if keys.iter().any(|key| key.access_key_id == id) {
            sources.refuse_at(origin, format!("access_key_id {id} is there twice"));
            continue;
        }
        let principal = match of {
            None => Principal::root(in_account.unwrap_or_else(|| default.clone())),
            Some(of) => match find(&people, &of, in_account.as_ref(), default) {
                Ok(person) => person.principal(&id),
                Err(why) => {
                    sources.refuse_at(origin, why);
                    continue;
                }
            },
        };
        let organization = principal.account.as_ref();
        let organization = organization.and_then(|account| organizations.get(account)).cloned();
        let principal = Arc::new(principal.in_organization(organization));
        keys.push(Key { access_key_id: id, secret_access_key: secret, principal });
    }
    keys
}

impl Person {
    /// As who signs with the key `id`: of a role, a session of that name.
    fn principal(&self, id: &str) -> Principal {
        let Person { account, kind, name, policies } = self;
        match kind {
            Kind::User => Principal::user(account.clone(), name, policies.clone()),
            Kind::Role => Principal::role(account.clone(), name, id, policies.clone()),
        }
    }
}

fn organizations(sources: &mut Sources) -> BTreeMap<AccountId, String> {
    let mut organizations = BTreeMap::new();
    for mut entry in sources.take_list("accounts") {
        let id = entry.text(sources, "id");
        let organization = entry.text(sources, "organization");
        entry.finish(sources, "an account has id and organization");
        let id = match id.as_deref().map(account) {
            Some(Ok(id)) => id,
            Some(Err(why)) => {
                sources.refuse_at(&entry.origin, format!("id: {why}"));
                continue;
            }
            None => {
                sources.refuse_at(&entry.origin, "id is missing".to_owned());
                continue;
            }
        };
        if organizations.contains_key(&id) {
            sources.refuse_at(&entry.origin, format!("account {id} is there twice"));
            continue;
        }
        match organization {
            Some(organization) if is_organization(&organization) => {
                organizations.insert(id, organization);
            }
            Some(organization) => sources.refuse_at(
                &entry.origin,
                format!("organization {organization:?} does not look like o-a1b2c3d4e5"),
            ),
            None => sources.refuse_at(&entry.origin, "organization is missing".to_owned()),
        }
    }
    organizations
}

/// By name; those that cannot be read have been refused.
fn policies(sources: &mut Sources) -> BTreeMap<String, Option<Arc<Policy>>> {
    let mut policies = BTreeMap::new();
    for (origin, directory, name, value) in sources.take_policies() {
        if managed_policy(&name).is_some() {
            sources.refuse_at(&origin, format!("{name} is the name of a policy of AWS"));
        }
        let read = match &value {
            toml::Value::String(text) if text.trim_start().starts_with('{') => {
                parse(sources, &origin, text)
            }
            toml::Value::String(path) => {
                let path = directory.join(path);
                match read_file(&path) {
                    Ok(text) => {
                        let origin = origin.within(&path.display().to_string());
                        parse(sources, &origin, &text)
                    }
                    Err(why) => {
                        sources.refuse_at(&origin, why);
                        None
                    }
                }
            }
            toml::Value::Table(table) => match serde_json::to_string(table) {
                Ok(text) => parse(sources, &origin, &text),
                Err(error) => {
                    sources.refuse_at(&origin, error.to_string());
                    None
                }
            },
            _ => {
                let what = "must be JSON in quotes, the name of a JSON file, or a table";
                sources.refuse_at(&origin, what.to_owned());
                None
            }
        };
        policies.insert(name, read);
    }
    policies
}

fn parse(sources: &mut Sources, origin: &Origin, text: &str) -> Option<Arc<Policy>> {
    match Policy::parse(text, Attached::Identity) {
        Ok(policy) => Some(Arc::new(policy)),
        Err(errors) => {
            for error in errors.0 {
                sources.refuse_at(origin, error);
            }
            None
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(said)?;
    if metadata.len() > POLICY_BYTES_MAX {
        return Err(format!(
            "{} is larger than {POLICY_BYTES_MAX} bytes; a policy is not",
            path.display()
        ));
    }
    std::fs::read_to_string(path).map_err(said)
}

fn people(
    sources: &mut Sources,
    default: &AccountId,
    policies: &BTreeMap<String, Option<Arc<Policy>>>,
) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::new();
    for mut entry in sources.take_list("principals") {
        let arn = entry.text(sources, "arn");
        let names = entry.texts(sources, "policies");
        let in_account = account_of(sources, &mut entry);
        entry.finish(sources, "a principal has arn, account and policies");
        let origin = &entry.origin;
        let Some(arn) = arn else {
            sources.refuse_at(origin, "arn is missing".to_owned());
            continue;
        };
        let Ok(in_account) = in_account else { continue };
        let (account, kind, name) = match named(&arn, in_account.as_ref(), default) {
            Ok(named) => named,
            Err(why) => {
                sources.refuse_at(origin, why);
                continue;
            }
        };
        if people
            .iter()
            .any(|known| (&known.account, known.kind, &known.name) == (&account, kind, &name))
        {
            sources.refuse_at(origin, format!("{arn} is there twice"));
            continue;
        }
        let mut attached = Vec::new();
        for name in names {
            let own = policies.get(&name).cloned();
            match own.or_else(|| managed_policy(&name).map(Some)) {
                Some(policy) => attached.extend(policy),
                None => sources.refuse_at(origin, no_policy(&name, policies.keys())),
            }
        }
        people.push(Person { account, kind, name, policies: attached });
    }
    people
}

fn no_policy<'a>(name: &str, own: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<String> =
        own.cloned().chain(managed_policy_names().map(str::to_owned)).collect();
    format!("there is no policy {name:?}; there are {}", known.join(", "))
}

fn find<'a>(
    people: &'a [Person],
    of: &str,
    in_account: Option<&AccountId>,
    default: &AccountId,
) -> Result<&'a Person, String> {
    let (account, kind, name) = named(of, in_account, default)?;
    people
        .iter()
        .find(|person| (&person.account, person.kind, &person.name) == (&account, kind, &name))
        .ok_or_else(|| format!("there is no principal {of}; it needs an entry in [[principals]]"))
}

/// `arn:aws:iam::123456789012:user/alice`, or `user/alice` of the account that
/// stands beside it.
fn named(
    text: &str,
    in_account: Option<&AccountId>,
    default: &AccountId,
) -> Result<(AccountId, Kind, String), String> {
    let wrong = || {
        format!(
            "{text:?} does not look like arn:aws:iam::123456789012:user/alice, user/alice or role/deployer"
        )
    };
    let (account, resource) = match text.strip_prefix("arn:") {
        None => (in_account.unwrap_or(default).clone(), text),
        Some(rest) => {
            let parts: Vec<&str> = rest.splitn(5, ':').collect();
            let [partition, "iam", "", id, resource] = parts.as_slice() else {
                return Err(wrong());
            };
            let id = account(id).map_err(|_| wrong())?;
            if !partition.starts_with("aws") {
                return Err(wrong());
            }
            if in_account.is_some_and(|account| *account != id) {
                return Err(format!("{text} is of another account than the one beside it"));
            }
            (id, *resource)
        }
    };
    let (kind, name) = match resource.split_once('/') {
        Some(("user", name)) => (Kind::User, name),
        Some(("role", name)) => (Kind::Role, name),
        _ => return Err(wrong()),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
    let labels = name.split('/').all(|label| !label.is_empty());
    if !labels || !name.chars().all(fits) || name.len() > 512 {
        return Err(wrong());
    }
    Ok((account, kind, name.to_owned()))
}

/// The account beside something, if one is named. The error was said.
fn account_of(sources: &mut Sources, entry: &mut Entry) -> Result<Option<AccountId>, ()> {
    match entry.text(sources, "account").as_deref().map(account) {
        None => Ok(None),
        Some(Ok(account)) => Ok(Some(account)),
        Some(Err(why)) => {
            sources.refuse_at(&entry.origin, format!("account: {why}"));
            Err(())
        }
    }
}

fn is_organization(text: &str) -> bool {
    text.strip_prefix("o-").is_some_and(|id| {
        (10..=32).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Key>, Vec<String>> {
        let mut sources = Sources::default();
        sources.file("lamu.toml", text);
        let keys = keys(&mut sources, &AccountId::new("000000000000"));
        sources.finish().map(|()| keys).map_err(|mistakes| mistakes.lines())
    }

    #[test]
    fn a_key_is_of_a_principal_or_of_the_root_of_its_account() {
        let keys = read(
            r#"
            [policies]
            json = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "lambda:Get*", "Resource": "*"}}'

            [policies.table]
            Version = "2012-10-17"
            [[policies.table.Statement]]
            Effect = "Deny"
            Action = "*"
            Resource = "*"
            Condition = { Bool = { "aws:SecureTransport" = false } }

            [[accounts]]
            id = "111122223333"
            organization = "o-a1b2c3d4e5"

            [[principals]]
            arn = "arn:aws:iam::111122223333:user/team/alice"
            policies = ["json", "table", "AWSLambda_ReadOnlyAccess"]

            [[principals]]
            arn = "role/deployer"
            policies = "arn:aws:iam::aws:policy/AdministratorAccess"

            [[keys]]
            access_key_id = "A"
            secret_access_key = "a"
            principal = "arn:aws:iam::111122223333:user/team/alice"
            [[keys]]
            access_key_id = "B"
            secret_access_key = "b"
            principal = "role/deployer"
            [[keys]]
            access_key_id = "C"
            secret_access_key = "c"
            account = "111122223333"
            [[keys]]
            access_key_id = "D"
            secret_access_key = "d"
            "#,
        )
        .unwrap();
        let shown: Vec<(&str, bool, usize, Option<&str>)> = keys
            .iter()
            .map(|key| {
                let principal = &key.principal;
                let organization = principal.organization.as_deref();
                (
                    principal.arn.as_str(),
                    principal.is_full(),
                    principal.policies.len(),
                    organization,
                )
            })
            .collect();
        let organization = Some("o-a1b2c3d4e5");
        assert_eq!(
            shown,
            [
                ("arn:aws:iam::111122223333:user/team/alice", false, 3, organization),
                ("arn:aws:sts::000000000000:assumed-role/deployer/B", true, 1, None),
                ("arn:aws:iam::111122223333:root", true, 0, organization),
                ("arn:aws:iam::000000000000:root", true, 0, None),
            ]
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let mistakes = read(
            r#"
            [policies]
            broken = '{"Statement": [{"Effect": "Allow", "Action": "lambda", "Resource": "*"}, 7]}'
            absent = "no/such/file.json"
            number = 7
            AdministratorAccess = '{"Statement": []}'

            [[accounts]]
            id = "42"
            [[accounts]]
            id = "111122223333"
            organization = "o-1"

            [[principals]]
            arn = "group/g"
            [[principals]]
            arn = "user/alice"
            policies = ["nothing", "broken"]
            polices = []
            [[principals]]
            arn = "arn:aws:iam::000000000000:user/alice"
            [[principals]]
            arn = "arn:aws:iam::111122223333:user/bob"
            account = "000000000000"
            [[principals]]
            arn = "user/carol"
            policies = [7]

            [[keys]]
            access_key_id = "A"
            secret_access_key = "a"
            principal = "user/bob"
            [[keys]]
            access_key_id = "B"
            secret_access_key = "b"
            policies = ["AdministratorAccess"]
            "#,
        )
        .unwrap_err();
        let expected = [
            "accounts 1 (lamu.toml): id: an account is twelve digits",
            "accounts 2 (lamu.toml): organization \"o-1\" does not look like o-a1b2c3d4e5",
            "policies.AdministratorAccess (lamu.toml): AdministratorAccess is the name of a policy of AWS",
            "policies.absent (lamu.toml): no/such/file.json: No such file or directory (os error 2)",
            "policies.broken (lamu.toml): statement 1: action \"lambda\" must look like lambda:GetFunction",
            "policies.broken (lamu.toml): statement 2: must be an object",
            "policies.number (lamu.toml): must be JSON in quotes, the name of a JSON file, or a table",
            "principals 1 (lamu.toml): \"group/g\" does not look like arn:aws:iam::123456789012:user/alice, user/alice or role/deployer",
            "principals 2 (lamu.toml): unknown polices; a principal has arn, account and policies",
            "principals 3 (lamu.toml): arn:aws:iam::000000000000:user/alice is there twice",
            "principals 4 (lamu.toml): arn:aws:iam::111122223333:user/bob is of another account than the one beside it",
            "principals 5 (lamu.toml): policies must be a list of texts",
            "keys 1 (lamu.toml): there is no principal user/bob; it needs an entry in [[principals]]",
            "keys 2 (lamu.toml): unknown policies; a key has access_key_id, secret_access_key, principal and account",
        ];
        for line in expected {
            assert!(mistakes.iter().any(|mistake| mistake == line), "{line}\n{mistakes:#?}");
        }
        let other = |line: &&String| !expected.contains(&line.as_str());
        let others: Vec<&String> = mistakes.iter().filter(other).collect();
        assert_eq!(others.len(), 1, "{others:#?}");
        assert!(others[0].starts_with("principals 2 (lamu.toml): there is no policy \"nothing\"; there are AdministratorAccess, absent, "));
    }

    #[test]
    fn a_policy_may_be_a_file_beside_the_settings() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("policies")).unwrap();
        let policy = directory.path().join("policies/p.json");
        let settings = directory.path().join("lamu.toml");
        std::fs::write(
            &settings,
            "[policies]\np = 'policies/p.json'\n[[principals]]\narn = 'user/u'\npolicies = ['p']\n\
             [[keys]]\naccess_key_id = 'A'\nsecret_access_key = 'a'\nprincipal = 'user/u'\n",
        )
        .unwrap();
        let read = |text: &str| {
            std::fs::write(&policy, text).unwrap();
            let mut sources = Sources::default();
            sources.read(&settings, Sources::keys_file);
            let keys = keys(&mut sources, &AccountId::new("000000000000"));
            sources.finish().map(|()| keys).map_err(|mistakes| mistakes.lines())
        };
        let good = read(r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#);
        assert!(good.unwrap()[0].principal.is_full());
        let bad = read(r#"{"Statement": {"Effect": "Allow", "Action": "*"}}"#).unwrap_err();
        let place = format!("policies.p ({})", policy.display());
        assert_eq!(bad, [format!("{place}: statement 1: needs Resource or NotResource")]);
    }
}
