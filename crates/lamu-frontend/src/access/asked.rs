//! What a request asks to do to what: the action and resource of every
//! operation, and the condition keys that its members fill ("Actions,
//! resources, and condition keys for AWS Lambda" of the service authorization
//! reference).
//!
//! ```text
//!  function, version or alias   whatever names a function
//!  *                            lists, account settings, a new mapping
//!  layer, layer version, mapping, code signing config, capacity provider
//! ```
//!
//! Pure. Not here: who may do it (`crate::access`).

use lamu_api::{Operation, function_ref};
use lamu_model::{AccountId, FunctionRef, NameFamily, Qualifier};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::function::document::FunctionKey;
use crate::function::refusal::Refusal;
use crate::function::resolve::{Caller, Target};
use crate::layer::name::{LayerKey, LayerVersionKey};
use crate::signing::SigningKey;

pub const PASS_ROLE: &str = "iam:PassRole";
pub const GET_LAYER: &str = "lambda:GetLayerVersion";

/// Everything that must be allowed for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Never empty. The first says in whose account the operation acts.
    pub checks: Vec<Check>,
    /// Condition keys in lower case, with their values.
    pub facts: Vec<(String, Vec<String>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub action: &'static str,
    pub on: On,
}

#[derive(Clone, Debug, PartialEq)]
pub enum On {
    /// What the action is about has no ARN.
    Anything,
    Function(Target),
    LayerVersion(LayerVersionKey),
    /// Any other thing with an owner.
    Thing {
        account: AccountId,
        arn: String,
    },
}

impl On {
    /// `None` when nobody owns it.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            On::Anything => None,
            On::Function(target) => Some(&target.key.account),
            On::LayerVersion(key) => Some(&key.layer.account),
            On::Thing { account, .. } => Some(account),
        }
    }

    pub fn arn(&self) -> String {
        match self {
            On::Anything => "*".to_owned(),
            On::Function(target) => target.arn().to_string(),
            On::LayerVersion(key) => key.arn().to_string(),
            On::Thing { arn, .. } => arn.clone(),
        }
    }
}

/// `members` are the input's, as they passed the model's constraints.
pub fn asked(
    operation: Operation,
    members: &Map<String, Value>,
    caller: &Caller,
) -> Result<Asked, Refusal> {
    let reader = Reader { operation, members, caller };
    let on = reader.on()?;
    let mut asked =
        Asked { checks: vec![Check { action: operation.iam_action(), on }], facts: Vec::new() };
    reader.more(&mut asked);
    Ok(asked)
}

/// A function as named: in its own region, in whichever account.
pub fn target(
    named: FunctionRef,
    qualifier: Option<&str>,
    caller: &Caller,
) -> Result<Target, Refusal> {
    if let Some(asked) = named.region
        && asked != caller.region
    {
        return Err(Refusal::OtherRegion { asked, here: caller.region.clone() });
    }
    let key = FunctionKey {
        account: named.account.unwrap_or_else(|| caller.account.clone()),
        region: caller.region.clone(),
        name: named.name,
    };
    // Whether both say the same is a later question.
    Ok(Target { key, qualifier: named.qualifier.or_else(|| qualifier.map(Qualifier::parse)) })
}

