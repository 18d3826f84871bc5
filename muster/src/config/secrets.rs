//! Secrets come from a file or the environment, never from the configuration itself: here they are fetched.

use anyhow::{Context, Result};
use lake::hidden::Hidden;
use lake::kafka::KafkaConfig;
use respond::webhook::Secret;

/// The responder's configuration with each secret in its place.
pub(crate) fn resolve(config: &respond::Config) -> Result<respond::Config> {
    let mut config = config.clone();
    for webhook in config.webhooks.iter_mut().filter(|webhook| webhook.secret.is_none()) {
        let text = match (&webhook.secret_file, &webhook.secret_env) {
            (Some(path), _) => std::fs::read_to_string(path).with_context(|| format!("cannot read {path}")),
            (None, Some(name)) => environment(name).with_context(|| format!("the environment has no {name}")),
            (None, None) => continue, // the configuration's own check names it
        };
        let secret: Result<Secret> = text.and_then(|text| text.parse().map_err(anyhow::Error::from));
        webhook.secret = Some(secret.with_context(|| format!("the secret of webhook `{}`", webhook.name))?);
    }
    for system in &mut config.systems {
        let files = system
            .secret_files
            .iter()
            .map(|(name, path)| (name, std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))));
        let variables = system.secret_envs.iter().map(|(name, variable)| {
            (name, environment(variable).with_context(|| format!("the environment has no {variable}")))
        });
        for (name, text) in files.chain(variables).collect::<Vec<_>>() {
            let text = text.with_context(|| format!("the secret `{name}` of system `{}`", system.name))?;
            system.secrets.insert(name.clone(), Hidden::new(&text));
        }
    }
    for receiver in &mut config.receivers {
        let place = (&receiver.authorization_file, &receiver.authorization_env);
        let text = read(place).with_context(|| format!("the authorization of receiver `{}`", receiver.name))?;
        receiver.authorization = text.map(|text| Hidden::new(&text));
    }
    for drill in &mut config.drills {
        let place = (&drill.credential_file, &drill.credential_env);
        let text = read(place).with_context(|| format!("the credential of drill `{}`", drill.name))?;
        drill.credential = text.map(|text| Hidden::new(&text));
    }
    Ok(config)
}

/// Puts the password of a client of Kafka in its place.
pub(crate) fn resolve_kafka(client: &mut KafkaConfig) -> Result<()> {
    let file = client.sasl_password_file.as_ref().map(|path| path.display().to_string());
    let text = read((&file, &client.sasl_password_env)).context("the password of Kafka's user")?;
    client.sasl_password = text.map(|text| Hidden::new(&text));
    Ok(())
}

/// What a file or else a variable holds; nothing where neither is named.
fn read(place: (&Option<String>, &Option<String>)) -> Result<Option<String>> {
    match place {
        (Some(path), _) => std::fs::read_to_string(path).map(Some).with_context(|| format!("cannot read {path}")),
        (None, Some(name)) => environment(name).map(Some).with_context(|| format!("the environment has no {name}")),
        (None, None) => Ok(None),
    }
}

fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a secret that the configuration places in the environment")]
    std::env::var(name).ok()
}
