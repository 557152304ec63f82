//! `lamu url`: a function's URL, made when there is none.

use serde_json::json;

use crate::cli::Url;
use crate::client::connection::{Ask, segment};
use crate::client::{Connection, Refused};

/// Prints the URL.
pub fn url(url: &Url) -> anyhow::Result<()> {
    let connection = Connection::new(&url.target);
    let auth = url.auth.as_deref();
    println!("{}", show_or_make(&connection, &url.name, url.qualifier.as_deref(), auth)?);
    Ok(())
}

/// The URL of a function or alias. `auth` is set when it is given; a new one
/// is public when it is not.
pub fn show_or_make(
    connection: &Connection,
    name: &str,
    alias: Option<&str>,
    auth: Option<&str>,
) -> anyhow::Result<String> {
    let query = alias.map(|alias| format!("?Qualifier={}", segment(alias))).unwrap_or_default();
    let path = format!("/2021-10-31/functions/{}/url{query}", segment(name));
    let existing = match connection.ask(Ask::get(path.clone())) {
        Ok(answer) => Some(answer.json()?),
        Err(error) if refused_with(&error, 404) => None,
        Err(error) => return Err(error),
    };
    let shown = match existing {
        None => {
            let body = json!({"AuthType": auth.unwrap_or("NONE")});
            let made = connection.ask(Ask::send("POST", path, &body))?.json()?;
            eprintln!("made a URL with AuthType {}", made["AuthType"].as_str().unwrap_or("?"));
            made
        }
        Some(url) if auth.is_some_and(|auth| url["AuthType"] != auth) => {
            connection.ask(Ask::send("PUT", path, &json!({"AuthType": auth})))?.json()?
        }
        Some(url) => url,
    };
    if shown["AuthType"] == "NONE" {
        open_to_all(connection, name, &query)?;
    }
    let url = shown["FunctionUrl"].as_str();
    url.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("the answer names no URL"))
}

/// A public URL needs a policy that says so: one statement to use it, and one
/// to invoke through it and in no other way.
fn open_to_all(connection: &Connection, name: &str, query: &str) -> anyhow::Result<()> {
    let path = format!("/2015-03-31/functions/{}/policy{query}", segment(name));
    let statements = [
        json!({"StatementId": "FunctionURLAllowPublicAccess", "Principal": "*",
               "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}),
        json!({"StatementId": "FunctionURLInvokeAllowPublicAccess", "Principal": "*",
               "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": true}),
    ];
    for statement in statements {
        match connection.ask(Ask::send("POST", path.clone(), &statement)) {
            Ok(_) => {}
            // It is there already.
            Err(error) if refused_with(&error, 409) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refused_with(error: &anyhow::Error, status: u16) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
}