struct Reader<'a> {
    operation: Operation,
    members: &'a Map<String, Value>,
    caller: &'a Caller,
}

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.members.get(name)?.as_str()
    }

    fn on(&self) -> Result<On, Refusal> {
        use Operation as Op;
        Ok(match self.operation {
            Op::ListFunctions
            | Op::ListLayers
            | Op::ListLayerVersions
            | Op::ListEventSourceMappings
            | Op::ListCodeSigningConfigs
            | Op::ListCapacityProviders
            | Op::GetAccountSettings
            | Op::CreateCodeSigningConfig
            | Op::CreateEventSourceMapping
            | Op::SendDurableExecutionCallbackSuccess
            | Op::SendDurableExecutionCallbackFailure
            | Op::SendDurableExecutionCallbackHeartbeat => On::Anything,

            Op::GetEventSourceMapping
            | Op::UpdateEventSourceMapping
            | Op::DeleteEventSourceMapping => self.mapping(self.text("UUID").unwrap_or_default()),
            Op::CreateCapacityProvider
            | Op::GetCapacityProvider
            | Op::UpdateCapacityProvider
            | Op::DeleteCapacityProvider
            | Op::ListFunctionVersionsByCapacityProvider => {
                self.thing("capacity-provider", self.text("CapacityProviderName"))
            }
            Op::PublishLayerVersion => self.layer(self.text("LayerName").unwrap_or_default()),
            Op::GetLayerVersion
            | Op::DeleteLayerVersion
            | Op::AddLayerVersionPermission
            | Op::RemoveLayerVersionPermission
            | Op::GetLayerVersionPolicy => self.layer_version()?,
            Op::GetLayerVersionByArn => self.layer_named(self.text("Arn")),
            Op::GetCodeSigningConfig
            | Op::UpdateCodeSigningConfig
            | Op::DeleteCodeSigningConfig
            | Op::ListFunctionsByCodeSigningConfig => self.named(self.text("CodeSigningConfigArn")),
            Op::ListTags | Op::TagResource | Op::UntagResource => {
                self.function_or_thing(self.text("Resource"))?
            }
            Op::GetResourcePolicy | Op::PutResourcePolicy | Op::DeleteResourcePolicy => {
                self.function_or_thing(self.text("ResourceArn"))?
            }
            Op::GetDurableExecution
            | Op::DeleteDurableExecution
            | Op::GetDurableExecutionHistory
            | Op::GetDurableExecutionState
            | Op::CheckpointDurableExecution
            | Op::PauseDurableExecution
            | Op::ResumeDurableExecution
            | Op::StopDurableExecution => self.named(self.text("DurableExecutionArn")),

            // Of the whole function, whatever qualifier its name has.
            Op::ListVersionsByFunction | Op::ListFunctionEventInvokeConfigs => {
                On::Function(Target { qualifier: None, ..self.function()? })
            }

            Op::CreateFunction
            | Op::GetFunction
            | Op::GetFunctionConfiguration
            | Op::UpdateFunctionCode
            | Op::UpdateFunctionConfiguration
            | Op::DeleteFunction
            | Op::PublishVersion
            | Op::CreateAlias
            | Op::GetAlias
            | Op::UpdateAlias
            | Op::DeleteAlias
            | Op::ListAliases
            | Op::AddPermission
            | Op::RemovePermission
            | Op::GetPolicy
            | Op::PutFunctionConcurrency
            | Op::GetFunctionConcurrency
            | Op::DeleteFunctionConcurrency
            | Op::PutProvisionedConcurrencyConfig
            | Op::GetProvisionedConcurrencyConfig
            | Op::DeleteProvisionedConcurrencyConfig
            | Op::ListProvisionedConcurrencyConfigs
            | Op::PutFunctionScalingConfig
            | Op::GetFunctionScalingConfig
            | Op::CreateFunctionUrlConfig
            | Op::GetFunctionUrlConfig
            | Op::UpdateFunctionUrlConfig
            | Op::DeleteFunctionUrlConfig
            | Op::ListFunctionUrlConfigs
            | Op::PutFunctionEventInvokeConfig
            | Op::UpdateFunctionEventInvokeConfig
            | Op::GetFunctionEventInvokeConfig
            | Op::DeleteFunctionEventInvokeConfig
            | Op::PutFunctionCodeSigningConfig
            | Op::GetFunctionCodeSigningConfig
            | Op::DeleteFunctionCodeSigningConfig
            | Op::PutRuntimeManagementConfig
            | Op::GetRuntimeManagementConfig
            | Op::PutFunctionRecursionConfig
            | Op::GetFunctionRecursionConfig
            | Op::ListDurableExecutionsByFunction
            | Op::Invoke
            | Op::InvokeWithResponseStream
            | Op::InvokeAsync => On::Function(self.function()?),
        })
    }

    fn function(&self) -> Result<Target, Refusal> {
        let named = function_ref(self.operation, self.text("FunctionName").unwrap_or_default())?;
        target(named, self.text("Qualifier"), self.caller)
    }

    /// Of the caller's account, unless an ARN says another.
    fn thing(&self, kind: &str, name: Option<&str>) -> On {
        let name = name.unwrap_or_default();
        if name.starts_with("arn:") {
            return self.named(Some(name));
        }
        let Caller { account, region } = self.caller;
        let arn = format!("arn:aws:lambda:{region}:{account}:{kind}:{name}");
        On::Thing { account: account.clone(), arn }
    }

    /// An id may be written in several ways.
    fn mapping(&self, uuid: &str) -> On {
        match Uuid::try_parse(uuid) {
            Ok(uuid) => self.thing("event-source-mapping", Some(&uuid.to_string())),
            Err(_) => self.thing("event-source-mapping", Some(uuid)),
        }
    }

    fn layer(&self, name: &str) -> On {
        let layer = LayerKey::named(name, self.caller);
        On::Thing { arn: layer.arn().to_string(), account: layer.account }
    }

    fn layer_version(&self) -> Result<On, Refusal> {
        let number = self.members.get("VersionNumber").and_then(Value::as_i64).unwrap_or_default();
        let layer = LayerKey::named(self.text("LayerName").unwrap_or_default(), self.caller);
        layer.numbered(number).map(On::LayerVersion)
    }

    /// What is no version of a layer will be refused by the operation.
    fn layer_named(&self, arn: Option<&str>) -> On {
        match LayerVersionKey::parse(arn.unwrap_or_default()) {
            Ok(Some(key)) => On::LayerVersion(key),
            _ => self.named(arn),
        }
    }

    /// By an ARN, whose account owns it. As lamu itself writes it: operations
    /// pass over partition and service, and policies do not.
    fn named(&self, arn: Option<&str>) -> On {
        let arn = arn.unwrap_or_default();
        if let Some(config) = SigningKey::parse(arn) {
            return On::Thing { arn: config.arn().to_string(), account: config.account };
        }
        let account = arn.split(':').nth(4).filter(|account| !account.is_empty());
        let account = account.map_or_else(|| self.caller.account.clone(), AccountId::new);
        On::Thing { account, arn: of_service("lambda", arn) }
    }

    fn function_or_thing(&self, arn: Option<&str>) -> Result<On, Refusal> {
        let text = arn.unwrap_or_default();
        match FunctionRef::parse(text, NameFamily::Namespaced) {
            Ok(named) if text.split(':').nth(5) == Some("function") => {
                target(named, None, self.caller).map(On::Function)
            }
            _ => Ok(self.named(arn)),
        }
    }

    /// What else must be allowed, and what conditions may ask.
    fn more(&self, asked: &mut Asked) {
        use Operation as Op;
        let mut fact = |key: &str, values: Vec<String>| {
            if !values.is_empty() {
                asked.facts.push((key.to_owned(), values));
            }
        };
        let one = |name: &str| self.text(name).map(str::to_owned).into_iter().collect();
        // Empty is none, to the operations too.
        let signing = self.text("CodeSigningConfigArn").filter(|arn| !arn.is_empty());
        let signing = signing.map(|arn| self.named(Some(arn)).arn());
        let signing: Vec<String> = signing.into_iter().collect();
        match self.operation {
            Op::CreateFunction | Op::UpdateFunctionConfiguration => {
                let layers = self.texts(self.members.get("Layers"));
                let layers = layers.iter().map(|arn| self.layer_named(Some(arn)));
                let layers: Vec<On> = layers.collect();
                fact("lambda:layer", layers.iter().map(On::arn).collect());
                let network = self.members.get("VpcConfig");
                let of = |name: &str| self.texts(network.and_then(|network| network.get(name)));
                fact("lambda:subnetids", of("SubnetIds"));
                fact("lambda:securitygroupids", of("SecurityGroupIds"));
                fact("lambda:codesigningconfigarn", signing);
                let layers = layers.into_iter().map(|on| Check { action: GET_LAYER, on });
                asked.checks.extend(layers);
                if let Some(role) = self.text("Role") {
                    asked.checks.push(Check { action: PASS_ROLE, on: self.role(role) });
                }
            }
            Op::PutFunctionCodeSigningConfig => {
                fact("lambda:codesigningconfigarn", signing);
                let on = self.named(self.text("CodeSigningConfigArn"));
                asked.checks.push(Check { action: self.operation.iam_action(), on });
            }
            Op::AddPermission => {
                fact("lambda:principal", one("Principal"));
                fact("lambda:functionurlauthtype", one("FunctionUrlAuthType"));
            }
            Op::CreateFunctionUrlConfig | Op::UpdateFunctionUrlConfig => {
                fact("lambda:functionurlauthtype", one("AuthType"));
                let arn = asked.checks.first().map(|check| check.on.arn());
                asked.facts.push(("lambda:functionarn".to_owned(), arn.into_iter().collect()));
            }
            Op::CreateEventSourceMapping | Op::UpdateEventSourceMapping => {
                let function = self.text("FunctionName").and_then(|name| {
                    let named = FunctionRef::parse(name, NameFamily::Namespaced).ok()?;
                    target(named, None, self.caller).ok()
                });
                if let Some(function) = function {
                    fact("lambda:functionarn", vec![function.arn().to_string()]);
                }
            }
            _ => {}
        }
        self.tags(asked);
    }

    fn tags(&self, asked: &mut Asked) {
        let given = self.members.get("Tags").and_then(Value::as_object);
        for (key, value) in given.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            let name = format!("aws:requesttag/{}", key.to_ascii_lowercase());
            // Conditions know no case, tags do: both values are of one key.
            match asked.facts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => asked.facts.push((name, vec![value])),
            }
        }
        let keys: Vec<String> = match given {
            Some(given) => given.keys().cloned().collect(),
            None => self.texts(self.members.get("TagKeys")),
        };
        if !keys.is_empty() {
            asked.facts.push(("aws:tagkeys".to_owned(), keys));
        }
    }

    /// Whoever owns the role, passing it is for the caller's policies to
    /// allow.
    fn role(&self, arn: &str) -> On {
        On::Thing { account: self.caller.account.clone(), arn: of_service("iam", arn) }
    }

    fn texts(&self, value: Option<&Value>) -> Vec<String> {
        let values = value.and_then(Value::as_array).into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }
}

/// The ARN in the one partition there is, of the service whose thing it is.
/// What is no ARN stays what it is.
fn of_service(service: &str, arn: &str) -> String {
    let mut parts = arn.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("arn"), Some(_), Some(_), Some(rest)) => format!("arn:aws:{service}:{rest}"),
        _ => arn.to_owned(),
    }
}

#[cfg(test)]
mod tests;
